"""
One side of the wire alone, in memory: a site whose responder is the test, and a pool whose upstream is the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.memory import MemoryNetwork, MemoryTransport
from tests.support.world import outboundRequest, readResponses
from twistproxy.body import BytesBody
from twistproxy.core.exchange import Exchange
from twistproxy.errors import ProxyError
from twistproxy.events import ExchangeRecord
from twistproxy.message import OutboundRequest, Response
from twistproxy.server.site import ProxySite
from twistproxy.upstream.transport import PooledTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(target: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    """A GET."""
    return b"\r\n".join((b"GET %b HTTP/%b" % (target, version), b"Host: a", *lines, b"", b""))


def post(length: int, *lines: bytes, body: bytes = b"", target: bytes = b"/upload") -> bytes:
    """A POST whose body is perhaps still to come."""
    return b"\r\n".join((b"POST %b HTTP/1.1" % target, b"Host: a", b"Content-Length: %d" % length, *lines, b"", body))


def bodies(client: MemoryTransport) -> list[bytes]:
    """The bodies of all responses that the client has got since last asked."""
    return [each.body for each in readResponses(client.take(), ended=True)]


def failure(receiver: Receiver) -> tuple[Any, ...]:
    """How a request failed."""
    error = receiver.error
    return error.side, error.stage, error.sent, error.timeout


class Server:
    """
    A site whose responder is the test.

    @ivar exchanges: those that were begun, in order.
    """

    def __init__(self, respond: Callable[[Exchange], None] | None = None, **options: Any) -> None:
        self.network = network = MemoryNetwork()
        self.exchanges: list[Exchange] = []
        self.records: list[ExchangeRecord] = []
        self.respond = respond or self.exchanges.append
        self.site = ProxySite(
            lambda exchange: self.respond(exchange),
            network.wheel,
            network.clock.seconds,
            observers=[self.records.append],
            **options,
        )

    def client(self) -> MemoryTransport:
        """A client."""
        return self.network.connect(self.site)

    def answer(self, body: Any = b"", status: int = 200) -> None:
        """Answer the oldest exchange that is not answered."""
        self.exchanges.pop(0).answer(Response(status, body=body))
        self.network.run()


class Receiver:
    """
    Is told what becomes of a request, and takes the response's body.

    @ivar told: everything, in order.
    """

    def __init__(self, deliver: bool = True) -> None:
        self.told: list[Any] = []
        self.response: Any = None
        self.error: Any = None
        self.producer: Any = None
        self._deliver = deliver

    def informationalReceived(self, response: Any) -> None:
        self.told.append(response.status)

    def responseReceived(self, response: Any) -> None:
        self.response = response
        self.told.append(response.status)
        if isinstance(response.body, bytes):
            self.told.append(response.body)
        elif self._deliver:
            response.body.deliver(self)

    def roundTripFailed(self, error: ProxyError) -> None:
        self.error = error
        self.told.append("failed")

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def finish(self, trailers: list[bytes]) -> None:
        self.told.append(trailers)

    def fail(self, error: ProxyError) -> None:
        self.error = error
        self.told.append("broken")


class Upload:
    """
    A request's body that comes as the test says.

    @ivar events: what its consumer did to it.
    """

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.consumer: Any = None
        self.events: list[str] = []

    def deliver(self, consumer: Any) -> None:
        self.consumer = consumer
        consumer.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


class Upstream:
    """A pool whose connections lead to the test."""

    def __init__(self, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.transport = PooledTransport(self.network, self.network.wheel, **options)

    def ask(
        self, body: Any = b"", method: bytes = b"GET", deliver: bool = True, **attributes: Any
    ) -> tuple[OutboundRequest, Receiver]:
        """Send a request."""
        outbound = outboundRequest(method, body=body)
        for name, value in attributes.items():
            setattr(outbound, name, value)
        receiver = Receiver(deliver)
        self.transport.begin(outbound, receiver)
        self.network.run()
        return outbound, receiver

    @property
    def line(self) -> MemoryTransport:
        """The latest connection."""
        return self.network.dialed[-1]

    @property
    def idle(self) -> int:
        """How many connections wait for reuse."""
        return sum(len(pool.idle) for pool in self.transport.pools.values())

    def run(self) -> None:
        """Let things happen."""
        self.network.run()


class Lying(BytesBody):
    """A body that is not as long as it says."""

    def __init__(self, data: bytes, length: int) -> None:
        super().__init__(data)
        self.length = length


def reused(upstream: Upstream) -> None:
    """Make a connection that has carried a request."""
    upstream.ask()
    upstream.line.send(OK)
    upstream.line.take()
    assert upstream.idle == 1
