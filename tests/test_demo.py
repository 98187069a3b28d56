"""
The demo origin.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.web.resource import IResource
from twisted.web.test.requesthelper import DummyRequest
from zope.interface.verify import verifyObject

from twistproxy.demo import DemoOrigin, demoSite


def page(**fields: bytes) -> tuple[Any, bytes]:
    """@return: a request and the page it gets."""
    request = DummyRequest([b""])
    request.uri = b"/<script>?a=1"
    request.clientproto = b"HTTP/1.1"
    for name, value in fields.items():
        request.requestHeaders.addRawHeader(name.encode().replace(b"_", b"-"), value)
    return request, DemoOrigin().render(request)


def test_text() -> None:
    """curl gets text that says what was forwarded."""
    request, body = page(x_forwarded_for=b"192.0.2.1", accept=b"*/*")
    assert body.startswith(b"twistproxy works.")
    assert b"\n  GET /<script>?a=1 HTTP/1.1\n" in body
    assert b"\n  X-Forwarded-For: 192.0.2.1\n" in body
    assert request.responseHeaders.getRawHeaders(b"content-type") == [b"text/plain; charset=utf-8"]


def test_page() -> None:
    """A browser gets a page, in which nothing that came in can become a part of it."""
    request, body = page(accept=b"text/html,*/*", x_evil=b"<b>\xe4")
    assert body.startswith(b"<!DOCTYPE html>")
    assert b"<script>" not in body
    assert b"&lt;script&gt;?a=1" in body
    assert "<td>X-Evil</td><td>&lt;b&gt;\xe4</td>".encode() in body
    assert request.responseHeaders.getRawHeaders(b"content-type") == [b"text/html; charset=utf-8"]


@pytest.mark.parametrize("name", [b"", b"any", b"deep"])
def test_everywhere(name: bytes) -> None:
    """It answers for every path."""
    origin = DemoOrigin()
    assert verifyObject(IResource, origin)
    assert origin.isLeaf is True
    assert demoSite().resource.isLeaf is True
