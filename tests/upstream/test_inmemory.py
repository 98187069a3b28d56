"""
Connections in memory: as good as real ones, and never re-entered.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twistproxy.upstream.inmemory import HIGH_WATER, PIECE, InMemoryEndpoint


class Heard(Protocol):
    """
    Notes what it hears.
    """

    transport: Any

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.answers = b""

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)
        if self.answers:
            self.transport.write(self.answers)

    def connectionLost(self, reason: Any = None) -> None:
        self.told.append(type(reason.value))


@implementer(IHalfCloseableProtocol)
class HalfHeard(Heard):
    """One that knows of half a close."""

    def readConnectionLost(self) -> None:
        self.told.append("read")

    def writeConnectionLost(self) -> None:
        self.told.append("write")


class Producer:
    """A producer that notes what it is told."""

    def __init__(self, transport: Any = None, pieces: int = 0) -> None:
        self.told: list[str] = []
        self._transport = transport
        self._pieces = pieces

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self._pieces:
            self._pieces -= 1
            self._transport.write(b"piece")
            if not self._pieces:
                self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.told.append("stop")


class Turn:
    """Something that is to happen in the next turn."""

    def __init__(self, happen: Any) -> None:
        self.happen = happen

    def cancel(self) -> None:
        """It is not."""
        self.happen = None


class Turns:
    """A reactor that turns when the test says so, and calls nothing in the turn in which it was asked to."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []

    def callLater(self, seconds: float, happen: Any) -> Turn:
        assert seconds == 0
        self._turns.append(Turn(happen))
        return self._turns[-1]

    @property
    def pending(self) -> int:
        """How many calls there are to come."""
        return sum(turn.happen is not None for turn in self._turns)

    def turn(self) -> None:
        """Turn once."""
        turns, self._turns = self._turns, []
        for each in turns:
            if each.happen is not None:
                each.happen()


class Pair:
    """A connection, both ends of which the test plays."""

    def __init__(self, kind: type[Heard] = Heard) -> None:
        self.reactor = Turns()
        self.client, self.server = kind(), kind()
        self.endpoint = InMemoryEndpoint(factoryOf(self.server), self.reactor)
        found: list[Any] = []
        self.endpoint.connect(factoryOf(self.client)).addCallback(found.append)
        assert found == [self.client]

    def turns(self, number: int = 20) -> None:
        """Let things happen."""
        for _ in range(number):
            self.reactor.turn()


def factoryOf(protocol: Any) -> Any:
    """@return: a factory that gives one protocol."""
    factory = Factory()
    factory.buildProtocol = lambda addr: protocol  # type: ignore[method-assign]
    return factory


def test_interfaces() -> None:
    """It is an endpoint, and each end a transport, a consumer and a producer."""
    pair = Pair()
    assert verifyObject(IStreamClientEndpoint, pair.endpoint)
    for interface in (ITCPTransport, IConsumer, IPushProducer):
        assert verifyObject(interface, pair.client.transport)


def test_bothWays() -> None:
    """What one writes the other reads, in a later turn, joined; addresses mirror each other."""
    pair = Pair()
    pair.client.transport.write(b"a")
    pair.client.transport.writeSequence([b"b", b"c"])
    assert pair.server.told == []
    pair.turns(1)
    assert pair.server.told == [b"abc"]
    pair.server.transport.write(b"d")
    pair.turns(1)
    assert pair.client.told == [b"d"]
    assert pair.client.transport.getPeer() == pair.server.transport.getHost()
    assert pair.reactor.pending == 0


def test_neverReentered() -> None:
    """Two ends that always answer get one turn each: nobody is called from inside of a call, nor kept from his turn."""
    pair = Pair()
    pair.client.answers = pair.server.answers = b"x"
    pair.client.transport.write(b"x")
    pair.turns(4)
    assert (pair.server.told, pair.client.told) == ([b"x", b"x"], [b"x", b"x"])


def test_largePieces() -> None:
    """What was written in one piece is read in several, so that its reader can stop in between."""
    pair = Pair()
    data = bytes(range(256)) * 1024
    pair.client.transport.write(data)
    pair.turns()
    assert b"".join(pair.server.told) == data
    assert max(map(len, pair.server.told)) == PIECE


def test_backpressure() -> None:
    """B4.2: a reader that stops stops the writer's producer, and lets it go on when it has caught up."""
    pair = Pair()
    producer = Producer()
    pair.client.transport.registerProducer(producer, True)
    pair.server.transport.pauseProducing()
    pair.client.transport.write(bytes(HIGH_WATER))
    pair.turns()
    assert producer.told == []
    pair.client.transport.write(b"x")
    assert (producer.told, pair.client.transport.unsentBytes) == (["pause"], HIGH_WATER + 1)
    pair.turns()
    assert (producer.told, pair.server.told) == (["pause"], [])
    pair.server.transport.resumeProducing()
    pair.turns()
    assert (producer.told, pair.client.transport.unsentBytes) == (["pause", "resume"], 0)


