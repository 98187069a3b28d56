"""
Story: connections are kept and used again, and what is asked in order is answered in order.
"""

from __future__ import annotations

from typing import Any

import pytest_twisted

from tests.support.peers import Message


def echo(request: Message) -> Any:
    """Answer with what was asked."""
    return 200, [], request.method + b" " + request.target + b" " + request.body


@pytest_twisted.ensureDeferred
async def test_thousandRequestsOverFewConnections(serve: Any, webServer: Any) -> None:
    """B8.1, B8.2: 1,000 requests of ten clients need ten connections on either side."""
    origin = webServer(echo)
    served = serve(origin.target)
    clients = [served.client() for _ in range(10)]
    for number in range(100):
        for client in clients:
            await client.ask("GET", f"/{number}")
        for client in clients:
            response = await client.response()
            assert (response.status, response.body) == (200, b"GET /%d " % number)
    assert len(served.site.connections) == 10
    assert origin.connections <= 10
    assert origin.requests == 1000
    assert [record.error for record in await served.settled(1000)] == [None] * 1000


@pytest_twisted.ensureDeferred
async def test_oneClientNeedsOneConnection(serve: Any, webServer: Any) -> None:
    """B8.2: requests one after the other, bodies among them, go over one upstream connection."""
    origin = webServer(echo)
    served = serve(origin.target)
    client = served.client()
    for number in range(100):
        body = b"x" * (number * 997 % 5000) if number % 3 else None
        await client.ask("POST" if body is not None else "GET", f"/{number}", (), body)
        response = await client.response()
        assert response.body == b"%b /%d %b" % (b"GET" if body is None else b"POST", number, body or b"")
    assert origin.connections == 1


@pytest_twisted.ensureDeferred
async def test_pipelinedRequestsInOrder(serve: Any, webServer: Any) -> None:
    """B8.1: requests that come in one go, with and without bodies, are answered in order; the last one closes."""
    origin = webServer(echo)
    served = serve(origin.target)
    client = served.client()
    requests = []
    for number in range(200):
        if number % 4 == 1:
            requests.append(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" % number)
        elif number % 4 == 2:
            chunks = b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
            requests.append(
                b"PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % number + chunks
            )
        else:
            requests.append(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    requests.append(
        b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    await client.send(b"".join(requests))
    bodies = []
    for _ in range(201):
        bodies.append((await client.response()).body)
    methods = (b"GET /%d ", b"POST /%d body", b"PUT /%d body", b"GET /%d ")
    assert bodies == [methods[number % 4] % number for number in range(200)] + [b"GET /last "]
    assert await client.ending() == "closed"
    assert origin.requests == 201


@pytest_twisted.ensureDeferred
async def test_pipelinedBehindASlowResponse(serve: Any, origin: Any) -> None:
    """B8.1: a request behind one that is still being answered goes upstream only when that one is settled."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("GET", "/first")
    await client.ask("GET", "/second")
    upstream = await origin.accept()
    assert (await upstream.request()).target == b"/first"
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
    assert (await client.head()).startswith(b"HTTP/1.1 200")
    assert await client.exactly(2) == b"ha"
    assert upstream.buffer == b""
    assert origin.pending() == []
    await upstream.send(b"lf")
    assert await client.exactly(2) == b"lf"
    assert (await upstream.request()).target == b"/second"
    await upstream.answer(b"2")
    assert (await client.response()).body == b"2"
