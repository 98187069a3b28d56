"""
The heads that go on: what of a request reaches the upstream, byte for byte, and what of a response the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.flow import request
from tests.support.world import World
from twistproxy.core.draft import answerOf, checkResponse, dateLine, draftOutbound, draftResponse
from twistproxy.core.request import ProxyRequest
from twistproxy.core.settings import ProxySettings
from twistproxy.directors import TargetDirector
from twistproxy.events import ExchangeRecord
from twistproxy.headers import Headers
from twistproxy.message import Response, UpstreamResponse
from twistproxy.rules.forwarded import networks

BARE = ProxySettings(via=None)
TRUSTING = ProxySettings(via=None, trustedProxies=networks(["192.0.2.0/24"]))
FORWARDING = [
    b"Forwarded: for=10.0.0.1",
    b"X-Forwarded-For: 10.0.0.1",
    b"X-Forwarded-Host: evil.test",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Port: 443",
    b"X-Forwarded-Prefix: /evil",
    b"X-Real-IP: 10.0.0.1",
]


def plainly(given: ProxyRequest) -> None:
    """A director that adds nothing."""
    given.setTarget("http://origin.test")


def sent(world: World, head: bytes, body: bytes = b"") -> list[bytes]:
    """@return: the lines of the head that the upstream gets for a request, without the request's id."""
    world.network.watching.clear()
    client = world.client()
    client.send(head + b"\r\n\r\n" + body)
    if not world.network.dialed:
        return []
    lines = world.upstream().take().partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line for line in lines if not line.startswith(b"X-Request-ID: ")]


def get(*lines: bytes, version: bytes = b"1.1", method: bytes = b"GET") -> bytes:
    """@return: a request head."""
    return b"\r\n".join((method + b" /p HTTP/" + version, b"Host: front.test", *lines))


@pytest.fixture
def passed(makeWorld: Callable[..., World]) -> Callable[..., list[bytes]]:
    """What of a request's own header lines gets through a proxy that adds nothing."""

    def ask(*lines: bytes, settings: ProxySettings = BARE, **options: Any) -> list[bytes]:
        got = sent(makeWorld(director=plainly, settings=settings), get(*lines, **options))
        assert got[:2] == [options.get("method", b"GET") + b" /p HTTP/1.1", b"Host: origin.test"]
        return got[2:]

    return ask


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection:",
        b"Proxy-Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Authorization: Basic Zm9v",
        b"TE: gzip",
        b"Trailer: Expires",
        b"Upgrade: websocket",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
        b"tE:deflate",
        b"UPGRADE: h2c",
    ],
)
def test_hopByHop(passed: Callable[..., list[bytes]], line: bytes) -> None:
    """B2.2: what belongs to one hop ends there."""
    assert passed(b"A: 1", line, b"B: 2") == [b"A: 1", b"B: 2"]


def test_bodyFraming(makeWorld: Callable[..., World]) -> None:
    """B2.2: a request's framing is written anew, once."""
    got = sent(makeWorld(director=plainly, settings=BARE), get(b"content-length:  3", method=b"PUT"), b"abc")
    assert got[2:] == [b"Content-Length: 3"]


def test_named(passed: Callable[..., list[bytes]]) -> None:
    """B2.2: every field that Connection names goes, in any case, from all occurrences; empty members do not count."""
    got = passed(
        b"connection: x-one, ,X-TWO,",
        b"X-One: 1",
        b"Keep: me",
        b"x-two: 2",
        b"X-Three: 3",
        b"X-One: again",
        b"Connection:X-Three",
    )
    assert got == [b"Keep: me"]


@pytest.mark.parametrize("named", [b"Host", b"Content-Length", b"host, content-length"])
def test_namedFraming(makeWorld: Callable[..., World], named: bytes) -> None:
    """B2.2: a client cannot name away where a message goes or how long it is."""
    got = sent(
        makeWorld(director=plainly, settings=BARE),
        get(b"Connection: " + named, b"Content-Length: 3", method=b"POST"),
        b"abc",
    )
    assert got[1:] == [b"Host: origin.test", b"Content-Length: 3"]


