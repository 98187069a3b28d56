"""
Heads: what is forwarded, what a head means for its connection, and that remembering changes nothing.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from twistproxy.errors import MalformedMessage
from twistproxy.message import Peer, Request, UpstreamResponse
from twistproxy.wire import h1head
from twistproxy.wire.connection import BLANK
from twistproxy.wire.h1head import RequestParser, ResponseParser, headFault, parseRequest, parseResponse, parseTrailers

PEER = Peer("192.0.2.1", 4711)


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a") -> Request:
    """Parse a request head."""
    return parseRequest(b"\r\n".join((start, host, *lines)), PEER, 128)


def facts(request: Request) -> dict[str, Any]:
    """@return: all that a request head says."""
    names = (
        "method", "target", "minor", "host", "length", "upgrade", "keepAlive", "lines", "forward", "fields", "kinds",
        "body", "fault",
    )  # fmt: skip
    return {name: getattr(request, name) for name in names}


def told(head: bytes, parser: RequestParser) -> dict[str, Any] | str:
    """@return: all that a request head says, or why it is refused."""
    try:
        # as a server does with what it has read
        return facts(parser.again(PEER) if head + BLANK == parser.whole else parser.parse(head, PEER))
    except MalformedMessage as fault:
        return fault.reason


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> UpstreamResponse:
    """Parse a response head."""
    return parseResponse(b"\r\n".join((start, *lines)), method, None, 200)


# -- requests


@pytest.mark.parametrize(
    ("lines", "forwarded"),
    [
        ([b"b: 1", b"A:2", b"b:  3 "], [b"b: 1", b"A:2", b"b:  3 "]),  # order, case and padding as received
        ([b"Set-Cookie: \xff", b"X:"], [b"Set-Cookie: \xff", b"X:"]),
        ([b"Connection: X, y", b"x: 1", b"X: 2", b"Y: 3", b"Z: 4"], [b"Z: 4"]),
        ([b"x: 1", b"Connection: X", b"connection: ,, Y", b"Y: 3", b"Z: 4"], [b"Z: 4"]),
        ([b"Connection: Host, Content-Length", b"Content-Length: 0"], []),
        (
            [
                b"Keep-Alive: 5",
                b"Proxy-Connection: close",
                b"Proxy-Authorization: x",
                b"TE: gzip",
                b"Trailer: X",
                b"Upgrade: x",
            ],
            [],
        ),
        ([b"Transfer-Encoding: chunked", b"HTTP2-Settings: x", b"Proxy-Authenticate: x"], []),
        (
            [b"X-Forwarded-For: evil", b"x_forwarded_for: evil", b"Forwarded: evil", b"X-Real-IP: evil", b"X: y"],
            [b"X: y"],
        ),
        (
            [b"Authorization: me", b"Cookie: a", b"Via: 1.1 x", b"Expect: 100-continue"],
            [b"Authorization: me", b"Cookie: a", b"Via: 1.1 x", b"Expect: 100-continue"],
        ),
        ([b"Content-Length-X: 5", b"X-Host: a", b"Hosts: b"], [b"Content-Length-X: 5", b"X-Host: a", b"Hosts: b"]),
    ],
)
def test_forwardedLines(lines: list[bytes], forwarded: list[bytes]) -> None:
    """B2.2, B2.4, B2.8: which lines may go on; the second time the same, from memory."""
    for _ in range(2):
        parsed = request(*lines)
        assert (parsed.forward, parsed.lines) == (forwarded, [b"Host: a", *lines])


@pytest.mark.parametrize(
    ("start", "lines", "meaning"),
    [
        (b"GET / HTTP/1.1", [], {"length": 0, "keepAlive": True, "upgrade": None, "host": b"a", "minor": 1}),
        (b"GET / HTTP/1.0", [], {"keepAlive": False, "minor": 0}),
        (b"GET / HTTP/1.9", [], {"keepAlive": True, "minor": 1}),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive"], {"keepAlive": True}),
        (b"GET / HTTP/1.1", [b"Connection: x, close"], {"keepAlive": False}),
        (b"POST / HTTP/1.1", [b"Content-Length: 5"], {"length": 5}),
        (b"POST / HTTP/1.1", [b"Content-Length: 9223372036854775807"], {"length": 2**63 - 1}),
        (b"POST / HTTP/1.1", [b"Content-Length: 5", b"content-length: 5,  5"], {"length": 5}),
        (b"POST / HTTP/1.1", [b"Transfer-Encoding: CHUNKED"], {"length": None}),
        (b"GET / HTTP/1.1", [b"Connection: upgrade", b"Upgrade: a/1, b"], {"upgrade": b"a/1, b"}),
        (b"GET / HTTP/1.1", [b"Connection: upgrade", b"Upgrade: a", b"Upgrade: b"], {"upgrade": b"a, b"}),
        (b"GET / HTTP/1.1", [b"Connection: upgrade", b"Upgrade: h2c, a"], {"upgrade": b"a"}),
        (
            b"GET / HTTP/1.1",
            [b"Connection: upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"],
            {"upgrade": None},
        ),
        (b"GET / HTTP/1.1", [b"Upgrade: a"], {"upgrade": None}),
        (b"GET / HTTP/1.0", [b"Connection: upgrade", b"Upgrade: a"], {"upgrade": None}),
        (b"GET http://b:81/c HTTP/1.1", [], {"target": b"/c", "host": b"b:81"}),
        (b"CONNECT c:443 HTTP/1.1", [], {"method": b"CONNECT", "target": b"c:443"}),
    ],
)
def test_meaning(start: bytes, lines: list[bytes], meaning: dict[str, Any]) -> None:
    """B1, B6.2, B8.1: what a head means, first and second time."""
    for _ in range(2):
        parsed = request(*lines, start=start)
        assert {name: getattr(parsed, name) for name in meaning} == meaning


def test_sameBlockAgain() -> None:
    """DESIGN 5: a block of lines that comes again on a connection means the same, behind whatever request line."""
    parser = RequestParser(128)
    block = b"\r\nHost: a\r\nConnection: X, Upgrade\r\nX: y\r\nUpgrade: u\r\nExpect: 100-continue\r\nContent-Length: 5\r\nA: b"
    heads = [
        b"GET /1 HTTP/1.1", b"POST /2 HTTP/1.1", b"GET /3 HTTP/1.0", b"GET /4 HTTP/1.1", b"GET http://b/5 HTTP/1.1", b"GET /6 HTTP/1.1",
        b"CONNECT c:1 HTTP/1.1", b"GET /7 HTTP/1.1",
    ]  # fmt: skip
    for head in heads:
        assert told(head + block, parser) == facts(parseRequest(head + block, PEER, 128))


def test_anyOrder() -> None:
    """DESIGN 5: whatever has come on a connection before, a head means what it means on a connection of its own."""
    lines = b"\r\nHost: a\r\nContent-Length: 5", b"\r\nHost: b\r\nConnection: close, X\r\nX: y", b"\r\nX: no host"
    heads = [
        b"POST /1 HTTP/1.1" + lines[0], b"POST /1 HTTP/1.0" + lines[0], b"POST http://c/1 HTTP/1.1" + lines[0],
        b"GET /2 HTTP/1.1" + lines[1], b"GET http://d/2 HTTP/1.1" + lines[1],
        b"GET /3 HTTP/1.0" + lines[2], b"GET /3 HTTP/1.1" + lines[2],
    ]  # fmt: skip
    alone = [told(head, RequestParser(128)) for head in heads]
    again = 0
    for order in itertools.product(range(len(heads)), repeat=4):
        parser = RequestParser(128)
        assert [told(heads[number], parser) for number in order] == [alone[number] for number in order]
        again += bool(parser.whole)
    assert again


def test_largeBlocksAreNotKept() -> None:
    """DESIGN 6: how much a connection remembers is bounded, also where the same comes again and again."""
    parser = RequestParser(128)
    for _ in range(3):
        parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 5000, PEER)
    assert (parser._block, parser.whole, parser._last) == (b"", b"", None)


def test_nothingIsShared() -> None:
    """B2.1: requests with the same head are not the same request: a body, or a fault, of the one is not the other's."""
    parser = RequestParser(128)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5"
    first = parser.parse(head, PEER)
    first.body = b"hello"
    first.trailers = [b"X: y"]
    first.headers.set("A", "b")
    second = parser.parse(head, Peer("192.0.2.2"))
    assert (second.body, second.trailers, second.peer.host) == (b"", (), "192.0.2.2")
    assert second.lines == [b"Host: a", b"Content-Length: 5"]


