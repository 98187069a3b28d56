"""Strip a secret from responses: from header fields and from the body, even where it is cut in two by chunks."""

from twistproxy import ProxySite, ReverseProxy


def makeSite(reactor, origin="http://localhost:3000", secret=b"hunter2"):
    def clean(response):
        response.headers.removeAll(["Server", "X-Powered-By", "X-Debug"])

    async def strip(chunks, message):
        held = b""
        async for chunk in chunks:
            held = (held + chunk).replace(secret, b"*" * len(secret))
            safe = max(len(held) - len(secret) + 1, 0)  # what may be the beginning of a secret waits
            yield held[:safe]
            held = held[safe:]
        yield held

    def plain(request):
        request.setTarget(origin)
        request.setXForwarded()
        request.outbound.headers.remove("Accept-Encoding")  # nobody finds a secret in compressed bytes
        request.outbound.headers.remove("Range")  # nor in half of a body

    proxy = ReverseProxy(plain, modifyResponse=clean, responseFilters=[strip], reactor=reactor)
    return ProxySite(proxy, reactor=reactor)
