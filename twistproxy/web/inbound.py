# -*- test-case-name: tests.web.test_inbound -*-
"""
What a stock C{twisted.web} request asks, read again by our own rules.

C{twisted.web} lets pass what an upstream may read differently: two Hosts or none, chunks in HTTP/1.0, a Content-Length
beside C{Transfer-Encoding: identity}.  So its head is written out and parsed by the parser of our own wire, which
refuses all of that, and no second set of rules can drift away from the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from twisted.web.http import Request as SiteRequest
from zope.interface import implementer

from twistproxy.errors import ClientError, MalformedMessage, Stage
from twistproxy.interfaces import IBody
from twistproxy.limits import Limits
from twistproxy.message import Peer, Request
from twistproxy.wire.h1head import parseRequest

#: Read from a temporary file at a time, in bytes.
_PIECE = 65536


def inboundRequest(request: SiteRequest, limits: Limits, streamed: Any = None, expect: Sequence[bytes] = ()) -> Request:
    """
    Read a stock request.

    @param request: the request; its head, and the body unless that is streamed, have come.
    @param limits: the bounds.
    @param streamed: its body, if that is still coming, an L{IBody<twistproxy.interfaces.IBody>}.
    @param expect: what the client expects; only of interest while the body is still to come.
    @return: the request, with C{fault} set if it must be refused.
    """
    address = request.getClientAddress()
    scheme = b"https" if request.isSecure() else b"http"
    peer = Peer(getattr(address, "host", None) or "", getattr(address, "port", None) or 0, scheme)
    second = request.clientproto == b"HTTP/2"
    lines = [b"%b %b %b" % (request.method, request.uri, b"HTTP/1.1" if second else request.clientproto)]
    for name, values in request.requestHeaders.getAllRawHeaders():
        if second and name.lower() == b"host":
            values = list(dict.fromkeys(values))  # the authority, and a Host that says the same
        if name.lower() != b"expect":
            lines += [b"%b: %b" % (name, value) for value in values]
    if streamed is not None:
        lines += [b"Expect: " + value for value in expect]
    try:
        inbound = parseRequest(b"\r\n".join(lines), peer, limits.requestFields)
    except MalformedMessage as fault:
        return refusedRequest(request, peer, ClientError(fault.reason, fault.status, Stage.HEAD))
    if second:
        inbound.minor = 2
    if streamed is not None:
        inbound.body = streamed
        inbound.upgrade = None  # the bytes behind the head are the body's
    else:
        inbound.body, inbound.length = bufferedBody(request.content)
    return inbound


def refusedRequest(request: SiteRequest, peer: Peer, fault: Any) -> Request:
    """
    @return: a request that is to be refused, with as much of its head as can be told.
    """
    inbound = Request(peer, request.method, request.uri, 1, [], [], [])
    inbound.fault = fault
    return inbound


def bufferedBody(content: Any) -> tuple[Any, int]:
    """
    @param content: the file in which C{twisted.web} has collected a body, or C{None}.
    @return: the body, and its length in bytes.
    """
    if content is None:
        return b"", 0
    length: int = content.seek(0, 2)
    content.seek(0, 0)
    if length == 0 or isinstance(content, BytesIO):
        return content.read(), length
    return FileBody(content, length), length


@implementer(IBody)
class FileBody:
    """
    A body that lies in a file: read piece by piece, as fast as its consumer takes it.

    @ivar length: its length in bytes.
    """

    def __init__(self, content: Any, length: int) -> None:
        """
        @param content: a file, at its beginning.
        """
        self._content = content
        self._left = length
        self._consumer: Any = None
        self._paused = False
        self._running = False
        self.length: int | None = length

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        self._consumer = consumer
        consumer.registerProducer(self, True)
        self._run()

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._consumer is not None and not self._paused and self._left:
                piece = self._content.read(min(_PIECE, self._left))
                if not piece:
                    self._end(ClientError("the collected request body is shorter than it was", 400, Stage.SEND))
                    return
                self._left -= len(piece)
                self._consumer.write(piece)
            if not self._left:
                self._end(None)
        finally:
            self._running = False

    def _end(self, error: Exception | None) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        consumer.unregisterProducer()
        if error is None:
            consumer.finish([])
        else:
            consumer.fail(error)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._run()

    def stopProducing(self) -> None:
        self._consumer = None
