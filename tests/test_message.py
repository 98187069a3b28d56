"""
Requests and responses as values.
"""

from __future__ import annotations

from typing import Any

import pytest

from twistproxy.deadlines import Timeouts
from twistproxy.events import ExchangeRecord
from twistproxy.headers import Headers
from twistproxy.message import OutboundRequest, Peer, Request, Response, UpstreamResponse
from twistproxy.upstreams import Target


def requestFor(target: bytes, lines: list[bytes] | None = None) -> Request:
    """
    @return: a GET from somewhere.
    """
    return Request(Peer("192.0.2.1", 4711), b"GET", target, 1, lines or [], [], [])


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, b"OK"),
        (413, b"Content Too Large"),
        (414, b"URI Too Long"),
        (416, b"Range Not Satisfiable"),
        (422, b"Unprocessable Content"),
        (599, b""),
    ],
)
def test_reasons(status: int, reason: bytes) -> None:
    """Statuses are named as in RFC 9110 15, whatever the version of Python calls them."""
    assert Response(status).reason == reason


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/a?b=c", b"/a", b"b=c"),
        (b"/a?", b"/a", b""),
        (b"/a?b?c", b"/a", b"b?c"),  # only the first question mark separates, RFC 3986 3.4
        (b"/%3f/%2F?%3F", b"/%3f/%2F", b"%3F"),  # nothing is decoded
        (b"/\xc3\xa9", b"/\xc3\xa9", b""),
        (b"*", b"*", b""),
    ],
)
def test_target(target: bytes, path: bytes, query: bytes) -> None:
    """B1.11: path and query are taken apart, and are the raw bytes as they came."""
    request = requestFor(target)
    assert (request.path, request.query) == (path, query)


def test_request() -> None:
    """A request begins without body, upgrade or fault, and its connection is not to be kept."""
    request = requestFor(b"/")
    assert (request.host, request.length, request.body, request.trailers) == (b"", 0, b"", ())
    assert (request.upgrade, request.fault, request.keepAlive) == (None, None, False)
    assert repr(request) == "<Request b'GET' b'/' from 192.0.2.1>"


def test_headersAreAView() -> None:
    """B2.1: whatever a hook does to the headers of a request, the request stays as it came."""
    lines = [b"A: 1"]
    request = requestFor(b"/", lines)
    request.headers.lines.append(b"A: 0")
    request.headers.set("A", "2")
    request.headers.add("B", "3")
    assert request.lines == [b"A: 1"]
    assert lines == [b"A: 1"]
    assert request.headers is request.headers


def test_peer() -> None:
    """A peer is an address, and the scheme that it used."""
    peer = Peer("::1", 4711, b"https")
    assert (peer.host, peer.port, peer.scheme) == ("::1", 4711, b"https")
    assert (Peer("").port, Peer("").scheme) == (0, b"http")


def test_mappedPeer() -> None:
    """B2.5: an IPv4 client is known by its IPv4 address on a dual-stack port too."""
    peer = Peer("::ffff:192.0.2.1", 4711)
    assert (peer.host, peer.forLine) == ("192.0.2.1", b"X-Forwarded-For: 192.0.2.1")
    assert Peer("::ffff:1").host == "::ffff:1"


def test_outbound() -> None:
    """An outbound request begins with nothing that its maker did not ask for, and shares nothing."""
    target = Target("http", "up", 8080)
    record = ExchangeRecord(lambda: 1.0)
    one = OutboundRequest(b"GET", b"/", target, b"up", Headers(), b"", record)
    other = OutboundRequest(b"GET", b"/", None, b"", Headers(), b"", record)
    assert (one.chunked, one.upgrade, one.timeouts, one.onInformational) == (False, None, None, None)
    assert (one.acceptsTrailers, one.replayed, one.carrier) == (False, False, None)
    assert repr(one) == "<OutboundRequest b'GET' b'/' to up:8080>"
    assert repr(other) == "<OutboundRequest b'GET' b'/' to None>"


