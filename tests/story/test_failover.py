"""
Story: one of two targets fails, in one way after the other.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from tests.net.peers import until
from tests.support.peers import Client, OriginConnection
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.policy.breaker import BreakerSettings
from twistproxy.policy.retry import Retries

CLIENTS = 8
BRISK = BreakerSettings(pause=0.1, longest=0.2)


def freeTarget() -> str:
    """@return: the address of a port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def several(serve: Any, *targets: str, **options: Any) -> Any:
    """@return: a proxy for several targets, as an operator gets it."""
    director = TargetDirector(targets, balanced=True)
    return serve(director, **{**director.policies, **options})


def named(name: bytes) -> Any:
    """@return: what an origin of that name answers."""
    return lambda request: (200, [], name + b" " + request.body)


async def asking(client: Client, method: str, found: list[tuple[int, bytes]], goOn: list[bool]) -> None:
    """Ask one thing after the other until told to stop."""
    while goOn:
        await client.ask(method, "/", (), None if method == "GET" else b"body")
        response = await client.response()
        found.append((response.status, response.body))


@pytest_twisted.ensureDeferred
async def test_nobodyListens(serve: Any, webServer: Any) -> None:
    """A target that is down costs no client an error, whatever the method: nothing of a request was sent there."""
    good = webServer(named(b"good"))
    served = several(serve, freeTarget(), good.target)
    client = served.client()
    for method in ("GET", "POST", "POST", "GET", "DELETE", "PATCH") * 4:
        await client.ask(method, "/", (), b"body")
        assert (await client.response()).status == 200
    records = await served.settled(24)
    # the breaker knows after five
    assert [bool(record.retried) for record in records].count(True) == 5
    assert good.requests == 24
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_restartUnderLoad(serve: Any, webServer: Any) -> None:
    """Each of two targets goes and comes back under load: nobody who may be served twice sees it, and both are used again."""
    origins = [webServer(named(b"one")), webServer(named(b"two"))]
    served = several(serve, *(origin.target for origin in origins), breaker=BRISK)
    goOn = [True]
    found: list[tuple[int, bytes]] = []
    running = DeferredList(
        [Deferred.fromCoroutine(asking(served.client(), "GET", found, goOn)) for _ in range(CLIENTS)],
        consumeErrors=True,
    )
    for number in (0, 1):
        mark = len(found)
        await until(lambda mark=mark: len(found) > mark + 200, "200 responses")
        await origins[number].close()
        mark = len(found)
        await until(lambda mark=mark: len(found) > mark + 200, "200 responses of the other")
        origins[number] = webServer(named(b"back"), origins[number].number)
        await until(lambda: found[-1][1] == b"back ", "the return")
    goOn.clear()
    for success, result in await running:
        assert success, result
    assert {status for status, _ in found} == {200}
    assert {body for _, body in found} == {b"one ", b"two ", b"back "}
    await served.calm()


async def reset(connection: OriginConnection) -> None:
    """Take a request, and reset the connection."""
    await connection.request()
    connection.reset()


async def closed(connection: OriginConnection) -> None:
    """Take a request, and close the connection."""
    await connection.request()
    connection.close()


