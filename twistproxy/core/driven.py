# -*- test-case-name: tests.core.test_driven -*-
"""
Driving the coroutine of a hook that an exchange waits for.

C{Deferred.fromCoroutine} would do, and does wherever a Deferred is wanted.  But it makes one Deferred of every step and
one of the whole, and a director that is C{async def} runs for every request: here the exchange itself is told, which
saves a fifth of what such a director costs (measured: 1.2 us).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Driven:
    """
    A coroutine on its way.  It may wait for Deferreds, as everywhere in Twisted.
    """

    __slots__ = ("_awaited", "_coroutine", "_ended", "_run", "_within")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        within: Callable[..., Any],
        inside: Context,
        ended: Callable[[Any], None],
    ) -> None:
        """
        @param within: calls a function in the context of the exchange.
        @param inside: a copy of that, for steps that happen inside another hook of the same exchange: a context
            cannot be entered twice.
        @param ended: called once, with what the coroutine returns or with a L{Failure}; perhaps from L{start}.
        """
        self._coroutine = coroutine
        self._within = within
        self._run = inside.run
        self._ended = ended
        self._awaited: Deferred[Any] | None = None

    def start(self) -> None:
        """
        Run it until it waits.
        """
        self._resume(None)

    def cancel(self) -> None:
        """
        Let what it waits for fail with C{CancelledError}, now; it may take its time to finish.
        """
        if self._awaited is not None:
            self._awaited.cancel()

    def _resume(self, result: Any) -> None:
        """
        Go on with what it waited for.
        """
        self._awaited = None
        coroutine = self._coroutine
        while True:
            try:
                if isinstance(result, Failure):
                    awaited = self._run(self._within, result.throwExceptionIntoGenerator, coroutine)
                else:
                    awaited = self._run(self._within, coroutine.send, result)
            except StopIteration as stop:
                result = stop.value
                break
            except BaseException:
                result = Failure()
                break
            if isinstance(awaited, Deferred):
                self._awaited = awaited
                awaited.addBoth(self._resume)
                return
            result = awaited  # a stranger to Twisted gets back what it yields, and says itself what is wrong
        # Not from inside of the clauses above: what it raises has nothing to do with the coroutine.
        self._ended(result)
