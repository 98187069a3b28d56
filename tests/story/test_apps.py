"""
Story: applications on aiohttp and on uvicorn behind the proxy, streaming in both directions.
"""

from __future__ import annotations

import hashlib
import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.support import apps
from tests.support.apps import PIECES

DATA = hashlib.shake_128(b"app").digest(2_000_000)


@pytest.fixture(params=["aiohttp", "uvicorn"])
def application(request: pytest.FixtureRequest) -> Iterator[str]:
    """A running application: its target."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        process = subprocess.Popen(
            [sys.executable, apps.__file__, request.param, str(listening.fileno())],
            pass_fds=[listening.fileno()],
            cwd=Path(apps.__file__).parent,
        )
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest_twisted.ensureDeferred
async def test_upload(serve: Any, application: str, chunked: bool) -> None:
    """B4.1: an upload arrives whole, with a length and without."""
    served = serve(application)
    client = served.client()
    for _ in range(2):
        if chunked:
            await client.ask("POST", "/sum", ("Transfer-Encoding: chunked",))
            for start in range(0, len(DATA), 50_000):
                await client.send(b"c350\r\n" + DATA[start : start + 50_000] + b"\r\n")
            await client.send(b"0\r\n\r\n")
        else:
            await client.ask("POST", "/sum", (), DATA)
        response = await client.response()
        assert response.body == b"2000000 " + hashlib.sha256(DATA).hexdigest().encode()
    assert [record.error for record in await served.settled(2)] == [None, None]
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_download(serve: Any, application: str) -> None:
    """B5.4: a response of many small pieces arrives whole."""
    served = serve(application)
    response = await served.client().get("/many")
    assert (response.status, response.body) == (200, b"".join(PIECES))
    await served.settled()


@pytest_twisted.ensureDeferred
async def test_bothWaysAtOnce(serve: Any, application: str) -> None:
    """B4.4, B5.4: a response that begins before its request has ended, piece for piece, and then in full flow."""
    served = serve(application)
    client = served.client()
    await client.ask("POST", "/echo", ("Transfer-Encoding: chunked",))
    for number in range(100):
        piece = b"piece %d" % number
        await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if number == 0:
            await client.head()
        received = b""
        while len(received) < len(piece):
            received += await client.chunk()
        assert received == piece

    async def upload() -> None:
        for start in range(0, len(DATA), 50_000):
            await client.send(b"c350\r\n" + DATA[start : start + 50_000] + b"\r\n")
        await client.send(b"0\r\n\r\n")

    uploading = Deferred.fromCoroutine(upload())
    received = bytearray()
    while piece := await client.chunk():
        received += piece
    await uploading
    assert bytes(received) == DATA
    [record] = await served.settled()
    assert (record.status, record.error, record.requestBytes) == (200, None, record.responseBytes)
