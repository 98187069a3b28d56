"""
WebSockets through a stock site behind TLS: the C{websockets} package on both ends, in threads of their own.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.net.peers import until
from tests.support.certificates import Authority
from tests.support.volume import Worker
from twistproxy import ReverseProxyResource, StreamingRequest

sync = pytest.importorskip("websockets.sync.client", reason="the package websockets is not installed")
from websockets.exceptions import ConnectionClosedError, InvalidStatus  # noqa: E402 (behind the skip)
from websockets.sync.server import Server  # noqa: E402

from tests.support.websocket import echoServer  # noqa: E402

LARGE = hashlib.shake_128(b"websocket").digest(8_000_000)

Talk = Callable[..., Any]


@pytest.fixture
def webSocketServer() -> Iterator[Server]:
    """A server that echoes, in threads."""
    with echoServer() as server:
        yield server


@pytest.fixture(params=[Request, StreamingRequest], ids=["stock", "streaming"])
def talk(request: pytest.FixtureRequest, warmReactor: Any, webSocketServer: Server, tmp_path: Path) -> Iterator[Talk]:
    """Has a conversation through a site that has the proxy below C{/ws}, in a thread."""
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("site", "DNS:localhost,IP:127.0.0.1")
    context = ssl.create_default_context(cafile=str(authority.file))
    proxy = ReverseProxyResource.to(
        f"http://127.0.0.1:{webSocketServer.socket.getsockname()[1]}", reactor=warmReactor
    )
    root = Resource()
    root.putChild(b"ws", proxy)
    site = Site(root, requestFactory=request.param)
    description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    port = pytest_twisted.blockon(serverFromString(warmReactor, description).listen(site))

    async def converse(path: str, conversation: Callable[[Any], None]) -> None:
        def play(_: Worker) -> None:
            url = f"wss://127.0.0.1:{port.getHost().port}/ws{path}"
            with sync.connect(url, ssl=context, max_size=None, open_timeout=30, proxy=None) as connection:
                conversation(connection)

        await Worker(play).done()

    async def stop() -> None:
        await port.stopListening()
        await proxy.close(cut=True)
        proxy.proxy.transport.cut()
        await until(lambda: not proxy.exchanges)

    yield converse
    pytest_twisted.blockon(Deferred.fromCoroutine(stop()))


@pytest_twisted.ensureDeferred
async def test_conversation(talk: Talk) -> None:
    """B6: messages of every size and kind, pings, and a close of the client with its code."""

    def conversation(connection: Any) -> None:
        for message in ("text", b"bytes", "", "x" * 70_000, LARGE):
            connection.send(message)
            assert connection.recv() == message
        assert connection.ping().wait(30)
        connection.close(1000, "thanks")
        assert (connection.close_code, connection.close_reason) == (1000, "thanks")

    await talk("/echo", conversation)


@pytest_twisted.ensureDeferred
async def test_closedByTheUpstream(talk: Talk) -> None:
    """B6.3: the upstream's close arrives with its code."""

    def conversation(connection: Any) -> None:
        connection.send("close")
        with pytest.raises(Exception) as ended:
            connection.recv()
        assert not isinstance(ended.value, ConnectionClosedError)
        assert (connection.close_code, connection.close_reason) == (1001, "as you like")

    await talk("/echo", conversation)


@pytest_twisted.ensureDeferred
async def test_refused(talk: Talk) -> None:
    """B6: an upstream that refuses is answered for."""
    with pytest.raises(InvalidStatus) as refused:
        await talk("/refused", lambda connection: None)
    assert (refused.value.response.status_code, refused.value.response.body) == (403, b"not you\n")
