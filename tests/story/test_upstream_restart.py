"""
Story: the upstream is restarted under load.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from tests.net.peers import until
from tests.support.peers import Client, Message, fullListener
from twistproxy.deadlines import Timeouts

CLIENTS = 8


async def asking(client: Client, statuses: list[int], goOn: list[bool]) -> None:
    """Ask one thing after the other until told to stop."""
    while goOn:
        response = await client.get()
        statuses.append(response.status)
        assert response.body == (
            b"served" if response.status == 200 else b"%d Bad Gateway\n" % response.status
        )


@pytest_twisted.ensureDeferred
async def test_restartUnderLoad(serve: Any, webServer: Any) -> None:
    """B7.2, B8.3: while it is away clients get 502 and keep their connections; it is used again as soon as it is back."""

    def answer(request: Message) -> Any:
        return 200, [], b"served"

    origin = webServer(answer)
    served = serve(origin.target)
    goOn = [True]
    each: list[list[int]] = [[] for _ in range(CLIENTS)]
    running = DeferredList(
        [Deferred.fromCoroutine(asking(served.client(), mine, goOn)) for mine in each], consumeErrors=True
    )
    for _ in range(3):
        count = sum(map(len, each))
        await until(lambda count=count: sum(map(len, each)) > count + 200, "200 responses")
        await origin.close()
        await until(lambda: all(mine[-1] == 502 for mine in each), "the outage to be noticed")
        origin = webServer(answer, origin.number)
        marks = [len(mine) for mine in each]
        await until(
            lambda marks=marks: all(len(mine) > mark + 5 for mine, mark in zip(each, marks, strict=True)),
            "more responses",
        )
        # what was asked after it came back has been served; the one that was under way may not
        assert [mine[mark + 1 :].count(502) for mine, mark in zip(each, marks, strict=True)] == [0] * CLIENTS
    goOn.clear()
    for success, result in await running:
        assert success, result
    assert {status for mine in each for status in mine} == {200, 502}
    assert len(served.site.connections) == CLIENTS
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_keptConnectionsDieTogether(serve: Any, webServer: Any) -> None:
    """B8.3: an upstream that was restarted between two requests costs nobody an error, if the request may be repeated."""
    number = 0

    def answer(request: Message) -> Any:
        return 200, [], b"%d" % number

    first = webServer(answer)
    served = serve(first.target)
    clients = [served.client() for _ in range(CLIENTS)]
    for client in clients:
        await client.ask()
    for client in clients:
        assert (await client.response()).body == b"0"
    for connection in list(first.open):
        # while the proxy does not look: it will send into a connection that is gone
        connection.transport.loseConnection()
    for client in clients:
        await client.ask()
    number = 1
    for client in clients:
        response = await client.response()
        assert (response.status, response.body) == (200, b"1")


@pytest_twisted.ensureDeferred
async def test_diesUnderAReusedConnection(serve: Any, origin: Any) -> None:
    """B8.3: a kept connection that dies under a request is replaced once, for a GET; a POST is never sent twice."""
    served = serve(origin.target)
    client = served.client()
    for method, expected in (("GET", 200), ("POST", 502)):
        await client.ask("GET", "/first")
        upstream = origin.accepted[-1] if origin.accepted else await origin.accept()
        await upstream.request()
        await upstream.answer()
        assert (await client.response()).status == 200
        await client.ask(method, "/second", (), b"body" if method == "POST" else None)
        assert (await upstream.request()).target == b"/second"
        upstream.close()
        if method == "GET":
            again = await origin.accept()
            assert (await again.request()).target == b"/second"
            await again.answer()
        assert (await client.response()).status == expected
    assert origin.pending() == []
    records = await served.settled(4)
    assert [record.tries for record in records] == [1, 2, 1, 1]


@pytest_twisted.ensureDeferred
async def test_nobodyListens(serve: Any) -> None:
    """B7.2: a port on which nobody listens is a 502, and the client's connection is kept."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        served = serve(f"http://127.0.0.1:{unused.getsockname()[1]}")
        client = served.client()
        for _ in range(3):
            assert (await client.get()).status == 502
    assert [record.error.stage.value for record in await served.settled(3)] == ["connect"] * 3


@pytest_twisted.ensureDeferred
async def test_upstreamThatNeverAnswers(serve: Any, origin: Any) -> None:
    """B7.2, B9: no response head in time is a 504, and its connection is reset."""
    served = serve(origin.target, timeouts=Timeouts(responseHead=0.2))
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    await upstream.request()
    assert (await client.response()).status == 504
    assert await upstream.ending() == "reset"
    [record] = await served.settled()
    assert record.error.timeout == "responseHead"


@pytest_twisted.ensureDeferred
async def test_upstreamThatNeverAccepts(serve: Any) -> None:
    """B7.2, B9: a connection that is not completed in time is a 504."""
    listening, fillers = fullListener()
    try:
        served = serve(f"http://127.0.0.1:{listening.getsockname()[1]}", timeouts=Timeouts(connect=0.3))
        client = served.client()
        assert (await client.get()).status == 504
        [record] = await served.settled()
        assert (record.error.timeout, record.tries) == ("connect", 0)
    finally:
        for sock in (listening, *fillers):
            sock.close()
