"""
The native transport as an agent: over real connections, with treq and with Twisted's own Agent.
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
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    RequestGenerationFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
    readBody,
)
from twisted.web.error import SchemeNotSupported
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.net.peers import until
from tests.support.memory import MemoryNetwork
from tests.support.peers import Message
from tests.upstream.conftest import Origin
from tests.upstream.test_transport import outboundTo
from twistproxy.agents import EndpointTarget, ProxyAgent
from twistproxy.deadlines import Timeouts
from twistproxy.errors import Sent, Stage, Unavailable, UpstreamError
from twistproxy.interfaces import ICallbackTransport, ITransport
from twistproxy.upstream.agent import PooledConnection, ProxyConnectionPool, splitURI
from twistproxy.upstream.agent import ProxyAgent as BareAgent
from twistproxy.upstream.pool import PoolSettings
from twistproxy.upstream.transport import PooledTransport
from twistproxy.upstreams import Target

Maker = Callable[..., ProxyAgent]


def echo(message: Message) -> Any:
    """An answer that says what was asked."""
    asked = b" ".join((message.method, message.target, message.body))
    return 200, [("X-Fields", ", ".join(name.decode() for name, _ in message.fields))], asked


class Reader(Protocol):
    """
    Reads a response's body.

    @ivar pieces: what has come.
    @ivar reason: why it ended.
    @ivar onPiece: called with each piece.
    """

    def __init__(self, onPiece: Callable[[bytes], Any] = lambda data: None, pausing: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.reason: Any = None
        self._onPiece = onPiece
        self._pausing = pausing

    def connectionMade(self) -> None:
        if self._pausing:
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        self._onPiece(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        assert self.reason is None
        self.reason = reason.value

    @property
    def data(self) -> bytes:
        """All that has come."""
        return b"".join(self.pieces)


@implementer(IBodyProducer)
class Producer:
    """
    A request body that the test makes.

    @ivar told: what was asked of it.
    """

    def __init__(self, length: Any = UNKNOWN_LENGTH) -> None:
        self.length = length
        self.told: list[str] = []
        self.consumer: Any = None
        self.done: Deferred[None] = Deferred()

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        return self.done

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class InMemory:
    """An agent on a network in memory."""

    def __init__(self, persistent: bool = True, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.transport = PooledTransport(self.network, self.network.wheel, **options)
        self.pool = ProxyConnectionPool(self.network.clock, self.transport, persistent)
        self.agent = BareAgent(self.pool)

    def ask(self, *arguments: Any, **options: Any) -> list[Any]:
        """@return: a list that will hold what becomes of a request."""
        found: list[Any] = []
        asking = self.agent.request(*(arguments or (b"GET", b"http://one.test/")), **options)
        asking.addBoth(lambda result: found.append(getattr(result, "value", result)))
        self.network.run()
        return found

    @property
    def origin(self) -> Any:
        """The test's end of the last connection."""
        return self.network.dialed[-1]


@pytest.fixture
def memory() -> Any:
    """An agent on a network in memory, of which nothing is left afterwards."""
    made = InMemory()
    yield made
    made.transport.cut()
    made.network.end()


def test_interfaces(memory: InMemory) -> None:
    """It is an agent and both kinds of transport; its pool is one of Twisted's."""
    assert verifyObject(IAgent, memory.agent)
    assert verifyObject(ITransport, memory.agent)
    assert verifyObject(ICallbackTransport, memory.agent)
    assert isinstance(memory.pool, HTTPConnectionPool)


def test_response(memory: InMemory) -> None:
    """What a response says of itself: everything of IResponse, hop-by-hop fields and framing taken out."""
    found = memory.ask(b"GET", b"http://one.test/a?b")
    memory.origin.send(b"HTTP/1.0 404 Gone Fishing\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\nKeep-Alive: 1\r\n\r\nno")
    [response] = found
    assert verifyObject(IResponse, response)
    assert verifyObject(IClientRequest, response.request)
    assert (response.version, response.code, response.phrase) == ((b"HTTP", 1, 0), 404, b"Gone Fishing")
    assert list(response.headers.getAllRawHeaders()) == [(b"X-A", [b"1", b"2"])]
    assert (response.length, response.request.method) == (2, b"GET")
    assert response.request.absoluteURI == b"http://one.test/a?b"
    response.setPreviousResponse("before")
    assert response.previousResponse == "before"


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        (b"http://one.test", b"/"),
        (b"http://one.test/?", b"/?"),
        (b"http://one.test/a;?x", b"/a;?x"),
        (b"http://one.test?x=%7e", b"/?x=%7e"),
        (b"HTTP://one.test//a/../b#part", b"//a/../b"),
    ],
)
def test_targetAsItIs(memory: InMemory, uri: bytes, target: bytes) -> None:
    """B2.6: the request target has every byte of the URI in it, where a stock Agent would drop some."""
    memory.ask(b"GET", uri)
    assert memory.origin.take() == b"GET " + target + b" HTTP/1.1\r\nHost: one.test\r\n\r\n"


