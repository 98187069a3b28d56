"""
Story: upstreams behind TLS, with an authority of our own, and behind UNIX sockets.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.net.peers import turn, until
from tests.support.certificates import Authority
from tests.support.nginx import Nginx
from tests.support.peers import Client
from tests.support.volume import BLOCK, Receiving, Worker, blocking, digestOf, sendBlocks
from twistproxy import TargetDirector
from twistproxy.deadlines import Timeouts
from twistproxy.errors import Stage
from twistproxy.net.tls import TLSSettings

DATA = hashlib.shake_128(b"secret").digest(3_000_000)

SERVER = """
ssl_certificate {certificate};
ssl_certificate_key {key};
ssl_protocols {protocol};
location /upload/ {{{{ alias {folder}/files/; dav_methods PUT; }}}}
location /who {{{{ return 200 "$ssl_protocol $ssl_server_name $http_host"; }}}}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority of our own."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., Nginx]]:
    """Makes an nginx with a certificate that is good for what the test says."""
    made: list[Nginx] = []

    def make(
        alternative: str = "DNS:localhost,IP:127.0.0.1", lines: str = "", protocol: str = "TLSv1.3"
    ) -> Nginx:
        folder = tmp_path / f"nginx{len(made)}"
        folder.mkdir()
        certificate, key = authority.certificate(f"origin{len(made)}", alternative)
        server = SERVER.format(certificate=certificate, key=key, folder=folder, protocol=protocol) + lines
        made.append(Nginx(folder, server, "listen 127.0.0.1:{} ssl;".format))
        (made[-1].files / "large").write_bytes(DATA)
        return made[-1]

    yield make
    for nginx in made:
        nginx.stop()


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
@pytest_twisted.ensureDeferred
async def test_verified(serve: Any, secure: Any, authority: Authority, protocol: str) -> None:
    """B8.4: a certificate of the authority that was named is good; large bodies, both ways, over a kept connection."""
    nginx = await secure(protocol=protocol).start()
    served = serve(f"https://localhost:{nginx.number}", tls=TLSSettings(caFile=str(authority.file)))
    client = served.client()
    assert (await client.get("/who")).body == f"{protocol} localhost localhost:{nginx.number}".encode()
    assert (await client.get("/large")).body == DATA
    await client.ask("PUT", "/upload/new", (), DATA)
    assert (await client.response()).status == 201
    assert (nginx.files / "new").read_bytes() == DATA
    records = await served.settled(3)
    assert [(record.error, record.reused) for record in records] == [
        (None, False),
        (None, True),
        (None, True),
    ]
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_notTrusted(serve: Any, secure: Any) -> None:
    """B8.4: a certificate that nobody vouches for is a 502, and nothing of the request is sent."""
    nginx = await secure().start()
    served = serve(f"https://localhost:{nginx.number}")
    client = served.client()
    response = await client.get("/who")
    assert (response.status, response.body) == (502, b"502 Bad Gateway\n")
    [record] = await served.settled()
    assert (record.error.stage, record.tries) == (Stage.TLS, 0)
    assert "certificate" in record.error.reason.lower()
    nginx.stop()
    assert nginx.log == []


@pytest_twisted.ensureDeferred
async def test_wrongName(serve: Any, secure: Any, authority: Authority) -> None:
    """B8.4: nor is a good certificate of somebody else, unless his name is what we ask for."""
    nginx = await secure("DNS:other.test").start()
    ca = str(authority.file)
    served = serve(f"https://localhost:{nginx.number}", tls=TLSSettings(caFile=ca))
    assert (await served.client().get("/who")).status == 502
    named = serve(f"https://127.0.0.1:{nginx.number}", tls=TLSSettings(caFile=ca, serverName="other.test"))
    response = await named.client().get("/who")
    assert response.body == f"TLSv1.3 other.test 127.0.0.1:{nginx.number}".encode()


@pytest_twisted.ensureDeferred
async def test_clientCertificate(serve: Any, secure: Any, authority: Authority) -> None:
    """B8.4: an upstream that asks for a certificate gets the one that was configured."""
    lines = f"ssl_client_certificate {authority.file}; ssl_verify_client on;"
    nginx = await secure(lines=lines).start()
    certificate, key = authority.certificate("proxy", "DNS:proxy.test")
    trusting = TLSSettings(caFile=str(authority.file))
    assert (await serve(f"https://localhost:{nginx.number}", tls=trusting).client().get("/who")).status == 400
    known = TLSSettings(caFile=str(authority.file), certificate=str(certificate), key=str(key))
    assert (await serve(f"https://localhost:{nginx.number}", tls=known).client().get("/who")).status == 200


