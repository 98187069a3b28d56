"""
Story: the client leaves.  Whatever ran for it ends at once, whichever phase it was in, and the record says which.

A client leaves with a reset, or with an end of file, which counts as leaving everywhere but in a tunnel (B7.1).
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import turn, until
from tests.support.peers import Client, fullListener
from twistproxy.errors import ClientLeft, Side, Stage
from twistproxy.upstream.pool import PoolSettings


def closes(client: Client) -> None:
    """Leave with an end of file."""
    client.close()


def halfCloses(client: Client) -> None:
    """Only close the sending side: counts as gone, too."""
    client.halfClose()


def resets(client: Client) -> None:
    """Leave with a reset."""
    client.reset()


leaves = pytest.mark.parametrize("leave", [closes, halfCloses, resets])


async def left(served: Any, stage: Stage) -> Any:
    """
    Wait until the one exchange has settled, and look at its record.

    @return: the record.
    """
    [record] = await served.settled()
    assert isinstance(record.error, ClientLeft)
    assert (record.status, record.error.status) == (499, 499)
    assert (record.error.side, record.error.stage) == (Side.DOWNSTREAM, stage)
    await served.calm()
    await until(lambda: not served.site.connections, "the end of the connection")
    return record


@leaves
@pytest_twisted.ensureDeferred
async def test_whileTheDirectorWaits(serve: Any, origin: Any, leave: Any) -> None:
    """B7.1, B3.1: a director that waits is cancelled, and nothing is sent upstream."""
    cancelled: list[Any] = []
    asked: list[Any] = []

    def director(request: Any) -> Any:
        asked.append(request)
        return Deferred(cancelled.append)

    served = serve(director)
    client = served.client()
    await client.ask()
    await until(lambda: asked, "the director's call")
    leave(client)
    record = await left(served, Stage.DIRECT)
    assert len(cancelled) == 1
    assert record.tries == 0
    assert origin.pending() == []


@leaves
@pytest_twisted.ensureDeferred
async def test_whileACoroutineOfTheDirectorWaits(serve: Any, leave: Any) -> None:
    """B7.1, B3.1: so is one that is a coroutine; it can tidy up."""
    steps: list[str] = []

    async def director(request: Any) -> None:
        steps.append("begun")
        try:
            await Deferred()
        finally:
            steps.append("tidied up")

    served = serve(director)
    client = served.client()
    await client.ask()
    await until(lambda: steps, "the director's call")
    leave(client)
    await left(served, Stage.DIRECT)
    assert steps == ["begun", "tidied up"]


@leaves
@pytest_twisted.ensureDeferred
async def test_whileInTheQueue(serve: Any, origin: Any, leave: Any) -> None:
    """B7.1, B8.2: its place in the line for a capped pool is given up; the line behind it moves on."""
    served = serve(origin.target, pool=PoolSettings(maxConnections=1))
    first, second, third = served.client(), served.client(), served.client()
    await first.ask("GET", "/first")
    upstream = await origin.accept()
    assert (await upstream.request()).target == b"/first"
    await second.ask("GET", "/second")
    [pool] = served.pools
    await until(lambda: len(pool.waiting) == 1, "the second in the line")
    await third.ask("GET", "/third")
    await until(lambda: len(pool.waiting) == 2, "the third in the line")
    leave(second)
    await until(lambda: len(pool.waiting) == 1, "the second to leave the line")
    [record] = served.records
    assert isinstance(record.error, ClientLeft)
    assert (record.status, record.error.stage, record.tries) == (499, Stage.QUEUE, 0)
    await upstream.answer()
    assert (await first.response()).status == 200
    assert (await upstream.request()).target == b"/third"
    await upstream.answer()
    assert (await third.response()).status == 200
    assert origin.pending() == []
    await served.calm()


@leaves
@pytest_twisted.ensureDeferred
async def test_whileConnecting(serve: Any, leave: Any) -> None:
    """B7.1: an attempt to connect is given up: the kernel stops trying."""
    listening, fillers = fullListener()
    try:
        number = listening.getsockname()[1]
        served = serve(f"http://127.0.0.1:{number}")
        before = attempts(number)
        client = served.client()
        await client.ask()
        await until(lambda: attempts(number) == before + 1, "an attempt to connect")
        leave(client)
        record = await left(served, Stage.CONNECT)
        assert record.tries == 0
        assert attempts(number) == before
    finally:
        for sock in (listening, *fillers):
            sock.close()


def attempts(number: int) -> int:
    """
    @return: the sockets of this machine that are trying to connect to a port of the loopback interface (SYN_SENT).
    """
    remote = f"0100007F:{number:04X}"
    with open("/proc/net/tcp") as table:
        return sum(1 for line in table if line.split()[2:4] == [remote, "02"])


@leaves
@pytest_twisted.ensureDeferred
async def test_whileWaitingForTheHead(serve: Any, origin: Any, leave: Any) -> None:
    """B7.1: the upstream's connection is reset and never used again."""
    served = serve(origin.target)
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    await upstream.request()
    leave(client)
    assert await upstream.ending() == "reset"
    record = await left(served, Stage.WAIT)
    assert record.tries == 1
    assert [pool.connections for pool in served.pools] == [0]


