"""
Hooks that raise, return nonsense, or are only half there: each is named in the log, its exchange ends, the next one is
served, and nothing is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from twisted.logger import eventAsText, globalLogPublisher
from zope.interface import implementer

from tests.support.flow import Body
from twistproxy import Explained, ProxySite, Response, ReverseProxy, ReverseProxyResource, Router, chain
from twistproxy.interfaces import (
    IBody,
    IBodyFilter,
    ICallbackTransport,
    IDirector,
    IErrorHandler,
    IObserver,
    IResponder,
    IResponseModifier,
    ITransport,
)
from twistproxy.testing import MemoryNetwork, MemoryProxy, httpResponse

Logged = list[Any]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def logged(loggedErrors: Logged) -> Iterator[Logged]:
    """All that is logged; errors are expected."""
    events: Logged = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)
    loggedErrors.clear()


def said(events: Logged) -> str:
    """@return: what was logged."""
    return "\n".join(eventAsText(event, includeTimestamp=False) for event in events)


def bug(*arguments: Any) -> Any:
    """A hook with a bug."""
    raise ValueError("a bug")


async def lateBug(*arguments: Any) -> Any:
    """A hook that waits, with a bug."""
    raise ValueError("a bug")


def nonsense(*arguments: Any) -> Any:
    """A hook that returns something else."""
    return {"status": 200}


def halfBody(*arguments: Any) -> Any:
    """A hook whose response has half a body."""

    class Half:
        length = None

        def deliver(self, consumer: Any) -> None:
            """All there is."""

    return Response(200, body=Half())


def unreasonable(*arguments: Any) -> Any:
    """A hook whose response breaks the message."""
    response = Response(200)
    response.reason = b"OK\r\nX-Forged: 1"
    return response


def statusText(*arguments: Any) -> Any:
    """A hook whose response has no status."""
    response = Response(200)
    response.status = "200"  # type: ignore[assignment]
    return response


HOOKS = [bug, lateBug, nonsense, halfBody, unreasonable, statusText]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("sort", ["director", "transport", "error handler"])
def test_answering(sort: str, hook: Any, logged: Logged) -> None:
    """B7.4: hooks that answer: the client gets a 500, and the log names sort and hook."""
    options: dict[str, Any] = {"director": hook}
    if sort == "transport":
        options = {"transport": hook}
    elif sort == "error handler":
        options = {"errorHandler": hook}
    with MemoryProxy(**options) as proxy:
        client = proxy.client()
        response = client.request("POST", body=b"data")
        assert response.status == 500
        assert response.complete
        assert response.headers.get("X-Forged") is None
        assert client.request().status == 500
        assert proxy.timers[0].limit == "keepAlive"
    assert f"{sort} {hook.__qualname__}" in said(logged)


def falsifying(response: Any) -> None:
    """A modifier that makes nonsense of a response."""
    response.body = "text"


def halving(response: Any) -> None:
    """The same with half a body."""
    response.body = halfBody().body


@pytest.mark.parametrize("hook", [bug, lateBug, falsifying, halving])
def test_modifiers(hook: Any, logged: Logged) -> None:
    """B3.3: a modifier that fails, or makes nonsense of a response, is named; the upstream's body is given up."""
    with MemoryProxy(modifyResponse=hook) as proxy:
        upstream = proxy.addUpstream(answer=CHUNKED + b"1\r\na\r\n")
        client = proxy.client()
        assert client.request().status == 500
        assert upstream.connection.ended == "reset"
        assert client.request().status == 500
    assert f"modifyResponse {hook.__qualname__}" in said(logged)


def test_observers(logged: Logged) -> None:
    """B7.4: an observer that fails is named, and costs nothing."""
    with MemoryProxy(observers=[bug]) as proxy:
        proxy.addUpstream()
        assert proxy.client().request().status == 200
    assert "the observer bug failed on" in said(logged)


# -- filters


