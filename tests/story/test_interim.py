"""
Story: what stands between a request and its final response, and what may come before or behind where it is expected.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from tests.net.peers import turn
from tests.support.peers import statusOf
from twistproxy.limits import Limits


@pytest_twisted.ensureDeferred
async def test_earlyRefusalWhileUploading(serve: Any, origin: Any) -> None:
    """B4.4: a 413 reaches the client while it is still sending; the upstream closes behind it, the response is not lost."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("POST", "/", ("Content-Length: 1000000",))
    await client.send(b"beginning")
    upstream = await origin.accept()
    await upstream.head()
    await upstream.answer(b"too large", "413 Content Too Large", ("Connection: close",))
    upstream.close()  # with unread bytes, so that it resets
    response = await client.response()
    assert (response.status, response.body) == (413, b"too large")
    [record] = await served.settled()
    assert (record.status, record.error) == (413, None)


@pytest_twisted.ensureDeferred
async def test_earlyRefusalOfAnUploadInFullFlow(serve: Any, origin: Any) -> None:
    """B4.4: also when the client never stops sending: it gets the response, and then its connection closes."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("POST", "/", ("Content-Length: 1000000000",))
    upstream = await origin.accept()
    await upstream.head()
    sent = 0
    answered = False
    try:
        while sent < 50_000_000:
            try:
                sent += client.socket.send(bytes(65536))
            except BlockingIOError:
                pass
            if sent > 1_000_000 and not answered:
                answered = True
                await upstream.answer(b"enough", "413 Content Too Large", ("Connection: close",))
                upstream.close()
            await turn()
            if piece := client._receive(65536):
                client.buffer += piece[0]
                if not piece[0]:
                    break
    except ConnectionError:
        pass  # our sending meets the closed connection, the response was read before or waits in the buffer
    assert answered
    assert statusOf(await client.head()) == 413
    assert await client.exactly(6) == b"enough"
    [record] = await served.settled()
    assert (record.status, record.error) == (413, None)


@pytest_twisted.ensureDeferred
async def test_restOfAShortUploadIsDropped(serve: Any, origin: Any) -> None:
    """B4.4: a rest below the limit is read and dropped, and the connection serves the next request."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("POST", "/first", ("Content-Length: 50000",))
    await client.send(bytes(10000))
    upstream = await origin.accept()
    await upstream.head()
    await upstream.answer(b"no", "403 Forbidden", ("Connection: close",))
    assert (await client.response()).status == 403
    await client.send(bytes(40000))
    await client.ask("GET", "/second")
    again = await origin.accept()
    assert (await again.request()).target == b"/second"
    await again.answer(b"yes")
    assert (await client.response()).body == b"yes"


@pytest_twisted.ensureDeferred
async def test_restOfALongUploadClosesTheConnection(serve: Any, origin: Any) -> None:
    """B4.4: beyond the limit nothing more is read; the response stands, and the connection closes."""
    served = serve(origin.target, limits=Limits(discarded=10000))
    client = served.client()
    await client.ask("POST", "/first", ("Content-Length: 500000",))
    upstream = await origin.accept()
    await upstream.head()
    await upstream.answer(b"no", "403 Forbidden")
    assert (await client.response()).status == 403
    await client.send(bytes(20000))
    assert await client.ending() in ("closed", "reset")
    assert [record.status for record in served.records] == [403]


@pytest_twisted.ensureDeferred
async def test_expectContinue(serve: Any, origin: Any) -> None:
    """B4.3: the expectation is forwarded, and it is the upstream's 100 that the client gets."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("PUT", "/", ("Expect: 100-continue", "Content-Length: 4"))
    upstream = await origin.accept()
    head = await upstream.head()
    assert b"\r\nexpect: 100-continue\r\n" in head.lower()
    await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"body")
    assert await upstream.exactly(4) == b"body"
    await upstream.answer(b"done")
    assert (await client.response()).body == b"done"
    await client.ask("GET", "/next")
    assert (await upstream.request()).target == b"/next"
    await upstream.answer()
    assert (await client.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_expectationRefused(serve: Any, origin: Any) -> None:
    """B4.3: a final status instead of the 100 is forwarded at once; nobody can say whether the body follows, so both close."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("PUT", "/", ("Expect: 100-continue", "Content-Length: 4"))
    upstream = await origin.accept()
    await upstream.head()
    await upstream.answer(b"", "417 Expectation Failed")
    response = await client.response()
    assert (response.status, response[b"connection"]) == (417, b"close")
    assert await client.ending() == "closed"
    assert await upstream.ending() == "reset"