@pytest_twisted.ensureDeferred
async def test_theCommand(command: Any, secure: Any, authority: Authority) -> None:
    """B8.4: --upstream-ca verifies, no option refuses, --insecure-upstream takes anything and says so loudly."""
    nginx = await secure().start()
    target = ("--target", f"https://localhost:{nginx.number}")
    for options, status in (
        (("--upstream-ca", str(authority.file)), 200),
        ((), 502),
        (("--insecure-upstream",), 200),
    ):
        proxy = await command(*target, *options).started()
        with Client.connect(proxy.number) as client:
            assert isinstance(client, Client)
            assert (await client.get("/who")).status == status
        assert (b"NOT verified" in proxy.output) == ("--insecure-upstream" in options)


@pytest_twisted.ensureDeferred
async def test_leavesDuringTheHandshake(serve: Any, origin: Any) -> None:
    """B7.1: a client that leaves during the handshake takes the connection with it; so does the handshake's limit."""
    served = serve(f"https://127.0.0.1:{origin.port}", timeouts=Timeouts(tlsHandshake=0.3))
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    assert await upstream.exactly(1) == b"\x16"
    client.reset()
    assert await upstream.ending() in ("closed", "reset")
    await served.settled()
    patient = served.client()
    await patient.ask()
    upstream = await origin.accept()
    assert (await patient.response()).status == 504
    assert await upstream.ending() in ("closed", "reset")
    left, late = await served.settled(2)
    assert (left.status, left.error.stage) == (499, Stage.TLS)
    assert (late.error.timeout, late.error.stage) == ("tlsHandshake", Stage.TLS)
    await served.calm()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_tunnelOverTLS(serve: Any, authority: Authority, version: ssl.TLSVersion) -> None:
    """B6.1, B6.3: upgrades work over TLS, and a half-close travels as a close-notify."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    context.load_cert_chain(*authority.certificate("tunnel", "IP:127.0.0.1"))
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def play(_: Worker) -> None:
            with context.wrap_socket(blocking(sock=listening.accept()[0]), server_side=True) as sock:
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += sock.recv(65536)
                sock.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nhi"
                )
                while piece := sock.recv(65536):
                    received.append(piece)
                sock.sendall(DATA)
                sock.unwrap().close()

        target = f"https://127.0.0.1:{listening.getsockname()[1]}"
        served = serve(target, tls=TLSSettings(caFile=str(authority.file)))
        upstream = Worker(play)
        client = served.client()
        await client.ask("GET", "/", ("Connection: Upgrade", "Upgrade: any"))
        await client.head()
        assert await client.exactly(2) == b"hi"
        await client.send(b"question")
        client.halfClose()
        assert await client.exactly(len(DATA)) == DATA
        assert await client.ending() == "closed"
        await upstream.done()
    assert b"".join(received) == b"question"
    [record] = await served.settled()
    assert record.error is None
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_tunnelOverTwistedsTLS(
    serve: Any, network: Any, warmReactor: Any, authority: Authority, tmp_path: Path
) -> None:
    """B6.1: upgrades work over the TLS of Twisted's own endpoints, on either side: it is decrypted what passes."""
    certificate, key = authority.certificate("twisted", "DNS:localhost")
    (tmp_path / "ca.pem").write_bytes(authority.file.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = DefaultOpenSSLContextFactory(str(key), str(certificate))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = f"endpoint:tls:localhost:{listening.getsockname()[1]}:trustRoots={tmp_path}"
        served = serve(TargetDirector(target, reactor=network))
        port = network.reactor.listenTCP(
            0, TLSMemoryBIOFactory(options, False, served.site), interface="127.0.0.1", backlog=5
        )

        def echo(_: Worker) -> None:
            with context.wrap_socket(blocking(sock=listening.accept()[0]), server_side=True) as sock:
                assert sock.recv(65536).endswith(b"\r\n\r\n")
                sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
                with suppress(OSError):  # it says nothing of how such a tunnel ends
                    while piece := sock.recv(65536):
                        sock.sendall(piece)

        def ask(_: Worker) -> None:
            trusting = ssl.create_default_context(cafile=str(authority.file))
            plain = blocking(port.getHost().port)
            with trusting.wrap_socket(plain, server_hostname="localhost") as sock, sock.makefile("rb") as answer:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
                while answer.readline() != b"\r\n":
                    pass
                for size in (1, 100, 2048, 5000, 40_000):
                    sock.sendall(DATA[:size])
                    assert answer.read(size) == DATA[:size]

        upstream, client = Worker(echo), Worker(ask)
        try:
            await client.done()
            await upstream.done()
        finally:
            await port.stopListening()
    [record] = await served.settled()
    assert (record.requestBytes, record.responseBytes) == (47_149, 47_149)
    await served.calm()


@pytest.mark.parametrize("upload", [True, False], ids=["upload", "download"])
@pytest_twisted.ensureDeferred
async def test_pastAReaderThatStops(serve: Any, authority: Authority, upload: bool) -> None:
    """B4.2, B5.4: backpressure works through TLS: past a reader that stops, the sender gets stuck, and nothing is lost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.certificate("volume", "IP:127.0.0.1"))
    blocks, pause = 100, 5 << 20
    size, go, digests = blocks * len(BLOCK), threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = serve(
            f"https://127.0.0.1:{listening.getsockname()[1]}", tls=TLSSettings(caFile=str(authority.file))
        )

        def receive(sock: Any, worker: Worker) -> None:
            receiving = Receiving(sock)
            receiving.head()
            digests.append(receiving.body(size, worker, pause, go))
            receiving.close()

        def downstream(worker: Worker) -> None:
            with blocking(served.number) as sock:
                method, length = ("PUT", f"Content-Length: {size}\r\n") if upload else ("GET", "")
                sock.sendall(f"{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode())
                if upload:
                    sendBlocks(sock, blocks, False, worker)
                    assert sock.recv(1000).startswith(b"HTTP/1.1 204 ")
                else:
                    receive(sock, worker)

        def upstream(worker: Worker) -> None:
            with context.wrap_socket(blocking(sock=listening.accept()[0]), server_side=True) as sock:
                if upload:
                    receive(sock, worker)
                    sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                else:
                    sock.recv(1000)
                    sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
                    sendBlocks(sock, blocks, False, worker)

        parts = [Worker(downstream), Worker(upstream)]
        sender, receiver = parts if upload else parts[::-1]
        try:
            while receiver.moved < pause:
                assert receiver.failure is None, receiver.failure
                await turn(0.001)
            ahead = await sender.stuck() - receiver.moved
        finally:
            go.set()
        for part in parts:
            await part.done()
    assert ahead < size // 2
    assert digests == [digestOf(blocks)]
    await served.settled()
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_upstreamSaysGoodbye(serve: Any, authority: Authority) -> None:
    """B8.2: an upstream that ends an idle connection with a close-notify, and waits for ours, gets it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.certificate("goodbye", "IP:127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def play(_: Worker) -> None:
            with context.wrap_socket(blocking(sock=listening.accept()[0]), server_side=True) as sock:
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                sock.unwrap().close()  # waits for the proxy's close-notify

        target = f"https://127.0.0.1:{listening.getsockname()[1]}"
        served = serve(target, tls=TLSSettings(caFile=str(authority.file)))
        upstream = Worker(play)
        assert (await served.client().get()).status == 200
        await upstream.done()
        await until(lambda: not any(pool.connections for pool in served.pools), "the end of the connection")


@pytest_twisted.ensureDeferred
async def test_unixSocket(serve: Any, makeOrigin: Any, socketFolder: str) -> None:
    """B8.4: an upstream behind a UNIX socket: kept connections, large bodies both ways, a client that leaves, a restart."""
    path = f"{socketFolder}/socket"
    origin = makeOrigin(path=path)
    served = serve(f"unix:{path}")
    client = served.client()
    sending = Deferred.fromCoroutine(client.ask("PUT", "/one", (), DATA))
    upstream = await origin.accept()
    request = await upstream.request()
    await sending
    assert (request.body, request[b"host"]) == (DATA, b"localhost")
    answering = Deferred.fromCoroutine(upstream.answer(DATA))
    assert (await client.response()).body == DATA
    await answering
    await client.ask("GET", "/two")
    assert (await upstream.request()).target == b"/two"
    client.reset()
    assert await upstream.ending() in ("closed", "reset")
    origin.close()
    await until(lambda: not any(pool.connections for pool in served.pools), "the end of the connections")
    assert (await served.client().get()).status == 502
    again = makeOrigin(path=path)
    client = served.client()
    await client.ask()
    upstream = await again.accept()
    await upstream.request()
    await upstream.answer(b"back")
    assert (await client.response()).body == b"back"


@pytest_twisted.ensureDeferred
async def test_tunnelOverAUnixSocket(serve: Any, makeOrigin: Any, socketFolder: str) -> None:
    """B6.1, B6.3: upgrades and half-closes work there, too."""
    path = f"{socketFolder}/socket"
    origin = makeOrigin(path=path)
    served = serve(f"unix:{path}")
    client = served.client()
    await client.ask("GET", "/", ("Connection: Upgrade", "Upgrade: any"))
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nhi")
    await client.head()
    assert await client.exactly(2) == b"hi"
    await client.send(b"question")
    client.halfClose()
    assert await upstream.exactly(8) == b"question"
    assert await upstream.fill() is False
    await upstream.send(b"answer")
    upstream.close()
    assert await client.exactly(6) == b"answer"
    assert await client.ending() == "closed"
    [record] = await served.settled()
    assert record.error is None
    await served.calm()