@pytest.mark.parametrize(
    ("arguments", "reason", "lines", "body"),
    [
        ((204,), b"No Content", [], b""),
        ((404, {"X-A": "1"}, "gone"), b"Not Found", [b"X-A: 1"], b"gone"),
        ((200, {b"A": b"1", "B": "2"}, b"x"), b"OK", [b"A: 1", b"B: 2"], b"x"),
        ((200, Headers([b"a:1"]), "\u00e9"), b"OK", [b"a:1"], b"\xc3\xa9"),
        ((599,), b"", [], b""),  # nobody has named it
        ((200, None, b"", b"Fine"), b"Fine", [], b""),
        ((200, None, b"", b""), b"", [], b""),  # an empty phrase is a phrase
        ((200, None, b"", b"tr\xe8s\tbien"), b"tr\xe8s\tbien", [], b""),
    ],
)
def test_response(arguments: tuple[Any, ...], reason: bytes, lines: list[bytes], body: bytes) -> None:
    """A response is made of a status and what else there is, in the forms that people write."""
    response = Response(*arguments)
    assert (response.reason, response.headers.lines, response.body) == (reason, lines, body)
    assert (response.trailers, response.contentLength) == ((), None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((99,), "status"),
        ((600,), "status"),
        ((-200,), "status"),
        ((200, {"A": "1\r\nB: 2"}), "control"),
        ((200, {"A:": "1"}), "field name"),
        ((200, None, b"", b"OK\r\nA: 1"), "reason phrase"),
        ((200, None, b"", b"\x00"), "reason phrase"),
    ],
)
def test_responseThatCannotBeSent(arguments: tuple[Any, ...], complaint: str) -> None:
    """A hook that makes a response of what a client sent cannot be made to split it."""
    with pytest.raises(ValueError, match=complaint):
        Response(*arguments)


def test_responsesShareNothing() -> None:
    """What is added to one response is not in the next."""
    one, other = Response(200), Response(200)
    one.headers.add("A", "1")
    with pytest.raises(AttributeError):
        one.trailers.append(b"B: 2")  # they are set as a whole
    assert (other.headers.lines, other.trailers) == ([], ())
    assert repr(one) == "<Response 200>"


class Connection:
    """What a response came over, as far as giving it up is concerned."""

    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_upstreamResponse() -> None:
    """B7.1: a response that is given up ends what it came over, if that is still there."""
    connection = Connection()
    response = UpstreamResponse(200, b"OK", 1, Headers([b"A: 1"]), connection)
    assert (response.body, response.trailers, response.contentLength) == (b"", (), None)
    assert (response.dated, response.chunked, response.upgrade) == (False, False, None)
    response.abort()
    assert connection.aborted == 1
    UpstreamResponse(200, b"OK", 1, Headers(), None).abort()
    assert repr(response) == "<UpstreamResponse 200>"


@pytest.mark.parametrize(
    "made",
    [
        Peer(""),
        requestFor(b"/"),
        OutboundRequest(b"GET", b"/", None, b"", Headers(), b"", ExchangeRecord(lambda: 1.0)),
        Response(200),
        UpstreamResponse(200, b"OK", 1, Headers(), None),
        Headers(),
        ExchangeRecord(lambda: 1.0),
    ],
    ids=lambda made: type(made).__name__,
)
def test_slotted(made: Any) -> None:
    """One of each is made per exchange, so none has a dictionary: a misspelt attribute is an error."""
    with pytest.raises(AttributeError):
        made.notAnAttribute = 1


def test_draft() -> None:
    """B2.2: an outbound request can be again what it was, whatever was made of it, and more than once."""
    target = Target("http", "origin.test", 80)
    record = ExchangeRecord(lambda: 0.0)
    outbound = OutboundRequest(b"GET", b"/", target, b"origin.test", [b"A: 1"], b"body", record)
    outbound.headers.set("B", "2")
    draft = outbound.draft()
    for _ in range(2):
        outbound.headers.set("A", "other")
        outbound.method, outbound.target, outbound.upstream, outbound.host = b"PUT", b"*", None, b"x"
        outbound.body, outbound.trailers, outbound.upgrade, outbound.timeouts = b"", [b"T: 1"], b"any", Timeouts()
        outbound.chunked = outbound.acceptsTrailers = outbound.replayed = True
        outbound.carrier = outbound.held = object()
        outbound.restore(draft)
        assert outbound.draft() == draft
        assert (outbound.lines, outbound.headers.get("B")) == ([b"A: 1", b"B: 2"], b"2")
        assert (outbound.replayed, outbound.carrier, outbound.held) == (False, None, None)
