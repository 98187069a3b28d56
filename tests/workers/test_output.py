"""
The supervisor's standard output, to which all workers write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from twistproxy.workers.output import LineOutput


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What it complains of."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"].startswith("twistproxy.workers"):
            found.append(event["error"])

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_readerThatStops(warnings: list[str]) -> None:
    """B10.4: a reader that stops costs lines, which is said once and again when it happens again, and blocks nobody."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "w") as file:
        output = LineOutput(file)
        for _ in range(60):
            output.write(b"x" * 3999 + b"\n")
        assert len(warnings) == 1
        assert "does not keep up" in warnings[0]
        assert os.read(reader, 1 << 20).count(b"\n") == 16
        output.write(b"again\n")
        assert os.read(reader, 100) == b"again\n"
        for _ in range(60):
            output.write(b"x" * 3999 + b"\n")
        assert len(warnings) == 2


def test_byDefault(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines go to the process's standard output, whatever a log has put in the place of C{sys.stdout}."""
    monkeypatch.setattr("sys.stdout", None)
    LineOutput().write(b"a line\n")
    assert capfd.readouterr().out == "a line\n"


def test_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a standard output loses the lines, and nothing else."""
    monkeypatch.setattr("sys.__stdout__", None)
    LineOutput().write(b"a line\n")
