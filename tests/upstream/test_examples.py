"""
The examples that show targets, run as they stand but for the port.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import CHECKOUT, ask, freePort, waitUntilListening

EXAMPLES = CHECKOUT / "docs" / "examples" / "targets"


class Program:
    """An example that runs."""

    def __init__(self, name: str, folder: Path) -> None:
        self.port = freePort()
        text = (EXAMPLES / f"{name}.py").read_text()
        text = text.replace("tcp:8080", f"tcp:{self.port}:interface=127.0.0.1")
        (folder / "program.py").write_text(text)
        (folder / "public").mkdir()
        (folder / "public" / "page.txt").write_text("a page")
        self.process = subprocess.Popen(
            [sys.executable, "program.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        waitUntilListening(self.port, self.process)

    def end(self) -> tuple[int, str]:
        """@return: exit status and output, when it was told to end."""
        self.process.terminate()
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """The example of the test's parameter."""
    running = Program(request.param, tmp_path)
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.mark.parametrize("program", ["inprocess"], indirect=True)
def test_inProcess(program: Program) -> None:
    """A WSGI application, a resource and a page of the proxy's own; all threads end with it."""
    answers = [ask(program.port, path) for path in ("/any", "/public/page.txt", "/health")]
    assert answers == [(200, "hello 127.0.0.1, from /any"), (200, "a page"), (200, "fine")]
    assert program.end() == (0, "")


@pytest.mark.parametrize("program", ["asgi"], indirect=True)
def test_asgi(program: Program) -> None:
    """An ASGI application."""
    assert ask(program.port, "/any") == (200, "hello 127.0.0.1, from /any")
    assert program.end() == (0, "")


@pytest.mark.parametrize("program", ["ondemand"], indirect=True)
def test_onDemand(program: Program) -> None:
    """A program that is started by the first request, and does not outlive the proxy."""
    assert ask(program.port, "/page.txt") == (200, "a page")
    children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children").read_text().split()
    assert len(children) == 1
    assert program.end() == (0, "")
    assert not Path(f"/proc/{children[0]}").exists()


def test_allShown() -> None:
    """Every example is shown, and run above."""
    shown = re.findall(r"literalinclude:: examples/targets/(\w+)\.py", (CHECKOUT / "docs" / "targets.rst").read_text())
    assert sorted(shown) == sorted(path.stem for path in EXAMPLES.glob("*.py")) == ["asgi", "inprocess", "ondemand"]