async def half(connection: OriginConnection) -> None:
    """Take a request, and close the connection in the middle of a head."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.close()


async def nonsense(connection: OriginConnection) -> None:
    """Take a request, and answer in another language."""
    await connection.request()
    await connection.send(b"220 mail.test ESMTP\r\n")


@pytest.mark.parametrize("fault", [reset, closed, half, nonsense])
@pytest.mark.parametrize(("method", "expected"), [("GET", 200), ("PUT", 200), ("POST", 502)])
@pytest_twisted.ensureDeferred
async def test_failsBehindTheHead(
    serve: Any, origin: Any, webServer: Any, fault: Any, method: str, expected: int
) -> None:
    """What an upstream has seen goes to the other one only if that does no harm: a POST is sent once."""
    other = webServer(named(b"other"))
    served = several(serve, origin.target, other.target)
    client = served.client()
    await client.ask(method, "/", (), b"body")
    await fault(await origin.accept())
    assert (await client.response()).status == expected
    assert (other.requests, origin.pending()) == (int(expected == 200), [])
    [record] = await served.settled()
    assert (len(record.retried), record.tries) == ((1, 2) if expected == 200 else (0, 1))
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_busy(serve: Any, webServer: Any) -> None:
    """A target that answers 503 is asked first in its turn, and nobody sees it who may be served by the other."""
    busy = webServer(lambda request: (503, [], b"busy"))
    good = webServer(named(b"good"))
    served = several(serve, busy.target, good.target, retries=Retries(statuses=(503,)))
    client = served.client()
    for _ in range(8):
        assert (await client.get()).status == 200
    assert (busy.requests, good.requests) == (4, 8)
    await client.ask("POST", "/", (), b"body")
    assert ((await client.response()).status, busy.requests, good.requests) == (503, 5, 8)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_neverAnswers(serve: Any, origin: Any, webServer: Any) -> None:
    """B9: a limit of time that runs out behind the request is a 504 and no other try: somebody is at work on it."""
    good = webServer(named(b"good"))
    served = several(serve, origin.target, good.target, timeouts=Timeouts(responseHead=0.2))
    client = served.client()
    assert [(await client.get()).status for _ in range(4)] == [504, 200, 504, 200]
    assert good.requests == 2


@pytest_twisted.ensureDeferred
async def test_streamsPast(serve: Any, webServer: Any) -> None:
    """B4.1: an upload that has begun to stream goes past a target that is down, with every byte."""
    good = webServer(lambda request: (200, [], b"%d" % len(request.body)))
    served = several(serve, freeTarget(), good.target, breaker=False)
    for _ in range(4):
        client = served.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: story.test\r\nContent-Length: 300000\r\n\r\n" + bytes(100_000))
        await client.send(bytes(200_000))
        assert (await client.response()).body == b"300000"
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_allDown(serve: Any, webServer: Any) -> None:
    """B7.2: with everything down clients get 502 or 503 at once, and are served as soon as one target is back."""
    first, second = webServer(named(b"one")), webServer(named(b"two"))
    served = several(serve, first.target, second.target)
    client = served.client()
    assert (await client.get()).status == 200
    await first.close()
    await second.close()
    statuses = [(await client.get()).status for _ in range(30)]
    assert set(statuses) <= {502, 503}
    webServer(named(b"back"), second.number)
    assert (await client.get()).body in (b"back ", b"502 Bad Gateway\n")
    for _ in range(5):
        assert (await client.get()).body == b"back "


@pytest_twisted.ensureDeferred
async def test_clientLeaves(serve: Any, makeOrigin: Any) -> None:
    """B7.1: a client that leaves in its second try ends that, and there is no third."""
    first, second = makeOrigin(), makeOrigin()
    served = several(serve, first.target, second.target, retries=3)
    client = served.client()
    await client.ask()
    await reset(await first.accept())
    connection = await second.accept()
    await connection.request()
    client.close()
    assert await connection.ending() == "reset"
    [record] = await served.settled()
    assert (record.status, record.tries, len(record.retried)) == (499, 2, 1)
    assert (first.pending(), second.pending()) == ([], [])
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_hostile(serve: Any, webServer: Any) -> None:
    """Targets that take every connection and drop it get little more than what clients ask."""
    origins = [webServer(lambda request: 1 // 0) for _ in range(2)]
    served = several(serve, *(origin.target for origin in origins), retries=Retries(most=9, pause=0.0), breaker=False)
    client = served.client()
    for _ in range(100):
        assert (await client.get()).status == 502
    assert sum(origin.requests for origin in origins) <= 100 * 1.2 + 10


@pytest_twisted.ensureDeferred
async def test_command(command: Any, webServer: Any) -> None:
    """B10.1: the command does so by itself, for several targets."""
    good = webServer(named(b"good"))
    process = await command("--target", freeTarget(), "--target", good.target).started()
    client = Client.connect(process.number)
    assert isinstance(client, Client)
    with client:
        for _ in range(8):
            await client.ask("POST", "/", (), b"body")
            assert (await client.response()).body == b"good body"