@pytest_twisted.ensureDeferred
async def test_expectButTheClientDoesNotWait(serve: Any, origin: Any) -> None:
    """B4.3: a client may send its body without waiting, and an upstream may answer without a 100."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("PUT", "/", ("Expect: 100-continue",), b"body")
    upstream = await origin.accept()
    assert (await upstream.request()).body == b"body"
    await upstream.answer(b"done")
    response = await client.response()
    assert (response.status, response.interims, response.body) == (200, [], b"done")


@pytest_twisted.ensureDeferred
async def test_earlyHints(serve: Any, origin: Any) -> None:
    """B5.6: interim responses are relayed as they come, in order, with their fields."""
    served = serve(origin.target)
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    await upstream.request()
    for number in range(3):
        await upstream.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n" % number
        )
        # before anything else is sent
        assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n" % number
    await upstream.answer(b"final")
    assert (await client.response()).body == b"final"


@pytest_twisted.ensureDeferred
async def test_noInterimForAnOldClient(serve: Any, origin: Any) -> None:
    """B5.6: an HTTP/1.0 client gets none (RFC 9110 15.2)."""
    served = serve(origin.target)
    client = served.client()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await upstream.answer(b"final")
    assert statusOf(await client.head()) == 200


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "unannounced"])
@pytest_twisted.ensureDeferred
async def test_trailersBothWays(serve: Any, origin: Any, announced: bool) -> None:
    """B4.6, B5.7: trailers are forwarded in both directions, announced or not; what must not stand there is dropped."""
    served = serve(origin.target)
    client = served.client()
    announcement = ("Trailer: X-Sum",) if announced else ()
    await client.ask("POST", "/", ("Transfer-Encoding: chunked", "TE: trailers", *announcement))
    upstream = await origin.accept()
    await client.send(b"4\r\nbody\r\n0\r\nX-Sum: 42\r\nContent-Length: 9\r\n\r\n")
    request = await upstream.request()
    assert (request.body, request.trailers) == (b"body", [(b"x-sum", b"42")])
    assert request[b"te"] == b"trailers"
    field = "Trailer: X-Sum\r\n" if announced else ""
    await upstream.send(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{field}\r\n2\r\nok\r\n".encode())
    await client.head()
    assert await client.chunk() == b"ok"
    await upstream.send(b"0\r\nX-Sum: 43\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert await client.upTo(b"\r\n\r\n") == b"0\r\nX-Sum: 43\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_trailersOfASmallResponse(serve: Any, origin: Any) -> None:
    """B5.7: trailers that come together with the head are forwarded as well."""
    served = serve(origin.target)
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    await upstream.request()
    await upstream.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 43\r\n\r\n"
    )
    response = await client.response()
    assert (response.body, response.trailers) == (b"ok", [(b"x-sum", b"43")])


@pytest_twisted.ensureDeferred
async def test_upstreamBreaksOffInTheBody(serve: Any, origin: Any) -> None:
    """B5.5: a response that broke off cannot be taken for complete, and the record blames the upstream."""
    served = serve(origin.target)
    for number, framing in enumerate((b"Content-Length: 10", b"Transfer-Encoding: chunked")):
        client = served.client()
        await client.ask()
        upstream = await origin.accept()
        await upstream.request()
        await upstream.send(
            b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing + (b"3\r\nabc\r\n" if number else b"abc")
        )
        await client.head()
        await (client.upTo(b"abc") if number else client.exactly(3))
        upstream.close()
        rest = b""
        try:
            while await client.fill():
                rest += client.buffer
                client.buffer = b""
        except ConnectionError:
            pass
        assert b"0\r\n\r\n" not in rest
    assert [record.error.side.value for record in await served.settled(2)] == ["upstream", "upstream"]
