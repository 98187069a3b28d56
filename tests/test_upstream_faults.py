"""
What an upstream must not do, through a whole proxy (B5.2, B5.3, B5.5, B5.6, B5.8, B6.2).

The upstream is played byte by byte.  Whatever it does wrong, the client is told so or cut off, nothing of its connection is used again, the
log names the side and the stage, and the client's next request, on the connection that it has, is served as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.faults import BREAKS, CHUNKED, CHUNKS, ENDINGS, HEADS, OK, head
from tests.support.memory import MemoryTransport
from tests.support.world import World, echo, readResponses
from twistproxy.errors import Sent, Side, Stage

GET = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET /first HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
WAYS = ("whole", "in pieces")


@pytest.fixture
def world() -> Iterator[World]:
    """A proxy whose upstream does nothing by itself; at its end nothing is left."""
    world = World()
    world.origin.answer = None
    yield world
    world.end()


def inAllWays() -> Iterator[tuple[str, World]]:
    """The same for each of the L{WAYS}."""
    for way in WAYS:
        world = World()
        world.origin.answer = None
        yield way, world
        world.end()


def ask(world: World, request: bytes = GET) -> MemoryTransport:
    """
    @return: a client that has sent a request, which has reached the upstream.
    """
    client = world.client()
    client.send(request)
    assert len(world.origin.requests) == 1
    return client


def play(line: MemoryTransport, data: bytes, way: str) -> None:
    """Send what the upstream sends."""
    size = len(data) if way == "whole" else 1 if len(data) < 6000 else 997
    for at in range(0, len(data), size or 1):
        line.queue(data[at : at + size])
    line.send(b"") if not data else line._network.run()


def end(line: MemoryTransport, how: str) -> None:
    """End the upstream's connection."""
    if how == "EOF":
        line.sendEOF()
    else:
        line.sendReset()


def unharmed(world: World, client: MemoryTransport) -> None:
    """Nothing of the first upstream connection is used again, and the client's next request is served over another."""
    assert world.upstream(0).lost or world.upstream(0).ended
    assert world.idle == 0
    world.origin.answer = echo
    client.send(SECOND)
    assert len(world.network.dialed) == 2
    assert [(each.status, each.body) for each in readResponses(client.take())] == [(200, b"you asked for /second")]
    assert [each.connection for each in world.origin.requests] == [0, 1]


def failed(world: World, stage: Stage, sent: Sent = Sent.ALL) -> None:
    """How it is logged."""
    [record] = world.records
    assert record.error is not None
    assert (record.error.side, record.error.stage, record.error.sent) == (Side.UPSTREAM, stage, sent)
    assert "origin.test" in record.upstream


@pytest.mark.parametrize("name", HEADS)
def test_head(name: str) -> None:
    """B5.2, B6.2: a head that cannot be forwarded faithfully is a 502, and its connection is closed at once."""
    for way, world in inAllWays():
        client = ask(world)
        play(world.upstream(), HEADS[name], way)
        responses = [each for each in readResponses(client.take()) if each.status != 103]
        [response] = responses
        assert (response.status, response.complete, response[b"connection"]) == (502, True, [])
        assert world.upstream(0).ended == "reset"
        failed(world, Stage.WAIT)
        assert world.records[0].status == 502
        unharmed(world, client)


@pytest.mark.parametrize("name", HEADS)
def test_headOfHEAD(world: World, name: str) -> None:
    """B5.2: the same in answer to a HEAD, whose response is of no length whatever it says: contradictions stay contradictions."""
    client = ask(world, GET.replace(b"GET", b"HEAD"))
    play(world.upstream(), HEADS[name], "whole")
    data = client.take()
    [response] = [each for each in readResponses(data, [b"HEAD"] * 20) if each.status != 103]
    assert (response.status, response.body) == (502, b"")
    assert data.endswith(b"\r\n\r\n")
    unharmed(world, client)


@pytest.mark.parametrize("name", CHUNKS)
def test_chunksAtOnce(world: World, name: str) -> None:
    """B5.2: broken chunks that come with the head are a 502."""
    client = ask(world)
    play(world.upstream(), CHUNKED + CHUNKS[name], "whole")
    [response] = readResponses(client.take())
    assert (response.status, response.complete, world.upstream(0).ended) == (502, True, "reset")
    failed(world, Stage.WAIT)
    unharmed(world, client)


