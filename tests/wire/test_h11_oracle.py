"""
h11 as the oracle: what it refuses we refuse, unless the reason stands here; what both accept, both understand alike.

Messages are made of pieces, valid and nearly so, and then mutated byte by byte.  Each is fed whole, byte by byte, and with another message
behind, and all three must come out the same.  h11 is the server where requests are read, and the client where responses are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import h11
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.memory import MemoryNetwork
from tests.support.world import outboundRequest
from twistproxy.core.exchange import Exchange
from twistproxy.deadlines import Timeouts
from twistproxy.errors import MalformedMessage, ProxyError
from twistproxy.headers import Headers
from twistproxy.limits import Limits
from twistproxy.message import Response
from twistproxy.rules.fields import NOT_IN_TRAILERS
from twistproxy.server.site import ProxySite
from twistproxy.upstream.transport import PooledTransport
from twistproxy.wire.chunked import ChunkedReader

#: The same examples every time: a failure here must not come and go.
EXAMPLES = settings(
    max_examples=1200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

MARKER = b"GET /marker HTTP/1.1\r\nHost: marker\r\n\r\n"

REFUSED, INCOMPLETE, COMPLETE = "refused", "incomplete", "complete"


@dataclass
class Read:
    """
    What a parser made of some bytes.

    @ivar start: method and target, or status and reason.
    @ivar fields: names in lower case and values; framing fields left out, because both normalize them in their own way.
    """

    outcome: str = INCOMPLETE
    start: tuple[Any, ...] = ()
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    rest: bytes = b""
    reason: str = ""


def withoutFraming(fields: Any) -> list[tuple[bytes, bytes]]:
    """Fields without those of framing."""
    return [
        (name.lower(), bytes(value))
        for name, value in fields
        if name.lower() not in (b"content-length", b"transfer-encoding")
    ]


def withoutForbidden(fields: Any) -> list[tuple[bytes, bytes]]:
    """Trailers that may be forwarded."""
    return [(name.lower(), bytes(value)) for name, value in fields if name.lower() not in NOT_IN_TRAILERS]


def fieldsOf(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Raw lines as names and values."""
    return [(name.lower(), value) for name, value in Headers(list(lines)).items()]


# -- h11


def byH11(role: Any, data: bytes, method: bytes = b"GET", eof: bool = False) -> Read:
    """
    @param role: h11's.
    @param method: of the request, where h11 is the client.
    @return: what it makes of the first message.
    """
    parser = h11.Connection(role, max_incomplete_event_size=1 << 20)
    if role is h11.CLIENT:
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        parser.send(h11.EndOfMessage())
    read = Read()
    parser.receive_data(data)
    if eof:
        parser.receive_data(b"")
    try:
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                read.start = (bytes(event.method), bytes(event.target))
                read.fields = withoutFraming(event.headers.raw_items())
            elif isinstance(event, h11.Response):
                read.start = (event.status_code, bytes(event.reason))
                read.fields = withoutFraming(event.headers.raw_items())
            elif isinstance(event, h11.Data):
                read.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                read.outcome = COMPLETE
                read.trailers = withoutForbidden(event.headers.raw_items())
                read.rest = bytes(parser.trailing_data[0])
                return read
            elif not isinstance(event, h11.InformationalResponse):
                return read
    except h11.RemoteProtocolError as error:
        return Read(REFUSED, reason=str(error))


# -- ours, as the server


class Body:
    """Collects a request's body and answers behind it."""

    def __init__(self, exchange: Exchange, read: Read) -> None:
        self.exchange = exchange
        self.read = read

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.read.body += data

    def finish(self, trailers: list[bytes]) -> None:
        self.read.outcome = COMPLETE
        self.read.trailers = fieldsOf(trailers)
        self.exchange.answer(Response(200))

    def fail(self, error: ProxyError) -> None:
        if self.exchange.settled:
            return  # the test is over, and its client gone
        self.read.outcome, self.read.reason = REFUSED, error.reason
        self.exchange.answer(Response(error.status))


def byOurServer(pieces: list[bytes]) -> list[Read]:
    """
    @return: what we make of all requests.
    """
    reads: list[Read] = []

    def respond(exchange: Exchange) -> None:
        request = exchange.request
        read = Read(start=(request.method, request.target), fields=withoutFraming(fieldsOf(request.lines)))
        reads.append(read)
        if request.fault is not None:
            read.outcome, read.reason = REFUSED, request.fault.reason
            exchange.answer(Response(request.fault.status))
        elif isinstance(request.body, bytes):
            read.body = request.body
            Body(exchange, read).finish(request.trailers)
        else:
            request.body.deliver(Body(exchange, read))

    network = MemoryNetwork()
    site = ProxySite(respond, network.wheel, network.clock.seconds, limits=Limits(discarded=1 << 30))
    client = network.connect(site)
    client.queue(*pieces)
    network.run()
    partial = Read(rest=b"".join(getattr(connection, "_buffer", b"") for connection in site.connections))
    network.end()
    return reads or [partial]


