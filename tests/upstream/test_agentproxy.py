"""
A whole proxy whose transport is an agent, on real connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
import treq.client
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RedirectAgent,
    ResponseDone,
)
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource

from tests.net.peers import until
from tests.support.peers import Client, Message
from tests.upstream.conftest import Flood, Origin, Page, Reader
from twistproxy.agents import AgentTransport, EndpointTarget, ProxyAgent
from twistproxy.errors import Sent, Stage
from twistproxy.events import ExchangeRecord
from twistproxy.proxy import ProxySite, ReverseProxy


class Front:
    """
    A proxy on loopback, whose transport is an agent.

    @ivar url: its address.
    @ivar records: of the exchanges that have settled.
    """

    def __init__(self, reactor: Any, target: str, agent: Any) -> None:
        self.records: list[ExchangeRecord] = []
        self.proxy = ReverseProxy.to(target, transport=AgentTransport(agent), reactor=reactor)
        self.site = ProxySite(self.proxy, reactor=reactor, observers=[self.records.append])
        self._port = self.site.network.reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}"

    async def close(self) -> None:
        """Stop listening, and end everything."""
        await self._port.stopListening()
        self.site.cut()
        await until(lambda: not self.site.connections, "the end of all connections")


@pytest.fixture
def front(warmReactor: Any) -> Iterator[Callable[..., Front]]:
    """Starts proxies."""
    running: list[Front] = []

    def start(target: str, agent: Any) -> Front:
        running.append(Front(warmReactor, target, agent))
        return running[-1]

    yield start
    for each in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(each.close()))


@pytest.fixture
def stockAgent(warmReactor: Any) -> Iterator[Agent]:
    """Twisted's Agent on its own pool."""
    pool = HTTPConnectionPool(warmReactor)
    yield Agent(warmReactor, pool=pool)
    pytest_twisted.blockon(pool.closeCachedConnections())


@pytest.fixture
def client(proxyAgent: Callable[..., ProxyAgent]) -> treq.client.HTTPClient:
    """A client for the front of a proxy."""
    return treq.client.HTTPClient(proxyAgent())


@pytest_twisted.ensureDeferred
async def test_stockAgent(
    front: Callable[..., Front], stockAgent: Agent, client: Any, webServer: Callable[..., Any]
) -> None:
    """B3: a stock Agent carries a proxy's requests, bodies both ways, over connections that it keeps."""

    def answer(message: Message) -> Any:
        return 200, [("X-Via", (message[b"via"] or b"").decode())], message.target + b" " + message.body[:5]

    server = webServer(answer)
    proxy = front(server.target, stockAgent)
    asked = []
    for number in range(3):
        response = await client.put(f"{proxy.url}/{number}", data=b"x%d" % number + bytes(300_000))
        asked.append((response.code, (await response.content())[:5]))
    assert asked == [(200, b"/%d x%d" % (number, number)) for number in range(3)]
    assert response.headers.getRawHeaders("x-via") == ["1.1 twistproxy"]
    assert server.connections == 1


@pytest_twisted.ensureDeferred
async def test_stockStreams(front: Callable[..., Front], stockAgent: Agent, client: Any, origin: Origin) -> None:
    """B5.4: through a stock Agent a response still streams."""
    asking = client.get(front(origin.url, stockAgent).url, unbuffered=True)
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
async def test_backpressure(
    front: Callable[..., Front], stockAgent: Agent, proxyAgent: Callable[..., ProxyAgent], origin: Origin
) -> None:
    """B5.4: a client that does not read stops the upstream, through a stock Agent too, and loses nothing."""
    asking = proxyAgent().request(b"GET", front(origin.url, stockAgent).url.encode())
    flood = Flood(await origin.request(), 1000)
    reader = Reader(pausing=True)
    (await asking).deliverBody(reader)
    await flood.stalled()
    assert flood.left > 700
    reader.transport.resumeProducing()  # type: ignore[union-attr]
    await until(lambda: reader.reason is not None, "the end of the body")
    assert (len(reader.data), type(reader.reason)) == (65_536_000, ResponseDone)


@pytest_twisted.ensureDeferred
async def test_clientLeaves(front: Callable[..., Front], stockAgent: Agent, client: Any, origin: Origin) -> None:
    """B7.1: a client that leaves, before the head or after it, ends the agent's request too."""
    proxy = front(origin.url, stockAgent)
    asking = client.get(proxy.url)
    gone = (await origin.request(0)).notifyFinish()
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking
    with pytest.raises(Exception, match="Connection"):
        await gone
    asking = client.get(proxy.url, unbuffered=True)
    request = await origin.request(1)
    gone = request.notifyFinish()
    request.write(b"some")
    (await asking).original.abort()
    with pytest.raises(Exception, match="Connection"):
        await gone
    await until(lambda: len(proxy.records) == 2, "two records")


