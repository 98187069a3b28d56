# -*- test-case-name: tests.test_body -*-
"""
Bodies in motion.

A body is either C{bytes} (all of it is here) or an L{IBody<twistproxy.interfaces.IBody>}: a push producer
with a single owner, which is delivered once, to one L{IBodyConsumer<twistproxy.interfaces.IBodyConsumer>}.
Nothing here collects a body unless asked to, and then with a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer
from zope.interface import implementer

from twistproxy.interfaces import IBody, IBodyConsumer


@implementer(IBodyConsumer)
class Discarding:
    """
    Reads a body to its end and drops it.

    @param ended: called with C{None} at the end, or with the error.
    """

    def __init__(self, ended: Callable[[Exception | None], Any] | None = None) -> None:
        self._ended = ended

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    def finish(self, trailers: list[bytes]) -> None:
        self._end(None)

    def fail(self, error: Exception) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)


@implementer(IBody)
class BytesBody:
    """
    A body that is all here, for whoever wants to be given it like any other.

    @ivar length: its length in bytes.
    """

    def __init__(self, data: bytes, trailers: Sequence[bytes] = ()) -> None:
        self._data = data
        self._trailers = list(trailers)
        self._stopped = False
        self.length: int | None = len(data)

    def deliver(self, consumer: Any) -> None:
        consumer.registerProducer(self, True)
        if self._data and not self._stopped:
            consumer.write(self._data)
        if not self._stopped:
            consumer.unregisterProducer()
            consumer.finish(self._trailers)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        self._stopped = True


class BodyTooLarge(Exception):
    """
    A body was larger than whoever collected it would hold.
    """


@implementer(IBodyConsumer)
class _Collecting:
    """
    Collects a body up to a bound.
    """

    def __init__(self, body: IBody, limit: int) -> None:
        self._body = body
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self.result: Deferred[bytes] = Deferred(lambda _: body.stopProducing())

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._pieces.append(bytes(data))
        elif not self.result.called:
            self._pieces.clear()
            self.result.errback(BodyTooLarge(f"the body is larger than {self._limit} bytes"))
            self._body.stopProducing()

    def finish(self, trailers: list[bytes]) -> None:
        if not self.result.called:
            self.result.callback(b"".join(self._pieces))

    def fail(self, error: Exception) -> None:
        if not self.result.called:
            self.result.errback(error)


def collect(body: bytes | IBody, limit: int) -> Deferred[bytes]:
    """
    Read a whole body into memory.

    @param body: a body that nobody else reads.
    @param limit: the largest size to hold, in bytes.
    @return: a Deferred of the bytes; it fails with L{BodyTooLarge} (and the rest of the body is given up), or
        with whatever the body fails with.  Cancelling it gives the rest up too.
    """
    result: Deferred[bytes]
    if isinstance(body, bytes):
        result = Deferred()
        if len(body) > limit:
            result.errback(BodyTooLarge(f"the body is larger than {limit} bytes"))
        else:
            result.callback(body)
        return result
    collecting = _Collecting(body, limit)
    body.deliver(collecting)
    return collecting.result
