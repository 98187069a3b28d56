# -*- test-case-name: tests.upstream.test_agent,tests.upstream.test_agenttransport -*-
"""
Responses and their bodies between the proxy's interfaces and those of L{twisted.web.iweb}, in both directions.

Each side has a push producer with a single owner, so nothing is held here: a pause on one side is a pause on the other.
What differs is how an end is told (C{finish} and C{fail} here, the reason of C{connectionLost} there), and that a stock
body sometimes goes on although it was paused.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProducer, IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IClientRequest, IResponse
from zope.interface import implementer

from twistproxy.body import BytesBody
from twistproxy.errors import ProxyError, Sent, Stage, UpstreamError
from twistproxy.interfaces import IBody, IBodyConsumer
from twistproxy.message import UpstreamResponse


@implementer(IClientRequest)
@attrs.frozen
class ClientRequest:
    """
    A request as its response remembers it.
    """

    method: bytes
    absoluteURI: bytes | None
    headers: Headers


@implementer(IResponse)
class AgentResponse:
    """
    A response of the native transport, for users of an agent.

    @ivar trailers: the trailers, once the body has ended; Twisted's own responses have no such attribute.
    """

    previousResponse: Any = None

    def __init__(self, upstream: UpstreamResponse, request: ClientRequest, reactor: Any) -> None:
        """
        @param upstream: the response as the transport gave it.
        @param reactor: tells a protocol of the end it has asked for, which it must not hear from inside its own call.
        """
        body = upstream.body
        length = len(body) if isinstance(body, bytes) else body.length
        self._upstream = upstream
        self._reactor = reactor
        self._delivered = False
        self.version = (b"HTTP", 1, upstream.minor)
        self.code = upstream.status
        self.phrase = upstream.reason
        self.headers = upstream.headers.toTwisted()
        if upstream.contentLength is not None:
            # HEAD and 304 say how long the body would be that they have not
            self.headers.setRawHeaders(b"content-length", [b"%d" % upstream.contentLength])
        self.length: Any = UNKNOWN_LENGTH if length is None else length
        self.request = request
        self.trailers = Headers()

    @property
    def delimited(self) -> bool:
        """
        Whether the end of the body can be told from the loss of its connection.
        """
        return self.length is not UNKNOWN_LENGTH or self._upstream.chunked

    def deliverBody(self, protocol: Any) -> None:
        """
        See L{IResponse.deliverBody<twisted.web.iweb.IResponse>}.  The protocol's transport can be paused and resumed;
        C{abortConnection}, C{loseConnection} and C{stopProducing} all give the rest of the response up at once (the
        first calls C{connectionLost} before it returns, the others a turn later).
        """
        if self._delivered:
            raise RuntimeError("the body of a response can be delivered once")
        self._delivered = True
        body: Any = self._upstream.body
        if isinstance(body, bytes):
            body = BytesBody(body, self._upstream.trailers)
        body.deliver(_Delivery(self, protocol, self._reactor))

    def abort(self) -> None:
        """
        Give the response up, read or not: its connection is closed.
        """
        self._upstream.abort()

    def setPreviousResponse(self, response: Any) -> None:
        """
        See L{IResponse.setPreviousResponse<twisted.web.iweb.IResponse>}.
        """
        self.previousResponse = response

    def __repr__(self) -> str:
        return f"<AgentResponse {self.code}>"


@implementer(IBodyConsumer)
class _Delivery:
    """
    Takes a response's body for a protocol.
    """

    _log = Logger()

    def __init__(self, response: AgentResponse, protocol: Any, reactor: Any) -> None:
        self._response = response
        self._protocol = protocol
        self._reactor = reactor

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._protocol.makeConnection(_BodyTransport(self, producer))

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        if self._protocol is not None:
            try:
                self._protocol.dataReceived(data)
            except Exception:
                # it must not end up in the connection, whose fault it is not
                self._log.failure("a protocol failed on the body of {response}", response=self._response)
                self.giveUp()

    def finish(self, trailers: list[bytes]) -> None:
        for line in trailers:
            name, _, value = line.partition(b":")
            self._response.trailers.addRawHeader(name, value.strip())
        done = ResponseDone("the body is complete") if self._response.delimited else PotentialDataLoss()
        self._end(Failure(done))

    def fail(self, error: Exception) -> None:
        self._end(Failure(ResponseFailed([Failure(error)], self._response)))

    def _end(self, reason: Failure) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)

    def giveUp(self) -> None:
        """
        The protocol wants no more; it hears of the end a turn later, as with any transport.
        """
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._response.abort()
            self._reactor.callLater(0, protocol.connectionLost, self._aborted())

    def abort(self) -> None:
        """
        The same at once: C{readBody} calls this to cancel its Deferred, and cannot have it fired once more later.
        """
        if self._protocol is not None:
            self._response.abort()
            self._end(self._aborted())

    def _aborted(self) -> Failure:
        return Failure(ResponseFailed([Failure(ConnectionAborted())], self._response))


@implementer(IPushProducer)
class _BodyTransport:
    """
    What a protocol that takes a body has for a transport.
    """

    def __init__(self, delivery: _Delivery, producer: Any) -> None:
        self._delivery = delivery
        self._producer = producer

    def pauseProducing(self) -> None:
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self._delivery.giveUp()

    def loseConnection(self) -> None:
        """
        See L{_Delivery.giveUp}.
        """
        self._delivery.giveUp()

    def abortConnection(self) -> None:
        """
        See L{_Delivery.abort}.
        """
        self._delivery.abort()


@implementer(IBody, IProtocol)
class AgentBody:
    """
    The body of an agent's response.

    @ivar length: its length in bytes, if known.
    """

    transport: Any = None
    factory: Any = None

    def __init__(self, response: Any, length: int | None) -> None:
        """
        @param response: an L{IResponse<twisted.web.iweb.IResponse>}.
        """
        self._response = response
        self._consumer: Any = None
        self._paused = self._dropped = False
        self.length: int | None = length

    # -- IBody

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        response, self._response = self._response, None
        if response is None:
            raise RuntimeError("a body is delivered once")
        self._consumer = consumer
        response.deliverBody(self)

    def pauseProducing(self) -> None:
        self._paused = True
        if self.transport is not None:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self.transport is not None:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.abort()

    def abort(self) -> None:
        """
        Give the rest up.  A stock agent cannot do that but by ending the connection, and has no other way to say so
        than to begin with the body.
        """
        if self._dropped:
            return
        self._dropped = True
        self._consumer = None
        response, self._response = self._response, None
        if response is not None:
            response.deliverBody(self)
        elif self.transport is not None:
            self._cut()

    def _cut(self) -> None:
        transport = self.transport
        abort = getattr(transport, "abortConnection", None) or getattr(transport, "loseConnection", None)
        (abort or transport.stopProducing)()

    # -- IProtocol

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        if self._dropped:
            self._cut()
        elif self._consumer is not None:
            self._consumer.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._consumer is not None:
            self._consumer.write(data)
        if self._paused and self.transport is not None:
            # A stock body begins by resuming its connection, whatever was asked for before.
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        consumer.unregisterProducer()
        if reason.check(ResponseDone, PotentialDataLoss):
            consumer.finish([])
        else:
            consumer.fail(_brokeOff(reason))


def _brokeOff(reason: Failure) -> ProxyError:
    """
    @return: why a body has ended too early, in the proxy's words.
    """
    reasons = [each.value for each in getattr(reason.value, "reasons", None) or [reason]]
    for each in reasons:
        if isinstance(each, ProxyError):
            return each
    told = "; ".join(str(each) or type(each).__name__ for each in reasons)
    error = UpstreamError(f"the upstream broke off in the middle of its response: {told}", Stage.BODY, Sent.ALL)
    error.__cause__ = reason.value
    return error
