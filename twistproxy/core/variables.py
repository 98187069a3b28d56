# -*- test-case-name: tests.core.test_variables -*-
"""
Context variables of an exchange.

All hooks of one exchange run in one C{contextvars.Context}, so that what a director sets (a tenant, a trace) is there
in its filters, modifiers and observers, and never in another exchange.  C{Deferred.fromCoroutine} alone would not do:
it runs each coroutine in a copy of its own, and what one hook sets is lost to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from twisted.internet.defer import Deferred


class _Entered:
    """
    Stands where an exchange keeps its context while a hook runs in that: one hook may lead to the next, as a filter
    that writes the end of a body leads to the observers, and a context cannot be entered twice.
    """

    __slots__ = ()

    def run(self, hook: Callable[..., Any], *arguments: Any) -> Any:
        """
        @return: what C{hook} returns.
        """
        return hook(*arguments)


ENTERED = _Entered()


class HookCoroutine(Coroutine[Any, Any, Any]):
    """
    A hook's coroutine, each of whose steps runs in its exchange's context.
    """

    __slots__ = ("_coroutine", "_run")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], run: Callable[..., Any]) -> None:
        """
        @param run: calls a function in the context.
        """
        self._coroutine = coroutine
        self._run = run

    def send(self, value: Any) -> Any:
        return self._run(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._run(self._coroutine.throw, *error)

    def close(self) -> None:
        self._run(self._coroutine.close)

    def __await__(self) -> Any:
        raise TypeError("it is driven already")


def startCoroutine(coroutine: Coroutine[Any, Any, Any], within: Callable[..., Any]) -> Deferred[Any]:
    """
    Run a hook's coroutine in the context of its exchange.

    @param within: calls a function in that.
    @return: a Deferred of its result.
    """
    # Begun in a copy, which serves for those of its steps that happen inside another hook of the same exchange.
    inside: Deferred[Any] = within(copy_context).run(Deferred.fromCoroutine, HookCoroutine(coroutine, within))
    return inside