def test_namedByDirector(makeWorld: Callable[..., World]) -> None:
    """B2.2: nor what a director sets: it runs behind the removal."""

    def director(given: ProxyRequest) -> None:
        plainly(given)
        given.outbound.headers.set("X-Auth-User", "alice")

    got = sent(makeWorld(director=director, settings=BARE), get(b"Connection: X-Auth-User", b"X-Auth-User: mallory"))
    assert got[2:] == [b"X-Auth-User: alice"]


@pytest.mark.parametrize("line", [b"TE: trailers", b"TE: gzip;q=0.5, Trailers", b"te:trailers,deflate"])
def test_trailers(passed: Callable[..., list[bytes]], line: bytes) -> None:
    """B2.3: of TE, trailers is kept and nothing else."""
    assert passed(b"A: 1", line) == [b"A: 1", b"Connection: TE", b"TE: trailers"]


def test_upgrade(passed: Callable[..., list[bytes]]) -> None:
    """B2.3: an upgrade is asked for again."""
    got = passed(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
    assert got == [b"Sec-WebSocket-Key: x", b"Connection: Upgrade", b"Upgrade: websocket"]


def test_upgradeAndTrailers(passed: Callable[..., list[bytes]]) -> None:
    """B2.3: both at once; TE is read although Connection names it, as RFC 9110 10.1.4 wants."""
    got = passed(b"Connection: Upgrade, TE", b"Upgrade: any", b"TE: trailers")
    assert got == [b"Connection: Upgrade", b"Upgrade: any", b"TE: trailers"]


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        ([b"Upgrade: any"], b"1.1"),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], b"1.1"),
        ([b"Connection: Upgrade", b"Upgrade: any"], b"1.0"),
        ([b"Connection: Upgrade"], b"1.1"),
    ],
)
def test_noUpgrade(passed: Callable[..., list[bytes]], lines: list[bytes], version: bytes) -> None:
    """B6.2: h2c, HTTP/1.0, and an Upgrade that Connection does not name ask for none."""
    assert passed(*lines, version=version) == []


# -- what a client claims


@pytest.mark.parametrize("line", FORWARDING)
def test_claims(passed: Callable[..., list[bytes]], line: bytes) -> None:
    """B2.4: what a client that nobody trusts says about itself does not get through."""
    assert passed(b"A: 1", line, b"B: 2") == [b"A: 1", b"B: 2"]


@pytest.mark.parametrize("line", FORWARDING)
def test_trustedClaims(passed: Callable[..., list[bytes]], line: bytes) -> None:
    """B2.4: what a trusted peer says stays, in its place."""
    assert passed(b"A: 1", line, b"B: 2", settings=TRUSTING) == [b"A: 1", line, b"B: 2"]


@pytest.mark.parametrize("settings", [BARE, TRUSTING], ids=["untrusted", "trusted"])
@pytest.mark.parametrize(
    "line", [b"X_Forwarded_For: 10.0.0.1", b"X-Forwarded_For: 10.0.0.1", b"x_real_ip: 10.0.0.1", b"X_Request_ID: evil"]
)
def test_underscores(passed: Callable[..., list[bytes]], line: bytes, settings: ProxySettings) -> None:
    """B2.4: spelt with underscores these names have no honest use, and a trusted peer does not vouch for them either."""
    assert passed(b"A: 1", line, b"B: 2", settings=settings) == [b"A: 1", b"B: 2"]


def test_hiddenClaim(passed: Callable[..., list[bytes]]) -> None:
    """B2.4: a Connection field that came through a trusted peer does not take away what that peer says."""
    got = passed(b"Connection: X-Forwarded-For", b"X-Forwarded-For: 198.51.100.9", settings=TRUSTING)
    assert got == [b"X-Forwarded-For: 198.51.100.9"]


@pytest.mark.parametrize(
    ("settings", "claim", "client"),
    [
        (BARE, b"198.51.100.9", "192.0.2.1"),
        (TRUSTING, b"198.51.100.9", "198.51.100.9"),
        (TRUSTING, b"10.0.0.1, 198.51.100.9, 192.0.2.7", "198.51.100.9"),
    ],
)
def test_client(makeWorld: Callable[..., World], settings: ProxySettings, claim: bytes, client: str) -> None:
    """B2.5: who the client is is found out once, from right to left through trusted hops."""
    world = makeWorld(settings=settings)
    world.client().send(get(b"X-Forwarded-For: " + claim) + b"\r\n\r\n")
    assert (world.records[0].client, world.records[0].peer) == (client, "192.0.2.1")


