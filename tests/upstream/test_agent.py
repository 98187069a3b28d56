"""
The native transport as an agent, on a network in memory.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.web.client import (
    HTTPConnectionPool,
    RequestGenerationFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.error import SchemeNotSupported
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Taker
from tests.support.memory import MemoryNetwork
from tests.upstream.conftest import Reader
from tests.upstream.test_transport import outboundTo
from twistproxy.deadlines import Timeouts
from twistproxy.errors import Sent, Stage, Unavailable, UpstreamError
from twistproxy.interfaces import ICallbackTransport, ITransport
from twistproxy.upstream.agent import ProxyAgent as BareAgent
from twistproxy.upstream.agent import ProxyConnectionPool, splitURI
from twistproxy.upstream.agentuploads import ProducedBody
from twistproxy.upstream.pool import PoolSettings
from twistproxy.upstream.transport import PooledTransport
from twistproxy.upstreams import Target


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
    fields = {
        b"Content-Length": [b"77"],
        b"Connection": [b"close"],
        b"TE": [b"trailers"],
        b"Host": [b"other.test"],
        b"X-A": [b"1"],
    }
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
    ("how", "before"),
    [("abortConnection", ResponseFailed), ("loseConnection", type(None)), ("stopProducing", type(None))],
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
    memory = InMemory(
        settings=PoolSettings(maxConnections=1, maxWaiting=2), timeouts=Timeouts(queue=3, responseHead=None)
    )
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


def test_pausedBeforeStart() -> None:
    """B4.2: a producer is not paused before it has started, which FileBodyProducer does not bear, but right after that."""
    taker = Taker()
    body = ProducedBody(producer := Producer())
    seen: list[Any] = []

    def register(given: Any, streaming: bool) -> None:
        given.pauseProducing()
        seen.append(list(producer.told))

    taker.registerProducer = register  # type: ignore[method-assign]
    body.deliver(taker)
    assert (seen, producer.told) == ([[]], ["pause"])
    producer.done.callback(None)
    body.resumeProducing()
    body.stopProducing()
    assert (producer.told, taker.told) == (["pause"], [("finish", [])])
