"""
The docs show programs, and a program that is shown has to run.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.examples import moduleAt

CHECKOUT = Path(__file__).parent.parent
EXAMPLE = CHECKOUT / "docs" / "examples" / "director.py"


class Origin(BaseHTTPRequestHandler):
    """Answers with its own port, the path, and who is said to have asked."""

    def do_GET(self) -> None:
        said = f"{self.server.server_port} {self.path} {self.headers['X-Forwarded-For']}".encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def origins() -> Iterator[list[int]]:
    """The ports of two origins."""
    servers = [HTTPServer(("127.0.0.1", 0), Origin) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever, args=[0.02]) for server in servers]
    for thread in threads:
        thread.start()
    yield [server.server_port for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def freePort() -> int:
    """
    @return: a port of loopback on which nobody listens.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def ask(port: int, path: str) -> tuple[int, str]:
    """
    @return: status and body of a GET.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def waitUntilListening(port: int, process: subprocess.Popen[str]) -> None:
    """
    Return as soon as C{port} takes connections; fail if C{process} ends before that.
    """
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"it ended: {process.communicate()[0]}")


def test_directorExample(origins: list[int], tmp_path: Path) -> None:
    """B3.1: the program in README and guide sends each path where it says, and answers one itself."""
    port, (pages, api) = freePort(), origins
    text = EXAMPLE.read_text().replace("tcp:8080", f"tcp:{port}:interface=127.0.0.1")
    text = text.replace("localhost:3000", f"127.0.0.1:{pages}").replace("localhost:4000", f"127.0.0.1:{api}")
    program = tmp_path / "program.py"
    program.write_text(text)
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    ) as process:
        try:
            waitUntilListening(port, process)
            answers = [ask(port, path) for path in ("/x?y=1", "/api/z", "/internal/secrets")]
        finally:
            process.terminate()
    assert answers[:2] == [(200, f"{pages} /x?y=1 127.0.0.1"), (200, f"{api} /api/z 127.0.0.1")]
    assert answers[2][0] == 404


def test_measuredExample(origins: list[int]) -> None:
    """The program that the page on performance measures runs with the ports that it is given."""
    port, (pages, _) = freePort(), origins
    with subprocess.Popen(
        [sys.executable, CHECKOUT / "docs" / "examples" / "performance" / "mine.py", str(port), str(pages)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            waitUntilListening(port, process)
            answers = [ask(port, path) for path in ("/x?y=1", "/.env")]
        finally:
            process.terminate()
    assert (answers[0], answers[1][0]) == ((200, f"{pages} /x?y=1 127.0.0.1"), 404)


def test_readmeShowsTheExample() -> None:
    """What README shows is the program that the test above runs, character by character."""
    shown = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    assert shown[0] == EXAMPLE.read_text()


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "newsfragments/README.md", "CHANGELOG.md"])
def test_linksLeadSomewhere(path: str) -> None:
    """Every relative link in a page of Markdown names a file that is there."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", (CHECKOUT / path).read_text())
    assert [target for target in targets if not (CHECKOUT / path).parent.joinpath(target).exists()] == []


def test_statesAreDrawnFromTheTable() -> None:
    """The states in the guide are those of the code: run C{python docs/statetables.py} after a change."""
    module = moduleAt(CHECKOUT / "docs" / "statetables.py", "statetables")
    assert module.drawn() == module.OUTPUT.read_text()
