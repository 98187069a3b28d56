# -*- test-case-name: tests.core.test_flush -*-
"""
Small writes of a response, held for a moment and sent together (Go's C{FlushInterval}; B5.4).

Off by default: an interval trades latency for fewer packets.  A response whose client waits for each piece is never
held: server-sent events, gRPC, and whatever has no known length.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from twistproxy.core.relayedbody import RelayedBody
from twistproxy.interfaces import IBody, IBodyConsumer
from twistproxy.message import Response

#: As much as one read of the upstream brings; more is not worth waiting for.
ENOUGH = 32 * 1024


def mayCoalesce(response: Response) -> bool:
    """
    @return: whether pieces of this response may wait for each other.
    """
    body: Any = response.body
    if type(body) is bytes or body.length is None:
        return False
    mediaType = (response.headers.get(b"content-type") or b"").partition(b";")[0].strip(b" \t").lower()
    return mediaType != b"text/event-stream" and not mediaType.startswith(b"application/grpc")


@implementer(IBody, IBodyConsumer)
class CoalescedBody(RelayedBody):
    """
    A body whose small pieces are joined.
    """

    __slots__ = ("_clock", "_held", "_heldBytes", "_interval", "_timer")

    def __init__(self, source: Any, interval: float, clock: IReactorTime) -> None:
        """
        @param source: the body.
        @param interval: how long a piece may wait, in seconds.
        @param clock: measures that.
        """
        self._source = source
        self._interval = interval
        self._clock = clock
        self._consumer = None
        self._held: list[bytes] = []
        self._heldBytes = 0
        self._timer: IDelayedCall | None = None
        self.length = source.length

    def write(self, data: bytes) -> None:
        self._held.append(data)
        self._heldBytes += len(data)
        if self._heldBytes >= ENOUGH:
            self._flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(self._interval, self._flush)

    def finish(self, trailers: list[bytes]) -> None:
        self._flush()
        self._consumer.finish(trailers)

    def fail(self, error: Exception) -> None:
        self._flush()
        self._consumer.fail(error)

    def _flush(self) -> None:
        self._cancelTimer()
        if self._held:
            held, self._held = self._held, []
            self._heldBytes = 0
            self._consumer.write(b"".join(held))

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def stopProducing(self) -> None:
        self._cancelTimer()
        self._held = []
        self._source.stopProducing()