@pytest.mark.parametrize(
    "bad",
    [
        b"X",
        b"X : y",
        b"X: \x00",
        b"Content-Length: x",
        b"Transfer-Encoding: x",
        b"Host: b",
        b"Host: b c",
        b"Connection: \x01",
    ],
)
def test_badIsNotRemembered(bad: bytes) -> None:
    """B1.3: what was refused once is refused again, and leaves nothing behind for a good head."""
    parser = RequestParser(128)
    for _ in range(2):
        with pytest.raises(MalformedMessage):
            parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\n" + bad, PEER)
        assert parser.parse(b"GET / HTTP/1.1\r\nHost: a", PEER).forward == []


def test_nameWithoutColon() -> None:
    """B1.3: a line that is the name of a field known before, and nothing else, is no field."""
    assert request(b"X-Known: y").forward == [b"X-Known: y"]
    for line in (b"X-Known", b"Host", b"Content-Length"):
        with pytest.raises(MalformedMessage):
            request(line)


def test_statusesAreBounded() -> None:
    """DESIGN 6: what is remembered is bounded, whoever sends what."""
    for number in range(1000):
        response(start=b"HTTP/1.1 200 %d" % number)
    assert len(h1head._statuses) <= 512


def test_fieldsAreCounted() -> None:
    """B1.2: the number of fields is bounded, those that are not forwarded included."""
    head = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *[b"TE: x"] * 4])
    assert len(parseRequest(head, PEER, 5).lines) == 5
    with pytest.raises(MalformedMessage) as caught:
        parseRequest(head, PEER, 4)
    assert caught.value.status == 431


