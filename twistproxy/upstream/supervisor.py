# -*- test-case-name: tests.upstream.test_process -*-
"""
Who starts a program, watches it, and ends it.

::

    STOPPED --wanted--> STARTING --it can be connected to--> READY
       ^  \\--wanted, but it has just failed--> PAUSING --> STARTING
       |
       `-- it has ended -- any; from READY by idleness or close() through STOPPING

It is started when it is wanted, and only then, after a failure too: a program that nobody asks for stays down.  Each
failure in a row doubles the pause before the next start.  After some of them those who wait are sent away, and so is
everybody else until the pause is over.
"""

from __future__ import annotations

import enum
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistproxy.errors import Stage, Unavailable
from twistproxy.rules.backoff import pauseAfter
from twistproxy.upstream.program import Program, Run

#: How long to wait before looking again whether it is ready, at first and at most, in seconds.
LOOK = 0.02
LOOK_MOST = 0.5


@attrs.frozen(kw_only=True)
class Supervision:
    """
    How a program is started, restarted and ended; times in seconds.

    @ivar start: how long it may take until it can be connected to; then it is ended, and has failed.  How long a
        request waits for it is bounded by C{Timeouts(connect=...)}, too.
    @ivar pause: before it is started again after a failure; twice as long after each further one, and always a random
        part less.
    @ivar maxPause: the longest pause.
    @ivar failures: after how many in a row nobody waits any more.
    @ivar stable: how long it has to run for its failures to be forgotten.
    @ivar idle: how long it may be without a connection before it is ended; C{None} for ever.  The proxy keeps idle
        connections for C{Timeouts(upstreamIdle=...)}.
    @ivar kill: how long it may take to end behind SIGTERM, before SIGKILL.
    @ivar maxWaiting: requests that may wait for it.
    """

    start: float = 30.0
    pause: float = 0.5
    maxPause: float = 30.0
    failures: int = 3
    stable: float = 10.0
    idle: float | None = None
    kill: float = 5.0
    maxWaiting: int = 1024

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            least = 1 if name == "failures" else 0
            # not value < least, which a number that is none would pass
            if value is not None and not value >= least:
                raise ValueError(f"Supervision({name}={value!r}): write a number, at least {least}")


