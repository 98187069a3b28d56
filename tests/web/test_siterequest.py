"""
What a resource may do to a C{twisted.web.server.Request} under a C{ProxySite}, and what time and clients may do to it.
"""

from __future__ import annotations

import gc
from contextvars import ContextVar
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.logger import LogEvent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.web.trees import Leaf
from twistproxy import Limits, Timeouts
from twistproxy.testing import MemoryClient, MemoryProxy

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Held:
    """
    A site whose requests wait until the test answers them.

    @ivar requests: the requests.
    @ivar told: what their C{notifyFinish} has told.
    """

    def __init__(self, render: Any = None, **options: Any) -> None:
        self.requests: list[Any] = []
        self.told: list[Any] = []
        self.render = render
        self.proxy = MemoryProxy(responder=Leaf(self._render), **options)

    def _render(self, request: Any) -> Any:
        self.requests.append(request)
        request.notifyFinish().addBoth(self.told.append)
        return NOT_DONE_YET if self.render is None else self.render(request)

    def client(self, data: bytes = b"") -> MemoryClient:
        """@return: a client, that has sent something."""
        client = self.proxy.client()
        if data:
            client.send(data)
        return client

    def turn(self) -> None:
        """Let the reactor have a turn."""
        self.proxy.clock.advance(0)
        self.proxy.run()

    @property
    def reasons(self) -> list[type[Exception] | None]:
        """What C{notifyFinish} told, by its type."""
        return [None if told is None else told.type for told in self.told]

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *error: Any) -> None:
        self.proxy.__exit__(*error)


def failed(logged: list[LogEvent]) -> int:
    """@return: how many errors were logged since somebody asked."""
    count = len(logged)
    logged.clear()
    return count


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


class Flood:
    """A push producer that counts how often it is paused and resumed."""

    def __init__(self, request: Any) -> None:
        self.request, self.paused, self.resumed, self.stopped = request, 0, 0, 0

    def pauseProducing(self) -> None:
        """Stop."""
        self.paused += 1

    def resumeProducing(self) -> None:
        """Go on."""
        self.resumed += 1

    def stopProducing(self) -> None:
        """Never again."""
        self.stopped += 1


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


# -- the resource's part


def answered(held: Held, *pieces: bytes, **fields: str) -> None:
    """Answer the latest request."""
    request = held.requests[-1]
    for name, value in fields.items():
        request.setHeader(name.replace("_", "-"), value)
    for piece in pieces:
        request.write(piece)
    request.finish()
    held.proxy.run()


def test_atOnce() -> None:
    """What is written in one turn is one response of known length; what comes later is chunked."""
    with Held() as held:
        client = held.client(GET)
        answered(held, b"one,", b"two")
        assert client.response.headers.get("content-length") == b"7"
        client.send(GET)
        held.requests[-1].write(b"one,")
        held.turn()
        assert client.response.headers.get("transfer-encoding") == b"chunked"
        answered(held, b"two")
        assert (client.response.body, client.response.complete) == (b"one,two", True)


def test_headAlone() -> None:
    """An empty write sends the head, as event streams do before the first event."""
    with Held() as held:
        client = held.client(GET)
        held.requests[0].write(b"")
        held.turn()
        assert (client.response.status, client.response.complete) == (200, False)
        answered(held)
        assert client.response.complete


def test_largeAtOnce() -> None:
    """What is written in one turn is not held without a bound."""

    def render(request: Any) -> int:
        for _ in range(100):
            request.write(b"z" * 32768)
        request.finish()
        return NOT_DONE_YET

    with Held(render) as held:
        client = held.client(GET)
        assert client.response.headers.get("transfer-encoding") == b"chunked"
        assert (len(client.response.body), client.response.complete) == (100 * 32768, True)


