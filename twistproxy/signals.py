# -*- test-case-name: tests.test_tap -*-
"""
Signals as calls in the reactor, and how they end a process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_log = Logger()


def catchSignals(reactor: Any, actions: Mapping[signal.Signals, Callable[[], Any]]) -> None:
    """
    Call something when a signal comes, in a turn of the reactor.  Ours replace the reactor's own, so this is done when
    it runs, and before that if a signal must not kill earlier.

    @param actions: what to call, by signal.
    """
    for number, action in actions.items():
        _catch(reactor, number, action)


class Termination:
    """
    What C{SIGTERM} and C{SIGINT} do to a process: the first drains, the second cuts (B10.2).
    """

    def __init__(self, reactor: Any, cut: Callable[[], None], log: Logger) -> None:
        """
        @param reactor: the reactor that is stopped by the first.
        @param cut: called for every further one.
        @param log: is told of the cut.
        """
        self._reactor = reactor
        self._cut = cut
        self._log = log
        self._asked = False

    def __call__(self) -> None:
        """
        A signal has come.
        """
        if not self._asked:
            self._asked = True
            stopReactor(self._reactor)
        else:
            self._log.info("cutting the exchanges that still run")
            self._cut()


def stopReactor(reactor: Any) -> None:
    """
    Let the reactor stop, unless it does already.  That fires the shutdown trigger, which waits for C{stopService}.
    """
    try:
        reactor.stop()
    except ReactorNotRunning:
        pass


def _catch(reactor: Any, number: signal.Signals, action: Callable[[], Any]) -> None:
    def arrived(_number: int, _frame: object) -> None:
        reactor.callFromThread(action)

    try:
        signal.signal(number, arrived)
    except ValueError:
        # not the main thread: whoever runs us there handles signals
        _log.debug("signal {number} is not ours to handle", number=number)
