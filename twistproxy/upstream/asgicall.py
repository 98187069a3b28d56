# -*- test-case-name: tests.upstream.test_asgi -*-
"""
One call of an ASGI application: an exchange of the proxy's own server on one side, C{scope}, C{receive} and C{send} on
the other.

Both directions go no faster than their reader: C{receive} is what reads the request's body off the connection, and
C{send} waits while the client does not keep up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import quote, unquote

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from twistproxy.core.errorpage import plainResponse
from twistproxy.errors import ClientLeft, ProxyError
from twistproxy.headers import Headers, checkLines, fieldLine
from twistproxy.interfaces import IBody, IBodyConsumer
from twistproxy.message import Request, Response
from twistproxy.rules.fields import OF_CONNECTION

#: Of a request's body, what is read before the application asks for it, in bytes.
AHEAD = 64 * 1024

#: Extensions of the protocol that are understood.
EXTENSIONS: dict[str, dict[str, Any]] = {"http.response.trailers": {}, "http.response.early_hint": {}}


class ClientDisconnected(OSError):
    """
    What C{send} raises when nobody takes the response any more.
    """


class Misuse(RuntimeError):
    """
    The application does not keep to the protocol.
    """


def scopeOf(request: Request, rootPath: str, state: dict[str, Any]) -> dict[str, Any]:
    """
    @return: the scope of a request.  Who asks, and by which scheme, is what the proxy in front says in
        C{X-Forwarded-For} and C{X-Forwarded-Proto}: nobody else can reach the application.
    """
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    known = dict(headers)
    client = known.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip().decode("latin-1")
    scheme = known.get(b"x-forwarded-proto", b"").decode("latin-1")
    path = rootPath + unquote(request.path.decode("latin-1"), errors="replace")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": request.method.decode("ascii"),
        "scheme": scheme if scheme in ("http", "https") else "http",
        "path": path,
        "raw_path": quote(rootPath).encode("ascii") + request.path,
        "query_string": request.query,
        "root_path": rootPath,
        "headers": headers,
        "client": (client or "127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "state": state.copy(),
        "extensions": EXTENSIONS,
    }


@implementer(IBodyConsumer)
class Incoming:
    """
    The request's body, as C{receive} gives it.
    """

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._producer: Any = None
        self._paused = False
        self._asked = False
        self._complete = False
        self._told = False
        self._gone = False
        self._news = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        """
        See the specification of ASGI.
        """
        if not self._asked:
            self._ask()
        while not (self._gone or self._pieces or (self._complete and not self._told)):
            self._news.clear()
            await self._news.wait()
        if self._gone:
            return {"type": "http.disconnect"}
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        self._told = self._complete
        if self._paused and not self._complete:
            self._paused = False
            self._producer.resumeProducing()
        return {"type": "http.request", "body": body, "more_body": not self._told}

    def _ask(self) -> None:
        self._asked = True
        body: Any = self._exchange.request.body
        if type(body) is bytes:
            self._pieces.append(body)
            self._complete = True
            return
        expected = self._exchange.request.headers.get(b"expect")
        if expected is not None and expected.lower() == b"100-continue":
            self._exchange.informationalReceived(Response(100))
        body.deliver(self)

    def disconnect(self) -> None:
        """
        There is nobody any more.
        """
        self._gone = True
        self._news.set()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        self._news.set()
        if self._held >= AHEAD and not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()

    def finish(self, trailers: list[bytes]) -> None:
        self._complete = True
        self._news.set()

    def fail(self, error: Exception) -> None:
        self.disconnect()


@implementer(IBody)
class Outgoing:
    """
    The response's body, as the application sends it.

    @ivar length: its length in bytes, if the application has said so.
    @ivar stopped: whether nobody wants it any more.
    """

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.stopped = False
        self._consumer: Any = None
        self._going = asyncio.Event()
        self._going.set()

    def deliver(self, consumer: Any) -> None:
        self._consumer = consumer
        consumer.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._going.clear()

    def resumeProducing(self) -> None:
        self._going.set()

    def stopProducing(self) -> None:
        self.stopped = True
        self._consumer = None
        self._going.set()

    async def write(self, data: bytes) -> None:
        """
        Send a piece, and wait until the client can take more.
        """
        if self._consumer is not None and data:
            self._consumer.write(data)
        await self._going.wait()

    def finish(self, trailers: list[bytes]) -> None:
        """
        That was all of it.
        """
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.unregisterProducer()
            consumer.finish(trailers)

    def fail(self, error: Exception) -> None:
        """
        It will never be complete.
        """
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.unregisterProducer()
            consumer.fail(error)


class Call:
    """
    One call of the application.

    @ivar task: runs it.
    """

    _log = Logger()

    def __init__(self, application: Callable[..., Any], scope: dict[str, Any], exchange: Any, linger: float) -> None:
        """
        @param linger: how long it may run when its client has left, in seconds.
        """
        self._application = application
        self._scope = scope
        self._exchange = exchange
        self._linger = linger
        self._incoming = Incoming(exchange)
        self._head: Deferred[Response] = Deferred(lambda _: None)
        self._start: dict[str, Any] | None = None
        self._body: Outgoing | None = None
        self._trailers: list[bytes] | None = None
        self._bodyEnded = self._ended = self._gone = self._bodiless = self._failed = False
        self.task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._run())

    def flow(self) -> Generator[None, Any, None]:
        """
        The flow of the exchange.
        """
        exchange = self._exchange
        try:
            response = yield from exchange.wait(self._head)
            yield from exchange.deliver(response)
        except ProxyError as error:
            if not (self._failed or isinstance(error, ClientLeft)):
                # the application has no other way to learn that its own length was wrong
                self._log.warn("{exchange} was cut off: {reason}", exchange=exchange, reason=error.reason)
            exchange.record.error = error
            exchange.cut()
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        """
        Nobody listens any more.  An application that has answered may go on; another has been left.
        """
        self._gone = True
        self._incoming.disconnect()
        if not (self._ended or self._bodiless or self.task.done()):
            cancelling = asyncio.get_running_loop().call_later(self._linger, self.task.cancel)
            self.task.add_done_callback(lambda _: cancelling.cancel())

    async def _run(self) -> None:
        try:
            await self._application(self._scope, self._incoming.receive, self._send)
            if not (self._ended or self._gone or self._bodiless):
                raise Misuse("the application has returned without a complete response")
        except asyncio.CancelledError:
            self._broken(Misuse("the application was cancelled"))
        except ClientDisconnected:
            # as it should, when it is told
            self._broken(Misuse("the application takes its client for gone"))
        except Exception as error:
            if self._gone and not self._ended:
                # many frameworks raise when they are told that nobody is there any more
                self._log.info(
                    "the application failed after its client had left: {error!r} ({exchange})",
                    error=error,
                    exchange=self._exchange,
                )
            else:
                self._log.failure("the application failed on {exchange}", exchange=self._exchange)
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """
        There will be no more from the application.
        """
        if self._ended or self._gone or self._bodiless:
            return
        self._ended = self._failed = True
        if self._body is not None:
            self._body.fail(error)
        else:
            self._head.callback(plainResponse(500))

    # -- send

    async def _send(self, message: dict[str, Any]) -> None:
        if not self._bodiless and (self._gone or (self._body is not None and self._body.stopped)):
            raise ClientDisconnected("nobody takes the response any more")
        kind = message["type"]
        if self._ended:
            raise Misuse(f"{kind} behind the end of the response")
        if kind == "http.response.start" and self._start is None:
            status = message["status"]
            if not isinstance(status, int) or not 200 <= status <= 599:
                raise Misuse(f"{status!r} is no status of a final response")
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self._bodyEnded:
            await self._sendBody(bytes(message.get("body", b"")), bool(message.get("more_body", False)))
        elif kind == "http.response.trailers" and self._bodyEnded:
            self._sendTrailers(message)
        elif kind == "http.response.early_hint" and self._start is None:
            links = [fieldLine(b"Link", bytes(link)) for link in message.get("links", ())]
            hint = Response(103, Headers(links))
            self._exchange.informationalReceived(hint)
        else:
            raise Misuse(f"{kind!r} does not belong here")

    async def _sendBody(self, data: bytes, more: bool) -> None:
        assert self._start is not None
        trailers = bool(self._start.get("trailers", False))
        self._bodyEnded = not more
        if self._bodiless:
            return
        if self._body is None:
            response, length = self._response(trailers)
            if self._scope["method"] == "HEAD" or response.status in (204, 304):
                response.contentLength = length
                self._bodiless = True
                self._head.callback(response)
                return
            if not more and not trailers:
                if length not in (None, len(data)):
                    raise Misuse(f"a body of {len(data)} bytes, where Content-Length says {length}")
                response.body = data
                self._ended = True
                self._head.callback(response)
                return
            self._body = response.body = Outgoing(length)
            self._head.callback(response)
        await self._body.write(data)
        if self._bodyEnded and not trailers:
            self._ended = True
            self._body.finish([])

    def _response(self, trailers: bool) -> tuple[Response, int | None]:
        """
        @return: the response without its body, and what Content-Length says.
        """
        assert self._start is not None
        length: int | None = None
        pairs = []
        for name, value in self._start.get("headers", ()):
            name, value = bytes(name), bytes(value)
            lower = name.lower()
            if lower == b"content-length":
                if not value.isdigit():
                    raise Misuse(f"Content-Length is {value!r}")
                length = int(value)
            elif lower not in OF_CONNECTION:
                pairs.append((name, value))
        try:
            headers = Headers.of(pairs)
            checkLines(headers.lines)
        except ValueError as error:
            raise Misuse(str(error)) from None
        return Response(self._start["status"], headers), None if trailers else length

    def _sendTrailers(self, message: dict[str, Any]) -> None:
        if self._trailers is None:
            self._trailers = []
        self._trailers += [fieldLine(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        if not message.get("more_trailers", False):
            self._ended = True
            if self._body is not None:
                self._body.finish(self._trailers)