def test_default(makeWorld: Callable[..., World]) -> None:
    """B2.4: the default director says who asked."""
    got = sent(makeWorld(settings=BARE), get(b"X-Forwarded-For: 10.0.0.1"))
    assert got[2:] == [
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Host: front.test",
        b"X-Forwarded-Proto: http",
    ]


# -- the request's id, Via, loops


def requestIDs(world: World, *lines: bytes) -> list[bytes]:
    """@return: the values of X-Request-ID that the upstream gets."""
    world.client().send(get(*lines) + b"\r\n\r\n")
    return world.origin.requests[-1][b"x-request-id"]


def test_requestIDs(makeWorld: Callable[..., World]) -> None:
    """B2.8: every request has an id of its own, and a stranger's is not taken for it."""
    world = makeWorld()
    [first], [second] = requestIDs(world), requestIDs(world, b"X-Request-ID: evil")
    assert re.fullmatch(rb"[0-9a-f]{20,}", first) is not None
    assert re.fullmatch(rb"[0-9a-f]{20,}", second) is not None
    assert first != second
    assert [record.requestID for record in world.records] == [first, second]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [([b"X-Request-ID: abc-1"], b"abc-1"), ([b"X-Request-ID:", b"X-Request-ID: second"], b"second")],
)
def test_trustedRequestID(makeWorld: Callable[..., World], lines: list[bytes], kept: bytes) -> None:
    """B2.8: a trusted peer's is kept, if it is one."""
    assert requestIDs(makeWorld(settings=TRUSTING), *lines) == [kept]


@pytest.mark.parametrize("value", [b"", b" two words", b" \xe4", b" " + b"x" * 257])
def test_badRequestID(makeWorld: Callable[..., World], value: bytes) -> None:
    """B2.8: an empty one, or one that would not stay one word in the log, is none."""
    [minted] = requestIDs(makeWorld(settings=TRUSTING), b"X-Request-ID:" + value)
    assert re.fullmatch(rb"[0-9a-f]{20,}", minted) is not None


@pytest.mark.parametrize(("version", "via"), [(b"1.1", b"Via: 1.1 edge"), (b"1.0", b"Via: 1.0 edge")])
def test_via(passed: Callable[..., list[bytes]], version: bytes, via: bytes) -> None:
    """B2.8: Via is added behind what is there, with the version in which the request came."""
    got = passed(b"Via: 1.0 fred", b"A: 1", settings=ProxySettings(via="edge"), version=version)
    assert got == [b"Via: 1.0 fred", b"A: 1", via]


def loops(makeWorld: Callable[..., World], settings: ProxySettings, *lines: bytes) -> int:
    """@return: the status of a request that has been around."""
    world = makeWorld(settings=settings)
    world.client().send(get(*lines) + b"\r\n\r\n")
    assert len(world.origin.requests) == (1 if world.records[0].status == 200 else 0)
    return int(world.records[0].status)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"Via: 1.1 edge, 1.1 EDGE"], 200),
        ([b"Via: 1.1 edge, 1.1 EDGE, HTTP/1.1 edge"], 508),
        ([b"Via: 1.1 edge, 1.1 other", b"Via: 1.0 edge (comment)", b"via: 2 edge"], 508),
        ([b"Via: 1.1 other", b"Via: 1.1 edge2, 1.1 anedge, 1.1 x, 1.1 edge.test"], 200),
        ([b"CDN-Loop: edge, edge, edge"], 200),
    ],
)
def test_loops(makeWorld: Callable[..., World], lines: list[bytes], status: int) -> None:
    """B2.10: a request that has passed this name too often is refused with 508; nothing is forwarded."""
    assert loops(makeWorld, ProxySettings(via="edge", maxVia=2), *lines) == status


