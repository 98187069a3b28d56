"""
The four hazards of answering on a stock channel, as its clients meet them, with either class of requests.

What makes each of them dangerous is in C{tests.web.test_streaming_request}; here is that neither site shows them:

    A    a whole response before the end of the body: the channel would take the body's end for nobody's
    B    the idle timer: it would end a connection that waits for us
    C    a write side that fills and drains: it would start reading that somebody else had stopped
    J    a response in the middle of a body: the rest of the body would be read as heads
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import turn, until
from twistproxy import Response

Mount = Callable[..., Any]

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["stock", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    """Which request class the site has."""
    chosen: bool = request.param
    return chosen


def framed(body: bytes, chunked: bool) -> tuple[bytes, bytes]:
    """
    @return: the framing field of a body, and the body as it is sent.
    """
    if chunked:
        return b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"Content-Length: %d" % len(body), body


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("split", [0, 1, 20, 1000], ids=["no body", "a byte", "a part", "all"])
@pytest_twisted.ensureDeferred
async def test_hazardsAandJ(mount: Mount, streaming: bool, chunked: bool, split: int) -> None:
    """Hazards A and J: a refusal that does not wait for the body: wherever the body is cut, its rest is a body, however
    much it looks like requests, and the next request is the next request."""
    mounted = mount(streaming=streaming)
    mounted.resource.proxy.useDirector(lambda request: Response(403, body=b"no"))
    client = mounted.client()
    for _ in range(2):
        field, body = framed(SMUGGLED * 3, chunked)
        await client.send(b"POST /x HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n" + body[:split])
        if streaming:
            assert (await client.response()).body == b"no"
        else:
            await turn()
        await client.send(body[split:])
        if not streaming:
            assert (await client.response()).body == b"no"
    await client.ask("GET", "/next")
    assert (await client.response()).body == b"no"
    assert [record.target for record in await mounted.settled(3)] == [b"/x", b"/x", b"/next"]
    assert mounted.channel.requests == []


@pytest_twisted.ensureDeferred
async def test_hazardA_upstreamAnswersEarly(mount: Mount, streaming: bool) -> None:
    """Hazard A: an upstream that answers without having read the body, and says that it closes."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    for _ in range(3):
        await client.ask("POST", "/x", ("Content-Length: 100000",))
        await client.send(b"x" * 50_000)
        if not streaming:
            await client.send(b"x" * 50_000)
        connection = await mounted.origin.acceptRequest()
        await connection.head()
        await connection.answer(b"enough", status="413 Too Much", fields=("Connection: close",))
        response = await client.response()
        assert (response.status, response.body) == (413, b"enough")
        if streaming:
            await client.send(b"x" * 50_000)
        connection.close()
    await client.ask("GET", "/next")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).target == b"/next"
    await connection.answer(b"next")
    assert (await client.response()).body == b"next"


@pytest_twisted.ensureDeferred
async def test_hazardB_waitingForTheUpstream(mount: Mount, streaming: bool) -> None:
    """Hazard B: an upstream that takes several times the site's idle time is waited for, before its response and in it;
    behind it the connection ends when nothing more is asked."""
    mounted = mount(streaming=streaming, timeout=0.1)
    client = mounted.client()
    await client.ask("POST", "/", (), b"abc")
    connection = await mounted.origin.acceptRequest()
    assert (await connection.request()).body == b"abc"
    await turn(0.3)
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await turn(0.3)
    await connection.send(b"def")
    assert await client.exactly(6) == b"abcdef"
    assert await client.ending() in ("closed", "reset")
    assert [record.error for record in await mounted.settled()] == [None]


@pytest_twisted.ensureDeferred
async def test_hazardB_heldBack(mount: Mount) -> None:
    """Hazard B: a client that is held back by its upstream for several times the site's idle time is not at fault."""
    mounted = mount(streaming=True, timeout=0.1)
    client = mounted.client()
    size = 16 << 20
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    connection = await mounted.origin.acceptRequest()
    await connection.head()
    sent = idle = 0
    while idle < 100:  # until nobody takes any more, and then for three times the idle time
        try:
            sent += client.socket.send(b"x" * min(65536, size - sent))
            idle = 0
        except BlockingIOError:
            idle += 1
            await turn(0.003)
    assert sent < size
    assert mounted.records == []
    rest = Deferred.fromCoroutine(client.send(b"x" * (size - sent)))
    assert await connection.exactly(size) == b"x" * size
    await rest
    await connection.answer(b"ok")
    assert (await client.response()).body == b"ok"


@pytest_twisted.ensureDeferred
async def test_hazardC_pipelined(mount: Mount, streaming: bool) -> None:
    """Hazard C: a client that sends one request behind the other and takes no response is not read on and on, and what
    it has sent is answered in order when it does."""
    mounted = mount(streaming=streaming)
    client = mounted.client(receiveBuffer=4096)
    count, size = 4, 3 << 20
    await client.send(b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % n for n in range(count)))
    connection = await mounted.origin.acceptRequest()
    for number in range(count):
        asked = await connection.request()
        assert (asked.target, asked.body) == (b"/%d" % number, b"abc")
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        pushed = idle = 0
        while pushed < size and idle < 50:
            try:
                pushed += connection.socket.send(b"y" * min(65536, size - pushed))
            except BlockingIOError:
                idle += 1
                await turn(0.001)
        channel = mounted.channel
        assert len(channel.requests) == 1
        await client.head()
        got = 0
        while got < size:
            if not client.buffer:
                await client.fill()
            taken = min(len(client.buffer), size - got)
            client.buffer = client.buffer[taken:]
            got += taken
            try:
                while pushed < size:
                    pushed += connection.socket.send(b"y" * min(65536, size - pushed))
            except BlockingIOError:
                pass
    assert [record.responseBytes for record in await mounted.settled(count)] == [size] * count


@pytest_twisted.ensureDeferred
async def test_hazardC_stoppedConsumer(mount: Mount, streaming: bool) -> None:
    """Hazard C: while a response that fills the write side is taken bit by bit, a collected or a streamed body is
    neither lost nor read twice, and the connection is good for more."""
    mounted = mount(streaming=streaming)
    client = mounted.client(receiveBuffer=4096)
    size = 4 << 20
    mounted.resource.proxy.useDirector(lambda request: Response(200, body=b"z" * size))
    for _ in range(2):
        await client.ask("POST", "/", (), b"x" * 100_000)
        response = await client.response()
        assert (response.status, len(response.body)) == (200, size)
    await until(lambda: mounted.channel.requests == [], "the end of the request")
