"""
The promises of a connection: every byte arrives once and in order, and every end is told once and truly.

What Twisted's own transports promise too is tested on both, so that neither we nor the tests dream up rules
of our own.
"""

from __future__ import annotations

import gc
import hashlib
import random
import socket
import weakref
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IConsumer, IPushProducer, ISystemHandle, ITCPTransport
from twisted.internet.protocol import Protocol
from zope.interface.verify import verifyObject

from tests.net.peers import Attentive, HalfCloseable, Ports, RawPeer, Recorder, Recorders, turn, until
from twistproxy.net.output import HIGH_WATER, LOW_WATER
from twistproxy.net.reactor import HubReactor
from twistproxy.net.transport import READ_SIZE

MB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    """
    @return: reproducible bytes in which no two places look alike.
    """
    return random.Random(seed).randbytes(size)


def fill(transport: Any) -> int:
    """
    Write until the transport has to keep some of it.

    @return: how much was written, in bytes.
    """
    written = 0
    while not transport.unsentBytes:
        transport.write(bytes(65536))
        written += 65536
    return written


# -- bytes -----------------------------------------------------------------------------------------


@ensureDeferred
async def test_echo(anyPorts: Ports) -> None:
    """What is written is read, in both directions."""
    protocol, peer = await anyPorts.pair()
    with peer:
        protocol.onData = protocol.transport.write
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
        assert bytes(protocol.received) == b"hello"


@ensureDeferred
async def test_interfaces(ports: Ports) -> None:
    """A transport provides what Twisted's protocols expect of one."""
    protocol, peer = await ports.pair()
    with peer:
        for interface in (ITCPTransport, IConsumer, IPushProducer, ISystemHandle):
            assert verifyObject(interface, protocol.transport)


@ensureDeferred
async def test_largeBothWays(anyPorts: Ports) -> None:
    """Megabytes arrive whole in both directions at once, past a slow reader and pauses at random."""
    protocol, peer = await anyPorts.pair(receiveBuffer=4096)
    chance = random.Random(7)
    down, up = noise(6 * MB, 1), noise(6 * MB, 2)

    def sometimesPause(data: bytes) -> None:
        from twisted.internet import reactor

        if chance.random() < 0.3:
            protocol.transport.pauseProducing()
            reactor.callLater(0, protocol.transport.resumeProducing)  # type: ignore[attr-defined]

    protocol.onData = sometimesPause
    with peer:
        for at in range(0, len(down), 100_000):
            protocol.transport.write(down[at : at + 100_000])
        received = hashlib.sha256()
        gone = taken = 0
        while taken < len(down) or gone < len(up):
            if gone < len(up):
                try:
                    gone += peer.socket.send(up[gone : gone + chance.randrange(1, 90_000)])
                except BlockingIOError:
                    pass
            if taken < len(down):
                try:
                    piece = peer.socket.recv(chance.randrange(1, 300_000))
                    received.update(piece)
                    taken += len(piece)
                except BlockingIOError:
                    pass
            await turn()
        await until(lambda: len(protocol.received) == len(up), "the upload")
        assert received.digest() == hashlib.sha256(down).digest()
        assert hashlib.sha256(protocol.received).digest() == hashlib.sha256(up).digest()


@ensureDeferred
async def test_pausedReadsNothing(anyPorts: Ports) -> None:
    """B4.2: nothing is delivered while reading is paused, and all of it afterwards."""
    protocol, peer = await anyPorts.pair()
    with peer:
        protocol.transport.pauseProducing()
        await peer.send(b"one")
        await turn(0.05)
        assert bytes(protocol.received) == b""
        protocol.transport.resumeProducing()
        assert bytes(protocol.received) == b"", "not from inside resumeProducing"
        await until(lambda: protocol.received)
        assert bytes(protocol.received) == b"one"


