# -*- test-case-name: tests.web.test_resource -*-
"""
The server side of a stock C{twisted.web} request, as an exchange sees it.

An L{Exchange<twistproxy.core.exchange.Exchange>} speaks to an
L{IDownstream<twistproxy.interfaces.IDownstream>}; this one writes to a C{twisted.web.server.Request}.  What only
an C{HTTPChannel} can do (interim responses, trailers, upgrades) is done where the channel is one, and left out
elsewhere: HTTP/2, test doubles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import alsoProvides, implementer

from twistproxy.errors import MalformedMessage
from twistproxy.interfaces import IBodyConsumer, IDownstream
from twistproxy.limits import Limits
from twistproxy.message import Request, Response, TunnelEnd
from twistproxy.rules.fields import EXPECT
from twistproxy.rules.framing import hasNoBody
from twistproxy.web import h2stream
from twistproxy.wire.bodies import UNTIL_CLOSE, BodyReader
from twistproxy.wire.lines import statusLine

#: What C{twisted.web} puts into every response before a resource is asked; the upstream's own take their place.
_PRESET = (b"server", b"date", b"content-length", b"content-type")


def closeSoon(channel: HTTPChannel) -> None:
    """
    Close a connection behind what was written to it, whether its client takes that or not.
    """
    channel.persistent = False
    channel.setTimeout(channel.abortTimeout)
    channel.loseConnection()  # at once, if both of its halves are closed; that ends the time, too


def _nothing() -> None:
    """
    Our own sending side is closed, as we have asked for.
    """


@implementer(IDownstream, IPushProducer)
class SiteDownstream:
    """
    One response to one request.

    It is the request's producer from beginning to end: a transport that is full already when the exchange registers its
    own would not say so a second time.
    """

    def __init__(
        self,
        request: Any,
        inbound: Request,
        limits: Limits,
        headLines: Callable[[Response], list[bytes]],
        ended: Callable[[Any], None],
    ) -> None:
        """
        @param request: the stock request.
        @param inbound: the same, as we read it.
        @param limits: the bounds.
        @param headLines: gives the header lines of a response, mapped for the client.
        @param ended: called with the exchange when it is over.
        """
        self._request = request
        self._inbound = inbound
        self._limits = limits
        self._headLines = headLines
        self._ended = ended
        self._exchange: Any = None
        self._channel = request.channel if isinstance(request.channel, HTTPChannel) else None
        self._producer: Any = None
        self._paused = bool(getattr(self._channel, "_waitingForTransport", False))
        self._queued = False
        self._left: int | None = 0
        self._complete = self._lost = self._aborted = False
        self._tunnel: BodyReader | None = None

    @property
    def canUpgrade(self) -> bool:
        """
        Whether the connection can leave HTTP.
        """
        # held there is what came behind the head; without it the tunnel would begin with a hole
        return isinstance(getattr(self._channel, "_dataBuffer", None), list)

    def begin(self, exchange: Any) -> None:
        """
        @param exchange: the exchange; not started yet.
        """
        self._exchange = exchange
        self._request.notifyFinish().addErrback(self._clientLeft)
        self._request.registerProducer(self, True)
        if hasattr(self._request.channel, "streamID"):
            h2stream.measure(self._request.channel, self._queueFull, self._queueDrained)

    def _clientLeft(self, reason: Failure) -> None:
        """
        The client is gone.
        """
        self._lost = True
        if self._exchange is None:
            return  # its connection was closed behind it
        if self._tunnel is not None and reason.check(ConnectionDone):
            # All that it has sent still goes to the upstream; TLS cannot tell half a close from a whole one.
            self._tunnel.finished()
        else:
            self._exchange.clientLeft()

    # -- IDownstream

    def sendInformational(self, status: int, reason: bytes, lines: list[bytes]) -> None:
        """
        See L{IDownstream.sendInformational}.
        """
        if self._channel is not None and self._inbound.minor and not self._lost:
            self._channel.write(b"\r\n".join((statusLine(status, reason), *lines, b"", b"")))

    def sendHead(self, response: Response, length: int | None, content: bytes, end: bool) -> None:
        """
        See L{IDownstream.sendHead}.
        """
        self._complete = end
        if self._lost:
            return
        request, headers = self._request, self._request.responseHeaders
        request.defaultContentType = None
        request.setResponseCode(response.status, response.reason)
        for name in _PRESET:
            headers.removeHeader(name)
        for cookie in request.cookies:
            # a session's, which the request would put in the place of the upstream's
            headers.addRawHeader(b"Set-Cookie", cookie)
        request.cookies = []
        for line in self._headLines(response):
            name, _, value = line.partition(b":")
            headers.addRawHeader(name, value.strip(b" \t"))
        method = self._inbound.method
        if hasNoBody(method, response.status):
            if response.contentLength is not None and response.status != 204:
                length = response.contentLength
            elif method == b"HEAD":
                length = length or None  # nobody knows it, which is not the same as 0
            else:
                length = None
            content = b""
            self._left = 0
        else:
            self._left = None if length is None else length - len(content)
        if length is not None:
            headers.setRawHeaders(b"Content-Length", [b"%d" % length])
        if self._mustClose():
            headers.setRawHeaders(b"Connection", [b"close"])
            self._channel.persistent = False  # type: ignore[union-attr]
        request.write(content)

    def _mustClose(self) -> bool:
        """
        @return: whether the connection cannot be used again: it is HTTP/1, and who asked does not want it to be, or
            nobody can say where the next request begins.
        """
        inbound = self._inbound
        if self._channel is None:
            return False
        if inbound.fault is not None or not inbound.keepAlive:
            return True
        body = inbound.body
        if isinstance(body, BodyReader) and not body.ended:
            # a client that waits for a 100 may send the body or not (RFC 9110 10.1.1)
            withheld = any(field[0] == EXPECT for field in inbound.fields)
            return withheld or (body.length or 0) > self._limits.discarded
        return False

    def write(self, data: bytes) -> None:
        """
        See L{IDownstream.write}.
        """
        if self._left is not None:
            if len(data) > self._left:
                raise MalformedMessage("a body longer than its Content-Length")
            self._left -= len(data)
        if not self._lost:
            self._request.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        """
        See L{IDownstream.finish}.
        """
        if self._left:
            raise MalformedMessage("a body shorter than its Content-Length")
        self._complete = True
        if trailers and self._channel is not None and self._request.chunked and not self._lost:
            # our own last chunk, in the place of the request's
            self._channel.write(b"\r\n".join((b"0", *trailers, b"", b"")))
            self._request.chunked = 0

    def abort(self) -> None:
        """
        See L{IDownstream.abort}.
        """
        if self._lost or self._aborted:
            return
        self._aborted = True
        channel = self._channel
        if channel is None:
            stream = self._request.channel
            if hasattr(stream, "streamID"):
                self._resetStream(stream)
            else:
                getattr(stream, "abortConnection", self._request.loseConnection)()
        elif self._request.startedWriting and (self._left is not None or self._request.chunked):
            closeSoon(channel)
        else:
            # only a reset tells that a body which ends with the connection was cut off
            channel.persistent = False
            channel.transport.abortConnection()  # type: ignore[union-attr]

    def _resetStream(self, stream: Any) -> None:
        """
        End an HTTP/2 stream, and tell those who wait for the end of its request; its connection does not.
        """
        exchange, self._exchange = self._exchange, None
        h2stream.reset(stream)
        self._request.connectionLost(Failure(ConnectionAborted()))
        self._exchange = exchange

    def setProducer(self, producer: Any) -> None:
        """
        See L{IDownstream.setProducer}.
        """
        self._producer = producer
        if producer is not None and (self._paused or self._queued):
            producer.pauseProducing()

    def switchProtocols(self, response: Response) -> TunnelEnd:
        """
        See L{IDownstream.switchProtocols}.
        """
        channel: Any = self._channel
        transport = channel.transport
        channel.setTimeout(None)
        held, channel._dataBuffer = b"".join(channel._dataBuffer), []
        transport.write(b"\r\n".join((statusLine(101, response.reason), *response.lines, b"", b"")))
        self._tunnel = reader = BodyReader(transport, UNTIL_CLOSE, held)
        # What is read goes past the channel from here on; the second is for what still stands behind the head in the
        # piece that the channel is reading just now.
        channel.dataReceived = channel.rawDataReceived = reader.received
        self._hearHalfClose(transport)
        return TunnelEnd(reader, _TunnelSink(self, transport), self._closeTunnel, transport.abortConnection)

    def _hearHalfClose(self, transport: Any) -> None:
        """
        Have the transport tell of a client that has closed its sending side, in place of closing the rest.
        """
        protocol: Any = getattr(transport, "protocol", None)
        mine = protocol is not None and self._channel in (protocol, getattr(protocol, "_channel", None))
        if mine and not ISSLTransport.providedBy(transport) and self._tunnel is not None:
            # The protocol has outlived HTTP; which interfaces it provides is asked of it when the end comes.
            protocol.readConnectionLost = self._tunnel.finished
            protocol.writeConnectionLost = _nothing
            alsoProvides(protocol, IHalfCloseableProtocol)

    def _closeTunnel(self) -> None:
        if not self._lost:
            closeSoon(self._channel)  # type: ignore[arg-type]

    def exchangeEnded(self) -> None:
        """
        See L{IDownstream.exchangeEnded}.
        """
        exchange, self._exchange = self._exchange, None
        self._producer = None
        if self._tunnel is None and not self._lost:
            request = self._request
            request.unregisterProducer()
            if self._complete:
                request.finish()
            else:
                self.abort()
        self._ended(exchange)

    # -- IPushProducer, towards the channel

    def pauseProducing(self) -> None:
        """
        The client does not keep up.
        """
        self._paused = True
        if self._producer is not None:
            self._producer.pauseProducing()
        self._settle()

    def resumeProducing(self) -> None:
        """
        The client has caught up.
        """
        self._paused = False
        if self._producer is not None and not self._queued:
            self._producer.resumeProducing()
        self._settle()

    def _queueFull(self) -> None:
        """
        An HTTP/2 connection does not keep up with what its stream would take.
        """
        self._queued = True
        if not self._paused and self._producer is not None:
            self._producer.pauseProducing()

    def _queueDrained(self) -> None:
        self._queued = False
        if not self._paused and self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """
        The connection is being lost, which C{notifyFinish} tells as well.
        """

    def _settle(self) -> None:
        """
        A channel that stops and starts writing stops and starts reading with it; a streamed body knows better.
        """
        settle = getattr(self._request, "settleReading", None)
        if settle is not None:
            settle()


@implementer(IBodyConsumer)
class _TunnelSink:
    """
    What is written here goes to the client as it is.
    """

    def __init__(self, downstream: SiteDownstream, transport: Any) -> None:
        self._downstream = downstream
        self._transport = transport

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._downstream.setProducer(producer)

    def unregisterProducer(self) -> None:
        self._downstream.setProducer(None)

    def write(self, data: bytes) -> None:
        downstream = self._downstream
        if not downstream._lost:
            self._transport.write(data)
        elif downstream._exchange is not None:
            downstream._exchange.clientLeft()

    def finish(self, trailers: list[bytes]) -> None:
        if self._downstream._lost:
            return
        # the channel is its transport's producer, and nothing is closed while there is one
        self._transport.unregisterProducer()
        if ISSLTransport.providedBy(self._transport):
            self._downstream._closeTunnel()  # its write side alone cannot be closed
        else:
            self._transport.loseWriteConnection()

    def fail(self, error: Exception) -> None:
        self._transport.abortConnection()
