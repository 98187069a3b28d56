"""
One tree of resources, served by a stock C{Site} and by a C{ProxySite}: the same bytes are sent to both over real
sockets, and what comes back is compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h11
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from twisted.python.threadpool import ThreadPool
from twisted.web.server import Site

from tests.support.peers import Client, Message
from tests.web.trees import everything
from twistproxy import Limits, ProxySite

#: Not compared: the time, how the body and the connection are framed, and what is random.
FREE = {b"date", b"connection", b"content-length", b"transfer-encoding", b"set-cookie", b"x-boundary"}

MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="f"\r\n\r\nvalue\r\n'
    b'--B\r\nContent-Disposition: form-data; name="u"; filename="u.txt"\r\n\r\n' + b"u" * 70_000 + b"\r\n--B--\r\n"
)


def ask(target: str, *fields: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    """@return: a request, the last one on its connection."""
    lines = [f"{method} {target} HTTP/{version}", "Host: story.test", *fields]
    if version == "1.1":
        lines.append("Connection: close")
    if body and "Transfer-Encoding: chunked" not in fields:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


def post(target: str, body: bytes, kind: str = "application/x-www-form-urlencoded", *fields: str) -> bytes:
    """@return: a POST."""
    return ask(target, f"Content-Type: {kind}", *fields, method="POST", body=body)


AUTHORIZED = "Authorization: Basic YWxpY2U6c2VjcmV0"

SAME: dict[str, bytes] = {
    "root": ask("/"),
    "data": ask("/data"),
    "data, HEAD": ask("/data", method="HEAD"),
    "data, query": ask("/data?x=1"),
    "data, below": ask("/data/below"),
    "data, 1.0": ask("/data", version="1.0"),
    "nowhere": ask("/nowhere"),
    "nowhere, HEAD": ask("/nowhere", method="HEAD"),
    "nowhere, POST": post("/nowhere", b"a=1"),
    "markup in the path": ask("/%3Cscript%3E"),
    "file": ask("/files/page.txt"),
    "file, HEAD": ask("/files/page.txt", method="HEAD"),
    "file, 1.0": ask("/files/page.txt", version="1.0"),
    "file, range": ask("/files/page.txt", "Range: bytes=10-19"),
    "file, suffix range": ask("/files/page.txt", "Range: bytes=-7"),
    "file, open range": ask("/files/page.txt", "Range: bytes=280-"),
    "file, range behind the end": ask("/files/page.txt", "Range: bytes=999-"),
    "file, broken range": ask("/files/page.txt", "Range: lines=1"),
    "file, range, HEAD": ask("/files/page.txt", "Range: bytes=10-19", method="HEAD"),
    "file, not modified": ask("/files/page.txt", "If-Modified-Since: Tue, 19 Jan 2038 03:14:07 GMT"),
    "file, modified": ask("/files/page.txt", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
    "file, POST": post("/files/page.txt", b"a=1"),
    "file, large": ask("/files/large.bin"),
    "file, large, range": ask("/files/large.bin", "Range: bytes=1000-300000"),
    "folder": ask("/files/"),
    "folder, without slash": ask("/files"),
    "folder, listing": ask("/files/sub/"),
    "file with a space": ask("/files/sub/a%20b.txt"),
    "no such file": ask("/files/sub/none"),
    "file, climbing": ask("/files/sub/../page.txt"),
    "file, climbing escaped": ask("/files/%2e%2e/%2e%2e/etc/passwd"),
    "file, a slash escaped": ask("/files/sub%2fa%20b.txt"),
    "GET only": ask("/get"),
    "GET only, HEAD": ask("/get", method="HEAD"),
    "GET only, POST": post("/get", b"a=1"),
    "GET only, PUT": ask("/get", method="PUT", body=b"x"),
    "GET only, odd method": ask("/get", method="PURGE"),
    "TRACE": ask("/get", method="TRACE"),
    "OPTIONS *": ask("*", method="OPTIONS"),
    "addresses": ask("/any/a%20b/%2F/c?x=1&x=2&y=&z"),
    "addresses, HEAD": ask("/any/a", method="HEAD"),
    "addresses, slashes": ask("/any//a//"),
    "addresses, 1.0": ask("/any/a", version="1.0"),
    "getChild raises": ask("/any/raise"),
    "getChild raises, POST": post("/any/raise", b"a=1"),
    "getChild finds nothing": ask("/any/none"),
    "getChild by the query": ask("/query/x?which=this"),
    "getChild by the query, absent": ask("/query/x"),
    "fields": ask("/echo", "X-One: 1", "x-one: 2", "X-Latin: \xe9".encode("latin-1").decode("latin-1"), "Accept: */*"),
    "form": post("/echo?a=0&q=1", b"a=1&b=2&a=3&c="),
    "form, broken": post("/echo", b"%zz&=&&a"),
    "form, other type": post("/echo", b"a=1", "text/plain"),
    "form, PUT": ask("/echo", "Content-Type: application/x-www-form-urlencoded", method="PUT", body=b"a=1"),
    "form, multipart": post("/echo", MULTIPART, "multipart/form-data; boundary=B"),
    "form, large": post("/echo", b"a=" + b"x" * 300_000),
    "form, chunked": ask(
        "/echo", "Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked", method="POST",
        body=b"3\r\na=1\r\n4;x=y\r\n&b=2\r\n0\r\nX-Trailer: 1\r\n\r\n",
    ),
    "form, empty": ask("/echo", "Content-Length: 0", method="POST"),
    "cookies": ask("/cookies", "Cookie: in=side; other", "Cookie: more=1"),
    "session": ask("/session"),
    "redirect": ask("/redirect"),
    "redirect, resource": ask("/redirector"),
    "redirect, parent": ask("/parent"),
    "tag": ask("/tagged"),
    "tag, matching": ask("/tagged", 'If-None-Match: "other" "tag"'),
    "tag, matching, POST": post("/tagged", b"a=1", "text/plain", 'If-None-Match: "tag"'),
    "tag, not matching": ask("/tagged", 'If-None-Match: "other"'),
    "date, matching": ask("/tagged", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT"),
    "no content": ask("/empty"),
    "odd status and fields": ask("/odd"),
    "closing": ask("/closing"),
    "at once": ask("/atonce"),
    "at once, HEAD": ask("/atonce", method="HEAD"),
    "at once, 1.0": ask("/atonce", version="1.0"),
    "later": ask("/later"),
    "later, HEAD": ask("/later", method="HEAD"),
    "later, 1.0": ask("/later", version="1.0"),
    "later, sized": ask("/latersized"),
    "later, nothing": ask("/nothing"),
    "push producer": ask("/push"),
    "pull producer": ask("/pull"),
    "render raises": ask("/failing"),
    "render raises, POST": post("/failing", b"a=1"),
    "no bytes": ask("/nobytes"),
    "host, default": ask("/hosts/x"),
    "host, one": ask("/hosts/x").replace(b"story.test", b"one.test"),
    "host, one, with a port": ask("/hosts/x").replace(b"story.test", b"ONE.test:8080"),
    "host, two": ask("/hosts/x/y").replace(b"story.test", b"two.test"),
    "host, itself": ask("/hosts"),
    "guard, nobody": ask("/guarded/x"),
    "guard, wrong": ask("/guarded/x", "Authorization: Basic YWxpY2U6d3Jvbmc="),
    "guard, broken": ask("/guarded/x", "Authorization: Basic !"),
    "guard, alice": ask("/guarded/x", AUTHORIZED),
    "guard, alice, itself": ask("/guarded", AUTHORIZED),
    "guard, alice, POST": post("/guarded/x", b"a=1", "text/plain", AUTHORIZED),
    "wsgi": ask("/wsgi/a/b?c=d"),
    "wsgi, POST": post("/wsgi/a", b"form=1"),
    "wsgi, HEAD": ask("/wsgi/a", method="HEAD"),
    "deferred": ask("/deferred/late"),
    "deferred, at once": ask("/deferred/now"),
    "gzip": ask("/gzip", "Accept-Encoding: deflate, gzip"),
    "gzip, not wanted": ask("/gzip"),
    "forbidden": ask("/forbidden"),
    "monster": ask("/monster/http/other.test:81/any/x?y=1"),
    "monster, https": ask("/monster/https/other.test/any/x"),
    "rewritten": ask("/rewritten/away"),
}


class Sites:
    """
    The two.
    """

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.threads = ThreadPool(0, 2)
        self.threads.start()
        root = everything(reactor, self.threads, folder)
        self.stock = Site(root, reactor=reactor)
        self.ours = ProxySite(root, reactor=reactor, limits=Limits(collected=1_000_000))
        self.ports = [
            reactor.listenTCP(0, self.stock, interface="127.0.0.1"),
            self.ours.network.reactor.listenTCP(0, self.ours, interface="127.0.0.1"),
        ]
        self.clients: list[Client] = []

    def client(self, number: int) -> Client:
        """@return: a client of one of them."""
        client = Client.connect(self.ports[number].getHost().port)
        assert isinstance(client, Client)
        self.clients.append(client)
        return client

    async def one(self, number: int, data: bytes, method: str = "GET") -> Message:
        """@return: what one of them answers, and then closes the connection."""
        client = self.client(number)
        await client.send(data)
        message = await client.response(method)
        assert await client.ending() == "closed"
        return message

    async def close(self) -> None:
        """End everything."""
        for client in self.clients:
            client.close()
        for port in self.ports:
            await port.stopListening()
        for site in (self.stock, self.ours):
            for session in list(site.sessions.values()):
                session.expire()
        self.threads.stop()


@pytest.fixture
def sites(warmReactor: Any, tmp_path: Path) -> Iterator[Sites]:
    """Both sites, with the same tree."""
    made = Sites(warmReactor, tmp_path)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


#: Their ports, the places of objects in memory.
_free = re.compile(rb"(?<=story\.test:)\d+|0x[0-9a-f]+").sub


def failures(logged: list[LogEvent]) -> list[str]:
    """@return: the failures that were logged since somebody asked."""
    told = [repr(event["log_failure"].value) for event in logged]
    logged.clear()
    return told


def compared(message: Message) -> dict[str, Any]:
    """@return: what of a message is compared."""
    boundary = (message[b"content-type"] or b"").partition(b"boundary=")[2]
    cookies = [value for name, value in message.fields if name == b"set-cookie"]
    return {
        "status": (message.status, message.reason),
        "fields": sorted((name, _free(b"", value)) for name, value in message.fields if name not in FREE),
        "cookies": [cookie if b"TWISTED_SESSION" not in cookie else cookie[:16] for cookie in cookies],
        "body": _free(b"", message.body.replace(boundary, b"") if boundary else message.body),
        "interims": [status for status, _ in message.interims],
    }


@pytest.mark.parametrize("case", SAME)
@pytest_twisted.ensureDeferred
async def test_same(sites: Sites, loggedErrors: list[LogEvent], case: str) -> None:
    """What a resource answers, and what is logged of its accidents, does not depend on which site it is in."""
    data = SAME[case]
    method = data.split(b" ", 1)[0].decode()
    stock = await sites.one(0, data, method)
    logged = failures(loggedErrors)
    ours = await sites.one(1, data, method)
    assert failures(loggedErrors) == logged
    assert compared(ours) == compared(stock)
    said = [message[b"content-length"] for message in (stock, ours)]
    assert said[0] == said[1] or None in said


#: What differs, as statuses of the stock site and of ours, and why.  0 is a response that does not look complete.
DIFFERENT: dict[str, tuple[bytes, int, int, str]] = {
    "GET *": (ask("*"), 405, 400, "RFC 9112 3.2.4: only OPTIONS asks of the server as a whole"),
    "no host": (ask("/data").replace(b"Host: story.test\r\n", b""), 200, 400, "RFC 9112 3.2"),
    "two hosts": (ask("/data", "Host: other.test"), 200, 400, "RFC 9112 3.2"),
    "a whole URL": (ask("http://story.test/data"), 404, 200, "RFC 9112 3.2.2: servers have to understand it"),
    "CONNECT": (ask("a.test:80", method="CONNECT"), 404, 405, "nothing here opens tunnels to anywhere"),
    "chunks in 1.0": (
        ask("/echo", "Transfer-Encoding: chunked", method="POST", version="1.0", body=b"0\r\n\r\n"), 200, 400,
        "RFC 9112 6.1: what stands before us may see another request there",
    ),
    "folded": (ask("/data", "X-A: 1\r\n 2"), 200, 400, "RFC 9112 5.2"),
    "a large body": (post("/echo", b"z" * 2_000_000, "text/plain"), 200, 413, "there is a bound"),
    "too long": (ask("/toolong"), 200, 0, "what is too much would be read as the next response"),
    "too short": (ask("/tooshort"), 0, 0, "cut off in either case; stock keeps a kept connection waiting instead"),
    "dropping": (ask("/dropping"), 0, 0, "the resource has closed the connection"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
@pytest_twisted.ensureDeferred
async def test_different(sites: Sites, case: str) -> None:
    """Where the two sites differ, they do so for a reason."""
    data, *statuses, reason = DIFFERENT[case]
    assert reason
    got = []
    for number in (0, 1):
        try:
            got.append((await sites.one(number, data)).status)
        except h11.RemoteProtocolError:
            got.append(0)
    assert got == statuses


@pytest_twisted.ensureDeferred
async def test_notAskedInVain(sites: Sites) -> None:
    """RFC 9110 10.1.1: a client whose body is here already need not be told to go on; stock tells it."""
    data = post("/echo", b"a=1", "application/x-www-form-urlencoded", "Expect: 100-continue")
    stock, ours = [await sites.one(number, data) for number in (0, 1)]
    assert [[status for status, _ in message.interims] for message in (stock, ours)] == [[100], []]
    assert ours.body == stock.body


@pytest_twisted.ensureDeferred
async def test_keptAlive(sites: Sites) -> None:
    """Every sort of answer leaves its connection fit for the next, with both sites alike."""
    for number in (0, 1):
        client = sites.client(number)
        for target in ("/data", "/later", "/push", "/pull", "/nothing", "/empty", "/files/page.txt", "/wsgi/x", "/nowhere"):
            assert (await client.get(target)).status in (200, 204, 404), target
        await client.ask("HEAD", "/later")
        assert (await client.response("HEAD")).status == 200
        assert (await client.get("/data")).body == b"some data"


@pytest_twisted.ensureDeferred
async def test_sessionKept(sites: Sites) -> None:
    """A session is found again by its cookie."""
    for number in (0, 1):
        client = sites.client(number)
        first = await client.get("/session")
        cookie = (first[b"set-cookie"] or b"").partition(b";")[0].decode()
        await client.ask("GET", "/session", (f"Cookie: {cookie}",))
        second = await client.response()
        assert (first.body, second.body, second[b"set-cookie"]) == (b"1", b"2", None)
