# -*- test-case-name: tests.wire.test_h1client -*-
"""
Sending the requests of an upstream connection, bodies that are still coming included.

The framing is chosen here (RFC 9112 6.3), whatever framing the client had: a length where it is known, else chunks.
"""

from __future__ import annotations

from typing import Any

from twistproxy.deadlines import Timeouts
from twistproxy.errors import HookFailed, MalformedMessage, ProxyError, Sent
from twistproxy.message import OutboundRequest
from twistproxy.wire.bodies import CHUNKED, BodyWriter, chunk
from twistproxy.wire.h1clientlife import WAIT, ClientLife

#: RFC 9110 8.6: methods that anticipate content say so even if there is none.
_WITH_CONTENT = frozenset((b"POST", b"PUT", b"PATCH"))


class RequestSender(ClientLife):
    """
    The half of L{H1Client<twistproxy.wire.h1client.H1Client>} that sends.
    """

    __slots__ = ("_timeouts",)

    _timeouts: Timeouts | None

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        Send a request; see L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        self._phase = WAIT
        self._outbound = outbound
        self._receiver = receiver
        outbound.carrier = self
        record = outbound.record
        record.tries += 1
        record.reused = self.reused
        context = self._context
        if outbound.timeouts is not self._timeouts:
            self._timeouts = outbound.timeouts
            self._ticks = context.ticksFor(outbound.timeouts)
        # what wheel.schedule() does, see Timed
        wheel, ticks = context.wheel, self._ticks.responseHead
        self.deadline = due = wheel.now + ticks + 1
        if self.slot > due:
            wheel.file(self, ticks)
        method = outbound.method
        lines = [b"%b %b HTTP/1.1\r\nHost: %b" % (method, outbound.target, outbound.host), *outbound.lines]
        if outbound.upgrade is not None:
            lines.append(b"Connection: Upgrade\r\nUpgrade: " + outbound.upgrade)
        if outbound.acceptsTrailers:
            # RFC 9110 10.1.4: who sends TE names it in Connection too
            lines.append(b"TE: trailers" if outbound.upgrade is not None else b"Connection: TE\r\nTE: trailers")
        body = outbound.body
        if type(body) is bytes:
            if outbound.chunked or outbound.trailers:
                lines.append(b"Transfer-Encoding: chunked")
                body = b"%b0\r\n%b\r\n" % (chunk(body), b"".join(line + b"\r\n" for line in outbound.trailers))
            elif body:
                lines.append(b"Content-Length: %d" % len(body))
            elif method in _WITH_CONTENT:
                lines.append(b"Content-Length: 0")
            lines.append(b"")
            lines.append(body)
            self.transport.write(b"\r\n".join(lines))
            return
        length = body.length
        if length is None or outbound.chunked:
            lines.append(b"Transfer-Encoding: chunked")
            length = CHUNKED
        else:
            lines.append(b"Content-Length: %d" % length)
        lines.append(b"")
        lines.append(b"")
        self._requestBody = body
        self._writer = BodyWriter(self.transport, length)
        # The head goes at once, before the first byte of the body has come (B4.4).
        self.transport.write(b"\r\n".join(lines))
        try:
            body.deliver(self)
        except Exception as error:
            # a body of the user's: nobody else would ever hear of it
            self.fail(error)

    # -- IBodyConsumer, for the request's body

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        From now on the request's body is paused while the upstream does not keep up.
        """
        self._producer = producer
        if not self._writable:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        The request's body has ended.
        """
        self._producer = None

    def write(self, data: bytes) -> None:
        """
        A piece of the request's body.
        """
        writer = self._writer
        if writer is not None:
            if self._phase == WAIT:
                self._context.wheel.schedule(self, self._ticks.responseHead)
            try:
                writer.write(data)
            except MalformedMessage as fault:
                self._bodyOfWrongLength(fault)

    def finish(self, trailers: list[bytes]) -> None:
        """
        The request's body is complete.
        """
        writer = self._writer
        if writer is not None:
            try:
                writer.finish(trailers)
            except MalformedMessage as fault:
                self._bodyOfWrongLength(fault)
            else:
                self._requestBody = None
                if self._phase == WAIT:
                    self._context.wheel.schedule(self, self._ticks.responseHead)

    def fail(self, error: Exception) -> None:
        """
        The request's body has broken off: the upstream must not take it for complete (B4.5).
        """
        if not isinstance(error, ProxyError):
            wrapped = HookFailed("request body", f"{type(error).__name__}: {error}", self._sent())
            wrapped.__cause__ = error
            error = wrapped
        self._requestBody = None
        self._fail(error)

    def _bodyOfWrongLength(self, fault: MalformedMessage) -> None:
        body, self._requestBody = self._requestBody, None
        if body is not None:
            body.stopProducing()
        self._fail(HookFailed("request body", fault.reason, Sent.SOME))
