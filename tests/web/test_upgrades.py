"""
Tunnels through a stock site: half-closes, and all of it behind TLS.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString

from tests.net.peers import turn, until
from tests.support.certificates import Authority
from tests.support.peers import Client

Mount = Callable[..., Any]

ASK = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@pytest.fixture(params=[False, True], ids=["stock", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    """Which request class the site has."""
    chosen: bool = request.param
    return chosen


async def tunnel(mounted: Any, client: Any, extra: bytes = b"") -> Any:
    """
    @return: the upstream's side of a new tunnel.
    """
    await client.send(ASK + extra)
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    assert (asked[b"upgrade"], asked[b"sec-websocket-key"]) == (b"websocket", b"dGhlIHNhbXBsZSBub25jZQ==")
    await connection.send(SWITCH)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    return connection


@pytest_twisted.ensureDeferred
async def test_clientHalfCloses(mount: Mount, streaming: bool) -> None:
    """B6.3: end of file of the client goes to the upstream, and what that has still to say arrives."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    upstream = await tunnel(mounted, client)
    await client.send(b"question")
    client.halfClose()
    assert await upstream.exactly(8) == b"question"
    assert await upstream.fill() is False
    data = bytes(300_000)
    sending = Deferred.fromCoroutine(upstream.send(data))
    assert await client.exactly(len(data)) == data
    await sending
    assert mounted.records == []
    upstream.close()
    assert await client.ending() == "closed"
    [record] = await mounted.settled()
    assert (record.status, record.error, record.requestBytes, record.responseBytes) == (101, None, 8, 300_000)
    await until(lambda: not mounted.channel.transport.connected, "the end of the connection")


@pytest_twisted.ensureDeferred
async def test_clientHalfClosesInFrontOfASlowUpstream(mount: Mount, streaming: bool) -> None:
    """B6.3: a half-close overtakes nothing that was sent before it."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    upstream = await tunnel(mounted, client)
    data = bytes(range(256)) * 40_000
    sending = Deferred.fromCoroutine(client.send(data))
    sending.addCallback(lambda _: client.halfClose())
    await turn(0.05)
    assert await upstream.exactly(len(data)) == data
    assert await upstream.fill() is False
    await sending
    upstream.close()
    assert await client.ending() == "closed"


@pytest_twisted.ensureDeferred
async def test_upstreamHalfCloses(mount: Mount, streaming: bool) -> None:
    """B6.3: and the other way round."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    upstream = await tunnel(mounted, client)
    await upstream.send(b"all")
    upstream.halfClose()
    assert await client.exactly(3) == b"all"
    assert await client.fill() is False
    await client.send(b"still talking")
    assert await upstream.exactly(13) == b"still talking"
    client.close()
    assert await upstream.ending() == "closed"
    [record] = await mounted.settled()
    assert (record.status, record.error, record.requestBytes, record.responseBytes) == (101, None, 13, 3)


@pytest_twisted.ensureDeferred
async def test_clientResetsItsOtherHalf(mount: Mount, streaming: bool) -> None:
    """B6.3: a client that has closed its half can still reset the rest, and the upstream is let go."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    upstream = await tunnel(mounted, client)
    client.halfClose()
    assert await upstream.fill() is False
    client.reset()
    with pytest.raises(ConnectionError):
        while True:
            await upstream.send(bytes(65536))
    await mounted.settled()
    assert mounted.resource.exchanges == set()


@pytest_twisted.ensureDeferred
async def test_halfClosedBeforeTheSwitch(mount: Mount, streaming: bool) -> None:
    """B7.1: outside a tunnel a client that half-closes counts as gone."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    await client.send(ASK)
    upstream = await mounted.origin.acceptRequest()
    await upstream.head()
    client.halfClose()
    assert await upstream.ending() in ("closed", "reset")
    assert [record.status for record in await mounted.settled()] == [499]


# -- behind TLS -------------------------------------------------------------------------------------------------------


