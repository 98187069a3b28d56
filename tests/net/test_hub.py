"""
The promises of a hub: nobody starves, nobody hears of another's socket, and an idle hub owns nothing.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.net.peers import Ports, RawPeer, turn, until
from tests.support.programs import python
from twistproxy.net import hub as hubModule
from twistproxy.net.hub import Hub, HubSocket
from twistproxy.net.reactor import HubReactor


class Listening(HubSocket):
    """One end of a socket pair on a hub, which does as the test says."""

    def __init__(self, hub: Hub, onEvent: Callable[[int], Any] = lambda events: None) -> None:
        super().__init__()
        self.hub = hub
        self.socket, self.other = socket.socketpair()
        self.socket.setblocking(False)
        self.onEvent = onEvent
        self.onTurn: Callable[[], Any] = lambda: None
        self.events: list[int] = []
        self.turns = 0
        self.reasons: list[Any] = []
        self.fd = self.socket.fileno()
        hub.add(self.fd, self)

    def socketEvent(self, events: int) -> None:
        self.events.append(events)
        self.onEvent(events)

    def runAgain(self) -> None:
        self.turns += 1
        self.onTurn()

    def crashed(self, reason: Failure) -> None:
        self.reasons.append(reason.type)

    def hubLost(self, reason: Failure) -> None:
        self.reasons.append(reason.type)
        self.remove()

    def remove(self) -> None:
        """Leave the hub and close both ends."""
        self.hub.remove(self.fd, self.socket)
        self.other.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub in the reactor that runs, which loses what a test forgets there."""
    from twisted.internet import reactor

    hub = Hub(reactor)
    yield hub
    reactor.removeReader(hub)  # type: ignore[attr-defined]
    hub.connectionLost(Failure(CONNECTION_LOST))


def readers() -> list[Any]:
    """
    @return: what the reactor watches.
    """
    from twisted.internet import reactor

    return reactor.getReaders()  # type: ignore[attr-defined,no-any-return]


def test_interface(hub: Hub) -> None:
    """A hub is a descriptor that a reactor can read."""
    assert verifyObject(IReadDescriptor, hub)
    assert hub.logPrefix() == "hub"


def test_constants() -> None:
    """The numbers written out are the platform's."""
    if not Hub.available():
        pytest.skip("no epoll on this platform")
    for name in ("EPOLLIN", "EPOLLOUT", "EPOLLERR", "EPOLLHUP", "EPOLLRDHUP", "EPOLLET"):
        # Python has EPOLLET as a negative number where an int has 32 bits.
        assert getattr(hubModule, name) == getattr(select, name) & 0xFFFFFFFF


