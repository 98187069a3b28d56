"""
What a resource may do to a C{twisted.web.server.Request} under a C{ProxySite}.
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

from tests.web.held import GET, Flood, Held, failed
from tests.web.trees import Leaf
from twistproxy.testing import MemoryProxy


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
