# -*- test-case-name: tests.story.test_workers -*-
"""
The process of a worker: L{run} is all of its program.

A worker is a proxy service like any other, with three differences.  Its sockets are there already; its log and its
counts go to the supervisor; and it does what the supervisor says.  When the supervisor is gone, which shows as the end
of its pipe, the worker drains and ends.

Signals that reach it directly are either meant for it alone (C{SIGTERM}: be replaced, and drain) or for the whole group
of processes, as Ctrl-C in a terminal is.  The supervisor makes of them what it wants; on a C{SIGTERM} it is asked.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogBeginner
from zope.interface import implementer

from twistproxy.deadlines import Timeouts
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.proxy import ReverseProxy
from twistproxy.service import CannotStart, ProxyService, ServiceParts, freezeWhatExists
from twistproxy.signals import catchSignals, stopReactor
from twistproxy.workers.pipes import Receiver, Sender
from twistproxy.workers.plan import FROM_SUPERVISOR, TO_SUPERVISOR, NoWorker, WorkerPlan
from twistproxy.workers.protocol import LONGEST_TEXT
from twistproxy.workers.sockets import AdoptingReactor

#: How often counts are sent, in seconds.
COUNTING = 1.0

#: How long a batch of the access log may wait for the supervisor, in seconds.  It reads all the time; only one that is
#: stopped, or hangs, takes this long.
PATIENCE = 0.25

#: How much the pipe of standard output may hold, in bytes: some batches of the access log.
_PIPE = 1 << 20


class WorkerService(ProxyService):
    """
    A proxy service on inherited sockets.
    """

    def __init__(self, parts: ServiceParts, plan: WorkerPlan) -> None:
        super().__init__(attrs.evolve(parts, listen=plan.endpoints, grace=plan.grace))
        self._plan = plan
        self._covered: dict[int, list[Any]] = {}
        self._numbers = iter(range(len(plan.endpoints)))
        self._open = {share.fd for share in plan.shares}

    @property
    def cut(self) -> int:
        """
        How many exchanges were cut off.
        """
        return self._cut

    def _endpoint(self, description: str) -> IStreamServerEndpoint:
        # they are asked for in their order, and two may be the same
        return self._endpointOf(next(self._numbers), self._plan.slot)

    def _endpointOf(self, number: int, slot: int) -> IStreamServerEndpoint:
        share = self._plan.share(number, slot)
        assert share is not None
        return serverFromString(AdoptingReactor(self._parts.network.reactor, share), self._parts.listen[number])

    def cover(self, slots: list[int]) -> None:
        """
        Also accept for other slots.

        @param slots: these, and no others.
        """
        if not self.running or not self._open:
            return
        for slot in self._covered.keys() - set(slots):
            self._uncover(slot)
        for slot in set(slots) - self._covered.keys():
            ports: list[Any] = []
            self._covered[slot] = ports
            for number in range(len(self._plan.endpoints)):
                if any(share.endpoint == number and share.slot == slot for share in self._plan.shares):
                    listening: Deferred[Any] = self._endpointOf(number, slot).listen(self.site)
                    listening.addCallbacks(
                        ports.append, lambda failure: self._log.failure("cannot cover another worker", failure)
                    )

    def _uncover(self, slot: int) -> Deferred[Any]:
        ports = self._covered.pop(slot)
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    def forget(self) -> Deferred[Any]:
        """
        Close the sockets of others.

        @return: a Deferred that fires when that is done.
        """
        uncovered = DeferredList([self._uncover(slot) for slot in list(self._covered)])
        mine = {share.fd for share in self._plan.shares if share.slot in (None, self._plan.slot)}
        self._close(self._open - mine)
        return uncovered

    def _close(self, descriptors: set[int]) -> None:
        self._open = self._open - descriptors
        for fd in descriptors:
            os.close(fd)

    def _drain(self) -> Deferred[None]:
        forgotten = self.forget()
        # The ports have descriptors of their own; when they are closed, it shall be for good.
        self._close(set(self._open))
        return forgotten.addCallback(lambda _: super(WorkerService, self)._drain())

    def reopenLogs(self) -> None:
        """
        See L{ProxyService.reopenLogs}; the supervisor has said so.
        """
        if self._parts.access is not None:
            self._parts.access.reopen()

    # What one process says once, the supervisor says for all of them.

    def _started(self) -> None:
        if self._plan.slot == 0 and self._plan.first:
            self._probeTargets()

    def _stopped(self) -> None:
        pass


class Worker(Service):
    """
    The service, its pipes, and its signals.
    """

    def __init__(self, reactor: Any, service: WorkerService, sender: Sender) -> None:
        self._reactor = reactor
        self._service = service
        self._sender = sender
        self._receiver = Receiver(FROM_SUPERVISOR, self._told, self._drain)
        self._told_: dict[str, Callable[[dict[str, Any]], object]] = {
            "cover": lambda message: service.cover([int(slot) for slot in message.get("slots", ())]),
            "forget": lambda message: service.forget().addCallback(lambda _: sender.send("forgot")),
            "drain": lambda message: self._drain(),
            "cut": lambda message: service.cutNow(),
            "reopen": lambda message: service.reopenLogs(),
        }
        self._leaving = False
        self._draining = False
        self._counting: Any = None
        self._counted = -1

    def startService(self) -> None:
        """
        Listen, and say that it does as soon as the reactor runs.
        """
        super().startService()
        self._service.startService()
        self._reactor.callWhenRunning(self._ready)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._service.stopService)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._last)

    def _ready(self) -> None:
        catchSignals(
            self._reactor,
            {
                signal.SIGTERM: self._leave,
                signal.SIGUSR1: self._service.reopenLogs,
                signal.SIGINT: _ignore,
                signal.SIGHUP: _ignore,
            },
        )
        self._reactor.addReader(self._receiver)
        freezeWhatExists()
        self._sender.send("ready")
        self._count()

    def _told(self, message: dict[str, Any]) -> None:
        action = self._told_.get(message["kind"])
        if action is not None:
            action(message)

    def _count(self) -> None:
        self._counting = self._reactor.callLater(COUNTING, self._count)
        self._sendCounts()

    def _sendCounts(self) -> None:
        counts = self._service.counters.counts()
        if counts.exchanges != self._counted:
            self._counted = counts.exchanges
            self._sender.send("counts", counts=counts.data(), cut=self._service.cut)

    def _leave(self) -> None:
        """
        Ask the supervisor, which knows whether this is about one worker or about all, and what comes first then.  Who
        is asked to go twice goes.
        """
        if self._leaving:
            self._drain()
        else:
            self._leaving = True
            self._sender.send("leaving")

    def _drain(self) -> None:
        """
        Finish what runs, and end.
        """
        if not self._draining:
            self._draining = True
            self._sender.send("draining")
            stopReactor(self._reactor)

    def _last(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
        self._counted = -1
        self._sendCounts()
        self._sender.last()


def _ignore() -> None:
    pass


def run(make: Callable[[Any], ReverseProxy | ServiceParts]) -> None:
    """
    Be a worker, until the end: the whole program of a process that L{WorkerSupervisor
    <twistproxy.workers.WorkerSupervisor>} has started.

    @param make: called with the reactor; makes the proxy, or all that the service is made of.  What that says about
        listening and about the grace does not count: the supervisor says both.
    """
    try:
        plan = WorkerPlan.taken()
    except NoWorker as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(64) from None
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        # until it runs there is nothing to do for them
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(TO_SUPERVISOR, False)
    os.set_inheritable(FROM_SUPERVISOR, False)
    for share in plan.shares:
        os.set_inheritable(share.fd, False)
    _widen(1)
    # prints of the user's go where the access log goes, line by line
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if "twisted.internet.reactor" not in sys.modules:
        import_module(plan.reactor).install()
    from twisted.internet import reactor

    sender = Sender(reactor, TO_SUPERVISOR)
    _logTo(sender, plan.level)
    parts = _parts(make(reactor), reactor)
    if parts.access is not None:
        parts.access.writer.patience = PATIENCE
    worker = Worker(reactor, WorkerService(parts, plan), sender)
    try:
        worker.startService()
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    reactor.run()


def _parts(made: ReverseProxy | ServiceParts, reactor: Any) -> ServiceParts:
    if isinstance(made, ServiceParts):
        return made
    return ServiceParts(
        network=Network.of(reactor), proxy=made, targets=(), listen=(), timeouts=Timeouts(), limits=Limits()
    )


def _logTo(sender: Sender, least: str) -> None:
    level = LogLevel.levelWithName(least)

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        found = event.get("log_level") or LogLevel.info
        if found >= level:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            sender.sendEvent(found.name, str(event.get("log_namespace", "")), text[:LONGEST_TEXT])

    # Standard output and error stay what they are: the supervisor reads both.
    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False)


def _widen(fd: int) -> None:
    """
    Let a pipe hold more, where that is possible: a busy supervisor shall cost no line of the access log.
    """
    try:
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
    except (ImportError, AttributeError, OSError):
        pass
