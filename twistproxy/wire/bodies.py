# -*- test-case-name: tests.wire.test_bodies -*-
"""
Message bodies on an HTTP/1.1 connection: reading one off it, and writing one onto it.

Both directions of both roles are the same four cases (RFC 9112 6): a known length, chunks, up to the end of the
connection, and opaque bytes after a 101, which are a body up to the end of the connection too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProducer
from zope.interface import implementer

from twistproxy.body import Discarding
from twistproxy.errors import MalformedMessage
from twistproxy.interfaces import IBody, IBodyConsumer
from twistproxy.wire.chunked import ChunkedReader

#: The lengths that are no number of bytes.
UNTIL_CLOSE = -1
CHUNKED = -2

# Takes what nobody wants.
_NOWHERE = Discarding()


@implementer(IBody)
class BodyReader:
    """
    A body that is being read off a connection.

    Until it is delivered the connection is paused, so that at most what was read already is held.

    @ivar length: its length in bytes, if known.
    @ivar untilClose: whether only the end of the connection ends it.
    @ivar dropped: how many bytes of it were read for nobody.
    @ivar ended: whether it has ended, well or badly.
    @ivar paused: whether its consumer does not want more now.
    """

    __slots__ = (
        "_chunks", "_consumer", "_delivered", "_failure", "_left", "_pending", "_transport", "dropped", "ended",
        "length", "paused", "trailers", "untilClose",
    )  # fmt: skip

    def __init__(self, transport: Any, length: int, initial: bytes = b"", chunks: ChunkedReader | None = None) -> None:
        """
        @param transport: the connection's byte transport, which this pauses and resumes.
        @param length: a number of bytes, L{CHUNKED}, or L{UNTIL_CLOSE}.
        @param initial: the payload that has come already, less than all of it.
        @param chunks: the decoder, if chunked.
        """
        self._transport = transport
        self._chunks = chunks
        self._left = length - len(initial) if length >= 0 else length
        self._consumer: Any = None
        self._delivered = False
        self._pending: list[bytes] = [initial] if initial else []
        self.dropped = 0
        self.untilClose = length == UNTIL_CLOSE
        self._failure: Exception | None = None
        self.length = length if length >= 0 else None
        self.trailers: list[bytes] = []
        self.ended = False
        self.paused = True
        transport.pauseProducing()

    # -- from the connection

    def received(self, data: bytes) -> bytes | None:
        """
        Take what the connection has read.

        @return: C{None}, or what stands behind the end of the body, once that has come; the caller then calls
            L{finished}, when it has put itself in order.
        @raise MalformedMessage: if its chunks are broken; the caller fails it.
        """
        rest: bytes | None = None
        if self._chunks is not None:
            data = self._chunks.feed(data)
            if self._chunks.done:
                rest = self._chunks.rest
                self.trailers = self._chunks.trailers
        elif self._left != UNTIL_CLOSE:
            left = self._left
            if len(data) >= left:
                rest = data[left:]
                data = data[:left] if rest else data
                left = len(data)
            self._left -= left if rest is not None else len(data)
        if data:
            if self._consumer is None:
                self._pending.append(data)
            elif self._consumer is _NOWHERE:
                self.dropped += len(data)
            else:
                self._consumer.write(data)
        return rest

    def finished(self) -> None:
        """
        The body is complete.
        """
        self._end(None)

    def failed(self, error: Exception) -> None:
        """
        The body has broken off.
        """
        self._end(error)

    def gatherNoMore(self) -> None:
        """
        Give up whatever the connection was asked for this body, which it is not for any more though it has not ended.
        """

    def _end(self, error: Exception | None) -> None:
        if self.ended:
            return
        self.ended = True
        self._failure = error
        transport, self._transport = self._transport, None
        if self.paused and not self.untilClose:
            # The connection runs on, even if nobody takes the body before long.  (It can end while it is paused:
            # Twisted's own TLS delivers all that it has read.)
            self.paused = False
            transport.resumeProducing()
        if self._consumer is not None:
            self._conclude()

    def _conclude(self) -> None:
        """
        Tell the consumer how it ended.
        """
        consumer, self._consumer = self._consumer, None
        consumer.unregisterProducer()
        if self._failure is None:
            consumer.finish(self.trailers)
        else:
            consumer.fail(self._failure)

    # -- from the owner

    @property
    def bufferedBytes(self) -> int:
        """
        What has come and nobody has taken yet.
        """
        return sum(map(len, self._pending))

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        if self._delivered:
            raise RuntimeError("a body is delivered once")
        self._delivered = True
        self._consumer = consumer
        self.paused = False
        consumer.registerProducer(self, True)
        pending, self._pending = self._pending, []
        for data in pending:
            # it may have stopped us, or ended it all, from inside a write
            if self._consumer is consumer:
                consumer.write(data)
        if self.ended:
            if self._consumer is not None:
                self._conclude()
        elif not self.paused and self._transport is not None:
            self._transport.resumeProducing()

    def takePending(self) -> bytes:
        """
        @return: what has come so far and was not delivered; the owner sends it together with the head.
        """
        pending, self._pending = self._pending, []
        return pending[0] if len(pending) == 1 else b"".join(pending)

    def pauseProducing(self) -> None:
        """
        Stop reading the connection.
        """
        if not self.paused:
            self.paused = True
            if self._transport is not None:
                self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Read the connection again.
        """
        if self.paused:
            self.paused = False
            if self._transport is not None:
                self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        Nobody wants the rest: what comes is read and dropped.  Whoever owns the connection decides how long.
        """
        self._delivered = True
        self._consumer = _NOWHERE
        self._pending = []
        if not self.ended:
            self.resumeProducing()


class BodyWriter:
    """
    Frames a body onto a connection.

    @ivar complete: whether all of it has been written.
    """

    __slots__ = ("_left", "_transport", "complete")

    def __init__(self, transport: Any, length: int) -> None:
        """
        @param transport: the connection's byte transport.
        @param length: a number of bytes, L{CHUNKED}, or L{UNTIL_CLOSE}.
        """
        self._transport = transport
        self._left = length
        self.complete = length == 0

    @property
    def untilClose(self) -> bool:
        """
        Whether only the end of the connection ends it.
        """
        return self._left == UNTIL_CLOSE

    def write(self, data: bytes) -> None:
        """
        Write a piece of the body.

        @raise MalformedMessage: if it is more than the announced length; nothing of it is written, since it would be
            read as the next message.
        """
        left = self._left
        if left >= 0:
            if len(data) > left:
                raise MalformedMessage("a body longer than its Content-Length")
            self._left = left - len(data)
            self._transport.write(data)
        elif left == CHUNKED:
            if data:
                self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._transport.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        """
        The body is complete.

        @param trailers: trailer lines; dropped unless the body is chunked.
        @raise MalformedMessage: if it is less than the announced length.
        """
        if self._left > 0:
            raise MalformedMessage("a body shorter than its Content-Length")
        if self._left == CHUNKED:
            self._transport.write(b"\r\n".join((b"0", *trailers, b"", b"")))
            # What is written behind the last chunk would be read as the next message.
            self._left = 0
        self.complete = True


def chunk(data: bytes) -> bytes:
    """
    @return: C{data} as one chunk; nothing for no data, because an empty chunk would be the last.
    """
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


@implementer(IBodyConsumer)
class TunnelSink:
    """
    What is written here goes out on a connection as it is; the end closes the write side, so that a half-close travels
    through a tunnel.
    """

    __slots__ = ("_setProducer", "_transport")

    def __init__(self, transport: Any, setProducer: Callable[[Any], None]) -> None:
        """
        @param transport: the connection's byte transport.
        @param setProducer: takes whom to pause while the connection does not keep up.
        """
        self._transport = transport
        self._setProducer = setProducer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._setProducer(producer)

    def unregisterProducer(self) -> None:
        self._setProducer(None)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        # the connection itself is its transport's producer, and TLS does not end while there is one
        self._transport.unregisterProducer()
        self._transport.loseWriteConnection()

    def fail(self, error: Exception) -> None:
        self._transport.abortConnection()
