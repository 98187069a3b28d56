"""
Making upstream connections, on the hub and on Twisted's own transports.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.net.certificates import Certificates, certificates
from tests.net.peers import RawPeer, Recorder, Recorders, turn, until
from twistproxy.errors import Sent, Side, Stage, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import IDialer
from twistproxy.net.dialer import Dialer
from twistproxy.net.tls import TLSSettings
from twistproxy.rules.target import parseTarget
from twistproxy.upstreams import Target

__all__ = ["certificates"]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that listens, and that nobody accepts from unless the test does."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def dialer(reactor: Any, timeout: float | None = 5.0, handshake: float | None = 5.0, tls: Any = None) -> Dialer:
    """@return: a dialer on a reactor."""
    return Dialer(reactor, timeout, handshake, tls or TLSSettings())


def targetOf(sock: socket.socket, host: str = "127.0.0.1", scheme: str = "http", **options: Any) -> Target:
    """@return: where a socket listens."""
    return Target(scheme, host, sock.getsockname()[1], **options)


async def outcome(deferred: Deferred[Any]) -> Any:
    """@return: what a Deferred fires or fails with."""
    found: list[Any] = []
    deferred.addBoth(lambda result: found.append(getattr(result, "value", result)))
    await until(lambda: found, "the end of an attempt")
    return found[0]


async def connects(reactor: Any, target: Target, sock: socket.socket, timeout: float | None = 5.0) -> None:
    """Dial, talk, and hang up."""
    protocol = Recorder()
    assert await outcome(dialer(reactor, timeout).dial(target, protocol)) is None
    assert protocol.events == ["made"]
    with RawPeer(sock.accept()[0]) as peer:
        protocol.transport.write(b"ping")
        assert await peer.read(4) == b"ping"
        await peer.send(b"pong")
        await until(lambda: protocol.received == b"pong")
    await until(lambda: protocol.lost)


def test_interface(hubReactor: Any) -> None:
    """It is a dialer."""
    assert verifyObject(IDialer, dialer(hubReactor))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest_twisted.ensureDeferred
async def test_connects(anyReactor: Any, listening: socket.socket, host: str) -> None:
    """B8.4: by address and by name."""
    await connects(anyReactor, targetOf(listening, host), listening)


@pytest_twisted.ensureDeferred
async def test_withoutLimit(anyReactor: Any, listening: socket.socket) -> None:
    """B9: a limit that is switched off is none, and not one of no time at all."""
    for host in ("127.0.0.1", "localhost"):
        await connects(anyReactor, targetOf(listening, host), listening, timeout=None)


@pytest_twisted.ensureDeferred
async def test_ipv6(anyReactor: Any) -> None:
    """B8.4: IPv6 literals."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        await connects(anyReactor, parseTarget(f"http://[::1]:{sock.getsockname()[1]}"), sock)


@pytest_twisted.ensureDeferred
async def test_unix(anyReactor: Any) -> None:
    """B8.4: UNIX sockets."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as sock:
        path = str(Path(folder) / "app.sock")
        sock.bind(path)
        sock.listen()
        await connects(anyReactor, parseTarget(f"unix:{path}"), sock)


@pytest_twisted.ensureDeferred
async def test_refused(anyReactor: Any, listening: socket.socket) -> None:
    """B7.2: a refused connection says by whom, and that nothing was sent."""
    target = targetOf(listening)
    listening.close()
    error = await outcome(dialer(anyReactor).dial(target, Recorder()))
    assert (type(error), error.status, error.reason) == (UpstreamError, 502, f"{target.name} refused the connection")
    assert (error.stage, error.side, error.sent) == (Stage.CONNECT, Side.UPSTREAM, Sent.NOTHING)
    assert error.__cause__ is not None


@pytest_twisted.ensureDeferred
async def test_noSocket(anyReactor: Any, tmp_path: Path) -> None:
    """B7.2: a UNIX socket that is not there."""
    error = await outcome(dialer(anyReactor).dial(parseTarget("unix:/nonexistent/app.sock"), Recorder()))
    assert (type(error), error.stage) == (UpstreamError, Stage.CONNECT)
    assert "/nonexistent/app.sock" in error.reason


@pytest_twisted.ensureDeferred
async def test_noName(anyReactor: Any) -> None:
    """B7.2: a name that cannot be resolved."""
    error = await outcome(dialer(anyReactor).dial(parseTarget("http://nonexistent.invalid"), Recorder()))
    assert (type(error), error.stage) == (UpstreamError, Stage.CONNECT)
    assert error.reason == "the name nonexistent.invalid cannot be resolved"


class Full:
    """A socket whose line is full, so that connecting to it takes for ever."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(0)
        self._others = []
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(self.socket.getsockname())
            self._others.append(other)

    def __enter__(self) -> socket.socket:
        return self.socket

    def __exit__(self, *_: object) -> None:
        for sock in (self.socket, *self._others):
            sock.close()


