"""
The example that shows a whole site under a C{ProxySite}, run as it stands but for the ports.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.test_docs import CHECKOUT, freePort, origins, waitUntilListening

EXAMPLE = CHECKOUT / "docs" / "examples" / "tree.py"

__all__ = ["origins"]  # a fixture


@pytest.fixture
def port(origins: list[int], tmp_path: Path) -> Iterator[int]:
    """The port of the example, which runs."""
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "page.txt").write_text("a page")
    port = freePort()
    text = EXAMPLE.read_text().replace("tcp:8080", f"tcp:{port}:interface=127.0.0.1")
    (tmp_path / "program.py").write_text(text.replace("localhost:8081", f"127.0.0.1:{origins[0]}"))
    process = subprocess.Popen(
        [sys.executable, "program.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )
    waitUntilListening(port, process)
    yield port
    process.terminate()
    process.communicate()


def test_example(port: int, origins: list[int]) -> None:
    """Files with ranges, a form, a session over several requests, and a proxy, over one connection."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(method: str, path: str, body: str | None = None, **fields: str) -> tuple[int, str, str | None]:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
        response = connection.getresponse()
        return response.status, response.read().decode(), response.getheader("Set-Cookie")

    form = "application/x-www-form-urlencoded"
    try:
        assert ask("GET", "/page.txt") == (200, "a page", None)
        assert ask("GET", "/page.txt", Range="bytes=2-") == (206, "page", None)
        assert ask("POST", "/greeting", "name=%3CAlice%3E", Content_Type=form)[1] == "Hello &lt;Alice&gt;!"
        _, said, cookie = ask("GET", "/visits")
        assert (said, cookie is not None) == ("You were here 1 times.", True)
        assert ask("GET", "/visits", Cookie=str(cookie).partition(";")[0])[1] == "You were here 2 times."
        assert ask("GET", "/api/x?y=1") == (200, f"{origins[0]} /x?y=1 127.0.0.1", None)
        assert ask("GET", "/nowhere")[0] == 404
        assert ask("POST", "/greeting", "z" * 2_000_000)[0] == 413
    finally:
        connection.close()
