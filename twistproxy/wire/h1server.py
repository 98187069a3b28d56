# -*- test-case-name: tests.wire.test_h1server -*-
"""
The server side of HTTP/1.1: one downstream connection.

Here its requests are read and served.  How it lives and ends is in L{twistproxy.wire.h1serverlife}, how responses are
written in L{twistproxy.wire.h1responsesender}.

Requests are served one at a time: what a client sends behind its request is held, unparsed and bounded, until the
exchange has settled.  A request that cannot be read becomes an exchange like any other, with its C{fault} set, so that
one place decides what the client gets and one place logs it.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ISSLTransport
from zope.interface import implementer

from twistproxy.errors import ClientError, MalformedMessage, Stage
from twistproxy.interfaces import IDownstream, IHangUpListener
from twistproxy.message import Peer, Request
from twistproxy.rules.validity import looksHopeless, requestLine
from twistproxy.wire.bodies import CHUNKED, BodyReader
from twistproxy.wire.chunked import ChunkedReader
from twistproxy.wire.connection import BLANK
from twistproxy.wire.context import ServerContext
from twistproxy.wire.h1head import RequestParser, headFault
from twistproxy.wire.h1responsesender import ResponseSender
from twistproxy.wire.h1serverlife import BUSY, CLOSED, DISCARD, HEAD, LINGER, TUNNEL
from twistproxy.wire.longbodies import bodyReader

_CR = 0x0D
_emptyLines = re.compile(rb"(?:\r\n)*").match


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer, IDownstream, IHangUpListener)
class H1Server(ResponseSender):
    """
    One downstream connection.

    @ivar peer: the client.
    @ivar served: how many exchanges it has begun.
    """

    __slots__ = ("_parser", "_serving", "peer")

    def __init__(self, context: ServerContext) -> None:
        super().__init__()
        self._context = context
        self._phase = HEAD
        self._parser = RequestParser(context.limits.requestFields)
        self._exchange = None
        self._request = None
        self._body = None
        self._writer = None
        self._complete = False
        self._persist = True
        self._serving = False
        self.served = 0

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

    # -- requests

    def _serve(self, data: bytes) -> None:
        """
        Serve what has come, request after request, as long as each is settled at once.
        """
        if self._buffer:
            data = self._buffer + data
        self._serving = True
        parser = self._parser
        while data and self._phase == HEAD and self._writable:
            request: Request | None
            if data == parser.whole:
                self._buffer = b""
                self._scanned = 0
                request = parser.again(self.peer)
            else:
                request = self._receive(data)
                if request is None:
                    break
            self._begin(request)
            data = self._buffer
        self._serving = False

    def _receive(self, data: bytes) -> Request | None:
        """
        Read a request.

        @param data: what has come, from its beginning on.
        @return: the request, what is behind it being in the buffer; C{None} if it is incomplete, or was refused.
        """
        if data[0] == _CR:
            # RFC 9112 2.2: an empty line before a request is ignored; many of them at once, or 64 KiB would be copied
            # 32,768 times
            data = data[_emptyLines(data).end() :]  # type: ignore[union-attr]
            if data in (b"", b"\r"):
                self._buffer = data
                return None
        limits = self._context.limits
        head, blank, rest = self._partition(data) if self._scanned else data.partition(BLANK)
        if not blank or len(head) > limits.head:
            self._incomplete(data)
            return None
        self._scanned = 0
        if len(head) > limits.requestLine and len(head.partition(b"\r\n")[0]) > limits.requestLine:
            self._refuse(MalformedMessage("the request line is too long", 414), data)
            return None
        try:
            request = self._parser.parse(head, self.peer)
            if request.length == 0:
                self._buffer = rest
            else:
                self._buffer = b""
                self._frame(request, rest)
        except MalformedMessage as fault:
            self._refuse(fault, data)
            return None
        return request

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
                self._body = request.body = bodyReader(self.transport, length, rest, self._context.wheel)
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
        begin = context.begin  # as in ProxyFlow._carry
        self._exchange = exchange = begin(self, request)
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
        # what wheel.schedule() does, see Timed
        wheel = context.wheel
        self.deadline = due = wheel.now + context.keepAliveTicks + 1
        if self.slot > due:
            wheel.file(self, context.keepAliveTicks)
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

