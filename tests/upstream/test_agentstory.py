"""
The native transport as an agent over real connections, with treq and with Twisted's own Agent.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
import treq.client
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    ResponseDone,
    ResponseFailed,
    readBody,
)

from tests.net.peers import until
from tests.support.peers import Message
from tests.upstream.conftest import Flood, Origin, Reader
from tests.upstream.test_transport import outboundTo
from twistproxy.agents import EndpointTarget, ProxyAgent
from twistproxy.errors import Sent, Stage, UpstreamError
from twistproxy.upstream.agent import PooledConnection
from twistproxy.upstream.pool import PoolSettings

Maker = Callable[..., ProxyAgent]


def echo(message: Message) -> Any:
    """An answer that says what was asked."""
    asked = b" ".join((message.method, message.target, message.body))
    return 200, [("X-Fields", ", ".join(name.decode() for name, _ in message.fields))], asked


@pytest_twisted.ensureDeferred
async def test_treq(proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """B8.2: treq's calls, one after the other over one connection, queries and forms and all."""
    server = webServer(echo)
    client = treq.client.HTTPClient(proxyAgent())
    asked = [
        await (await client.get(server.target + "/a", params={"b": "c"})).content(),
        await (await client.post(server.target + "/form", data={"d": "e"})).content(),
        await (await client.put(server.target + "/file", data=io.BytesIO(b"f" * 100_000))).content(),
        await (await client.post(server.target + "/json", json={"g": 1})).content(),
    ]
    assert asked == [b"GET /a?b=c ", b"POST /form d=e", b"PUT /file " + b"f" * 100_000, b'POST /json {"g":1}']
    assert server.connections == 1


