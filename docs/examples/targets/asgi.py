"""
An ASGI application of this process behind a proxy.
"""

from twisted.internet import asyncioreactor

asyncioreactor.install()  # before anything else imports the reactor; or: twist --reactor=asyncio

from twisted.internet import reactor  # noqa: E402

from twistproxy import ProxySite, ReverseProxy  # noqa: E402
from twistproxy.targets import ASGITarget  # noqa: E402


async def application(scope, receive, send):
    assert scope["type"] == "http"
    host, _ = scope["client"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"hello {host}, from {scope['path']}".encode()})


ProxySite(ReverseProxy.to(ASGITarget(application))).listen("tcp:8080")
reactor.run()