@pytest_twisted.ensureDeferred
async def test_timeout(anyReactor: Any) -> None:
    """B9: one attempt has a limit of time: 504."""
    with Full() as sock:
        error = await outcome(dialer(anyReactor, timeout=0.2).dial(targetOf(sock), Recorder()))
    assert (type(error), error.status, error.timeout, error.stage) == (UpstreamTimeout, 504, "connect", Stage.CONNECT)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest_twisted.ensureDeferred
async def test_cancelled(anyReactor: Any, scheme: str) -> None:
    """B7.1: cancelling gives up at once, and leaves nothing behind."""
    protocol = Recorder()
    with Full() as sock:
        attempt = dialer(anyReactor).dial(targetOf(sock, scheme=scheme), protocol)
        await turn()
        attempt.cancel()
        error = await outcome(attempt)
    assert isinstance(error, Exception)
    assert protocol.events == []


# -- TLS


async def accepted(sock: socket.socket) -> RawPeer:
    """@return: the peer of the next connection."""
    sock.setblocking(False)

    def accept() -> list[socket.socket]:
        try:
            return [sock.accept()[0]]
        except BlockingIOError:
            return []

    [peer] = await until(accept, "a connection")
    return RawPeer(peer)


@pytest_twisted.ensureDeferred
async def test_handshakeTimeout(anyReactor: Any, listening: socket.socket) -> None:
    """B9: a mute peer has its own limit of time: 504, and the connection is closed."""
    protocol = Recorder()
    attempt = dialer(anyReactor, handshake=0.2).dial(targetOf(listening, scheme="https"), protocol)
    with await accepted(listening) as peer:
        error = await outcome(attempt)
        assert (type(error), error.status, error.timeout, error.stage) == (
            UpstreamTimeout,
            504,
            "tlsHandshake",
            Stage.TLS,
        )
        assert protocol.events == []
        with pytest.raises(ConnectionResetError):
            await peer.readAll()


@pytest_twisted.ensureDeferred
async def test_handshakeFails(anyReactor: Any, listening: socket.socket) -> None:
    """B7.2: a peer that does not speak TLS: 502, and nothing of a request was sent."""
    protocol = Recorder()
    attempt = dialer(anyReactor).dial(targetOf(listening, scheme="https"), protocol)
    with await accepted(listening) as peer:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        error = await outcome(attempt)
    assert (type(error), error.stage, error.sent) == (UpstreamError, Stage.TLS, Sent.NOTHING)
    assert error.reason.startswith("the TLS handshake failed: ")
    assert protocol.events == []


@pytest_twisted.ensureDeferred
async def test_cancelledHandshake(anyReactor: Any, listening: socket.socket) -> None:
    """B7.1: cancelling in the handshake closes the connection at once."""
    attempt = dialer(anyReactor).dial(targetOf(listening, scheme="https"), Recorder())
    with await accepted(listening) as peer:
        assert await peer.read(1) == b"\x16"
        attempt.cancel()
        assert isinstance(await outcome(attempt), Exception)
        with pytest.raises(ConnectionResetError):
            await peer.readAll()


@pytest_twisted.ensureDeferred
async def test_tls(anyReactor: Any, certificates: Certificates) -> None:
    """B8.4: TLS is verified; a target may have settings of its own, which go before the dialer's."""
    from twisted.internet import reactor, ssl

    origin = Recorders()
    context = ssl.DefaultOpenSSLContextFactory(certificates.server, certificates.server)
    port = reactor.listenSSL(0, origin, context, interface="127.0.0.1")  # type: ignore[attr-defined]
    # pyOpenSSL's server answers an offer of protocols, which this factory does not choose among, with an alert
    trusting = TLSSettings(caFile=certificates.authority, protocols=())
    number = port.getHost().port
    try:
        strict = dialer(anyReactor, tls=TLSSettings(protocols=()))
        error = await outcome(strict.dial(Target("https", "localhost", number), Recorder()))
        assert (type(error), error.stage) == (UpstreamError, Stage.TLS)
        assert "certificate verify failed" in error.reason
        protocol = Recorder()
        assert await outcome(strict.dial(Target("https", "localhost", number, tls=trusting), protocol)) is None
        protocol.transport.write(b"ping")
        await until(lambda: any(each.received == b"ping" for each in origin.made))
        protocol.transport.abortConnection()
        await until(lambda: protocol.lost)
        await until(lambda: all(each.lost for each in origin.made))
    finally:
        await port.stopListening()
