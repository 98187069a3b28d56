"""
The flow: its hooks (B3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Body
from tests.support.world import World, readResponses
from twistproxy.core.proxy import ProxyFlow, hookOf
from twistproxy.core.request import ProxyRequest
from twistproxy.errors import (
    ClientLeft,
    HookFailed,
    Refused,
    Sent,
    Side,
    Stage,
)
from twistproxy.interfaces import IDirector, IResponder, IResponseModifier
from twistproxy.message import Response

GET = b"GET /p HTTP/1.1\r\nHost: front.test\r\n\r\n"


def plainly(given: ProxyRequest) -> None:
    """A director that adds nothing."""
    given.setTarget("http://origin.test")


def got(world: World, raw: bytes = GET) -> Any:
    """@return: the response to a request."""
    client = world.client()
    client.send(raw)
    [response] = readResponses(client.take(), ended=client.ended == "closed")
    return response


# -- hooks in general


def test_hookOf() -> None:
    """A plain callable is accepted wherever an interface has one method; anything else is refused when it is given."""

    @implementer(IDirector)
    class Director:
        def direct(self, request: Any) -> str:
            return "directed"

    assert verifyObject(IDirector, Director())
    assert hookOf(Director(), IDirector, "direct")(None) == "directed"
    assert hookOf(plainly, IDirector, "direct") is plainly
    with pytest.raises(TypeError, match="neither provides IDirector nor is callable"):
        hookOf("http://origin.test", IDirector, "direct")


@pytest.mark.parametrize("name", ["modifyResponse", "errorHandler"])
def test_noHook(name: str) -> None:
    """What is no hook is refused, even if it is false."""
    for wrong in (0, "", "text"):
        with pytest.raises(TypeError, match="callable"):
            Bench(**{name: wrong})


def test_interfaces() -> None:
    """The flow is a responder."""
    assert verifyObject(IResponder, Bench().flow)
    assert IResponder.implementedBy(ProxyFlow)


# -- the director (B3.1, B3.2)


async def coroutine(given: Any) -> None:
    plainly(given)


def fired(given: Any) -> Deferred[None]:
    plainly(given)
    return succeed(None)


def unfired(given: Any) -> Deferred[None]:
    from twisted.internet.task import deferLater

    plainly(given)
    return deferLater(CLOCKS[-1], 1.0)


async def suspending(given: Any) -> None:
    from twisted.internet.task import deferLater

    await deferLater(CLOCKS[-1], 1.0)
    plainly(given)


CLOCKS: list[Any] = []


@pytest.mark.parametrize("director", [plainly, coroutine, fired, unfired, suspending])
def test_waits(makeWorld: Callable[..., World], director: Any) -> None:
    """B3.1: a director may be a function or a coroutine, and may wait."""
    world = makeWorld(director=director)
    CLOCKS.append(world.clock)
    client = world.client()
    client.send(GET)
    waits = director in (unfired, suspending)
    assert len(world.origin.requests) == (0 if waits else 1)
    world.network.advance(1.1)
    assert [response.status for response in readResponses(client.take())] == [200]
    [record] = world.records
    assert (record.directSeconds > 0.9) is waits


def answer(given: Any) -> Response:
    return Response(404, {"X-Mine": "1"}, "not here")


async def answerAsync(given: Any) -> Response:
    return Response(404, {"X-Mine": "1"}, "not here")


@pytest.mark.parametrize("director", [answer, answerAsync, lambda given: succeed(answer(given))])
def test_answers(makeWorld: Callable[..., World], director: Any) -> None:
    """B3.1: a director may answer itself; nothing is sent upstream."""
    world = makeWorld(director=director)
    response = got(world)
    assert (response.status, response.body, response[b"x-mine"]) == (404, b"not here", [b"1"])
    assert len(response[b"date"]) == 1
    assert world.network.dialed == []
    assert (world.records[0].status, world.records[0].error, world.records[0].tries) == (404, None, 0)


def test_answersAlways(makeWorld: Callable[..., World]) -> None:
    """B3.1: with one and the same object, if it likes."""
    mine = Response(403, body=b"no")
    world = makeWorld(director=lambda given: mine)
    client = world.client()
    client.send(GET)
    world.network.advance(2.0)
    client.send(GET)
    assert [response.body for response in readResponses(client.take())] == [b"no", b"no"]
    assert mine.headers.items() == []


def test_answersWithStream(makeWorld: Callable[..., World]) -> None:
    """B3.1: or with a body that is still to come."""
    body = Body()
    world = makeWorld(director=lambda given: Response(200, body=body))
    client = world.client()
    client.send(GET)
    body.consumer.write(b"one")
    body.consumer.finish([])
    world.network.run()
    assert [(each.body, each.complete) for each in readResponses(client.take())] == [(b"one", True)]


def test_answersBeforeTheBody(makeWorld: Callable[..., World]) -> None:
    """B3.1: the rest of a request that a director answered is dropped, and the connection lives on."""
    world = makeWorld(director=answer)
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    assert client.take().startswith(b"HTTP/1.1 404 ")
    client.send(b"world" + GET)
    assert client.take().startswith(b"HTTP/1.1 404 ")
    assert client.ended == ""


@pytest.mark.parametrize("status", [400, 401, 429, 503, 599])
def test_refuses(makeWorld: Callable[..., World], loggedErrors: list[Any], status: int) -> None:
    """B3.1: or refuse with a status; that is no bug, and has no traceback in the log."""

    def director(given: Any) -> None:
        raise Refused(status, "because")

    world = makeWorld(director=director)
    assert got(world).status == status
    assert (world.network.dialed, loggedErrors) == ([], [])
    assert world.records[0].error.reason == "because"


def raising(given: Any) -> None:
    raise ValueError("broken director")


async def raisingAsync(given: Any) -> None:
    raise ValueError("broken director")


@pytest.mark.parametrize("director", [raising, raisingAsync, lambda given: fail(ValueError("broken director"))])
def test_raises(makeWorld: Callable[..., World], loggedErrors: list[Any], director: Any) -> None:
    """B3.1: what it raises is a bug: 500, logged with its traceback, and the next request is served."""
    world = makeWorld(director=director)
    client = world.client()
    client.send(GET)
    world.proxy.useDirector(plainly)
    client.send(GET)
    assert [response.status for response in readResponses(client.take())] == [500, 200]
    [event] = loggedErrors
    assert event["log_failure"].getErrorMessage() == "broken director"
    assert "broken director" in event["log_failure"].getTraceback()
    assert event["reason"].startswith("director ")
    loggedErrors.clear()
    [first, second] = world.records
    assert (type(first.error), first.error.stage, first.error.side) == (HookFailed, Stage.DIRECT, Side.INTERNAL)
    assert (first.error.sent, second.error) == (Sent.NOTHING, None)


@pytest.mark.parametrize("wrong", ["http://origin.test", 404, Response, True])
def test_returnsNonsense(makeWorld: Callable[..., World], loggedErrors: list[Any], wrong: Any) -> None:
    """B3.1: and so is what it returns, if it is neither None nor a response."""
    world = makeWorld(director=lambda given: wrong)
    assert got(world).status == 500
    assert world.network.dialed == []
    loggedErrors.clear()


def test_noTarget(makeWorld: Callable[..., World], loggedErrors: list[Any]) -> None:
    """B3.1: a director that decides nothing is told what it should have done."""
    world = makeWorld(director=lambda given: None)
    assert got(world).status == 500
    assert "setTarget" in loggedErrors[0]["reason"]
    loggedErrors.clear()


def test_interimAnswer(makeWorld: Callable[..., World], loggedErrors: list[Any]) -> None:
    """B3.1: an interim response is no answer: the client would wait for another one."""
    world = makeWorld(director=lambda given: Response(103))
    assert got(world).status == 500
    loggedErrors.clear()


def test_cancelled(makeWorld: Callable[..., World]) -> None:
    """B3.1: a director that waits is cancelled when the client leaves."""
    heard: list[Any] = []

    async def director(given: Any) -> None:
        try:
            await Deferred()
        except CancelledError as error:
            heard.append(error)
            raise

    world = makeWorld(director=director)
    client = world.client()
    client.send(GET)
    client.sendReset()
    assert len(heard) == 1
    assert world.network.dialed == []
    [record] = world.records
    assert (record.status, type(record.error), record.error.stage) == (499, ClientLeft, Stage.DIRECT)


@pytest.mark.parametrize("outcome", ["forwards", "answers", "raises", "waits on"])
def test_goesOn(makeWorld: Callable[..., World], outcome: str) -> None:
    """B7.1: what a director does with its cancellation is nobody's business any more."""
    later: Deferred[None] = Deferred()

    async def director(given: Any) -> Any:
        try:
            await Deferred()
        except CancelledError:
            if outcome == "waits on":
                await later
            if outcome == "raises":
                raise ValueError("cleaning up failed") from None
        plainly(given)
        return Response(200) if outcome == "answers" else None

    world = makeWorld(director=director)
    client = world.client()
    client.send(GET)
    client.sendReset()
    later.callback(None)
    world.network.run()
    assert world.network.dialed == []
    assert [record.status for record in world.records] == [499]


