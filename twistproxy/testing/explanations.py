# -*- test-case-name: tests.test_testing_explanations -*-
"""
The exchanges that a test has begun, for whoever has to find out why it failed.

They are explained when somebody asks, which is hardly ever: until then all that this costs is a reference to each.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twistproxy.core.exchange import Exchange, ExchangeContext
from twistproxy.message import Request

#: How many exchanges are kept, the latest ones.
KEPT = 20


def explanations(exchanges: Any) -> str:
    """
    @param exchanges: an iterable of exchanges.
    @return: why each went as it did, for people.
    """
    return "\n".join(_explained(exchange) for exchange in exchanges)


def _explained(exchange: Exchange) -> str:
    try:
        return str(exchange.explain())
    except Exception as error:  # a test's own trouble must not be hidden behind that of explaining it
        return f"{exchange!r} cannot be explained: {error!r}"


class ExchangeWitness:
    """
    Sees the beginning of every exchange of this process, whatever site, resource or memory it belongs to.

    It is for test runners; L{twistproxy.testing.pytestplugin} is one's.

    @ivar exchanges: the latest exchanges.
    @ivar begun: how many there have been since L{forget}.
    @ivar watching: whether it keeps what it sees.
    """

    def __init__(self) -> None:
        self.exchanges: deque[Exchange] = deque(maxlen=KEPT)
        self.begun = 0
        self.watching = True
        self._original: Any = None

    def install(self) -> None:
        """
        Begin to watch.  Sites that were made before are not seen.
        """
        original = self._original = ExchangeContext.begin

        def begin(context: ExchangeContext, downstream: Any, request: Request) -> Exchange:
            exchange = original(context, downstream, request)
            if self.watching:
                self.begun += 1
                self.exchanges.append(exchange)
            return exchange

        ExchangeContext.begin = begin  # type: ignore[method-assign,assignment]

    def uninstall(self) -> None:
        """
        Watch no longer.
        """
        ExchangeContext.begin = self._original  # type: ignore[method-assign]
        self.forget()

    def forget(self) -> None:
        """
        Another test begins.
        """
        self.exchanges.clear()
        self.begun = 0

    def __str__(self) -> str:
        before = self.begun - len(self.exchanges)
        told = explanations(self.exchanges)
        return f"({before} exchanges before these)\n{told}" if before else told
