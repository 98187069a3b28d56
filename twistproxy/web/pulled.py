# -*- test-case-name: tests.web.test_siterequest -*-
"""
Producers that wait to be asked, as C{static.File} uses them, driven as fast as a client goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: What is asked for in one turn of the reactor, as a number of times, before others have theirs.
_PER_TURN = 4


class PulledProducer:
    """
    Asks an L{IPullProducer<twisted.internet.interfaces.IPullProducer>} for more as long as the client keeps up, and so
    makes it a push producer.
    """

    def __init__(self, producer: Any, callLater: Callable[..., Any], failed: Callable[[], None]) -> None:
        """
        @param producer: the pull producer.
        @param callLater: C{reactor.callLater}.
        @param failed: called, where an exception is being handled, if the producer raises.
        """
        self._producer = producer
        self._callLater = callLater
        self._failed = failed
        self._call: Any = None
        self._paused = False
        self._running = True

    def start(self) -> None:
        """
        Ask for the first time, once whoever registers the producer is done with that.
        """
        self._call = self._callLater(0, self._pull)

    def _pull(self) -> None:
        self._call = None
        try:
            for _ in range(_PER_TURN):
                if self._paused or not self._running:
                    return
                self._producer.resumeProducing()
        except Exception:
            self.stop()
            self._failed()
            return
        if self._running and not self._paused and self._call is None:
            self._call = self._callLater(0, self._pull)

    def pauseProducing(self) -> None:
        """
        The client does not keep up.
        """
        self._paused = True
        self._cancel()

    def resumeProducing(self) -> None:
        """
        The client has caught up.
        """
        self._paused = False
        if self._running and self._call is None:
            self._call = self._callLater(0, self._pull)

    def stop(self) -> None:
        """
        Ask no more.
        """
        self._running = False
        self._cancel()

    def stopProducing(self) -> None:
        """
        Nobody wants the rest.
        """
        self.stop()
        self._producer.stopProducing()

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
