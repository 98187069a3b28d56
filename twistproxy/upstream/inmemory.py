# -*- test-case-name: tests.upstream.test_inmemory -*-
"""
Connections inside of one process: what a client of ours writes, a server protocol of anybody's reads, without a socket
in between.

Both ends are as good as real transports, so whatever works over TCP works here: backpressure in both directions, half a
close, resets, the order in which things are told.  Nothing is told to a protocol from inside of a call that it made:
what one end does reaches the other in a later turn of the reactor.

Two things are better than over a socket.  What has been written is never lost to a reset, as each end reads first what
the other wrote before it closed; and a peer that has gone is noticed at once, even by who does not read.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.globalreactor import reactorOf

#: What one end may have written before its producer is paused, and when it is resumed, in bytes.
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024

#: What is read in one piece at most, in bytes.
PIECE = 64 * 1024

# Both ends are this machine; the ports say nothing, but a server wants to see some.
_CLIENT = IPv4Address("TCP", "127.0.0.1", 0)
_SERVER = IPv4Address("TCP", "127.0.0.1", 80)


@implementer(IStreamClientEndpoint)
class InMemoryEndpoint:
    """
    Connects to the server protocols of a factory in the same process.

    @ivar connections: the clients' ends of those that are open.
    """

    def __init__(self, factory: Any, reactor: Any = None) -> None:
        """
        @param factory: makes the server's protocols: a L{Site<twisted.web.server.Site>}, say.  It is neither started
            nor stopped here.
        @param reactor: the reactor; the global one by default.
        """
        self.factory = factory
        self.connections: set[InMemoryTransport] = set()
        self._reactor = reactor

    def __repr__(self) -> str:
        return f"<InMemoryEndpoint to {self.factory!r}>"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        See L{IStreamClientEndpoint.connect<twisted.internet.interfaces.IStreamClientEndpoint>}.
        """
        reactor = reactorOf(self._reactor)
        try:
            client = protocolFactory.buildProtocol(_SERVER)
            server = None if client is None else self.factory.buildProtocol(_CLIENT)
            if server is None:
                raise ConnectError(string=f"{self.factory!r} takes no connection")
        except Exception:
            return fail()
        near = InMemoryTransport(reactor, client, _CLIENT, _SERVER)
        far = InMemoryTransport(reactor, server, _SERVER, _CLIENT)
        near.peer, far.peer = far, near
        self.connections.add(near)
        near.onLost = lambda: self.connections.discard(near)
        server.makeConnection(far)
        client.makeConnection(near)
        return succeed(client)


class Socketless:
    """
    The part of L{ITCPTransport<twisted.internet.interfaces.ITCPTransport>} that is about a socket, where there is none.
    """

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass


