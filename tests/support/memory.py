"""
A network in memory, under a C{task.Clock}: connections whose other end is the test.

Everything happens when the test says so, in the same order every time.  As on the hub nothing is ever told to a protocol
from inside a call that it made: L{MemoryNetwork.run} lets things happen until nothing happens any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.errors import Stage, UpstreamError
from twistproxy.interfaces import IDialer
from twistproxy.net.wheel import Wheel

#: As in the transport of the hub, in bytes.
HIGH_WATER = 256 * 1024

_EOF = object()
_RESET = object()


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    A connection.  The proxy's protocol has the one end, an L{ITCPTransport}; the test has the other.

    @ivar received: what the test's end was sent.
    @ivar ended: how the proxy ended it, as the test's end sees it: C{""} not at all, C{"closed"}, or C{"reset"}.
    @ivar taking: whether the test's end reads.
    @ivar eager: whether it delivers although it is paused, as Twisted's own TLS does with what it has read already.
    @ivar lost: whether the protocol was told of the loss.
    @ivar discarded: bytes that came after the connection had been closed with nobody to read them: on a real socket they would
        have made the kernel reset it, and cost the peer what it had not read yet.
    """

    def __init__(self, network: MemoryNetwork, protocol: Any, port: int = 40000) -> None:
        self._network = network
        self._input: deque[Any] = deque()
        self._peer = IPv4Address("TCP", "192.0.2.1", port)
        self._unsent = bytearray()
        self._producer: Any = None
        self._producerPaused = False
        self._reading = True
        self._told = 0
        self._loss: Exception | None = None
        self._writeEnding = self._writeEnded = self._readEnded = False
        self.protocol = protocol
        self.received = bytearray()
        self.ended = ""
        self.taking = True
        self.eager = False
        self.lost = False
        self.discarded = 0
        self.disconnecting = self.disconnected = False
        self.connected = True

    # -- the test's end

    def send(self, data: bytes) -> None:
        """Send, and let things happen."""
        self._input.append(data)
        self._network.run()

    def queue(self, *pieces: bytes) -> None:
        """Send several pieces that the proxy reads one by one, without letting anything happen yet."""
        self._input.extend(pieces)

    def sendEOF(self) -> None:
        """Close the test's side."""
        self._input.append(_EOF)
        self._network.run()

    def sendReset(self) -> None:
        """Reset the connection."""
        self._input.append(_RESET)
        self._network.run()

    def take(self) -> bytes:
        """
        @return: what has come since this was last called.
        """
        data = bytes(self.received)
        self.received.clear()
        return data

    @property
    def reading(self) -> bool:
        """
        Whether the proxy reads it.
        """
        return self._reading and not (self._readEnded or self.disconnecting or self.lost)

    # -- the protocol's end

    @property
    def unsentBytes(self) -> int:
        """
        What the test's end has not taken yet.
        """
        return len(self._unsent)

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.lost or self._loss is not None or self._writeEnded:
            return
        if (self.disconnecting or self._writeEnding) and self._producer is None:
            return
        self._unsent += data
        if len(self._unsent) > HIGH_WATER and self._producer is not None and not self._producerPaused:
            self._producerPaused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming and self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producerPaused = False

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self._writeEnding = True

    def abortConnection(self) -> None:
        self._loss = ConnectionAborted()
        self._unsent.clear()

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.2", 80)

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    # -- what happens

    def step(self) -> bool:
        """
        Let one thing happen.

        @return: whether anything did.
        """
        if self.lost:
            self.discarded += sum(len(item) for item in self._input if isinstance(item, bytes))
            self._input.clear()
            return False
        return self._finish() or self._flush() or self._read()

    def _finish(self) -> bool:
        if self._loss is None:
            return False
        reason, self._loss = self._loss, None
        self.lost = self.disconnected = True
        self.connected = False
        if not self.ended and type(reason) is not ConnectionLost:
            self.ended = "reset" if isinstance(reason, ConnectionAborted) else "closed"
        protocol, self.protocol = self.protocol, None
        self._producer = None
        protocol.connectionLost(Failure(reason))
        return True

    def _flush(self) -> bool:
        if self._unsent and self.taking:
            self.received += self._unsent
            self._unsent.clear()
            if self._producerPaused:
                self._producerPaused = False
                self._producer.resumeProducing()
            return True
        if self._unsent:
            return False
        if self.disconnecting:
            self._loss = ConnectionDone()
            return True
        if self._writeEnding and not self._writeEnded:
            self._writeEnded = True
            self.ended = "closed"
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
            if self._readEnded:
                self._loss = ConnectionDone()
            return True
        return False

    def _read(self) -> bool:
        if not self._input or self.disconnecting or (self._readEnded and self._input[0] is not _RESET):
            return False
        item = self._input[0]
        if not (self._reading or self.eager):
            told = 2 if _RESET in self._input else 1 if _EOF in self._input else 0
            if told > self._told and hasattr(self.protocol, "peerHungUp"):
                self._told = told
                self.protocol.peerHungUp(told == 2)
                return True
            return False
        self._input.popleft()
        if item is _RESET:
            self._loss = ConnectionLost()
        elif item is _EOF:
            self._readEnded = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.readConnectionLost()
            else:
                self._loss = ConnectionDone()
            if self._writeEnded and self._loss is None:
                self._loss = ConnectionDone()
        else:
            self.protocol.dataReceived(item)
        return True