def test_pullProducer() -> None:
    """A pull producer is asked again and again, each time when what it wrote is read."""
    pair = Pair()
    producer = Producer(pair.client.transport, 3)
    pair.client.transport.registerProducer(producer, False)
    pair.turns()
    assert (b"".join(pair.server.told), producer.told) == (b"piecepiecepiece", ["resume"] * 3)


def test_secondProducer() -> None:
    """One producer at a time; one that comes too late is told to stop."""
    pair = Pair()
    pair.client.transport.registerProducer(Producer(), True)
    with pytest.raises(RuntimeError):
        pair.client.transport.registerProducer(Producer(), True)
    transport = pair.client.transport
    transport.abortConnection()
    pair.turns()
    late = Producer()
    transport.registerProducer(late, True)
    assert late.told == ["stop"]


def test_close() -> None:
    """Who closes loses nothing of what it wrote, not even with a reader that has stopped; both ends end in order."""
    pair = Pair()
    pair.server.transport.pauseProducing()
    pair.client.transport.write(b"last words")
    pair.client.transport.loseConnection()
    pair.client.transport.write(b"too late")
    pair.turns()
    assert (pair.server.told, pair.client.told) == ([], [])
    pair.server.transport.resumeProducing()
    pair.turns()
    assert pair.server.told == [b"last words", ConnectionDone]
    assert pair.client.told == [ConnectionDone]
    assert (pair.endpoint.connections, pair.reactor.pending) == (set(), 0)


def test_noCycle() -> None:
    """Ends that are lost know nothing of each other any more, and bear being asked for more."""
    pair = Pair()
    ends = [pair.client.transport, pair.server.transport]
    ends[0].loseConnection()
    pair.turns()
    assert [end.peer for end in ends] == [None, None]
    for end in ends:
        end.write(b"late")
        end.pauseProducing()
        end.resumeProducing()
        end.loseConnection()
        end.loseWriteConnection()
        end.abortConnection()
    assert pair.reactor.pending == 0


def test_closeWaitsForProducer() -> None:
    """As with every transport, the end waits for the producer's."""
    pair = Pair()
    pair.client.transport.registerProducer(Producer(), True)
    pair.client.transport.loseConnection()
    pair.client.transport.write(b"more")
    pair.turns()
    assert pair.server.told == [b"more"]
    pair.client.transport.unregisterProducer()
    pair.turns()
    assert pair.server.told == [b"more", ConnectionDone]


def test_closedEndReadsNothing() -> None:
    """Who has closed hears no more; what is on its way there is dropped."""
    pair = Pair()
    pair.client.transport.write(b"question")
    pair.server.transport.loseConnection()
    pair.turns()
    assert (pair.server.told, pair.client.told) == ([ConnectionDone], [ConnectionDone])


def test_abort() -> None:
    """A reset reaches a peer that does not read too, and stops its producer; what was not read is gone."""
    pair = Pair()
    producer = Producer()
    pair.server.transport.registerProducer(producer, True)
    pair.server.transport.pauseProducing()
    pair.client.transport.write(b"lost")
    pair.client.transport.abortConnection()
    assert pair.client.told == []
    pair.turns()
    assert (pair.client.told, pair.server.told) == ([ConnectionAborted], [ConnectionLost])
    assert (producer.told, pair.endpoint.connections, pair.reactor.pending) == (["stop"], set(), 0)


def test_halfClose() -> None:
    """Each direction ends by itself, where both protocols know of that."""
    pair = Pair(HalfHeard)
    pair.client.transport.write(b"ask")
    pair.client.transport.loseWriteConnection()
    pair.turns()
    assert (pair.server.told, pair.client.told) == ([b"ask", "read"], ["write"])
    pair.server.transport.write(b"answer")
    pair.server.transport.loseWriteConnection()
    pair.turns()
    assert pair.client.told == ["write", b"answer", "read", ConnectionDone]
    assert pair.server.told == [b"ask", "read", "write", ConnectionDone]


def test_halfCloseUnknown() -> None:
    """Where the reader does not, the connection ends."""
    pair = Pair()
    pair.client.transport.loseWriteConnection()
    pair.turns()
    assert (pair.server.told, pair.client.told) == ([ConnectionDone], [ConnectionDone])


def test_protocolFails(loggedErrors: list[Any]) -> None:
    """A protocol that raises loses its connection, and the log says why."""
    pair = Pair()
    pair.server.dataReceived = lambda data: 1 / 0  # type: ignore[assignment, method-assign]
    pair.client.transport.write(b"x")
    pair.turns()
    assert (pair.server.told, pair.client.told) == ([ConnectionAborted], [ConnectionLost])
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()


def test_refused() -> None:
    """A factory that gives no protocol takes no connection."""
    failures: list[Any] = []
    InMemoryEndpoint(factoryOf(None), Clock()).connect(factoryOf(Heard())).addErrback(failures.append)
    assert [failure.type for failure in failures] == [ConnectError]


def test_notBytes() -> None:
    """Only bytes are written."""
    with pytest.raises(TypeError):
        Pair().client.transport.write("text")
