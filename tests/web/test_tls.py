"""
A stock site behind TLS of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import serverFromString
from twisted.internet.utils import getProcessOutputAndValue

from tests.net.peers import until
from tests.support.certificates import Authority
from tests.support.programs import program


@pytest_twisted.ensureDeferred
async def test_upload(mount: Callable[..., Any], warmReactor: Any, tmp_path: Path) -> None:
    """An upload streams through TLS, the upstream is told of the scheme, and an early refusal arrives whole."""
    mounted = mount(streaming=True, impatient=True)
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("site", "DNS:localhost,IP:127.0.0.1")
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    port = await serverFromString(warmReactor, endpoint).listen(mounted.site)
    try:
        address = f"https://127.0.0.1:{port.getHost().port}/up"
        body = tmp_path / "body"
        body.write_bytes(b"x" * 3_000_000)
        common = ("-sS", "--http1.1", "--cacert", str(authority.file), "-T", str(body), address)
        asking = getProcessOutputAndValue(program("curl"), [*common, "-w", "|%{http_code}"])
        connection = await mounted.origin.acceptRequest()
        head = await connection.head()
        assert b"\r\nX-Forwarded-Proto: https\r\n" in head
        if b"\r\nExpect: " in head:
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await connection.exactly(3_000_000) == body.read_bytes()
        await connection.answer(b"taken")
        assert await asking == (b"taken|200", b"", 0)
    finally:
        await port.stopListening()
        await until(lambda: not any(each._channel.transport.connected for each in mounted.site.channels))