def test_once(makeWorld: Callable[..., World]) -> None:
    """B3.2: the director runs once, whatever happens to the connection; a replay starts from the head it made."""
    calls: list[bytes] = []

    def director(given: Any) -> None:
        plainly(given)
        calls.append(given.inbound.target)
        given.outbound.headers.set("X-Call", str(len(calls)))

    world = makeWorld(director=director)
    client = world.client()
    client.send(GET)
    client.take()
    world.origin.answer = None
    client.send(GET.replace(b"/p", b"/q"))
    world.upstream(0).sendReset()
    assert len(world.network.dialed) == 2
    assert calls == [b"/p", b"/q"]
    assert [(each.connection, each[b"x-call"]) for each in world.origin.requests] == [
        (0, [b"1"]),
        (0, [b"2"]),
        (1, [b"2"]),
    ]


# -- modifyResponse (B3.3)


def test_modifies(makeWorld: Callable[..., World]) -> None:
    """B3.3: a modifier sees the response without hop-by-hop fields, and may change all of it."""
    seen: list[Any] = []

    def modify(response: Any) -> None:
        seen.append((response.status, response.headers.items()))
        response.status = 201
        response.reason = b"Made"
        response.headers.set("A", "2")
        response.headers.set("Content-Length", "999")
        response.headers.set("Keep-Alive", "x")
        response.body = b"mine"

    world = makeWorld(modifyResponse=modify)
    world.origin.answer = lambda request: (
        b"HTTP/1.1 200 OK\r\nA: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Length: 5\r\n\r\nhello"
    )
    response = got(world)
    assert seen == [(200, [(b"A", b"1")])]
    assert (response.status, response.reason, response.body) == (201, b"Made", b"mine")
    assert [name for name, _ in response.fields] == [b"a", b"date", b"content-length"]


