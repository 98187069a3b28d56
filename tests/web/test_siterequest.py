"""
What clients and time may do to a C{twisted.web.server.Request} under a C{ProxySite}.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.logger import LogEvent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.vhost import NameVirtualHost

from tests.web.held import GET, Flood, Held, failed
from tests.web.trees import Leaf
from twistproxy import Limits, Timeouts
from twistproxy.testing import MemoryProxy
from twistproxy.web.resource import ReverseProxyResource as WebResource

# -- the client's part


def test_finished() -> None:
    """C{notifyFinish} fires when the answer is complete, and the exchange is on record."""
    with Held() as held:
        client = held.client(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        held.proxy.advance(3600)
        assert held.told == []
        [request] = held.requests
        request.write(b"hello")
        request.finish()
        held.proxy.run()
        assert (client.response.body, client.response.complete, held.told) == (b"hello", True, [None])
        [record] = held.proxy.records
        assert (record.status, record.requestBytes, record.responseBytes) == (200, 3, 5)
        assert record.requestID != b""


@pytest.mark.parametrize("begun", [False, True])
def test_clientLeaves(begun: bool) -> None:
    """B7.1: a client that leaves is told to the resource, which may write on, and may not finish, as ever."""
    with Held() as held:
        client = held.client(GET)
        [request] = held.requests
        if begun:
            request.write(b"beginning")
            held.turn()
            assert client.response.body == b"beginning"
        client.connection.sendReset()
        held.proxy.run()
        assert held.reasons == [ConnectionDone]
        request.write(b"more")
        with pytest.raises(RuntimeError, match="after its connection was lost"):
            request.finish()
        assert (held.proxy.records[0].status, held.proxy.exchanges) == (499, set())


def test_pipelined() -> None:
    """Requests behind one another are rendered one at a time, and answered in order."""
    with Held() as held:
        client = held.client(GET * 3)
        for number in range(3):
            assert len(held.requests) == number + 1
            held.requests[number].write(b"%d" % number)
            held.requests[number].finish()
            held.proxy.run()
        assert [response.body for response in client.responses] == [b"0", b"1", b"2"]


def test_pushProducer() -> None:
    """B4.4: a push producer is paused while the client does not take what is written, and stopped when it leaves."""
    with Held() as held:
        client = held.client(GET)
        [request] = held.requests
        flood = Flood(request)
        request.registerProducer(flood, True)
        client.connection.taking = False
        for _ in range(40):
            request.write(b"z" * 32768)
            held.proxy.run()
        assert (flood.paused, flood.resumed) == (1, 0)
        client.connection.taking = True
        held.proxy.run()
        assert (flood.paused, flood.resumed) == (1, 1)
        client.connection.sendReset()
        held.proxy.run()
        assert (flood.stopped, held.reasons) == (1, [ConnectionDone])


class Well(Flood):
    """A pull producer that gives C{left} pieces."""

    left = 200

    def resumeProducing(self) -> None:
        """A piece."""
        self.resumed += 1
        self.request.write(b"z" * 32768)
        if self.resumed == self.left:
            self.request.unregisterProducer()
            self.request.finish()


def test_pullProducer() -> None:
    """B4.4: a pull producer is asked no more while the client does not take what was written, and then again."""
    with Held() as held:
        client = held.client(GET)
        client.connection.taking = False
        [request] = held.requests
        well = Well(request)
        request.registerProducer(well, False)
        held.proxy.advance(5)
        assert 0 < well.resumed < 60
        assert held.proxy.network.transports[0].unsentBytes < 2_000_000
        client.connection.taking = True
        held.proxy.advance(5)
        assert (len(client.response.body), client.response.complete) == (200 * 32768, True)
        assert held.told == [None]


def test_pullProducerLeft() -> None:
    """A pull producer is stopped when its client leaves."""
    with Held() as held:
        client = held.client(GET)
        client.connection.taking = False
        well = Well(held.requests[0])
        held.requests[0].registerProducer(well, False)
        held.proxy.advance(1)
        client.connection.sendReset()
        held.proxy.advance(1)
        assert (well.stopped, held.reasons) == (1, [ConnectionDone])


def test_pullProducerFails(loggedErrors: list[LogEvent]) -> None:
    """A producer that raises is logged, and the response cut off."""

    class Broken(Well):
        def resumeProducing(self) -> None:
            super().resumeProducing()
            if self.resumed == 10:
                raise OSError("the file is gone")

    with Held() as held:
        client = held.client(GET)
        held.requests[0].registerProducer(Broken(held.requests[0]), False)
        held.proxy.advance(1)
        assert (client.response.complete, client.ended) == (False, "closed")
        assert held.reasons == [ConnectionAborted]
        assert failed(loggedErrors) == 1


# -- bodies


def test_tooLarge() -> None:
    """B1.10: a length above the bound is answered with 413 before the client is asked for anything."""
    with Held(limits=Limits(collected=10)) as held:
        client = held.client(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
        assert (client.interims, client.response.status, held.requests) == ([], 413, [])
        [record] = held.proxy.records
        assert record.error is not None
        assert record.error.reason == "a request body of more than 10 bytes"


def test_tooLargeInChunks() -> None:
    """B1.10: a body that grows above the bound is answered with 413 then, and the resource never asked."""
    with Held(limits=Limits(collected=10)) as held:
        client = held.client(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
        assert client.responses == []
        client.send(b"6\r\n123456\r\n")
        assert (client.response.status, held.requests) == (413, [])


@pytest.mark.parametrize("limit", [10, None])
def test_largeEnough(limit: int | None) -> None:
    """A body as large as the bound is read, and its client asked for it once."""
    with Held(lambda request: request.content.read(), limits=Limits(collected=limit)) as held:
        client = held.client(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
        assert [interim.status for interim in client.interims] == [100]
        client.send(b"12345")
        assert held.requests == []
        client.send(b"67890")
        assert client.response.body == b"1234567890"
        # the connection can be used again
        client.send(GET)
        assert len(client.responses) == 2


def test_largeInFile() -> None:
    """A large body is in a file, which is closed behind the request."""
    files: list[Any] = []

    def render(request: Any) -> bytes:
        files.append(request.content)
        return b"%d" % len(request.content.read())

    with Held(render) as held:
        client = held.client(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        client.send(b"z" * 200_000)
        assert client.response.body == b"200000"
        assert (hasattr(files[0], "fileno"), files[0].closed) == (True, True)


@pytest.mark.parametrize(("how", "status"), [("stalls", 408), ("leaves", 499)])
def test_bodyBroken(how: str, status: int) -> None:
    """B9: a body that does not come to its end never reaches the resource."""
    with Held() as held:
        client = held.client(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
        if how == "stalls":
            held.proxy.advance(61)
            assert client.response.status == 408
        else:
            client.connection.sendReset()
            held.proxy.run()
        assert (held.requests, held.proxy.records[0].status) == ([], status)


def test_fullDisk(loggedErrors: list[LogEvent]) -> None:
    """A body that cannot be kept is logged and answered with 500."""

    class Full(Request):
        def handleContentChunk(self, data: bytes) -> None:
            raise OSError("no space left")

    with Held() as held:
        held.proxy.site.requestFactory = Full
        client = held.client(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
        client.send(b"4567890")
        assert (client.response.status, held.requests, failed(loggedErrors)) == (500, [], 1)


def test_brokenForm() -> None:
    """A multipart form that is none is answered with 400."""
    with Held() as held:
        client = held.client(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert (client.response.status, held.requests) == (400, [])


@pytest.mark.parametrize("version, fields", [("1.1", "Host: public.test\r\n"), ("1.0", "")])
@pytest.mark.parametrize("child", ["static", "asked"])
def test_wholeURL(version: str, fields: str, child: str) -> None:
    """RFC 9112 3.2.2: the host of a whole URL counts and no other, for every resource: here for a virtual host."""

    class Asked(Resource):
        def getChild(self, name: bytes, request: Any) -> Any:
            return Leaf(seen)

    def seen(request: Any) -> bytes:
        return b"%b by %b" % (request.getHeader(b"host"), request.getRequestHostname())

    hosts, private = NameVirtualHost(), Resource()
    hosts.addHost(b"private.test", private)
    hosts.addHost(b"public.test", Leaf(lambda _: b"public"))
    private.putChild(b"static", Leaf(seen))
    private.putChild(b"asked", Asked())
    with MemoryProxy(responder=hosts) as proxy:
        client = proxy.client()
        client.send(f"GET http://private.test:81/{child}/x HTTP/{version}\r\n{fields}\r\n".encode())
        assert client.response.body == b"private.test:81 by private.test"


# -- time


def test_exchangeLimit() -> None:
    """B9: the limit on an exchange as a whole is the only one on a resource that does not answer."""
    with Held(timeouts=Timeouts(exchange=5)) as held:
        client = held.client(GET)
        held.proxy.advance(4.8)
        assert client.responses == []
        held.proxy.advance(0.4)
        assert (client.response.status, held.reasons) == (504, [ConnectionAborted])
        assert held.proxy.records[0].error.timeout == "exchange"  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["here/x", "asked/x", "rendered", "plain"])
@pytest.mark.parametrize("replaced", [False, True])
def test_exchangeLimitOfProxies(path: str, replaced: bool) -> None:
    """B9: the site's limit holds for a proxy in its tree, however found, and for any resource; below a new root, too."""

    class Asked(Resource):
        def getChild(self, name: bytes, request: Any) -> Any:
            return silent

    root = Resource()
    with MemoryProxy(responder=root, timeouts=Timeouts(exchange=5)) as proxy:
        silent = WebResource(lambda exchange: None, proxy.clock.seconds)
        root.putChild(b"here", silent)
        root.putChild(b"asked", Asked())
        root.putChild(b"rendered", Leaf(silent.render))
        root.putChild(b"plain", Leaf(lambda request: NOT_DONE_YET))
        if replaced:
            proxy.site.resource = root
        client = proxy.client()
        client.send(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        proxy.advance(4.8)
        assert client.responses == []
        proxy.advance(0.4)
        assert (client.response.status, len(proxy.exchanges)) == (504, 0)


def test_exchangeLimitInBody() -> None:
    """B9: a response that has begun is cut off by it."""
    with Held(timeouts=Timeouts(exchange=5)) as held:
        client = held.client(GET)
        held.requests[0].write(b"begun")
        held.proxy.advance(5.2)
        assert (client.response.complete, client.ended, held.reasons) == (False, "closed", [ConnectionAborted])


def test_clientTakesNothing() -> None:
    """B9: a client that takes nothing of its response is given up, and the resource told."""
    with Held(timeouts=Timeouts(write=5)) as held:
        client = held.client(GET)
        client.connection.taking = False
        held.requests[0].write(b"z" * 1_000_000)
        held.proxy.advance(11)
        assert (client.ended, held.reasons) == ("reset", [ConnectionDone])


def test_drain() -> None:
    """B10.2: what a resource has begun is finished when the site goes down, and its connection closed behind it."""
    with Held() as held:
        client = held.client(GET)
        drained = held.proxy.site.drain()
        held.proxy.run()
        assert not drained.called
        held.requests[0].write(b"hello")
        held.requests[0].finish()
        held.proxy.run()
        assert (client.response.body, client.response.headers.get("connection"), client.ended) == (
            b"hello", b"close", "closed",
        )  # fmt: skip
        assert drained.called


def test_cut() -> None:
    """A site that does not wait tells its resources."""
    with Held() as held:
        held.client(GET)
        assert held.proxy.site.cut() == 1
        held.proxy.run()
        assert (held.reasons, held.proxy.records[0].status) == ([ConnectionDone], 503)
