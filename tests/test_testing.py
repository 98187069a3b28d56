"""
The public test tools: a whole proxy in memory, and faults at a chosen byte.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

import twistproxy.testing
from tests.support.examples import moduleAt
from twistproxy import Limits, PoolSettings, Response, ReverseProxy, Timeouts
from twistproxy.interfaces import IDialer, ITransport
from twistproxy.testing import (
    FaultyTransport,
    MemoryClient,
    MemoryNetwork,
    MemoryProxy,
    MessageReader,
    ScriptedUpstream,
    httpRequest,
    httpResponse,
)

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "testing.py"

NAMES = [
    "FaultyTransport",
    "LiveTimer",
    "MemoryClient",
    "MemoryNetwork",
    "MemoryProxy",
    "MemoryStream",
    "MemoryTransport",
    "Message",
    "MessageReader",
    "ScriptedUpstream",
    "echo",
    "httpRequest",
    "httpResponse",
]

BODY = bytes(range(256)) * 40


def served(answer: Any = None, **options: Any) -> tuple[MemoryProxy, ScriptedUpstream, MemoryClient]:
    """@return: a proxy, its upstream, and a client."""
    proxy = MemoryProxy(**options)
    upstream = proxy.addUpstream(answer=httpResponse(200, {}, BODY) if answer is None else answer)
    return proxy, upstream, proxy.client()


def limits(proxy: MemoryProxy) -> list[str]:
    """@return: the names of the limits under which anything waits."""
    return sorted(timer.limit for timer in proxy.timers)


# -- the module


def test_names() -> None:
    """What is public, and that each says what it is for."""
    assert sorted(twistproxy.testing.__all__) == NAMES
    assert [name for name in NAMES if not inspect.getdoc(getattr(twistproxy.testing, name))] == []


def test_needsNoTestRunner() -> None:
    """Whoever ships a proxy needs neither our test runner nor our oracle for it."""
    program = "import sys, twistproxy.testing; print({'pytest', 'h11', 'hypothesis'} & set(sys.modules), sorted(sys.modules).count('twisted.internet.reactor'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set() 0\n"


def test_interfaces() -> None:
    """Connections are Twisted transports, the network dials, and a faulty transport is a transport."""
    proxy, _, client = served()
    assert verifyObject(ITCPTransport, client.connection)
    assert verifyObject(IDialer, proxy.network)
    assert verifyObject(ITransport, FaultyTransport(proxy.responder.transport, proxy.clock))


def example() -> Any:
    """@return: the program in the guide, as a module."""
    return moduleAt(EXAMPLE, "testingexample")


@pytest.mark.parametrize("name", [name for name in vars(example()) if name.startswith("test_")])
def test_example(name: str) -> None:
    """What the guide shows is what runs."""
    getattr(example(), name)()


# -- a whole proxy


def test_roundTrip() -> None:
    """A request goes to the upstream whose address the director names, and its response comes back; each side saw its part."""
    proxy, upstream, client = served(b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n")
    with proxy:
        response = client.request("POST", "/p?q", {"TE": "trailers", "X-A": "1"}, b"hello")
        assert response is client.response
        assert (response.status, response.reason, response.body, response.complete) == (201, b"Made", b"abc", True)
        assert response.trailers.items() == [(b"T", b"1")]
        request = upstream.request
        assert (request.method, request.target, request.version, request.body) == (b"POST", b"/p?q", b"HTTP/1.1", b"hello")
        assert request.headers.get("X-A") == b"1"
        assert request.connection is upstream.connection
        [record] = proxy.records
        assert (record.status, record.requestBytes, record.responseBytes) == (201, 5, 3)
        assert (client.broken, upstream.broken, proxy.bufferedBytes) == ("", [], 0)


def test_script() -> None:
    """A script is gone through request by request; then the answer holds."""
    proxy, upstream, client = served(lambda request: httpResponse(404))
    with proxy:
        upstream.script += [httpResponse(500), lambda request: httpResponse(200, {}, request.target)]
        got = [client.request("GET", f"/{number}") for number in range(3)]
        assert [(each.status, each.body) for each in got if each] == [(500, b""), (200, b"/1"), (404, b"")]
        assert len(upstream.connections) == 1


def test_head() -> None:
    """The answer to a HEAD has no body, whatever its length says; the next one is read all the same."""
    proxy, _, client = served()
    with proxy:
        proxy.upstreams[0].script += [httpResponse(200, {"Content-Length": "99"}), httpResponse(200, {}, b"ok")]
        client.send(httpRequest("HEAD") + httpRequest())
        assert [(each.body, each.complete) for each in client.responses] == [(b"", True), (b"ok", True)]


def test_interim() -> None:
    """Interim responses are told from final ones."""
    proxy, _, client = served(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + httpResponse(200))
    with proxy:
        client.request()
        assert [each.status for each in client.interims] == [103]
        assert [each.status for each in client.responses] == [200]


def test_upgrade() -> None:
    """B6.1: behind a 101 both sides see bytes as they are."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nwelcome"
    proxy, upstream, client = served(answer)
    with proxy:
        client.request(headers={"Connection": "Upgrade", "Upgrade": "any"})
        assert (client.response.status, client.opaque) == (101, b"welcome")
        client.connection.send(b"GET / no HTTP")
        upstream.connection.send(b"\r\n\r\n")
        assert (upstream.opaque(), client.opaque) == (b"GET / no HTTP", b"welcome\r\n\r\n")
        [exchange] = proxy.exchanges
        assert exchange.record.tunnelled