@pytest.mark.parametrize("name", CHUNKS)
def test_chunksLater(name: str) -> None:
    """B5.5: chunks that break when the response is under way cut it off: it has no end."""
    for way, world in inAllWays():
        client = ask(world)
        world.upstream().send(CHUNKED + b"4\r\nwell\r\n")
        play(world.upstream(), CHUNKS[name], way)
        [response] = readResponses(client.take(), ended=True)
        assert (response.status, response.complete, client.ended) == (200, False, "closed")
        assert (response.body.startswith(b"well"), world.upstream(0).ended) == (True, "reset")
        failed(world, Stage.BODY)
        assert (world.records[0].status, world.idle) == (200, 0)


@pytest.mark.parametrize("name", ENDINGS)
def test_endBeforeResponse(name: str) -> None:
    """B5.2: a connection that ends before the final head is complete is a 502."""
    for way, world in inAllWays():
        data, how = ENDINGS[name]
        client = ask(world)
        play(world.upstream(), data, way)
        end(world.upstream(), how)
        [response] = [each for each in readResponses(client.take()) if each.status >= 200]
        assert (response.status, response.complete) == (502, True)
        failed(world, Stage.WAIT)
        unharmed(world, client)


@pytest.mark.parametrize("name", BREAKS)
def test_endInBody(name: str) -> None:
    """B5.5: a body that breaks off cuts the client's response off, too: it is never ended as if complete."""
    for way, world in inAllWays():
        data, how = BREAKS[name]
        client = ask(world)
        play(world.upstream(), data, way)
        end(world.upstream(), how)
        [response] = readResponses(client.take(), ended=True)
        assert (response.status, response.complete, client.ended) == (200, False, "closed")
        failed(world, Stage.BODY)
        assert world.idle == 0


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_endInBodyOfLength(world: World, version: bytes) -> None:
    """B5.5: the same for a client of HTTP/1.0, which is reset where only the end of the connection would end the body."""
    client = ask(world, GET.replace(b"1.1", version))
    world.upstream().send(CHUNKED + b"5\r\nhello\r\n")
    world.upstream().sendReset()
    assert client.ended == ("reset" if version == b"1.0" else "closed")
    assert b"0\r\n\r\n" not in client.take()
    failed(world, Stage.BODY)


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 ", OK, head(status=b"HTTP/1.1 100 Continue")])
def test_stallBeforeResponse(world: World, before: bytes) -> None:
    """B9: no response head within 60 seconds is a 504, an interim one notwithstanding."""
    client = ask(world)
    world.network.advance(30)
    world.upstream().queue(before)
    world.network.advance(29.5)
    assert [each for each in readResponses(client.take()) if each.status >= 200] == []
    world.network.advance(1)
    [response] = readResponses(client.take())
    assert (response.status, response.complete) == (504, True)
    failed(world, Stage.WAIT)
    assert (world.records[0].error.timeout, world.upstream().ended) == ("responseHead", "reset")
    unharmed(world, client)


def test_stallInBody(world: World) -> None:
    """B9, B5.5: 60 seconds without a byte of the body cut it off; slow is not stalled."""
    client = ask(world)
    world.upstream().send(head(b"Content-Length: 100"))
    for _ in range(5):
        world.network.advance(59)
        world.upstream().send(b"x")
    assert client.ended == ""
    world.network.advance(61)
    [response] = readResponses(client.take(), ended=True)
    assert (response.complete, response.body, client.ended) == (False, b"xxxxx", "closed")
    failed(world, Stage.BODY)
    assert (world.records[0].error.timeout, world.upstream().ended) == ("responseBody", "reset")


def test_slowClientIsNoStall(world: World) -> None:
    """B9: where it is the client that does not take the body, the upstream is not blamed."""
    client = ask(world)
    world.upstream().send(head(b"Content-Length: 1000000"))
    client.taking = False
    for _ in range(20):
        world.upstream().queue(b"x" * 32768)
    world.network.run()
    assert not world.upstream().reading
    world.network.advance(59)
    client.taking = True
    world.network.run()
    world.network.advance(30)
    assert (world.upstream().reading, world.upstream().ended, client.ended) == (True, "", "")


# -- what stands where it must not (B5.8)


