"""
The fixtures that watch every test are tests themselves, so they have to be seen failing.

One run of pytest in a process of its own goes through small tests that each leave one thing behind, or log
one thing; what it reports about each is what is asserted here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

SAMPLES = '''
import gc, os, socket
import pytest, pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python import log as legacyLog

log = Logger()
kept = []

class Writer:
    """Registered for writing, and never has anything to write."""
    def __init__(self, number): self.number = number
    def fileno(self): return self.number
    def logPrefix(self): return "writer"
    def doWrite(self): reactor.removeWriter(self)
    def connectionLost(self, reason): pass

def test_clean():
    pass

def test_cleanAlthoughClosingTakesTurns():
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    client = socket.create_connection(("127.0.0.1", port.getHost().port))
    reactor.callLater(0.03, client.close)
    reactor.callLater(0.02, port.stopListening)

@pytest_twisted.ensureDeferred
async def test_cleanConnection():
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    client = await endpoint.connect(Factory.forProtocol(Protocol))
    client.transport.loseConnection()
    await port.stopListening()

def test_leavesDelayedCall():
    reactor.callLater(3600, print, "too late")

def test_delayedCallOfAnotherTestIsGone():
    assert not [call for call in reactor.getDelayedCalls() if call.func is print]

def test_leavesReader():
    kept.append(reactor.listenTCP(0, Factory(), interface="127.0.0.1"))

def test_whatWasThereBeforeIsNoLeak():
    assert kept

def test_leavesWriter():
    number, other = os.openpty()
    writer = Writer(number)
    writer.doWrite = lambda: None
    kept.append(writer)
    reactor.addWriter(writer)

def test_leavesDescriptor():
    kept.append(socket.socket())

def test_leavesDescriptorInPlaceOfAnother():
    number = kept[-1].fileno()
    kept[-1].close()
    kept.append(socket.socket())
    assert kept[-1].fileno() == number

@pytest_twisted.ensureDeferred
async def test_leavesConnection():
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    kept.append(await endpoint.connect(Factory.forProtocol(Protocol)))
    await port.stopListening()

def test_logsError():
    log.error("the sky is falling")

def test_logsWarning():
    log.warn("clouds")

def test_logsFailure():
    try:
        1 / 0
    except ZeroDivisionError:
        log.failure("arithmetic")

def test_logsLegacyError():
    legacyLog.err(ValueError("old style"))

def test_unhandledFailure():
    fail(KeyError("nobody listens"))

def test_unhandledFailureInCycle():
    deferred = Deferred()
    deferred.itself = deferred
    deferred.errback(KeyError("nobody listens"))

def test_exceptionInReactor():
    def explode():
        raise RuntimeError("in a turn")
    reactor.callLater(0, explode)
    return deferLater(reactor, 0.01)

def test_expectedErrorCleared(loggedErrors):
    log.error("planned")
    assert [event["log_format"] for event in loggedErrors] == ["planned"]
    loggedErrors.clear()

def test_expectedErrorNotCleared(loggedErrors):
    log.error("planned")
    assert len(loggedErrors) == 1
'''

SKIPS = """
import pytest

@pytest.mark.skip(reason="no weather today")
def test_skipped():
    pass

def test_skipsItself():
    pytest.skip("no weather tomorrow")

@pytest.mark.xfail(strict=True, reason="known")
def test_expectedFailure():
    assert False

def test_clean():
    pass
