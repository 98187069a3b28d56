"""
Tunnels: two directions, each with an end of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.flow import Bench, Body, Taker, request, upstreamResponse
from tests.support.world import World
from twistproxy.core.tunnel import Tunnel
from twistproxy.deadlines import NEVER, Timeouts
from twistproxy.errors import ClientLeft, ProxyError, Side, Stage, UpstreamError
from twistproxy.message import TunnelEnd

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: any/1\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any/1\r\n\r\n"


class Side_:
    """One side of a tunnel: what it sends, what it is sent, and how it is ended."""

    def __init__(self, onDeliver: Callable[[Any], Any] = lambda consumer: None) -> None:
        self.source = Body(None, onDeliver)
        self.sink = Taker()
        self.told: list[str] = []
        self.end = TunnelEnd(
            self.source, self.sink, lambda: self.told.append("close"), lambda: self.told.append("abort")
        )


class Connection:
    """What a 101 came over."""

    def __init__(self, side: Side_) -> None:
        self._side = side

    def tunnel(self) -> TunnelEnd:
        return self._side.end


def switched(client: Side_, origin: Side_, idle: float | None = None) -> tuple[Bench, Any]:
    """@return: an exchange that has become a tunnel."""
    response = upstreamResponse(101, b"")
    response.connection = Connection(origin)
    bench = Bench(lambda outbound, receiver: receiver.responseReceived(response), timeouts=Timeouts(tunnelIdle=idle))
    bench.downstream.tunnelEnd = client.end
    return bench, bench.start(request(UPGRADE[:-4]))


def test_bothWays() -> None:
    """B6.1: bytes go both ways and are counted."""
    client, origin = Side_(), Side_()
    _, exchange = switched(client, origin)
    client.source.consumer.write(b"ping")
    origin.source.consumer.write(b"pong!")
    assert (origin.sink.told, client.sink.told) == ([b"ping"], [b"pong!"])
    assert exchange.explain()["bytes"] == {"request": 4, "response": 5}
    assert (exchange.record.status, exchange.record.tunnelled, exchange.stage()) == (101, True, Stage.TUNNEL)
    client.source.consumer.write(b"!")
    exchange.clientLeft()
    assert (exchange.record.requestBytes, exchange.record.responseBytes) == (5, 5)


def test_backpressure() -> None:
    """B6.4: each side is the producer of the other."""
    client, origin = Side_(), Side_()
    _, exchange = switched(client, origin)
    assert (origin.sink.producer, client.sink.producer) == (client.source, origin.source)
    client.source.consumer.unregisterProducer()
    assert origin.sink.producer is None
    exchange.clientLeft()


@pytest.mark.parametrize("first", ["client", "origin"])
def test_halfClose(first: str) -> None:
    """B6.3: the end of one side closes the write side of the other, and leaves the other direction alone."""
    client, origin = Side_(), Side_()
    bench, exchange = switched(client, origin)
    one, other = (client, origin) if first == "client" else (origin, client)
    one.source.consumer.finish([])
    assert (other.sink.told, exchange.settled) == ([("finish", [])], False)
    other.source.consumer.write(b"still talking")
    assert one.sink.told == [b"still talking"]
    other.source.consumer.finish([])
    assert (client.told, origin.told, exchange.settled) == (["close"], ["close"], True)
    assert (bench.records[0].status, bench.records[0].error) == (101, None)
    assert bench.transport.carrier.aborted == 0


def test_endsAtOnce() -> None:
    """B6.3: both sides may have ended before anything was pumped."""
    client, origin = (Side_(lambda consumer: consumer.finish([])) for _ in range(2))
    bench, exchange = switched(client, origin)
    assert (client.told, origin.told, exchange.settled) == (["close"], ["close"], True)
    assert bench.records[0].error is None


def test_failsAtOnce() -> None:
    """B6.3: or broken off; then the other side is not even begun."""
    client, origin = Side_(), Side_(lambda consumer: consumer.fail(ValueError("reset")))
    bench, exchange = switched(client, origin)
    assert (client.told, origin.told, exchange.settled) == (["abort"], ["abort"], True)
    assert client.source.consumer is None
    assert bench.records[0].error.stage is Stage.TUNNEL


def test_oneSideFails() -> None:
    """B6.3: either side's reset ends both, and is that side's fault."""
    client, origin = Side_(), Side_()
    bench, _ = switched(client, origin)
    error = UpstreamError("broke off", Stage.TUNNEL)
    origin.source.consumer.fail(error)
    client.source.consumer.fail(ValueError("late"))
    assert (client.told, origin.told) == (["abort"], ["abort"])
    assert (bench.records[0].status, bench.records[0].error) == (101, error)


def test_lostAfterItsEnd() -> None:
    """B6.3: an upstream that has ended its side in order may still break off, which nobody would hear of otherwise."""
    client, origin = Side_(), Side_()
    bench, _ = switched(client, origin)
    origin.source.consumer.finish([])
    assert origin.end.onLost is not None
    origin.end.onLost(UpstreamError("reset", Stage.TUNNEL))
    assert (client.told, bench.records[0].error.side) == (["abort"], Side.UPSTREAM)
    assert origin.end.onLost is None


def test_clientLeaves() -> None:
    """B7.1: when the client leaves both sides are cut."""
    client, origin = Side_(), Side_()
    bench, exchange = switched(client, origin)
    exchange.clientLeft()
    assert (client.told, origin.told) == (["abort"], ["abort"])
    [record] = bench.records
    assert (record.status, type(record.error), record.error.stage) == (499, ClientLeft, Stage.TUNNEL)


def test_idle() -> None:
    """B9: a tunnel in which nothing moves is cut; bytes of either side keep it."""
    client, origin = Side_(), Side_()
    bench, exchange = switched(client, origin, idle=2.0)
    for side in (client, origin):
        bench.clock.pump([0.1] * 15)
        side.source.consumer.write(b"x")
    bench.clock.pump([0.1] * 15)
    assert not exchange.settled
    bench.clock.pump([0.1] * 10)
    assert (client.told, origin.told) == (["abort"], ["abort"])
    assert (bench.records[0].error.timeout, bench.records[0].error.stage) == ("tunnelIdle", Stage.TUNNEL)
    assert bench.clock.getDelayedCalls() == []


def test_withoutWheel() -> None:
    """B6.4: without a limit of time a tunnel needs no wheel."""
    client, origin = Side_(), Side_()
    bench = Bench()
    exchange = bench.start()
    Tunnel(exchange, client.end, origin.end, None, NEVER).start()
    client.source.consumer.finish([])
    origin.source.consumer.fail(ValueError("x"))
    assert (client.told, origin.told) == (["abort"], ["abort"])
    assert exchange.settled


# -- with real wires


def tunnel(world: World) -> tuple[Any, Any]:
    """@return: both ends of a tunnel through a proxy."""
    world.network.watching.clear()
    client = world.client()
    client.send(UPGRADE)
    upstream = world.upstream()
    assert b"\r\nConnection: Upgrade\r\nUpgrade: any/1\r\n" in upstream.take()
    upstream.send(SWITCHED)
    head = client.take()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: any/1\r\n\r\n" in head
    return client, upstream


def test_whole(makeWorld: Any) -> None:
    """B6.3: with half-closes through real wires, and both connections closed in order."""
    world = makeWorld()
    client, upstream = tunnel(world)
    client.send(b"ping")
    client.sendEOF()
    assert (upstream.take(), upstream.ended) == (b"ping", "closed")
    upstream.send(b"pong")
    upstream.sendEOF()
    assert (client.take(), client.ended) == (b"pong", "closed")
    [record] = world.records
    assert (record.status, record.tunnelled, record.error) == (101, True, None)
    assert (record.requestBytes, record.responseBytes) == (4, 4)


def test_upstreamLostAfterItsEnd(makeWorld: Any) -> None:
    """B6.3: an upstream that ends its side and then resets ends the client's too."""
    world = makeWorld()
    client, upstream = tunnel(world)
    upstream.sendEOF()
    assert world.records == []
    upstream.sendReset()
    assert client.lost
    assert (world.records[0].error.side, world.records[0].error.stage) == (Side.UPSTREAM, Stage.TUNNEL)


