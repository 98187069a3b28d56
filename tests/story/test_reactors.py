"""
Story: the command on every reactor that can be had here, with the hub and without.
"""

from __future__ import annotations

import hashlib
import importlib.util
import signal
from typing import Any

import pytest
import pytest_twisted

from tests.net.peers import until
from tests.support.peers import Client, Message

DATA = hashlib.shake_128(b"reactor").digest(3_000_000)


def answer(request: Message) -> Any:
    """A download, or what was uploaded, as a digest."""
    if request.target == b"/large":
        return 200, [], DATA
    return 200, [], hashlib.sha256(request.body).hexdigest().encode()


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio", "uvloop"])
@pytest_twisted.ensureDeferred
async def test_smoke(command: Any, webServer: Any, origin: Any, reactor: str) -> None:
    """B8.1, B4.1, B5.4, B6.1, B10.2: kept connections, an upload, a download, a tunnel, and the way down."""
    options: dict[str, Any] = {"twist": (f"--reactor={reactor}",)}
    if reactor == "uvloop":
        if importlib.util.find_spec("uvloop") is None:
            pytest.skip("uvloop is not installed")
        options = {"launcher": ("-m", "tests.support.uvlooptwist")}
    server = webServer(answer)
    starting = [command("--target", target, **options) for target in (server.target, origin.target)]
    proxy, tunnelling = [await process.started() for process in starting]
    with Client.connect(proxy.number) as client, Client.connect(tunnelling.number) as other:
        assert isinstance(client, Client)
        assert isinstance(other, Client)
        for _ in range(20):
            assert (await client.get()).status == 200
        await client.ask("POST", "/", (), DATA)
        assert (await client.response()).body == hashlib.sha256(DATA).hexdigest().encode()
        assert (await client.get("/large")).body == DATA
        await other.ask("GET", "/", ("Connection: Upgrade", "Upgrade: any"))
        upstream = await origin.acceptRequest()
        assert b"\r\nUpgrade: any\r\n" in await upstream.head()
        await upstream.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nhi"
        )
        await other.head()
        assert await other.exactly(2) == b"hi"
        await other.send(b"there")
        assert await upstream.exactly(5) == b"there"
        for process in (proxy, tunnelling):
            process.signal(signal.SIGTERM)
        assert await client.ending() == "closed"
        assert await proxy.status() == 0
        await until(lambda: b"draining: 1 exchanges" in tunnelling.output, "the tunnel's draining")
        upstream.halfClose()
        assert await other.fill() is False
        other.halfClose()
        assert await tunnelling.status() == 0
    assert b"22 exchanges, 0 failed, 0 cut off" in proxy.output
    assert b"1 exchanges, 0 failed, 0 cut off" in tunnelling.output
    assert b"Traceback" not in proxy.output + tunnelling.output
