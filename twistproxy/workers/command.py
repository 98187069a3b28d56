# -*- test-case-name: tests.story.test_workers -*-
"""
C{twist revproxy --workers}: the supervisor as a command, with signals, an exit status, and what a single process says.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred

from twistproxy.net.reactor import HubReactor
from twistproxy.service import CannotStart, ServiceParts, logStarted, logStopped
from twistproxy.signals import Termination, catchSignals, stopReactor
from twistproxy.workers.supervisor import WorkerSupervisor


def availableCPUs() -> int:
    """
    @return: how many CPUs this process may use.
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # not Linux
        return os.cpu_count() or 1


def isTerminal() -> bool:
    """
    @return: whether standard input is a terminal.  One that was closed is none any more.
    """
    try:
        return os.isatty(0)
    except OSError:
        return False


class CommandSupervisor(WorkerSupervisor):
    """
    The supervisor of C{twist revproxy}.

    @ivar exitStatus: what the process ends with, if not with 0.
    """

    def __init__(
        self,
        reactor: Any,
        parts: ServiceParts,
        workers: int,
        arguments: Sequence[str],
        cannotStart: Callable[[CannotStart], NoReturn],
        level: str = "info",
    ) -> None:
        """
        @param parts: what a single process would run; only looked at.
        @param workers: how many.
        @param arguments: the command line of each worker.
        @param cannotStart: ends the process, with the reason.
        @param level: the least level of log events.
        """
        self._parts = parts
        self._cannotStart = cannotStart
        self._terminate = Termination(reactor, lambda: self.cutNow(), self._log)
        self._onTerminal = isTerminal()
        self.exitStatus = 0
        super().__init__(
            reactor,
            # -P: nothing is imported from whatever folder this runs in
            [sys.executable, "-P", "-m", "twistproxy.workers", *arguments],
            parts.listen,
            workers=workers,
            grace=parts.grace,
            # the same modules in the workers as here, however they were found
            environment={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            unix=isinstance(parts.network.reactor, HubReactor),
            level=level,
            gaveUp=self._hasGivenUp,
        )
        self.started.addCallback(self._sayStarted)

    def startService(self) -> None:
        """
        Open the sockets; if that fails, say so in one line and end.
        """
        try:
            super().startService()
        except CannotStart as error:
            self._cannotStart(error)
        atexit.register(self._exit)
        # The reactor installs handlers of its own when it starts; ours drain first.
        self._catch()
        self._reactor.callWhenRunning(self._catch)

    def _catch(self) -> None:
        catchSignals(
            self._reactor,
            {
                signal.SIGTERM: self._terminate,
                signal.SIGINT: self._terminate,
                signal.SIGUSR1: self.reopenLogs,
                signal.SIGHUP: self._hangUp,
            },
        )

    def _sayStarted(self, _: object) -> None:
        logStarted(self._log, self._parts, self.sockets.addresses(), len(self.slots))

    def reopenLogs(self) -> None:
        """
        See L{WorkerSupervisor.reopenLogs}.
        """
        super().reopenLogs()
        if self._parts.access is not None:
            self._log.info("access log reopened")

    def _hangUp(self) -> None:
        """
        Restart; but if it has run in a terminal that was closed, end as any program there does.
        """
        if self._onTerminal and not isTerminal():
            self._log.info("the terminal was closed")
            self._terminate()
        else:
            self.restart()

    def stopService(self) -> Deferred[None]:
        """
        See L{WorkerSupervisor.stopService}; says at the end what all have done.
        """
        if self._stopping is not None:
            return self._stopping
        return super().stopService().addCallback(lambda _: logStopped(self._log, self.counts(), self.cut))

    def _hasGivenUp(self, _: str) -> None:
        self.exitStatus = 1
        stopReactor(self._reactor)

    def _exit(self) -> None:
        """
        The very end.  C{twist} knows no other status than 0 once the reactor has run.
        """
        if self.exitStatus:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.exitStatus)