# -- responses


@pytest.mark.parametrize(
    ("lines", "forwarded"),
    [
        ([b"b: 1", b"Set-Cookie: a", b"A:2", b"Set-Cookie: b"], [b"b: 1", b"Set-Cookie: a", b"A:2", b"Set-Cookie: b"]),
        (
            [b"Connection: X, close", b"X: 1", b"Y: 2", b"Keep-Alive: 5", b"Trailer: Z", b"Upgrade: u", b"TE: x"],
            [b"Y: 2"],
        ),
        ([b"Content-Length: 5", b"Proxy-Authenticate: x", b"Proxy-Connection: y", b"Date: now"], [b"Date: now"]),
        # a client claims these about itself; in a response they are the upstream's own
        (
            [b"X-Forwarded-For: a", b"Connection: X", b"X: y", b"X-Request-ID: b", b"x_real_ip: c"],
            [b"X-Forwarded-For: a", b"X-Request-ID: b", b"x_real_ip: c"],
        ),
        (
            [b"WWW-Authenticate: x", b"Server: y", b"X: \x80\xff"],
            [b"WWW-Authenticate: x", b"Server: y", b"X: \x80\xff"],
        ),
    ],
)
def test_forwardedResponseLines(lines: list[bytes], forwarded: list[bytes]) -> None:
    """B5.1: which lines of a response go on."""
    for _ in range(2):
        assert response(*lines).lines == forwarded


@pytest.mark.parametrize(
    ("start", "method", "lines", "meaning"),
    [
        (b"HTTP/1.1 200 OK", b"GET", [b"Content-Length: 5"], (5, False, True, None)),
        (b"HTTP/1.1 200 OK", b"GET", [b"Transfer-Encoding: chunked"], (None, True, True, None)),
        (b"HTTP/1.1 200 OK", b"GET", [], (None, False, False, None)),
        (b"HTTP/1.1 200 OK", b"GET", [b"Connection: keep-alive"], (None, False, False, None)),
        (b"HTTP/1.1 200 OK", b"GET", [b"Content-Length: 5", b"Connection: close"], (5, False, False, None)),
        (b"HTTP/1.0 200 OK", b"GET", [b"Content-Length: 5"], (5, False, False, None)),
        (b"HTTP/1.0 200 OK", b"GET", [b"Content-Length: 5", b"Connection: keep-alive"], (5, False, True, None)),
        (b"HTTP/1.1 200 OK", b"HEAD", [b"Content-Length: 5"], (0, False, True, 5)),
        (b"HTTP/1.1 200 OK", b"HEAD", [b"Transfer-Encoding: chunked"], (0, False, True, None)),
        (b"HTTP/1.1 200 OK", b"HEAD", [], (0, False, True, None)),
        (b"HTTP/1.1 304 Not Modified", b"GET", [b"Content-Length: 5"], (0, False, True, 5)),
        (b"HTTP/1.1 204 No Content", b"GET", [b"Content-Length: 5"], (0, False, True, None)),
        (b"HTTP/1.1 103 Early Hints", b"GET", [b"Content-Length: 5"], (0, False, True, None)),
        (b"HTTP/1.1 204 No Content", b"GET", [b"Connection: close"], (0, False, False, None)),
    ],
)
def test_responseMeaning(start: bytes, method: bytes, lines: list[bytes], meaning: tuple[Any, ...]) -> None:
    """B5.2, B5.3: length, chunks, whether the connection can be used again, and the length that is only information."""
    for _ in range(2):
        parsed = response(*lines, start=start, method=method)
        assert (parsed.length, parsed.chunked, parsed.keepAlive, parsed.contentLength) == meaning


