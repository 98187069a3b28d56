# -*- test-case-name: tests.web.test_siterequest -*-
"""
What a true C{twisted.web.server.Request} has in the place of an C{HTTPChannel}, when our own wire serves it.

The request writes as it always does.  L{ExchangeChannel} takes its framing off again and makes a response of it, which
goes through the exchange like any other: framed by our wire, counted, told to observers.

What is written in one turn of the reactor goes out at once: the head waits for what follows it, until the resource is
done, or returns from C{render}, or the reactor has its next turn.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistproxy.core.draft import draftResponse
from twistproxy.core.errorpage import errorResponse
from twistproxy.core.exchange import Exchange
from twistproxy.core.flowdriver import Flow
from twistproxy.core.handover import contextOf
from twistproxy.core.interposed import beneath
from twistproxy.core.states import ResponseSide
from twistproxy.errors import ClientError, ClientLeft, HookFailed, ProxyError, Sent, Side
from twistproxy.message import Response
from twistproxy.rules.framing import hasNoBody
from twistproxy.web.answer import AnswerBody, AnswerHead
from twistproxy.web.pulled import PulledProducer

#: What may wait for the rest of what is written in one turn, in bytes.
_HELD = 256 * 1024


class ClosedByResource(ProxyError):
    """
    A resource has closed the connection of its request.
    """


class ExchangeChannel:
    """
    The channel of one request.

    @ivar exchange: the exchange that the request belongs to.
    @ivar site: the site, as C{request.site}.
    @ivar factory: the same; its C{log} is called for each request that has finished.
    @ivar transport: the connection's byte transport.
    @ivar request: the request.
    @ivar found: what the look-up at the head has found, until the request asks for it.
    @ivar collected: whether the body is in the request's C{content}.
    @ivar over: whether nothing is expected of the request any more.
    """

    _log = Logger()

    def __init__(self, exchange: Exchange, site: Any, clock: Any) -> None:
        """
        @param clock: seconds since the epoch, for the Date of our own error pages.
        """
        self.exchange = exchange
        self.site = site
        self.factory = site
        self.transport: Any = beneath(exchange._downstream).transport
        self.request: Any = None
        self._clock = clock
        self._head: AnswerHead | None = None
        self._wrong: ProxyError | None = None
        self._held: list[bytes] = []
        self._heldSize = 0
        self._body: AnswerBody | None = None
        self._producer: Any = None
        self.found: Any = None
        self.collected = False
        self.over = False
        self._within = contextOf(exchange).run
        self._waiting: Any = None
        self._rendering = False
        self._call: Any = None

    # -- what becomes of the exchange

    def flow(self) -> Flow:
        """
        Wait for the answer and deliver it.
        """
        exchange = self.exchange
        try:
            response = yield
            yield from exchange.deliver(response)
        except ProxyError as error:
            self._failed(error)

    def _failed(self, error: ProxyError) -> None:
        """
        The exchange cannot go on as it should.
        """
        exchange, record = self.exchange, self.exchange.record
        if record.error is None:
            record.error = error
        exchange.giveUp()
        self.lost(error)
        if isinstance(error, ClientLeft):
            record.status = error.status
        elif exchange.responseSide is not ResponseSide.NOTHING or isinstance(error, ClosedByResource):
            exchange.cut()
        else:
            try:
                exchange.sendAtOnce(self._page(error))
            except ProxyError:
                exchange.cut()

    def _page(self, error: ProxyError) -> Response:
        response = errorResponse(error, self.exchange.request, self.exchange.record.requestID)
        draftResponse(response, self._clock())
        return response

    def within(self, hook: Any, *arguments: Any) -> Any:
        """
        Call a resource in the C{contextvars} context of the request.

        @return: what C{hook} returns.
        """
        return self._within(hook, *arguments)

    def waitsFor(self, waiting: Any) -> None:
        """
        @param waiting: a Deferred to be cancelled if the client leaves, or C{None}.
        """
        self._waiting = waiting

    def refuse(self, error: ProxyError) -> None:
        """
        Answer with an error, if nothing was sent yet; else cut the response off.
        """
        self.exchange.broken(error)

    def render(self) -> None:
        """
        The body is here: let the request find its resource and render it.
        """
        exchange, request = self.exchange, self.request
        self._rendering = True
        try:
            self._within(request.requestReceived, *asked(exchange))
        except Exception as error:
            self._log.failure("{request} failed on {exchange}", request=request, exchange=exchange)
            self.refuse(_failure(request, error))
        finally:
            self._rendering = False
        self._release()

    def lost(self, error: ProxyError) -> None:
        """
        Nobody will see the rest of what the request writes.
        """
        if self.over:
            return
        self.over = True
        self._drop()
        self._body = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.stopProducing()
            except Exception:
                self._log.failure("{producer} failed to stop", producer=producer)
        left = isinstance(error, ClientLeft)
        reason = ConnectionDone("the client left") if left else ConnectionAborted(error.reason)
        self._tell(self.request.connectionLost, Failure(reason))

    def ended(self) -> None:
        """
        The exchange was given to somebody else, and is over.
        """
        if self.over:
            return
        if self.exchange.responseSide is ResponseSide.COMPLETE:
            self.over = True
            request = self.request
            request.startedWriting = 1
            request.code = self.exchange.record.status
            self._tell(request.finish)
        else:
            self.lost(self.exchange.record.error or ClientLeft(self.exchange.stage()))

    def _tell(self, told: Any, *arguments: Any) -> None:
        try:
            told(*arguments)
        except Exception:
            self._log.failure("{request} failed as it ended", request=self.request)

    # -- what a request calls

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """
        The head of the answer.
        """
        # the wire sends chunks of its own
        self.request.chunked = 0
        if self.over:
            return
        try:
            self._head = AnswerHead(int(code), reason, headers)
        except (TypeError, ValueError) as error:
            # told when the request is done with writing: it does not expect to lose its channel meanwhile
            self._log.error(
                "{request} was answered with what cannot be sent: {reason}", request=self.request, reason=str(error)
            )
            self._wrong = _failure(self.request, error)
        if not self._rendering:
            self._call = self.site.reactor.callLater(0, self._release)

    def write(self, data: bytes) -> None:
        """
        A piece of the answer's body.
        """
        if self.over or self._wrong is not None or not data:
            return
        if self._body is not None:
            self._body.write(bytes(data))
            return
        self._held.append(bytes(data))
        self._heldSize += len(data)
        if self._heldSize > _HELD:
            self._release()

    def writeSequence(self, pieces: Any) -> None:
        """
        The same in several pieces.
        """
        self.write(b"".join(pieces))

    def requestDone(self, request: Any) -> None:
        """
        The answer is complete.
        """
        if self.over:
            return
        self.over = True
        body, head, held = self._body, self._head, b"".join(self._held)
        self._body = None
        self._drop()
        if body is not None:
            body.finish()
            return
        if head is not None and head.length not in (None, len(held)):
            if not hasNoBody(self.exchange.request.method, head.response.status):
                wrong = f"a body of {len(held)} bytes with a Content-Length of {head.length}"
                self._log.error("{request} was answered with {wrong}", request=request, wrong=wrong)
                self._wrong = _failure(request, ValueError(wrong))
        if self._wrong is not None:
            self.refuse(self._wrong)
        elif head is not None:
            self._send(head, held)

    def _release(self) -> None:
        """
        Send what there is; the rest of the body follows.
        """
        head, held = self._head, self._held
        self._drop()
        if self.over:
            return
        if self._wrong is not None:
            self.refuse(self._wrong)
        elif head is not None:
            self._body = AnswerBody(head.length, held, self._pause)
            self._send(head, self._body)

    def _send(self, head: AnswerHead, body: Any) -> None:
        response = head.response
        response.body = body
        # RFC 9110 8.6: for a 304 it would be the length of the 200, which a resource's 0 is not
        response.contentLength = (head.length or None) if response.status == 304 else head.length
        if head.close:
            self._closeBehind()
        self.exchange.responseReceived(response)

    def _drop(self) -> None:
        self._head, self._held, self._heldSize = None, [], 0
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    # -- backpressure

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        From now on C{producer} is paused while the client does not keep up.
        """
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered: {self._producer!r} was never unregistered")
        if not streaming:
            producer = PulledProducer(producer, self.site.reactor.callLater, self._producerFailed)
            producer.start()
        self._producer = producer
        if self._body is not None and self._body.paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        There is no producer any more.
        """
        producer, self._producer = self._producer, None
        if isinstance(producer, PulledProducer):
            producer.stop()

    def _producerFailed(self) -> None:
        failure = Failure()
        self._log.failure("the producer of {request} failed", failure, request=self.request)
        self._producer = None
        self.refuse(_failure(self.request, failure.value))

    def _pause(self, paused: bool) -> None:
        if self._producer is not None:
            (self._producer.pauseProducing if paused else self._producer.resumeProducing)()

    # -- what else there is of a channel

    def isSecure(self) -> bool:
        """
        @return: whether the client speaks TLS with us.
        """
        return self.exchange.request.peer.scheme == b"https"

    def getPeer(self) -> Any:
        """
        @return: the client's address.
        """
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """
        @return: our own.
        """
        return self.transport.getHost()

    def loseConnection(self) -> None:
        """
        Close the connection; what has been written is sent.
        """
        if self.over:
            return
        self._release()
        reason = "the resource closed the connection"
        self.exchange.broken(ClosedByResource(reason, self.exchange.stage(), Side.INTERNAL, Sent.NOTHING, 500))

    def abortConnection(self) -> None:
        """
        Close the connection now.
        """
        self.transport.abortConnection()

    forceAbortClient = abortConnection

    def setTimeout(self, seconds: float | None) -> None:
        """
        A stock channel closes a connection that is idle while a resource takes its time.  Ours does not.
        """

    @property
    def persistent(self) -> bool:
        """
        Whether the connection is kept open behind this request, as far as the client goes.
        """
        return self.exchange.request.keepAlive

    @persistent.setter
    def persistent(self, persistent: bool) -> None:
        if not persistent:
            self._closeBehind()

    def _closeBehind(self) -> None:
        beneath(self.exchange._downstream).closeBehind()

    def _protocolUpgradeForWebsockets(self, protocol: Any) -> None:
        """
        Called by C{twisted.web.websocket}, which then writes past everything.
        """
        raise RuntimeError(
            "a resource cannot take over a connection of a ProxySite: serve WebSocket on a port of its own, and "
            "mount a ReverseProxyResource for that here"
        )

    def _respondToBadRequestAndDisconnect(self) -> None:
        """
        Called by a request that cannot read a form.
        """
        self.refuse(ClientError("a form that cannot be read"))


def asked(exchange: Exchange) -> tuple[bytes, bytes, bytes]:
    """
    @return: method, target and version, as a request is told them.
    """
    request = exchange.request
    return request.method, request.target, b"HTTP/1.1" if request.minor else b"HTTP/1.0"


def _failure(request: Any, error: BaseException | None) -> HookFailed:
    """
    @return: what a resource did wrong, as a failure of its exchange.
    """
    failed = HookFailed("resource", f"{request!r}: {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
