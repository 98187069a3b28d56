"""
The examples that show a proxy inside of a Twisted site, run as they stand but for the ports.
"""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from twisted.web.tap import Options

from tests.test_docs import CHECKOUT, freePort, origins, waitUntilListening

EXAMPLES = CHECKOUT / "docs" / "examples"

__all__ = ["origins"]  # a fixture


def ask(port: int, path: str, **fields: str) -> tuple[int, str]:
    """
    @return: status and body of a GET.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=fields)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Program:
    """An example that runs."""

    def __init__(self, name: str, ports: list[int], folder: Path) -> None:
        self.port = freePort()
        text = (EXAMPLES / f"{name}.py").read_text()
        text = text.replace("listenTCP(8080, ", f"listenTCP({self.port}, interface='127.0.0.1', factory=")
        for number, port in enumerate(ports):
            text = text.replace(f"localhost:{8081 + number}", f"127.0.0.1:{port}")
        (folder / "program.py").write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "program.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
        )
        waitUntilListening(self.port, self.process)


@pytest.fixture
def program(request: pytest.FixtureRequest, origins: list[int], tmp_path: Path) -> Iterator[Program]:
    """The example of the test's parameter."""
    if request.param == "klein_app":
        pytest.importorskip("klein", reason="klein is not installed")
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "page.txt").write_text("a page")
    running = Program(request.param, origins, tmp_path)
    yield running
    running.process.terminate()
    running.process.communicate()


@pytest.mark.parametrize("program", ["mounted"], indirect=True)
def test_mounted(program: Program, origins: list[int]) -> None:
    """A proxy beside C{static.File}: files are files, and what is below the mount goes upstream without it."""
    assert ask(program.port, "/page.txt") == (200, "a page")
    assert ask(program.port, "/api/x?y=1") == (200, f"{origins[0]} /x?y=1 127.0.0.1")
    assert ask(program.port, "/apiary")[0] == 404


@pytest.mark.parametrize("program", ["virtualhosts"], indirect=True)
def test_virtualHosts(program: Program, origins: list[int]) -> None:
    """Two names on one port lead to two upstreams, and any other nowhere."""
    hosts = ("wiki.example", "shop.example:8080", "other.example")
    answers = [ask(program.port, "/x/y", Host=host) for host in hosts]
    assert answers[:2] == [(200, f"{port} /x/y 127.0.0.1") for port in origins]
    assert answers[2][0] == 404


@pytest.mark.parametrize("program", ["guarded"], indirect=True)
def test_guarded(program: Program, origins: list[int]) -> None:
    """Behind a guard: nobody passes without the password."""
    secret = "Basic " + b64encode(b"alice:secret").decode()
    wrong = "Basic " + b64encode(b"alice:guess").decode()
    assert ask(program.port, "/x")[0] == 401
    assert ask(program.port, "/x", Authorization=wrong)[0] == 401
    assert ask(program.port, "/x", Authorization=secret) == (200, f"{origins[0]} /x 127.0.0.1")


@pytest.mark.parametrize("program", ["klein_app"], indirect=True)
def test_klein(program: Program, origins: list[int]) -> None:
    """A proxy as a branch of a Klein application, beside its routes; one of them takes a form."""
    assert ask(program.port, "/") == (200, "at home")
    assert ask(program.port, "/api/x/y?z=1") == (200, f"{origins[0]} /x/y?z=1 127.0.0.1")
    assert ask(program.port, "/api/") == (200, f"{origins[0]} / 127.0.0.1")
    assert ask(program.port, "/nowhere")[0] == 404
    connection = HTTPConnection("127.0.0.1", program.port, timeout=10)
    connection.request("POST", "/name", "name=alice", {"Content-Type": "application/x-www-form-urlencoded"})
    assert connection.getresponse().read() == b"hello alice"
    connection.close()


def test_twistWeb(monkeypatch: pytest.MonkeyPatch) -> None:
    """C{twist web --class} makes the resource of the example."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    options = Options()
    options.parseOptions(["--class", "twistweb.Application"])
    assert options["root"].proxy.director.targets[0].name == "localhost:8081"