def test_untilClose() -> None:
    """HTTP/1.0: a body of unknown length ends with the connection."""
    with Held() as held:
        client = held.client(b"GET / HTTP/1.0\r\n\r\n")
        held.requests[0].write(b"one,")
        held.turn()
        answered(held, b"two")
        assert (client.response.body, client.response.complete, client.ended) == (b"one,two", True, "closed")
        assert "transfer-encoding" not in client.response.headers


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("body", [b"short", b"much too long"])
def test_wrongLength(loggedErrors: list[LogEvent], late: bool, body: bytes) -> None:
    """A body that is not as long as was said never looks complete, and can never be read as the next response."""
    with Held() as held:
        client = held.client(GET + GET)
        request = held.requests[0]
        request.setHeader(b"content-length", b"8")
        if late:
            request.write(b"")
            held.turn()
        request.write(body)
        if not request._disconnected:
            request.finish()
        held.proxy.run()
        if late:
            assert (client.response.status, client.response.complete, client.ended) == (200, False, "closed")
            assert failed(loggedErrors) == 0
        else:
            # nothing was sent yet
            assert client.response.status == 500
            assert failed(loggedErrors) == 1
            answered(held, b"next")
            assert client.response.body == b"next"
        assert held.proxy.records[0].error is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"x", b"a\0b"), (b"content-length", b"five"), (b"content-length", b"-1")],
)
def test_unsendable(loggedErrors: list[LogEvent], name: bytes, value: bytes) -> None:
    """B1: a head that others could misread is not sent; the log says what and where."""
    with Held() as held:
        client = held.client(GET + GET)
        held.requests[0].setHeader(name, value)
        answered(held, b"hello")
        assert client.response.status == 500
        assert failed(loggedErrors) == 1
        answered(held, b"next")
        assert client.response.body == b"next"


@pytest.mark.parametrize("status", [101, 103, 600, 99])
def test_unsendableStatus(loggedErrors: list[LogEvent], status: int) -> None:
    """A status that no final response has is not sent."""

    def render(request: Any) -> bytes:
        request.setResponseCode(status, b"Odd")
        return b"hello"

    with Held(render) as held:
        client = held.client(GET)
        assert (client.response.status, failed(loggedErrors)) == (500, 1)


@pytest.mark.parametrize("begun", [False, True])
def test_loseConnection(begun: bool) -> None:
    """C{loseConnection} closes the connection behind what was written, and no response looks complete."""
    with Held() as held:
        client = held.client(GET + GET)
        if begun:
            held.requests[0].write(b"begun")
        held.requests[0].loseConnection()
        held.proxy.run()
        assert [response.body for response in client.responses] == ([b"begun"] if begun else [])
        assert (client.ended, held.reasons, len(held.requests)) == ("closed", [ConnectionAborted], 1)
        assert not any(response.complete for response in client.responses)


def test_abortConnection() -> None:
    """The transport is the connection's own."""
    with Held() as held:
        client = held.client(GET)
        held.requests[0].transport.abortConnection()
        held.proxy.run()
        assert (client.ended, held.reasons) == ("reset", [ConnectionDone])


@pytest.mark.parametrize("how", ["field", "attribute"])
def test_closeBehind(how: str) -> None:
    """A resource that wants the connection closed has it closed; what its client has sent behind is not served."""
    with Held() as held:
        client = held.client(GET + GET)
        request = held.requests[0]
        assert request.channel.persistent is True
        if how == "field":
            request.setHeader(b"connection", b"close")
        else:
            request.channel.persistent = False
        request.channel.setTimeout(None)
        answered(held, b"last")
        assert [response.body for response in client.responses] == [b"last"]
        assert (client.response.headers.get("connection"), client.ended) == (b"close", "closed")
        assert len(held.requests) == 1


def test_finishTwice() -> None:
    """A second C{finish} is warned of, and a C{write} behind the end refused, by the request itself."""
    with Held() as held:
        client = held.client(GET)
        answered(held, b"once")
        with pytest.warns(UserWarning, match=r"request\.finish called twice"):
            held.requests[0].finish()
        with pytest.raises(RuntimeError, match=r"after Request\.finish was called"):
            held.requests[0].write(b"more")
        assert client.response.body == b"once"
        assert len(client.responses) == 1


def test_raisesInTheMiddle(loggedErrors: list[LogEvent]) -> None:
    """A resource that raises when it has written already does not leave its client waiting."""

    def render(request: Any) -> bytes:
        request.setHeader(b"content-length", b"1000")
        request.write(b"begun")
        raise RuntimeError("an accident")

    with Held(render) as held:
        client = held.client(GET)
        assert (client.response.status, b"begun" in client.response.body) == (500, False)
        assert held.proxy.exchanges == set()
        assert failed(loggedErrors) == 2