@pytest.mark.parametrize("kind", ["object", "coroutine", "deferred"])
def test_modifierKinds(makeWorld: Callable[..., World], kind: str) -> None:
    """B3.3: it may be an object, and may wait."""

    def mark(response: Any) -> None:
        response.headers.set("X-Marked", "yes")

    @implementer(IResponseModifier)
    class Modifier:
        def modifyResponse(self, response: Any) -> None:
            mark(response)

    async def wait(response: Any) -> None:
        from twisted.internet.task import deferLater

        await deferLater(world.clock, 1.0)
        mark(response)

    assert verifyObject(IResponseModifier, Modifier())
    modifier: Any = {"object": Modifier(), "coroutine": wait, "deferred": lambda r: succeed(mark(r))}[kind]
    world = makeWorld(modifyResponse=modifier)
    client = world.client()
    client.send(GET)
    world.network.advance(1.1)
    assert [response[b"x-marked"] for response in readResponses(client.take())] == [[b"yes"]]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("error", "status"), [(ValueError("broken"), 500), (Refused(451), 451)])
def test_modifierRaises(
    makeWorld: Callable[..., World], loggedErrors: list[Any], streamed: bool, error: Exception, status: int
) -> None:
    """B3.3: raising gives the upstream's body up; the error handler answers, and the client's connection lives on."""

    def modify(response: Any) -> None:
        raise error

    world = makeWorld(modifyResponse=modify)
    world.origin.answer = lambda request: (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + (b"x" * (5 if streamed else 10))
    )
    client = world.client()
    client.send(GET)
    assert [response.status for response in readResponses(client.take())] == [status]
    assert client.ended == ""
    assert world.upstream().ended == ("reset" if streamed else "")
    loggedErrors.clear()


