# -*- test-case-name: tests.wire.test_h1client -*-
"""
The client side of HTTP/1.1: one upstream connection, carrying one request after the other.

A connection is in one of five phases::

    IDLE --begin--> WAIT --final head--> BODY --its end--> IDLE
                     |                      (a body that came with its head goes straight back to IDLE)
                     `--101--> TUNNEL
    any --lost, broken, timed out, aborted--> CLOSED

It goes back to its pool I{before} the end of the response is told, so that the client's next request finds it there.
Whatever comes that was not asked for ends it: nothing that stands behind one response can become part of another
(B5.8).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.deadlines import Timeouts
from twistproxy.errors import HookFailed, MalformedMessage, ProxyError, Sent, Stage, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import IBodyConsumer, ICarrier
from twistproxy.message import OutboundRequest, TunnelEnd, UpstreamResponse
from twistproxy.rules.hopbyhop import upgradeAccepted
from twistproxy.wire.bodies import CHUNKED, UNTIL_CLOSE, BodyReader, BodyWriter, TunnelSink, chunk
from twistproxy.wire.chunked import ChunkedReader
from twistproxy.wire.connection import BLANK, H1Connection
from twistproxy.wire.context import ClientContext, ClientTicks
from twistproxy.wire.h1head import ResponseParser, headFault, parseStatusLine

IDLE, WAIT, BODY, TUNNEL, CLOSED = range(5)

#: RFC 9110 8.6: methods that anticipate content say so even if there is none.
_WITH_CONTENT = frozenset((b"POST", b"PUT", b"PATCH"))


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer, IBodyConsumer, ICarrier)
class H1Client(H1Connection):
    """
    One upstream connection.  Towards its transport it is the producer of what is sent, towards a request's body its
    consumer.

    @ivar reused: whether it has carried a request before the present one.
    """

    __slots__ = (
        "_body", "_context", "_interims", "_keepAlive", "_outbound", "_owner", "_parser", "_phase",
        "_receiver", "_requestBody", "_response", "_ticks", "_timeouts", "_tunnel", "_writer", "reused",
    )  # fmt: skip

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
        self._timeouts: Timeouts | None = None
        self._ticks: ClientTicks = context.ticks
        self._parser = ResponseParser(context.limits.responseFields)
        self._interims = 0
        self._keepAlive = False
        self._outbound: Any = None
        self._receiver: Any = None
        self._requestBody: Any = None
        self._response: UpstreamResponse | None = None
        self._tunnel: TunnelEnd | None = None
        self._body: BodyReader | None = None
        self._writer: BodyWriter | None = None
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

    def readConnectionLost(self) -> None:
        """
        End of file: in a tunnel it travels on, elsewhere the upstream has finished with us.
        """
        if self._phase == TUNNEL:
            if self._body is not None:
                self._body.finished()
        else:
            self._ended(True)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        self._ended(reason.check(ConnectionDone) is not None)

    def _ended(self, clean: bool) -> None:
        """
        Nothing more will come.

        @param clean: whether it ended in order.
        """
        phase, self._phase = self._phase, CLOSED
        self._context.wheel.cancel(self)
        if phase == CLOSED:
            self._forget()  # a tunnel's ends know this connection
            return
        self._owner.lost(self)
        outbound, receiver, body, tunnel = self._outbound, self._receiver, self._body, self._tunnel
        silent = not self._buffer and not self._interims
        sent = self._sent()
        self._forget()
        if phase == WAIT:
            what = "closed the connection without a response" if clean else "reset the connection"
            error = UpstreamError(
                f"the upstream {what}",
                Stage.WAIT if sent is Sent.ALL else Stage.SEND,
                sent,
            )
            if silent and self.reused and self._owner.replay(outbound, receiver, error):
                return
            self._giveUpRequestBody()
            receiver.roundTripFailed(error)
        elif body is not None and not body.ended:
            self._giveUpRequestBody()
            if clean and body.untilClose:
                body.finished()
            else:
                body.failed(
                    UpstreamError(
                        "the upstream broke off in the middle of its response",
                        Stage.TUNNEL if phase == TUNNEL else Stage.BODY,
                        Sent.ALL,
                    )
                )
        elif tunnel is not None and tunnel.onLost is not None and not clean:
            # it had closed its side in order, but now takes nothing any more either
            tunnel.onLost(UpstreamError("the upstream broke off a tunnel", Stage.TUNNEL, Sent.ALL))

    # -- sending a request

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
        context.wheel.schedule(self, self._ticks.responseHead)
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

    @property
    def stage(self) -> Stage:
        """
        How far the exchange on this connection has come.
        """
        if self._phase == BODY or self._phase == TUNNEL:
            return Stage.BODY if self._phase == BODY else Stage.TUNNEL
        return Stage.WAIT if self._requestBody is None else Stage.SEND

    def _sent(self) -> Sent:
        """
        @return: how much of the request may have reached the upstream.
        """
        if self._writer is None or self._writer.complete:
            return Sent.ALL
        return Sent.SOME

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

    # -- receiving a response

    def _headReceived(self, data: bytes) -> None:
        """
        Collect and read response heads: any number of interim ones, then the final one.
        """
        limits = self._context.limits
        if self._buffer:
            data = self._buffer + data
        try:
            while True:
                head, blank, rest = self._partition(data) if self._scanned else data.partition(BLANK)
                if not blank or len(head) > limits.head:
                    self._incomplete(data)
                    return
                response = self._parser.parse(head, self._outbound.method, self)
                data = rest
                self._buffer = b""
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
            self._context.wheel.schedule(self, self._context.idleTicks)
            self._owner.release(self)
        else:
            self._discard(abort=not whole)

    def _giveUpRequestBody(self) -> None:
        """
        The upstream wants no more of the request's body: its rest is the downstream side's to drop.
        """
        body, self._requestBody = self._requestBody, None
        self._producer = None
        if body is not None:
            self._writer = None
            body.stopProducing()

    def _forget(self) -> None:
        """
        Let go of everything that belongs to one exchange.
        """
        self._outbound = self._receiver = self._response = self._tunnel = None
        self._body = self._writer = self._producer = None
        self._buffer = b""
        self._scanned = self._interims = 0

    def tunnel(self) -> TunnelEnd:
        """
        @return: the upstream's side of a tunnel; called after a 101, once.
        """
        sink = TunnelSink(self.transport, self.setProducer)
        self._tunnel = end = TunnelEnd(self._body, sink, self._discard, self.abort)
        return end

    # -- time and ending

    @property
    def limitName(self) -> str:
        """
        See L{Timed.limitName<twistproxy.deadlines.Timed>}.
        """
        if self._phase == WAIT:
            return "responseHead" if self._requestBody is None else "write"
        return {IDLE: "upstreamIdle", BODY: "responseBody"}.get(self._phase, "write")

    def timedOut(self) -> None:
        """
        See L{Timed.timedOut<twistproxy.deadlines.Timed>}.
        """
        wheel = self._context.wheel
        if self._phase == IDLE:
            self._discard()
        elif self._phase == WAIT:
            if self._requestBody is None:
                self._fail(UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL))
            elif self._stalled():
                self._fail(UpstreamTimeout("write", Stage.SEND, Sent.SOME))
            else:
                # it is the client that is slow, and that has a limit of its own
                wheel.schedule(self, self._ticks.write)
        elif self._phase == BODY:
            if self._body is not None and self._body.paused:
                wheel.schedule(self, self._ticks.responseBody)
            else:
                self._fail(UpstreamTimeout("responseBody", Stage.BODY, Sent.ALL))
        elif self._phase == CLOSED:
            # it may take its time for the end of a tunnel, but not for nothing
            if self._stalled() or not self._unsent:
                self.transport.abortConnection()
            else:
                wheel.schedule(self, self._ticks.write)

    def _fail(self, error: ProxyError) -> None:
        """
        The exchange on this connection has failed, and the connection with it.
        """
        phase, receiver, body, outbound = self._phase, self._receiver, self._body, self._outbound
        if phase == CLOSED:
            return
        if outbound is not None:
            outbound.carrier = None
        self._giveUpRequestBody()
        self._forget()
        self._discard(abort=True)
        if phase == WAIT and receiver is not None:
            receiver.roundTripFailed(error)
        elif body is not None:
            body.failed(error)

    def abort(self) -> None:
        """
        See L{ICarrier.abort<twistproxy.interfaces.ICarrier>}.
        """
        if self._phase != CLOSED:
            self._giveUpRequestBody()
            self._forget()
            self._discard(abort=True)

    def cut(self) -> None:
        """
        End it now, whatever it does; who waits for it is told.
        """
        self._fail(UpstreamError("cut off, as the proxy is going down", self.stage, self._sent()))

    def _discard(self, abort: bool = False) -> None:
        """
        Close the connection; it belongs to no pool any more.
        """
        if self._phase == CLOSED:
            return
        self._phase = CLOSED
        self._context.wheel.cancel(self)
        self._owner.lost(self)
        if abort:
            self.transport.abortConnection()
        else:
            self._context.wheel.schedule(self, self._ticks.write)
            self.transport.unregisterProducer()
            self.transport.loseConnection()
