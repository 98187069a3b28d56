# -*- test-case-name: tests.workers.test_pipes -*-
"""
A worker's ends of the pipes to its supervisor.

What is sent is written at once, so that it is on its way even if the process ends in the same turn; what the pipe does
not take waits, within a bound.  A supervisor that does not read costs log events and never an exchange.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.workers.protocol import Lines, decoded, encoded

#: So much may wait to be sent, in bytes; beyond it log events are dropped.
WAITING = 1 << 20

#: How soon a pipe that was full is tried again, in seconds.
AGAIN = 0.05

#: How long the last words may take, in seconds.
LAST = 1.0


class Sender:
    """
    The pipe to the supervisor.
    """

    def __init__(self, clock: Any, fd: int) -> None:
        """
        @param clock: an C{IReactorTime}.
        @param fd: the pipe.
        """
        os.set_blocking(fd, False)
        self._clock = clock
        self._fd = fd
        self._waiting = bytearray()
        self._retry: Any = None
        self._lost = 0

    def send(self, kind: str, **fields: Any) -> None:
        """
        Send a message.
        """
        self._waiting += encoded(kind, **fields)
        self._flush()

    def sendEvent(self, level: str, namespace: str, text: str) -> None:
        """
        Send an event of the log, if there is room for it.
        """
        if len(self._waiting) > WAITING:
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self.send("log", level="warn", namespace=__name__, text=f"{lost} log events are lost")
        self.send("log", level=level, namespace=namespace, text=text)

    def last(self) -> None:
        """
        Nothing more will be sent: see to it that what waits gets out.
        """
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while self._waiting and select.select((), (self._fd,), (), LAST)[1]:
            self._write()

    def _flush(self) -> None:
        self._write()
        if self._waiting and self._retry is None:
            self._retry = self._clock.callLater(AGAIN, self._retried)

    def _retried(self) -> None:
        self._retry = None
        self._flush()

    def _write(self) -> None:
        try:
            del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            # there is no supervisor any more; the other pipe says so as well
            self._waiting.clear()


@implementer(IReadDescriptor)
class Receiver:
    """
    The pipe from the supervisor.
    """

    def __init__(self, fd: int, told: Callable[[dict[str, Any]], None], orphaned: Callable[[], None]) -> None:
        """
        @param fd: the pipe.
        @param told: called with each message.
        @param orphaned: called when the supervisor is gone.
        """
        os.set_blocking(fd, False)
        self._fd = fd
        self._told = told
        self._orphaned = orphaned
        self._lines = Lines()

    def fileno(self) -> int:
        """
        @return: the pipe.
        """
        return self._fd

    def logPrefix(self) -> str:
        """
        @return: what Twisted writes before what is logged from here.
        """
        return "supervisor"

    def doRead(self) -> Any:
        """
        Take what has come.

        @return: an error at the end of it all, which takes this reader out of the reactor.
        """
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return None
        if not data:
            return CONNECTION_DONE
        for line in self._lines.feed(data):
            self._told(decoded(line))
        return None

    def connectionLost(self, reason: Failure) -> None:
        """
        The supervisor is gone, or what it says makes no sense, or the reactor stops.
        """
        self._orphaned()