def compareRequests(data: bytes) -> Read:
    """
    Feed a request in three ways, and compare with h11.

    @return: what h11 made of it.
    """
    ours = byOurServer([data])[0]
    bytewise = byOurServer([data[at : at + 1] for at in range(len(data))])[0]
    # A refusal may come earlier where the bytes come one by one; what is understood may not differ.
    if COMPLETE in (ours.outcome, bytewise.outcome):
        assert bytewise == ours
    behind = byOurServer([data + MARKER])
    if ours.outcome == COMPLETE:
        assert behind[0] == ours
    theirs = byH11(h11.SERVER, data)
    if ours.outcome == COMPLETE:
        if theirs.outcome != COMPLETE:
            allowed = [reason for reason, applies in MORE_LENIENT_REQUESTS.items() if applies(data, ours)]
            assert allowed, f"h11: {theirs.reason or theirs.outcome}; ours: {ours}"
        else:
            assert understood(ours) == understood(theirs)
            ends = byH11(h11.SERVER, data + MARKER)
            if ends.rest.lstrip(b"\r\n") == MARKER and keeps(data):
                assert [read.start for read in behind[1:]] == [(b"GET", b"/marker")]
    elif ours.outcome == REFUSED:
        assert all(read.outcome != COMPLETE for read in behind)
    elif ours.start and theirs.outcome == REFUSED:
        # we have taken its head for good and wait for its body
        assert any(applies(data, ours) for applies in MORE_LENIENT_REQUESTS.values()), theirs.reason
    return theirs


def keeps(data: bytes) -> bool:
    """Whether the connection goes on behind this request."""
    head = data.partition(b"\r\n\r\n")[0].lower()
    return b"http/1.0" not in head and b"close" not in head and b"upgrade" not in head and b"connect " not in head


def understood(read: Read) -> tuple[Any, ...]:
    """What must be alike.  A target in absolute form is compared in origin form."""
    method, target = read.start
    absolute = re.fullmatch(rb"(?i:https?)://[^/?]*(.*)", target) if method != b"CONNECT" else None
    if absolute is not None:
        target = absolute[1]
        if not target:
            target = b"*" if method == b"OPTIONS" else b"/"
        elif target.startswith(b"?"):
            target = b"/" + target
    return method, target, read.fields, read.body, read.trailers


#: What we accept and h11 does not, each with its reason.
MORE_LENIENT_REQUESTS: dict[str, Any] = {
    "an empty line before a request is ignored (RFC 9112 2.2)": lambda data, ours: data.startswith(b"\r\n"),
    "raw bytes above 0x7f in a target pass, as in Go and nginx (B1.1)": lambda data, ours: bool(
        re.search(rb"[\x80-\xff]", ours.start[1]) or re.match(rb"[^ ]+ [^ ]*[\x80-\xff]", data)
    ),
    "Content-Length: 5 and 05 are the same number; one of our own is written": lambda data, ours: sameNumber(data),
    "a trailer field that is dropped is not interpreted": lambda data, ours: (
        b"0\r\n" in data
        and re.search(rb"(?i)\r\n0+(;[^\r]*)?\r\n(.*\r\n)*(transfer-encoding|content-length):", data) is not None
    ),
}


def sameNumber(data: bytes) -> bool:
    """Whether there are several lengths, all the same number."""
    lengths = re.findall(rb"(?im)^content-length:[ \t]*([0-9, \t]+?)[ \t]*\r$", data)
    numbers = {int(each) for text in lengths for each in text.split(b",") if each.strip()}
    return len(lengths) > 1 and len(numbers) == 1


# -- pieces of messages


def mostly(good: list[bytes], bad: list[bytes], oneIn: int = 25) -> Any:
    """One of C{good}, and now and then one of C{bad}: a message of many pieces shall be valid often enough to be understood."""
    return st.integers(1, oneIn).flatmap(lambda number: st.sampled_from(bad if number == oneIn else good))


