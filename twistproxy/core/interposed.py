# -*- test-case-name: tests.core.test_interposed -*-
"""
Standing between an exchange and its client: whatever looks at the response's head on its way out, or waits for the end.

This is for parts that wrap responders.  An exchange that nobody has asked about has nothing of it in its way.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVarTuple

from zope.interface import implementer

from twistproxy.interfaces import IDownstream
from twistproxy.message import Response

if TYPE_CHECKING:
    from twistproxy.core.exchange import Exchange

_Rest = TypeVarTuple("_Rest")


@implementer(IDownstream)
class InterposedDownstream:
    """
    Passes everything on.  A subclass says what becomes of heads, and what happens at the end.

    @ivar downstream: what it passes them on to.
    """

    __slots__ = ("downstream",)

    def __init__(self, downstream: Any) -> None:
        """
        @param downstream: an L{IDownstream<twistproxy.interfaces.IDownstream>}.
        """
        self.downstream = downstream

    def linesOf(self, response: Response) -> list[bytes]:
        """
        @param response: a final response, or a 101.
        @return: the header lines that it is to have; it is not to be changed itself.
        """
        return response.lines

    def ended(self) -> None:
        """
        The exchange has settled.
        """

    def sendInformational(self, status: int, reason: bytes, lines: list[bytes]) -> None:
        """
        See L{IDownstream.sendInformational<twistproxy.interfaces.IDownstream>}.
        """
        self.downstream.sendInformational(status, reason, lines)

    def sendHead(self, response: Any, length: int | None, content: bytes, end: bool) -> None:
        """
        See L{IDownstream.sendHead<twistproxy.interfaces.IDownstream>}.
        """
        self.downstream.sendHead(_withLines(response, self.linesOf(response)), length, content, end)

    def write(self, data: bytes) -> None:
        """
        See L{IDownstream.write<twistproxy.interfaces.IDownstream>}.
        """
        self.downstream.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        """
        See L{IDownstream.finish<twistproxy.interfaces.IDownstream>}.
        """
        self.downstream.finish(trailers)

    def abort(self) -> None:
        """
        See L{IDownstream.abort<twistproxy.interfaces.IDownstream>}.
        """
        self.downstream.abort()

    def setProducer(self, producer: Any) -> None:
        """
        See L{IDownstream.setProducer<twistproxy.interfaces.IDownstream>}.
        """
        self.downstream.setProducer(producer)

    def switchProtocols(self, response: Any) -> Any:
        """
        See L{IDownstream.switchProtocols<twistproxy.interfaces.IDownstream>}.
        """
        return self.downstream.switchProtocols(_withLines(response, self.linesOf(response)))

    def exchangeEnded(self) -> None:
        """
        See L{IDownstream.exchangeEnded<twistproxy.interfaces.IDownstream>}.
        """
        try:
            self.ended()
        finally:
            self.downstream.exchangeEnded()


def _withLines(response: Any, lines: list[bytes]) -> Any:
    """
    @return: a response with these header lines: where they are others than its own a copy, as it may be somebody's who
        will send it again.
    """
    if lines is response.lines:
        return response
    response = copy(response)
    response.lines = lines
    return response


def interpose(exchange: Exchange, between: Callable[[Any, *_Rest], InterposedDownstream], *rest: *_Rest) -> None:
    """
    Put something between an exchange and its client, before anything is sent.

    @param between: makes it of the L{IDownstream<twistproxy.interfaces.IDownstream>} that is there,
    @param rest: and of these.
    """
    exchange._downstream = between(exchange._downstream, *rest)


def beneath(downstream: Any) -> Any:
    """
    @return: what is there without anything interposed.
    """
    while isinstance(downstream, InterposedDownstream):
        downstream = downstream.downstream
    return downstream