def test_modifierDoesNotHitOthers(makeWorld: Callable[..., World], loggedErrors: list[Any]) -> None:
    """B7.4: a modifier that fails late does not hit the request that its connection carries by then."""
    waiting: list[Deferred[None]] = []

    def modify(response: Any) -> Any:
        waiting.append(Deferred())
        return waiting[-1]

    world = makeWorld(modifyResponse=modify)
    first, second = world.client(), world.client()
    first.send(GET)
    world.origin.answer = None
    second.send(GET)
    assert [each.connection for each in world.origin.requests] == [0, 0]
    waiting[0].errback(ValueError("broken"))
    world.network.run()
    assert first.take().startswith(b"HTTP/1.1 500 ")
    assert world.upstream().ended == ""
    world.upstream().send(b"HTTP/1.1 204 No Content\r\n\r\n")
    waiting[1].callback(None)
    world.network.run()
    assert second.take().startswith(b"HTTP/1.1 204 ")
    loggedErrors.clear()


def test_modifierNotCalled(makeWorld: Callable[..., World]) -> None:
    """B3.3: it never runs when the upstream was not reached, nor for what the proxy or a director answers."""
    calls: list[Any] = []
    world = makeWorld(modifyResponse=calls.append)
    world.network.refusing = True
    assert got(world).status == 502
    world.proxy.useDirector(answer)
    assert got(world).status == 404
    assert calls == []


@pytest.mark.parametrize(("name", "value"), [("status", 103), ("status", 101), ("body", "text"), ("reason", b"a\r\nb")])
def test_modifierNonsense(makeWorld: Callable[..., World], loggedErrors: list[Any], name: str, value: Any) -> None:
    """B3.3: a response that a modifier has made impossible is not sent."""
    world = makeWorld(modifyResponse=lambda response: setattr(response, name, value))
    client = world.client()
    client.send(GET)
    assert client.take().startswith(b"HTTP/1.1 500 ")
    assert client.ended == ""
    loggedErrors.clear()


def test_modifierReplacesStream(makeWorld: Callable[..., World]) -> None:
    """B3.3: an upstream whose streaming body was replaced is not left hanging."""
    world = makeWorld(modifyResponse=lambda response: setattr(response, "body", b"short"))
    world.origin.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    client = world.client()
    client.send(GET)
    assert [response.body for response in readResponses(client.take())] == [b"short"]
    assert world.upstream().ended == "reset"


def test_clientLeavesModifier(makeWorld: Callable[..., World]) -> None:
    """B7.1: a modifier that waits is cancelled when the client leaves, and the upstream's response given up."""
    cancelled: list[Any] = []
    world = makeWorld(modifyResponse=lambda response: Deferred(cancelled.append))
    world.origin.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    client = world.client()
    client.send(GET)
    client.sendReset()
    assert len(cancelled) == 1
    assert world.upstream().ended == "reset"
    assert [record.status for record in world.records] == [499]


def test_upstreamDiesUnderModifier(makeWorld: Callable[..., World]) -> None:
    """B5.5: an upstream that breaks off while a modifier waits: the response is cut when it is sent."""
    later: Deferred[None] = Deferred()
    world = makeWorld(modifyResponse=lambda response: later)
    world.origin.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    client = world.client()
    client.send(GET)
    world.upstream().sendReset()
    later.callback(None)
    world.network.run()
    [response] = readResponses(client.take(), ended=True)
    assert (response.status, response.complete) == (200, False)
    assert client.ended != ""
    assert world.records[0].error.side is Side.UPSTREAM