GOOD_LINES = [
    b"X: y", b"x-long-name:y z", b"X:", b"X: \t y \t", b"Accept: a,b", b"Cookie: a=b; c", b"X: \xe9\xff", b"!#$%&'*+-.^_`|~9: y", b"Connection: close",
    b"connection: keep-alive", b"Connection: X", b"TE: trailers", b"Via: 1.1 a", b"Expect: 100-continue", b'X: "q", r', b"Date: now", b"X-Request-ID: a",
    b"X-Forwarded-For: a", b"Content-Type: a/b", b"X: HTTP/1.1 200 OK", b"X: a:b:c",
]  # fmt: skip
BAD_LINES = [
    b"X Y: z", b"X : y", b"X\t: y", b": y", b"X", b"X\xe9: y", b"X= y", b"X: y\x00", b"X: y\rz", b"X: y\nZ: a", b"X: \x0by", b" X: y", b"\tX: y", b"Host: b",
    b"Content-Length: 5", b"Content-Length: 6", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5 5", b"Content-Length:",
    b"Content-Length: 9223372036854775808", b"Content-Length: -1", b"Content-Length: 5,6", b"Content-Length : 5", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked;a", b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding:", b"Transfer_Encoding: chunked", b"X: \x7f", b"X: \x1b",
]  # fmt: skip
ENDINGS = mostly([b"\r\n"], [b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\n\r", b""], 60)
LINES = st.builds(lambda line, ending: line + ending, mostly(GOOD_LINES, BAD_LINES, 15), ENDINGS)
METHODS = mostly(
    [b"GET", b"POST", b"POST", b"HEAD", b"OPTIONS", b"get", b"PUT", b"DELETE"],
    [b"G(T", b"", b" GET", b"G\xe9", b"CONNECT"],
)
TARGETS = mostly(
    [b"/", b"/", b"/a?b=c", b"//a", b"/%00", b"http://a/b", b"http://a", b"http://a?b", b"HTTPS://[::1]:80/"],
    [b"*", b"/\x80", b"/a b", b"/\x00", b"/a#b", b"", b"a", b"a:80", b"http://u@a/", b"/\x7f"],
)
VERSIONS = mostly(
    [b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/1.2"],
    [b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"", b"HTTP/1.1 ", b"HTTP/1.10"],
)
LENGTH, CHUNKS, NOTHING = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""
BAD_FRAMINGS = [
    LENGTH + b"Content-Length: 05\r\n", LENGTH + LENGTH, b"content-length:5,5\r\n", LENGTH + CHUNKS, CHUNKS + LENGTH, CHUNKS + CHUNKS,
    b"Content-Length: 5, 05\r\n", LENGTH + b"Content-Length: 6\r\n",
]  # fmt: skip
SIZES = mostly(
    [b"5\r\nhello\r\n", b"05\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"5;\r\nhello\r\n", b"A\r\n0123456789\r\n", b"a\r\n0123456789\r\n",
     b"5;\xff \t\r\nhello\r\n", b"1\r\n\r\r\n", b"2\r\n\r\n\r\n", b"5\r\n0\r\n\r\n\r\n", b"0000000000000005\r\nhello\r\n"],
    [b"5 \r\nhello\r\n", b" 5\r\nhello\r\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"5\nhello\r\n", b"5\r\nhello\n", b"5\r\nhell\r\n",
     b"5\r\nhello!\r\n", b"00000000000000005\r\nhello\r\n", b"8000000000000000\r\n", b"5 ;a\r\nhello\r\n", b"5;a\x00\r\nhello\r\n",
     b"5;a\n\r\nhello\r\n", b"\r\n", b";a\r\nhello\r\n"],
)  # fmt: skip
LASTS = mostly(
    [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nX: y\r\nZ:\r\n\r\n", b"000\r\n\r\n", b"0;a\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n",
     b"0\r\nHost: b\r\n\r\n"],
    [b"0\n\n", b"0\r\nX\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\nTransfer-Encoding: gzip\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n", b"0\r\n\r\r\n",
     b"0\r\nX: y\n\r\n", b"0\r\n", b"", b"0\r\n\n", b"-0\r\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0\r\nContent-Length: x\r\n\r\n"],
)  # fmt: skip
CHUNKED_BODIES = st.builds(lambda sizes, last: b"".join(sizes) + last, st.lists(SIZES, max_size=3), LASTS)
#: framing fields, and a body that fits them, or not
FRAMED = st.one_of(
    st.just((NOTHING, b"")),
    st.just((LENGTH, b"hello")),
    st.tuples(st.just(CHUNKS), CHUNKED_BODIES),
    st.tuples(st.just(CHUNKS), CHUNKED_BODIES),
    st.tuples(st.sampled_from([NOTHING, LENGTH, CHUNKS, *BAD_FRAMINGS]), st.one_of(st.just(b"hello"), CHUNKED_BODIES)),
)

NASTY = st.sampled_from(
    [bytes([each]) for each in b"\r\n\t \x00\x0b\x0c:;,0159afAFxX-+_\x7f\x80\xff\x1b/"] + [b"\r\n", b"\r\n\r\n"]
)


@st.composite
def mutated(draw: Any, messages: Any) -> bytes:
    """A message with up to two small accidents in it."""
    data: bytes = draw(messages)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, max(0, len(data))))
        how = draw(st.sampled_from(["insert", "replace", "delete", "cut"]))
        if how == "cut":
            data = data[:at]
        else:
            data = data[:at] + (b"" if how == "delete" else draw(NASTY)) + data[at + (how != "insert") :]
    return data


REQUESTS = st.builds(
    lambda before, method, target, version, ending, host, lines, framed: (
        before
        + method
        + b" "
        + target
        + b" "
        + version
        + ending
        + host
        + b"".join(lines)
        + framed[0]
        + b"\r\n"
        + framed[1]
    ),
    mostly([b""], [b"\r\n", b"\r\n\r\n", b"\n", b" "]),
    METHODS,
    TARGETS,
    VERSIONS,
    ENDINGS,
    mostly([b"Host: a\r\n", b"host: a:80\r\n"], [b"", b"Host: a\r\nHost: a\r\n", b"Host:\r\n", b"Host: a b\r\n"]),
    st.lists(LINES, max_size=3),
    FRAMED,
)


@EXAMPLES
@given(mutated(REQUESTS))
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\nhello")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX: y\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n")
@example(b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_requests(data: bytes) -> None:
    """B1: no request that h11 refuses is accepted without a reason, and one that both accept means the same to both."""
    compareRequests(data)


def test_everyReasonIsNeeded() -> None:
    """What we accept and h11 does not: each reason on the list has its example, and the list does not grow by itself."""
    for data in (
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n",
    ):
        assert byH11(h11.SERVER, data).outcome == REFUSED
        [ours] = byOurServer([data])
        assert ours.outcome == COMPLETE
        assert sum(applies(data, ours) for applies in MORE_LENIENT_REQUESTS.values()) == 1
    assert len(MORE_LENIENT_REQUESTS) == 4


# -- responses


class Receiver:
    """Is told what becomes of a request."""

    def __init__(self) -> None:
        self.read = Read()
        self.whole = False

    def informationalReceived(self, response: Any) -> None:
        pass

    def responseReceived(self, response: Any) -> None:
        self.read.start = (response.status, response.reason)
        self.read.fields = fieldsOf(response.lines)
        if isinstance(response.body, bytes):
            self.read.body = response.body
            self.finish(response.trailers)
        else:
            response.body.deliver(self)

    def roundTripFailed(self, error: ProxyError) -> None:
        self.read.outcome, self.read.reason = REFUSED, error.reason

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.read.body += data

    def finish(self, trailers: list[bytes]) -> None:
        self.read.outcome = COMPLETE
        self.read.trailers = fieldsOf(trailers)

    fail = roundTripFailed


def byOurClient(pieces: list[bytes], method: bytes, eof: bool) -> tuple[Read, bool]:
    """
    @return: what we make of a response, and whether its connection would be used again.
    """
    network = MemoryNetwork()
    transport = PooledTransport(network, network.wheel, timeouts=Timeouts())
    receiver = Receiver()
    transport.begin(outboundRequest(method), receiver)
    network.run()
    [line] = network.dialed
    line.queue(*pieces)
    network.run()
    if eof:
        line.sendEOF()
    reused = any(pool.idle for pool in transport.pools.values())
    network.end()
    return receiver.read, reused


#: Taken out of a response on its way, and so not compared.
NOT_FORWARDED = frozenset(
    (b"connection", b"upgrade", b"te", b"host", b"proxy-connection", b"keep-alive", b"trailer", b"proxy-authenticate",
     b"proxy-authorization", b"http2-settings")
)  # fmt: skip


def compareResponses(data: bytes, method: bytes, eof: bool) -> None:
    """Feed a response in three ways, and compare with h11."""
    ours, _ = byOurClient([data], method, eof)
    bytewise, _ = byOurClient([data[at : at + 1] for at in range(len(data))], method, eof)
    if COMPLETE in (ours.outcome, bytewise.outcome):
        assert bytewise == ours
    if not eof:
        # what stands behind a response ends its connection, unless it is the body itself
        behind, reused = byOurClient([data + b"HTTP/1.1 200 EVIL\r\n\r\n"], method, eof)
        if ours.outcome == COMPLETE:
            assert (behind, reused) == (ours, False)
    theirs = byH11(h11.CLIENT, data, method, eof)
    if ours.outcome != COMPLETE:
        return
    if theirs.outcome != COMPLETE:
        allowed = [reason for reason, applies in MORE_LENIENT_RESPONSES.items() if applies(data, ours)]
        assert allowed, f"h11: {theirs.reason or theirs.outcome}; ours: {ours}"
        return
    named = {
        option.strip().lower() for name, value in theirs.fields if name == b"connection" for option in value.split(b",")
    }
    kept = [(name, value) for name, value in theirs.fields if name not in NOT_FORWARDED and name not in named]
    assert (ours.start, ours.fields, ours.body, ours.trailers) == (theirs.start, kept, theirs.body, theirs.trailers)


#: What we accept from upstreams and h11 does not, each with its reason.
MORE_LENIENT_RESPONSES: dict[str, Any] = {
    "Content-Length: 5 and 05 are the same number; one of our own is written": lambda data, ours: sameNumber(data),
    "a trailer field that is dropped is not interpreted": MORE_LENIENT_REQUESTS[
        "a trailer field that is dropped is not interpreted"
    ],
}

RESPONSES = st.builds(
    lambda interim, version, status, reason, ending, lines, framed: (
        interim + version + b" " + status + reason + ending + b"".join(lines) + framed[0] + b"\r\n" + framed[1]
    ),
    mostly(
        [b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"],
        [b"\r\n", b" "],
        10,
    ),
    mostly([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/1.2"], [b"HTTP/2.0", b"http/1.1", b"ICY", b""]),
    mostly(
        [b"200"] * 5 + [b"204", b"304", b"404", b"500", b"599"],
        [b"600", b"099", b"20", b"2000", b"100", b"103", b"101", b"2x0"],
    ),
    mostly([b" OK", b"", b" ", b"  ", b" a\tb", b" \xe9"], [b" \x00", b"\tOK", b"OK", b" a\rb", b" \x7f"]),
    ENDINGS,
    st.lists(LINES, max_size=3),
    FRAMED,
)


@EXAMPLES
@given(mutated(RESPONSES), st.sampled_from([b"GET", b"GET", b"GET", b"HEAD", b"POST"]), st.booleans())
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\nhello", b"GET", False)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n", b"GET", False)
@example(b"HTTP/1.1 200 OK\r\n\r\nhello", b"GET", True)
@example(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"GET", False)
def test_responses(data: bytes, method: bytes, eof: bool) -> None:
    """B5.2: no response that h11 refuses is accepted without a reason, and one that both accept means the same to both."""
    compareResponses(data, method, eof)


# -- chunks alone, many more of them


def chunksByUs(pieces: list[bytes]) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    """
    @return: outcome, payload, trailers, and what stands behind.
    """
    reader = ChunkedReader(65536, 128)
    payload = b""
    rest = b""
    try:
        for piece in pieces:
            if reader.done:
                rest += piece
            else:
                payload += reader.feed(piece)
    except MalformedMessage:
        return REFUSED, b"", [], b""
    if not reader.done:
        return INCOMPLETE, payload, [], b""
    return COMPLETE, payload, fieldsOf(reader.trailers), reader.rest + rest


@settings(EXAMPLES, max_examples=4000)
@given(mutated(CHUNKED_BODIES), st.lists(st.integers(0, 60), max_size=4))
def test_chunks(body: bytes, cuts: list[int]) -> None:
    """B1.6: the same for the chunked coding alone, whatever the pieces in which it comes."""
    ours = chunksByUs([body])
    assert chunksByUs([body[at : at + 1] for at in range(len(body))]) == ours
    at = sorted({0, *(cut for cut in cuts if cut < len(body)), len(body)})
    assert chunksByUs([body[start:end] for start, end in pairwise(at)]) == ours
    behind = chunksByUs([body + MARKER])
    if ours[0] == COMPLETE:
        assert behind == (*ours[:3], ours[3] + MARKER)
    theirs = byH11(h11.SERVER, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    if ours[0] == COMPLETE and theirs.outcome == COMPLETE:
        assert ours == (theirs.outcome, theirs.body, theirs.trailers, theirs.rest)
    elif ours[0] == COMPLETE:
        data = b"\r\n" + body
        assert MORE_LENIENT_REQUESTS["a trailer field that is dropped is not interpreted"](data, None), theirs.reason
    elif ours[0] == INCOMPLETE:
        # what we still wait for must not be over for anybody else
        assert theirs.outcome != COMPLETE
