"""
Both neighbours of the flow, scripted: the server's wire below an exchange, and the transport behind it.

They stand in for other implementations of L{IDownstream} and L{ICallbackTransport}, such as ones that answer at once, or at
an odd moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from twistproxy.core.exchange import Exchange, ExchangeContext
from twistproxy.core.proxy import ProxyFlow
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.errors import Stage
from twistproxy.events import ExchangeRecord
from twistproxy.headers import Headers
from twistproxy.interfaces import IBody, IBodyConsumer, ICallbackTransport, ICarrier, IDownstream
from twistproxy.message import Peer, Request, Response, UpstreamResponse
from twistproxy.net.wheel import Wheel
from twistproxy.wire.h1head import RequestParser


def request(head: bytes = b"GET / HTTP/1.1\r\nHost: front.test", body: Any = b"", peer: str = "192.0.2.1") -> Request:
    """
    @param head: a request head without the empty line at its end.
    """
    made = RequestParser(128).parse(head, Peer(peer, 40000))
    made.body = body
    return made


def upstreamResponse(status: int = 200, body: Any = b"hello", lines: list[bytes] | None = None) -> UpstreamResponse:
    """
    @return: a response as a transport gives it.
    """
    response = UpstreamResponse(status, b"OK", 1, Headers(lines or []), None)
    response.body = body
    return response


@implementer(IDownstream)
class Downstream:
    """
    Notes what it is told to send.

    @ivar told: everything, in order.
    @ivar producer: who is paused while the client does not keep up.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.producer: Any = None
        self.tunnelEnd: Any = None
        self.onHead: Callable[[], Any] = lambda: None

    def sendInformational(self, status: int, reason: bytes, lines: list[bytes]) -> None:
        self.told.append(("interim", status))

    def sendHead(self, response: Response, length: int | None, content: bytes, end: bool) -> None:
        self.told.append(("head", response.status, length, content, end))
        self.lines = list(response.lines)
        self.onHead()

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def finish(self, trailers: list[bytes]) -> None:
        self.told.append(("finish", trailers))

    def abort(self) -> None:
        self.told.append("abort")

    def setProducer(self, producer: Any) -> None:
        self.producer = producer

    def switchProtocols(self, response: Response) -> Any:
        self.told.append(("head", response.status, None, b"", True))
        return self.tunnelEnd

    def exchangeEnded(self) -> None:
        self.told.append("ended")


@implementer(ICarrier)
class Carrier:
    """
    Counts how often it is aborted.
    """

    def __init__(self, stage: Stage = Stage.WAIT) -> None:
        self.stage = stage
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


@implementer(ICallbackTransport)
class Transport:
    """
    Notes what it is given, and answers as it is told: at once, or whenever the test calls the receiver.

    @ivar begun: requests and receivers.
    @ivar carrier: carries all of them.
    """

    def __init__(self, script: Callable[[Any, Any], Any] = lambda outbound, receiver: None) -> None:
        """
        @param script: called with each request and its receiver.
        """
        self.begun: list[tuple[Any, Any]] = []
        self.carrier = Carrier()
        self.script = script

    def begin(self, outbound: Any, receiver: Any) -> None:
        self.begun.append((outbound, receiver))
        outbound.carrier = self.carrier
        outbound.record.tries += 1
        self.script(outbound, receiver)


@implementer(IBody)
class Body:
    """
    A body whose pieces come when the test says so.

    @ivar consumer: whom it is delivered to.
    @ivar told: what its consumer asks of it.
    """

    def __init__(self, length: int | None = None, onDeliver: Callable[[Any], Any] = lambda consumer: None) -> None:
        self.length = length
        self.consumer: Any = None
        self.told: list[str] = []
        self._onDeliver = onDeliver

    def deliver(self, consumer: Any) -> None:
        self.consumer = consumer
        consumer.registerProducer(self, True)
        self._onDeliver(consumer)

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


@implementer(IBodyConsumer)
class Taker:
    """
    Takes a body.

    @ivar told: what came, in order.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def finish(self, trailers: list[bytes]) -> None:
        self.told.append(("finish", trailers))

    def fail(self, error: Exception) -> None:
        self.told.append(error)


class Bench:
    """
    A flow between scripted neighbours.

    @ivar records: of the exchanges that have settled.
    """

    def __init__(
        self,
        script: Callable[[Any, Any], Any] = lambda outbound, receiver: None,
        director: Any = None,
        *,
        transport: Any = None,
        settings: ProxySettings | None = None,
        timeouts: Timeouts | None = None,
        **options: Any,
    ) -> None:
        """
        @param options: for L{ProxyFlow}.
        """
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.transport = transport or Transport(script)
        self.flow = ProxyFlow(
            director or TargetDirector("http://origin.test"),
            self.transport,
            settings=settings or ProxySettings(),
            timeouts=timeouts or Timeouts(),
            wheel=self.wheel,
            clock=self.clock,
            wallClock=lambda: 784111777.0,
            **options,
        )
        self.records: list[ExchangeRecord] = []
        self.context = ExchangeContext(self.flow.respond, self.clock.seconds, [self.records.append])
        self.downstream = Downstream()

    def start(self, inbound: Request | None = None) -> Exchange:
        """
        Start an exchange.
        """
        exchange = self.context.begin(self.downstream, inbound or request())
        exchange.start()
        return exchange