def test_availability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform has no epoll there is no hub."""
    assert Hub.available() is hasattr(select, "epoll")
    monkeypatch.delattr(select, "epoll", raising=False)
    assert Hub.available() is False


@ensureDeferred
async def test_idleOwnsNothing(hub: Hub) -> None:
    """A hub is in the reactor and holds a descriptor only while it has a socket, again and again."""
    for _ in range(3):
        assert (hub.fileno(), hub in readers()) == (-1, False)
        first, second = Listening(hub), Listening(hub)
        assert (hub.fileno() >= 0, hub in readers()) == (True, True)
        await until(lambda first=first, second=second: first.events and second.events)
        first.remove()
        hub.close()
        assert hub in readers(), "one is left"
        second.remove()
    assert (hub.fileno(), hub in readers()) == (-1, False)
    hub.close()


@ensureDeferred
async def test_emptiedFromInside(hub: Hub) -> None:
    """The last socket may leave from inside its own event, and a new one come in the same."""
    first = Listening(hub)
    found: list[Listening] = []

    def change(events: int) -> None:
        first.remove()
        found.append(Listening(hub))

    first.onEvent = change
    await until(lambda: found and found[0].events)
    found[0].onTurn = found[0].remove
    hub.queue(found[0])
    await until(lambda: hub.fileno() == -1)
    assert hub not in readers()


@ensureDeferred
async def test_numbersAreNotReusedWithinABatch(hub: Hub) -> None:
    """An event for a socket that was just closed does not reach the new socket that took its number."""
    both = [Listening(hub), Listening(hub)]
    await until(lambda: all(one.events for one in both))
    new: list[Listening] = []

    def replaceTheOther(one: Listening, other: Listening) -> None:
        one.onEvent = other.onEvent = lambda events: None
        other.remove()
        # As many as can be needed to get the number that was freed.
        new.extend(Listening(hub) for _ in range(4))

    for one, other in (both, both[::-1]):
        one.events.clear()
        one.onEvent = lambda events, one=one, other=other: replaceTheOther(one, other)
    # Both become readable, and worse, before the hub looks: a single batch.
    for one in both:
        one.other.send(b"x")
        one.other.shutdown(socket.SHUT_WR)
    await until(lambda: new and all(one.events for one in new))
    for one in new:
        assert [events & ~hubModule.EPOLLOUT for events in one.events] == [0]
    assert sum(len(one.events) for one in both) == 1


@ensureDeferred
async def test_queue(hub: Hub) -> None:
    """Queueing twice gives one turn, and never from inside C{queue}."""
    one = Listening(hub)
    await until(lambda: one.events)
    hub.queue(one)
    hub.queue(one)
    assert one.turns == 0
    await turn(0.01)
    assert one.turns == 1


@ensureDeferred
async def test_nobodyStarves(hub: Hub) -> None:
    """Sockets that always want another turn leave the reactor its own, and other sockets their events."""
    from twisted.internet import reactor

    greedy = [Listening(hub) for _ in range(3)]
    for one in greedy:
        one.onTurn = lambda one=one: hub.queue(one)
        hub.queue(one)
    modest = Listening(hub)
    called: list[bool] = []
    reactor.callLater(0.01, called.append, True)  # type: ignore[attr-defined]
    await until(lambda: called and modest.events)
    assert all(one.turns > 10 for one in greedy)
    assert max(one.turns for one in greedy) - min(one.turns for one in greedy) <= 1
    for one in greedy:
        one.onTurn = lambda: None


@ensureDeferred
async def test_errors(hub: Hub, loggedErrors: list[Any]) -> None:
    """B7.4: whatever is raised is logged once and told to the socket at hand; the others go on."""

    def fail(*args: Any) -> None:
        raise SystemExit

    bad, good = Listening(hub, fail), Listening(hub)
    await until(lambda: bad.events and good.events)
    bad.onTurn = fail
    hub.queue(bad)
    hub.queue(good)
    await until(lambda: good.turns)
    assert bad.reasons == [SystemExit, SystemExit]
    assert good.reasons == []
    assert [event["log_failure"].type for event in loggedErrors] == [SystemExit, SystemExit]
    loggedErrors.clear()


@ensureDeferred
async def test_errorInCrashed(hub: Hub, loggedErrors: list[Any]) -> None:
    """Even a socket that cannot cope with its own error harms nobody."""

    class Hopeless(Listening):
        def crashed(self, reason: Failure) -> None:
            raise KeyError

    def fail(events: int) -> None:
        raise ValueError

    Hopeless(hub, fail)
    good = Listening(hub)
    await until(lambda: good.events)
    await until(lambda: len(loggedErrors) == 2)
    assert [event["log_failure"].type for event in loggedErrors] == [ValueError, KeyError]
    loggedErrors.clear()


@ensureDeferred
async def test_reactorStops(ports: Ports) -> None:
    """When the reactor drops everything, each connection and port hears of it at once, as with Twisted's
    own."""
    from twisted.internet import reactor

    factory, port = ports.listen()
    closing, ending = RawPeer.connect(port.getHost()), RawPeer.connect(port.getHost())
    await until(lambda: len(factory.made) == 2)
    with closing, ending:
        first, second = factory.made
        first.transport.abortConnection()
        hub = port._hub
        # What ReactorBase.disconnectAll does.
        reactor.removeReader(hub)  # type: ignore[attr-defined]
        hub.connectionLost(Failure(CONNECTION_LOST))
        assert first.events == ["made", ("lost", "ConnectionAborted")]
        assert second.events == ["made", ("lost", "ConnectionLost")]
        assert factory.events == ["start", "stop"]
        assert hub.fileno() == -1
        assert port.stopListening() is None


SCRIPT = """
import sys
from twisted.internet.{module} import install
install()
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twistproxy.net.reactor import HubReactor, networkReactor

SIZE = 3000000
net = networkReactor(reactor)
assert isinstance(net, HubReactor), net

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

class Client(Protocol):
    received = 0
    def connectionMade(self):
        self.transport.write(b"x" * SIZE)
    def dataReceived(self, data):
        self.received += len(data)
        if self.received == SIZE:
            self.transport.loseConnection()
    def connectionLost(self, reason):
        reactor.callLater(0.01, port.stopListening)
        reactor.callLater(0.02, check)

def check():
    left = [reader for reader in reactor.getReaders() if reader is net.hub]
    print(type(reactor).__name__, client.received, left)
    reactor.stop()

async def go():
    global port, client
    port = await serverFromString(net, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Echo))
    where = "tcp:127.0.0.1:%d" % port.getHost().port
    client = await clientFromString(net, where).connect(Factory.forProtocol(Client))

from twisted.internet.defer import Deferred
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(go()))
reactor.run()
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("epollreactor", "EPollReactor"),
        ("pollreactor", "PollReactor"),
        ("selectreactor", "SelectReactor"),
        ("asyncioreactor", "AsyncioSelectorReactor"),
    ],
)
def test_everyReactor(module: str, name: str) -> None:
    """A hub runs in every reactor that watches descriptors, and leaves it clean."""
    done = python("-c", SCRIPT.format(module=module))
    assert (done.stdout, done.stderr) == (f"{name} 3000000 []\n", "")


def test_uvloop() -> None:
    """The same on uvloop, where that is installed."""
    pytest.importorskip("uvloop", reason="uvloop is not installed")
    script = SCRIPT.format(module="asyncioreactor").replace(
        "install()\n",
        "import asyncio, uvloop\nasyncio.set_event_loop(uvloop.new_event_loop())\n"
        "install(asyncio.get_event_loop())\n",
        1,
    )
    done = python("-c", script)
    assert (done.stdout, done.stderr) == ("AsyncioSelectorReactor 3000000 []\n", "")


@ensureDeferred
async def test_repr(hubReactor: HubReactor, ports: Ports) -> None:
    """A hub says how many it holds."""
    _, port = ports.listen()
    assert repr(port._hub) == "<Hub of 1 sockets, 0 queued>"
