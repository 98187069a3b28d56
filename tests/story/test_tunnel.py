"""
Story: upgrades.  Behind the 101 bytes are opaque, none is lost, and each side's end reaches the other.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import turn, until
from tests.support.peers import Client, OriginConnection, statusOf
from twistproxy.deadlines import Timeouts
from twistproxy.errors import Side, Stage
from twistproxy.message import Response

UPGRADE = ("Connection: Upgrade", "Upgrade: any")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"


async def tunnel(served: Any, origin: Any) -> tuple[Client, OriginConnection]:
    """
    @return: both ends of a tunnel.
    """
    client = served.client()
    await client.ask("GET", "/tunnel", UPGRADE)
    upstream = await origin.accept()
    head = (await upstream.head()).lower()
    assert b"\r\nconnection: upgrade\r\n" in head
    assert b"\r\nupgrade: any\r\n" in head
    await upstream.send(SWITCH)
    head = await client.head()
    assert statusOf(head) == 101
    assert b"\r\nupgrade: any\r\n" in head.lower()
    return client, upstream


@pytest_twisted.ensureDeferred
async def test_bytesBothWays(serve: Any, origin: Any) -> None:
    """B6.1: any bytes, both ways, in any order."""
    client, upstream = await tunnel(serve(origin.target), origin)
    for number in range(20):
        piece = hashlib.shake_128(b"%d" % number).digest(number * 500 + 1)
        await client.send(piece)
        assert await upstream.exactly(len(piece)) == piece
        await upstream.send(piece[::-1])
        assert await client.exactly(len(piece)) == piece[::-1]


@pytest_twisted.ensureDeferred
async def test_bytesRightBehindTheSwitch(serve: Any, origin: Any) -> None:
    """B6.1: what the upstream sends in the same segment as its 101 is not lost."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("GET", "/", UPGRADE)
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(SWITCH + b"HTTP/1.1 200 is what this is not\r\n\r\n")
    assert statusOf(await client.head()) == 101
    assert await client.head() == b"HTTP/1.1 200 is what this is not\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_bytesBehindTheRequestAreHeld(serve: Any, origin: Any) -> None:
    """B6.1: what the client sends behind its request goes upstream when the 101 has come, and not before."""
    served = serve(origin.target)
    client = served.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\neager")
    upstream = await origin.accept()
    await upstream.head()
    assert upstream.buffer == b""
    await client.send(b" bytes")
    # an exchange that begins later than the bytes came, and is through before them
    other = served.client()
    await other.ask("GET", "/other")
    another = await origin.accept()
    await another.request()
    await another.answer()
    assert (await other.response()).status == 200
    assert upstream._receive(1) == []
    await upstream.send(SWITCH)
    assert await upstream.exactly(11) == b"eager bytes"
    await client.head()
    await client.send(b"!")
    assert await upstream.exactly(1) == b"!"


@pytest_twisted.ensureDeferred
async def test_moreThanIsHeld(serve: Any, origin: Any) -> None:
    """B6.1: a client that sends much behind its request is held up, and loses nothing."""
    served = serve(origin.target)
    client = served.client()
    data = hashlib.shake_128(b"much").digest(2_000_000)
    await client.ask("GET", "/", UPGRADE)
    upstream = await origin.accept()
    await upstream.head()
    rest = memoryview(data)
    for _ in range(50):
        await turn()
        try:
            rest = rest[client.socket.send(rest[:65536]) :]
        except BlockingIOError:
            pass
    [connection] = served.site.connections
    assert 64 * 1024 <= len(connection._buffer) <= 128 * 1024 + 65536
    await upstream.send(SWITCH)
    received = bytearray()
    while len(received) < len(data):
        if rest:
            try:
                rest = rest[client.socket.send(rest[:65536]) :]
            except BlockingIOError:
                pass
        received += b"".join(upstream._receive(65536))
        await turn()
    assert upstream.buffer + bytes(received) == data