def test_untilClose() -> None:
    """A body that only the end of the connection ends is incomplete until that comes."""
    proxy, upstream, client = served(b"HTTP/1.1 200 OK\r\n\r\n")
    with proxy:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        upstream.connection.send(b"some")
        assert (client.response.body, client.response.complete) == (b"some", False)
        upstream.connection.sendEOF()
        assert (client.response.complete, client.ended) == (True, "closed")


def test_severalUpstreams() -> None:
    """Each address is an upstream of its own; what no upstream was added for refuses, and the log says why."""
    proxy = MemoryProxy(lambda request: request.setTarget("http://" + request.inbound.path[1:].decode()))
    with proxy:
        one, two = proxy.addUpstream("one.test:1"), proxy.addUpstream("one.test:2")
        client = proxy.client()
        asked = ["/one.test:1", "/one.test:2", "/one.test:3"]
        assert [client.request("GET", target).status for target in asked] == [200, 200, 502]  # type: ignore[union-attr]
        assert (len(one.requests), len(two.requests)) == (1, 1)
        assert "nothing listens on one.test:3" in str(proxy.records[-1].error)
        with pytest.raises(ValueError, match=r"one.test:1 already"):
            proxy.addUpstream("http://one.test:1")


def test_refusing() -> None:
    """An upstream that refuses connections is a 502 at once, one behind a silent firewall a 504 after five seconds (B9)."""
    proxy, upstream, client = served()
    with proxy:
        upstream.refusing = True
        assert client.request().status == 502  # type: ignore[union-attr]
        upstream.refusing, upstream.holding = False, True
        assert client.request() is None
        assert "connect" in limits(proxy)
        proxy.advance(5.3)
        assert client.response.status == 504
        upstream.holding = False
        assert client.request().status == 200  # type: ignore[union-attr]


def test_ownResponder() -> None:
    """A proxy that the user's own code makes with C{reactor=network} is tested as it is, hooks that wait for time too."""
    network = MemoryNetwork()

    async def direct(request: Any) -> None:
        await deferLater(network.clock, 20)
        request.setTarget("http://far.test")

    with MemoryProxy(network=network, responder=ReverseProxy(direct, reactor=network)) as proxy:
        proxy.addUpstream("http://far.test")
        client = proxy.client()
        assert client.request() is None
        proxy.advance(20.1)
        assert client.response.body == b"GET /"
    with pytest.raises(TypeError, match="a responder"):
        MemoryProxy("http://a", responder=proxy.responder)


def test_anyResponder() -> None:
    """A responder need not be a reverse proxy."""
    with MemoryProxy(responder=lambda exchange: exchange.answer(Response(200, body=b"me"))) as proxy:
        client = proxy.client()
        assert client.request().body == b"me"  # type: ignore[union-attr]


def test_observers() -> None:
    """Observers hear of what settles."""
    heard: list[Any] = []
    proxy, _, client = served(observers=[heard.append])
    with proxy:
        client.request()
        assert heard == proxy.records


def test_delay() -> None:
    """B9: an upstream that thinks for 30 seconds answers after 30 seconds, of which the test spends none."""
    proxy, upstream, client = served()
    with proxy:
        upstream.delay = 30
        client.request()
        proxy.advance(29.8)
        assert client.responses == []
        proxy.advance(0.3)
        assert client.response.body == BODY
        assert 29.9 < proxy.records[0].waitSeconds < 30.2


