"""
A fast sender's long body is gathered, and nothing of it ever waits for what does not come.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.task import Clock

from twistproxy.net.wheel import TICK, Wheel
from twistproxy.wire.bodies import BodyReader
from twistproxy.wire.longbodies import FAST, GATHERED, LONG, LongBodyReader, bodyReader

PIECE = 120 * 1024


class Line:
    """A byte transport that can gather; C{marks} is what it was told of that."""

    def __init__(self) -> None:
        self.marks: list[int] = []

    def setReadLowWater(self, size: int) -> None:
        self.marks.append(size)

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class Sink:
    """Takes a body; C{stopAt} bytes are enough for it."""

    def __init__(self, stopAt: int = 1 << 60) -> None:
        self.size = 0
        self.stopAt = stopAt
        self.ends: list[Any] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size >= self.stopAt:
            self.producer.stopProducing()

    def finish(self, trailers: list[bytes]) -> None:
        self.ends.append(trailers)

    def fail(self, error: Exception) -> None:
        self.ends.append(error)


class Upload:
    """A body on its way, and the clock that measures its pauses."""

    def __init__(self, length: int = 2 * LONG, sink: Sink | None = None) -> None:
        self.line = Line()
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.sink = sink or Sink()
        self.left = length
        self.body = bodyReader(self.line, length, b"", self.wheel)
        self.body.deliver(self.sink)

    def comes(self, size: int) -> None:
        """So many bytes are read off the connection."""
        size = min(size, self.left)
        self.left -= size
        if self.body.received(bytes(size)) is not None:
            self.body.finished()

    def idle(self) -> bool:
        """@return: whether nothing is timed any more."""
        return not self.wheel.scheduled() and not self.clock.getDelayedCalls()


def test_fast() -> None:
    """A body that comes fast is gathered, until its rest may be too little for it."""
    upload = Upload()
    upload.comes(100)
    assert upload.line.marks == []
    upload.comes(PIECE)
    assert upload.line.marks == [GATHERED]
    while upload.left > 2 * GATHERED:
        assert upload.line.marks == [GATHERED]
        upload.comes(PIECE)
    assert upload.line.marks == [GATHERED, 1]
    while upload.left:
        upload.comes(PIECE)
    assert (upload.line.marks, upload.sink.size, upload.sink.ends) == ([GATHERED, 1], 2 * LONG, [[]])
    assert upload.idle()


def test_slow() -> None:
    """One that comes in small pieces is not."""
    upload = Upload()
    while upload.left:
        upload.comes(FAST - 1)
    assert (upload.line.marks, upload.sink.size) == ([], 2 * LONG)
    assert upload.idle()


def test_pause() -> None:
    """Of a sender that pauses the last bytes are taken within two tenths of a second, and it may be fast again."""
    upload = Upload()
    upload.comes(PIECE)
    for _ in range(20):
        upload.clock.advance(0.9 * TICK)
        upload.comes(PIECE)
    assert upload.line.marks == [GATHERED]
    upload.clock.advance(TICK)
    upload.clock.advance(TICK)
    assert upload.line.marks == [GATHERED, 1]
    assert upload.idle()
    upload.comes(1000)
    assert upload.line.marks == [GATHERED, 1]
    upload.comes(PIECE)
    assert upload.line.marks == [GATHERED, 1, GATHERED]
    upload.body.failed(ValueError())
    assert upload.idle()


def test_brokenOff() -> None:
    """A connection that is left by its body gathers no more."""
    upload = Upload()
    upload.comes(PIECE)
    error = ValueError("gone")
    upload.body.failed(error)
    assert (upload.line.marks, upload.sink.ends) == ([GATHERED, 1], [error])
    assert upload.idle()


def test_brokenOffFromInside() -> None:
    """A body that its own consumer gives up in the middle of a piece does not begin to gather."""
    upload = Upload()
    upload.sink.write = lambda data: upload.body.failed(ValueError())  # type: ignore[method-assign]
    upload.comes(PIECE)
    assert upload.line.marks == []
    assert upload.idle()


def test_dropped() -> None:
    """What nobody wants is gathered, too, and ends in order."""
    upload = Upload(sink=Sink(stopAt=PIECE))
    while upload.left:
        upload.comes(PIECE)
    assert (upload.line.marks, upload.sink.size, upload.body.dropped) == ([GATHERED, 1], PIECE, 2 * LONG - PIECE)
    assert upload.idle()


@pytest.mark.parametrize(
    ("length", "initial", "line", "sort"),
    [
        (LONG, 0, Line(), LongBodyReader),
        (LONG - 1, 0, Line(), BodyReader),
        (LONG, 1, Line(), BodyReader),
        (LONG + 1, 1, Line(), LongBodyReader),
    ],
)
def test_whichAreLong(length: int, initial: int, line: Any, sort: type) -> None:
    """What is still to come decides."""
    assert type(bodyReader(line, length, bytes(initial), Wheel(Clock()))) is sort


def test_transportsThatCannot() -> None:
    """On a transport that cannot gather a long body is one like any other."""

    class Stock:
        def pauseProducing(self) -> None: ...

    assert type(bodyReader(Stock(), LONG, b"", Wheel(Clock()))) is BodyReader


def test_nothingIsKept() -> None:
    """A body that has ended is freed without the garbage collector."""
    upload = Upload()
    upload.comes(PIECE)
    watched = weakref.ref(upload.sink)
    gc.disable()
    try:
        upload.body.failed(ValueError())
        del upload
        assert watched() is None
    finally:
        gc.enable()