def test_producerLeftBehind(loggedErrors: list[LogEvent]) -> None:
    """A producer that was never unregistered is complained of by the request, and nothing is left of it."""
    with Held() as held:
        client = held.client(GET)
        held.requests[0].registerProducer(Flood(held.requests[0]), True)
        with pytest.raises(ValueError, match="registering producer"):
            held.requests[0].registerProducer(Flood(held.requests[0]), True)
        answered(held, b"done")
        assert (client.response.body, failed(loggedErrors)) == (b"done", 1)


CURRENT: ContextVar[bytes] = ContextVar("CURRENT", default=b"nobody")


def test_variables() -> None:
    """Context variables that one request sets, in C{getChild} or C{render}, are not there in the next."""

    class Naming(Resource):
        def getChild(self, path: bytes, request: Any) -> Any:
            before = CURRENT.get()
            CURRENT.set(path)
            return Leaf(lambda request: before + b", " + CURRENT.get())

    with MemoryProxy(responder=Naming()) as proxy:
        client = proxy.client()
        for name in ("one", "two"):
            client.request("GET", "/" + name)
            assert client.response.body == b"nobody, " + name.encode()


def test_displayTracebacks(loggedErrors: list[LogEvent]) -> None:
    """Nothing of an accident is shown to clients, unless somebody wants that."""

    def render(request: Any) -> bytes:
        raise RuntimeError("a secret")

    with Held(render) as held:
        client = held.client(GET)
        assert (client.response.status, b"secret" in client.response.body) == (500, False)
        held.proxy.site.displayTracebacks = True
        client.send(GET)
        assert (client.response.status, b"secret" in client.response.body) == (500, True)
        assert failed(loggedErrors) == 2


@pytest.mark.parametrize("how", ["at once", "in pieces", "left", "cut short", "large"])
def test_nothingKept(how: str) -> None:
    """Nothing of a request is left when it is over, without a garbage collector."""
    died: list[int] = []

    class Mortal(Request):
        def __del__(self) -> None:
            died.append(1)

    def render(request: Any) -> Any:
        request.registerProducer(Flood(None), True)
        request.write(b"begun")
        if how in ("at once", "large"):
            request.write(b"z" * (10 if how == "at once" else 1_000_000))
            request.unregisterProducer()
            request.finish()
        else:
            waiting.append(request)
        return NOT_DONE_YET

    waiting: list[Any] = []
    proxy = MemoryProxy(responder=Leaf(render))
    with proxy:
        proxy.site.requestFactory = lambda channel, queued: Mortal(channel)
        gc.collect()
        gc.disable()
        try:
            client = proxy.client()
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            proxy.advance(1)
            if how == "left":
                client.connection.sendReset()
            elif how == "cut short":
                waiting[0].loseConnection()
            elif waiting:
                waiting[0].write(b"ended")
                waiting[0].unregisterProducer()
                waiting[0].finish()
            waiting.clear()
            proxy.advance(1)
            assert (proxy.exchanges, len(died)) == (set(), 1)
        finally:
            gc.enable()


def test_takingOver(loggedErrors: list[LogEvent]) -> None:
    """A resource that wants its connection for itself is told that it cannot have it."""

    def render(request: Any) -> int:
        request.channel._protocolUpgradeForWebsockets(object())
        return NOT_DONE_YET

    with Held(render) as held:
        client = held.client(GET)
        assert client.response.status == 500
        assert "mount a ReverseProxyResource" in str(loggedErrors[0]["log_failure"].value)
        assert failed(loggedErrors) == 1


def test_refused() -> None:
    """B1: what our wire refuses, no resource gets to see."""
    with Held() as held:
        for head, status in ((b"GET / HTTP/1.1", 400), (b"CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1", 405)):
            client = held.client(head + b"\r\n\r\n")
            assert client.response.status == status
        assert (held.requests, [record.status for record in held.proxy.records]) == ([], [400, 405])
