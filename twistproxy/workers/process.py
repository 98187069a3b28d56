# -*- test-case-name: tests.story.test_workers -*-
"""
A worker as its supervisor sees it: a process, three pipes from it and one to it.

Its standard output is where its access log goes, if that goes to standard output: whole lines are passed on, and what
is left of one when it dies is not.  Its standard error is where Python says what went wrong before there was a log.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistproxy.observe.counters import Counts
from twistproxy.workers.plan import FROM_SUPERVISOR, TO_SUPERVISOR
from twistproxy.workers.protocol import BadMessage, Lines, decoded, encoded

#: How a process ends that is done.
DONE = "ended (exit status 0)"

#: A line of the access log is no longer than this, in bytes: a request head, with each byte escaped, has room in it.
LONGEST_LINE = 1 << 20

#: A line on standard error is no longer than this, in bytes.
LONGEST_WORDS = 1 << 14


class ISupervisorLike(Protocol):
    """
    Who is told of a worker (structural type).
    """

    def workerSays(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """
        @param message: what it said, but for what only concerns its L{WorkerProcess}.
        """

    def workerLogs(self, worker: WorkerProcess, level: str, namespace: str, text: str) -> None:
        """
        @param text: an event of its log.
        """

    def workerWrites(self, lines: bytes) -> None:
        """
        @param lines: whole lines of its standard output.
        """

    def workerEnded(self, worker: WorkerProcess, how: str) -> None:
        """
        @param how: how it ended, in words.
        """


class WorkerProcess(ProcessProtocol):
    """
    One worker process.

    @ivar slot: its slot, from 0.
    @ivar pid: its process id.
    @ivar counts: what it has counted, as far as it has told.
    @ivar cut: how many exchanges it has cut off.
    @ivar readySince: when it became ready, by the reactor's clock; C{None} before.
    @ivar retired: whether it has been told to drain, or has said that it does.
    @ivar ended: whether it is no more.
    @ivar lastWords: its last line on standard error.
    @ivar deadline: a delayed call that kills it if it takes too long.
    """

    _log = Logger()

    def __init__(self, supervisor: ISupervisorLike, slot: int) -> None:
        self._supervisor = supervisor
        self.slot = slot
        self.pid = 0
        self.counts = Counts()
        self.cut = 0
        self.readySince: float | None = None
        self.retired = False
        self.ended = False
        self.lastWords = ""
        self.deadline: Any = None
        self._words = Lines(LONGEST_WORDS)
        self._output = Lines(LONGEST_LINE)
        self._messages = Lines()
        self._deaf = False

    def __str__(self) -> str:
        return f"worker {self.slot + 1} (pid {self.pid})"

    def spawn(
        self, reactor: Any, command: Sequence[str], environment: Mapping[str, str], descriptors: Mapping[int, int]
    ) -> None:
        """
        Start the process.

        @param command: the program and its arguments.
        @param descriptors: what it inherits: numbers there and here.
        @raise OSError: if it cannot be started.
        """
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            reactor.spawnProcess(
                self,
                command[0],
                command,
                env=environment,
                childFDs={0: nothing, 1: "r", 2: "r", TO_SUPERVISOR: "r", FROM_SUPERVISOR: "w", **descriptors},
            )
        finally:
            os.close(nothing)

    def tell(self, kind: str, **fields: Any) -> None:
        """
        Send it a message.
        """
        if self.transport is not None and not self._deaf:
            try:
                self.transport.writeToChild(FROM_SUPERVISOR, encoded(kind, **fields))
            except KeyError:
                # Twisted has forgotten the pipe: the process is about to be found dead
                self._deaf = True

    def signal(self, number: signal.Signals) -> None:
        """
        Send it a signal.
        """
        if self.transport is not None and not self.ended:
            try:
                self.transport.signalProcess(number.name[3:])
            except Exception as error:
                self._log.debug("{worker} cannot be sent {signal}: {error}", worker=self, signal=number, error=error)

    def kill(self) -> None:
        """
        End it at once.
        """
        self.signal(signal.SIGKILL)

    def forgetDeadline(self) -> None:
        """
        It may take its time.
        """
        if self.deadline is not None:
            if self.deadline.active():
                self.deadline.cancel()
            self.deadline = None

    # -- ProcessProtocol

    def connectionMade(self) -> None:
        """
        See L{ProcessProtocol.connectionMade<twisted.internet.protocol.BaseProtocol.connectionMade>}.
        """
        assert self.transport is not None
        self.pid = self.transport.pid or 0

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        See L{IProcessProtocol.childDataReceived<twisted.internet.interfaces.IProcessProtocol.childDataReceived>}.
        """
        try:
            if childFD == TO_SUPERVISOR:
                for line in self._messages.feed(data):
                    self._said(decoded(line))
            elif childFD == 1:
                lines = self._output.feed(data)
                if lines:
                    self._supervisor.workerWrites(b"\n".join((*lines, b"")))
            else:
                for line in self._words.feed(data):
                    self._heard(line)
        except (BadMessage, ValueError) as error:
            self._log.error("{worker} is ended, because it sends {error}", worker=self, error=str(error))
            self.kill()

    def _said(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "counts":
            self.counts = Counts.of(message.get("counts") or {})
            self.cut = int(message.get("cut", 0))
        elif kind == "log":
            self._supervisor.workerLogs(
                self, str(message.get("level")), str(message.get("namespace")), str(message.get("text"))
            )
        else:
            self._supervisor.workerSays(self, message)

    def _heard(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if text:
            self.lastWords = text.strip()
            self._supervisor.workerLogs(self, "warn", "stderr", text)

    def childConnectionLost(self, childFD: int) -> None:
        """
        See L{IProcessProtocol.childConnectionLost<twisted.internet.interfaces.IProcessProtocol.childConnectionLost>}.
        """
        if childFD == FROM_SUPERVISOR:
            self._deaf = True

    def processEnded(self, reason: Failure) -> None:
        """
        See L{IProcessProtocol.processEnded<twisted.internet.interfaces.IProcessProtocol.processEnded>}.
        """
        self.ended = self._deaf = True
        self.forgetDeadline()
        if self._words.rest:
            self._heard(self._words.rest)
        self._supervisor.workerEnded(self, howItEnded(reason))


def howItEnded(reason: Failure) -> str:
    """
    @return: how a process ended, in words.
    """
    error: Any = reason.value
    if isinstance(error, ProcessDone):
        return DONE
    number = getattr(error, "signal", None)
    if number is not None:
        try:
            return f"was killed by {signal.Signals(number).name}"
        except ValueError:
            return f"was killed by signal {number}"
    return f"ended (exit status {getattr(error, 'exitCode', 'unknown')})"
