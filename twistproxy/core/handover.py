# -*- test-case-name: tests.web.test_tree -*-
"""
Passing an exchange on although somebody has it already.

A resource tree does so.  It takes every exchange of its site, and gives some of them away: to a proxy that is
found at the head, or behind a login that had to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from twistproxy.core.exchange import Exchange


def contextOf(exchange: Exchange) -> Context:
    """
    @return: a new C{contextvars} context for code that has an exchange before a proxy may get it.
    """
    context: Context = exchange._context.variables.copy()
    return context


def handOver(exchange: Exchange, respond: Callable[[Exchange], Any]) -> None:
    """
    Give an exchange of which nothing was sent to somebody else.  A flow that waits for it is closed.  Its limit of time
    goes on, until a proxy puts one of its own in the place.

    @param respond: takes the exchange over, and may return what is to be waited for.
    """
    flow, exchange._flow = exchange._flow, None
    if flow is not None:
        flow.close()
    exchange.start(respond)
