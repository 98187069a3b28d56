"""
A tree behind TLS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import serverFromString
from twisted.internet.utils import getProcessOutputAndValue
from twisted.web.resource import Resource
from zope.interface import implementer

from tests.net.peers import until
from tests.support.certificates import Authority
from tests.support.programs import program
from tests.web.trees import Leaf
from twistproxy import ProxySite, Response
from twistproxy.web.mounted import IExchangeResource


@implementer(IExchangeResource)
class Taking(Resource):
    """Takes exchanges, and answers how they came."""

    isLeaf = True

    def enter(self, exchange: Any, prepath: Any) -> None:
        """Answer."""
        exchange.answer(Response(200, {}, exchange.request.peer.scheme))


@pytest_twisted.ensureDeferred
async def test_secure(warmReactor: Any, tmp_path: Path) -> None:
    """
    A request over TLS says so: its sessions are secure ones, its addresses C{https}, and a proxy in the tree tells its
    upstream.  Clients that say what they speak (ALPN), as all browsers do, are not turned away.
    """

    def render(request: Any) -> bytes:
        request.getSession().expire()
        return b"%r %b" % (request.isSecure(), request.prePathURL().split(b":")[0])

    root = Resource()
    root.putChild(b"a", Leaf(render))
    root.putChild(b"b", Taking())
    site = ProxySite(root, reactor=warmReactor)
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("site", "DNS:localhost,IP:127.0.0.1")
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    port = await serverFromString(warmReactor, endpoint).listen(site)
    try:
        address = f"https://127.0.0.1:{port.getHost().port}/a"
        asking = ["-sS", "--http1.1", "--cacert", str(authority.file), "-D", "-", address]
        said, problem, code = await getProcessOutputAndValue(program("curl"), asking)
        assert (problem, code) == (b"", 0)
        head, _, body = said.partition(b"\r\n\r\n")
        assert body == b"True https"
        assert b"Set-Cookie: TWISTED_SECURE_SESSION=" in head
        assert b"; Secure" in head
        said, _, code = await getProcessOutputAndValue(program("curl"), [*asking[:-1], address[:-1] + "b"])
        assert (said.partition(b"\r\n\r\n")[2], code) == (b"https", 0)
    finally:
        await port.stopListening()
        await until(lambda: not site.connections, "the end of the connection")