def test_sameResponseAgain() -> None:
    """DESIGN 5: a head that comes again on a connection means the same for the same method, and another for another."""
    parser = ResponseParser(200)
    head = b"HTTP/1.1 200 OK\r\nConnection: X\r\nX: y\r\nContent-Length: 5\r\nA: b"
    for method in (b"GET", b"HEAD", b"GET", b"HEAD"):
        again, alone = parser.parse(head, method, None), parseResponse(head, method, None, 200)
        for name in (
            "status",
            "reason",
            "minor",
            "lines",
            "length",
            "chunked",
            "keepAlive",
            "contentLength",
            "dated",
            "upgrade",
            "body",
            "trailers",
        ):
            assert (name, getattr(again, name)) == (name, getattr(alone, name))
        # what is done to the one is not done to the next
        again.headers.set("A", "c")
        again.ownLines().append(b"Date: now")
    with pytest.raises(MalformedMessage):
        parser.parse(head + b"\r\nContent-Length: 6", b"GET", None)


def test_cookiesAreNotKept() -> None:
    """DESIGN 5: a head that sets a cookie is not kept for comparison."""
    for line in (b"Set-Cookie: a", b"set-cookie2: a"):
        parser = ResponseParser(200)
        for _ in range(2):
            assert parser.parse(b"HTTP/1.1 200 OK\r\nX: y\r\n" + line, b"GET", None).lines == [b"X: y", line]
        assert parser._last is None


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"HTTP/1.1 200 OK", (200, b"OK", 1)),
        (b"HTTP/1.0 404 Not Found", (404, b"Not Found", 0)),
        (b"HTTP/1.7 599 ", (599, b"", 1)),
        (b"HTTP/1.1 200", (200, b"", 1)),
        (b"HTTP/1.1 200  \t\xff", (200, b" \t\xff", 1)),
        (b"HTTP/1.1 100 Continue", (100, b"Continue", 1)),
    ],
)
def test_statusLine(line: bytes, parts: tuple[int, bytes, int]) -> None:
    """B5.1: status and reason as they came."""
    for _ in range(2):
        assert h1head.parseStatusLine(line) == parts


# -- incomplete heads, and trailers


@pytest.mark.parametrize(
    ("head", "start", "fault"),
    [
        (b"GET / HTTP/1.1\r\nHost", 0, False),
        (b"GET / HTTP/1.1\nHost", 0, True),
        (b"\n", 0, True),
        (b"\r\n", 0, False),
        (b"\r\n", 1, False),  # the CR was looked at before
        (b"GET /\r\n\n", 6, True),
        (b"GET /\nX: y\r\n", 6, False),  # looked at, and refused, before
    ],
)
def test_headFault(head: bytes, start: int, fault: bool) -> None:
    """B1.3: a bare LF is seen at once, wherever the pieces are cut."""
    assert (headFault(head, start) is not None) == fault


def test_trailers() -> None:
    """B4.6: which trailers may go on."""
    block = (
        b"A: b\r\nHost: c\r\nContent-Length: 5\r\nC:d\r\nTE: x\r\nX-Forwarded-For: y\r\nx_forwarded_for: z\r\nVia: v"
    )
    assert parseTrailers(block, 10) == [b"A: b", b"C:d"]
    assert parseTrailers(b"", 0) == []
    with pytest.raises(MalformedMessage):
        parseTrailers(block, 7)


@pytest.mark.parametrize(
    ("announced", "rebuilt"),
    [
        ([b"Trailer: X-Sum"], [b"Trailer: x-sum"]),
        ([b"Trailer: X-Sum, Content-Length,, Y"], [b"Trailer: x-sum, y"]),
        ([b"Trailer: Authorization"], []),
        ([b"Trailer: a b"], []),
        ([b"Trailer: A", b"trailer: B"], [b"Trailer: a", b"Trailer: b"]),
    ],
)
def test_trailersAnnounced(announced: list[bytes], rebuilt: list[bytes]) -> None:
    """B5.7, B4.6: Trailer is rebuilt from the fields that will be forwarded; without chunks there is no place for them."""
    chunked = b"Transfer-Encoding: chunked"
    assert request(chunked, *announced).forward == rebuilt
    assert request(*announced).forward == []
    assert response(chunked, *announced).lines == rebuilt
    assert response(b"Content-Length: 0", *announced).lines == []
