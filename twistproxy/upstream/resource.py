# -*- test-case-name: tests.upstream.test_resource -*-
"""
A C{twisted.web} resource tree as an upstream, without a socket: the proxy's own client speaks to the stock server in
memory, so a resource meets what it meets behind a real port, sessions, ranges, producers and C{notifyFinish} included.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from twistproxy.globalreactor import reactorOf
from twistproxy.upstream.endpoint import EndpointTarget
from twistproxy.upstream.inmemory import InMemoryEndpoint

#: The largest request body by default, in bytes: a stock site holds it all before it asks for a resource.
MAX_BODY = 64 * 1024 * 1024


@attrs.frozen(init=False, eq=False)
class ResourceTarget(EndpointTarget):
    """
    A resource tree in this process.
    """

    def __init__(
        self,
        root: Any,
        *,
        host: str = "localhost",
        path: bytes = b"",
        maxBody: int | None = MAX_BODY,
        parseForms: bool = True,
        requestFactory: type[Request] = Request,
        reactor: Any = None,
    ) -> None:
        """
        @param root: an L{IResource<twisted.web.resource.IResource>}.
        @param host: what stands in C{Host}, unless the client's is kept.
        @param path: the base path.
        @param maxBody: the largest request body in bytes, as all of it is collected (above 100 kB in a temporary file)
            before the resource is asked; more is answered with 413.  C{None} for no bound.
        @param parseForms: whether forms are parsed into C{request.args}, which takes memory.
        @param requestFactory: the class of the resource's requests.
        @param reactor: the reactor; the global one by default.
        @raise TypeError: if C{root} is no resource.
        """
        if not IResource.providedBy(root):
            raise TypeError(f"{root!r} is no IResource")
        site = _Site(
            root, _bounded(requestFactory, maxBody), parsePOSTFormSubmission=parseForms, reactor=reactorOf(reactor)
        )
        # how long a connection may be idle is for the pool to say, which has the other end of it
        site.timeOut = None
        self.__attrs_init__(
            scheme="http",
            host=host,
            port=80,
            path=path,
            endpoint=InMemoryEndpoint(site, reactor),
            called=f"resource:{type(root).__name__}",
        )


class _Site(Site):
    """
    A site that nobody listens with.
    """

    def __repr__(self) -> str:
        return f"<site of {self.resource!r}>"


class _Bounded(Request):
    """
    Refuses a body that is too large, as soon as that shows.
    """

    maxBody: int | None = None
    _left: int | None = None
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """
        See L{Request.gotLength<twisted.web.http.Request>}: C{None} for chunks.
        """
        super().gotLength(length)
        self._left = self.maxBody
        if self._left is not None and length is not None and length > self._left:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """
        See L{Request.handleContentChunk<twisted.web.http.Request>}.
        """
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._refuse()
                return
        super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """
        See L{Request.requestReceived<twisted.web.http.Request>}: all of the body has come.
        """
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        if not self._refused:
            self._refused = True
            channel: Any = self.channel
            channel.transport.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            channel.loseConnection()


def _bounded(requestFactory: type[Request], most: int | None) -> type[Request]:
    if most is None:
        return requestFactory
    return type("BoundedRequest", (_Bounded, requestFactory), {"maxBody": most})