def test_splitURI() -> None:
    """Ports and IPv6 addresses are understood."""
    assert splitURI(b"https://[::1]:8443/x") == (Target("https", "::1", 8443), b"/x")


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ((b"GET", "http://one.test/"), TypeError, "bytes"),
        (("GET", b"http://one.test/"), TypeError, "bytes"),
        ((b"GET", b"/relative"), ValueError, "absolute"),
        ((b"GET", b"http://one.test/a b"), ValueError, "escaped"),
        ((b"GET", b"http://one.test/\r\nX: y"), ValueError, "escaped"),
        ((b"GET", b"http://user:secret@one.test/"), ValueError, ""),
        ((b"GET", b"gopher://one.test/"), SchemeNotSupported, "gopher"),
        ((b"GE T", b"http://one.test/"), ValueError, "method"),
        ((b"CONNECT", b"http://one.test/"), ValueError, "method"),
        ((b"GET", b"http://one.test/", Headers({b"Upgrade": [b"websocket"]})), ValueError, "roundTrip"),
        ((b"GET", b"http://one.test/", Headers({b"Host": [b"a", b"b"]})), ValueError, "Host"),
        ((b"GET", b"http://one.test/", Headers({b"Host": [b"a b"]})), ValueError, "Host"),
    ],
)
def test_refused(memory: InMemory, arguments: Any, kind: type[Exception], told: str) -> None:
    """What is wrong with a request fails it with an error that says so, and no connection is made."""
    [error] = memory.ask(*arguments)
    assert type(error) is kind and told in str(error)
    assert memory.network.dialed == []


def test_headersSent(memory: InMemory) -> None:
    """Framing and hop-by-hop fields are ours, everything else the caller's; TE: trailers is said as it must be."""
    fields = {b"Content-Length": [b"77"], b"Connection": [b"close"], b"TE": [b"trailers"], b"Host": [b"other.test"], b"X-A": [b"1"]}
    memory.ask(b"POST", b"http://one.test/", Headers(fields))
    head = memory.origin.take()
    assert head == (
        b"POST / HTTP/1.1\r\nHost: other.test\r\nX-A: 1\r\nConnection: TE\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n"
    )


def test_trailers(memory: InMemory) -> None:
    """Trailers are there once the body has ended."""
    found = memory.ask(b"GET", b"http://one.test/", Headers({b"TE": [b"trailers"]}))
    memory.origin.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    reader = Reader()
    found[0].deliverBody(reader)
    memory.origin.send(b"0\r\nX-Sum: 7\r\n\r\n")
    assert (reader.data, type(reader.reason)) == (b"a", ResponseDone)
    assert found[0].trailers.getRawHeaders(b"x-sum") == [b"7"]


def test_endings(memory: InMemory) -> None:
    """A body's end is told as Twisted's Agent tells it: done, perhaps cut, or cut."""
    endings = []
    for head in (b"Content-Length: 1", b"X: y", b"Content-Length: 2"):
        found = memory.ask()
        memory.origin.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        reader = Reader()
        found[0].deliverBody(reader)
        memory.origin.send(b"a")
        memory.origin.sendEOF()
        endings.append((reader.data, type(reader.reason)))
    assert endings == [(b"a", ResponseDone), (b"a", PotentialDataLoss), (b"a", ResponseFailed)]
    [reason] = reader.reason.reasons
    assert (type(reason.value), reason.value.stage) == (UpstreamError, Stage.BODY)


def test_deliveredOnce(memory: InMemory) -> None:
    """The body of a response is delivered once."""
    found = memory.ask()
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    found[0].deliverBody(Reader())
    with pytest.raises(RuntimeError):
        found[0].deliverBody(Reader())


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_noBody(memory: InMemory, method: bytes) -> None:
    """B5.3: HEAD and 304 have no body, but say how long it would be."""
    status = b"200 OK" if method == b"HEAD" else b"304 Not Modified"
    found = memory.ask(method, b"http://one.test/")
    memory.origin.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")
    reader = Reader()
    found[0].deliverBody(reader)
    assert found[0].headers.getRawHeaders(b"content-length") == [b"5"]
    assert (found[0].length, reader.data, type(reader.reason)) == (0, b"", ResponseDone)


