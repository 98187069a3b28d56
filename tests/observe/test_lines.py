"""
Lines that are read whole or not at all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from twistproxy.observe.lines import ATOMIC, LineWriter, mayBlock, piece


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose ends do not block."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(writer: int) -> int:
    """@return: how many bytes it took to fill a pipe."""
    size = 0
    try:
        while True:
            size += os.write(writer, b"f" * ATOMIC)
    except BlockingIOError:
        return size


def test_mayBlock(pipe: tuple[int, int], tmp_path: Path) -> None:
    """A pipe can make its writer wait, a file cannot."""
    with (tmp_path / "file").open("wb") as file:
        assert (mayBlock(pipe[1]), mayBlock(file.fileno())) == (True, False)


@pytest.mark.parametrize(
    ("data", "start", "expected"),
    [
        (b"a\n", 0, 2),
        (b"x" * 9 + b"\n", 4, 6),
        (b"a" * 3000 + b"\n" + b"b" * 3000 + b"\n", 0, 3001),
        (b"a" * 3000 + b"\n" + b"b" * 3000 + b"\n", 3001, 3001),
        (b"a" * (ATOMIC - 1) + b"\n" + b"b\n", 0, ATOMIC),
        (b"a" * 9000 + b"\n", 0, ATOMIC),
        (b"a" * 9000 + b"\n", 8192, 809),
    ],
)
def test_piece(data: bytes, start: int, expected: int) -> None:
    """A piece ends with a line, if a line ends within what a pipe takes at once."""
    assert piece(data, start) == expected


def test_allOfIt(pipe: tuple[int, int]) -> None:
    """Long lines and short ones come out as they went in."""
    data = b"".join(b"%d" % number * number + b"\n" for number in range(150)) + b"x" * 20000 + b"\n"
    LineWriter().write(pipe[1], data, blocking=True)
    assert os.read(pipe[0], 1 << 20) == data


def test_tornLine(pipe: tuple[int, int]) -> None:
    """A line of which the reader got only a part is not continued by the next one."""
    reader, writer = pipe
    size = fill(writer)
    os.read(reader, 2 * ATOMIC)
    lines = LineWriter()
    with pytest.raises(BlockingIOError, match="does not keep up"):
        lines.write(writer, b"t" * 5 * ATOMIC + b"\n", blocking=True)
    torn = os.read(reader, 1 << 20).lstrip(b"f")
    assert torn == b"t" * len(torn)
    assert 0 < len(torn) < 5 * ATOMIC < size
    lines.write(writer, b"whole\n", blocking=True)
    lines.write(writer, b"again\n", blocking=True)
    assert os.read(reader, 1 << 20) == b"\nwhole\nagain\n"


def test_patience(pipe: tuple[int, int]) -> None:
    """Who is worth waiting for is waited for once, and after that when it has read again."""
    reader, writer = pipe
    fill(writer)
    lines = LineWriter(patience=0.2)
    reading = threading.Timer(0.05, os.read, (reader, 1 << 20))
    reading.start()
    lines.write(writer, b"patient\n", blocking=True)
    reading.join()
    fill(writer)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            lines.write(writer, b"lost\n", blocking=True)
        assert lines._keptWaiting
    os.read(reader, 1 << 20)
    lines.write(writer, b"again\n", blocking=True)
    assert (os.read(reader, 1 << 20), lines._keptWaiting) == (b"again\n", False)


def test_lostBetweenLines(pipe: tuple[int, int]) -> None:
    """What was lost at the end of a line leaves no trace."""
    reader, writer = pipe
    fill(writer)
    lines = LineWriter()
    with pytest.raises(BlockingIOError):
        lines.write(writer, b"lost\n", blocking=True)
    os.read(reader, 1 << 20)
    lines.write(writer, b"whole\n", blocking=True)
    assert os.read(reader, 1 << 20) == b"whole\n"
