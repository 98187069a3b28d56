"""
Responses on their way to the client (B5), as far as the flow decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.world import World, readResponses
from twistproxy.errors import Side, Stage

GET = b"GET /p HTTP/1.1\r\nHost: front.test\r\n\r\n"


def reply(
    makeWorld: Callable[..., World], head: bytes, body: bytes = b"", method: bytes = b"GET", version: bytes = b"1.1"
) -> Any:
    """@return: the world, the client, and what the client gets for a response of the origin."""
    world = makeWorld()
    world.origin.answer = None
    client = world.client()
    client.send(method + b" /p HTTP/" + version + b"\r\nHost: front.test\r\n\r\n")
    world.upstream().send(head + b"\r\n\r\n" + body)
    return world, client, client.take()


def test_relayed(makeWorld: Callable[..., World]) -> None:
    """B5.1: status, reason and fields are relayed in order and case, duplicates too; hop-by-hop ones are not."""
    head = b"\r\n".join(
        (
            b"HTTP/1.1 299 Quite Odd",
            b"set-cookie: a=1",
            b"Content-Length: 2",
            b"Keep-Alive: timeout=5",
            b"X-Hop: 1",
            b"Connection: close, x-hop",
            b"Set-Cookie: b=2",
            b"X-Latin: \xe4",
            b"X-Forwarded-For: the upstream's own",
            b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
        )
    )
    _, client, got = reply(makeWorld, head, b"ab")
    assert got.split(b"\r\n") == [
        b"HTTP/1.1 299 Quite Odd",
        b"set-cookie: a=1",
        b"Set-Cookie: b=2",
        b"X-Latin: \xe4",
        b"X-Forwarded-For: the upstream's own",
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
        b"Content-Length: 2",
        b"",
        b"ab",
    ]
    assert client.ended == ""


def test_nothingInvented(makeWorld: Callable[..., World]) -> None:
    """B5.1: a missing Date is added, and no Server or Content-Type."""
    _, _, got = reply(makeWorld, b"HTTP/1.1 200 OK\r\nContent-Length: 0")
    [response] = readResponses(got)
    assert [name for name, _ in response.fields] == [b"date", b"content-length"]


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7", [b"7"]),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", []),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7", [b"7"]),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 7", []),
    ],
)
def test_noBody(makeWorld: Callable[..., World], method: bytes, head: bytes, length: list[bytes]) -> None:
    """B5.3: HEAD, 204 and 304 have no body whatever the head says; Content-Length is kept as information where it is any."""
    world, client, got = reply(makeWorld, head, method=method)
    [response] = readResponses(got, [method])
    assert (response[b"content-length"], response[b"transfer-encoding"], response.body) == (length, [], b"")
    assert (world.records[0].responseBytes, client.ended) == (0, "")
    client.send(GET)
    assert len(world.origin.requests) == 2


def test_headAtOnce(makeWorld: Callable[..., World]) -> None:
    """B5.1, B5.4: the head goes out before any body byte has come, and each piece as it comes."""
    world, client, got = reply(makeWorld, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")
    assert got.endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    world.upstream().send(b"2\r\nab\r\n")
    assert client.take() == b"2\r\nab\r\n"
    world.upstream().send(b"0\r\n\r\n")
    assert client.take() == b"0\r\n\r\n"


@pytest.mark.parametrize("end", ["sendEOF", "sendReset"])
@pytest.mark.parametrize("head", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_breaksOff(makeWorld: Callable[..., World], head: bytes, end: str) -> None:
    """B5.5: an upstream that dies in mid-body: the response is cut, never ended as if complete, and it is the upstream's fault."""
    body = b"2\r\nab\r\n" if b"chunked" in head else b"ab"
    world, client, got = reply(makeWorld, b"HTTP/1.1 200 OK\r\n" + head, body)
    getattr(world.upstream(), end)()
    [response] = readResponses(got + client.take(), ended=True)
    assert (response.body, response.complete) == (b"ab", False)
    assert client.ended != ""
    [record] = world.records
    assert (record.status, record.error.side, record.error.stage) == (200, Side.UPSTREAM, Stage.BODY)


def test_breaksOffUntilClose(makeWorld: Callable[..., World]) -> None:
    """B5.5: to an HTTP/1.0 client only a reset says that a body is not complete."""
    world, client, got = reply(
        makeWorld, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"2\r\nab\r\n", version=b"1.0"
    )
    assert got.endswith(b"\r\n\r\nab")
    world.upstream().sendReset()
    assert client.ended == "reset"


def test_untilClose(makeWorld: Callable[..., World]) -> None:
    """B5.2: a body that ends with its connection is relayed in chunks."""
    world, client, got = reply(makeWorld, b"HTTP/1.1 200 OK", b"ab")
    world.upstream().sendEOF()
    [response] = readResponses(got + client.take())
    assert (response[b"transfer-encoding"], response.body, response.complete) == ([b"chunked"], b"ab", True)
    assert (client.ended, world.records[0].error) == ("", None)


def test_interims(makeWorld: Callable[..., World]) -> None:
    """B5.6: interim responses are relayed in order, each once, with their fields and without hop-by-hop ones."""
    world, client, got = reply(makeWorld, b"HTTP/1.1 100 Continue")
    world.upstream().send(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nKeep-Alive: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    )
    got += client.take()
    assert [(each.status, each[b"link"], each[b"keep-alive"]) for each in readResponses(got)] == [
        (100, [], []),
        (103, [b"</a>"], []),
        (204, [], []),
    ]


def test_interimsToOldClients(makeWorld: Callable[..., World]) -> None:
    """B5.6: an HTTP/1.0 client gets none."""
    _, _, got = reply(makeWorld, b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content", version=b"1.0")
    assert got.startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(("count", "status"), [(16, 204), (17, 502)])
def test_manyInterims(makeWorld: Callable[..., World], count: int, status: int) -> None:
    """B5.6: at most 16 of them."""
    world, _, got = reply(makeWorld, b"HTTP/1.1 103 Early Hints\r\n\r\n" * count + b"HTTP/1.1 204 No Content")
    assert [each.status for each in readResponses(got)] == [103] * 16 + [status]
    assert world.records[0].status == status


def test_trailers(makeWorld: Callable[..., World]) -> None:
    """B5.7: trailers are forwarded, announced or not; forbidden ones are not."""
    body = b"2\r\nab\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\n\r\n"
    _, _, got = reply(makeWorld, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", body)
    [response] = readResponses(got)
    assert (response.body, response.trailers) == (b"ab", [(b"grpc-status", b"0")])


def test_trailersToOldClients(makeWorld: Callable[..., World]) -> None:
    """B5.7: to a client that cannot take them they are dropped."""
    body = b"2\r\nab\r\n0\r\nGrpc-Status: 0\r\n\r\n"
    _, client, got = reply(makeWorld, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", body, version=b"1.0")
    assert got.endswith(b"\r\n\r\nab")
    assert client.ended == "closed"