def test_pauses(memory: InMemory) -> None:
    """B5.4: a protocol that pauses its transport, even before the first byte, is sent nothing until it resumes."""
    found = memory.ask()
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    reader = Reader(pausing=True)
    found[0].deliverBody(reader)
    memory.origin.send(b"abc")
    assert (reader.data, memory.origin.reading) == (b"", False)
    reader.transport.resumeProducing()  # type: ignore[union-attr]
    memory.network.run()
    assert reader.data == b"abc"


@pytest.mark.parametrize(
    ("how", "before"), [("abortConnection", ResponseFailed), ("loseConnection", type(None)), ("stopProducing", type(None))]
)
def test_bodyGivenUp(memory: InMemory, how: str, before: type) -> None:
    """B7.1: giving a body up ends the request at once; the protocol hears of it, once, when readBody and treq can take it."""
    found = memory.ask()
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    reader = Reader()
    found[0].deliverBody(reader)
    getattr(reader.transport, how)()
    assert type(reader.reason) is before
    memory.network.clock.advance(0)
    memory.network.run()
    assert (type(reader.reason), memory.origin.ended) == (ResponseFailed, "reset")


def test_abortUnread(memory: InMemory) -> None:
    """A response whose body nobody wants can be given up unread."""
    found = memory.ask()
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    found[0].abort()
    memory.network.run()
    assert memory.origin.ended == "reset"


def test_protocolFails(memory: InMemory, loggedErrors: list[Any]) -> None:
    """B7.4: what a protocol raises is logged, and costs its own response only."""
    found = memory.ask()
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    reader = Reader(lambda data: 1 / 0)
    found[0].deliverBody(reader)
    memory.network.clock.advance(0)
    assert type(reader.reason) is ResponseFailed
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()


@pytest.mark.parametrize("length", [UNKNOWN_LENGTH, 4])
def test_upload(memory: InMemory, length: Any) -> None:
    """B4.1: a body producer's bytes go out as they come, framed by its length."""
    producer = Producer(length)
    found = memory.ask(b"PUT", b"http://one.test/", None, producer)
    head = memory.origin.take()
    assert (b"Content-Length: 4\r\n" if length == 4 else b"Transfer-Encoding: chunked\r\n") in head
    producer.consumer.write(b"ab")
    memory.network.run()
    assert memory.origin.take() == (b"ab" if length == 4 else b"2\r\nab\r\n")
    producer.consumer.write(b"cd")
    producer.done.callback(None)
    memory.network.run()
    assert memory.origin.take() == (b"cd" if length == 4 else b"2\r\ncd\r\n0\r\n\r\n")
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (found[0].code, producer.told) == (200, [])


def test_uploadPaused(memory: InMemory) -> None:
    """B4.2: an upstream that does not take what it is sent pauses the producer."""
    producer = Producer()
    memory.ask(b"PUT", b"http://one.test/", None, producer)
    memory.origin.taking = False
    producer.consumer.write(bytes(300_000))
    assert producer.told == ["pause"]
    memory.origin.taking = True
    memory.network.run()
    assert producer.told == ["pause", "resume"]


def test_producerFails(memory: InMemory) -> None:
    """B4.5: a producer that fails breaks its request off, and the caller is told what it failed with."""
    producer = Producer()
    found = memory.ask(b"PUT", b"http://one.test/", None, producer)
    producer.done.errback(ZeroDivisionError())
    memory.network.run()
    [error] = found
    assert (type(error), error.reasons[0].type) == (RequestGenerationFailed, ZeroDivisionError)
    assert memory.origin.ended == "reset"


@pytest.mark.parametrize("written", [b"abc", b"abcde"])
def test_producerLies(memory: InMemory, written: bytes) -> None:
    """B4.5: a body of another length than announced is never taken for complete."""
    producer = Producer(4)
    found = memory.ask(b"PUT", b"http://one.test/", None, producer)
    producer.consumer.write(written)
    producer.done.callback(None)
    memory.network.run()
    assert ([type(error) for error in found], memory.origin.ended) == ([RequestGenerationFailed], "reset")


def test_earlyResponse(memory: InMemory) -> None:
    """B4.4: a response that comes before the upload has ended is given at once; the producer is stopped."""
    producer = Producer()
    found = memory.ask(b"PUT", b"http://one.test/", None, producer)
    memory.origin.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert (found[0].code, producer.told) == (413, ["stop"])
    producer.consumer.write(b"too late")
    producer.done.callback(None)