def test_cdnLoop(makeWorld: Callable[..., World], passed: Callable[..., list[bytes]]) -> None:
    """B2.10: RFC 8586's field counts when it is enabled, and says our name too."""
    settings = ProxySettings(via=None, cdnLoop="edge", maxVia=1)
    assert passed(b"CDN-Loop: other", settings=settings) == [b"CDN-Loop: other", b"CDN-Loop: edge"]
    assert loops(makeWorld, settings, b"CDN-Loop: Edge, other", b"CDN-Loop: edge") == 508


def test_noVia(makeWorld: Callable[..., World]) -> None:
    """B2.10: without a name nothing can be a loop."""
    assert loops(makeWorld, BARE, b"Via: 1.1 twistproxy" + b", 1.1 twistproxy" * 20) == 200


# -- all else


def test_asReceived(passed: Callable[..., list[bytes]]) -> None:
    """B2.8: order, letter case, padding and repetition of all else stay; nothing is invented."""
    lines = [b"b: 2", b"A:1", b"b:  3  ", b"X_Other: \xe4\xf6", b"ACCEPT: */*", b"a: 4", b"Cookie: x=1", b"Cookie: y=2"]
    assert passed(*lines) == lines


@pytest.mark.parametrize(
    ("method", "lines", "body", "framing"),
    [
        (b"GET", [], b"", []),
        (b"GET", [b"Content-Length: 0"], b"", []),
        (b"DELETE", [], b"", []),
        (b"POST", [], b"", [b"Content-Length: 0"]),
        (b"PUT", [b"Content-Length: 0"], b"", [b"Content-Length: 0"]),
        (b"PATCH", [], b"", [b"Content-Length: 0"]),
        (b"POST", [b"Content-Length: 2"], b"ab", [b"Content-Length: 2"]),
        (b"GET", [b"Content-Length: 2"], b"ab", [b"Content-Length: 2"]),
        (b"POST", [b"Content-Length: 2"], b"a", [b"Content-Length: 2"]),
        (b"POST", [b"Transfer-Encoding: chunked"], b"2\r\nab\r\n0\r\n\r\n", [b"Transfer-Encoding: chunked"]),
        (b"POST", [b"Transfer-Encoding: CHUNKED"], b"2\r\nab\r\n", [b"Transfer-Encoding: chunked"]),
        (b"GET", [b"Transfer-Encoding: chunked"], b"0\r\n\r\n", [b"Transfer-Encoding: chunked"]),
    ],
)
def test_framing(
    makeWorld: Callable[..., World], method: bytes, lines: list[bytes], body: bytes, framing: list[bytes]
) -> None:
    """B2.9: no body stays no body, a known length stays known, chunked stays chunked."""
    got = sent(makeWorld(director=plainly, settings=BARE), get(*lines, method=method), body)
    assert got[2:] == framing


