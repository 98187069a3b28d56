"""
The native transport: one pool per target.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.support.flow import Body, Taker
from tests.support.memory import MemoryNetwork
from twistproxy import roundtrip
from twistproxy.errors import HookFailed, ProxyError, Unavailable, UpstreamError
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import ICallbackTransport, IRoundTripReceiver, ITransport
from twistproxy.message import OutboundRequest, Response
from twistproxy.upstream import transport as module
from twistproxy.upstream.transport import PooledTransport
from twistproxy.upstreams import Target

ONE = Target("http", "one.test", 80)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def outboundTo(target: Target | None, body: Any = b"") -> OutboundRequest:
    """@return: a request."""
    return OutboundRequest(b"GET", b"/", target, b"one.test", [], body, ExchangeRecord(lambda: 0.0))


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """@return: a list that will hold what becomes of a Deferred."""
    found: list[Any] = []
    deferred.addBoth(lambda result: found.append(getattr(result, "value", result)))
    return found


class Native:
    """A native transport on a network in memory."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.transport = PooledTransport(self.network, self.network.wheel)

    def ask(self, target: Target | None = ONE) -> list[Any]:
        """@return: a list that will hold what becomes of a request."""
        found = outcome(self.transport.roundTrip(outboundTo(target)))
        self.network.run()
        return found


@pytest.fixture
def native() -> Any:
    """A native transport, of which nothing is left afterwards."""
    made = Native()
    yield made
    made.transport.cut()
    made.network.end()
    assert [pool.connections for pool in made.transport.pools.values()] == [0] * len(made.transport.pools)


def test_interfaces(native: Native) -> None:
    """It is both kinds of transport."""
    assert verifyObject(ITransport, native.transport)
    assert verifyObject(ICallbackTransport, native.transport)
    assert IRoundTripReceiver.implementedBy(roundtrip._Receiver)
    assert verifyObject(IRoundTripReceiver, roundtrip._Receiver(outboundTo(ONE)))


def test_roundTrip(native: Native) -> None:
    """A Deferred of the response."""
    found = native.ask()
    native.network.dialed[0].send(OK)
    assert [(response.status, response.body) for response in found] == [(200, b"hello")]


def test_streams(native: Native) -> None:
    """B5.4: which fires at the head, while the body is still coming."""
    found = native.ask()
    native.network.dialed[0].send(OK[:-2])
    taker = Taker()
    found[0].body.deliver(taker)
    native.network.dialed[0].send(OK[-2:])
    assert taker.told == [b"hel", b"lo", ("finish", [])]
    found[0].abort()
    native.network.run()
    assert native.network.dialed[0].ended == ""


def test_abort(native: Native) -> None:
    """B7.1: giving the response up ends the request at once."""
    found = native.ask()
    native.network.dialed[0].send(OK[:-2])
    found[0].abort()
    found[0].abort()
    native.network.run()
    assert native.network.dialed[0].ended == "reset"


def test_interims(native: Native) -> None:
    """B5.6: interim responses go to who asked for them."""
    seen: list[Response] = []
    outbound = outboundTo(ONE)
    outbound.onInformational = seen.append
    found = outcome(native.transport.roundTrip(outbound))
    native.network.run()
    native.network.dialed[0].send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    assert ([response.status for response in seen], found[0].status) == ([103], 200)


def test_nobodyAskedForInterims(native: Native) -> None:
    """B5.6: and to nobody otherwise."""
    found = native.ask()
    native.network.dialed[0].send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert found[0].status == 200


def test_fails(native: Native) -> None:
    """It fails with errors that say stage, side and what was sent."""
    native.network.refusing = True
    [error] = native.ask()
    assert type(error) is UpstreamError


@pytest.mark.parametrize("phase", ["connecting", "waiting"])
def test_cancel(native: Native, phase: str) -> None:
    """B7.1: cancelling ends the request at once."""
    native.network.holding = phase == "connecting"
    deferred = native.transport.roundTrip(outboundTo(ONE))
    found = outcome(deferred)
    native.network.run()
    deferred.cancel()
    native.network.holding = False
    native.network.run()
    assert [type(error) for error in found] == [CancelledError]
    assert [line.ended for line in native.network.dialed] == ([] if phase == "connecting" else ["reset"])


def test_noTarget(native: Native) -> None:
    """A request that names no upstream is a bug of who made it."""
    [error] = native.ask(None)
    assert (type(error), error.status) == (HookFailed, 500)


def test_poolPerTarget(native: Native) -> None:
    """B8.2: connections are shared by targets that differ in nothing that matters to them, and by no others."""
    alike = [ONE, Target("http", "one.test", 80, b"/base", b"q")]
    others = [
        Target("http", "two.test", 80),
        Target("http", "one.test", 81),
        Target("https", "one.test", 80),
        Target("https", "one.test", 80, tls="other settings"),
        Target("http", "one.test", 80, socketPath="/run/one.sock"),
    ]
    for target in alike + others:
        native.ask(target)
        native.network.dialed[-1].send(OK)
    assert len(native.transport.pools) == 6
    assert len(native.network.dialed) == 6
    native.ask(alike[1])
    assert len(native.network.dialed) == 6


def test_manyTargets(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    """B8.2: a director that makes up targets as it goes does not fill the memory: pools without connections are forgotten."""
    monkeypatch.setattr(module, "MAX_POOLS", 3)
    native.ask()
    native.network.refusing = True
    for number in range(10):
        assert isinstance(native.ask(Target("http", "many.test", 1000 + number))[0], ProxyError)
    assert len(native.transport.pools) <= 3
    assert ONE.key in native.transport.pools


def test_close(native: Native) -> None:
    """B10.2: a closed transport takes no new requests, neither to targets it knows nor to others; 503."""
    running = native.ask()
    native.transport.close()
    for target in (ONE, Target("http", "two.test", 80)):
        [error] = native.ask(target)
        assert (type(error), error.status) == (Unavailable, 503)
    native.network.dialed[0].send(OK)
    assert running[0].status == 200
    assert native.transport.pools[ONE.key].connections == 0


def test_cut(native: Native) -> None:
    """B3.6: cutting tells everybody."""
    running = native.ask()
    native.transport.cut()
    native.network.run()
    assert [type(error) for error in running] == [UpstreamError]


def test_upload(native: Native) -> None:
    """B4.1: a body streams through a Deferred as through anything else."""
    body = Body(4)
    found = outcome(native.transport.roundTrip(outboundTo(ONE, body)))
    native.network.run()
    body.consumer.write(b"ab")
    native.network.run()
    assert native.network.dialed[0].take().endswith(b"\r\n\r\nab")
    body.consumer.write(b"cd")
    body.consumer.finish([])
    native.network.run()
    native.network.dialed[0].send(OK)
    assert found[0].status == 200