@pytest_twisted.ensureDeferred
async def test_refusedUpstream(
    front: Callable[..., Front], stockAgent: Agent, client: Any, webServer: Callable[..., Any]
) -> None:
    """B7.2: nobody listens: 502, and the record says at which stage."""
    server = webServer(lambda message: None)
    await server.close()
    proxy = front(server.target, stockAgent)
    response = await client.get(proxy.url)
    await response.content()
    await until(lambda: len(proxy.records) == 1, "the record")
    error = proxy.records[0].error
    assert response.code == 502 and error is not None
    assert (error.stage, error.sent) == (Stage.CONNECT, Sent.NOTHING)


@pytest_twisted.ensureDeferred
async def test_upgradeRefused(front: Callable[..., Front], stockAgent: Agent, client: Any, origin: Origin) -> None:
    """B6: a client that asks for a WebSocket hears that there is none this way; the upstream hears nothing."""
    proxy = front(origin.url, stockAgent)
    reply = await raw(proxy, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 501 ")
    assert origin.stream.requests == []


async def raw(proxy: Front, request: bytes) -> bytes:
    """@return: the head of the response to a request, as bytes."""
    line = Client.connect(int(proxy.url.rpartition(":")[2]))
    try:
        await line.send(request)
        return await line.head()
    finally:
        line.close()


@pytest_twisted.ensureDeferred
async def test_expect(front: Callable[..., Front], stockAgent: Agent, webServer: Callable[..., Any]) -> None:
    """B4.3: a client that waits for a 100 gets one when the agent asks for the body, since the upstream's is swallowed."""
    proxy = front(webServer(lambda message: (200, [], message[b"expect"] or message.body)).target, stockAgent)
    line = Client.connect(int(proxy.url.rpartition(":")[2]))
    try:
        await line.send(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await line.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.send(b"abc")
        assert (await line.head()).startswith(b"HTTP/1.1 200 ")
        assert await line.exactly(3) == b"abc"
    finally:
        line.close()


@pytest_twisted.ensureDeferred
async def test_redirects(
    front: Callable[..., Front], stockAgent: Agent, client: Any, webServer: Callable[..., Any]
) -> None:
    """An agent that follows redirects does so behind the proxy, too."""

    def answer(message: Message) -> Any:
        return (302, [("Location", "/to")], b"") if message.target == b"/from" else (200, [], message.target)

    proxy = front(webServer(answer).target, RedirectAgent(stockAgent))
    assert await (await client.get(proxy.url + "/from")).content() == b"/to"


@pytest_twisted.ensureDeferred
async def test_inProcess(front: Callable[..., Front], client: Any) -> None:
    """A resource in this process as upstream, without a socket, by treq's agent for tests."""
    root = Resource()
    root.putChild(b"hello", Page(b"hello, world"))
    proxy = front("http://in.process", RequestTraversalAgent(root))
    response = await client.get(proxy.url + "/hello")
    assert (response.code, await response.content()) == (200, b"hello, world")


@pytest_twisted.ensureDeferred
async def test_ownAgent(
    front: Callable[..., Front], proxyAgent: Callable[..., ProxyAgent], client: Any, webServer: Callable[..., Any]
) -> None:
    """Our own agent, where somebody has wrapped it into others."""
    proxy = front(webServer(lambda message: (200, [], message.target)).target, RedirectAgent(proxyAgent()))
    assert await (await client.get(proxy.url + "/x")).content() == b"/x"


@pytest_twisted.ensureDeferred
async def test_endpointByDirector(warmReactor: Any, client: Any, webServer: Callable[..., Any]) -> None:
    """B3.1: a director can send requests to an endpoint; a proxy's own transport, an agent, knows how."""
    server = webServer(lambda message: (200, [], message[b"host"] or b""))
    target = EndpointTarget("http", "app", 80, endpoint=TCP4ClientEndpoint(warmReactor, "127.0.0.1", server.number))
    proxy = ReverseProxy.to(target, reactor=warmReactor)
    assert IAgent.providedBy(proxy.transport)
    site = ProxySite(proxy, reactor=warmReactor)
    port = warmReactor.listenTCP(0, site, interface="127.0.0.1")
    for _ in range(2):
        response = await client.get(f"http://127.0.0.1:{port.getHost().port}/")
        assert await response.content() == b"app"
    assert server.connections == 1
    await port.stopListening()
    site.cut()
    proxy.transport.cut()
    await until(lambda: not site.connections, "the end of all connections")
