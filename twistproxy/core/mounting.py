# -*- test-case-name: tests.web.test_tree -*-
"""
What whoever stands between a server's wire and a responder may do to an exchange: look at its connection, put
something in front of that, and pass the exchange on although somebody has it already.

A resource tree is such a one.  It takes every exchange of its site, and gives some of them away: to a proxy that is
found at the head, or behind a login that had to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from twistproxy.core.exchange import Exchange


def downstreamOf(exchange: Exchange) -> Any:
    """
    @return: the server side of an exchange's connection, an L{IDownstream<twistproxy.interfaces.IDownstream>}.
    """
    return exchange._downstream


def interpose(exchange: Exchange, downstream: Any) -> None:
    """
    From now on the exchange speaks to C{downstream}.

    @param downstream: an L{IDownstream<twistproxy.interfaces.IDownstream>}, which passes on what it is told.
    """
    exchange._downstream = downstream


def contextOf(exchange: Exchange) -> Context:
    """
    @return: a new C{contextvars} context for code that has an exchange before a proxy may get it.
    """
    context: Context = exchange._context.variables.copy()
    return context


def handOver(exchange: Exchange, respond: Callable[[Exchange], None]) -> None:
    """
    Give an exchange of which nothing was sent to somebody else.  A flow that waits for it is closed, and its limit of
    time with it.

    @param respond: takes the exchange over.
    """
    flow, exchange._flow = exchange._flow, None
    if flow is not None:
        flow.close()
    if exchange._limit is not None:
        exchange._limit.cancel()
        exchange._limit = None
    try:
        respond(exchange)
    except Exception:
        exchange._log.failure("the responder failed on {exchange}", exchange=exchange)
        exchange._lastResort()