# -- what is seen


def test_timers() -> None:
    """B9: which limits run is seen at every stage, and how long they have to go."""
    proxy, upstream, client = served(timeouts=Timeouts(exchange=300, tunnelIdle=70), pool=PoolSettings(maxConnections=1))
    with proxy:
        upstream.answer = None
        assert limits(proxy) == ["keepAlive"]
        client.connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n")
        assert limits(proxy) == ["requestHead"]
        client.connection.send(b"\r\n12345")
        assert limits(proxy) == ["exchange", "requestBody", "write"]
        client.connection.send(b"67890")
        assert limits(proxy) == ["exchange", "responseHead", "write"]
        other = proxy.client()
        other.request()
        assert limits(proxy).count("queue") == 1
        other.connection.sendReset()
        upstream.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        assert "responseBody" in limits(proxy)
        upstream.connection.send(b"k")
        assert limits(proxy) == ["keepAlive", "upstreamIdle"]
        first, second = proxy.timers
        assert (first.limit, 54.9 < first.seconds < 55.2, second.limit, 74.9 < second.seconds < 75.2) == (
            "upstreamIdle",
            True,
            "keepAlive",
            True,
        )
        proxy.advance(50)
        assert 4.9 < proxy.timers[0].seconds < 5.2


def test_tunnelTimer() -> None:
    """B9: that of a tunnel too."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"
    proxy, _, client = served(answer, timeouts=Timeouts(tunnelIdle=70))
    with proxy:
        client.request(headers={"Connection": "Upgrade", "Upgrade": "any"})
        assert limits(proxy) == ["tunnelIdle"]


def test_bufferedBytes() -> None:
    """B4.2: what the proxy holds is seen, wherever that is: what it wrote, a head that is not complete, a body nobody takes."""
    waiting: Deferred[None] = Deferred()
    proxy, upstream, client = served(director=lambda request: waiting)
    with proxy:
        client.connection.send(b"GET / HT")
        assert proxy.bufferedBytes == 8
        other = proxy.client()
        other.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n12345")
        assert proxy.bufferedBytes == 13
        other.connection.send(b"67890")
        assert (other.connection.unreadBytes, proxy.bufferedBytes) == (5, 13)
        other.connection.sendReset()
        client.connection.sendReset()
        assert (proxy.bufferedBytes, upstream.requests) == (0, [])


def test_exchanges() -> None:
    """What runs is seen, and what has settled."""
    proxy, upstream, client = served()
    with proxy:
        upstream.answer = None
        client.request("GET", "/slow")
        [exchange] = proxy.exchanges
        assert (exchange.request.target, proxy.records) == (b"/slow", [])
        upstream.connection.send(httpResponse())
        assert (proxy.exchanges, [record.target for record in proxy.records]) == (set(), [b"/slow"])


def test_failingTestIsTold() -> None:
    """A test that fails inside is told what ran, and its failure is not hidden by what it left behind."""
    proxy, upstream, client = served()
    upstream.answer = None
    with pytest.raises(AssertionError, match="mine") as caught, proxy:
        client.request("GET", "/slow")
        raise AssertionError("mine")
    [note] = caught.value.__notes__
    assert "<Exchange b'GET' b'/slow' complete/nothing>" in note
    assert "responseHead in 60" in note
    assert "client 0 open" in note


def test_leftBehind() -> None:
    """B7.1: a timer that nobody cancels fails the test."""
    proxy, _, client = served()
    proxy.clock.callLater(10, print)
    client.request()
    with pytest.raises(AssertionError, match="timers were left behind"):
        proxy.close()


def test_nothingYet() -> None:
    """Whoever asks for what has not come is told so."""
    proxy, upstream, client = served()
    with proxy:
        for ask in (lambda: client.response, lambda: upstream.request, lambda: upstream.connection):
            with pytest.raises(AssertionError, match=r"has got no re|never connected"):
                ask()


def test_bounds() -> None:
    """Limits on size are those that were given."""
    proxy, _, client = served(limits=Limits(head=200))
    with proxy:
        assert client.request(headers={"X": "y" * 300}).status == 431  # type: ignore[union-attr]


# -- at which byte

HEAD = len(httpResponse(200, {}, BODY)) - len(BODY)


@pytest.mark.parametrize("byte", [0, 1, HEAD - 1])
def test_resetInTheHead(byte: int) -> None:
    """B7.2: an upstream that resets before its head is complete is a 502."""
    proxy, upstream, client = served()
    with proxy:
        upstream.onConnection = lambda connection: connection.outgoing.resetAt(byte)
        assert client.request().status == 502  # type: ignore[union-attr]
        assert upstream.connection.outgoing.count == byte


@pytest.mark.parametrize("fault", ["resetAt", "closeAt"])
@pytest.mark.parametrize("byte", [0, 1, 5000, len(BODY) - 1])
def test_breaksOff(fault: str, byte: int) -> None:
    """B5.5: an upstream that resets or closes in its body: exactly what came before goes on, and is not taken for complete."""
    proxy, upstream, client = served()
    with proxy:
        upstream.onConnection = lambda connection: getattr(connection.outgoing, fault)(HEAD + byte)
        client.request()
        assert (client.response.body, client.response.complete, client.ended) == (BODY[:byte], False, "closed")


def test_resetInTheRequest() -> None:
    """B7.2: an upstream that resets when it has taken so much of the request."""
    proxy, upstream, client = served()
    with proxy:
        upstream.onConnection = lambda connection: connection.incoming.resetAt(300)
        client.request("POST", body=b"x" * 100_000)
        assert client.response.status == 502
        assert (upstream.connection.incoming.count, upstream.request.complete) == (300, False)


def test_stall() -> None:
    """B9: an upstream that stalls in its body is given up after 60 seconds, unless it goes on before."""
    for goesOn in (True, False):
        proxy, upstream, client = served()
        with proxy:
            upstream.onConnection = lambda connection: connection.outgoing.stallAt(HEAD + 100)
            client.request()
            proxy.advance(59)
            assert (client.response.body, client.ended) == (BODY[:100], "")
            if goesOn:
                upstream.connection.outgoing.stalled = False
            proxy.advance(1.3)
            assert (client.response.complete, client.ended) == ((True, "") if goesOn else (False, "closed"))


def test_halfClose() -> None:
    """B7.1: a client that closes its side behind its request counts as gone."""
    proxy, upstream, client = served()
    with proxy:
        upstream.delay = 1
        raw = httpRequest()
        client.connection.outgoing.closeAt(len(raw))
        client.send(raw)
        assert [record.status for record in proxy.records] == [499]
        assert (len(upstream.requests), upstream.connection.ended) == (1, "reset")


def test_halfCloseInATunnel() -> None:
    """B6.3: in a tunnel it closes the other's write side, and the other direction runs on."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"
    proxy, upstream, client = served(answer)
    with proxy:
        client.request(headers={"Connection": "Upgrade", "Upgrade": "any"})
        client.connection.outgoing.closeAt(client.connection.outgoing.count + 4)
        client.connection.send(b"sent lost")
        assert (upstream.opaque(), upstream.connection.ended) == (b"sent", "closed")
        upstream.connection.send(b"back")
        assert (client.opaque, client.ended) == (b"back", "")