class State(enum.Enum):
    """
    What a program is doing.
    """

    STOPPED = "stopped"
    PAUSING = "pausing"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Supervisor:
    """
    One program.

    @ivar state: what it is doing.
    @ivar pid: its process id, while it runs.
    """

    _log = Logger()

    def __init__(self, program: Program, supervision: Supervision, reactor: Callable[[], Any]) -> None:
        """
        @param reactor: gives the reactor.
        """
        self.program = program
        self.state = State.STOPPED
        self._settings = supervision
        self._reactorOf = reactor
        self._waiting: list[Deferred[Any]] = []
        self._users = 0
        self._process: Run | None = None
        self._endpoint: Any = None
        self._folder: str | None = None
        self._left = State.STOPPED
        self._timer: Any = None
        self._looking: Any = None
        self._readySince = 0.0
        self._failures = 0
        self._notBefore = 0.0
        self._why = ""
        self._closed = False
        self._ended: list[Deferred[None]] = []
        self._trigger: Any = None

    def __repr__(self) -> str:
        return f"<Supervisor of {self.program.name!r}: {self.state.value}, {self._users} connections>"

    @property
    def _reactor(self) -> Any:
        return self._reactorOf()

    @property
    def pid(self) -> int | None:
        """
        Its process id, while it runs.
        """
        return None if self._process is None else self._process.transport.pid

    # -- for those who want to connect

    def ready(self) -> Deferred[Any]:
        """
        Ask for the program.

        @return: a Deferred of the endpoint to connect to, when it is ready; it fails with
            L{Unavailable<twistproxy.errors.Unavailable>}, and can be cancelled.
        """
        if self.state is State.READY and not self._closed:
            return succeed(self._endpoint)
        reason = self._refusal()
        if reason is not None:
            return fail(_unavailable(reason))
        waiting: Deferred[Any] = Deferred(self._leaveLine)
        self._waiting.append(waiting)
        if self.state is State.STOPPED:
            self._want()
        return waiting

    def _refusal(self) -> str | None:
        if self._closed:
            return f"the program {self.program.name!r} is closed"
        if len(self._waiting) >= self._settings.maxWaiting:
            return f"{len(self._waiting)} requests are waiting for the program {self.program.name!r} already"
        if self._failing and self.state is State.STOPPED and self._reactor.seconds() < self._notBefore:
            return f"the program {self.program.name!r} keeps failing: {self._why}"
        return None

    def _leaveLine(self, waiting: Deferred[Any]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def use(self) -> None:
        """
        There is a connection, or an attempt at one.
        """
        self._users += 1
        if self.state is State.READY:
            self._setTimer(None)

    def leave(self) -> None:
        """
        There is one less.
        """
        self._users -= 1
        self._unused()

    def _unused(self) -> None:
        if self._users == 0 and self.state is State.READY:
            if self._closed:
                self._stop()
            elif self._settings.idle is not None:
                self._setTimer(self._settings.idle, self._stop)

    def close(self) -> Deferred[None]:
        """
        Start it no more, and end it as soon as no connection to it is open.

        @return: a Deferred that fires when it has ended.
        """
        self._closed = True
        self._dismiss(f"the program {self.program.name!r} is closed")
        if self.state is State.PAUSING:
            self._setTimer(None)
            self.state = State.STOPPED
        elif self.state is State.STARTING:
            self._stop()
        self._unused()
        if self.state is State.STOPPED:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)
        return ended

    def _dismiss(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(_unavailable(reason))

    # -- starting

    @property
    def _failing(self) -> bool:
        return self._failures >= self._settings.failures

    def _setTimer(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        """
        Set the one timer there is, what for being told by the state.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if seconds is not None:
            self._timer = self._reactor.callLater(seconds, then)

    def _want(self) -> None:
        """
        Somebody waits for it: start it, or soon.
        """
        pause = self._notBefore - self._reactor.seconds()
        if pause > 0:
            self.state = State.PAUSING
            self._setTimer(pause, self._start)
        else:
            self._start()

    def _start(self) -> None:
        self.state = State.STOPPED
        if not self._waiting:
            return  # they have all left
        self.state = State.STARTING
        program, reactor = self.program, self._reactor
        try:
            values = self._address()
            env = {**os.environ, **values, **{name: _filled(text, values) for name, text in program.env.items()}}
            arguments = [_filled(each, values) for each in program.arguments]
            self._process = process = Run(self, os.path.basename(program.arguments[0]), reactor)
            reactor.spawnProcess(process, program.executable, arguments, env=env, path=program.cwd)
        except Exception as error:
            self._process = None
            self._failed(f"it cannot be started: {error}")
            return
        self._trigger = reactor.addSystemEventTrigger("after", "shutdown", process.endNow, self._settings.kill)
        self._setTimer(self._settings.start, self._tooSlow)
        self._look(process, LOOK)

    def _address(self) -> dict[str, str]:
        """
        Choose where it is to listen.

        @return: the same for its environment.
        """
        if self.program.socket:
            self._folder = tempfile.mkdtemp(prefix="twistproxy-")
            path = os.path.join(self._folder, "socket")
            self._endpoint = UNIXClientEndpoint(self._reactor, path)
            return {"SOCKET": path}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", port)
        return {"PORT": str(port)}

    def _look(self, process: Run, pause: float) -> None:
        """
        Look whether it can be connected to, again and again.
        """
        probe = Factory.forProtocol(Protocol)
        probe.noisy = False

        def reached(protocol: Any) -> None:
            self._looking = None
            # not a reset, which many programs would complain about
            protocol.transport.loseConnection()
            if self._process is process and self.state is State.STARTING and not process.why:
                self._isReady()

        def failed(_: Failure) -> None:
            self._looking = None
            if self._process is process and self.state is State.STARTING and not process.why:
                again = min(pause * 1.5, LOOK_MOST)
                self._looking = self._reactor.callLater(pause, self._look, process, again)

        looking = self._endpoint.connect(probe)
        self._looking = looking
        looking.addCallbacks(reached, failed)

    def _stopLooking(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    def _isReady(self) -> None:
        self.state = State.READY
        self._setTimer(None)
        self._readySince = self._reactor.seconds()
        self._log.info("the program {name} is ready (process {pid})", name=self.program.name, pid=self.pid)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self._endpoint)
        self._unused()

    # -- ending

    def _tooSlow(self) -> None:
        assert self._process is not None
        self._process.why = f"it could not be connected to within {self._settings.start:g} s"
        self._end()

    def _stop(self) -> None:
        self.state = State.STOPPING
        self._end()

    def _end(self) -> None:
        """
        Ask it to end; if it does not, end it.
        """
        self._stopLooking()
        assert self._process is not None
        self._process.signal("TERM")
        self._setTimer(self._settings.kill, self._kill)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.signal("KILL")

    def exited(self) -> None:
        """
        It has exited; what it said last may still be on its way.  Who wants it now has to wait for the next one.
        """
        self._setTimer(None)
        self._stopLooking()
        self._left, self.state = self.state, State.STOPPING

    def ended(self, why: str, lines: list[str]) -> None:
        """
        It has ended.

        @param why: how.
        @param lines: the last ones it said.
        """
        state, self.state = self._left, State.STOPPED
        self._process = None
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            self._reactor.removeSystemEventTrigger(trigger)
        self.removeFolder()
        if state is State.STOPPING:
            self._log.info("the program {name} was ended", name=self.program.name)
        else:
            if state is State.READY and self._reactor.seconds() - self._readySince >= self._settings.stable:
                self._failures = 0
            self._failed(why, lines, state is State.READY)
        if self.state is State.STOPPED:
            # a restart of those who wait may be under way already
            told, self._ended = self._ended, []
            for each in told:
                each.callback(None)
            if self._waiting:
                self._want()

    def _failed(self, why: str, lines: list[str] | None = None, wasReady: bool = False) -> None:
        """
        It has ended by itself, or was never there.
        """
        settings = self._settings
        self.state = State.STOPPED
        self.removeFolder()
        wasFailing = self._failing
        self._failures += 1
        self._why = why
        pause = pauseAfter(self._failures, settings.pause, settings.maxPause) * random.uniform(0.5, 1)
        self._notBefore = self._reactor.seconds() + pause
        if wasReady or not self._failing:
            self._log.warn("the program {name} failed: {why}{said}", name=self.program.name, why=why, said=_said(lines))
        elif not wasFailing:
            self._log.warn(
                "the program {name} keeps failing: {why}; requests get 503 until it starts{said}",
                name=self.program.name,
                why=why,
                said=_said(lines),
            )
        if self._failing:
            self._dismiss(f"the program {self.program.name!r} keeps failing: {why}")
        elif self._waiting:
            self._want()

    def forgetTrigger(self) -> None:
        """
        The reactor has stopped: there is nothing left to be taken out of its list.
        """
        self._trigger = None

    def removeFolder(self) -> None:
        """
        The program is gone, and so is its socket.
        """
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name.lower()}}}", value)
    return text


def _said(lines: list[str] | None) -> str:
    return "; it said last:\n" + "\n".join(lines) if lines else ""


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(reason, Stage.CONNECT)
