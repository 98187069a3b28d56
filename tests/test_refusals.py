"""
What a client must not send, through a whole proxy (B1), and what it may.

Each message is fed whole, in small pieces, and with a second, valid request behind it.  The origin writes down everything that
reaches it: no request that was refused is seen there, no half-read one is ever complete, and what stands behind a refused one is never
taken for a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

from tests.support.memory import MemoryTransport
from tests.support.peers import Origin
from tests.support.proxies import Served
from tests.support.world import Message, World, readResponses
from twistproxy.core.settings import ProxySettings
from twistproxy.limits import Limits
from twistproxy.net.network import Network

HEAD = 64 * 1024
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"


def get(*lines: bytes, target: bytes = b"/first", version: bytes = b"1.1", host: bytes = b"Host: a") -> bytes:
    """A GET with these header lines."""
    return b"\r\n".join((b"GET %b HTTP/%b" % (target, version), host, *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with these header lines and this body, as it is."""
    return b"\r\n".join((b"POST /first HTTP/1.1", b"Host: a", *lines, b"", body))


def chunked(body: bytes) -> bytes:
    """A POST with this body behind a head that announces chunks."""
    return post(b"Transfer-Encoding: chunked", body=body)


#: name -> (status, message)
HEADS: dict[str, tuple[int, bytes]] = {
    # B1.1
    "no method": (400, b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method with a comma": (400, b"GE,T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method with a colon": (400, b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method not ASCII": (400, b"GE\xccT / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "header line first": (400, b"Host: a\r\nGET / HTTP/1.1\r\n\r\n"),
    "space before the method": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, get(target=b" /first")),
    "tab between": (400, b"GET\t/first HTTP/1.1\r\nHost: a\r\n\r\n"),
    "vertical tab between": (400, b"GET /first\x0bHTTP/1.1\r\nHost: a\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    "empty target": (400, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space in the target": (400, get(target=b"/first /second")),
    "tab in the target": (400, get(target=b"/fir\tst")),
    "NUL in the target": (400, get(target=b"/fir\x00st")),
    "DEL in the target": (400, get(target=b"/fir\x7fst")),
    "CR in the target": (400, get(target=b"/fir\rst")),
    "LF in the target": (400, get(target=b"/fir\nst")),
    "request line smuggled by LF": (400, get(target=b"/ HTTP/1.1\nX: y")),
    "escape in the target": (400, get(target=b"/\x1b[2J")),
    "fragment in the target": (400, get(target=b"/first#part")),
    "relative target": (400, get(target=b"first")),
    "star without OPTIONS": (400, get(target=b"*")),
    "HTTP/0.9": (400, b"GET /first\r\n"),
    "HTTP/0.9 with a space": (400, b"GET /first \r\n"),
    "no version": (400, b"GET /first\r\nHost: a\r\n\r\n"),
    "lower-case version": (400, b"GET /first http/1.1\r\nHost: a\r\n\r\n"),
    "version without minor": (400, get(version=b"1")),
    "version of two digits": (400, get(version=b"1.10")),
    "version with a sign": (400, get(version=b"1.-1")),
    "space behind the version": (400, get(version=b"1.1 ")),
    "another protocol": (400, b"GET /first HTTPS/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (505, get(version=b"2.0")),
    "HTTP/3.0": (505, get(version=b"3.0")),
    "HTTP/0.1": (505, get(version=b"0.1")),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)),
    "SSH": (400, b"SSH-2.0-OpenSSH_9.6\r\n"),
    # B1.2
    "request line too long": (414, get(target=b"/" + b"a" * 16 * 1024)),
    "request line without end": (414, b"GET /" + b"a" * 17 * 1024),
    "head too large": (431, get(b"X: " + b"a" * HEAD)),
    "head too large, of many lines": (431, get(*[b"X-%d: " % n + b"a" * 1000 for n in range(70)])),
    "head without end": (431, get(b"X: " + b"a" * HEAD)[:-4]),
    "129 fields": (431, get(*[b"X-%d: y" % n for n in range(128)])),
    # B1.3
    "space in a name": (400, get(b"X Y: z")),
    "space before the colon": (400, get(b"X : y")),
    "space before Content-Length's colon": (400, post(b"Content-Length : 5", body=b"12345")),
    "space before Transfer-Encoding's colon": (400, post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "tab before the colon": (400, get(b"X\t: y")),
    "no name": (400, get(b": y")),
    "no colon": (400, get(b"X")),
    "no colon in a known name": (400, get(b"Content-Length")),
    "NUL in a name": (400, get(b"X\x00: y")),
    "not ASCII in a name": (400, get(b"X\xe9: y")),
    "parenthesis in a name": (400, get(b"X(Y): z")),
    "folded line": (400, get(b"X: y", b" z")),
    "folded line with a tab": (400, get(b"X: y", b"\tz")),
    "fold behind the request line": (400, b"GET /first HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"),
    "folded Transfer-Encoding": (400, post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n")),
    "bare CR in a value": (400, get(b"X: y\rTransfer-Encoding: chunked")),
    "CR before CRLF": (400, get(b"X: y\r")),
    "bare LF in a value": (400, get(b"X: y\nTransfer-Encoding: chunked")),
    "bare LFs throughout": (400, b"GET /first HTTP/1.1\nHost: a\n\n"),
    "bare LF behind the request line": (400, b"GET /first HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LF at the end of the head": (400, b"GET /first HTTP/1.1\r\nHost: a\r\n\n"),
    "LF CR": (400, b"GET /first HTTP/1.1\n\rHost: a\n\r\n\r"),
    "bare LF first": (400, b"\nGET /first HTTP/1.1\r\nHost: a\r\n\r\n"),
    "bare CR first": (400, b"\rGET /first HTTP/1.1\r\nHost: a\r\n\r\n"),
    "NUL in a value": (400, get(b"X: y\x00z")),
    "escape in a value": (400, get(b"X: \x1b[2J")),
    "DEL in a value": (400, get(b"X: \x7f")),
    "vertical tab in a value": (400, get(b"X: \x0by")),
    # B1.4
    "CL and TE": (400, post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "TE and CL": (400, post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n")),
    "CL 0 and TE": (400, post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "two lengths": (400, post(b"Content-Length: 5", b"Content-Length: 6", body=b"123456")),
    "list of lengths": (400, post(b"Content-Length: 5, 6", body=b"123456")),
    "list with an empty member": (400, post(b"Content-Length: 5,", body=b"12345")),
    "length with plus": (400, post(b"Content-Length: +5", body=b"12345")),
    "negative length": (400, post(b"Content-Length: -5", body=b"12345")),
    "length with a space": (400, post(b"Content-Length: 1 5", body=b"12345")),
    "hexadecimal length": (400, post(b"Content-Length: 0x5", body=b"12345")),
    "length with underscore": (400, post(b"Content-Length: 1_0", body=b"1234567890")),
    "length with a point": (400, post(b"Content-Length: 5.0", body=b"12345")),
    "length with exponent": (400, post(b"Content-Length: 5e0", body=b"12345")),
    "length of other digits": (400, post("Content-Length: \u0665".encode(), body=b"12345")),
    "empty length": (400, post(b"Content-Length:", body=b"12345")),
    "length in quotes": (400, post(b'Content-Length: "5"', body=b"12345")),
    "length 2^63": (400, post(b"Content-Length: 9223372036854775808")),
    "length 2^64 + 5": (400, post(b"Content-Length: 18446744073709551621", body=b"12345")),
    "length of many digits": (400, post(b"Content-Length: " + b"0" * 30 + b"5", body=b"12345")),
    # B1.5
    "gzip": (501, post(b"Transfer-Encoding: gzip", body=b"12345")),
    "identity": (501, post(b"Transfer-Encoding: identity", body=b"12345")),
    "unknown coding": (501, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "coding in quotes": (501, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "coding with parameter": (501, post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    "gzip, chunked": (501, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "chunked, gzip": (400, post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n")),
    "chunked, chunked": (400, post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "chunked and an empty member": (400, post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n")),
    "two fields chunked": (400, post(*[b"Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n")),
    "gzip and chunked fields": (
        501,
        post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    "empty coding": (501, post(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "coding behind a vertical tab": (400, post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "TE in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # B1.7
    "no Host": (400, b"GET /first HTTP/1.1\r\n\r\n"),
    "no Host, absolute form": (400, b"GET http://a/first HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, get(b"Host: a")),
    "two different Hosts": (400, get(b"host: b")),
    "empty Host": (400, get(host=b"Host:")),
    "Host with userinfo": (400, get(host=b"Host: u@a")),
    "Host with a path": (400, get(host=b"Host: a/b")),
    "Host with a space": (400, get(host=b"Host: a b")),
    "Host list": (400, get(host=b"Host: a, b")),
    "Host with a bad port": (400, get(host=b"Host: a:b")),
    "Host with a large port": (400, get(host=b"Host: a:65536")),
    "Host with two ports": (400, get(host=b"Host: a:80:80")),
    "Host with an open bracket": (400, get(host=b"Host: [::1")),
    "Host of no IPv6": (400, get(host=b"Host: [1]")),
    "Host not ASCII": (400, get(host=b"Host: \xe9")),
    "userinfo in the target": (400, get(target=b"http://u:p@a/first")),
    "no authority in the target": (400, get(target=b"http:///first")),
    "bad authority in the target": (400, get(target=b"http://a,b/first")),
    "another scheme in the target": (400, get(target=b"ftp://a/first")),
    "authority form": (400, get(target=b"a:80")),
    # B1.9
    "Upgrade not printable": (400, get(b"Connection: Upgrade", b"Upgrade: web\xffsocket")),
    "Upgrade with a control character": (400, get(b"Connection: Upgrade", b"Upgrade: web\x01socket")),
    "empty Upgrade": (400, get(b"Connection: Upgrade", b"Upgrade:")),
}

#: name -> body behind a head that announces chunks; all 400 and close
CHUNKS: dict[str, bytes] = {
    "size with plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "space behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "tab before the extension": b"5\t;a\r\nhello\r\n0\r\n\r\n",
    "size with underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "extension without size": b";a=b\r\nhello\r\n0\r\n\r\n",
    "17 digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "2^63": b"8000000000000000\r\nhello\r\n0\r\n\r\n",
    "2^64 + 5": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "not hexadecimal": b"5g\r\nhello\r\n0\r\n\r\n",
    "LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "CR behind the size": b"5\rhello\r\n0\r\n\r\n",
    "CR CR LF behind the size": b"5\r\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\n0\r\n\r\n",
    "CR in an extension": b"5;a\r0\r\n\r\n",
    "extensions too long": b"5;" + b"a" * 4096 + b"\r\nhello\r\n0\r\n\r\n",
    "extensions too long in all": b"1;%b\r\na\r\n" % (b"b" * 500) * 9 + b"0\r\n\r\n",
    "extension without end": b"5;" + b"a" * 5000,
    "data too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "data too short": b"5\r\nhell\r\n0\r\n\r\n",
    "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "nothing behind the data": b"5\r\nhello0\r\n\r\n",
    "CR and another behind the data": b"5\r\nhello\rX0\r\n\r\n",
    "trailer without colon": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    "trailer with a space before the colon": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "folded trailer": b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    "NUL in a trailer": b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n",
    "LF behind a trailer": b"5\r\nhello\r\n0\r\nX: y\n\r\n\r\n",
    "LFs behind the last chunk": b"5\r\nhello\r\n0\n\n",
    "CR at the end": b"5\r\nhello\r\n0\r\n\r\r\n\r\n",
}
CHUNKS_431 = {
    "trailers too large": b"5\r\nhello\r\n0\r\nX: " + b"a" * HEAD + b"\r\n\r\n",
    "trailers without end": b"5\r\nhello\r\n0\r\nX: " + b"a" * HEAD + b"a" * 4096,
    "129 trailers": b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 129 + b"\r\n",
}

WAYS = ("whole", "in pieces", "with another behind")


@pytest.fixture
def world() -> Iterator[World]:
    """A proxy, at the end of which nothing is left."""
    world = World()
    yield world
    world.end()


def inAllWays() -> Iterator[tuple[str, World]]:
    """A proxy for each of the L{WAYS}, at the end of which nothing is left."""
    for way in WAYS:
        world = World()
        yield way, world
        world.end()


def feed(world: World, client: MemoryTransport, message: bytes, way: str) -> None:
    """Send a message in one of the L{WAYS}."""
    if way == "in pieces":
        size = 1 if len(message) < 6000 else 997
        client.queue(*[message[at : at + size] for at in range(0, len(message), size)])
    elif way == "whole":
        client.queue(message)
    else:
        client.queue(message + SECOND)
    world.network.run()


def refusal(world: World, client: MemoryTransport, method: bytes = b"GET") -> Message:
    """
    Check how a client was refused: one response, all of it, which says that the connection closes, and it does so without
    taking the response with it.

    @return: the response.
    """
    [response] = readResponses(client.take(), [method], ended=True)
    assert (response.complete, response[b"connection"]) == (True, [b"close"])
    assert client.ended == "closed"
    # What the client still sends is read, or a real socket would be reset, and the response lost on its way.
    client.send(SECOND)
    assert (client.ended, client.discarded) == ("closed", 0)
    client.sendEOF()
    assert (client.lost, bytes(client.received)) == (True, b"")
    return response


@pytest.mark.parametrize("name", HEADS)
def test_head(name: str) -> None:
    """B1: a head that is refused is answered and the connection closed; the origin hears nothing, nor does what stands behind count."""
    status, message = HEADS[name]
    for way, world in inAllWays():
        client = world.client()
        feed(world, client, message, way)
        response = refusal(world, client)
        assert (way, response.status) == (way, status)
        assert (way, world.network.dialed) == (way, [])
        [record] = world.records
        assert (record.status, record.error and record.error.side.value) == (status, "downstream")


@pytest.mark.parametrize("name", [*CHUNKS, *CHUNKS_431])
@pytest.mark.parametrize("begun", [False, True], ids=["at once", "begun"])
def test_chunks(name: str, begun: bool) -> None:
    """B1.6, B4.5: broken chunks are refused; an upstream request that had begun is reset, and never complete."""
    status, body = (400, CHUNKS[name]) if name in CHUNKS else (431, CHUNKS_431[name])
    for way, world in inAllWays():
        client = world.client()
        head = chunked(b"")
        if begun:
            client.send(head + b"3\r\nbeg\r\n")
            assert [request.body for request in world.origin.requests] == [b"beg"]
            feed(world, client, body, way)
        else:
            feed(world, client, head + body, way)
        assert (way, refusal(world, client).status) == (way, status)
        assert (world.origin.whole, world.origin.broken) == ([], [])
        # with the head nothing is sent at all
        expected = ["reset"] if begun or way == "in pieces" else []
        assert (way, [line.ended for line in world.network.dialed]) == (way, expected)
        [record] = world.records
        assert (record.status, record.error and record.error.side.value) == (status, "downstream")


@pytest.mark.parametrize(
    ("method", "target", "settings"),
    [(b"CONNECT", b"a:443", {}), (b"TRACE", b"/", {})],
)
def test_methods(method: bytes, target: bytes, settings: dict[str, bool]) -> None:
    """B1.8: CONNECT and TRACE are answered 405 by the proxy itself, which says what is allowed."""
    world = World(settings=ProxySettings(**settings))
    client = world.client()
    client.send(b"%b %b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, target))
    # h11 takes a response to CONNECT of 4xx like any other
    [response] = readResponses(client.take(), [method])
    assert (response.status, response.complete) == (405, True)
    assert b"GET" in response[b"allow"][0]
    assert world.network.dialed == []
    world.end()


def test_traceAllowed() -> None:
    """B1.8: TRACE is forwarded if the operator wants it."""
    world = World(settings=ProxySettings(allowTrace=True))
    client = world.client()
    client.send(b"TRACE /way HTTP/1.1\r\nHost: a\r\n\r\n")
    assert world.origin.whole == [(b"TRACE", b"/way", b"")]
    world.end()


@pytest.mark.parametrize(
    "target", [b"/a%2Fb", b"/a%2fb", b"/a/../b", b"/a/%2e%2E/b", b"/./a", b"/a/..", b"/a%00b", b"/a%5cb"]
)
def test_strictPaths(target: bytes) -> None:
    """B1.11: encoded slashes, dot segments and NUL are refused by a knob, and otherwise forwarded raw."""
    world = World(settings=ProxySettings(strictPaths=True))
    client = world.client()
    client.send(get(target=target))
    [response] = readResponses(client.take())
    if target != b"/a%5cb":
        assert (response.status, world.network.dialed) == (400, [])
    world.end()
    world = World()
    client = world.client()
    client.send(get(target=target))
    assert world.origin.whole == [(b"GET", target, b"")]
    world.end()


def test_bodyTooLargeKnown() -> None:
    """B1.10: a body that is announced to be over the limit is refused at the head, and nothing is sent upstream."""
    world = World(settings=ProxySettings(maxRequestBody=100))
    client = world.client()
    client.send(post(b"Content-Length: 101", body=b"a" * 50))
    [response] = readResponses(client.take())
    assert (response.status, response.complete, world.network.dialed) == (413, True, [])
    client.send(b"a" * 51 + SECOND)
    assert [each.body for each in readResponses(client.take())] == [b"you asked for /second"]
    world.end()


def test_bodyTooLargeStreamed() -> None:
    """B1.10: a body that turns out to be over the limit is refused while it comes, and the upstream request is reset."""
    world = World(settings=ProxySettings(maxRequestBody=100))
    client = world.client()
    client.send(chunked(b"32\r\n" + b"a" * 50 + b"\r\n"))
    client.send(b"32\r\n" + b"a" * 50 + b"\r\n")
    assert (world.origin.requests[0].body, bytes(client.received)) == (b"a" * 100, b"")
    client.send(b"1\r\na\r\n")
    [response] = readResponses(client.take())
    assert (response.status, response.complete) == (413, True)
    assert (world.origin.whole, world.upstream().ended) == ([], "reset")
    client.send(b"0\r\n\r\n" + SECOND)
    assert world.origin.whole in ([], [(b"GET", b"/second", b"")])
    world.end()


#: name -> message, and what the origin must see: method, target, body
ACCEPTED: dict[str, tuple[bytes, tuple[bytes, bytes, bytes]]] = {
    "plain": (get(), (b"GET", b"/first", b"")),
    "lower-case method": (b"get /first HTTP/1.1\r\nHost: a\r\n\r\n", (b"get", b"/first", b"")),
    "every token character": (
        b"!#$%&'*+-.^_`|~09AZaz / HTTP/1.1\r\nHost: a\r\n\r\n", (b"!#$%&'*+-.^_`|~09AZaz", b"/", b"")
    ),
    "HTTP/1.0": (b"GET /first HTTP/1.0\r\n\r\n", (b"GET", b"/first", b"")),
    "HTTP/1.2": (get(version=b"1.2"), (b"GET", b"/first", b"")),
    "stray CRLF": (b"\r\n" + get(), (b"GET", b"/first", b"")),
    "many stray CRLFs": (b"\r\n" * 20 + get(), (b"GET", b"/first", b"")),
    "no space behind the colon": (get(b"X:y"), (b"GET", b"/first", b"")),
    "spaces around a value": (get(b"X: \t y\t "), (b"GET", b"/first", b"")),
    "empty value": (get(b"X:"), (b"GET", b"/first", b"")),
    "obs-text in a value": (get(b"X: \x80\xff\xe9"), (b"GET", b"/first", b"")),
    "128 fields": (get(*[b"X-%d: y" % n for n in range(127)]), (b"GET", b"/first", b"")),
    "a large head": (get(*[b"X-%d: " % n + b"a" * 1000 for n in range(60)]), (b"GET", b"/first", b"")),
    "a long request line": (get(target=b"/" + b"a" * 16000), (b"GET", b"/" + b"a" * 16000, b"")),
    "absolute form": (get(target=b"http://a/first?q"), (b"GET", b"/first?q", b"")),
    "absolute form of https": (get(target=b"HTTPS://a:8443/first"), (b"GET", b"/first", b"")),
    "absolute form without path": (get(target=b"http://a"), (b"GET", b"/", b"")),
    "absolute form without path, with query": (get(target=b"http://a?q"), (b"GET", b"/?q", b"")),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", (b"OPTIONS", b"*", b"")),
    "OPTIONS * in absolute form": (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", (b"OPTIONS", b"*", b"")),
    "raw path": (get(target=b"//a/../%2F%00/./b;c%zz?"), (b"GET", b"//a/../%2F%00/./b;c%zz?", b"")),
    "IPv6 Host": (get(host=b"Host: [::1]:80"), (b"GET", b"/first", b"")),
    "length": (post(b"Content-Length: 5", body=b"hello"), (b"POST", b"/first", b"hello")),
    "length 0": (post(b"Content-Length: 0"), (b"POST", b"/first", b"")),
    "length with leading zeros": (post(b"Content-Length: 0005", body=b"hello"), (b"POST", b"/first", b"hello")),
    "same length twice": (post(*[b"Content-Length: 5"] * 2, body=b"hello"), (b"POST", b"/first", b"hello")),
    "same length in a list": (post(b"Content-Length: 5 ,5", body=b"hello"), (b"POST", b"/first", b"hello")),
    "no length": (post(), (b"POST", b"/first", b"")),
    "body of a GET": (
        b"GET /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", (b"GET", b"/first", b"hello")
    ),
    "chunks": (chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), (b"POST", b"/first", b"hello world")),
    "Chunked": (post(b"transfer-encoding: ChunKed", body=b"5\r\nhello\r\n0\r\n\r\n"), (b"POST", b"/first", b"hello")),
    "no chunk": (chunked(b"0\r\n\r\n"), (b"POST", b"/first", b"")),
    "16 digits": (chunked(b"0000000000000005\r\nhello\r\n0000\r\n\r\n"), (b"POST", b"/first", b"hello")),
    "letters": (chunked(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), (b"POST", b"/first", b"0123456789" * 2)),
    "extensions": (chunked(b'5;a=b;c="d\xff"\r\nhello\r\n0;e\r\n\r\n'), (b"POST", b"/first", b"hello")),
    "long extensions": (chunked(b"5;" + b"a" * 4000 + b"\r\nhello\r\n0\r\n\r\n"), (b"POST", b"/first", b"hello")),
    "chunk that looks like an end": (chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), (b"POST", b"/first", b"0\r\n\r\n")),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    """B1: what is valid, if unusual, reaches the origin as it was meant, and what stands behind it is the next request."""
    message, seen = ACCEPTED[name]
    closes = name == "HTTP/1.0"
    for way, world in inAllWays():
        client = world.client()
        feed(world, client, message, way)
        expected = [seen]
        if way == "with another behind" and not closes:
            expected.append((b"GET", b"/second", b""))
        assert (way, world.origin.whole, world.origin.broken) == (way, expected, [])
        responses = readResponses(client.take(), [seen[0]])
        assert [(each.status, each.body, each.complete) for each in responses] == [
            (200, b"you asked for " + target, True) for _, target, _ in expected
        ]
        assert client.ended == ("closed" if closes else "")
        # all exchanges of one client go over one connection, because each was over when the next began
        assert len(world.network.dialed) == 1


def test_trailers(world: World) -> None:
    """B4.6: request trailers are forwarded as trailers; those that must not stand there are dropped."""
    client = world.client()
    message = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\nHost: evil\r\nx-sum:2\r\nAuthorization: z\r\n\r\n"
    client.send(chunked(message))
    [request] = world.origin.requests
    assert (request.body, request.trailers) == (b"hello", [(b"x-sum", b"1"), (b"x-sum", b"2")])
    assert request[b"host"] == [b"origin.test"]


def test_trailersOfStream(world: World) -> None:
    """B4.6: the same where the body comes in pieces."""
    client = world.client()
    client.send(chunked(b"5\r\nhello\r\n"))
    client.send(b"0\r\nX-Sum: 1\r")
    client.send(b"\nTransfer-Encoding: chunked\r\n\r\n")
    [request] = world.origin.requests
    assert (request.complete, request.body, request.trailers) == (True, b"hello", [(b"x-sum", b"1")])


def test_trailersOfResponse(world: World) -> None:
    """B5.7: response trailers are forwarded; to an HTTP/1.0 client they are dropped."""
    world.origin.answer = lambda request: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\n\r\n"
    )
    client = world.client()
    client.send(get())
    [response] = readResponses(client.take())
    assert (response.body, response.trailers, response.complete) == (b"hello", [(b"x-sum", b"1")], True)
    old = world.client()
    old.send(get(version=b"1.0"))
    head, _, body = old.take().partition(b"\r\n\r\n")
    assert (body, b"chunked" in head, b"Connection: close" in head, old.ended) == (b"hello", False, True, "closed")


def test_absoluteFormHost(world: World) -> None:
    """B1.7: the authority of an absolute-form target wins over Host."""
    world.proxy.useDirector(lambda request: request.setTarget("http://origin.test", preserveHost=True))
    client = world.client()
    client.send(get(target=b"http://right.test:81/first", host=b"Host: wrong.test"))
    assert world.origin.requests[0][b"host"] == [b"right.test:81"]


def test_rawTarget(world: World) -> None:
    """B1.1: bytes above 0x7f in a target pass as they are."""
    client = world.client()
    world.origin.answer = None
    client.send(get(target=b"/\x80\xff"))
    assert world.origin.broken != []  # h11 would not take it
    assert client.received == b""
    client = world.client()
    world.network.watching.clear()
    client.send(get(target=b"/\x80\xff"))
    assert world.upstream().take().startswith(b"GET /\x80\xff HTTP/1.1\r\n")


def test_framingIsWrittenAnew(world: World) -> None:
    """B1.1, B2.9: no framing field of a client is copied: one Content-Length, or one Transfer-Encoding, of our own making."""
    client = world.client()
    client.send(post(b"content-LENGTH:  005", b"Content-Length: 5, 5", b"Connection: Content-Length", body=b"hello"))
    assert world.origin.requests[0][b"content-length"] == [b"5"]
    client.send(chunked(b"5;ext\r\nhello\r\n0\r\n\r\n"))
    assert world.origin.requests[1][b"transfer-encoding"] == [b"chunked"]
    assert world.origin.requests[1][b"content-length"] == []


def test_ownLimits() -> None:
    """B1.2: the limits are knobs."""
    world = World(limits=Limits(head=100, requestLine=30, requestFields=3))
    for status, message in (
        (200, get(b"X: y", b"Y: z")),
        (431, get(b"X: y", b"Y: z", b"Z: a")),
        (431, get(b"X: " + b"y" * 100)),
        (414, get(target=b"/" + b"a" * 30)),
    ):
        client = world.client()
        client.send(message)
        assert [each.status for each in readResponses(client.take(), ended=True)] == [status]
    world.end()


def test_trailersWanted(world: World) -> None:
    """B2.3: TE: trailers is kept, with Connection naming it or not, and nothing else of TE."""
    client = world.client()
    for lines in (
        [b"TE: trailers"],
        [b"TE: trailers", b"Connection: TE"],
        [b"TE: gzip;q=0.5, Trailers", b"Connection: te"],
    ):
        client.send(get(*lines))
        assert world.origin.requests[-1][b"te"] == [b"trailers"]
        assert [each.lower() for each in world.origin.requests[-1][b"connection"]] == [b"te"]
    client.send(get(b"TE: gzip", b"Connection: TE"))
    assert (world.origin.requests[-1][b"te"], world.origin.requests[-1][b"connection"]) == ([], [])


@pytest.mark.parametrize("hub", [True, False], ids=["hub", "stock"])
@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"nonsense\r\n" + b"x" * 200_000, 400),
        (get(b"X: " + b"a" * 200_000), 431),
        (get(target=b"/" + b"a" * 200_000), 414),
        (chunked(b"5\r\nhello\r\nnonsense\r\n" + b"x" * 200_000), 400),
        (post(b"Content-Length: 200000", body=b"x" * 200_000), 413),
    ],
    ids=["nonsense", "head", "request line", "chunks", "body"],
)
@pytest_twisted.ensureDeferred
async def test_answerIsNotLost(warmReactor: Any, hub: bool, message: bytes, status: int) -> None:
    """B1.2: on a real socket, too, a refusal arrives whole although the client has sent much more than was read."""
    origin = Origin()
    served = Served(Network(warmReactor, hub=hub), origin.target, settings=ProxySettings(maxRequestBody=1000))
    try:
        client = served.client()
        await client.send(message)
        response = await client.response()
        assert (response.status, response.body[:3]) == (status, b"%d" % status)
        if status != 413:
            assert await client.ending() == "closed"
    finally:
        await served.close()
        origin.close()