@pytest.mark.parametrize(("raw", "query"), [(False, b"?a=1"), (True, b"?a=1;b&c=%zz")])
def test_query(makeWorld: Callable[..., World], raw: bool, query: bytes) -> None:
    """B2.7: parameters on which parsers disagree are dropped, unless the query is to stay raw."""
    world = makeWorld(settings=ProxySettings(rawQuery=raw))
    world.client().send(b"GET /p?a=1" + (b";b&c=%zz" if raw else b"&b;&c=%zz") + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert world.origin.requests[0].target == b"/p" + query


@pytest.mark.parametrize(
    ("head", "settings", "status"),
    [
        (b"CONNECT origin.test:443 HTTP/1.1", ProxySettings(), 405),
        (b"TRACE / HTTP/1.1", ProxySettings(), 405),
        (b"TRACE / HTTP/1.1", ProxySettings(allowTrace=True), 200),
        (b"OPTIONS * HTTP/1.1", ProxySettings(), 200),
        (b"GET /a%2Fb HTTP/1.1", ProxySettings(), 200),
        (b"GET /a%2Fb HTTP/1.1", ProxySettings(strictPaths=True), 400),
        (b"GET /a/../b HTTP/1.1", ProxySettings(strictPaths=True), 400),
        (b"GET /a%00 HTTP/1.1", ProxySettings(strictPaths=True), 400),
        (b"GET /a?b=../c HTTP/1.1", ProxySettings(strictPaths=True), 200),
        (b"POST / HTTP/1.1\r\nContent-Length: 3", ProxySettings(maxRequestBody=2), 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", ProxySettings(maxRequestBody=3), 200),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0", ProxySettings(maxRequestBody=2), 413),
    ],
)
def test_refused(makeWorld: Callable[..., World], head: bytes, settings: ProxySettings, status: int) -> None:
    """B1.8, B1.10, B1.11: what must not be forwarded is not, and what may is."""
    world = makeWorld(settings=settings)
    client = world.client()
    line, separator, rest = head.partition(b"\r\n")
    client.send(line + b"\r\nHost: front.test" + separator + rest + b"\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 %d " % status)
    assert world.records[0].status == status
    assert len(world.origin.whole) == (1 if status == 200 else 0)
    if status == 200:
        assert world.origin.whole[0][1] == line.split(b" ")[1]


def test_tooLargeWhileStreaming(makeWorld: Callable[..., World]) -> None:
    """B1.10: a body that grows over the limit: 413, and the upstream's request is cut, not completed."""
    world = makeWorld(settings=ProxySettings(maxRequestBody=2))
    client = world.client()
    client.send(get(b"Transfer-Encoding: chunked", method=b"POST") + b"\r\n\r\n1\r\na\r\n")
    assert client.take() == b""
    client.send(b"2\r\nbc\r\n")
    assert client.take().startswith(b"HTTP/1.1 413 ")
    assert (world.upstream().ended, world.origin.whole) == ("reset", [])


def test_copy(makeWorld: Callable[..., World]) -> None:
    """B2.1: whatever a director does to the outbound request, the inbound one stays as it came."""
    seen: list[Any] = []

    def director(given: ProxyRequest) -> None:
        TargetDirector("http://origin.test/base").direct(given)
        outbound, inbound = given.outbound, given.inbound
        outbound.method = b"PUT"
        outbound.headers.set("A", "changed")
        outbound.headers.add("B", "new")
        seen.extend([inbound.method, inbound.target, inbound.host, inbound.headers.items(), list(inbound.lines)])

    world = makeWorld(director=director)
    world.client().send(get(b"A: 1") + b"\r\n\r\n")
    assert world.origin.whole == [(b"PUT", b"/base/p", b"")]
    assert seen == [
        b"GET",
        b"/p",
        b"front.test",
        [(b"Host", b"front.test"), (b"A", b"1")],
        [b"Host: front.test", b"A: 1"],
    ]


@pytest.mark.parametrize("how", ["headers", "copy", "of"])
def test_careless(makeWorld: Callable[..., World], how: str) -> None:
    """B2.2: a director that puts the client's own fields in place of the draft's does not smuggle framing."""

    def director(given: ProxyRequest) -> None:
        plainly(given)
        mine = given.inbound.headers
        given.outbound.headers = (
            mine if how == "headers" else mine.copy() if how == "copy" else Headers.of(mine.items())
        )

    head = get(b"Transfer-Encoding: chunked", b"Connection: close", b"TE: x", b"A: 1", method=b"POST")
    got = sent(makeWorld(director=director, settings=BARE), head, b"2\r\nab\r\n0\r\n\r\n")
    assert got == [b"POST /p HTTP/1.1", b"Host: front.test", b"A: 1", b"Transfer-Encoding: chunked"]


@pytest.mark.parametrize(
    "line", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: x", b"Upgrade: h2c"]
)
def test_directorsFraming(makeWorld: Callable[..., World], line: bytes) -> None:
    """B2.9: framing and hop-by-hop fields are not a director's business."""

    def director(given: ProxyRequest) -> None:
        plainly(given)
        name, _, value = line.partition(b": ")
        given.outbound.headers.set(name, value)

    assert sent(makeWorld(director=director, settings=BARE), get())[2:] == []


def test_directorsHost(makeWorld: Callable[..., World]) -> None:
    """B2.6: a director may set Host as a field or as the attribute that it is."""

    def director(given: ProxyRequest) -> None:
        plainly(given)
        given.outbound.headers.set("Host", "other.test")

    assert sent(makeWorld(director=director, settings=BARE), get())[1:] == [b"Host: other.test"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", b"GET /x HTTP/1.1\r\nX:"),
        ("method", "GET"),
        ("target", b"/a b"),
        ("target", b"/a\r\nX: 1"),
        ("target", "/a"),
        ("host", b"a\r\nX: 1"),
        ("host", b"a/b"),
        ("upgrade", b"websocket\r\nX: 1"),
        ("upgrade", b""),
        ("trailers", [b"X: 1\r\n\r\nGET /smuggled HTTP/1.1"]),
        ("trailers", [b"X"]),
        ("upstream", None),
        ("upstream", "http://origin.test"),
        ("body", "text"),
        ("body", 5),
    ],
)
def test_nonsense(makeWorld: Callable[..., World], loggedErrors: list[Any], name: str, value: Any) -> None:
    """B7.2: a director that makes a request which cannot be sent is a bug: 500, nothing is sent, and the log says why."""

    def director(given: ProxyRequest) -> None:
        plainly(given)
        setattr(given.outbound, name, value)

    world = makeWorld(director=director)
    client = world.client()
    client.send(get() + b"\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 500 ")
    assert (client.ended, world.network.dialed) == ("", [])
    [event] = loggedErrors
    assert "director" in event["reason"]
    loggedErrors.clear()


