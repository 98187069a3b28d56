"""
The promises of TLS towards an upstream: nobody poses as it, nobody shortens what it says, and all else is
as without TLS.

The upstream is a bare socket and an C{SSLObject} in the hands of the test.  Every promise is tested over a
hub's transport and over Twisted's own.
"""

from __future__ import annotations

import gc
import hashlib
import random
import socket
import ssl
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransportWithDisconnection
from zope.interface.verify import verifyObject

from tests.net.certificates import Certificates, certificates
from tests.net.peers import Attentive, HalfCloseable, RawPeer, Recorder, turn, until
from twistproxy.net.reactor import HubReactor
from twistproxy.net.tls import TLSConnection, TLSSettings, clientTLS

__all__ = ["certificates"]

MB = 1 << 20


class TheOne(Factory):
    """
    Gives a protocol that exists, and keeps nothing of it: an endpoint's factory and its connector hold each
    other.
    """

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        protocol, self._protocol = self._protocol, None
        return protocol


class TLSPeer:
    """The upstream's side of a connection."""

    def __init__(self, peer: RawPeer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                if not (data := await self.peer.read(1)):
                    raise EOFError from None
                self._incoming.write(data)
                for piece in self.peer._receive(65536):
                    self._incoming.write(piece)
            finally:
                await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self.peer.send(self._outgoing.read())

    async def handshake(self) -> None:
        await self._do(self.ssl.do_handshake)

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), 16384):
            await self._do(self.ssl.write, data[at : at + 16384])

    async def read(self, size: int) -> bytes:
        """
        @return: so many bytes, or what came before the close-notify.
        @raise EOFError: when the stream ended without one.
        """
        found = bytearray()
        while len(found) < size:
            try:
                piece = await self._do(self.ssl.read, min(65536, size - len(found)))
            except ssl.SSLZeroReturnError:
                break
            if not piece:
                break
            found += piece
        return bytes(found)

    async def readAll(self) -> bytes:
        return await self.read(1 << 40)

    async def closeNotify(self) -> None:
        try:
            self.ssl.unwrap()
        except ssl.SSLError:
            pass
        await self._flush()