@implementer(IBodyFilter)
class Filter:
    """Makes consumers that fail at one method."""

    def __init__(self, method: str) -> None:
        self.method = method

    def filterBody(self, consumer: Any, message: Any) -> Any:
        return Failing(consumer, self.method)


class Failing:
    """Passes on, but for one method."""

    def __init__(self, consumer: Any, method: str) -> None:
        self.consumer = consumer
        self.method = method

    def __getattr__(self, name: str) -> Any:
        return bug if name == self.method else getattr(self.consumer, name)

    def write(self, data: bytes) -> None:
        bug() if self.method == "write" else self.consumer.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        bug() if self.method == "finish" else self.consumer.finish(trailers)


class HalfConsumer:
    """Takes a body, and says no more about it."""

    def __init__(self, *arguments: Any) -> None:
        """All there is."""

    def write(self, data: bytes) -> None:
        """Nothing."""

    def finish(self, trailers: list[bytes]) -> None:
        """Nothing."""


async def breaking(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
    """Fails in mid-body."""
    yield await anext(chunks)
    raise ValueError("a bug")


async def texts(chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[Any]:
    """Yields something else."""
    async for chunk in chunks:
        yield chunk.decode()


MIDBODY = [
    (Filter("registerProducer"), "Filter.filterBody"),
    (Filter("write"), "Filter.filterBody"),
    (Filter("finish"), "Filter.filterBody"),
    (HalfConsumer, "HalfConsumer"),
    (breaking, "breaking"),
    (texts, "texts"),
]


@pytest.mark.parametrize(("given", "name"), MIDBODY, ids=[f"{name}{number}" for number, (_, name) in enumerate(MIDBODY)])
def test_responseFilters(given: Any, name: str, logged: Logged) -> None:
    """B7.4: a filter that fails in mid-body cuts the response; it is named, and the upstream's connection not kept."""
    with MemoryProxy(responseFilters=[given]) as proxy:
        upstream = proxy.addUpstream(answer=None)
        client = proxy.client()
        client.request()
        upstream.connection.send(CHUNKED + b"1\r\na\r\n")
        upstream.connection.send(b"0\r\n\r\n")
        assert proxy.records[0].error.hook == f"body filter {name}"
        assert not client.responses or not client.response.complete or client.response.status == 500
        assert proxy.exchanges == set()
    assert f"body filter {name}" in said(logged)


@pytest.mark.parametrize(("given", "name"), MIDBODY, ids=[f"{name}{number}" for number, (_, name) in enumerate(MIDBODY)])
def test_requestFilters(given: Any, name: str, logged: Logged) -> None:
    """B7.4: the same for a request: the upstream does not get it for whole, and the client a 500."""
    with MemoryProxy(requestFilters=[given]) as proxy:
        upstream = proxy.addUpstream(answer=None)
        client = proxy.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        client.send(b"0\r\n\r\n")
        assert proxy.records[0].error.hook == f"body filter {name}"
        assert client.response.status == 500
        assert not any(each.complete for each in upstream.requests)
        assert upstream.connection.ended == "reset"
    assert f"body filter {name}" in said(logged)


@pytest.mark.parametrize("given", [bug, nonsense])
@pytest.mark.parametrize("side", ["requestFilters", "responseFilters"])
def test_filtersAtOnce(side: str, given: Any, logged: Logged) -> None:
    """B3.7: one that raises or returns nonsense when it is asked is answered with a 500."""
    options: dict[str, Any] = {side: [given]}
    with MemoryProxy(**options) as proxy:
        proxy.addUpstream()
        client = proxy.client()
        assert client.request("POST", body=b"data").status == 500
    assert f"body filter {given.__qualname__}" in said(logged)


# -- bodies of the user's


@implementer(IBody)
class BodyOf(Body):
    """Does something else than to deliver."""

    def __init__(self, act: Any, length: int | None) -> None:
        super().__init__(length)
        self.act = act

    def deliver(self, consumer: Any) -> None:
        super().deliver(consumer)
        self.act(consumer)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(bug, id="raises"),
        pytest.param(lambda consumer: consumer.write("text"), id="text"),
        pytest.param(lambda consumer: (consumer.write(b"a"), consumer.write(None)), id="none"),
        pytest.param(lambda consumer: consumer.fail(ValueError("a bug")), id="fails"),
    ],
)
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("length", [None, 4])
def test_bodies(act: Any, later: bool, length: int | None, logged: Logged) -> None:
    """B3.5: the body of an answer that fails, or brings what is no bytes, is cut; the log names it."""
    made: list[Any] = []

    def respond(exchange: Any) -> None:
        made.append(BodyOf((lambda consumer: None) if later else act, length))
        exchange.answer(Response(200, body=made[-1]))

    with MemoryProxy(responder=respond) as proxy:
        client = proxy.client()
        client.request()
        if later:
            try:
                act(made[0].consumer)
            except (TypeError, ValueError):
                made[0].consumer.fail(RuntimeError("what a producer that fails has to say"))
        proxy.run()
        assert proxy.exchanges == set()
        assert not client.response.complete
        assert client.ended != ""
        assert proxy.records[0].error.hook == "response body BodyOf"
    assert "respond to <Exchange b'GET' b'/' settled> broke off: response body BodyOf: " in said(logged)


