"""
What supervisor and workers say to each other.
"""

from __future__ import annotations

import json

import pytest

from twistproxy.workers.protocol import LONGEST, LONGEST_TEXT, VERSION, BadMessage, Lines, decoded, encoded


def test_thereAndBack() -> None:
    """A message is one line, whatever is in it."""
    line = encoded("log", text="two\nlines \x00 \u2028 \U0001f600 \udc80")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert decoded(line[:-1]) == {"v": VERSION, "kind": "log", "text": "two\nlines \x00 \u2028 \U0001f600 \udc80"}


def test_longestText() -> None:
    """The longest event of a log fits, even if JSON makes the most of each of its characters."""
    assert len(encoded("log", level="critical", namespace="x" * 1000, text="\U0001f600" * LONGEST_TEXT)) < LONGEST


def test_tooLong() -> None:
    """What is longer than the other side takes is not sent."""
    with pytest.raises(ValueError, match="kind log"):
        encoded("log", text="x" * LONGEST)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "no JSON"),
        (b"ready", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no message"),
        (b'{"v":1}', "no message"),
        (b'{"v":1,"kind":3}', "no message"),
        (b'{"kind":"ready"}', "version None of the protocol, not 1"),
        (b'{"v":2,"kind":"ready"}', "version 2 of the protocol, not 1.*restart the whole"),
    ],
)
def test_noMessage(line: bytes, complaint: str) -> None:
    """What is no message is not taken for one, and another version is named."""
    with pytest.raises(BadMessage, match=complaint):
        decoded(line)


def test_unknownKind() -> None:
    """A kind that is not known yet is a message all the same."""
    assert decoded(json.dumps({"v": VERSION, "kind": "sing"}).encode())["kind"] == "sing"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines(size: int) -> None:
    """Lines are found however the stream is cut."""
    stream = b"one\n\nthree\nrest"
    lines = Lines()
    found = [line for start in range(0, len(stream), size) for line in lines.feed(stream[start : start + size])]
    assert (found, lines.rest) == ([b"one", b"", b"three"], b"rest")


@pytest.mark.parametrize("data", [b"x" * 10, b"x" * 10 + b"\n", b"y\n" + b"x" * 11])
def test_bound(data: bytes) -> None:
    """Nobody can make the other side hold more than a line."""
    with pytest.raises(BadMessage, match="more than 10 bytes"):
        Lines(10).feed(data)
    assert Lines(11).feed(b"x" * 10 + b"\n") == [b"x" * 10]
