"""
A worker as a process of the system.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from twistproxy.workers.process import WorkerProcess


class Told:
    """Somebody who is told of a worker."""

    def __init__(self) -> None:
        self.end: Deferred[str] = Deferred()

    def workerSays(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """Not here."""

    def workerLogs(self, worker: WorkerProcess, level: str, namespace: str, text: str) -> None:
        """Not here."""

    def workerWrites(self, lines: bytes) -> None:
        """Not here."""

    def workerEnded(self, worker: WorkerProcess, how: str) -> None:
        """Note it."""
        self.end.callback(how)


@pytest_twisted.ensureDeferred
async def test_childOutlivesTheWorker() -> None:
    """The end of a worker shows even if a process that it has started lives on with its output."""
    told = Told()
    worker = WorkerProcess(told, 0)
    worker.spawn(reactor, ["/bin/sh", "-c", "sleep 60 & echo $! >&2; exit 3"], os.environ, {})
    told.end.addTimeout(20, reactor)
    try:
        assert await told.end == "ended (exit status 3)"
    finally:
        os.kill(int(worker.lastWords), signal.SIGKILL)
