# -*- test-case-name: tests.web.test_tree -*-
"""
Resources that take an exchange as it is.

Under a L{ProxySite<twistproxy.proxy.ProxySite>} such a resource is given the exchange of our own wire when the head of
a request is here: no C{twisted.web.server.Request} stands between it and the connection, so its bodies stream both
ways, with interim responses, trailers and upgrades.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import Interface, implementer

from twistproxy.interfaces import IDownstream
from twistproxy.message import Response


class IExchangeResource(Interface):
    """
    Marks a resource that takes exchanges.
    """

    def enter(exchange: Any, prepath: Sequence[bytes]) -> None:
        """
        Take over C{exchange}: it will be answered, or aborted, exactly once.  Returns at once.

        @type exchange: L{Exchange<twistproxy.core.exchange.Exchange>}
        @param prepath: the segments of the request's path that led here.
        """


@implementer(IDownstream)
class MountedDownstream:
    """
    The server side of a wire as a mounted responder sees it: the same, but that somebody is told of the end.
    """

    __slots__ = ("_ended", "_inner")

    def __init__(self, inner: Any, ended: Callable[[], None]) -> None:
        """
        @param inner: the wire's L{IDownstream}.
        @param ended: called when the exchange has settled, before the next one begins.
        """
        self._inner = inner
        self._ended = ended

    @property
    def transport(self) -> Any:
        """
        The connection's byte transport.
        """
        return self._inner.transport

    def sendHead(self, response: Response, length: int | None, content: bytes, end: bool) -> None:
        """
        See L{IDownstream.sendHead}.
        """
        self._inner.sendHead(response, length, content, end)

    def switchProtocols(self, response: Response) -> Any:
        """
        See L{IDownstream.switchProtocols}.
        """
        return self._inner.switchProtocols(response)

    def sendInformational(self, status: int, reason: bytes, lines: list[bytes]) -> None:
        """
        See L{IDownstream.sendInformational}.
        """
        self._inner.sendInformational(status, reason, lines)

    def write(self, data: bytes) -> None:
        """
        See L{IDownstream.write}.
        """
        self._inner.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        """
        See L{IDownstream.finish}.
        """
        self._inner.finish(trailers)

    def abort(self) -> None:
        """
        See L{IDownstream.abort}.
        """
        self._inner.abort()

    def setProducer(self, producer: Any) -> None:
        """
        See L{IDownstream.setProducer}.
        """
        self._inner.setProducer(producer)

    def exchangeEnded(self) -> None:
        """
        See L{IDownstream.exchangeEnded}.
        """
        self._ended()
        self._inner.exchangeEnded()