@pytest.mark.parametrize("phase", ["connecting", "uploading", "waiting"])
def test_cancelBeforeHead(memory: InMemory, phase: str) -> None:
    """B7.1: cancelling before the head ends connection attempt, upload or wait at once."""
    memory.network.holding = phase == "connecting"
    producer = Producer() if phase == "uploading" else None
    found: list[Any] = []
    asking = memory.agent.request(b"PUT", b"http://one.test/", None, producer)
    asking.addErrback(lambda failure: found.append(failure.type))
    memory.network.run()
    asking.cancel()
    memory.network.holding = False
    memory.network.run()
    assert found == [CancelledError]
    assert [line.ended for line in memory.network.dialed] == ([] if phase == "connecting" else ["reset"])
    assert producer is None or producer.told == ["stop"]
    assert [pool.connections for pool in memory.agent.pools.values()] == [0]


def test_neverReceived(memory: InMemory) -> None:
    """What a user of Agent knows, with the proxy's own error as the reason in it."""
    found = memory.ask(b"POST", b"http://one.test/")
    memory.origin.sendEOF()
    [error] = found
    assert type(error) is ResponseNeverReceived
    assert (error.reasons[0].value.stage, error.reasons[0].value.sent) == (Stage.WAIT, Sent.ALL)


def test_headTimeout(memory: InMemory) -> None:
    """B9: the limits of time hold for agents too, those that a stock Agent has not."""
    found = memory.ask()
    memory.network.advance(61)
    assert [error.reasons[0].value.timeout for error in found] == ["responseHead"]


def test_connectTimeout(memory: InMemory) -> None:
    """B9: Twisted's own TimeoutError, if no connection stands in time."""
    memory.network.holding = True
    found = memory.ask()
    memory.network.advance(6)
    assert [type(error) for error in found] == [ConnectTimeoutError]


def test_notPersistent() -> None:
    """A pool that is not persistent says so."""
    memory = InMemory(persistent=False)
    memory.ask()
    assert memory.origin.take() == b"GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n"
    memory.transport.cut()
    memory.network.end()


def test_stockBounds(memory: InMemory) -> None:
    """Bounds of a stock pool can be read, but to set one would have no effect, so it raises."""
    assert (memory.pool.maxPersistentPerHost, memory.pool.cachedConnectionTimeout) == (256, 55.0)
    assert memory.pool.retryAutomatically
    with pytest.raises(AttributeError, match="maxIdle"):
        memory.pool.maxPersistentPerHost = 3
    with pytest.raises(AttributeError, match="upstreamIdle"):
        memory.pool.cachedConnectionTimeout = 3


def test_line() -> None:
    """B8.2: with a cap on connections, requests wait in line, and not for ever; who is cancelled leaves it."""
    memory = InMemory(settings=PoolSettings(maxConnections=1, maxWaiting=2), timeouts=Timeouts(queue=3, responseHead=None))
    found = [memory.ask(), memory.ask()]
    leaving = memory.agent.request(b"GET", b"http://one.test/leaves").addErrback(lambda _: None)
    assert [type(error) for error in memory.ask()] == [Unavailable]
    leaving.cancel()
    found.append(memory.ask())
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    assert [len(outcome) for outcome in found] == [1, 0, 0]
    memory.network.advance(4)
    assert [[type(each).__name__ for each in outcome] for outcome in found] == [["AgentResponse"], [], ["Unavailable"]]
    assert len(memory.network.dialed) == 1
    memory.transport.cut()
    memory.network.end()


def test_twoWaysOnePool(memory: InMemory) -> None:
    """The proxy and the agent's users share connections."""
    memory.ask()
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    found: list[Any] = []
    memory.agent.roundTrip(outboundTo(Target("http", "one.test", 80))).addCallback(found.append)
    memory.network.run()
    memory.origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (len(memory.network.dialed), [response.status for response in found]) == (1, [200])


# -- real connections ------------------------------------------------------------------------------------------------


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
async def test_backpressure(warmReactor: Any, proxyAgent: Maker, origin: Origin) -> None:
    """B5.4: a reader that pauses stops a fast upstream, and loses nothing."""
    asking = proxyAgent().request(b"GET", origin.url.encode())
    request = await origin.request()
    left = [1000]
    piece = bytes(65536)

    class Endless:
        """Writes as fast as it may."""

        def resumeProducing(self) -> None:
            left[0] -= 1
            request.write(piece)
            if not left[0]:
                request.unregisterProducer()
                request.finish()

        def stopProducing(self) -> None:
            pass

    request.registerProducer(Endless(), False)
    reader = Reader(lambda data: reader.transport.pauseProducing() if len(reader.pieces) == 1 else None)  # type: ignore[union-attr]
    (await asking).deliverBody(reader)
    before = 0
    while before != left[0]:  # until nothing moves any more
        before = left[0]
        for _ in range(50):
            await deferLater(warmReactor, 0)
    assert left[0] > 800 and len(reader.pieces) == 1
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
    source = source.replace("http://localhost:4000", sessions.target).replace("http://localhost:3000", application.target)
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
