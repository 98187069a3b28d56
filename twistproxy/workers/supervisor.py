# -*- test-case-name: tests.workers.test_supervisor,tests.story.test_workers -*-
"""
The supervisor of worker processes.

It runs in the reactor of its own process, holds the listening sockets, and has a slot for each worker
(L{twistproxy.workers.slots} says what becomes of a slot).  What comes from the processes becomes events of slots, and
what the slots' table answers is done here.

Two things concern all slots together: who accepts for a slot that is empty (L{covers
<twistproxy.workers.slots.covers>}), told to the workers whenever that changes; and the rolling restart, which takes one
slot after the other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel

from twistproxy.observe.counters import Counts
from twistproxy.workers.output import LineOutput
from twistproxy.workers.plan import FIRST_SOCKET, VARIABLE, WorkerPlan
from twistproxy.workers.process import DONE, WorkerProcess
from twistproxy.workers.rolling import RollingRestart
from twistproxy.workers.slots import RestartPolicy, Slot, SlotAction, SlotEvent, SlotState, after, covers
from twistproxy.workers.sockets import ListeningSockets

#: How long workers may take to close the sockets that are not their own before all of them drain, in seconds.
FORGETTING = 2.0

#: How much longer than the grace a worker may take to end before it is killed, in seconds.
OVERTIME = 5.0

_LEVELS = {level.name: level for level in LogLevel.iterconstants()}


class WorkerSupervisor(Service):
    """
    Runs workers and replaces those that die.

    @ivar sockets: what is listened on.
    @ivar slots: the workers' places.
    @ivar started: fires when every slot has had its first worker ready; fails never.
    """

    name = "twistproxy workers"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        listen: Sequence[str],
        *,
        workers: int,
        grace: float = 30.0,
        policy: RestartPolicy | None = None,
        environment: Mapping[str, str] | None = None,
        unix: bool = True,
        level: str = "info",
        write: Callable[[bytes], None] | None = None,
        gaveUp: Callable[[str], None] | None = None,
    ) -> None:
        """
        @param reactor: the reactor.
        @param command: a worker's program and its arguments; it calls L{twistproxy.workers.run}.
        @param listen: server endpoint strings.
        @param workers: how many, at least one.
        @param grace: how long running exchanges may take when a worker drains, in seconds.
        @param policy: when dead workers are replaced.
        @param environment: for the workers; this process's own by default.
        @param unix: whether the workers' transports can share a UNIX socket: the hub's can.
        @param level: the least level of log events that workers send.
        @param write: takes lines that workers write to their standard output; by default they are written to ours.
        @param gaveUp: called with a line of text if workers die again and again; when it is called everything has been
            told to stop.
        """
        if workers < 1:
            raise ValueError(f"{workers} workers; at least 1 is needed")
        self._reactor = reactor
        self._command = list(command)
        self._listen = list(listen)
        self._grace = grace
        self._policy = policy or RestartPolicy()
        self._environment = dict(os.environ if environment is None else environment)
        self._level = level
        self._write = write or LineOutput().write
        self._gaveUp = gaveUp
        self.sockets = ListeningSockets(reactor, listen, workers, unix=unix)
        self.slots = [Slot(number) for number in range(workers)]
        self.started: Deferred[None] = Deferred()
        self._allReady = False
        self._workers: set[WorkerProcess] = set()
        self._past = Counts()
        self._pastCut = 0
        self._covered: dict[WorkerProcess, list[int]] = {}
        self._rolling = RollingRestart(self.slots, lambda slot: self._event(slot, SlotEvent.ROLL))
        self._stopping: Deferred[None] | None = None
        self._remembering: set[WorkerProcess] = set()
        self._forgetting: Any = None

    # -- for its user

    def startService(self) -> None:
        """
        Open the sockets, and start the workers as soon as the reactor runs.

        @raise CannotStart: if one of the sockets cannot be opened.
        """
        self.sockets.open()
        super().startService()
        self._reactor.callWhenRunning(self._startWorkers)

    def counts(self) -> Counts:
        """
        @return: what all workers have counted, those that are no more included.  A worker tells its counts every
            second, and when it ends in order.
        """
        total = Counts()
        total.merge(self._past)
        for worker in self._workers:
            total.merge(worker.counts)
        return total

    @property
    def cut(self) -> int:
        """
        How many exchanges were cut off.
        """
        return self._pastCut + sum(worker.cut for worker in self._workers)

    def reopenLogs(self) -> None:
        """
        Have every worker open its logs anew.
        """
        self._tellAll("reopen")

    def restart(self) -> None:
        """
        Replace the workers, one after the other; each new one serves before the old one drains.
        """
        if self._stopping is not None or not self._allReady:
            what = "starting" if self._stopping is None else "stopping"
            self._log.info("no rolling restart: the workers are {what}", what=what)
        else:
            self._rolling.begin()

    def stopService(self) -> Deferred[None]:
        """
        Let all workers drain.

        @return: a Deferred that fires when none is left.
        """
        if self._stopping is None:
            super().stopService()
            self._stopping = Deferred()
            self._rolling.stop()
            self._remembering = {slot.serving for slot in self.slots if slot.serving is not None}
            self._forgetting = self._reactor.callLater(FORGETTING, self._drain)
            # Two steps: a socket whose queue its worker has emptied must not be kept open by somebody who never
            # accepts.
            self._tellAll("forget")
            self._allForgot()
        return self._stopping

    def cutNow(self) -> None:
        """
        Wait for nothing any more.
        """
        self._tellAll("cut")

    # -- slots

    def _event(self, slot: Slot, event: SlotEvent) -> None:
        slot.state, actions = after(slot.state, event)
        for action in actions:
            _ACTIONS[action](self, slot)

    def _startWorkers(self) -> None:
        for slot in self.slots:
            self._event(slot, SlotEvent.DUE)

    def _spawn(self, slot: Slot) -> None:
        shares, descriptors = self.sockets.shares(FIRST_SOCKET)
        plan = WorkerPlan(
            slot=slot.number,
            slots=len(self.slots),
            first=slot.spawned == 0,
            reactor=_reactorModule(self._reactor),
            level=self._level,
            grace=self._grace,
            endpoints=self._listen,
            shares=shares,
        )
        slot.spawned += 1
        worker = slot.starting = WorkerProcess(self, slot.number)
        self._workers.add(worker)
        worker.deadline = self._reactor.callLater(self._policy.startup, self._tooSlow, worker)
        try:
            worker.spawn(self._reactor, self._command, {**self._environment, VARIABLE: plan.written()}, descriptors)
        except OSError as error:
            worker.forgetDeadline()
            # in a later turn, as if it had died: who asked for the process is in the middle of something
            self._reactor.callLater(0, self.workerEnded, worker, f"could not be started ({error})")

    def _tooSlow(self, worker: WorkerProcess) -> None:
        self._log.error(
            "{worker} is killed: it was not ready after {seconds:g} s", worker=worker, seconds=self._policy.startup
        )
        worker.kill()

    def _backOff(self, slot: Slot) -> None:
        policy = self._policy
        if self._stopping is not None:
            self._log.warn("worker {number} {how} before it could drain", number=slot.number + 1, how=slot.lastEnd)
            return
        if slot.deaths >= policy.attempts and not any(map(self._steady, self.slots)):
            self._giveUp(slot)
            return
        delay = policy.delay(slot.deaths)
        if slot.deaths:
            self._log.error(
                "worker {number} {how}; the next one starts {when}",
                number=slot.number + 1,
                how=slot.lastEnd,
                when="now" if delay == 0 else f"in {delay:g} s",
            )
        slot.due = self._reactor.callLater(delay, self._event, slot, SlotEvent.DUE)

    def _steady(self, slot: Slot) -> bool:
        worker = slot.serving
        return worker is not None and self._wasSteady(worker)

    def _wasSteady(self, worker: WorkerProcess) -> bool:
        since = worker.readySince
        return since is not None and self._reactor.seconds() - since >= self._policy.steady

    def _promote(self, slot: Slot) -> None:
        slot.serving, slot.starting = slot.starting, None
        if not self._allReady and all(each.serving is not None for each in self.slots):
            self._allReady = True
            self.started.callback(None)
        self._tellCovers()
        self._rolling.serves(slot)

    def _retire(self, slot: Slot) -> None:
        worker, slot.serving = slot.serving, None
        if worker is not None:
            self._drainOne(worker)

    def _drainOne(self, worker: WorkerProcess) -> None:
        worker.retired = True
        self._limitDraining(worker)
        worker.tell("drain")

    def _limitDraining(self, worker: WorkerProcess) -> None:
        if worker.deadline is None:
            worker.deadline = self._reactor.callLater(self._grace + OVERTIME, worker.kill)

    def _killStarting(self, slot: Slot) -> None:
        if slot.starting is not None:
            # it has accepted nothing yet
            slot.starting.kill()

    def _tellCovers(self, _: Slot | None = None) -> None:
        if not self._allReady or self._stopping is not None:
            return
        for slot, covered in zip(self.slots, covers([slot.serving is not None for slot in self.slots]), strict=True):
            worker = slot.serving
            if worker is not None and self._covered.get(worker, []) != covered:
                self._covered[worker] = covered
                worker.tell("cover", slots=covered)

    def _giveUp(self, slot: Slot) -> None:
        if self._stopping is not None:
            return
        words = f" (its last words: {slot.lastWords})" if slot.lastWords else ""
        text = (
            f"worker {slot.number + 1} {slot.lastEnd}, {slot.deaths} times in a row{words}; "
            "giving up, because no worker has been well for long"
        )
        self._log.critical("{text}", text=text)
        self.stopService()
        if self._gaveUp is not None:
            self._gaveUp(text)

    def _tellAll(self, kind: str) -> None:
        for worker in list(self._workers):
            worker.tell(kind)

    # -- going down

    def _allForgot(self) -> None:
        if self._stopping is not None and not self._remembering and self._forgetting is not None:
            self._drain()

    def _drain(self) -> None:
        if self._forgetting is not None and self._forgetting.active():
            self._forgetting.cancel()
        self._forgetting = None
        self._remembering = set()
        self.sockets.close()
        for slot in self.slots:
            if slot.due is not None and slot.due.active():
                slot.due.cancel()
            self._event(slot, SlotEvent.STOP)
        self._perhapsDone()

    def _drainServing(self, slot: Slot) -> None:
        if slot.serving is not None:
            self._drainOne(slot.serving)

    def _perhapsDone(self) -> None:
        if self._stopping is not None and self._forgetting is None and not self._workers:
            if not self._stopping.called:
                self._stopping.callback(None)

    # -- what workers do

    def workerSays(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """
        See L{ISupervisorLike<twistproxy.workers.process.ISupervisorLike>}.
        """
        slot, kind = self.slots[worker.slot], message["kind"]
        if kind == "ready" and slot.starting is worker:
            worker.forgetDeadline()
            worker.readySince = self._reactor.seconds()
            self._log.info("{worker} is ready", worker=worker)
            self._event(slot, SlotEvent.READY)
        elif kind == "leaving":
            if slot.serving is worker and self._stopping is None:
                self._log.info("{worker} was asked to end, and is replaced", worker=worker)
                self._event(slot, SlotEvent.ROLL)
        elif kind == "draining":
            self._leaves(slot, worker)
        elif kind == "forgot":
            self._remembering.discard(worker)
            self._allForgot()

    def _leaves(self, slot: Slot, worker: WorkerProcess) -> None:
        """
        A worker drains by its own decision: somebody insists on it.
        """
        if worker.retired or self._stopping is not None:
            return
        worker.retired = True
        self._limitDraining(worker)
        if slot.serving is worker:
            self._log.info("{worker} drains and is replaced", worker=worker)
            slot.serving = None
            slot.deaths = 0
            self._event(slot, SlotEvent.LOST)

    def workerLogs(self, worker: WorkerProcess, level: str, namespace: str, text: str) -> None:
        """
        See L{ISupervisorLike<twistproxy.workers.process.ISupervisorLike>}.
        """
        Logger(namespace).emit(
            _LEVELS.get(level, LogLevel.warn), "worker {number}: {text}", number=worker.slot + 1, text=text
        )

    def workerWrites(self, lines: bytes) -> None:
        """
        See L{ISupervisorLike<twistproxy.workers.process.ISupervisorLike>}.
        """
        self._write(lines)

    def workerEnded(self, worker: WorkerProcess, how: str) -> None:
        """
        See L{ISupervisorLike<twistproxy.workers.process.ISupervisorLike>}.
        """
        self._workers.discard(worker)
        self._covered.pop(worker, None)
        self._past.merge(worker.counts)
        self._pastCut += worker.cut
        slot = self.slots[worker.slot]
        slot.lastEnd, slot.lastWords = how, worker.lastWords
        if slot.starting is worker:
            slot.starting = None
            slot.deaths += 1
            self._event(slot, SlotEvent.FAILED)
        elif slot.serving is worker:
            slot.serving = None
            slot.deaths = 1 if self._wasSteady(worker) else slot.deaths + 1
            if slot.state is SlotState.ROLLING:
                self._log.error("{worker} {how}; the next one is starting already", worker=worker, how=how)
            self._event(slot, SlotEvent.LOST)
        elif worker.retired and how != DONE:
            self._log.warn("{worker} {how} while it was draining", worker=worker, how=how)
        self._remembering.discard(worker)
        self._allForgot()
        self._perhapsDone()


_ACTIONS: dict[SlotAction, Callable[[WorkerSupervisor, Slot], None]] = {
    SlotAction.SPAWN: WorkerSupervisor._spawn,
    SlotAction.BACK_OFF: WorkerSupervisor._backOff,
    SlotAction.COVER: WorkerSupervisor._tellCovers,
    SlotAction.PROMOTE: WorkerSupervisor._promote,
    SlotAction.RETIRE: WorkerSupervisor._retire,
    SlotAction.GIVE_UP_ROLLING: lambda supervisor, slot: supervisor._rolling.fails(slot),
    SlotAction.KILL_STARTING: WorkerSupervisor._killStarting,
    SlotAction.DRAIN: WorkerSupervisor._drainServing,
}


def _reactorModule(reactor: Any) -> str:
    """
    @return: the module that can install a reactor of this kind.
    """
    name = type(reactor).__module__
    return name if hasattr(sys.modules[name], "install") else "twisted.internet.default"