@implementer(ITCPTransport, IConsumer, IPushProducer)
class InMemoryTransport(Socketless):
    """
    One end of a connection.

    @ivar protocol: whose end it is; C{None} when the connection is lost.
    @ivar peer: the other end.
    @ivar onLost: called when it is lost, if set.
    @ivar connected: whether it is not lost yet.
    @ivar disconnecting: whether it was closed from this side.
    """

    _log = Logger()

    def __init__(self, reactor: Any, protocol: Any, host: IPv4Address, peerAddress: IPv4Address) -> None:
        self.protocol = protocol
        self.peer: Any = None
        self.onLost: Any = None
        self.connected = True
        self.disconnecting = self.disconnected = False
        self._reactor = reactor
        self._host = host
        self._peerAddress = peerAddress
        self._sending: deque[Any] = deque()
        self._unsent = 0
        self._reading = True
        self._aborting = self._writeEnding = self._writeEnded = False
        self._producer: Any = None
        self._streaming = self._paused = False
        self._turn: Any = None

    def __repr__(self) -> str:
        state = "open" if self.connected else "lost"
        return f"<InMemoryTransport of {self.protocol!r} {state}, {self._unsent} unsent>"

    # -- writing

    @property
    def unsentBytes(self) -> int:
        """
        What was written, and not read at the other end yet.
        """
        return self._unsent

    def write(self, data: bytes) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes are written, not {type(data).__name__}")
        if not self.connected or self._aborting or self._writeEnding or not data:
            return
        if self.disconnecting and self._producer is None:
            return
        self._sending.append(data if type(data) is bytes else bytes(data))
        self._unsent += len(data)
        self._soon()
        if self._unsent > HIGH_WATER and self._streaming and not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._paused = False
        if not streaming:
            self._soon()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._paused = False
        if self.disconnecting:
            self._soon()

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._soon()

    def loseWriteConnection(self) -> None:
        if self.connected and not self._writeEnding:
            self._writeEnding = True
            self._soon()

    def abortConnection(self) -> None:
        if self.connected and not self._aborting:
            self._aborting = True
            self._drop()
            self._soon()

    def _drop(self) -> None:
        self._sending.clear()
        self._unsent = 0

    # -- reading

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        if not self._reading:
            self._reading = True
            if self.connected:
                self.peer._soon()

    def stopProducing(self) -> None:
        self.loseConnection()

    @property
    def _taking(self) -> bool:
        """
        Whether this end reads now.
        """
        return self._reading and self.connected and not (self.disconnecting or self._aborting)

    # -- who is who

    def getHost(self) -> Any:
        return self._host

    def getPeer(self) -> Any:
        return self._peerAddress

    # -- what happens in a turn of its own

    def _soon(self) -> None:
        if self._turn is None and self.connected:
            self._turn = self._reactor.callLater(0, self._happen)

    def _happen(self) -> None:
        self._turn = None
        peer = self.peer
        if self._aborting:
            self._lose(ConnectionAborted(), ConnectionLost())
            return
        # What a protocol writes in answer is for the next turn, lest two ends that always have something to say keep
        # the reactor from everybody else.
        due = self._unsent
        while due > 0 and peer._taking and self._sending:
            data = self._take(min(due, PIECE))
            due -= len(data)
            self._unsent -= len(data)
            peer._call(peer.protocol.dataReceived, data)
        if not self.connected:
            return
        if peer.disconnecting or peer._aborting:
            # it reads no more
            self._drop()
        self._refill()
        if self._sending:
            if peer._taking:
                self._soon()
        elif self.disconnecting:
            if self._producer is None:
                self._lose(ConnectionDone(), ConnectionDone())
        elif self._writeEnding and not self._writeEnded and peer._taking:
            self._endWriting()

    def _take(self, size: int) -> bytes:
        """
        @return: the first bytes of what is to be sent, as many as there are up to C{size}.
        """
        first = self._sending.popleft()
        if len(first) > size:
            view = memoryview(first)
            self._sending.appendleft(view[size:])
            return bytes(view[:size])
        pieces = [first]
        size -= len(first)
        while self._sending and len(self._sending[0]) <= size:
            pieces.append(self._sending.popleft())
            size -= len(pieces[-1])
        return b"".join(pieces) if len(pieces) > 1 else bytes(first)

    def _refill(self) -> None:
        """
        Let the producer go on, if there is room.
        """
        if self._producer is None:
            return
        if not self._streaming:
            if not self._unsent:
                self._producer.resumeProducing()
        elif self._paused and self._unsent <= LOW_WATER:
            self._paused = False
            self._producer.resumeProducing()

    def _endWriting(self) -> None:
        self._writeEnded = True
        peer = self.peer
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.writeConnectionLost)
        if IHalfCloseableProtocol.providedBy(peer.protocol):
            peer._call(peer.protocol.readConnectionLost)
        else:
            peer.loseConnection()
        if peer._writeEnded and self.connected:
            self._lose(ConnectionDone(), ConnectionDone())

    def _call(self, method: Any, *arguments: Any) -> None:
        """
        Tell the protocol something.  One that fails loses its connection, as with every transport.
        """
        try:
            method(*arguments)
        except Exception:
            self._log.failure("{protocol} failed", protocol=self.protocol)
            self.abortConnection()

    def _lose(self, reason: Exception, peerReason: Exception) -> None:
        peer = self.peer
        self._lost(reason)
        peer._lost(peerReason)
        # or both ends would have to wait for the garbage collector
        self.peer = peer.peer = None

    def _lost(self, reason: Exception) -> None:
        if not self.connected:
            return
        self.connected = False
        self.disconnected = True
        self._drop()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()
        protocol, self.protocol = self.protocol, None
        producer, self._producer = self._producer, None
        if self.onLost is not None:
            self.onLost()
        try:
            if producer is not None:
                producer.stopProducing()
            protocol.connectionLost(Failure(reason))
        except Exception:
            self._log.failure("{protocol} failed", protocol=protocol)
