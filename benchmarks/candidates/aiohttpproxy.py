"""
A reverse proxy written with aiohttp, server and client, on uvloop: what an asyncio programmer would write
in an afternoon.

Streams both ways, strips the hop-by-hop headers, adds X-Forwarded-*. No access log.

Usage: aiohttpproxy.py PORT ORIGINPORT
"""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

HOP_BY_HOP = (
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
)
# aiohttp's client would add these of its own.
NOT_OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


def endToEnd(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """
    Copy headers without those that end at the proxy.
    """
    kept = headers.copy()
    named = [name.strip() for line in headers.getall("Connection", []) for name in line.split(",")]
    for name in (*HOP_BY_HOP, *named):
        kept.popall(name, None)
    return kept


class Proxy:
    """
    One target and the connections to it.
    """

    def __init__(self, session: ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """
        Forward a request and stream its answer back.
        """
        headers = endToEnd(request.headers)
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Host"] = request.host
        headers["X-Forwarded-Proto"] = request.scheme
        headers.popall("Host", None)
        async with self.session.request(
            request.method,
            URL(self.base + request.raw_path, encoded=True),
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
        ) as upstream:
            response = web.StreamResponse(status=upstream.status, headers=endToEnd(upstream.headers))
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


async def main(port: int, originPort: int) -> None:
    """
    Serve until the process is ended.
    """
    async with ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=60.0),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=NOT_OURS,
    ) as session:
        runner = web.ServerRunner(
            web.Server(Proxy(session, f"http://127.0.0.1:{originPort}").serve, access_log=None)
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*(int(argument) for argument in sys.argv[1:])))
