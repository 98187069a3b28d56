# -*- test-case-name: tests.upstream.test_process -*-
"""
A program, and one run of it: what it says goes to the log, and how it ended to who started it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import attrs
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

#: How long the output of a program that has ended may stay open, in seconds: a child of its own may have it.
LINGER = 0.5

#: Of what it says: the longest line that is logged, in bytes, and how many of the last lines are kept.
MAX_LINE = 8192
LAST_LINES = 10


@attrs.frozen
class Program:
    """
    What is run.

    @ivar executable: its absolute path.
    @ivar arguments: its arguments, C{argv[0]} included.
    @ivar env: what is added to the environment.
    @ivar cwd: where it runs.
    @ivar socket: whether it listens on a UNIX socket, rather than on a port.
    """

    executable: str
    arguments: list[str]
    env: dict[str, str]
    cwd: str | None
    socket: bool

    @property
    def name(self) -> str:
        """
        The program as it stands in the log.
        """
        return " ".join(self.arguments)[:100]


class Run(ProcessProtocol):
    """
    One run of the program.

    @ivar why: why it is ended, if that is not its own doing.
    """

    _log = Logger(namespace="twistproxy.program")
    transport: Any

    def __init__(self, supervisor: Any, name: str, reactor: Any) -> None:
        """
        @param supervisor: has C{exited()}, C{ended(why, lines)}, C{forgetTrigger()} and C{removeFolder()}.
        @param name: the program as it stands before each of its lines in the log.
        """
        self._reactor = reactor
        self._supervisor = supervisor
        self._name = name
        self._partial: dict[int, bytes] = {}
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._lingering: Any = None
        self._pid = 0
        self.why = ""

    def connectionMade(self) -> None:
        """
        It runs.
        """
        # remembered, as what it says can come after it has exited
        self._pid = self.transport.pid

    def signal(self, name: str) -> None:
        """
        Send it a signal.
        """
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            pass

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        See L{IProcessProtocol.childDataReceived<twisted.internet.interfaces.IProcessProtocol>}.
        """
        *lines, rest = (self._partial.pop(childFD, b"") + data).split(b"\n")
        while len(rest) > MAX_LINE:
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        for line in lines:
            self._line(childFD, line)
        if rest:
            self._partial[childFD] = rest

    def _line(self, childFD: int, data: bytes) -> None:
        line = data.rstrip(b"\r")[:MAX_LINE].decode("utf-8", "backslashreplace")
        if childFD == 2:
            self._last.append(line)
        self._log.info("{name}[{pid}]: {line}", name=self._name, pid=self._pid, line=line, childFD=childFD)

    def processExited(self, reason: Failure) -> None:
        """
        See L{Supervisor.exited}.
        """
        self._supervisor.exited()
        self._lingering = self._reactor.callLater(LINGER, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        """
        It is gone, and its pipes are closed.
        """
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        for childFD, rest in sorted(self._partial.items()):
            self._line(childFD, rest)
        value: Any = reason.value
        how = f"signal {value.signal}" if value.signal is not None else f"exit status {value.exitCode}"
        self._supervisor.ended(self.why or f"it ended with {how}", list(self._last))

    def endNow(self, patience: float) -> None:
        """
        The reactor has stopped, and nobody has ended it: end it without one.

        @param patience: how long it may take behind SIGTERM, in seconds.
        """
        self._supervisor.forgetTrigger()
        self.signal("TERM")
        end = time.monotonic() + patience
        while self.transport.pid is not None and time.monotonic() < end:
            self.transport.reapProcess()
            time.sleep(0.01)
        if self.transport.pid is not None:
            self.signal("KILL")
            while self.transport.pid is not None:
                self.transport.reapProcess()
                time.sleep(0.01)
        self._supervisor.removeFolder()
