"""Rewrite HTML on the fly."""

import re

from twistproxy import ProxySite, ReverseProxy

BANNER = b"<p>A test system</p>"
isBody = re.compile(rb"<body[^>]*>", re.IGNORECASE).search
ENOUGH = 64 * 1024


async def addBanner(chunks, message):
    held = b""
    if (message.headers.get("Content-Type") or b"").startswith(b"text/html"):
        message.headers.removeAll(["ETag", "Last-Modified", "Accept-Ranges"])  # of the page as it was
        async for chunk in chunks:
            held += chunk
            found = isBody(held)
            if found:
                yield held[: found.end()] + BANNER
                held = held[found.end() :]
            if found or len(held) > ENOUGH:
                break
    yield held
    async for chunk in chunks:
        yield chunk


def makeSite(reactor, origin="http://localhost:3000"):
    def direct(request):
        request.setTarget(origin)
        request.setXForwarded()
        request.outbound.headers.removeAll(["Accept-Encoding", "If-None-Match", "If-Modified-Since", "Range"])

    return ProxySite(ReverseProxy(direct, responseFilters=[addBanner], reactor=reactor), reactor=reactor)
