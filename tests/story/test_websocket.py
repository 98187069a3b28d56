"""
Story: the C{websockets} package on both ends, each in a process or thread of its own, and the proxy between them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted

from tests.net.peers import until
from tests.support.volume import Worker

sync = pytest.importorskip("websockets.sync.client", reason="the package websockets is not installed")
from websockets.exceptions import ConnectionClosedError, InvalidStatus  # noqa: E402 (behind the skip)
from websockets.sync.server import Server  # noqa: E402

from tests.support.websocket import echoServer  # noqa: E402

LARGE = hashlib.shake_128(b"websocket").digest(20_000_000)


@pytest.fixture
def webSocketServer() -> Iterator[Server]:
    """A server that echoes, in threads."""
    with echoServer() as server:
        yield server


async def talk(served: Any, path: str, conversation: Callable[[Any], None]) -> None:
    """Have a conversation through the proxy, in a thread."""

    def play(_: Worker) -> None:
        url = f"ws://127.0.0.1:{served.number}{path}"
        with sync.connect(url, max_size=None, open_timeout=30, proxy=None) as connection:
            conversation(connection)

    await Worker(play).done()


def targetOf(server: Server) -> str:
    """
    @return: where a server listens.
    """
    return f"http://127.0.0.1:{server.socket.getsockname()[1]}"


@pytest_twisted.ensureDeferred
async def test_messages(serve: Any, webSocketServer: Server) -> None:
    """B6.1: text, binary, fragments, pings and 20 MB in one message; then the client's close handshake."""

    def conversation(connection: Any) -> None:
        for number in range(200):
            connection.send(f"message {number}")
            assert connection.recv() == f"message {number}"
        connection.send(bytes(range(256)))
        assert connection.recv() == bytes(range(256))
        connection.send(["in ", "three ", "fragments"])
        assert connection.recv() == "in three fragments"
        assert connection.ping().wait(30)
        connection.send(LARGE)
        assert connection.recv() == LARGE
        connection.close(1000, "done")
        assert connection.close_code == 1000

    served = serve(targetOf(webSocketServer))
    await talk(served, "/", conversation)
    [record] = await served.settled()
    assert (record.status, record.tunnelled, record.error) == (101, True, None)
    assert record.requestBytes > len(LARGE)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_serverCloses(serve: Any, webSocketServer: Server) -> None:
    """B6.3: the server's close handshake reaches the client with its code and reason."""

    def conversation(connection: Any) -> None:
        connection.send("close")
        assert list(connection) == []
        assert (connection.close_code, connection.close_reason) == (1001, "as you like")

    served = serve(targetOf(webSocketServer))
    await talk(served, "/", conversation)
    [record] = await served.settled()
    assert record.error is None
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_serverGone(serve: Any, webSocketServer: Server) -> None:
    """B6.3: a server that vanishes without a word takes the client's connection with it."""

    def conversation(connection: Any) -> None:
        connection.send("hello")
        assert connection.recv() == "hello"
        connection.send("die")
        with pytest.raises(ConnectionClosedError):
            connection.recv(timeout=30)

    served = serve(targetOf(webSocketServer))
    await talk(served, "/", conversation)
    await until(lambda: not served.site.connections, "the end of the connection")
    await served.settled()
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_refused(serve: Any, webSocketServer: Server) -> None:
    """B6.2: a handshake that the server refuses is an ordinary response."""
    served = serve(targetOf(webSocketServer))
    with pytest.raises(InvalidStatus) as refusal:
        await talk(served, "/refused", lambda _: None)
    assert refusal.value.response.status_code == 403
    [record] = await served.settled()
    assert (record.status, record.tunnelled, record.error) == (403, False, None)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_manyAtOnce(serve: Any, webSocketServer: Server) -> None:
    """B6.1: fifty conversations at the same time do not mix."""
    ready = threading.Barrier(50)

    def conversation(connection: Any) -> None:
        name = f"{id(connection)} " * 100
        ready.wait(30)
        for number in range(20):
            connection.send(f"{name}{number}")
            assert connection.recv() == f"{name}{number}"

    served = serve(targetOf(webSocketServer))

    def play(_: Worker) -> None:
        with sync.connect(f"ws://127.0.0.1:{served.number}/", open_timeout=30, proxy=None) as connection:
            conversation(connection)

    for worker in [Worker(play) for _ in range(50)]:
        await worker.done()
    assert [record.error for record in await served.settled(50)] == [None] * 50
    await served.calm()
