# -*- test-case-name: tests.wire.test_h1client -*-
"""
The client side of HTTP/1.1: one upstream connection, carrying one request after the other.

Here its responses are received.  How it lives and ends is in L{twistproxy.wire.h1clientlife}, how requests are sent in
L{twistproxy.wire.h1requestsender}.

It goes back to its pool I{before} the end of the response is told, so that the client's next request finds it there.
Whatever comes that was not asked for ends it: nothing that stands behind one response can become part of another
(B5.8).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from zope.interface import implementer

from twistproxy.errors import MalformedMessage, Sent, Stage, UpstreamError
from twistproxy.interfaces import IBodyConsumer, ICarrier
from twistproxy.message import TunnelEnd, UpstreamResponse
from twistproxy.rules.hopbyhop import upgradeAccepted
from twistproxy.wire.bodies import CHUNKED, UNTIL_CLOSE, BodyReader, TunnelSink
from twistproxy.wire.chunked import ChunkedReader
from twistproxy.wire.connection import BLANK
from twistproxy.wire.context import ClientContext
from twistproxy.wire.h1clientlife import BODY, CLOSED, IDLE, TUNNEL, WAIT
from twistproxy.wire.h1head import ResponseParser, headFault, parseStatusLine
from twistproxy.wire.h1requestsender import RequestSender


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer, IBodyConsumer, ICarrier)
class H1Client(RequestSender):
    """
    One upstream connection.  Towards its transport it is the producer of what is sent, towards a request's body its
    consumer.

    @ivar reused: whether it has carried a request before the present one.
    """

    __slots__ = ("_keepAlive", "_parser")

    def __init__(self, context: ClientContext, owner: Any) -> None:
        """
        @param context: what upstream connections have in common.
        @param owner: the pool; has C{release(connection)}, C{lost(connection)} and C{replay(outbound, receiver,
            error)}.
        """
        super().__init__()
        self._context = context
        self._owner = owner
        self._phase = IDLE
        self._timeouts = None
        self._ticks = context.ticks
        self._parser = ResponseParser(context.limits.responseFields)
        self._interims = 0
        self._keepAlive = False
        self._outbound = None
        self._receiver = None
        self._requestBody = None
        self._response = None
        self._tunnel = None
        self._body = None
        self._writer = None
        self.reused = False

    # -- IProtocol

    def makeConnection(self, transport: Any) -> None:
        """
        See L{IProtocol.makeConnection<twisted.internet.interfaces.IProtocol>}.
        """
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """
        The connection stands.
        """
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """
        Give what was read to whatever the connection is about.
        """
        phase = self._phase
        if phase == WAIT:
            self._headReceived(data)
        elif phase in (BODY, TUNNEL):
            self._bodyReceived(data)
        elif phase == IDLE:
            self._discard()

    # -- receiving a response

    def _headReceived(self, data: bytes) -> None:
        """
        Collect and read response heads: any number of interim ones, then the final one.
        """
        limits = self._context.limits
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            while True:
                head, blank, rest = self._partition(data) if self._scanned else data.partition(BLANK)
                if not blank or len(head) > limits.head:
                    self._incomplete(data)
                    return
                response = self._parser.parse(head, self._outbound.method, self)
                data = rest
                self._scanned = 0
                if response.status >= 200 or response.status == 101:
                    break
                self._interims += 1
                if self._interims > limits.interims:
                    raise MalformedMessage(f"more than {limits.interims} interim responses")
                self._receiver.informationalReceived(response)
                if not data or self._phase != WAIT:
                    return
            self._finalHead(response, data)
        except MalformedMessage as fault:
            self._fail(UpstreamError(f"a malformed response: {fault.reason}", Stage.WAIT, self._sent()))

    def _incomplete(self, data: bytes) -> None:
        """
        Keep the beginning of a head, unless nothing good can come of it.
        """
        if len(data) > self._context.limits.head:
            raise MalformedMessage("the head is too large")
        reason = headFault(data, max(0, self._scanned - 1))
        if reason is not None:
            raise MalformedMessage(reason)
        lineEnd = data.find(b"\r\n")
        if lineEnd >= 0:
            parseStatusLine(data[:lineEnd])
        elif not data.startswith(b"HTTP/1."[: len(data)]):
            raise MalformedMessage("this is not HTTP/1")
        self._buffer = data
        self._scanned = max(0, len(data) - 3)

    def _finalHead(self, response: UpstreamResponse, rest: bytes) -> None:
        """
        The final head is here, and perhaps the beginning, or all, of the body.
        """
        outbound, receiver = self._outbound, self._receiver
        if response.status == 101:
            if not upgradeAccepted(outbound.upgrade, response.upgrade):
                raise MalformedMessage("a 101 that was not asked for, or to another protocol")
            if self._sent() is not Sent.ALL:
                raise MalformedMessage("a 101 in the middle of the request")
            self._phase = TUNNEL
            self._context.wheel.cancel(self)
            self._body = BodyReader(self.transport, UNTIL_CLOSE, rest)
            receiver.responseReceived(response)
            return
        length = response.length
        self._keepAlive = response.keepAlive
        if response.chunked:
            limits = self._context.limits
            chunks = ChunkedReader(limits.head, limits.responseFields)
            payload = chunks.feed(rest)
            if not chunks.done:
                self._stream(response, BodyReader(self.transport, CHUNKED, payload, chunks))
                return
            response.body = payload
            response.trailers = chunks.trailers
            rest = chunks.rest
        elif length is None:
            self._stream(response, BodyReader(self.transport, UNTIL_CLOSE, rest))
            return
        elif len(rest) < length:
            self._stream(response, BodyReader(self.transport, length, rest))
            return
        elif len(rest) == length:
            response.body = rest
            rest = b""
        else:
            response.body = rest[:length]
            rest = rest[length:]
        # From here on the connection is somebody else's, whom response.abort() must not hit.
        response.connection = None
        self._release(rest)
        receiver.responseReceived(response)

    def _stream(self, response: UpstreamResponse, body: BodyReader) -> None:
        """
        Hand over a response whose body is still coming.
        """
        self._phase = BODY
        self._response = response
        self._body = response.body = body
        self._context.wheel.schedule(self, self._ticks.responseBody)
        self._receiver.responseReceived(response)

    def _bodyReceived(self, data: bytes) -> None:
        """
        A piece of the response's body, or of what comes through a tunnel.
        """
        body = self._body
        if body is None or body.ended:
            return
        if self._phase == BODY:
            self._context.wheel.schedule(self, self._ticks.responseBody)
        try:
            rest = body.received(data)
        except MalformedMessage as fault:
            self._fail(UpstreamError(f"a malformed response body: {fault.reason}", Stage.BODY, Sent.ALL))
            return
        if rest is not None and self._phase == BODY:
            if self._response is not None:
                self._response.connection = None
            self._release(rest)
            body.finished()

    def _release(self, rest: bytes) -> None:
        """
        The response is complete: back to the pool, or close.

        @param rest: what stands behind the response; it belongs to nobody, so the connection cannot be trusted any
            more.
        """
        self._outbound.carrier = None
        whole = self._requestBody is None and not getattr(self.transport, "unsentBytes", 0)
        if not whole:
            self._giveUpRequestBody()
        if self._writer is None and self._body is None:
            self._outbound = self._receiver = None
            self._interims = 0
        else:
            self._forget()
        if self._keepAlive and whole and not rest and self._phase != CLOSED:
            self._phase = IDLE
            self.reused = True
            # what wheel.schedule() does, see Timed
            context = self._context
            wheel = context.wheel
            self.deadline = due = wheel.now + context.idleTicks + 1
            if self.slot > due:
                wheel.file(self, context.idleTicks)
            self._owner.release(self)
        else:
            self._discard(abort=not whole)

    def tunnel(self) -> TunnelEnd:
        """
        @return: the upstream's side of a tunnel; called after a 101, once.
        """
        sink = TunnelSink(self.transport, self.setProducer)
        self._tunnel = end = TunnelEnd(self._body, sink, self._discard, self.abort, self.transport)
        return end