def test_corrupt() -> None:
    """A byte that is changed on its way is changed for the proxy, and in a head it is refused (B1)."""
    proxy, upstream, client = served()
    with proxy:
        upstream.onConnection = lambda connection: connection.outgoing.corruptAt(HEAD + 10)
        body = client.request().body  # type: ignore[union-attr]
        assert [at for at in range(len(BODY)) if body[at] != BODY[at]] == [10]
        assert body[10] == BODY[10] ^ 0xFF
        client.connection.incoming.corruptAt(client.connection.incoming.count + 9, 0x01)
        assert client.request().status == 300  # type: ignore[union-attr]
        other = proxy.client()
        other.connection.outgoing.corruptAt(0, 0x80)
        assert other.request().status == 400  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="have passed"):
            other.connection.outgoing.corruptAt(0)


@pytest.mark.parametrize("rate", [5, 64, 1000.0, 1_000_000])
def test_rate(rate: float) -> None:
    """An upstream that sends n bytes a second takes its time: never faster, and not much slower."""
    proxy, upstream, client = served(httpResponse(200, {}, b"x" * int(rate * 10)), timeouts=Timeouts(responseHead=None))
    with proxy:
        upstream.onConnection = lambda connection: setattr(connection.outgoing, "rate", rate)
        client.request()
        counts = []
        for _ in range(9):
            proxy.advance(1)
            counts.append(upstream.connection.outgoing.count)
        assert all(rate * second * 0.9 - 1 <= count <= rate * second + 1 for second, count in enumerate(counts, 1))
        proxy.advance(60)
        assert client.response.complete


