# -*- test-case-name: tests.test_tap -*-
"""
Signals as calls in the reactor.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

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


def _catch(reactor: Any, number: signal.Signals, action: Callable[[], Any]) -> None:
    def arrived(_number: int, _frame: object) -> None:
        reactor.callFromThread(action)

    try:
        signal.signal(number, arrived)
    except ValueError:
        # not the main thread: whoever runs us there handles signals
        _log.debug("signal {number} is not ours to handle", number=number)