@pytest_twisted.ensureDeferred
async def test_treqMultipart(proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """treq's forms with files, which are produced piece by piece."""
    server = webServer(echo)
    client = treq.client.HTTPClient(proxyAgent())
    response = await client.post(server.target, files={"x": ("x.txt", io.BytesIO(b"content of x"))})
    assert b"content of x" in await response.content()


@pytest_twisted.ensureDeferred
async def test_redirectAndCookies(proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """treq follows redirects and keeps cookies over this agent: responses know their requests."""

    def answer(message: Message) -> Any:
        if message.target == b"/from":
            return 302, [("Location", "/to"), ("Set-Cookie", "a=b")], b""
        return 200, [], message[b"cookie"] or b"none"

    server = webServer(answer)
    response = await treq.client.HTTPClient(proxyAgent()).get(server.target + "/from")
    assert (await response.content(), [each.code for each in response.history()]) == (b"a=b", [302])
    assert response.request.absoluteURI == server.target.encode() + b"/to"


@pytest_twisted.ensureDeferred
async def test_streamed(proxyAgent: Maker, origin: Origin) -> None:
    """B5.4: treq collects a body while it is still coming."""
    client = treq.client.HTTPClient(proxyAgent())
    asking = client.get(origin.url, unbuffered=True)
    request = await origin.request()
    request.write(b"one")
    pieces: list[bytes] = []
    collected = treq.collect(await asking, pieces.append)
    await until(lambda: pieces == [b"one"], "the first piece")
    request.write(b"two")
    request.finish()
    await collected
    assert pieces == [b"one", b"two"]


@pytest_twisted.ensureDeferred
async def test_backpressure(proxyAgent: Maker, origin: Origin) -> None:
    """B5.4: a reader that pauses stops a fast upstream, and loses nothing."""
    asking = proxyAgent().request(b"GET", origin.url.encode())
    flood = Flood(await origin.request(), 1000)
    reader = Reader(lambda data: reader.transport.pauseProducing() if len(reader.pieces) == 1 else None)  # type: ignore[union-attr]
    (await asking).deliverBody(reader)
    await flood.stalled()
    assert flood.left > 800 and len(reader.pieces) == 1
    reader.transport.resumeProducing()  # type: ignore[union-attr]
    await until(lambda: reader.reason is not None, "the end of the body")
    assert (len(reader.data), type(reader.reason)) == (65_536_000, ResponseDone)


@pytest_twisted.ensureDeferred
async def test_treqTimeout(proxyAgent: Maker, origin: Origin) -> None:
    """B7.1: treq's timeout gives the request up; the upstream sees it go, and the connection is not used again."""
    agent = proxyAgent()
    asking = treq.client.HTTPClient(agent).get(origin.url, timeout=0.05)
    request = await origin.request()
    gone = request.notifyFinish()
    with pytest.raises(CancelledError):
        await asking
    with pytest.raises(Exception, match="Connection"):
        await gone


@pytest_twisted.ensureDeferred
async def test_cancelAfterHead(proxyAgent: Maker, origin: Origin) -> None:
    """B7.1: cancelling what reads the body ends the request at once."""
    asking = proxyAgent().request(b"GET", origin.url.encode())
    request = await origin.request()
    gone = request.notifyFinish()
    request.write(b"some")
    reading = readBody(await asking)
    reading.cancel()
    with pytest.raises(ResponseFailed):
        await reading
    with pytest.raises(Exception, match="Connection"):
        await gone


@pytest_twisted.ensureDeferred
async def test_fileProducer(proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """B4.1: Twisted's FileBodyProducer, which cannot be paused before it has started, nor stopped after it has ended."""
    server = webServer(lambda message: (200, [], b"%d" % len(message.body)))
    producer = FileBodyProducer(io.BytesIO(bytes(3_000_000)))
    response = await proxyAgent().request(b"PUT", server.target.encode(), None, producer)
    assert await readBody(response) == b"3000000"


@pytest_twisted.ensureDeferred
async def test_refusedConnection(proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """Nobody listens: Twisted's own error, as from its Agent."""
    server = webServer(echo)
    await server.close()
    with pytest.raises(ConnectionRefusedError):
        await proxyAgent().request(b"GET", server.target.encode())


@pytest_twisted.ensureDeferred
async def test_maxConnections(proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """B8.2: ten requests at once over two connections."""
    server = webServer(echo)
    client = treq.client.HTTPClient(proxyAgent(settings=PoolSettings(maxConnections=2)))
    asking = [client.get(f"{server.target}/{number}") for number in range(10)]
    assert [await (await each).content() for each in asking] == [b"GET /%d " % number for number in range(10)]
    assert server.connections == 2


@pytest_twisted.ensureDeferred
async def test_closeCached(proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """B8.2: closeCachedConnections closes the idle ones, and the pool can be used again."""
    server = webServer(echo)
    agent = proxyAgent()
    client = treq.client.HTTPClient(agent)
    for _ in range(2):
        await (await client.get(server.target)).content()
        await agent.pool.closeCachedConnections()
        assert [pool.connections for pool in agent.pools.values()] == [0]
    assert server.connections == 2


@pytest_twisted.ensureDeferred
async def test_stockAgent(warmReactor: Any, proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """B8.2: Twisted's own Agent on our pool: our connections, made by the agent's endpoints, kept and used again."""
    server = webServer(echo)
    pool = proxyAgent().pool
    agent = Agent(warmReactor, pool=pool)
    uri = server.target.encode()
    assert isinstance(await pool.getConnection(("key",), None), PooledConnection)
    asked = [await readBody(await agent.request(b"GET", uri + b"/%d" % number)) for number in range(3)]
    body = FileBodyProducer(io.BytesIO(b"abc"))
    asked.append(await readBody(await agent.request(b"PUT", uri, None, body)))
    assert asked == [b"GET /0 ", b"GET /1 ", b"GET /2 ", b"PUT / abc"]
    assert server.connections == 1
    assert [type(each.target) for each in pool.transport.pools.values()] == [EndpointTarget]


@pytest_twisted.ensureDeferred
async def test_endpointTarget(warmReactor: Any, proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """B8.2: any client endpoint is an upstream: the same endpoint shares connections, another does not."""
    server = webServer(echo)
    agent = proxyAgent()
    one, two = (TCP4ClientEndpoint(warmReactor, "127.0.0.1", server.number) for _ in range(2))
    for endpoint in (one, one, two):
        response = await agent.roundTrip(outboundTo(EndpointTarget("http", "app", 80, endpoint=endpoint)))
        assert response.body == b"GET / "
    assert server.connections == 2


@pytest_twisted.ensureDeferred
async def test_endpointFails(proxyAgent: Maker) -> None:
    """An endpoint that fails, or raises, is an upstream that cannot be reached; nothing was sent."""

    @attrs.frozen
    class Broken:
        """An endpoint."""

        raises: bool

        def connect(self, factory: Any) -> Deferred[Any]:
            if self.raises:
                raise OSError("no")
            return succeed(None).addCallback(lambda _: 1 / 0)

    for raises in (True, False):
        target = EndpointTarget("http", "app", 80, endpoint=Broken(raises))
        with pytest.raises(UpstreamError) as caught:
            await proxyAgent().roundTrip(outboundTo(target))
        assert (caught.value.stage, caught.value.sent) == (Stage.CONNECT, Sent.NOTHING)


@pytest_twisted.ensureDeferred
async def test_example(warmReactor: Any, proxyAgent: Maker, webServer: Callable[..., Any]) -> None:
    """B3.1: the program in docs/agents.rst: its director lets through whom the session service knows, over one pool."""
    application = webServer(lambda message: (200, [], b"welcome"))
    sessions = webServer(lambda message: (200 if message[b"cookie"] == b"known" else 401, [], b""))
    source = (Path(__file__).parents[2] / "docs" / "examples" / "agents.py").read_text()
    source = source.replace("http://localhost:4000", sessions.target).replace(
        "http://localhost:3000", application.target
    )
    source, replaced = re.subn(r"(ProxySite\(.*\))\.listen\(.*\)\nreactor.run\(\)", r"site = \1", source)
    assert replaced == 1
    program: dict[str, Any] = {}
    exec(compile(source, "agents.py", "exec"), program)
    site = program["site"]
    port = warmReactor.listenTCP(0, site, interface="127.0.0.1")
    client, url = treq.client.HTTPClient(proxyAgent()), f"http://127.0.0.1:{port.getHost().port}"
    answers = [await client.get(url, headers={"Cookie": cookie}) for cookie in ("known", "stranger", "known")]
    assert [answer.code for answer in answers] == [200, 403, 200]
    assert (application.requests, sessions.requests, sessions.connections) == (2, 3, 1)
    await port.stopListening()
    site.cut()
    program["agent"].cut()
    await until(lambda: not site.connections, "the end of all connections")
