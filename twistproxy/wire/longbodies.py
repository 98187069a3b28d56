# -*- test-case-name: tests.wire.test_longbodies -*-
"""
Bodies of many megabytes whose sender is fast: their connection is told to gather more for each event.

Most of what a large upload costs is the kernel's, and most of what can be spared of that is being woken for less than
could be had a moment later (measured: a sixth of the whole).  It must never make bytes wait that nothing follows, so it
ends well before the body does, and when the sender pauses.
"""

from __future__ import annotations

from typing import Any

from twistproxy.deadlines import IWheelLike, Timed
from twistproxy.wire.bodies import BodyReader

#: A body is long from this many bytes on.
LONG = 4 * 1024 * 1024

#: What is to come together for an event, in bytes.
GATHERED = 256 * 1024

#: A sender is fast if so many bytes have come for one event: as many as its first read takes.  TLS gives 16 KiB at a
#: time, so behind it nobody is.
FAST = 32 * 1024

#: A sender pauses that has sent too little for an event for so many ticks, which are tenths of a second.
_PAUSE = 1


def bodyReader(transport: Any, length: int, initial: bytes, wheel: IWheelLike) -> BodyReader:
    """
    @param transport: the connection's byte transport.
    @param length: of the whole body, in bytes.
    @param initial: what has come of it already.
    @param wheel: measures pauses.
    @return: what reads the body.
    """
    if length - len(initial) >= LONG and hasattr(transport, "setReadLowWater"):
        return LongBodyReader(transport, length, initial, wheel)
    return BodyReader(transport, length, initial)


class LongBodyReader(BodyReader):
    """
    A long body of known length, on a transport with C{setReadLowWater(size)}
    (L{SocketOptions<twistproxy.net.socketoptions.SocketOptions>}).
    """

    __slots__ = ("_pause", "_wheel")

    def __init__(self, transport: Any, length: int, initial: bytes, wheel: IWheelLike) -> None:
        """
        @param wheel: measures pauses.
        """
        super().__init__(transport, length, initial)
        self._wheel = wheel
        # what ends the gathering, while there is any
        self._pause: _Pause | None = None

    def received(self, data: bytes) -> bytes | None:
        """
        See L{BodyReader.received}.
        """
        rest = super().received(data)
        if self._left < 2 * GATHERED or self.ended:
            self.gatherNoMore()
        elif self._pause is not None:
            self._wheel.schedule(self._pause, _PAUSE)
        elif len(data) >= FAST:
            self._transport.setReadLowWater(GATHERED)
            self._pause = _Pause(self)
            self._wheel.schedule(self._pause, _PAUSE)
        return rest

    def gatherNoMore(self) -> None:
        """
        See L{BodyReader.gatherNoMore}: whatever comes is an event again, and so is what is there.
        """
        pause, self._pause = self._pause, None
        if pause is not None:
            self._wheel.cancel(pause)
            self._transport.setReadLowWater(1)

    def _end(self, error: Exception | None) -> None:
        self.gatherNoMore()
        super()._end(error)


class _Pause(Timed):
    """
    Ends the gathering when the sender pauses.
    """

    __slots__ = ("_reader",)

    def __init__(self, reader: LongBodyReader) -> None:
        super().__init__()
        self._reader = reader

    def timedOut(self) -> None:
        """
        See L{Timed.timedOut<twistproxy.deadlines.Timed>}.
        """
        self._reader.gatherNoMore()
