"""
A test that fails tells why its exchanges went as they did: seen from outside, in a run of pytest of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import twistproxy
from twistproxy.testing import MemoryProxy
from twistproxy.testing.explanations import KEPT, ExchangeWitness, explanations

SAMPLES = '''
import pytest
from twisted.internet.task import Clock
from twistproxy.testing import MemoryProxy

def test_passes():
    with MemoryProxy() as proxy:
        proxy.addUpstream()
        proxy.client().request(target="/passed")

def test_failsAfterwards():
    with MemoryProxy() as proxy:
        proxy.addUpstream()
        response = proxy.client().request(target="/afterwards")
    assert response.status == 404

def test_failsInside():
    with MemoryProxy() as proxy:
        proxy.addUpstream(answer=None)
        proxy.client().request(target="/inside")
        assert proxy.exchanges == []

def test_noResponse():
    with MemoryProxy() as proxy:
        proxy.addUpstream(answer=None)
        client = proxy.client()
        client.request(target="/unanswered")
        client.response

def test_failsWithoutAny():
    assert False

@pytest.fixture
def strict():
    yield
    pytest.fail("left behind")

def test_failsInAFixture(strict):
    with MemoryProxy() as proxy:
        proxy.addUpstream()
        proxy.client().request(target="/fixture")

def test_notSeen(unwitnessed):
    with MemoryProxy() as proxy:
        proxy.addUpstream()
        proxy.client().request(target="/notseen")
    assert False
'''


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was said about each test that failed, by its name."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "conftest.py").write_text('pytest_plugins = ["twistproxy.testing.pytestplugin"]\n')
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_samples.py").write_text(SAMPLES)
    root = str(Path(twistproxy.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:pytest_twisted", "--tb=short", "--color=no"],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    _, _, failures = ran.stdout.partition("= ERRORS =")
    found = {}
    for part in failures.split("\n_____")[1:]:
        title, _, text = part.partition("\n")
        found[title.strip("_ ")] = text.partition("\n=====")[0]
    return found


def test_passing(said: dict[str, str]) -> None:
    """Nothing is said where nothing failed, and nobody's exchanges appear in another test."""
    assert "test_passes" not in said
    assert not any("/passed" in text for text in said.values())
    assert "exchanges of twistproxy" not in said["test_failsWithoutAny"]


@pytest.mark.parametrize(
    ("test", "target", "outcome"),
    [
        ("test_failsAfterwards", "/afterwards", "settled, status 200"),
        ("test_failsInside", "/inside", "complete/nothing, status none yet"),
    ],
)
def test_failing(said: dict[str, str], test: str, target: str, outcome: str) -> None:
    """B9: a test that fails shows its exchanges, those that were over and those that ran."""
    section = said[test].partition("exchanges of twistproxy")[2]
    assert f"GET {target} for front.test" in section
    assert "  director: forwarded to origin.test:80" in section
    assert "outcome: " in section
    assert outcome in said[test]


def test_timersInside(said: dict[str, str]) -> None:
    """What runs when a MemoryProxy is left by an exception is explained as it was then, with its timers."""
    assert "timers: responseHead in 60.1 s" in said["test_failsInside"].partition("exchanges of twistproxy")[0]


def test_noResponse(said: dict[str, str]) -> None:
    """A response that has not come: the error says what its exchange waits for."""
    error = said["test_noResponse"].partition("exchanges of twistproxy")[0]
    assert "AssertionError: " in error
    assert "has got no response" in error
    assert "timers: responseHead in 60.1 s" in error


def test_fixture(said: dict[str, str]) -> None:
    """A fixture that fails after the test counts too, although the exchanges are gone by then."""
    [text] = [text for name, text in said.items() if "test_failsInAFixture" in name]
    assert "GET /fixture for front.test" in text


def test_unwitnessed(said: dict[str, str]) -> None:
    """A test that looks whether exchanges are freed can keep them out of it."""
    assert "exchanges of twistproxy" not in said["test_notSeen"]


def test_bounded() -> None:
    """Only the latest exchanges are kept, and how many were before them is said."""
    witness = ExchangeWitness()
    witness.install()
    try:
        with MemoryProxy() as proxy:
            proxy.addUpstream()
            client = proxy.client()
            for number in range(KEPT + 3):
                client.request(target=f"/{number}")
        assert [exchange.request.target for exchange in witness.exchanges] == [b"/%d" % n for n in range(3, KEPT + 3)]
        assert str(witness).startswith("(3 exchanges before these)\nGET /3 for ")
    finally:
        witness.uninstall()
    with MemoryProxy() as proxy:
        proxy.addUpstream()
        proxy.client().request()
    assert witness.begun == 0


def test_cannotBeExplained() -> None:
    """An exchange that a test has ruined does not hide why the test failed."""

    class Ruined:
        def explain(self) -> str:
            raise ValueError("ruined")

        def __repr__(self) -> str:
            return "<Ruined>"

    assert explanations([Ruined()]) == "<Ruined> cannot be explained: ValueError('ruined')"