# -- responses


def test_date() -> None:
    """B5.1: the date is written as RFC 9110 5.6.7 wants it."""
    assert dateLine(784111777.9) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT"
    assert dateLine(951782400.0) == b"Date: Tue, 29 Feb 2000 00:00:00 GMT"


def test_draftResponse() -> None:
    """B5.1: what user code has no business setting is taken out of its response, and a missing Date is added, once."""
    response = Response(200, {"Content-Length": "7", "connection": "x", "Transfer-Encoding": "chunked", "A": "1"})
    for _ in range(2):
        draftResponse(response, 784111777.0)
    assert response.headers.items() == [(b"A", b"1"), (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")]


def test_answerOf() -> None:
    """A hook may return one and the same response every time: it is not changed by being sent."""
    mine = Response(404, {"A": "1"}, b"no", b"Nope")
    mine.trailers = [b"T: 1"]
    answer = answerOf(mine)
    draftResponse(answer, 784111777.0)
    assert mine.headers.items() == [(b"A", b"1")]
    assert (answer.status, answer.body, answer.reason, answer.trailers) == (404, b"no", b"Nope", [b"T: 1"])


@pytest.mark.parametrize("status", [199, 100, 101, 600, "200", None])
def test_status(status: Any) -> None:
    """A response's status is a final one."""
    response = Response(200)
    response.status = status
    with pytest.raises(ValueError, match="status"):
        checkResponse(response)


def test_reason() -> None:
    """Its reason phrase does not break the head."""
    response = Response(200)
    response.reason = b"OK\r\nSet-Cookie: a=b"
    with pytest.raises(ValueError, match="reason"):
        checkResponse(response)


@pytest.mark.parametrize("line", [b"X: 1\r\n\r\nHTTP/1.1 200 OK", b"X", b": 1", b"X : 1"])
def test_hooksTrailers(line: bytes) -> None:
    """Nor do its trailers end the message early: what stood behind them would be the next response."""
    response = Response(200)
    response.trailers = [b"T: 1", line]
    with pytest.raises(ValueError):
        checkResponse(response)


@pytest.mark.parametrize("upgrade", [b"", b"foo\r\nX: 1"])
def test_hooksProtocol(upgrade: bytes) -> None:
    """B6.2: a 101 says what it switches to, and nothing else."""
    response = UpstreamResponse(101, b"Switching Protocols", 1, [], None)
    response.upgrade = b"foo"
    checkResponse(response, 101)
    response.upgrade = upgrade
    with pytest.raises(ValueError, match="protocol"):
        checkResponse(response, 101)


@pytest.mark.parametrize("body", ["text", None, 5, bytearray(b"x")])
def test_body(body: Any) -> None:
    """And its body is one."""
    response = Response(200)
    response.body = body
    with pytest.raises(TypeError, match="body"):
        checkResponse(response)


def test_record() -> None:
    """The record learns the request's id and the client's address from the draft."""
    inbound = request(get(b"X-Forwarded-For: 198.51.100.9", b"X-Request-ID: abc"))
    record = ExchangeRecord(lambda: 0.0, inbound)
    draftOutbound(inbound, TRUSTING, record)
    assert (record.client, record.requestID) == ("198.51.100.9", b"abc")
