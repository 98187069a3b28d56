"""
An application on two servers that people put behind a proxy, as a program of its own::

    python -m tests.support.apps aiohttp|uvicorn DESCRIPTOR

The descriptor is a listening socket.  C{POST /sum} answers with the length and SHA-256 of the body, C{POST /echo} sends each
piece back as it comes, C{GET /many} streams a megabyte in small pieces.
"""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Callable
from typing import Any

#: What C{/many} consists of.
PIECES = [b"%06d\n" % number * 10 for number in range(15000)]


def aiohttpServer(sock: socket.socket) -> None:
    """Serve with aiohttp."""
    from aiohttp import web

    async def sumUp(request: web.Request) -> web.Response:
        digest, size = hashlib.sha256(), 0
        async for piece in request.content.iter_any():
            digest.update(piece)
            size += len(piece)
        return web.Response(text=f"{size} {digest.hexdigest()}")

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response

    async def many(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in PIECES:
            await response.write(piece)
        return response

    application = web.Application(client_max_size=0)
    application.add_routes([web.post("/sum", sumUp), web.post("/echo", echo), web.get("/many", many)])
    web.run_app(application, sock=sock, print=None, access_log=None)


def uvicornServer(sock: socket.socket) -> None:
    """Serve with uvicorn."""
    import uvicorn

    async def application(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []}) if scope[
            "path"
        ] != "/sum" else None
        digest, size, more = hashlib.sha256(), 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            piece, more = message.get("body", b""), message.get("more_body", False)
            digest.update(piece)
            size += len(piece)
            if scope["path"] == "/echo" and piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if scope["path"] == "/many":
            for piece in PIECES:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        last = b""
        if scope["path"] == "/sum":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            last = f"{size} {digest.hexdigest()}".encode()
        await send({"type": "http.response.body", "body": last})

    uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off", interface="asgi3")).run(
        [sock]
    )


if __name__ == "__main__":
    {"aiohttp": aiohttpServer, "uvicorn": uvicornServer}[sys.argv[1]](socket.socket(fileno=int(sys.argv[2])))
