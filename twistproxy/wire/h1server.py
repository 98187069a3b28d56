# -*- test-case-name: tests.wire.test_h1server -*-
"""
The server side of HTTP/1.1: one downstream connection.

A connection is in one of six phases::

    HEAD --head complete--> BUSY --settled--> HEAD                the ordinary way round
                             |  `--settled, body still coming--> DISCARD --its end--> HEAD
                             |--101--> TUNNEL
                             `--settled, cannot be used again--> LINGER --> CLOSED

Requests are served one at a time: what a client sends behind its request is held, unparsed and bounded, until the
exchange has settled.  A request that cannot be read becomes an exchange like any other, with its C{fault} set, so that
one place decides what the client gets and one place logs it.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.errors import ClientError, MalformedMessage, Stage
from twistproxy.interfaces import IDownstream, IHangUpListener
from twistproxy.message import Peer, Request, Response, TunnelEnd
from twistproxy.rules.fields import EXPECT
from twistproxy.rules.framing import hasNoBody
from twistproxy.rules.validity import looksHopeless, requestLine
from twistproxy.wire.bodies import CHUNKED, UNTIL_CLOSE, BodyReader, BodyWriter, TunnelSink, chunk
from twistproxy.wire.chunked import ChunkedReader
from twistproxy.wire.connection import BLANK, H1Connection
from twistproxy.wire.context import ServerContext
from twistproxy.wire.h1head import RequestParser, headFault
from twistproxy.wire.lines import LENGTH_LINES, STATUS_LINES, lengthLine, statusLine

HEAD, BUSY, DISCARD, TUNNEL, LINGER, CLOSED = range(6)

_CR = 0x0D
_emptyLines = re.compile(rb"(?:\r\n)+").match


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer, IDownstream, IHangUpListener)
class H1Server(H1Connection):
    """
    One downstream connection.

    @ivar peer: the client.
    @ivar served: how many exchanges it has begun.
    """

    __slots__ = (
        "_body", "_complete", "_context", "_exchange", "_parser", "_persist", "_phase", "_request", "_serving",
        "_writer", "peer", "served",
    )  # fmt: skip

    def __init__(self, context: ServerContext) -> None:
        super().__init__()
        self._context = context
        self._phase = HEAD
        self._parser = RequestParser(context.limits.requestFields)
        self._exchange: Any = None
        self._request: Any = None
        self._body: BodyReader | None = None
        self._writer: BodyWriter | None = None
        self._complete = False
        self._persist = True
        self._serving = False
        self.served = 0

    @property
    def exchange(self) -> Any:
        """
        The exchange that runs on it, or C{None}.
        """
        return self._exchange

    # -- IProtocol

    def makeConnection(self, transport: Any) -> None:
        """
        See L{IProtocol.makeConnection<twisted.internet.interfaces.IProtocol>}.
        """
        self.transport = transport
        address = transport.getPeer()
        scheme = b"https" if ISSLTransport.providedBy(transport) else self._context.scheme
        self.peer = Peer(getattr(address, "host", ""), getattr(address, "port", 0), scheme)
        self.connectionMade()

    def connectionMade(self) -> None:
        """
        The connection stands; its first request may take as long as one on a connection that is kept alive.
        """
        context = self._context
        context.connections.add(self)
        context.wheel.schedule(self, context.keepAliveTicks)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """
        Give what was read to whatever the connection is about.
        """
        phase = self._phase
        if phase == HEAD and self._writable:
            self._serve(data)
        elif self._body is not None:
            self._bodyReceived(data)
        elif phase in (BUSY, HEAD):
            # A client that does not take its responses is not served more of them.
            self._buffer += data
            if len(self._buffer) > self._context.limits.held:
                self.transport.pauseProducing()
        elif phase == LINGER:
            self._scanned += len(data)
            if self._scanned > self._context.limits.discarded:
                self._close(abort=True)

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone; what ran on it is cancelled.
        """
        self._phase = CLOSED
        context = self._context
        context.wheel.cancel(self)
        context.connections.discard(self)
        self._producer = None
        self._buffer = b""
        body, self._body = self._body, None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.clientLeft()
        if body is not None:
            body.failed(ClientError("the client closed its connection inside the body", 400, Stage.SEND))
        self._request = self._writer = None
        if context.emptied is not None and not context.connections:
            context.emptied()

    def readConnectionLost(self) -> None:
        """
        End of file.  In a tunnel it travels on; anywhere else a client that half-closes counts as gone, as in Go and
        nginx (B7.1).
        """
        if self._phase == TUNNEL:
            if self._body is not None:
                self._body.finished()
        else:
            self._gone()

    def peerHungUp(self, reset: bool) -> None:
        """
        The client has gone while we do not read.
        """
        if reset or self._phase != TUNNEL:
            self._gone()

    def _gone(self) -> None:
        if self._phase == LINGER or self._exchange is None:
            self._close()
            return
        self._phase = CLOSED
        exchange, self._exchange = self._exchange, None
        self.transport.abortConnection()
        exchange.clientLeft()

    # -- requests

    def _serve(self, data: bytes) -> None:
        """
        Serve what has come, request after request, as long as each is settled at once.
        """
        if self._buffer:
            data = self._buffer + data
        self._serving = True
        limits = self._context.limits
        while data and self._phase == HEAD and self._writable:
            if data[0] == _CR and data[:2] in (b"\r", b"\r\n"):
                # RFC 9112 2.2: an empty line before a request is ignored; many of them at once, or 64 KiB would be
                # copied 32,768 times
                if len(data) == 1:
                    self._buffer = data
                    break
                data = data[_emptyLines(data).end() :]  # type: ignore[union-attr]
                self._buffer = b""
                continue
            head, blank, rest = self._partition(data) if self._scanned else data.partition(BLANK)
            if not blank or len(head) > limits.head:
                self._incomplete(data)
                break
            self._scanned = 0
            if len(head) > limits.requestLine and len(head.partition(b"\r\n")[0]) > limits.requestLine:
                self._refuse(MalformedMessage("the request line is too long", 414), data)
                break
            try:
                request = self._parser.parse(head, self.peer)
                if request.length == 0:
                    self._buffer = rest
                else:
                    self._buffer = b""
                    self._frame(request, rest)
            except MalformedMessage as fault:
                self._refuse(fault, data)
                break
            self._begin(request)
            data = self._buffer
        self._serving = False

    def _incomplete(self, data: bytes) -> None:
        """
        Keep the beginning of a head, unless it can be seen already that nothing good will come of it.
        """
        limits = self._context.limits
        lineEnd = data.find(b"\r\n")
        fault = None
        if (len(data) if lineEnd < 0 else lineEnd) > limits.requestLine:
            fault = MalformedMessage("the request line is too long", 414)
        elif len(data) > limits.head:
            fault = MalformedMessage("the request head is too large", 431)
        elif lineEnd < 0 and looksHopeless(data):
            fault = MalformedMessage("this is not HTTP; TLS perhaps, on a cleartext port")
        elif (reason := headFault(data, max(0, self._scanned - 1))) is not None:
            fault = MalformedMessage(reason)
        elif lineEnd >= 0 and self._scanned <= lineEnd + 1:
            try:
                requestLine(data[:lineEnd])
            except MalformedMessage as error:
                fault = error.with_traceback(None)  # or this frame would hold itself
        if fault is not None:
            self._refuse(fault, data)
            return
        if not self._scanned:
            # the first that is seen of it, be it in a buffer behind the last request
            self._context.wheel.schedule(self, self._context.headTicks)
        self._buffer = data
        # No head ends at 0: an empty line in front is gone already.
        self._scanned = max(1, len(data) - 3)

    def _frame(self, request: Request, rest: bytes) -> None:
        """
        Divide what came behind a head into the request's body and what follows.
        """
        length = request.length
        if length is not None:
            if len(rest) >= length:
                request.body = rest[:length]
                self._buffer = rest[length:]
            else:
                self._body = request.body = BodyReader(self.transport, length, rest)
        else:
            limits = self._context.limits
            chunks = ChunkedReader(limits.head, limits.requestFields)
            payload = chunks.feed(rest)
            if chunks.done:
                request.body = payload
                request.trailers = chunks.trailers
                self._buffer = chunks.rest
            else:
                self._body = request.body = BodyReader(self.transport, CHUNKED, payload, chunks)

    def _begin(self, request: Request) -> None:
        """
        Start the exchange of a request.
        """
        context = self._context
        self._phase = BUSY
        self._request = request
        self._persist = request.keepAlive and not context.draining
        self._complete = False
        self._writer = None
        self.served += 1
        if self._body is not None:
            context.wheel.schedule(self, context.bodyTicks)
        self._exchange = exchange = context.begin(self, request)
        exchange.start()

    def _refuse(self, fault: MalformedMessage, data: bytes, timeout: str | None = None) -> None:
        """
        Start an exchange for a request that cannot be read; nothing behind it is looked at.
        """
        self._buffer = b""
        self._scanned = 0
        self._body = None
        first = data.split(b"\n", 1)[0].strip(b"\r")[:256].split(b" ")
        request = Request(self.peer, first[0], first[1] if len(first) > 1 else b"", 1, [], [], [])
        request.fault = ClientError(fault.reason, fault.status, Stage.HEAD, timeout)
        self._begin(request)

    def _bodyReceived(self, data: bytes) -> None:
        """
        A piece of a request body, or of what goes through a tunnel.
        """
        body = self._body
        assert body is not None
        context = self._context
        try:
            rest = body.received(data)
        except MalformedMessage as fault:
            self._bodyFailed(body, ClientError(fault.reason, fault.status, Stage.SEND))
            if self._phase == DISCARD:
                self._close()
            return
        if self._phase == CLOSED or self._phase == TUNNEL:
            return
        if rest is None:
            if self._phase == BUSY:
                context.wheel.schedule(self, context.bodyTicks)
            if body.dropped > context.limits.discarded:
                self._persist = False
                if self._phase == DISCARD:
                    self._close()
                else:
                    self.transport.pauseProducing()
            return
        self._body = None
        self._buffer = rest
        if self._phase == DISCARD:
            self._next()
        else:
            body.finished()

    def _bodyFailed(self, body: BodyReader, error: ClientError) -> None:
        """
        The client has not sent the body that it announced; whatever else it sends is not looked at.
        """
        self._persist = False
        self._body = None
        self._request.fault = error
        body.failed(error)

    # -- IDownstream

    def sendInformational(self, status: int, reason: bytes, lines: list[bytes]) -> None:
        """
        See L{IDownstream.sendInformational}.  RFC 9110 15.2: none to an HTTP/1.0 client.
        """
        if self._request.minor and self._phase == BUSY:
            self.transport.write(b"\r\n".join((statusLine(status, reason), *lines, b"", b"")))

    def sendHead(self, response: Response, length: int | None, content: bytes, end: bool) -> None:
        """
        See L{IDownstream.sendHead}.
        """
        request = self._request
        method = request.method
        status = response.status
        lines = [STATUS_LINES.get((status, response.reason)) or statusLine(status, response.reason), *response.lines]
        if (status != 200 or method == b"HEAD") and hasNoBody(method, status):
            if response.contentLength is not None and status != 204:
                lines.append(b"Content-Length: %d" % response.contentLength)
            length = 0
            content = b""
        elif length is not None:
            lines.append(LENGTH_LINES.get(length) or lengthLine(length))
        elif request.minor:
            lines.append(b"Transfer-Encoding: chunked")
            length = CHUNKED
            content = chunk(content) + b"0\r\n\r\n" if end else chunk(content)
        else:
            self._persist = False
            length = UNTIL_CLOSE
        if self._body is not None and not self._body.ended and self._bodyWithheld():
            self._persist = False
        if not self._persist or self._context.draining:
            lines.append(b"Connection: close")
        elif not request.minor:
            lines.append(b"Connection: keep-alive")
        lines += b"", content
        if end:
            self._complete = True
        else:
            self._writer = BodyWriter(self.transport, length if length < 0 else length - len(content))
            self._context.wheel.schedule(self, self._context.writeTicks)
        self.transport.write(b"\r\n".join(lines))

    def _bodyWithheld(self) -> bool:
        """
        @return: whether the client may be waiting for a 100, so that nobody can say whether a body will follow the
            final response or not (RFC 9110 10.1.1).
        """
        return any(field[0] == EXPECT for field in self._request.fields)

    def closeBehind(self) -> None:
        """
        Close the connection behind the response, whose head is still to be sent.
        """
        self._persist = False

    def write(self, data: bytes) -> None:
        """
        See L{IDownstream.write}.
        """
        if self._writer is not None:
            self._writer.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        """
        See L{IDownstream.finish}.
        """
        if self._writer is not None:
            self._writer.finish(trailers)
            self._complete = True

    def abort(self) -> None:
        """
        See L{IDownstream.abort}.  Without its terminal chunk, or short of its length, a body cannot be taken for
        complete; one that ends with the connection can, unless the connection is reset.
        """
        if self._phase != CLOSED:
            untilClose = self._writer is not None and self._writer.untilClose
            self._close(abort=untilClose)

    def switchProtocols(self, response: Response) -> TunnelEnd:
        """
        See L{IDownstream.switchProtocols}.
        """
        self._phase = TUNNEL
        self._context.wheel.cancel(self)
        held, self._buffer = self._buffer, b""
        lines = [statusLine(101, response.reason), *response.lines, b"", b""]
        self.transport.write(b"\r\n".join(lines))
        self._body = BodyReader(self.transport, UNTIL_CLOSE, held)
        return TunnelEnd(
            self._body, TunnelSink(self.transport, self.setProducer), self._close, self.transport.abortConnection
        )

    def exchangeEnded(self) -> None:
        """
        See L{IDownstream.exchangeEnded}.
        """
        self._exchange = None
        self._producer = None
        if self._phase != BUSY:
            return
        if not self._persist or not self._complete:
            self._close()
        elif self._body is not None and not self._body.ended:
            self._phase = DISCARD
            self._context.wheel.schedule(self, self._context.discardTicks)
            self._body.stopProducing()
        else:
            self._body = None
            self._next()

    def _next(self) -> None:
        """
        Be ready for the next request, which may be here already.
        """
        context = self._context
        if context.draining:
            self._close()
            return
        self._phase = HEAD
        self._request = self._writer = None
        context.wheel.schedule(self, context.keepAliveTicks)
        if self._buffer and self._writable and not self._serving:
            self.transport.resumeProducing()
            self._serve(b"")

    # -- IPushProducer, towards the transport

    def resumeProducing(self) -> None:
        """
        The client has caught up.
        """
        super().resumeProducing()
        if self._producer is None and self._phase == HEAD and self._buffer and not self._serving:
            self.transport.resumeProducing()
            self._serve(b"")

    # -- time and ending

    @property
    def limitName(self) -> str:
        """
        See L{Timed.limitName<twistproxy.deadlines.Timed>}.
        """
        if self._phase == HEAD:
            return "requestHead" if self._buffer and self._writable else "keepAlive"
        if self._phase == BUSY:
            body = self._body
            return "requestBody" if body is not None and not body.ended and not body.paused else "write"
        return "discard" if self._phase in (DISCARD, LINGER) else "write"

    def timedOut(self) -> None:
        """
        See L{Timed.timedOut<twistproxy.deadlines.Timed>}.
        """
        context = self._context
        if self._phase == HEAD:
            if self._buffer and self._writable:
                self._refuse(MalformedMessage("the request head took too long", 408), self._buffer, "requestHead")
            else:
                self._close()
        elif self._phase == DISCARD:
            self._close()
        elif self._phase in (LINGER, CLOSED):
            # a client that is still taking its response may have the time it needs for that
            if self._stalled() or not self._unsent:
                self.transport.abortConnection()
            else:
                context.wheel.schedule(self, context.writeTicks)
        elif self._phase == BUSY:
            body = self._body
            if body is not None and not body.ended and not body.paused:
                self._bodyFailed(body, ClientError("the request body stalled", 408, Stage.SEND, "requestBody"))
            elif self._stalled():
                exchange, self._exchange = self._exchange, None
                self._phase = CLOSED
                self.transport.abortConnection()
                exchange.clientLeft("write")
            else:
                context.wheel.schedule(self, context.writeTicks)

    def drain(self) -> None:
        """
        The port is going down: close if nothing is asked of us.  A connection that has not brought a request yet may
        have one on its way, for as long as a request's head may take.
        """
        if self._phase == HEAD and not self._buffer:
            if self.served:
                self._close()
            else:
                self._context.wheel.schedule(self, self._context.headTicks)

    def cut(self) -> None:
        """
        End it now, whatever it does; an exchange that runs on it is told that it is our doing, and not its client's.
        """
        exchange, self._exchange = self._exchange, None
        self._phase = CLOSED
        self.transport.abortConnection()
        if exchange is not None:
            exchange.cutOff()

    def _close(self, abort: bool = False) -> None:
        """
        Close the connection.  If the client may still be sending, only our side at first: closing with unread bytes
        resets the connection, and the reset overtakes the response (RFC 9112 9.6).
        """
        phase, self._phase = self._phase, CLOSED
        transport = self.transport
        if abort:
            transport.abortConnection()
        elif phase in (BUSY, DISCARD) and (self._buffer or self._body is not None or not self._clean()):
            self._phase = LINGER
            self._body = None
            self._buffer = b""
            self._scanned = 0
            self._context.wheel.schedule(self, self._context.discardTicks)
            transport.resumeProducing()
            transport.unregisterProducer()
            transport.loseWriteConnection()
        else:
            self._context.wheel.schedule(self, self._context.writeTicks)
            transport.unregisterProducer()
            transport.loseConnection()

    def _clean(self) -> bool:
        """
        @return: whether the last request was read to its end.
        """
        return self._request is None or self._request.fault is None