@implementer(IDialer)
class MemoryNetwork:
    """
    All connections of a test, and time.

    @ivar clock: the clock.
    @ivar wheel: a timer wheel on it.
    @ivar dialed: the test's ends of the connections that were dialed.
    @ivar refusing: whether connections are refused.
    @ivar holding: whether connections neither stand nor fail.
    @ivar watching: called again and again while things happen; say whether they did anything.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.transports: list[MemoryTransport] = []
        self.dialed: list[MemoryTransport] = []
        self.refusing = False
        self.holding = False
        self.watching: list[Callable[[], bool]] = []
        self._dialing: deque[tuple[Deferred[None], Any]] = deque()

    def connect(self, factory: Any) -> MemoryTransport:
        """
        Connect to a server.

        @return: the client's end.
        """
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40000 + len(self.transports)))
        return self._join(protocol)

    def _join(self, protocol: Any) -> MemoryTransport:
        transport = MemoryTransport(self, protocol, 40000 + len(self.transports))
        self.transports.append(transport)
        protocol.makeConnection(transport)
        return transport

    def dial(self, target: Any, protocol: Any, handshaking: Any = None) -> Deferred[None]:
        """
        See L{IDialer.dial}; connected when things happen next.
        """
        dialing: Deferred[None] = Deferred(lambda d: d.errback(UpstreamError("given up", Stage.CONNECT)))
        self._dialing.append((dialing, protocol))
        return dialing

    def run(self) -> None:
        """
        Let things happen until nothing happens any more.
        """
        busy = True
        while busy:
            busy = False
            while self._dialing and not self.holding:
                busy = True
                dialing, protocol = self._dialing.popleft()
                if dialing.called:
                    dialing.addErrback(lambda failure: failure.trap(CancelledError, UpstreamError) and None)
                elif self.refusing:
                    dialing.errback(UpstreamError("refused", Stage.CONNECT))
                else:
                    self.dialed.append(self._join(protocol))
                    dialing.callback(None)
            for transport in list(self.transports):
                if transport.step():
                    busy = True
            for watcher in self.watching:
                if watcher():
                    busy = True

    def advance(self, seconds: float) -> None:
        """
        Let time pass, tick by tick, and things happen.
        """
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-6:
            self.clock.advance(min(0.1, end - self.clock.seconds()))
            self.run()

    def end(self) -> None:
        """
        Reset every connection, and check that nothing is left of them.
        """
        for transport in self.transports:
            if not transport.lost:
                transport.resumeProducing()
                transport._input.clear()
                transport._loss = transport._loss or ConnectionLost()
        self.run()
        assert all(transport.lost for transport in self.transports)
        assert self.clock.getDelayedCalls() == [], "a timer was left behind"