@pytest.mark.parametrize(
    "behind",
    [b"x", b"\r\n", head(b"Content-Length: 4", status=b"HTTP/1.1 200 Evil") + b"evil"],
    ids=["x", "CRLF", "response"],
)
@pytest.mark.parametrize(
    "response",
    [
        head(b"Content-Length: 5") + b"hello",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        head(b"Content-Length: 0"),
        head(status=b"HTTP/1.1 204 No Content"),
        head(b"Content-Length: 3", status=b"HTTP/1.1 304 Not Modified"),
    ],
    ids=["length", "chunks", "empty", "204", "304"],
)
def test_behind(response: bytes, behind: bytes) -> None:
    """B5.8: what stands behind a complete response reaches nobody, and its connection is not used again."""
    for way, world in inAllWays():
        client = ask(world)
        play(world.upstream(), response + behind, way)
        [first] = readResponses(client.take())
        assert first.complete
        assert first.body == (b"hello" if b"hello" in response else b"")
        assert world.records[0].error is None
        unharmed(world, client)


@pytest.mark.parametrize(
    "unasked",
    [
        head(b"Content-Length: 4") + b"evil",
        head(b"Connection: close", status=b"HTTP/1.1 408 Request Timeout"),
        head(status=b"HTTP/1.1 100 Continue"),
        b"\r\n",
    ],
    ids=["response", "408", "interim", "CRLF"],
)
def test_unaskedOnIdle(world: World, unasked: bytes) -> None:
    """B5.8: whatever comes over an idle connection ends it."""
    client = ask(world)
    world.upstream().send(head(b"Content-Length: 5") + b"hello")
    assert world.idle == 1
    world.upstream().send(unasked)
    assert world.upstream().ended == "closed"
    assert [each.body for each in readResponses(client.take())] == [b"hello"]
    unharmed(world, client)


def test_closedOnIdle(world: World) -> None:
    """B5.8: an idle connection that its upstream closes is not used again."""
    client = ask(world)
    world.upstream().send(head(b"Content-Length: 5") + b"hello")
    world.upstream().sendEOF()
    client.take()
    unharmed(world, client)


@pytest.mark.parametrize(
    "response",
    [
        head(b"Content-Length: 5", b"Connection: close") + b"hello",
        head(b"Content-Length: 5", b"Connection: Close, X") + b"hello",
        head(b"Content-Length: 5", status=b"HTTP/1.0 200 OK") + b"hello",
    ],
)
def test_notKept(world: World, response: bytes) -> None:
    """B5.1, B5.8: a connection that the upstream closes is not used again; that is not the client's business."""
    client = ask(world)
    world.upstream().send(response)
    [first] = readResponses(client.take())
    assert (first.body, first.complete, first[b"connection"]) == (b"hello", True, [])
    unharmed(world, client)


def test_keptInOldVersion(world: World) -> None:
    """B8.2: an upstream of HTTP/1.0 that says keep-alive is used again."""
    client = ask(world)
    world.upstream().send(head(b"Content-Length: 5", b"Connection: keep-alive", status=b"HTTP/1.0 200 OK") + b"hello")
    assert world.idle == 1
    client.take()
    world.origin.answer = echo
    client.send(SECOND)
    assert [each.connection for each in world.origin.requests] == [0, 0]


# -- 101


@pytest.mark.parametrize(
    "response",
    [
        head(b"Connection: Upgrade", b"Upgrade: evil", status=b"HTTP/1.1 101 Switching Protocols"),
        head(b"Connection: Upgrade", b"Upgrade: websocket, evil", status=b"HTTP/1.1 101 Switching Protocols"),
        head(b"Connection: Upgrade", status=b"HTTP/1.1 101 Switching Protocols"),
        head(b"Connection: Upgrade", b"Upgrade:", status=b"HTTP/1.1 101 Switching Protocols"),
    ],
    ids=["another", "more", "none", "empty"],
)
def test_switchToAnother(world: World, response: bytes) -> None:
    """B6.2: a 101 to a protocol that was not asked for is a 502, and its connection is closed at once."""
    client = ask(world, UPGRADE)
    client.queue(SECOND)
    world.upstream().send(response + b"secret")
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert world.upstream(0).ended == "reset"
    failed(world, Stage.WAIT)
    assert len(world.records) == 1
    assert [each.target for each in world.origin.requests] == [b"/first", b"/second"]