def test_slowReader() -> None:
    """B5.4: a client that takes a slow while gets all of it in the end, and the proxy never holds more than its bound."""
    proxy, upstream, client = served(httpResponse(200, {"Content-Length": "2000000"}))
    with proxy:
        client.connection.incoming.rate = 100_000
        client.request()
        upstream.connection.queue(*[b"x" * 20_000] * 100)
        held = []
        for _ in range(21):
            proxy.advance(1)
            held.append(proxy.bufferedBytes)
        assert (client.response.complete, len(client.response.body)) == (True, 2_000_000)
        assert 64 * 1024 < max(held) < 300_000
        assert proxy.bufferedBytes == 0


def test_slowUpload() -> None:
    """B4.2: an upstream that takes a request slowly makes the proxy stop reading it, not keep it; all of it arrives."""
    proxy, upstream, client = served()
    with proxy:
        upstream.onConnection = lambda connection: setattr(connection.incoming, "rate", 100_000)
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
        client.connection.queue(*[b"x" * 20_000] * 100)
        proxy.run()
        assert (client.connection.reading, client.connection.unreadBytes > 1_600_000) == (False, True)
        held = []
        for _ in range(21):
            proxy.advance(1)
            held.append(proxy.bufferedBytes)
        assert (64 * 1024 < max(held) < 300_000, held[-1]) == (True, 0)
        assert (len(upstream.request.body), client.response.status) == (2_000_000, 200)


def test_anySite() -> None:
    """Any factory of Twisted protocols can be connected to; what it sends is read like anything else."""

    class Stock(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            return b"stock"

    network = MemoryNetwork()
    client = MemoryClient(network.connect(Site(Stock(), reactor=network.clock)))
    assert client.request().body == b"stock"  # type: ignore[union-attr]
    client.request("GET", "/", {"Connection": "close"})
    assert ([each.body for each in client.responses], client.ended) == ([b"stock", b"stock"], "closed")
    network.end()


def test_rateIsNoBurst() -> None:
    """What a slow side did not use is not made up for later."""
    proxy, upstream, client = served(None)
    with proxy:
        upstream.onConnection = lambda connection: setattr(connection.outgoing, "rate", 100)
        proxy.advance(50)
        client.request()
        assert client.responses == []
        proxy.advance(0.1)
        assert upstream.connection.outgoing.count == 10


@pytest.mark.parametrize("wrong", [lambda s: setattr(s, "rate", 0), lambda s: s.stallAt(-1), lambda s: s.corruptAt(1, 256)])
def test_badFault(wrong: Callable[[Any], None]) -> None:
    """What cannot be meant is refused when it is said."""
    proxy, _, client = served()
    with proxy, pytest.raises(ValueError, match=r"rate|bytes|byte"):
        wrong(client.connection.outgoing)


def test_severalFaults() -> None:
    """Faults happen in the order of their bytes, and a connection can say what is still to come."""
    proxy, upstream, client = served()
    with proxy:
        stream = client.connection.outgoing
        stream.resetAt(9)
        stream.stallAt(4)
        client.send(httpRequest())
        assert repr(stream) == "<MemoryStream 4 bytes, stalled, reset at 9>"
        stream.stalled = False
        proxy.run()
        assert (stream.count, client.connection.lost, upstream.requests) == (9, True, [])


# -- reading


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_reader(step: int) -> None:
    """Messages are read the same whatever the pieces in which they come."""
    raw = (
        httpRequest("PUT", "/a", {"X": "1"}, b"hello")
        + b"\r\n"
        + httpRequest("POST", "/b", {"Transfer-Encoding": "chunked"}, b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n")
        + httpRequest("GET", "/c")
        + b"GET /d HT"
    )
    reader = MessageReader()
    for at in range(0, len(raw), step):
        reader.feed(raw[at : at + step])
    assert [(each.method, each.target, each.body, each.complete) for each in reader.messages] == [
        (b"PUT", b"/a", b"hello", True),
        (b"POST", b"/b", b"hello0123456789", True),
        (b"GET", b"/c", b"", True),
    ]
    assert reader.messages[1].trailers.items() == [(b"T", b"1")]


def test_readerStops() -> None:
    """It says why it cannot read on."""
    reader = MessageReader()
    reader.feed(httpRequest("POST", "/", {"Transfer-Encoding": "chunked"}, b"zz\r\n"))
    assert ("zz" in reader.broken, repr(reader.messages)) == (True, "[<Message POST /, 0 bytes, incomplete>]")
