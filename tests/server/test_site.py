"""
The factory to listen with.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IProtocolFactory
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from tests.support.memory import MemoryNetwork, MemoryTransport
from twistproxy.deadlines import Timeouts
from twistproxy.errors import Side, Stage
from twistproxy.interfaces import IDownstream, IObserver, IResponder
from twistproxy.limits import Limits
from twistproxy.message import Response
from twistproxy.server.site import ProxySite
from twistproxy.wire.h1server import H1Server

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Held:
    """
    A site whose exchanges wait until the test answers them.

    @ivar asked: the exchanges.
    """

    def __init__(self, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.asked: list[Any] = []
        self.records: list[Any] = []
        self.site = ProxySite(
            self.asked.append,
            self.network.wheel,
            self.network.clock.seconds,
            observers=[self.records.append],
            **options,
        )

    def client(self, data: bytes = b"") -> MemoryTransport:
        """@return: a client, that has sent something."""
        client = self.network.connect(self.site)
        if data:
            client.send(data)
        return client

    def answer(self, number: int = -1) -> None:
        """Answer an exchange."""
        self.asked[number].answer(Response(200, body=b"hello"))
        self.network.run()


@pytest.fixture
def held() -> Any:
    """A site whose exchanges wait, of which nothing is left afterwards."""
    made = Held()
    yield made
    made.network.end()
    assert (made.site.connections, made.site.exchanges) == (set(), set())


def test_interfaces(held: Held) -> None:
    """It is a factory, whose protocols are what Twisted and the exchanges want."""
    assert verifyObject(IProtocolFactory, held.site)
    held.client()
    [connection] = held.site.connections
    for interface in (IProtocol, IHalfCloseableProtocol, IDownstream):
        assert verifyObject(interface, connection)
        assert verifyClass(interface, H1Server)


def test_responder(held: Held) -> None:
    """A responder may be an object or a callable, and so may observers; anything else is refused at once."""

    @implementer(IResponder, IObserver)
    class Both:
        def __init__(self) -> None:
            self.records: list[Any] = []

        def respond(self, exchange: Any) -> None:
            exchange.answer(Response(204))

        def exchangeSettled(self, record: Any) -> None:
            self.records.append(record)

    both = Both()
    assert verifyObject(IResponder, both)
    assert verifyObject(IObserver, both)
    network = held.network
    site = ProxySite(both, network.wheel, network.clock.seconds, observers=[both])
    client = network.connect(site)
    client.send(GET)
    assert client.take().startswith(b"HTTP/1.1 204 ")
    assert [record.status for record in both.records] == [204]
    with pytest.raises(TypeError, match="IResponder"):
        ProxySite("http://origin.test", network.wheel, network.clock.seconds)
    with pytest.raises(TypeError, match="IObserver"):
        ProxySite(both, network.wheel, network.clock.seconds, observers=["log"])


def test_running(held: Held) -> None:
    """What is open and what runs can be seen."""
    held.client()
    held.client(GET)
    assert (len(held.site.connections), len(held.site.exchanges)) == (2, 1)
    assert held.site.exchanges == set(held.asked)
    held.answer()
    assert (len(held.site.connections), held.site.exchanges) == (2, set())


def test_limitsAndTimeouts() -> None:
    """Limits and timeouts are those that were given."""
    held = Held(limits=Limits(head=100), timeouts=Timeouts(keepAlive=2.0))
    client = held.client()
    held.network.advance(2.3)
    assert client.ended == "closed"
    held.client(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100 + b"\r\n\r\n")
    assert held.asked[0].request.fault.status == 431
    held.answer()
    held.network.end()


def test_scheme(held: Held) -> None:
    """The scheme that clients of a port use is known to directors."""
    network = held.network
    site = ProxySite(held.asked.append, network.wheel, network.clock.seconds, scheme=b"https")
    network.connect(site).send(GET)
    assert held.asked[0].request.peer.scheme == b"https"


def drained(held: Held) -> list[Any]:
    """@return: a list that is filled when the site has drained."""
    done: list[Any] = []
    held.site.drain().addCallback(done.append)
    held.network.run()
    return done


def test_drainNothing(held: Held) -> None:
    """B10.2: a site without connections has drained at once."""
    assert drained(held) == [None]


def test_drain(held: Held) -> None:
    """B10.2: idle connections close at once; what runs is finished, and says that it was the last."""
    idle, busy = held.client(GET), held.client(GET)
    held.answer(0)
    idle.take()
    done = drained(held)
    assert (idle.ended, busy.ended, done) == ("closed", "", [])
    held.answer(1)
    reply = busy.take()
    assert b"\r\nConnection: close\r\n" in reply
    assert reply.endswith(b"hello")
    assert (busy.ended, done) == ("closed", [None])
    assert [record.error for record in held.records] == [None, None]


def test_drainAccepted(held: Held) -> None:
    """B10.2: a connection that was accepted may still bring its request."""
    client = held.client()
    done = drained(held)
    assert (client.ended, done) == ("", [])
    client.send(GET)
    held.answer()
    assert client.take().endswith(b"hello")
    assert done == [None]


def test_drainTwice(held: Held) -> None:
    """B10.2: draining twice is draining once."""
    held.client(GET)
    first, second = held.site.drain(), held.site.drain()
    assert first is second
    held.answer()
    assert first.called


def test_drainBehindLoss(held: Held) -> None:
    """B10.2: a client that leaves meanwhile is not waited for."""
    client = held.client(GET)
    done = drained(held)
    client.sendReset()
    assert done == [None]


def test_cut(held: Held) -> None:
    """B10.2: cutting ends everything now, and says how many exchanges that cost."""
    idle, busy = held.client(), held.client(GET)
    assert held.site.cut() == 1
    held.network.run()
    assert (idle.ended, busy.ended) == ("reset", "reset")
    assert [record.status for record in held.records] == [503]
    assert [(record.error.side, record.error.stage) for record in held.records] == [(Side.INTERNAL, Stage.DIRECT)]


def test_cutWhileDraining(held: Held) -> None:
    """B10.2: and ends a drain."""
    held.client(GET)
    done = drained(held)
    assert held.site.cut() == 1
    held.network.run()
    assert done == [None]