def test_switchInMidRequest(world: World) -> None:
    """B6.2: a 101 before the request is complete is a 502: the rest of the body is no byte of the new protocol."""
    client = ask(world, UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\nhello"))
    world.upstream().send(
        head(b"Connection: Upgrade", b"Upgrade: websocket", status=b"HTTP/1.1 101 Switching Protocols")
    )
    [response] = readResponses(client.take())
    assert (response.status, world.upstream().ended) == (502, "reset")
    failed(world, Stage.WAIT, Sent.SOME)


def test_refusedUpgrade(world: World) -> None:
    """B6.2: any other answer to an Upgrade is an ordinary response, and what the client sends behind it is HTTP to the proxy."""
    client = ask(world, UPGRADE)
    client.send(b"\x81\x05hello\r\n\r\n")
    world.upstream().send(head(b"Content-Length: 2") + b"no")
    responses = readResponses(client.take(), ended=True)
    assert [each.status for each in responses] == [200, 400]
    assert world.upstream().take() == b""
    assert (len(world.origin.requests), client.ended) == (1, "closed")


def test_h2c(world: World) -> None:
    """B6.2: an upgrade to h2c is not forwarded, so a 101 to it was not asked for."""
    client = ask(world, UPGRADE.replace(b"websocket", b"h2c"))
    [request] = world.origin.requests
    assert (request[b"upgrade"], request[b"connection"]) == ([], [])
    world.upstream().send(head(b"Connection: Upgrade", b"Upgrade: h2c", status=b"HTTP/1.1 101 Switching Protocols"))
    assert [each.status for each in readResponses(client.take())] == [502]


# -- bodies that are none, and bodies without length


@pytest.mark.parametrize(
    ("method", "response", "length"),
    [
        (b"HEAD", head(b"Content-Length: 5"), [b"5"]),
        (b"HEAD", head(b"Transfer-Encoding: chunked"), []),
        (b"HEAD", head(), []),
        (b"GET", head(b"Content-Length: 5", status=b"HTTP/1.1 304 Not Modified"), [b"5"]),
        (b"GET", head(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 304 Not Modified"), []),
        (b"GET", head(b"Content-Length: 5", status=b"HTTP/1.1 204 No Content"), []),
        (b"POST", head(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 204 No Content"), []),
    ],
)
def test_noBody(method: bytes, response: bytes, length: list[bytes]) -> None:
    """B5.3: HEAD, 204 and 304 have no body whatever their fields say; Content-Length is kept as information, but not in a 204."""
    for way, world in inAllWays():
        client = ask(world, GET.replace(b"GET", method))
        play(world.upstream(), response, way)
        data = client.take()
        [first] = readResponses(data, [method])
        assert (first.complete, first.body, first[b"content-length"], first[b"transfer-encoding"]) == (
            True,
            b"",
            length,
            [],
        )
        assert data.endswith(b"\r\n\r\n")
        assert world.idle == 1
        world.origin.answer = echo
        client.send(SECOND)
        assert [each.connection for each in world.origin.requests] == [0, 0]


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", head(b"Content-Length: 5") + b"hello"),
        (b"HEAD", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"),
        (b"GET", head(b"Content-Length: 5", status=b"HTTP/1.1 304 Not Modified") + b"hello"),
        (b"GET", head(b"Content-Length: 5", status=b"HTTP/1.1 204 No Content") + b"hello"),
    ],
)
def test_bodyWhereNoneMayBe(method: bytes, response: bytes) -> None:
    """B5.3, B5.8: a body that is sent all the same reaches nobody, and its connection is not used again."""
    for way, world in inAllWays():
        client = ask(world, GET.replace(b"GET", method))
        play(world.upstream(), response, way)
        data = client.take()
        assert (data.count(b"HTTP/1.1 "), b"hello" in data) == (1, False)
        assert data.endswith(b"\r\n\r\n")
        unharmed(world, client)


@pytest.mark.parametrize("status", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"])
def test_untilClose(status: bytes) -> None:
    """B5.2: a body that ends with its connection goes to a client of HTTP/1.1 in chunks, and its connection stays."""
    for way, world in inAllWays():
        client = ask(world)
        play(world.upstream(), head(b"Connection: keep-alive", status=status) + b"hello", way)
        world.upstream().send(b" world")
        world.upstream().sendEOF()
        [response] = readResponses(client.take())
        assert (response.body, response.complete) == (b"hello world", True)
        assert (response[b"transfer-encoding"], response[b"connection"]) == ([b"chunked"], [])
        assert world.records[0].error is None
        unharmed(world, client)


def test_untilCloseForOldClient(world: World) -> None:
    """B5.2: to a client of HTTP/1.0 it ends with the connection, which closes although the client would have kept it."""
    client = ask(world, b"GET /first HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    world.upstream().send(OK + b"\r\nhello")
    world.upstream().sendEOF()
    first, _, body = client.take().partition(b"\r\n\r\n")
    assert (body, client.ended) == (b"hello", "closed")
    assert (b"\r\nConnection: close" in first, b"chunked" in first.lower()) == (True, False)


# -- interim responses


def test_interims() -> None:
    """B5.6: interim responses are relayed in order, each once, with their fields but the hop-by-hop ones; sixteen are not too many."""
    for way, world in inAllWays():
        client = ask(world)
        hints = [b"Link: </%d.css>" % number for number in range(15)]
        early = b"".join(head(b"Connection: X", b"X: y", hint, status=b"HTTP/1.1 103 Early Hints") for hint in hints)
        play(
            world.upstream(), head(status=b"HTTP/1.1 102 Processing") + early + head(b"Content-Length: 2") + b"ok", way
        )
        responses = readResponses(client.take())
        assert [each.status for each in responses] == [102] + [103] * 15 + [200]
        assert [each.fields for each in responses[1:-1]] == [[(b"link", hint[6:])] for hint in hints]
        assert responses[-1].body == b"ok"
        assert world.idle == 1


def test_interimsForOldClient(world: World) -> None:
    """B5.6: a client of HTTP/1.0 gets none."""
    client = ask(world, b"GET /first HTTP/1.0\r\n\r\n")
    world.upstream().send(head(status=b"HTTP/1.1 103 Early Hints") + head(b"Content-Length: 2") + b"ok")
    assert client.take().count(b"HTTP/1.1 ") == 1


def test_interimsAreCountedPerExchange(world: World) -> None:
    """B5.6: sixteen for each exchange, not for a connection."""
    world.origin.answer = lambda request: head(status=b"HTTP/1.1 103 Early Hints") * 10 + echo(request)
    client = world.client()
    for _ in range(4):
        client.send(GET)
        assert [each.status for each in readResponses(client.take())] == [103] * 10 + [200]
    assert len(world.network.dialed) == 1


def test_lateInterim(world: World) -> None:
    """B5.6, B5.8: an interim response behind the final one is not relayed, and its connection is not used again."""
    client = ask(world)
    world.upstream().send(head(b"Content-Length: 2") + b"ok")
    client.take()
    world.upstream().send(head(status=b"HTTP/1.1 103 Early Hints"))
    assert client.take() == b""
    unharmed(world, client)


# -- heads that are alike


def test_sameHeadsAgain(world: World) -> None:
    """B2.1, B5.1: what is done to one request or response is not done again to the next that looks the same."""
    world.origin.answer = lambda request: (
        head(b"X-Forwarded-For: origin", b"Connection: X", b"X: y", b"A: b", b"Content-Length: 2") + b"ok"
    )
    client = world.client()
    request = (
        b"GET /same HTTP/1.1\r\nHost: a\r\nConnection: X\r\nX: y\r\nTE: trailers\r\nA: b\r\nVia: 1.1 other\r\n\r\n"
    )
    answers = []
    for _ in range(4):
        client.send(request)
        answers.append(client.take())
    assert answers[0].count(b"\r\nDate: ") == 1
    assert [answer == answers[0] for answer in answers] == [True] * 4
    seen = [[item for item in each.fields if item[0] != b"x-request-id"] for each in world.origin.requests]
    assert seen == [seen[0]] * 4
    assert [name for name, _ in seen[0]].count(b"via") == 2
    # the same block behind another request line means the same, but for another method
    client.send(request.replace(b"GET /same HTTP/1.1", b"HEAD /other HTTP/1.1"))
    assert client.take().endswith(b"\r\n\r\n")
    assert world.origin.requests[-1].target == b"/other"