@leaves
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest_twisted.ensureDeferred
async def test_whileUploading(serve: Any, origin: Any, leave: Any, chunked: bool) -> None:
    """B4.5: in the middle of an upload the upstream sees a reset, never the end of a complete request."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("POST", "/", ("Transfer-Encoding: chunked" if chunked else "Content-Length: 1000",))
    await client.send(b"5\r\nhello\r\n" if chunked else b"hello")
    upstream = await origin.accept()
    await upstream.head()
    await upstream.upTo(b"hello")
    leave(client)
    assert await upstream.ending() == "reset"
    assert b"0\r\n\r\n" not in upstream.buffer
    record = await left(served, Stage.SEND)
    assert record.requestBytes == 5


@leaves
@pytest_twisted.ensureDeferred
async def test_whileStreamingTheResponse(serve: Any, origin: Any, leave: Any) -> None:
    """B7.1: the upstream is not made to send what nobody will read."""
    served = serve(origin.target)
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    await upstream.request()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello")
    await client.head()
    assert await client.exactly(5) == b"hello"
    leave(client)
    assert await upstream.ending() == "reset"
    record = await left(served, Stage.BODY)
    assert record.responseBytes == 5


@pytest_twisted.ensureDeferred
async def test_whileItDoesNotRead(serve: Any, origin: Any) -> None:
    """B7.1: a client that leaves in the middle of a download which it did not keep up with is noticed as well."""
    served = serve(origin.target)
    client = served.client(receiveBuffer=4096)
    await client.ask()
    upstream = await origin.accept()
    await upstream.request()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.head()
    piece = b"10000\r\n" + bytes(65536) + b"\r\n"
    for _ in range(8):
        await upstream.send(piece)
    client.reset()
    assert await upstream.ending() == "reset"
    await left(served, Stage.BODY)


# Stock transports do not notice the end of a connection that they do not read, so this is a promise of the hub's.
@pytest.mark.parametrize("networkKind", ["hub"], indirect=False)
@leaves
@pytest_twisted.ensureDeferred
async def test_whileTheUpstreamDoesNotRead(serve: Any, makeOrigin: Any, leave: Any) -> None:
    """B7.1, B4.2: a client that leaves while its upload is held up is noticed at once, although nothing is read of it."""
    origin = makeOrigin(receiveBuffer=4096)
    served = serve(origin.target)
    client = served.client()
    await client.ask("PUT", "/", ("Content-Length: 100000000",))
    upstream = await origin.accept()
    await upstream.head()
    [connection] = served.site.connections
    # what the client still sends when its bytes are not taken any more
    while connection.transport._reading:
        client.socket.send(bytes(65536))
        await turn(0.001)
    leave(client)
    await left(served, Stage.SEND)
    assert await upstream.ending() == "reset"


@pytest_twisted.ensureDeferred
async def test_inATunnel(serve: Any, origin: Any) -> None:
    """B6.3, B7.1: a reset of the client's side of a tunnel resets the upstream's."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("GET", "/", ("Connection: Upgrade", "Upgrade: any"))
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nhi")
    await client.head()
    assert await client.exactly(2) == b"hi"
    client.reset()
    assert await upstream.ending() == "reset"
    await left(served, Stage.TUNNEL)


@pytest_twisted.ensureDeferred
async def test_anotherExchangeIsUntouched(serve: Any, origin: Any) -> None:
    """B7.4: one client's leaving ends its own exchange only."""
    served = serve(origin.target)
    leaver, stayer = served.client(), served.client()
    await leaver.ask("GET", "/leaver")
    first = await origin.accept()
    await first.request()
    await stayer.ask("GET", "/stayer")
    second = await origin.accept()
    await second.request()
    leaver.reset()
    assert await first.ending() == "reset"
    await second.answer(b"still here")
    assert (await stayer.response()).body == b"still here"
    await stayer.ask("GET", "/again")
    assert (await second.request()).target == b"/again"
    await second.answer()
    assert (await stayer.response()).status == 200
