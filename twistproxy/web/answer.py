# -*- test-case-name: tests.web.test_siterequest -*-
"""
What a C{twisted.web} request answers, as a response of our own wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.web.http_headers import Headers as TwistedHeaders
from zope.interface import implementer

from twistproxy.headers import NOT_IN_VALUE, Headers
from twistproxy.interfaces import IBody
from twistproxy.message import Response
from twistproxy.rules.fields import OF_CONNECTION

#: Fields that are the wire's own business.
FRAMING = OF_CONNECTION | {b"content-length"}


class AnswerHead:
    """
    The head of an answer.

    @ivar response: the response, without a body.
    @ivar length: what its Content-Length says, in bytes, or C{None}.
    @ivar close: whether the resource wants the connection closed behind it.
    """

    __slots__ = ("close", "length", "response")

    def __init__(self, status: int, reason: bytes, headers: TwistedHeaders) -> None:
        """
        @raise ValueError: if it cannot be sent as it is, with a line that says why.
        """
        lines: list[bytes] = []
        self.length: int | None = None
        self.close = False
        for name, values in headers.getAllRawHeaders():
            lower = name.lower()
            if lower in FRAMING:
                self._frame(lower, values)
            else:
                lines += [b"%b: %b" % (name, value) for value in values]
        if NOT_IN_VALUE.search(b"".join(lines)):
            bad = next(line for line in lines if NOT_IN_VALUE.search(line))
            raise ValueError(f"the header line {bad!r} has a control character in it")
        if status < 200:
            raise ValueError(f"{status} is no status of a final response, and a resource gives no other")
        self.response = Response(status, Headers(lines), b"", reason)

    def _frame(self, name: bytes, values: Sequence[bytes]) -> None:
        """
        Look at a field that is not sent as it is.
        """
        if name == b"content-length":
            lengths = set(values)
            if len(lengths) != 1 or not values[0].isdigit():
                raise ValueError(f"the Content-Length {b', '.join(values)!r} is not one number")
            self.length = int(values[0])
        elif name == b"connection":
            self.close = any(b"close" in value.lower() for value in values)


@implementer(IBody)
class AnswerBody:
    """
    The body of an answer, on its way to the exchange.

    @ivar length: its length in bytes, or C{None}.
    @ivar paused: whether the client does not keep up.
    """

    def __init__(self, length: int | None, begun: list[bytes], paused: Callable[[bool], None]) -> None:
        """
        @param length: what Content-Length says.
        @param begun: what was written already.
        @param paused: called when the client does not keep up, and when it does again.
        """
        self.length: int | None = length
        self.paused = False
        self._pending = begun
        self._paused = paused
        self._consumer: Any = None

    def takePending(self) -> bytes:
        """
        @return: what has been written so far; it is sent together with the head.
        """
        pending, self._pending = self._pending, []
        if self.length is not None and sum(map(len, pending)) > self.length:
            # for the wire, which refuses it
            self._pending = pending
            return b""
        return b"".join(pending)

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        self._consumer = consumer
        consumer.registerProducer(self, True)
        pending, self._pending = self._pending, []
        for data in pending:
            self.write(data)

    def write(self, data: bytes) -> None:
        """
        A piece of the body.
        """
        if self._consumer is not None:
            self._consumer.write(data)

    def finish(self) -> None:
        """
        The body is complete.
        """
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.unregisterProducer()
            consumer.finish([])

    def pauseProducing(self) -> None:
        """
        The client does not keep up.
        """
        self.paused = True
        self._paused(True)

    def resumeProducing(self) -> None:
        """
        The client has caught up.
        """
        self.paused = False
        self._paused(False)

    def stopProducing(self) -> None:
        """
        Nobody wants the rest; the exchange tells the resource why.
        """
        self._consumer = None