@ensureDeferred
async def test_pauseBetweenReads(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pausing takes effect between two reads of one event, whichever they are."""
    # small enough that the kernel takes all of them in advance
    monkeypatch.setattr("twistproxy.net.transport.BODY_READ_SIZE", 64 * 1024)
    for reads in (1, 2, 3):
        protocol, peer = await ports.pair()
        full = READ_SIZE + (reads - 1) * 64 * 1024

        def pause(data: bytes, protocol: Any = protocol, full: int = full) -> None:
            if len(protocol.received) >= full:
                protocol.transport.pauseProducing()

        with peer:
            protocol.onData = pause
            protocol.transport.pauseProducing()
            await peer.send(bytes(250_000))
            protocol.transport.resumeProducing()
            await until(lambda protocol=protocol: protocol.received)
            await turn(0.02)
            assert len(protocol.received) == full
            protocol.onData = lambda data: None
            protocol.transport.resumeProducing()
            await until(lambda protocol=protocol: len(protocol.received) == 250_000)


@ensureDeferred
async def test_kindsOfBytes(ports: Ports) -> None:
    """Anything that holds bytes can be written; text cannot, at no time."""
    protocol, peer = await ports.pair()
    write = protocol.transport.write
    with peer:
        write(b"bytes ")
        write(bytearray(b"bytearray "))
        write(memoryview(b"memoryview "))
        write(memoryview(b"wide").cast("I"))
        write(b"")
        protocol.transport.writeSequence([b" se", b"quence"])
        with pytest.raises(TypeError):
            write("text")
        expected = b"bytes bytearray memoryview wide sequence"
        assert await peer.read(len(expected)) == expected
        protocol.transport.abortConnection()
        with pytest.raises(TypeError):
            write("text")


@ensureDeferred
async def test_changeableBytesAreCopied(ports: Ports) -> None:
    """What is kept of a bytearray does not change when the bytearray does."""
    protocol, peer = await ports.pair(receiveBuffer=4096)
    with peer:
        filled = fill(protocol.transport)
        for size in (100, 100_000):
            data = bytearray(b"a" * size)
            protocol.transport.write(data)
            protocol.transport.write(memoryview(data))
            data[:] = b"b" * size
        received = await peer.read(filled + 200_200)
        assert received[filled:] == b"a" * 200_200


@ensureDeferred
async def test_tinyPiecesAreCollected(ports: Ports) -> None:
    """Single bytes that the peer does not take cost about a byte each, and keep their order among larger
    ones."""
    protocol, peer = await ports.pair(receiveBuffer=4096)
    transport = protocol.transport
    with peer:
        filled = fill(transport)
        before = transport.unsentBytes
        expected = bytearray()
        gc.collect()
        blocks = len(transport._unsent)
        for number in range(20_000):
            expected.append(number % 251)
            transport.write(expected[-1:])
        assert transport.unsentBytes == before + 20_000
        assert len(transport._unsent) - blocks <= 2
        for piece in (noise(5000), b"x", noise(700, 2), b"y" * 511):
            expected += piece
            transport.write(piece)
        received = await peer.read(filled + len(expected))
        assert received[filled:] == bytes(expected)
        await until(lambda: transport.unsentBytes == 0)


@ensureDeferred
async def test_unsentBytes(ports: Ports) -> None:
    """C{unsentBytes} is what the kernel has not taken, and goes down to nothing."""
    protocol, peer = await ports.pair(receiveBuffer=4096)
    transport = protocol.transport
    with peer:
        assert transport.unsentBytes == 0
        filled = fill(transport)
        unsent = transport.unsentBytes
        assert 0 < unsent <= 65536
        transport.write(bytes(1000))
        assert transport.unsentBytes == unsent + 1000
        await peer.read(filled + 1000)
        assert transport.unsentBytes == 0


@ensureDeferred
async def test_protocolReplaced(anyPorts: Ports) -> None:
    """Bytes and the end go to whatever protocol stands there at that time."""
    protocol, peer = await anyPorts.pair()
    second = Recorder()
    with peer:
        await peer.send(b"first")
        await until(lambda: protocol.received)
        protocol.transport.protocol = second
        await peer.send(b"second")
        await until(lambda: second.received)
        protocol.transport.abortConnection()
        await until(lambda: second.lost)
        assert (bytes(protocol.received), bytes(second.received)) == (b"first", b"second")
        assert protocol.lost is None
        protocol.lost = second.lost


@ensureDeferred
async def test_replacedWithinOneEvent(ports: Ports) -> None:
    """A protocol replaced while it is called gets none of the next read, even of the same event."""
    protocol, peer = await ports.pair()
    second = Recorder()

    def replace(data: bytes) -> None:
        protocol.transport.protocol = second

    protocol.onData = replace
    with peer:
        data = noise(100_000)
        protocol.transport.pauseProducing()
        await peer.send(data)
        protocol.transport.resumeProducing()
        await until(lambda: len(protocol.received) + len(second.received) == len(data))
        assert len(protocol.received) == 32 * 1024
        assert bytes(protocol.received + second.received) == data
        protocol.transport.abortConnection()
        await until(lambda: second.lost)
        protocol.lost = second.lost


# -- ends ------------------------------------------------------------------------------------------


@ensureDeferred
async def test_peerCloses(anyPorts: Ports) -> None:
    """The end of the stream is ConnectionDone, behind all bytes."""
    protocol, peer = await anyPorts.pair()
    await peer.send(b"last words")
    peer.close()
    await until(lambda: protocol.lost)
    assert bytes(protocol.received) == b"last words"
    assert protocol.events == ["made", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_peerResets(anyPorts: Ports) -> None:
    """A reset is ConnectionLost."""
    protocol, peer = await anyPorts.pair()
    peer.reset()
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionLost")]


@ensureDeferred
async def test_closeBehindAFullRead(ports: Ports) -> None:
    """The end is seen though it came together with bytes that took several reads."""
    for size in (32 * 1024, 64 * 1024, 200_000):
        protocol, peer = await ports.pair()
        protocol.transport.pauseProducing()
        await peer.send(bytes(size))
        peer.close()
        await turn(0.01)
        protocol.transport.resumeProducing()
        await until(lambda protocol=protocol: protocol.lost)
        assert len(protocol.received) == size
        assert protocol.events == ["made", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_abortResets(anyPorts: Ports) -> None:
    """abortConnection resets, whatever is unsent."""
    protocol, peer = await anyPorts.pair()
    with peer:
        protocol.transport.write(b"x")
        protocol.transport.abortConnection()
        protocol.transport.abortConnection()
        protocol.transport.write(b"not this")
        assert protocol.lost is None, "not from inside abortConnection"
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", ("lost", "ConnectionAborted")]
        with pytest.raises(ConnectionResetError):
            await peer.read(100)
            await peer.read(100)


@ensureDeferred
async def test_loseConnectionFlushes(anyPorts: Ports) -> None:
    """loseConnection sends everything first, however slowly the peer reads."""
    protocol, peer = await anyPorts.pair(receiveBuffer=4096)
    data = noise(3 * MB)
    with peer:
        protocol.transport.write(data)
        protocol.transport.loseConnection()
        await turn(0.05)
        assert protocol.lost is None
        assert hashlib.sha256(await peer.readAll()).digest() == hashlib.sha256(data).digest()
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_loseConnectionStopsReading(anyPorts: Ports) -> None:
    """Behind loseConnection nothing is read, and resuming does not change that."""
    protocol, peer = await anyPorts.pair(receiveBuffer=4096)
    with peer:
        protocol.transport.write(bytes(MB * 8))
        protocol.transport.loseConnection()
        protocol.transport.resumeProducing()
        await peer.send(b"too late")
        await turn(0.05)
        assert bytes(protocol.received) == b""


@ensureDeferred
async def test_loseConnectionWithUnreadBytes(ports: Ports) -> None:
    """B4.4: bytes that nobody wants to read do not turn the close into a reset, which could cost the peer
    our last ones."""
    protocol, peer = await ports.pair()
    with peer:
        protocol.transport.pauseProducing()
        await peer.send(bytes(100_000))
        await turn(0.01)
        protocol.transport.write(b"413")
        protocol.transport.loseConnection()
        assert await peer.readAll() == b"413"
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_writeBehindLoseConnection(ports: Ports) -> None:
    """What is written behind loseConnection is ignored, with or without unsent bytes before it."""
    for size in (1, 8 * MB):
        protocol, peer = await ports.pair(receiveBuffer=4096)
        with peer:
            protocol.transport.write(bytes(size))
            protocol.transport.loseConnection()
            protocol.transport.write(b"more")
            assert protocol.lost is None, "not from inside loseConnection"
            assert len(await peer.readAll()) == size
            await until(lambda protocol=protocol: protocol.lost)


@ensureDeferred
async def test_neverReentrant(anyPorts: Ports) -> None:
    """Losing and aborting from dataReceived tell the protocol only after it has returned."""
    for how in ("loseConnection", "abortConnection", "stopProducing"):
        protocol, peer = await anyPorts.pair()

        def close(data: bytes, protocol: Any = protocol, how: str = how) -> None:
            getattr(protocol.transport, how)()
            protocol.events.append("returned")

        protocol.onData = close
        with peer:
            await peer.send(b"x")
            await until(lambda protocol=protocol: protocol.lost)
        assert protocol.events[:2] == ["made", "returned"]


@ensureDeferred
async def test_halfClosePeer(anyPorts: Ports) -> None:
    """B6.3: behind the end of the peer's stream a half-closeable protocol goes on writing."""
    protocol, peer = await anyPorts.pair(HalfCloseable)
    with peer:
        await peer.send(b"question")
        peer.halfClose()
        await until(lambda: "readLost" in protocol.events)
        assert bytes(protocol.received) == b"question"
        protocol.transport.write(b"answer")
        await turn(0.02)
        protocol.transport.loseConnection()
        assert await peer.readAll() == b"answer"
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", "readLost", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_halfCloseOurs(anyPorts: Ports) -> None:
    """B6.3: loseWriteConnection sends everything, then the end, and reading goes on."""
    protocol, peer = await anyPorts.pair(HalfCloseable, receiveBuffer=4096)
    data = noise(2 * MB)
    with peer:
        protocol.transport.write(data)
        protocol.transport.loseWriteConnection()
        assert await peer.readAll() == data
        await until(lambda: "writeLost" in protocol.events)
        protocol.transport.write(b"ignored")
        await peer.send(b"still here")
        await until(lambda: protocol.received)
        assert bytes(protocol.received) == b"still here"
        assert protocol.lost is None


@ensureDeferred
async def test_bothHalves(ports: Ports) -> None:
    """When both directions are closed the connection is done, in either order."""
    protocol, peer = await ports.pair(HalfCloseable)
    with peer:
        protocol.transport.loseWriteConnection()
        await until(lambda: "writeLost" in protocol.events)
        peer.halfClose()
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", "writeLost", "readLost", ("lost", "ConnectionDone")]
    protocol, peer = await ports.pair(HalfCloseable)
    with peer:
        peer.halfClose()
        await until(lambda: "readLost" in protocol.events)
        protocol.transport.loseWriteConnection()
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", "readLost", "writeLost", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_loseBehindLoseWrite(anyPorts: Ports) -> None:
    """loseConnection works when the sending side is closed already."""
    protocol, peer = await anyPorts.pair(HalfCloseable)
    with peer:
        protocol.transport.loseWriteConnection()
        await until(lambda: "writeLost" in protocol.events)
        protocol.transport.loseConnection()
        await until(lambda: protocol.lost)
        assert protocol.events[-1] == ("lost", "ConnectionDone")


@ensureDeferred
async def test_resetAfterHalfClose(ports: Ports) -> None:
    """B6.3: a protocol whose input has ended hears of a reset although it reads no more."""
    protocol, peer = await ports.pair(HalfCloseable)
    peer.halfClose()
    await until(lambda: "readLost" in protocol.events)
    peer.reset()
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", "readLost", ("lost", "ConnectionLost")]


@ensureDeferred
async def test_resetWhileClosing(ports: Ports) -> None:
    """A connection that waits for its unsent bytes to go is lost when the peer resets it."""
    protocol, peer = await ports.pair(receiveBuffer=4096)
    fill(protocol.transport)
    protocol.transport.loseConnection()
    await turn(0.01)
    peer.reset()
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionLost")]


@ensureDeferred
async def test_failedSendKeepsTheAnswer(ports: Ports) -> None:
    """B4.4: an answer that came before the peer's reset is read, although writing failed first."""
    for protocolClass in (Recorder, HalfCloseable):
        protocol, peer = await ports.pair(protocolClass)
        protocol.transport.pauseProducing()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
        peer.reset()
        await turn(0.01)
        for _ in range(3):
            protocol.transport.write(bytes(65536))
        assert protocol.lost is None, "not from inside write"
        assert protocol.transport.unsentBytes == 0
        await turn(0.01)
        assert protocol.lost is None
        protocol.transport.resumeProducing()
        await until(lambda protocol=protocol: protocol.lost)
        assert bytes(protocol.received) == b"HTTP/1.1 413 Content Too Large\r\n\r\n"
        assert protocol.events == ["made", ("lost", "ConnectionLost")]


@ensureDeferred
async def test_failedSendWhileReading(ports: Ports) -> None:
    """A write that fails while reading goes on ends in ConnectionLost by itself."""
    protocol, peer = await ports.pair(receiveBuffer=4096)
    fill(protocol.transport)
    await peer.send(b"no, thanks")
    peer.reset()
    # Before the hub has heard of it.
    protocol.transport.write(bytes(100))
    await until(lambda: protocol.lost)
    assert bytes(protocol.received) == b"no, thanks"
    assert protocol.events == ["made", ("lost", "ConnectionLost")]


# -- the peer hangs up while reading is paused -----------------------------------------------------


@ensureDeferred
async def test_hungUpByEnd(ports: Ports) -> None:
    """B7.1: a paused protocol hears once that its peer has closed its side, and can still read what came
    before."""
    protocol, peer = await ports.pair(Attentive)
    with peer:
        protocol.transport.pauseProducing()
        await peer.send(b"pipelined")
        peer.halfClose()
        await until(lambda: len(protocol.events) > 1)
        await turn(0.02)
        assert protocol.events == ["made", ("hungUp", False)]
        protocol.transport.resumeProducing()
        await until(lambda: protocol.lost)
        assert bytes(protocol.received) == b"pipelined"
        assert protocol.events == ["made", ("hungUp", False), ("lost", "ConnectionDone")]


@ensureDeferred
async def test_hungUpByReset(ports: Ports) -> None:
    """B7.1: a paused protocol hears once that the connection was reset, after having heard of the end or
    not."""
    for halfCloseFirst in (False, True):
        protocol, peer = await ports.pair(Attentive)
        protocol.transport.pauseProducing()
        await peer.send(b"early")
        expected = ["made"]
        if halfCloseFirst:
            peer.halfClose()
            await until(lambda protocol=protocol: len(protocol.events) > 1)
            expected.append(("hungUp", False))  # type: ignore[arg-type]
        peer.reset()
        expected.append(("hungUp", True))  # type: ignore[arg-type]
        await until(lambda protocol=protocol: ("hungUp", True) in protocol.events)
        await turn(0.02)
        assert protocol.events == expected
        protocol.transport.resumeProducing()
        await until(lambda protocol=protocol: protocol.lost)
        assert bytes(protocol.received) == b"early"


@ensureDeferred
async def test_hungUpBeforePausing(ports: Ports) -> None:
    """B7.1: the end that stands behind unread bytes is told to a protocol which pauses only then."""
    protocol, peer = await ports.pair(Attentive)
    with peer:
        protocol.transport.pauseProducing()
        await peer.send(bytes(100_000))
        protocol.onData = lambda data: protocol.transport.pauseProducing()
        # The hub does not turn between these two, so both are one event.
        peer.halfClose()
        protocol.transport.resumeProducing()
        await until(lambda: ("hungUp", False) in protocol.events)
        assert 0 < len(protocol.received) < 100_000
        assert protocol.lost is None


@ensureDeferred
async def test_hungUpByFailedSend(ports: Ports) -> None:
    """A paused protocol hears of a reset that showed as a failed write, but not from inside that write."""
    protocol, peer = await ports.pair(Attentive)
    protocol.transport.pauseProducing()
    peer.reset()
    protocol.transport.write(b"x")
    protocol.transport.write(b"y")
    assert protocol.events == ["made"]
    await until(lambda: len(protocol.events) > 1)
    await turn(0.02)
    assert protocol.events == ["made", ("hungUp", True)]


@ensureDeferred
async def test_hangUpWaitsForResume(anyPorts: Ports) -> None:
    """A paused protocol that does not care is told of the end when it resumes."""
    protocol, peer = await anyPorts.pair()
    await turn(0.01)
    protocol.transport.pauseProducing()
    peer.close()
    await turn(0.05)
    if protocol.lost is None:  # some reactors of Twisted tell a paused protocol, too
        protocol.transport.resumeProducing()
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionDone")]


# -- producers -------------------------------------------------------------------------------------


class Producer:
    """A push producer that writes down what it is asked."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


class PullProducer(Producer):
    """A pull producer of a number of pieces."""

    def __init__(self, transport: Any, pieces: list[bytes]) -> None:
        super().__init__()
        self.transport = transport
        self.pieces = pieces

    def resumeProducing(self) -> None:
        self.events.append("resume")
        if self.pieces:
            self.transport.write(self.pieces.pop(0))
        else:
            self.transport.unregisterProducer()


@ensureDeferred
async def test_watermarks(ports: Ports) -> None:
    """A streaming producer is paused above the high mark, once, and resumed below the low one."""
    protocol, peer = await ports.pair(receiveBuffer=4096)
    transport, producer = protocol.transport, Producer()
    # So that the kernel takes little at a time, and the marks are not jumped over.
    transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    with peer:
        transport.registerProducer(producer, True)
        written = 0
        while not producer.events:
            assert transport.unsentBytes <= HIGH_WATER
            transport.write(bytes(32768))
            written += 32768
        assert transport.unsentBytes > HIGH_WATER
        transport.write(bytes(32768))
        written += 32768
        assert producer.events == ["pause"]
        while producer.events == ["pause"]:
            assert transport.unsentBytes > LOW_WATER
            written -= len(await peer.read(8192))
        assert LOW_WATER // 2 < transport.unsentBytes <= LOW_WATER
        await peer.read(written)
        assert producer.events == ["pause", "resume"]
        transport.unregisterProducer()
        assert transport.producer is None


@ensureDeferred
async def test_registeredLate(ports: Ports) -> None:
    """A producer that registers while much is unsent is paused at once."""
    protocol, peer = await ports.pair(receiveBuffer=4096)
    with peer:
        protocol.transport.write(bytes(8 * MB))
        producer = Producer()
        protocol.transport.registerProducer(producer, True)
        assert producer.events == ["pause"]


@ensureDeferred
async def test_pullProducer(anyPorts: Ports) -> None:
    """A pull producer is asked for a piece whenever all is sent, and may write where nobody reads yet."""
    protocol, peer = await anyPorts.pair(receiveBuffer=4096)
    pieces = [noise(100_000, seed) for seed in range(20)]
    producer = PullProducer(protocol.transport, list(pieces))
    with peer:
        protocol.transport.registerProducer(producer, False)
        assert await peer.read(2_000_000) == b"".join(pieces)
        await until(lambda: protocol.transport.producer is None)
        assert producer.events == ["resume"] * 21
        protocol.transport.write(b"and again")
        assert await peer.read(9) == b"and again"


@ensureDeferred
async def test_pullProducerHoldsClosing(anyPorts: Ports) -> None:
    """loseConnection waits for a pull producer to finish."""
    protocol, peer = await anyPorts.pair()
    pieces = [noise(1000, seed) for seed in range(20)]
    with peer:
        protocol.transport.registerProducer(PullProducer(protocol.transport, list(pieces)), False)
        protocol.transport.loseConnection()
        assert await peer.readAll() == b"".join(pieces)
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_pausedProducerHoldsClosing(anyPorts: Ports) -> None:
    """loseConnection gives a paused producer the chance to go on, and what it then writes is sent."""
    protocol, peer = await anyPorts.pair(receiveBuffer=4096)
    transport, producer = protocol.transport, Producer()
    with peer:
        transport.registerProducer(producer, True)
        transport.write(bytes(4 * MB))
        await until(lambda: producer.events == ["pause"])
        transport.loseConnection()
        assert len(await peer.read(4 * MB)) == 4 * MB
        await until(lambda: producer.events == ["pause", "resume"])
        await turn(0.02)
        assert protocol.lost is None
        transport.write(b"the end")
        transport.unregisterProducer()
        assert await peer.readAll() == b"the end"
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_streamingProducerDoesNotHoldClosing(anyPorts: Ports) -> None:
    """As with Twisted's transports: a streaming producer that is not paused is stopped when all is sent."""
    protocol, peer = await anyPorts.pair()
    producer = Producer()
    with peer:
        protocol.transport.registerProducer(producer, True)
        protocol.transport.write(b"x")
        protocol.transport.loseConnection()
        assert await peer.readAll() == b"x"
        await until(lambda: protocol.lost)
        assert producer.events == ["stop"]


@ensureDeferred
async def test_loseWriteWaitsForPullProducer(ports: Ports) -> None:
    """loseWriteConnection waits for a pull producer as loseConnection does (Twisted's then never closes)."""
    protocol, peer = await ports.pair(HalfCloseable)
    pieces = [noise(1000, seed) for seed in range(20)]
    with peer:
        protocol.transport.registerProducer(PullProducer(protocol.transport, list(pieces)), False)
        protocol.transport.loseWriteConnection()
        assert await peer.readAll() == b"".join(pieces)
        await until(lambda: "writeLost" in protocol.events)
        assert protocol.lost is None


@ensureDeferred
async def test_producerIsStopped(anyPorts: Ports) -> None:
    """A producer is stopped when the connection is lost, before the protocol hears of it; one that comes
    later, at once."""
    protocol, peer = await anyPorts.pair()
    producer, late = Producer(), Producer()
    transport = protocol.transport
    transport.registerProducer(producer, True)
    with pytest.raises(RuntimeError):
        transport.registerProducer(late, True)
    peer.reset()
    await until(lambda: protocol.lost)
    assert producer.events == ["stop"]
    transport.registerProducer(late, True)
    assert late.events == ["stop"]


# -- errors ----------------------------------------------------------------------------------------


class Oops(Exception):
    """What protocols in these tests raise."""


def take(loggedErrors: list[Any]) -> list[str]:
    """
    @return: the names of logged exceptions, which are forgotten.
    """
    names = [event["log_failure"].type.__name__ for event in loggedErrors]
    loggedErrors.clear()
    return names


@ensureDeferred
async def test_errorLosesOneConnection(ports: Ports, loggedErrors: list[Any]) -> None:
    """B7.4: an exception in dataReceived ends its connection, is logged once, and nobody else feels it."""
    factory, port = ports.listen()
    with RawPeer.connect(port.getHost()) as bad, RawPeer.connect(port.getHost()) as good:
        await until(lambda: len(factory.made) == 2)
        first, second = factory.made

        def fail(data: bytes) -> None:
            raise Oops

        first.onData = fail
        second.onData = second.transport.write
        await bad.send(b"x")
        await good.send(b"y")
        assert await bad.readAll() == b""
        assert await good.read(1) == b"y"
        assert first.events == ["made", ("lost", "Oops")]
        assert second.lost is None
        assert take(loggedErrors) == ["Oops"]


@ensureDeferred
async def test_errorInTheQueue(ports: Ports, loggedErrors: list[Any]) -> None:
    """B7.4: the same for an exception in a later read, and one in connectionLost harms nobody."""

    class Clumsy(Recorder):
        def connectionLost(self, reason: Any = None) -> None:
            super().connectionLost(reason)
            raise Oops

    protocol, peer = await ports.pair(Clumsy)
    with peer:

        def fail(data: bytes) -> None:
            if len(protocol.received) > 150_000:
                raise ZeroDivisionError

        protocol.onData = fail
        await peer.send(bytes(300_000))
        await until(lambda: protocol.lost)
        await turn()
        assert protocol.events == ["made", ("lost", "ZeroDivisionError")]
        assert take(loggedErrors) == ["ZeroDivisionError", "Oops"]


@ensureDeferred
async def test_errorInProducer(ports: Ports, loggedErrors: list[Any]) -> None:
    """B7.4: a producer that raises costs its own connection, even when it is stopped."""

    class Broken(Producer):
        def resumeProducing(self) -> None:
            raise Oops

        def stopProducing(self) -> None:
            raise ZeroDivisionError

    protocol, peer = await ports.pair(receiveBuffer=4096)
    with peer:
        protocol.transport.registerProducer(Broken(), True)
        protocol.transport.write(bytes(4 * MB))
        await peer.readAll()
        await until(lambda: protocol.lost)
        await turn()
        assert protocol.events == ["made", ("lost", "Oops")]
        assert take(loggedErrors) == ["Oops", "ZeroDivisionError"]


# -- about the socket ------------------------------------------------------------------------------


@ensureDeferred
async def test_addresses(anyPorts: Ports) -> None:
    """getPeer and getHost are Twisted's addresses, of either version of IP."""
    for interface, kind in (("127.0.0.1", IPv4Address), ("::1", IPv6Address)):
        factory, port = anyPorts.listen(interface=interface)
        with RawPeer.connect(port.getHost()) as peer:
            protocol = await factory.first()
            name = peer.socket.getsockname()
            assert protocol.transport.getPeer() == kind("TCP", *name)
            assert protocol.transport.getHost() == port.getHost()


@ensureDeferred
async def test_peerIsKnownAfterTheLoss(ports: Ports) -> None:
    """getPeer still answers when the connection is lost: that is when it is logged."""
    protocol, peer = await ports.pair()
    name = peer.socket.getsockname()
    transport = protocol.transport
    peer.close()
    await until(lambda: protocol.lost)
    assert transport.getPeer() == IPv4Address("TCP", *name)
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    assert transport.getTcpNoDelay() is False


@ensureDeferred
async def test_options(ports: Ports) -> None:
    """Small segments are sent at once unless somebody objects, and keep-alive probes can be asked for."""
    protocol, peer = await ports.pair()
    transport = protocol.transport
    with peer:
        handle = transport.getHandle()
        assert isinstance(handle, socket.socket)
        assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (True, False)
        transport.setTcpNoDelay(False)
        transport.setTcpKeepAlive(True)
        assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (False, True)
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@ensureDeferred
async def test_repr(ports: Ports) -> None:
    """A transport says what it is, to whoever reads a log."""
    protocol, peer = await ports.pair()
    transport = protocol.transport
    with peer:
        port = peer.socket.getsockname()[1]
        assert "open" in repr(transport)
        assert str(port) in repr(transport)
        transport.abortConnection()
        await until(lambda: protocol.lost)
        assert "lost" in repr(transport)


# -- many ------------------------------------------------------------------------------------------


@ensureDeferred
async def test_manyConnections(ports: Ports) -> None:
    """Hundreds of connections at once, each with its own bytes."""
    factory, port = ports.listen()
    peers = [RawPeer.connect(port.getHost()) for _ in range(40)]
    try:
        for count in range(40, 400, 40):
            await until(lambda count=count: len(factory.made) == count)
            peers += [RawPeer.connect(port.getHost()) for _ in range(40)]
        await until(lambda: len(factory.made) == 400)
        for protocol in factory.made:
            protocol.onData = protocol.transport.write
        for number, peer in enumerate(peers):
            await peer.send(b"%03d" % number * 1000)
        for number, peer in enumerate(peers):
            assert await peer.read(3000) == b"%03d" % number * 1000
    finally:
        for peer in peers:
            peer.close()
    await until(lambda: all(protocol.lost for protocol in factory.made))


@ensureDeferred
async def test_noGarbage(hubReactor: HubReactor) -> None:
    """A lost connection is freed by reference counts alone, whoever ended it; the collector has no work
    with it."""

    class Plain(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)  # type: ignore[union-attr]
            if data == b"close":
                self.transport.loseConnection()  # type: ignore[union-attr]
            elif data == b"abort":
                self.transport.abortConnection()  # type: ignore[attr-defined]

    alive: list[weakref.ref[Any]] = []

    class Watched(Recorders):
        def buildProtocol(self, addr: Any) -> Any:
            protocol = Plain()
            alive.append(weakref.ref(protocol))
            return protocol

    port = hubReactor.listenTCP(0, Watched(), interface="127.0.0.1")
    gc.collect()
    gc.disable()
    try:
        for last in (b"close", b"abort", b"leave", b"reset"):
            peer = RawPeer.connect(port.getHost())
            await peer.send(b"hello")
            await peer.read(5)
            transport = alive[-1]().transport  # type: ignore[union-attr]
            alive.append(weakref.ref(transport))
            del transport
            if last == b"reset":
                peer.reset()
            elif last == b"leave":
                peer.close()
            else:
                await peer.send(last)
            await until(lambda: not any(ref() for ref in alive), "everything to be freed")
            peer.close()
        assert len(alive) == 8
    finally:
        gc.enable()
        await port.stopListening()


@ensureDeferred
async def test_readLowWater(ports: Ports) -> None:
    """Less input than a transport waits for is no event, until it is told to take what is there."""
    protocol, peer = await ports.pair()
    with peer:
        protocol.transport.setReadLowWater(1000)
        await peer.send(bytes(999))
        await turn(0.05)
        assert not protocol.received
        await peer.send(b"x")
        await until(lambda: len(protocol.received) == 1000)
        await peer.send(b"rest")
        await turn(0.05)
        assert len(protocol.received) == 1000
        protocol.transport.setReadLowWater(1)
        await until(lambda: protocol.received.endswith(b"rest"))


@pytest.mark.parametrize("limit", [None, 256 * 1024])
@ensureDeferred
async def test_windowAboveTheLowWater(ports: Ports, limit: int | None) -> None:
    """A sender need not stop until what a transport waits for is read: the window has room for several times as much.

    When it had not, an upload from far away took ten times as long.
    """
    protocol, peer = await ports.pair()
    with peer:
        sock = protocol.transport.getHandle()
        if limit is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limit)
        protocol.transport.setReadLowWater(256 * 1024)
        waitedFor = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 4 * waitedFor
        assert (waitedFor == 256 * 1024) == (limit is None)
        protocol.transport.setReadLowWater(1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize("how", ["close", "reset", "halfClose"])
@ensureDeferred
async def test_endBelowTheLowWater(ports: Ports, how: str) -> None:
    """The end of the stream is told at once, behind what came before it, however little that is."""
    protocol, peer = await ports.pair()
    with peer:
        protocol.transport.setReadLowWater(1 << 20)
        await peer.send(b"rest")
        getattr(peer, how)()
        await until(lambda: protocol.lost)
        assert how == "reset" or bytes(protocol.received) == b"rest"


@ensureDeferred
async def test_readLowWaterOfALostConnection(ports: Ports) -> None:
    """A connection that is lost has no options to set, and that is nobody's fault."""
    protocol, peer = await ports.pair()
    peer.close()
    await until(lambda: protocol.transport.disconnected)
    protocol.transport.setReadLowWater(1)