class SecureClient(Client):
    """A client that speaks TLS: the standard library's, over the same bare socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def begin(self) -> str | None:
        """
        Shake hands.

        @return: the protocol agreed on.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await super().send(self._outgoing.read())
                self._incoming.write((await until(lambda: super(SecureClient, self)._receive(65536), "a handshake"))[0])
            else:
                await super().send(self._outgoing.read())
                return self._tls.selected_alpn_protocol()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        for at in range(0, len(data), 16384):
            self._tls.write(data[at : at + 16384])
            await super().send(self._outgoing.read())

    def _receive(self, size: int) -> list[bytes]:
        for piece in super()._receive(size):
            if piece:
                self._incoming.write(piece)
            else:
                self._incoming.write_eof()
        try:
            return [self._tls.read(size)]
        except ssl.SSLWantReadError:
            return []
        except ssl.SSLZeroReturnError:
            return [b""]

    async def notifyClose(self) -> None:
        """Say that nothing more is sent, as TLS says it."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        await super().send(self._outgoing.read())


@pytest.fixture
def secure(
    streaming: bool, mount: Mount, warmReactor: Any, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """Mounts a proxy in a stock site behind TLS; gives it and a connected client."""
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("site", "DNS:localhost,IP:127.0.0.1")
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_alpn_protocols(["http/1.1"])  # as browsers do for WebSockets
    ports: list[Any] = []

    async def start() -> tuple[Any, SecureClient]:
        mounted = mount(streaming=streaming)
        description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        port = await serverFromString(warmReactor, description).listen(mounted.site)
        ports.append((port, mounted))
        client = SecureClient(socket.create_connection(("127.0.0.1", port.getHost().port)), context)
        mounted.clients.append(client)
        assert await client.begin() == "http/1.1"
        return mounted, client

    async def stop(port: Any, mounted: Any) -> None:
        for client in mounted.clients:
            client.close()
        await port.stopListening()
        await until(lambda: not any(each._channel.transport.connected for each in mounted.site.channels), "the end")

    yield start
    for port, mounted in ports:
        pytest_twisted.blockon(Deferred.fromCoroutine(stop(port, mounted)))


@pytest.mark.parametrize("extra", [b"", b"early bytes"])
@pytest_twisted.ensureDeferred
async def test_secureTunnel(secure: Callable[..., Any], extra: bytes) -> None:
    """B6: wss: a tunnel behind TLS carries every byte both ways, those that came with the head included."""
    mounted, client = await secure()
    upstream = await tunnel(mounted, client, extra)
    if extra:
        assert await upstream.exactly(len(extra)) == extra
    big = bytes(range(256)) * 4_000
    for first, second in ((client, upstream), (upstream, client)):
        sending = Deferred.fromCoroutine(first.send(b"ping" + big))
        assert await second.exactly(4 + len(big)) == b"ping" + big
        await sending
    await client.notifyClose()
    assert await upstream.ending() == "closed"
    upstream.close()
    [record] = await mounted.settled()
    assert (record.status, record.tunnelled, record.requestBytes) == (101, True, len(extra) + 4 + len(big))


@pytest_twisted.ensureDeferred
async def test_secureTunnelEndedByTheUpstream(secure: Callable[..., Any]) -> None:
    """B6.3: behind TLS the end of the upstream's side ends the whole tunnel (documented), behind all that it has sent."""
    mounted, client = await secure()
    upstream = await tunnel(mounted, client)
    data = bytes(200_000)
    await upstream.send(data)
    upstream.halfClose()
    assert await client.exactly(len(data)) == data
    assert await client.fill() is False
    client.close()
    assert await upstream.ending() in ("closed", "reset")
    await mounted.settled()


@pytest_twisted.ensureDeferred
async def test_secureClientThatDoesNotClose(secure: Callable[..., Any]) -> None:
    """B6.3: a client that does not answer the end of a tunnel is given the channel's time for it, and then let go."""
    mounted, client = await secure()
    mounted.channel.abortTimeout = 0.1
    upstream = await tunnel(mounted, client)
    upstream.close()
    await until(lambda: not mounted.channel.transport.connected, "the end of the connection")
    await mounted.settled()
    assert mounted.resource.exchanges == set()


@pytest_twisted.ensureDeferred
async def test_secureTunnelEndedByTheClient(secure: Callable[..., Any]) -> None:
    """B6.3: behind TLS a client that says it sends no more ends the whole tunnel (documented); the upstream gets all."""
    mounted, client = await secure()
    upstream = await tunnel(mounted, client)
    await client.send(b"x" * 100_000)
    await client.notifyClose()
    assert await upstream.exactly(100_000) == b"x" * 100_000
    assert await upstream.fill() is False
    upstream.close()
    assert await client.ending() in ("closed", "reset")
    await mounted.settled()