@pytest_twisted.ensureDeferred
async def test_clientHalfCloses(serve: Any, origin: Any) -> None:
    """B6.3: the client's end of file travels upstream, and the other direction runs on to its own end."""
    served = serve(origin.target)
    client, upstream = await tunnel(served, origin)
    await client.send(b"question")
    client.halfClose()
    assert await upstream.exactly(8) == b"question"
    assert await upstream.fill() is False
    data = bytes(300_000)
    sending = Deferred.fromCoroutine(upstream.send(data))
    assert await client.exactly(len(data)) == data
    await sending
    upstream.close()
    assert await client.ending() == "closed"
    [record] = await served.settled()
    assert (record.status, record.error, record.requestBytes, record.responseBytes) == (101, None, 8, 300_000)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_upstreamHalfCloses(serve: Any, origin: Any) -> None:
    """B6.3: and the other way round."""
    served = serve(origin.target)
    client, upstream = await tunnel(served, origin)
    await upstream.send(b"all")
    upstream.halfClose()
    assert await client.exactly(3) == b"all"
    assert await client.fill() is False
    await client.send(b"still talking")
    assert await upstream.exactly(13) == b"still talking"
    client.close()
    assert await upstream.ending() == "closed"
    [record] = await served.settled()
    assert (record.status, record.error, record.requestBytes, record.responseBytes) == (101, None, 13, 3)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_upstreamResets(serve: Any, origin: Any) -> None:
    """B6.3: a reset of the upstream's side resets the client's, and is the upstream's fault."""
    served = serve(origin.target)
    client, upstream = await tunnel(served, origin)
    upstream.reset()
    assert await client.ending() == "reset"
    [record] = await served.settled()
    assert (record.error.side, record.error.stage) == (Side.UPSTREAM, Stage.TUNNEL)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_resetBehindAHalfClose(serve: Any, origin: Any) -> None:
    """B6.3: a client that has closed its half can still reset the rest."""
    served = serve(origin.target)
    client, upstream = await tunnel(served, origin)
    client.halfClose()
    assert await upstream.fill() is False
    client.reset()
    with pytest.raises(ConnectionError):
        while True:
            await upstream.send(bytes(65536))
    [record] = await served.settled()
    assert (record.error.side, record.error.stage) == (Side.DOWNSTREAM, Stage.TUNNEL)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_idleTunnel(serve: Any, origin: Any) -> None:
    """B6.4: a tunnel in which nothing moves ends, if there is a limit; one with traffic lives on."""
    served = serve(origin.target, timeouts=Timeouts(tunnelIdle=0.3))
    busy, upstream = await tunnel(served, origin)
    idle, other = await tunnel(served, origin)
    while not served.records:
        await busy.send(b"x")
        await upstream.exactly(1)
    [record] = served.records
    assert (record.error.timeout, record.error.stage) == ("tunnelIdle", Stage.TUNNEL)
    assert await idle.ending() == "reset"
    assert await other.ending() == "reset"
    await upstream.send(b"alive")
    assert await busy.exactly(5) == b"alive"


@pytest_twisted.ensureDeferred
async def test_neitherSideReads(serve: Any, origin: Any) -> None:
    """B6.4: both directions have backpressure: who is not read cannot send for ever, and nothing is lost."""
    served = serve(origin.target)
    client, upstream = await tunnel(served, origin)
    data = hashlib.shake_128(b"backpressure").digest(1 << 16)
    totals = []
    for sender in (client, upstream):
        total = 0
        idle = 0
        # until it has been unable to send for many turns
        while idle < 50:
            try:
                total += sender.socket.send(data[total % 65536 :])
                idle = 0
            except BlockingIOError:
                idle += 1
                await turn()
        totals.append(total)
        assert total < 40_000_000
    for reader, total in ((upstream, totals[0]), (client, totals[1])):
        whole = data * (total // 65536 + 1)
        assert await reader.exactly(total) == whole[:total]


@pytest_twisted.ensureDeferred
async def test_refusedUpgrade(serve: Any, origin: Any) -> None:
    """B6.2: a refusal is an ordinary response, and what the client sends then is HTTP."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("GET", "/", UPGRADE)
    upstream = await origin.accept()
    await upstream.head()
    await upstream.answer(b"no", "403 Forbidden")
    assert (await client.response()).status == 403
    await client.ask("GET", "/next")
    assert (await upstream.request()).target == b"/next"
    await upstream.answer(b"yes")
    assert (await client.response()).body == b"yes"


@pytest_twisted.ensureDeferred
async def test_switchThatNobodyAskedFor(serve: Any, origin: Any) -> None:
    """B6.2: a 101 without an upgrade, or to another protocol, is a 502, and its connection is reset."""
    served = serve(origin.target)
    for fields, answer in (((), SWITCH), (UPGRADE, SWITCH.replace(b"any", b"other"))):
        client = served.client()
        await client.ask("GET", "/", fields)
        upstream = await origin.accept()
        await upstream.head()
        await upstream.send(answer)
        assert (await client.response()).status == 502
        assert await upstream.ending() == "reset"


@pytest_twisted.ensureDeferred
async def test_modifierSeesTheSwitch(serve: Any, origin: Any, loggedErrors: list[Any]) -> None:
    """B3.3: modifyResponse runs for a 101; when it raises, there is no tunnel and the upstream's connection ends."""
    seen: list[int] = []

    def modify(response: Response) -> None:
        seen.append(response.status)
        if len(seen) == 2:
            raise ValueError("no")

    served = serve(origin.target, modifyResponse=modify, errorHandler=lambda error, exchange: Response(599))
    await tunnel(served, origin)
    client = served.client()
    await client.ask("GET", "/", UPGRADE)
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(SWITCH)
    assert (await client.response()).status == 599
    assert await upstream.ending() == "reset"
    assert seen == [101, 101]
    await served.settled()
    assert len(loggedErrors) == 1
    loggedErrors.clear()


@pytest.mark.parametrize("goes", ["close", "reset"])
@pytest_twisted.ensureDeferred
async def test_upstreamGoesBeforeTheTunnelBegins(serve: Any, origin: Any, goes: str) -> None:
    """B3.3, B7.2: an upstream that is gone when modifyResponse has done with its 101 leaves a 502, or an empty tunnel."""
    waiting: list[Deferred[None]] = []

    def modify(response: Response) -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[0]

    served = serve(origin.target, modifyResponse=modify)
    client = served.client()
    await client.ask("GET", "/", UPGRADE)
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(SWITCH + b"bye")
    await until(lambda: waiting, "the modifier's call")
    getattr(upstream, goes)()
    for _ in range(20):
        await turn()
    waiting[0].callback(None)
    head = await client.head()
    if statusOf(head) == 101:
        assert await client.exactly(3) == b"bye"
        client.close()
    else:
        assert statusOf(head) == 502
    await served.settled()
    await served.calm()