# -- half implemented


@implementer(IDirector, IResponder, ITransport, IResponseModifier, IErrorHandler, IBodyFilter, IObserver)
class Nothing:
    """Promises much."""


@implementer(ICallbackTransport)
class NoTransport:
    """Promises to carry."""


HALF: list[tuple[str, Any]] = [
    ("IDirector, and has no direct()", lambda: ReverseProxy(Nothing(), reactor=MemoryNetwork())),
    ("IDirector, and has no direct()", lambda: chain(Nothing())),
    ("IDirector, and has no direct()", lambda: ReverseProxyResource(Nothing(), reactor=MemoryNetwork())),
    ("ITransport, and has no roundTrip()", lambda: ReverseProxy(bug, Nothing(), reactor=MemoryNetwork())),
    ("ICallbackTransport, and has no begin()", lambda: ReverseProxy(bug, NoTransport(), reactor=MemoryNetwork())),
    ("IResponseModifier, and has no modifyResponse()", lambda: MemoryProxy(modifyResponse=Nothing())),
    ("IErrorHandler, and has no handleError()", lambda: MemoryProxy(errorHandler=Nothing())),
    ("IBodyFilter, and has no filterBody()", lambda: MemoryProxy(requestFilters=[Nothing()])),
    ("IBodyFilter, and has no filterBody()", lambda: MemoryProxy(responseFilters=[Nothing()])),
    ("IObserver, and has no exchangeSettled()", lambda: MemoryProxy(observers=[Nothing()])),
    ("IResponder, and has no respond()", lambda: ProxySite(Nothing(), reactor=MemoryNetwork())),
    ("IResponder, and has no respond()", lambda: Explained(Nothing())),
    ("IResponder, and has no respond()", lambda: Router().add(Nothing())),
]


@pytest.mark.parametrize(("fault", "give"), HALF, ids=[f"{number}-{fault[:12]}" for number, (fault, _) in enumerate(HALF)])
def test_half(fault: str, give: Any) -> None:
    """An object that promises an interface and does not have its method is refused where it is given, by name."""
    with pytest.raises(TypeError, match=r"(Nothing|NoTransport) object at .* says that it provides") as caught:
        give()
    assert str(caught.value).endswith(fault)


def test_wrongArguments(logged: Logged) -> None:
    """One whose method takes other arguments is named when it is called."""

    @implementer(IDirector)
    class Director:
        def direct(self) -> None:
            """Nobody can call this."""

    with MemoryProxy(Director()) as proxy:
        proxy.addUpstream(answer=httpResponse(200))
        assert proxy.client().request().status == 500
    assert "Director: TypeError" in said(logged)
