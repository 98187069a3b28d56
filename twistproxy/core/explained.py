# -*- test-case-name: tests.core.test_explained -*-
"""
Explanations for operators: in the log, and for a trusted peer that asks, with the response.

    >>> curl -i -H 'X-Proxy-Explain: 1' http://proxy/path

The answer stands in C{X-Proxy-Explain} fields of the response, one per line of the text, as far as things are known
when its head is sent; the log tells the rest under the same request id.

Only a client that is itself in the trusted set is answered.  A trusted proxy in front passes on what its own clients
send, and an explanation names upstreams and errors that are none of their business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from twistproxy.core.exchange import Exchange
from twistproxy.core.hooks import ResponderLike
from twistproxy.core.interposed import InterposedDownstream, interpose
from twistproxy.interfaces import IResponder, hookOf
from twistproxy.message import Request, Response
from twistproxy.rules.fields import EXPLAIN, FORWARDING, VIA
from twistproxy.rules.forwarded import Network, isTrusted, networks

#: How many lines a response tells at most, and how long each may be, in bytes: together less than the 4 KiB that many
#: clients and proxies allow a head.
MOST_LINES = 24
LONGEST_LINE = 120

_ASKED = 1 << EXPLAIN

# Not an attribute of a class: the event would hold the object that it comes from, and whoever keeps the event with it.
_log = Logger()


@implementer(IResponder)
class Explained:
    """
    Wraps a responder, and explains its exchanges.  Those that nobody asks about cost one look at the request.

    @ivar responder: what is wrapped.
    @ivar always: whether every exchange is explained in the log, or only those that a trusted client asks about.
    """

    def __init__(self, responder: ResponderLike, *, always: bool = True, trusted: Sequence[Network | str] = ()) -> None:
        """
        @param responder: an L{IResponder<twistproxy.interfaces.IResponder>}, or a callable that takes over an exchange.
        @param always: explain every exchange in the log.
        @param trusted: clients that may ask, by sending C{X-Proxy-Explain: 1}: addresses or networks.
        @raise ValueError: if one of them is neither.
        """
        self.responder = responder
        self.always = always
        self._respond: Callable[[Exchange], Any] = hookOf(responder, IResponder, "respond")
        self._trusted = tuple(
            network for given in trusted for network in (networks([given]) if isinstance(given, str) else [given])
        )

    def respond(self, exchange: Exchange) -> Any:
        """
        See L{IResponder.respond<twistproxy.interfaces.IResponder>}.
        """
        asked = bool(self._trusted) and bool(exchange.request.kinds & _ASKED) and self._mayAsk(exchange.request)
        if asked or self.always:
            interpose(exchange, _Explaining, exchange, asked)
        return self._respond(exchange)

    def _mayAsk(self, request: Request) -> bool:
        """
        @return: whether the request asks for an explanation, and its client is one of those who get one.
        """
        if not any(kind == EXPLAIN and value not in (b"", b"0") for kind, _, _, value, _ in request.fields):
            return False
        claims = [value for _, _, name, value, _ in request.fields if name == b"x-forwarded-for"]
        members = [member.strip() for value in claims for member in value.split(b",")]
        if not claims and any(kind in (FORWARDING, VIA) for kind, *_ in request.fields):
            return False  # passed on for somebody of whom we are not told
        return all(isTrusted(each, self._trusted) for each in (request.peer.host, *map(_text, members)))


class _Explaining(InterposedDownstream):
    """
    Tells how an exchange went.
    """

    def __init__(self, downstream: Any, exchange: Exchange, asked: bool) -> None:
        super().__init__(downstream)
        self._exchange = exchange
        self._asked = asked

    def linesOf(self, response: Response) -> list[bytes]:
        """
        See L{InterposedDownstream.linesOf}.
        """
        if not self._asked:
            return response.lines
        told = [_fieldLine(line) for line in self._exchange.explain().lines()]
        if len(told) > MOST_LINES:
            told[MOST_LINES - 1 :] = [_fieldLine(f"and {len(told) - MOST_LINES + 1} lines more in the log")]
        # what was made for one client's eyes is not for a cache
        return [*response.lines, *told, b"Cache-Control: no-store"]

    def ended(self) -> None:
        """
        See L{InterposedDownstream.ended}.
        """
        _log.info("{explanation}", explanation=self._exchange.explain())


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _fieldLine(text: str) -> bytes:
    value = text.strip().encode("ascii", "backslashreplace")
    return b"X-Proxy-Explain: " + (value if len(value) <= LONGEST_LINE else value[: LONGEST_LINE - 3] + b"...")