"""

SKIPPED_MODULE = """
import pytest
pytest.importorskip("nosuchmodule")
"""


def outcomes(folder: Path, environment: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """
    Run pytest, with the fixtures of this project, in a process of its own.

    @param folder: where the test files are.
    @param environment: variables to set beside the present ones.
    @return: what was complained about each test (the empty string if nothing), and pytest's exit status.
    """
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "pytest.ini").write_text("[pytest]\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml=report.xml"],
        cwd=folder,
        env={**os.environ, "TWISTPROXY_NO_SKIPS": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said: dict[str, str] = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        name = case.get("name") or ""
        marks = [f"{mark.tag}: {mark.get('message')}\n{mark.text}" for mark in case]
        said[name] = said.get(name, "") + "\n".join(marks)
    return said, run.returncode


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is complained about each sample."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "test_samples.py").write_text(SAMPLES)
    return outcomes(folder, {})[0]


@pytest.mark.parametrize(
    "name",
    [
        "test_clean",
        "test_cleanAlthoughClosingTakesTurns",
        "test_cleanConnection",
        "test_delayedCallOfAnotherTestIsGone",
        "test_whatWasThereBeforeIsNoLeak",
        "test_logsWarning",
        "test_expectedErrorCleared",
    ],
)
def test_cleanTestPasses(said: dict[str, str], name: str) -> None:
    """A test that leaves nothing behind is left in peace, also after one that did."""
    assert said[name] == ""


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("test_leavesDelayedCall", r"left behind:\n  delayed call <DelayedCall .* print\("),
        ("test_leavesReader", r"left behind:\n  reader <.*Factory.* on \d+>\n  descriptor \d+: socket:"),
        ("test_leavesWriter", r"left behind:\n  writer <test_samples.Writer .*>\n  descriptor \d+: /dev/"),
        ("test_leavesDescriptor", r"left behind:\n  descriptor \d+: socket:\[\d+\]$"),
        ("test_leavesDescriptorInPlaceOfAnother", r"left behind:\n  descriptor \d+: socket:\[\d+\]$"),
        ("test_leavesConnection", r"\n  reader <Protocol .*>\n  descriptor \d+: socket:"),
        ("test_logsError", r"logged, and the test did not expect it:\n.*the sky is falling"),
        ("test_logsFailure", r"arithmetic\n(.|\n)*ZeroDivisionError: division by zero"),
        ("test_logsLegacyError", r"ValueError: old style"),
        ("test_unhandledFailure", r"Unhandled error in Deferred(.|\n)*nobody listens"),
        ("test_unhandledFailureInCycle", r"Unhandled error in Deferred(.|\n)*nobody listens"),
        ("test_exceptionInReactor", r"RuntimeError: in a turn"),
        ("test_expectedErrorNotCleared", r"planned"),
    ],
)
def test_leakIsNamed(said: dict[str, str], name: str, complaint: str) -> None:
    """Each kind of thing left behind or logged fails the test that did it, in words that name it."""
    assert re.search(complaint, said[name].rstrip(), re.MULTILINE), said[name]


def test_skipsAreAllowed(tmp_path: Path) -> None:
    """On somebody's own machine a test may be skipped."""
    (tmp_path / "test_skips.py").write_text(SKIPS)
    (tmp_path / "test_module.py").write_text(SKIPPED_MODULE)
    said, status = outcomes(tmp_path, {})
    assert status == pytest.ExitCode.OK
    assert said["test_skipped"].startswith("skipped: no weather today")
    assert said["test_skipsItself"].startswith("skipped: no weather tomorrow")
    assert said["test_module"].startswith("skipped: ")


def test_skipsAreFailures(tmp_path: Path) -> None:
    """With C{TWISTPROXY_NO_SKIPS} a skip fails and says its reason; an expected failure is no skip."""
    (tmp_path / "test_skips.py").write_text(SKIPS)
    said, status = outcomes(tmp_path, {"TWISTPROXY_NO_SKIPS": "1"})
    assert status == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"TWISTPROXY_NO_SKIPS is set: .*: no weather today", said["test_skipped"])
    assert re.search(r"TWISTPROXY_NO_SKIPS is set: .*: .*no weather tomorrow", said["test_skipsItself"])
    assert said["test_clean"] == ""
    assert said["test_expectedFailure"].startswith("skipped: ")


def test_skippedModuleIsAnError(tmp_path: Path) -> None:
    """With C{TWISTPROXY_NO_SKIPS} a module that skips itself as a whole ends the run, with its reason."""
    (tmp_path / "test_module.py").write_text(SKIPPED_MODULE)
    said, status = outcomes(tmp_path, {"TWISTPROXY_NO_SKIPS": "1"})
    assert status == pytest.ExitCode.INTERRUPTED
    assert "TWISTPROXY_NO_SKIPS is set" in said["test_module"]
    assert "nosuchmodule" in said["test_module"]
