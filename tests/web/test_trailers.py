"""
Trailers of requests through a stock site: kept where the body streams, lost where it is collected, never in the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted

from tests.net.peers import turn
from twistproxy import Response

Mount = Callable[..., Any]

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["stock", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    """Which request class the site has."""
    chosen: bool = request.param
    return chosen


@pytest.mark.parametrize("pieces", [1, 1000], ids=["whole", "by byte"])
@pytest_twisted.ensureDeferred
async def test_trailers(mount: Mount, streaming: bool, pieces: int) -> None:
    """B5.7: the trailers of a streamed body go upstream, forbidden ones excepted; under a stock site they are lost, as
    documented, and the request passes all the same.  Either way the next request begins where it begins."""
    mounted = mount(streaming=streaming)
    client = mounted.client()
    rest = b"3\r\nabc\r\n0\r\nX-Sum: 9\r\nContent-Length: 5\r\nX-Other:  a b \r\n\r\n"
    await client.send(HEAD)
    if pieces == 1:
        await client.send(rest)
    else:
        for at in range(len(rest)):
            await client.send(rest[at : at + 1])
            await turn()
    connection = await mounted.origin.acceptRequest()
    asked = await connection.request()
    expected = [(b"x-sum", b"9"), (b"x-other", b"a b")] if streaming else []
    assert (asked.body, asked.trailers, asked[b"content-length"]) == (b"abc", expected, None if streaming else b"3")
    await connection.answer(b"ok")
    assert (await client.response()).body == b"ok"
    await client.ask("GET", "/next")
    asked = await connection.request()
    assert (asked.target, asked.trailers, asked[b"x-sum"]) == (b"/next", [], None)
    await connection.answer(b"next")
    assert (await client.response()).body == b"next"


@pytest.mark.parametrize("line", [b"no colon", b"a b: c", b" folded", b"X: a\x00b", b"X: a\nY: b", b"X: \x07"])
@pytest_twisted.ensureDeferred
async def test_malformedTrailer(mount: Mount, line: bytes) -> None:
    """B1: a trailer that others may read differently does not go upstream, and its request is not completed there."""
    mounted = mount(streaming=True)
    client = mounted.client()
    await client.send(HEAD + b"3\r\nabc\r\n")
    connection = await mounted.origin.acceptRequest()
    await connection.upTo(b"3\r\nabc\r\n")
    await client.send(b"0\r\n" + line + b"\r\n\r\n")
    assert (await client.response()).status == 400
    assert await connection.ending() == "reset"  # nobody takes that for the end of the body
    assert [record.status for record in await mounted.settled()] == [400]


@pytest_twisted.ensureDeferred
async def test_trailersBehindAnEarlyResponse(mount: Mount) -> None:
    """Trailers of a body that nobody wanted, good or bad, do not disturb the next request."""
    mounted = mount(streaming=True)
    mounted.resource.proxy.useDirector(lambda request: Response(403, body=b"no"))
    client = mounted.client()
    for line in (b"X-Sum: 9", b"no colon"):
        await client.send(HEAD)
        assert (await client.response()).status == 403
        await client.send(b"3\r\nabc\r\n0\r\n" + line + b"\r\n\r\n")
    await client.ask("GET", "/next")
    assert (await client.response()).status == 403
    assert [record.target for record in await mounted.settled(3)] == [b"/x", b"/x", b"/next"]
