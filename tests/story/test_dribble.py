"""
Story: bytes go on as they come.  Nothing waits for more, whatever the direction and however small the pieces.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import turn, until
from twistproxy.limits import Limits
from twistproxy.net.network import Network

#: Every byte is given a turn of the reactor, so the whole 64 KiB are dribbled in one framing per direction only.
WHOLE = 64 * 1024
PART = 8 * 1024
MB = 1024 * 1024
DATA = hashlib.shake_128(b"dribble").digest(WHOLE)


@pytest.mark.parametrize(("chunked", "size"), [(False, WHOLE), (True, PART)], ids=["length", "chunked"])
@pytest_twisted.ensureDeferred
async def test_uploadByteByByte(serve: Any, origin: Any, chunked: bool, size: int) -> None:
    """B4.1: what a client sends byte by byte arrives as it was."""
    data = DATA[:size]
    served = serve(origin.target)
    client = served.client()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    await client.ask("POST", "/up", (framing,))
    upstream = await origin.accept()
    for place in range(size):
        byte = data[place : place + 1]
        await client.send(b"1\r\n" + byte + b"\r\n" if chunked else byte)
        await turn()
        if place == 0:
            # the first byte is there before the second has been sent
            await upstream.head()
            if chunked:
                assert await upstream.chunk() == data[:1]
                upstream.buffer = b"1\r\n" + data[:1] + b"\r\n" + upstream.buffer
            else:
                assert await upstream.exactly(1) == data[:1]
                upstream.buffer = data[:1] + upstream.buffer
    if chunked:
        await client.send(b"0\r\n\r\n")
        received = bytearray()
        while piece := await upstream.chunk():
            received += piece
        assert bytes(received) == data
    else:
        assert await upstream.exactly(size) == data
    await upstream.answer(b"thanks")
    assert (await client.response()).body == b"thanks"
    [record] = await served.settled()
    assert (record.status, record.requestBytes, record.error) == (200, size, None)
    await served.calm()


@pytest.mark.parametrize(("framing", "size"), [("length", PART), ("chunked", WHOLE), ("close", PART)])
@pytest_twisted.ensureDeferred
async def test_downloadByteByByte(serve: Any, origin: Any, framing: str, size: int) -> None:
    """B5.4: what an upstream sends byte by byte arrives as it was."""
    data = DATA[:size]
    served = serve(origin.target)
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    await upstream.head()
    field = {
        "length": f"Content-Length: {size}",
        "chunked": "Transfer-Encoding: chunked",
        "close": "X-Framing: none",
    }[framing]
    await upstream.send(f"HTTP/1.1 200 OK\r\n{field}\r\n\r\n".encode())
    for place in range(size):
        byte = data[place : place + 1]
        await upstream.send(b"1\r\n" + byte + b"\r\n" if framing == "chunked" else byte)
        await turn()
    if framing == "chunked":
        await upstream.send(b"0\r\n\r\n")
    elif framing == "close":
        upstream.close()
    response = await client.response()
    assert (response.status, response.body) == (200, data)
    [record] = await served.settled()
    assert (record.responseBytes, record.error) == (size, None)
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_headsByteByByte(serve: Any, origin: Any) -> None:
    """B1, B5.1: heads may come byte by byte too, with the line ends torn apart."""
    served = serve(origin.target)
    client = served.client()
    for byte in b"POST /slow HTTP/1.1\r\nHost: story.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: 1\r\n\r\n":
        await client.send(bytes([byte]))
        await turn()
    upstream = await origin.accept()
    request = await upstream.request()
    assert (request.method, request.target, request.body) == (b"POST", b"/slow", b"hello")
    assert request.trailers == [(b"x-t", b"1")]
    for byte in b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\nDate: now\r\n\r\nok":
        await upstream.send(bytes([byte]))
        await turn()
    response = await client.response()
    assert (response.status, response.reason, response.body) == (201, b"Created", b"ok")
    assert [status for status, _ in response.interims] == [103]


@pytest_twisted.ensureDeferred
async def test_uploadIsSeenBeforeItsEnd(serve: Any, origin: Any) -> None:
    """B4.1, B4.4: the head goes upstream before any byte of the body has come, and each piece before the next."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("PUT", "/up", ("Content-Length: 10",))
    upstream = await origin.accept()
    assert (await upstream.head()).startswith(b"PUT /up HTTP/1.1\r\n")
    for piece in (b"abc", b"defg", b"hij"):
        await client.send(piece)
        assert await upstream.exactly(len(piece)) == piece
    await upstream.answer()
    assert (await client.response()).status == 200


@pytest.mark.parametrize("pause", [2 * MB, 7 * MB, 8 * MB - 1])
@pytest_twisted.ensureDeferred
async def test_longUploadThatPauses(serve: Any, origin: Any, pause: int) -> None:
    """B4.1: when a fast sender of many megabytes goes on with one byte only, that goes upstream all the same."""
    served = serve(origin.target)
    client = served.client()
    await client.ask("PUT", "/up", (f"Content-Length: {8 * MB}",))
    upstream = await origin.accept()
    await upstream.head()
    data = DATA * (8 * MB // WHOLE)

    for begin, end in ((0, pause - 1), (pause - 1, pause), (pause, len(data))):
        sending = Deferred.fromCoroutine(client.send(data[begin:end]))
        assert await upstream.exactly(end - begin) == data[begin:end]
        await sending
    await upstream.answer()
    assert (await client.response()).status == 200
    # the next request of the connection is small, and waits for nothing either
    await client.ask()
    assert (await upstream.request()).method == b"GET"
    await upstream.answer()
    assert (await client.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_longUploadThatIsGivenUp(serve: Any, origin: Any, network: Network) -> None:
    """B4.5: with the connection of a long upload that is answered in the middle goes all that was timed for it.

    What measures the sender's pauses was left in the wheel.
    """
    served = serve(origin.target, limits=Limits(discarded=MB))
    client = served.client()
    await client.ask("PUT", "/up", (f"Content-Length: {50 * MB}",))
    upstream = await origin.accept()
    await upstream.head()
    sending = Deferred.fromCoroutine(client.send(bytes(4 * MB)))
    await upstream.exactly(2 * MB)
    await upstream.answer(status="413 Content Too Large", fields=("Connection: close",))
    upstream.close()
    await sending
    assert (await client.response()).status == 413
    client.close()
    await until(lambda: not served.site.connections)
    assert network.wheel.scheduled() == []


@pytest_twisted.ensureDeferred
async def test_responseHeadBeforeItsBody(serve: Any, origin: Any) -> None:
    """B5.1: the response head goes out before any byte of the body has come."""
    served = serve(origin.target)
    client = served.client()
    await client.ask()
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")
    await upstream.send(b"later")
    assert await client.exactly(5) == b"later"


@pytest_twisted.ensureDeferred
async def test_eachChunkAtOnce(serve: Any, origin: Any) -> None:
    """B5.4: server-sent events arrive one by one, each as soon as it was sent, even with a flush interval."""
    from twistproxy.core.settings import ProxySettings

    served = serve(origin.target, settings=ProxySettings(flushInterval=3600.0))
    client = served.client()
    await client.ask("GET", "/events")
    upstream = await origin.accept()
    await upstream.head()
    await upstream.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    await client.head()
    for number in range(50):
        event = b"data: %d\n\n" % number
        await upstream.send(b"%x\r\n%b\r\n" % (len(event), event))
        assert await client.chunk() == event
    await upstream.send(b"0\r\n\r\n")
    assert await client.chunk() == b""