class Meeting:
    """An upstream that listens, and connections to it."""

    def __init__(self, reactor: Any, certificates: Certificates) -> None:
        self.reactor = reactor
        self.certificates = certificates
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.outcomes: list[Any] = []
        self.protocols: list[Any] = []
        self.peers: list[RawPeer] = []
        self.layer: Any = None

    def serverContext(self, certificate: str | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate or self.certificates.server)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def settings(self, **changes: Any) -> TLSSettings:
        return TLSSettings(**{"caFile": self.certificates.authority, **changes})

    async def connect(
        self,
        protocolClass: Callable[[], Any] = Recorder,
        settings: TLSSettings | None = None,
        hostname: str = "localhost",
        receiveBuffer: int | None = None,
    ) -> tuple[Any, RawPeer]:
        """
        @return: the protocol above the TLS connection, and the socket of the upstream.
        """
        protocol = protocolClass()
        self.protocols.append(protocol)
        self.layer = clientTLS(
            protocol,
            settings or self.settings(),
            hostname,
            lambda: self.outcomes.append("ready"),
            self.outcomes.append,
        )
        if receiveBuffer is not None:
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiveBuffer)
        endpoint = TCP4ClientEndpoint(self.reactor, *self.listening.getsockname())
        await endpoint.connect(TheOne(self.layer))

        def accept() -> Any:
            try:
                return self.listening.accept()
            except BlockingIOError:
                return None

        sock, _ = await until(accept)
        peer = RawPeer(sock)
        self.peers.append(peer)
        return protocol, peer

    async def pair(
        self,
        protocolClass: Callable[[], Any] = Recorder,
        context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> tuple[Any, TLSPeer]:
        """
        @return: the protocol, connected, and the upstream.
        """
        protocol, raw = await self.connect(protocolClass, **options)
        peer = TLSPeer(raw, context or self.serverContext())
        await peer.handshake()
        await until(lambda: self.outcomes)
        assert self.outcomes == ["ready"]
        self.outcomes.clear()
        return protocol, peer

    async def failure(self) -> Any:
        """
        @return: why the handshake failed.
        """
        await until(lambda: self.outcomes)
        await until(lambda: self.layer.disconnected)
        [outcome] = self.outcomes
        assert self.protocols[-1].events == [], "the protocol above hears nothing of it"
        self.outcomes.clear()
        return outcome

    async def close(self) -> None:
        self.listening.close()
        for protocol in self.protocols:
            if protocol.transport is not None and protocol.lost is None:
                protocol.transport.abortConnection()
                await until(lambda protocol=protocol: protocol.lost)
        for peer in self.peers:
            peer.close()
        assert self.outcomes == []


@pytest.fixture
def meeting(anyReactor: Any, certificates: Certificates) -> Iterator[Meeting]:
    """An upstream, met over either kind of transport."""
    import pytest_twisted
    from twisted.internet.defer import Deferred

    meeting = Meeting(anyReactor, certificates)
    yield meeting
    pytest_twisted.blockon(Deferred.fromCoroutine(meeting.close()))


# -- the handshake ---------------------------------------------------------------------------------


@ensureDeferred
async def test_verified(meeting: Meeting) -> None:
    """B8.4: with a valid certificate of the right name or address the protocol is connected, then told so."""
    for hostname in ("localhost", "app.example", "127.0.0.1", "::1"):
        protocol, peer = await meeting.pair(hostname=hostname)
        assert protocol.events == ["made"]
        assert protocol.transport is meeting.layer
        protocol.transport.write(b"hello")
        assert await peer.read(5) == b"hello"
        await peer.send(b"welcome")
        await until(lambda protocol=protocol: protocol.received)
        assert bytes(protocol.received) == b"welcome"


@ensureDeferred
async def test_interfaces(meeting: Meeting) -> None:
    """A TLS connection is a transport above and a protocol below."""
    protocol, _ = await meeting.pair()
    for interface in (ITCPTransport, IConsumer, IPushProducer, IProtocol, IHalfCloseableProtocol):
        assert verifyObject(interface, protocol.transport)


@ensureDeferred
async def test_protocolsAndVersion(meeting: Meeting) -> None:
    """ALPN offers what the settings say; TLS is 1.2 at least."""
    for offered, agreed in ((("http/1.1",), b"http/1.1"), (("h2", "http/1.1"), b"h2"), ((), None)):
        protocol, peer = await meeting.pair(settings=meeting.settings(protocols=offered))
        assert protocol.transport.negotiatedProtocol == agreed
        assert peer.ssl.version() in ("TLSv1.2", "TLSv1.3")
    assert meeting.settings().context().minimum_version == ssl.TLSVersion.TLSv1_2


@ensureDeferred
async def test_unverified(meeting: Meeting) -> None:
    """B8.4: a wrong name, an unknown authority and an expired certificate are refused, with OpenSSL's
    reason."""
    for hostname, certificate, reason in (
        ("other.example", meeting.certificates.server, "Hostname mismatch"),
        ("127.0.0.2", meeting.certificates.server, "IP address mismatch"),
        ("localhost", meeting.certificates.stranger, "unable to get local issuer certificate"),
        ("localhost", meeting.certificates.expired, "certificate has expired"),
    ):
        _, raw = await meeting.connect(hostname=hostname)
        peer = TLSPeer(raw, meeting.serverContext(certificate))
        with pytest.raises((ssl.SSLError, EOFError)):
            # In TLS 1.3 the upstream is done first, and learns by the alert that the client is not content.
            await peer.handshake()
            await peer.readAll()
        why = await meeting.failure()
        assert isinstance(why, ssl.SSLCertVerificationError)
        assert reason in str(why)


@ensureDeferred
async def test_insecure(meeting: Meeting) -> None:
    """B8.4: without verification anybody will do."""
    insecure = TLSSettings(verify=False)
    context = meeting.serverContext(meeting.certificates.stranger)
    protocol, _ = await meeting.pair(settings=insecure, hostname="other.example", context=context)
    assert protocol.events == ["made"]


@ensureDeferred
async def test_serverName(meeting: Meeting) -> None:
    """B8.4: another name than that connected to can be asked for, and is the one that is verified."""
    asked = []
    context = meeting.serverContext()
    context.sni_callback = lambda connection, name, _: asked.append(name)  # type: ignore[assignment,return-value]
    await meeting.pair(
        settings=meeting.settings(serverName="app.example"), hostname="10.0.0.1", context=context
    )
    assert asked == ["app.example"]


@ensureDeferred
async def test_clientCertificate(meeting: Meeting) -> None:
    """B8.4: a client certificate is shown to an upstream that asks for one."""
    context = meeting.serverContext()
    context.load_verify_locations(meeting.certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    settings = meeting.settings(certificate=meeting.certificates.client)
    _, peer = await meeting.pair(settings=settings, context=context)
    assert peer.ssl.getpeercert()["subject"] == ((("commonName", "client"),),)  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@ensureDeferred
async def test_oldVersion(meeting: Meeting) -> None:
    """An upstream that speaks nothing newer than TLS 1.1 is refused."""
    context = meeting.serverContext()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    _, raw = await meeting.connect()
    with pytest.raises((ssl.SSLError, EOFError)):
        await TLSPeer(raw, context).handshake()
    assert isinstance(await meeting.failure(), ssl.SSLError)


@ensureDeferred
async def test_notTLS(meeting: Meeting) -> None:
    """B8.4: an upstream that does not speak TLS fails the handshake, as do one that closes and one that
    resets."""
    _, raw = await meeting.connect()
    await raw.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert isinstance(await meeting.failure(), ssl.SSLError)
    for how in ("close", "reset"):
        _, raw = await meeting.connect()
        getattr(raw, how)()
        assert type(await meeting.failure()).__name__ == "ConnectionLost"


@ensureDeferred
async def test_givenUp(meeting: Meeting) -> None:
    """B9: a handshake that takes too long can be aborted, and says so once."""
    _, raw = await meeting.connect()
    meeting.layer.abortConnection()
    assert type(await meeting.failure()).__name__ == "ConnectionAborted"
    with pytest.raises(ConnectionResetError):
        while await raw.read(1000):
            pass


@ensureDeferred
async def test_closedInHandshake(meeting: Meeting) -> None:
    """A handshake can be given up in an orderly way, too."""
    _, raw = await meeting.connect()
    meeting.layer.stopProducing()
    assert type(await meeting.failure()).__name__ in ("ConnectionDone", "ConnectionLost")
    assert (await raw.readAll())[:1] == b"\x16"


@ensureDeferred
async def test_unusableSettings(meeting: Meeting) -> None:
    """Files that cannot be used, and names that cannot be verified, fail the handshake instead of raising
    somewhere."""
    await meeting.connect(settings=TLSSettings(caFile="/nonexistent"))
    assert isinstance(await meeting.failure(), FileNotFoundError)
    await meeting.connect(hostname="")
    assert isinstance(await meeting.failure(), ValueError)


def test_settings(certificates: Certificates) -> None:
    """Settings are values: equal ones hash alike and share a context, and other ones do not."""
    one, same = (TLSSettings(caFile=certificates.authority) for _ in range(2))
    other = TLSSettings(caFile=certificates.authority, protocols=("h2",))
    assert (one, hash(one)) == (same, hash(same))
    assert one.context() is same.context()
    assert one != other
    assert one.context() is not other.context()
    assert (TLSSettings().verify, TLSSettings().context().check_hostname) == (True, True)
    with pytest.raises(OSError):  # noqa: PT011: the promise is no more than this
        TLSSettings(certificate=certificates.authority + ".csr").context()


# -- bytes -----------------------------------------------------------------------------------------


@ensureDeferred
async def test_kindsOfBytes(meeting: Meeting) -> None:
    """Anything that holds bytes can be written, nothing included; text cannot."""
    protocol, peer = await meeting.pair()
    write = protocol.transport.write
    write(b"")
    write(bytearray(b"bytearray "))
    write(memoryview(b"wide").cast("I"))
    protocol.transport.writeSequence([b" se", b"quence"])
    with pytest.raises(TypeError):
        write("text")
    assert await peer.read(23) == b"bytearray wide sequence"


@ensureDeferred
async def test_largeBothWays(meeting: Meeting) -> None:
    """Megabytes arrive whole in both directions at once, past a slow reader and pauses at random."""
    protocol, peer = await meeting.pair(receiveBuffer=4096)
    chance = random.Random(7)
    down, up = random.Random(1).randbytes(3 * MB), random.Random(2).randbytes(3 * MB)

    def sometimesPause(data: bytes) -> None:
        if chance.random() < 0.3:
            protocol.transport.pauseProducing()
            meeting.reactor.callLater(chance.choice((0, 0, 0.002)), protocol.transport.resumeProducing)
        elif chance.random() < 0.3:
            protocol.transport.pauseProducing()
            protocol.transport.resumeProducing()

    protocol.onData = sometimesPause
    protocol.transport.write(up[: 2 * MB])
    protocol.transport.write(up[2 * MB :])
    received = hashlib.sha256()
    taken = 0
    for at in range(0, len(down), 70_000):
        await peer.send(down[at : at + 70_000])
        if taken < len(up):
            piece = await peer.read(min(65536, len(up) - taken))
            received.update(piece)
            taken += len(piece)
    received.update(await peer.read(len(up) - taken))
    await until(lambda: len(protocol.received) == len(down))
    assert received.digest() == hashlib.sha256(up).digest()
    assert hashlib.sha256(protocol.received).digest() == hashlib.sha256(down).digest()


@ensureDeferred
async def test_pausedHoldsLittle(meeting: Meeting) -> None:
    """B4.2: while reading is paused the upstream is held back, and no more than a read's worth waits here."""
    protocol, peer = await meeting.pair()
    protocol.onData = lambda data: protocol.transport.pauseProducing()
    data = random.Random(3).randbytes(400_000)
    for at in range(0, len(data), 16384):
        # As one write each, so that the client's reads are full.
        peer.ssl.write(data[at : at + 16384])
    encrypted = memoryview(peer._outgoing.read())
    sent = peer.peer.socket.send(encrypted)
    await until(lambda: protocol.received)
    await turn(0.03)
    assert 0 < len(protocol.received) <= 16384
    assert meeting.layer._incoming.pending <= 64 * 1024
    protocol.onData = lambda data: None
    protocol.transport.resumeProducing()
    assert len(protocol.received) <= 16384, "not from inside resumeProducing"
    await peer.peer.send(bytes(encrypted[sent:]))
    await until(lambda: len(protocol.received) == len(data))
    assert bytes(protocol.received) == data


@ensureDeferred
async def test_byteByByte(meeting: Meeting) -> None:
    """Records that come in single bytes are put together."""
    protocol, peer = await meeting.pair()
    peer.ssl.write(b"hello ")
    peer.ssl.write(b"world")
    for byte in peer._outgoing.read():
        await peer.peer.send(bytes([byte]))
        await turn()
    await until(lambda: len(protocol.received) == 11)
    assert bytes(protocol.received) == b"hello world"


@ensureDeferred
async def test_sameSegmentAsTheHandshake(meeting: Meeting) -> None:
    """Bytes in the same segment as the end of the handshake are delivered behind connectionMade."""
    context = meeting.serverContext()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in which the upstream's flight ends the handshake
    protocol, raw = await meeting.connect()
    peer = TLSPeer(raw, context)
    while True:
        try:
            peer.ssl.do_handshake()
        except ssl.SSLWantReadError:
            await peer._flush()
            peer._incoming.write(await raw.read(1))
        else:
            break  # with the last flight still here
    peer.ssl.write(b"220 ready")
    await peer._flush()
    await until(lambda: protocol.received)
    assert bytes(protocol.received) == b"220 ready"
    assert meeting.outcomes == ["ready"]
    meeting.outcomes.clear()


@ensureDeferred
async def test_producers(meeting: Meeting) -> None:
    """Producers of both kinds are paused and resumed by what the upstream takes."""

    class Producer:
        paused = 0
        left = 60

        def resumeProducing(self) -> None:
            if self.left:
                self.left -= 1
                protocol.transport.write(bytes(50_000))
            else:
                protocol.transport.unregisterProducer()

        def pauseProducing(self) -> None:
            self.paused += 1

        def stopProducing(self) -> None:
            raise AssertionError("nobody is to be stopped")

    protocol, peer = await meeting.pair(receiveBuffer=4096)
    protocol.transport.registerProducer(Producer(), False)
    protocol.transport.loseConnection()
    assert len(await peer.readAll()) == 60 * 50_000
    await until(lambda: protocol.lost)
    protocol, peer = await meeting.pair(receiveBuffer=4096)
    producer = Producer()
    protocol.transport.registerProducer(producer, True)
    protocol.transport.write(bytes(5 * MB))
    await until(lambda: producer.paused)
    if hasattr(protocol.transport.transport, "unsentBytes"):
        assert protocol.transport.unsentBytes > 0
    producer.left = 1
    assert len(await peer.read(5 * MB + 50_000)) == 5 * MB + 50_000
    protocol.transport.unregisterProducer()
    assert producer.left == 0


# -- ends ------------------------------------------------------------------------------------------


@ensureDeferred
async def test_closeNotify(meeting: Meeting) -> None:
    """An upstream that ends the stream with a close-notify is done, whether it closes the connection, too,
    or not."""
    for closing in (True, False):
        protocol, peer = await meeting.pair()
        await peer.send(b"last words")
        await peer.closeNotify()
        if closing:
            peer.peer.close()
        await until(lambda protocol=protocol: protocol.lost)
        assert bytes(protocol.received) == b"last words"
        assert protocol.events == ["made", ("lost", "ConnectionDone")]
        if not closing:
            assert await peer.readAll() == b""


@ensureDeferred
async def test_truncation(meeting: Meeting) -> None:
    """B5.5: an end without close-notify is ConnectionLost, for every kind of protocol: somebody may have
    cut it off."""
    for protocolClass in (Recorder, HalfCloseable):
        protocol, peer = await meeting.pair(protocolClass)
        await peer.send(b"half of it")
        peer.peer.close()
        await until(lambda protocol=protocol: protocol.lost)
        assert bytes(protocol.received) == b"half of it"
        assert protocol.events == ["made", ("lost", "ConnectionLost")]


@ensureDeferred
async def test_reset(meeting: Meeting) -> None:
    """A reset is ConnectionLost."""
    protocol, peer = await meeting.pair()
    peer.peer.reset()
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionLost")]


@ensureDeferred
async def test_closeNotifyWhileUnsent(hubReactor: HubReactor, certificates: Certificates) -> None:
    """An upstream that has ended its stream and reads no more holds up nothing."""
    meeting = Meeting(hubReactor, certificates)
    protocol, peer = await meeting.pair(receiveBuffer=4096)
    protocol.transport.write(bytes(20 * MB))
    await peer.closeNotify()
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionDone")]
    await meeting.close()


@ensureDeferred
async def test_garbage(meeting: Meeting) -> None:
    """Bytes that are no TLS end the connection with OpenSSL's error, and a write behind it goes nowhere."""
    protocol, peer = await meeting.pair()
    await peer.peer.send(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "SSLError")]
    meeting.layer.write(b"into the void")


@ensureDeferred
async def test_loseConnection(meeting: Meeting) -> None:
    """loseConnection sends everything, then a close-notify, and does not wait for the upstream's."""
    context = meeting.serverContext()
    # Session tickets that come too late to be read would make Twisted's own transport reset the connection.
    context.num_tickets = 0
    protocol, peer = await meeting.pair(context=context, receiveBuffer=4096)
    protocol.transport.write(bytes(2 * MB))
    protocol.transport.loseConnection()
    protocol.transport.write(b"ignored")
    protocol.transport.resumeProducing()
    assert protocol.lost is None
    assert len(await peer.readAll()) == 2 * MB
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionDone")]
    assert bytes(protocol.received) == b""


@ensureDeferred
async def test_abortConnection(meeting: Meeting) -> None:
    """abortConnection resets, and never from inside the call."""
    protocol, peer = await meeting.pair()
    protocol.transport.abortConnection()
    assert protocol.lost is None
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ConnectionAborted")]
    with pytest.raises(ConnectionResetError):
        while await peer.peer.read(100):
            pass


@ensureDeferred
async def test_halfCloseByUpstream(meeting: Meeting) -> None:
    """B6.3: behind the upstream's close-notify, and the end of its stream, a half-closeable protocol goes
    on writing."""
    for closing in (False, True):
        protocol, peer = await meeting.pair(HalfCloseable)
        await peer.send(b"question")
        await peer.closeNotify()
        if closing:
            peer.peer.halfClose()
        await until(lambda protocol=protocol: "readLost" in protocol.events)
        await turn(0.02)
        assert protocol.lost is None
        protocol.transport.write(b"answer")
        protocol.transport.loseWriteConnection()
        assert await peer.readAll() == b"answer"
        await until(lambda protocol=protocol: protocol.lost)
        assert protocol.events == ["made", "readLost", "writeLost", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_halfCloseByUs(meeting: Meeting) -> None:
    """B6.3: loseWriteConnection sends a close-notify, and the upstream may go on."""
    protocol, peer = await meeting.pair(HalfCloseable)
    protocol.transport.write(b"question")
    protocol.transport.loseWriteConnection()
    protocol.transport.write(b"ignored")
    assert await peer.readAll() == b"question"
    await until(lambda: "writeLost" in protocol.events)
    await peer.send(b"answer")
    await until(lambda: protocol.received)
    await peer.closeNotify()
    await until(lambda: protocol.lost)
    assert bytes(protocol.received) == b"answer"
    assert protocol.events == ["made", "writeLost", "readLost", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_halfCloseWhilePaused(meeting: Meeting) -> None:
    """B6.3: what waits here while reading is paused survives our close-notify."""
    protocol, peer = await meeting.pair(HalfCloseable)
    protocol.onData = lambda data: protocol.transport.pauseProducing()
    for number in range(5):
        peer.ssl.write(b"%d" % number)
    await peer._flush()
    await until(lambda: protocol.received)
    protocol.transport.loseWriteConnection()
    assert await peer.readAll() == b""
    assert bytes(protocol.received) == b"0"
    for number in range(5):
        await until(lambda number=number: len(protocol.received) > number)
        protocol.transport.resumeProducing()
    await peer.closeNotify()
    await until(lambda: protocol.lost)
    assert bytes(protocol.received) == b"01234"
    assert protocol.events == ["made", "writeLost", "readLost", ("lost", "ConnectionDone")]


@ensureDeferred
async def test_peerHungUp(hubReactor: HubReactor, certificates: Certificates) -> None:
    """B7.1: a paused protocol hears that the upstream has hung up, through the TLS connection."""
    meeting = Meeting(hubReactor, certificates)
    protocol, peer = await meeting.pair(Attentive)
    protocol.transport.pauseProducing()
    await peer.send(b"early")
    await peer.closeNotify()
    peer.peer.halfClose()
    await until(lambda: len(protocol.events) > 1)
    assert protocol.events == ["made", ("hungUp", False)]
    protocol.transport.resumeProducing()
    await until(lambda: protocol.lost)
    assert bytes(protocol.received) == b"early"
    protocol, peer = await meeting.pair()
    protocol.transport.pauseProducing()
    peer.peer.reset()
    await turn(0.02)
    protocol.transport.resumeProducing()
    await until(lambda: protocol.lost)
    await meeting.close()


@ensureDeferred
async def test_protocolReplaced(meeting: Meeting) -> None:
    """Bytes and the end go to whatever protocol stands above at that time."""
    protocol, peer = await meeting.pair()
    second = Recorder()
    protocol.transport.protocol = second
    await peer.send(b"second")
    await until(lambda: second.received)
    await peer.closeNotify()
    await until(lambda: second.lost)
    assert (protocol.events, second.events) == (["made"], [("lost", "ConnectionDone")])
    protocol.lost = second.lost


# -- errors, and what is left ----------------------------------------------------------------------


@ensureDeferred
async def test_errors(meeting: Meeting, loggedErrors: list[Any]) -> None:
    """B7.4: a protocol that raises loses its connection, in whichever way its bytes came."""

    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    protocol, peer = await meeting.pair()
    protocol.onData = fail
    await peer.send(b"x")
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ZeroDivisionError")]
    protocol, peer = await meeting.pair()

    def pauseThenFail(data: bytes) -> None:
        protocol.transport.pauseProducing()
        protocol.onData = fail

    protocol.onData = pauseThenFail
    peer.ssl.write(b"first")
    peer.ssl.write(b"second")
    await peer._flush()
    await until(lambda: protocol.received)
    protocol.transport.resumeProducing()
    await until(lambda: protocol.lost)
    assert protocol.events == ["made", ("lost", "ZeroDivisionError")]
    # Twisted's own transports log in the old way.
    failures = [event.get("log_failure") or event["failure"] for event in loggedErrors]
    assert [failure.type for failure in failures] == [ZeroDivisionError] * 2
    loggedErrors.clear()


@ensureDeferred
async def test_errorInConnectionMade(
    hubReactor: HubReactor, certificates: Certificates, loggedErrors: list[Any]
) -> None:
    """B7.4: a protocol that raises when it is connected counts as a failure: somebody waits for either
    outcome."""

    class Bad(Recorder):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

    meeting = Meeting(hubReactor, certificates)
    protocol, raw = await meeting.connect(Bad)
    await TLSPeer(raw, meeting.serverContext()).handshake()
    await until(lambda: protocol.lost)
    assert [type(outcome) for outcome in meeting.outcomes] == [ZeroDivisionError]
    assert protocol.events == [("lost", "ZeroDivisionError")]
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()
    meeting.outcomes.clear()
    await meeting.close()


@ensureDeferred
async def test_noGarbage(hubReactor: HubReactor, certificates: Certificates) -> None:
    """A lost connection is freed by reference counts alone, one that never got through the handshake, too."""
    meeting = Meeting(hubReactor, certificates)
    gc.collect()
    gc.disable()
    try:
        for ready in (True, False):
            if ready:
                protocol, peer = await meeting.pair()
                await peer.send(b"hello")
                await until(lambda protocol=protocol: protocol.received)
                await peer.closeNotify()
                await until(lambda protocol=protocol: protocol.lost)
                peer.peer.close()
                del peer
            else:
                protocol, raw = await meeting.connect()
                raw.close()
                await meeting.failure()
            alive = [weakref.ref(each) for each in (protocol, meeting.layer, meeting.layer.transport)]
            protocol = meeting.layer = None
            meeting.protocols.clear()
            await until(lambda alive=alive: not any(ref() for ref in alive), "everything to be freed")
    finally:
        gc.enable()
        await meeting.close()


@ensureDeferred
async def test_options(meeting: Meeting) -> None:
    """What is asked of the socket is asked of the transport below."""
    protocol, peer = await meeting.pair()
    transport = protocol.transport
    assert transport.getPeer().port == meeting.listening.getsockname()[1]
    assert transport.getHost().port == peer.peer.socket.getpeername()[1]
    assert transport.getHandle().fileno() >= 0
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (True, True)
    assert "open" in repr(transport)


class InMemory:
    """A connection through memory alone, where there is no reactor."""

    def __init__(self, certificates: Certificates) -> None:
        self.outcomes: list[Any] = []
        self.protocol = HalfCloseable()
        self.layer: TLSConnection = clientTLS(
            self.protocol,
            TLSSettings(caFile=certificates.authority),
            "localhost",
            lambda: self.outcomes.append("ready"),
            self.outcomes.append,
        )
        self.below = StringTransportWithDisconnection()
        self.below.protocol = self.layer
        incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server)
        self.server = context.wrap_bio(incoming, self.outgoing, server_side=True)
        self.layer.makeConnection(self.below)
        for _ in range(3):
            incoming.write(self.below.value())
            self.below.clear()
            try:
                self.server.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.layer.dataReceived(self.outgoing.read())
        assert self.outcomes == ["ready"]


def test_inMemory(certificates: Certificates) -> None:
    """Over a transport in memory everything happens at once."""
    memory = InMemory(certificates)
    protocol, layer, below = memory.protocol, memory.layer, memory.below
    protocol.onData = lambda data: layer.pauseProducing()
    memory.server.write(b"one")
    memory.server.write(b"two")
    layer.dataReceived(memory.outgoing.read())
    assert (bytes(protocol.received), below.producerState) == (b"one", "paused")
    layer.resumeProducing()
    layer.resumeProducing()
    assert (bytes(protocol.received), below.producerState) == (b"onetwo", "producing")
    layer.loseWriteConnection()
    assert protocol.events == ["made", "writeLost"]
    layer.loseConnection()
    assert protocol.events == ["made", "writeLost", ("lost", "ConnectionDone")]


def test_truncationInMemory(certificates: Certificates) -> None:
    """B5.5: a transport below that knows no half-close cannot make a truncation look like an end."""
    memory = InMemory(certificates)
    memory.below.loseConnection()
    assert memory.protocol.events == ["made", ("lost", "ConnectionLost")]