def test_realIdle(makeWorld: Any) -> None:
    """B9: an idle tunnel ends on both sides."""
    world = makeWorld(timeouts=Timeouts(tunnelIdle=3.0))
    client, upstream = tunnel(world)
    world.network.advance(4.0)
    assert (client.ended, upstream.ended) == ("reset", "reset")
    assert world.records[0].error.timeout == "tunnelIdle"


def test_modifiedTunnel(makeWorld: Any) -> None:
    """B3.3: a modifier sees a 101, and may change its head."""

    def modify(response: Any) -> None:
        assert response.status == 101
        response.headers.set("X-Seen", "yes")
        response.headers.set("Connection", "close")

    world = makeWorld(modifyResponse=modify)
    world.network.watching.clear()
    client = world.client()
    client.send(UPGRADE)
    world.upstream().send(SWITCHED)
    lines = client.take().split(b"\r\n")
    assert b"X-Seen: yes" in lines
    assert [line for line in lines if line.startswith(b"Connection")] == [b"Connection: Upgrade"]


def test_refusedTunnel(makeWorld: Any) -> None:
    """B3.3: a modifier that refuses a 101 ends the upstream's connection; the client gets the refusal."""

    def modify(response: Any) -> None:
        response.status = 403
        response.reason = b"Forbidden"
        response.body = b"no"

    world = makeWorld(modifyResponse=modify)
    world.network.watching.clear()
    client = world.client()
    client.send(UPGRADE)
    world.upstream().send(SWITCHED)
    assert client.take().startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert (client.ended, world.upstream().ended) == ("", "reset")


def test_raisesOnTunnel(makeWorld: Any, loggedErrors: list[Any]) -> None:
    """B3.3: and one that raises gets it closed as well."""

    def modify(response: Any) -> None:
        raise ValueError("broken")

    world = makeWorld(modifyResponse=modify)
    world.network.watching.clear()
    client = world.client()
    client.send(UPGRADE)
    world.upstream().send(SWITCHED)
    assert client.take().startswith(b"HTTP/1.1 500 ")
    assert world.upstream().ended == "reset"
    assert isinstance(world.records[0].error, ProxyError)
    loggedErrors.clear()
