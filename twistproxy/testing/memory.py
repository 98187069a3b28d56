# -*- test-case-name: tests.test_testing -*-
"""
A connection in memory.  The proxy's protocol has the one end, the test the other.

What a real transport does within a turn of the reactor happens here one thing at a time, in the same order
every time, and nothing is ever told to a protocol from inside a call that it made.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.testing.streams import Fault, MemoryStream
from twistproxy.upstream.inmemory import Socketless

if TYPE_CHECKING:
    from twistproxy.testing.network import MemoryNetwork
    from twistproxy.upstreams import Target

#: As in the transport of the hub, in bytes.
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024

_EOF = object()
_RESET = object()


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport(Socketless):
    """
    A connection: towards the proxy's protocol an
    L{ITCPTransport<twisted.internet.interfaces.ITCPTransport>}, towards the test what follows here.

    @ivar name: C{"client 0"} for a client's, the target's name for one to an upstream.
    @ivar target: where the proxy connected to, or C{None} for a client's connection.
    @ivar outgoing: what the test's end sends: its rate and its faults.
    @ivar incoming: what the test's end takes: the same.
    @ivar received: what has come to the test's end.
    @ivar ended: how the proxy ended it, as the test's end sees it: C{""} not at all, C{"closed"}, or
        C{"reset"}.
    @ivar eager: whether it delivers although it is paused, as Twisted's own TLS does with what it has read
        already.
    @ivar lost: whether the protocol was told of the loss.
    @ivar discarded: bytes that came after the connection had been closed with nobody to read them: on a real
        socket they would have made the kernel reset it, and cost the peer what it had not read yet.
    @ivar protocol: the proxy's protocol; C{None} when the connection is lost.
    """

    def __init__(
        self, network: MemoryNetwork, protocol: Any, port: int = 40000, name: str = "", target: Target | None = None
    ) -> None:
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
        self.name = name
        self.target = target
        self.protocol = protocol
        self.outgoing = MemoryStream(network.clock)
        self.incoming = MemoryStream(network.clock)
        self.received = bytearray()
        self.ended = ""
        self.eager = False
        self.lost = False
        self.discarded = 0
        self.disconnecting = self.disconnected = False
        self.connected = True

    def __repr__(self) -> str:
        state = self.ended or ("lost" if self.lost else "open")
        return f"<MemoryTransport {self.name} {state}, {self.unsentBytes} unsent, in {self.incoming!r}>"

    # -- the test's end

    def send(self, data: bytes) -> None:
        """
        Send, and let things happen.
        """
        self._input.append(data)
        self._network.run()

    def queue(self, *pieces: bytes) -> None:
        """
        Send several pieces, which the proxy reads one by one, without letting anything happen yet.
        """
        self._input.extend(pieces)

    def sendEOF(self) -> None:
        """
        Close the test's side behind everything that was sent, and let things happen.
        """
        self._input.append(_EOF)
        self._network.run()

    def sendReset(self) -> None:
        """
        Reset the connection, and let things happen.  It overtakes what is held back by a rate or a stall.
        """
        self._queueReset()
        self._network.run()

    def _queueReset(self) -> None:
        if self.outgoing.stalled or self.outgoing.rate is not None:
            self._input.clear()
        self._input.append(_RESET)

    def take(self) -> bytes:
        """
        @return: what has come since this was last called; it is removed from L{received}.
        """
        data = bytes(self.received)
        self.received.clear()
        return data

    @property
    def taking(self) -> bool:
        """
        Whether the test's end reads.
        """
        return not self.incoming.stalled

    @taking.setter
    def taking(self, taking: bool) -> None:
        self.incoming.stalled = not taking

    @property
    def reading(self) -> bool:
        """
        Whether the proxy reads it.
        """
        return self._reading and not (self._readEnded or self.disconnecting or self.lost)

    @property
    def unreadBytes(self) -> int:
        """
        What the test's end has sent and the proxy has not read: on a real socket it would be in the kernel.
        """
        return sum(len(item) for item in self._input if isinstance(item, bytes))

    # -- the protocol's end

    @property
    def unsentBytes(self) -> int:
        """
        What the proxy has written and the test's end has not taken yet: the proxy holds it in memory.
        """
        return len(self._unsent)

    def write(self, data: bytes) -> None:
        if type(data) is not bytes:
            raise TypeError(f"bytes are written, not {type(data).__name__}")
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
        if not streaming or self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: one push producer at a time")
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

    # -- what happens

    def step(self) -> bool:
        """
        Let one thing happen; for L{MemoryNetwork.run<twistproxy.testing.network.MemoryNetwork.run>}.

        @return: whether anything did.
        """
        if self.lost:
            self.discarded += self.unreadBytes
            self._input.clear()
            return False
        return self._finish() or self._fail() or self._flush() or self._read()

    def cut(self) -> None:
        """
        Lose the connection, whatever its state is.
        """
        self._reading = True
        self._input.clear()
        self._loss = self._loss or ConnectionLost()

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

    def _fail(self) -> bool:
        for stream in (self.incoming, self.outgoing):
            fault = stream.due()
            if fault is None:
                continue
            if fault is Fault.STALL:
                stream.stalled = True
                return True
            if stream is self.outgoing:
                self._input.clear()
            if fault is Fault.CLOSE:
                self._input.append(_EOF)
            else:
                self.incoming.stalled = True
                self._queueReset()
            return True
        return False

    def _flush(self) -> bool:
        if self._unsent:
            room = self.incoming.room(len(self._unsent))
            if not room:
                return False
            self.received += self.incoming.passing(bytes(self._unsent[:room]))
            del self._unsent[:room]
            if self._producerPaused and len(self._unsent) <= LOW_WATER:
                self._producerPaused = False
                self._producer.resumeProducing()
            return True
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
            return self._hungUp()
        if isinstance(item, bytes):
            return self._deliver(item)
        self._input.popleft()
        if item is _RESET:
            self._loss = ConnectionLost()
            return True
        self._readEnded = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._loss = ConnectionDone()
        if self._writeEnded and self._loss is None:
            self._loss = ConnectionDone()
        return True

    def _deliver(self, item: bytes) -> bool:
        room = self.outgoing.room(len(item))
        if item and not room:
            return False
        self._input.popleft()
        if room < len(item):
            self._input.appendleft(item[room:])
        self.protocol.dataReceived(self.outgoing.passing(item[:room]))
        return True

    def _hungUp(self) -> bool:
        """
        Tell a protocol that does not read, but wants to know, that its peer has gone.
        """
        told = 2 if _RESET in self._input else 1 if _EOF in self._input else 0
        if told > self._told and hasattr(self.protocol, "peerHungUp"):
            self._told = told
            self.protocol.peerHungUp(told == 2)
            return True
        return False
