"""
Counting what Python does for a request: exact where a time never is.

Function calls are told by C{sys.setprofile}: those of Python functions, a generator's resumption being one, and those
of functions in C that Python code calls. The harness's own are left out.

CPython does not say how many objects it has allocated. What it says exactly is how many blocks of memory are in
use, and with C{tracemalloc} how many bytes: so what is counted is what an exchange holds while it waits for
its upstream, what an idle connection holds, the peak while an exchange is carried, and what is left when all is over,
which is nothing unless something leaks.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.inprocess import KINDS, ROUND, InProcess, Kind

_OURS = str(Path(__file__).parent)
#: Connections or exchanges that are looked at together: what grows by steps then counts for what it is, and so many
#: request ids are made at a time.
TOGETHER = 256


class CallCount:
    """
    Counts calls while it is entered.

    @ivar python: calls of Python functions.
    @ivar builtin: calls of functions in C, by Python code.
    """

    def __init__(self) -> None:
        self.python = 0
        self.builtin = 0

    def __enter__(self) -> CallCount:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *reason: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            if not frame.f_code.co_filename.startswith(_OURS):
                self.python += 1
        elif event == "c_call" and not frame.f_code.co_filename.startswith(_OURS):
            self.builtin += 1


@contextmanager
def quietCollector() -> Iterator[None]:
    """
    Keep the garbage collector from coming in between.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def countCalls(log: Path) -> dict[str, float]:
    """
    Count the function calls of each kind of exchange.

    @param log: the file for the access log.
    @return: figures per request.
    """
    figures = {}
    with quietCollector():
        for kind in KINDS:
            proxy = InProcess(log)
            proxy.check(kind)
            proxy.run(kind)
            with CallCount() as count:
                proxy.run(kind)
            proxy.close()
            # the connection is opened and accepted within: its share is a fraction, and always the same one
            figures[f"calls.{kind.name}"] = round(count.python / ROUND, 2)
            figures[f"builtins.{kind.name}"] = round(count.builtin / ROUND, 2)
    return figures


def countMemory(log: Path) -> dict[str, float]:
    """
    Count what is held at four moments, in blocks and in bytes.

    @param log: the file for the access log.
    @return: figures per connection or per exchange.
    """
    figures = {}
    with quietCollector():
        for unit, value in _moments(log, sys.getallocatedblocks).items():
            figures[f"blocks.{unit}"] = value
        tracemalloc.start()
        try:
            for unit, value in _moments(log, lambda: tracemalloc.get_traced_memory()[0]).items():
                figures[f"bytes.{unit}"] = value
            for kind in KINDS:
                figures[f"bytes.peak.{kind.name}"] = _peak(log, kind)
        finally:
            tracemalloc.stop()
    return figures


def _moments(log: Path, measure: Callable[[], int]) -> dict[str, float]:
    """
    Open connections, let exchanges wait on all of them at once, and let them end.

    @param measure: tells how much is in use.
    """
    kind = KINDS[0]
    proxy = InProcess(log)
    clients: list[Any] = []

    def reading() -> int:
        for transport in (*proxy.network.dialed, *(client.transport for client in clients)):
            transport.forget()
        proxy.flush()
        gc.collect()
        return measure()

    for _ in range(3):  # the first time makes the upstream connections, and whatever else is made once
        before = reading()
        clients.extend(proxy.connect() for _ in range(TOGETHER))
        for client in [*clients, *clients]:  # what a connection remembers it remembers from the second time on
            proxy.exchange(client, kind.requests[0], kind.answer)
        idle = reading()
        for client in clients:
            client.dataReceived(kind.requests[0])
        asked = [transport for transport in proxy.network.dialed if transport.last]
        waiting = reading()
        for transport in asked:
            transport.protocol.dataReceived(kind.answer[0])
        del asked
        after = reading()
        for client in clients:
            client.transport.drop()
        clients.clear()
        del client, transport
    proxy.close()
    return {
        "idle connection": round((idle - before) / TOGETHER, 1),
        "waiting exchange": round((waiting - idle) / TOGETHER, 1),
        "left behind": round((after - idle) / TOGETHER, 1),
    }


def _peak(log: Path, kind: Kind) -> float:
    """
    @return: by how many bytes memory grows at most while one exchange is carried.
    """
    proxy = InProcess(log)
    proxy.run(kind, 8)
    client = proxy.connect()
    peaks = []
    for number in range(9):
        request = kind.requests[number % len(kind.requests)]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        proxy.exchange(client, request, kind.answer)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    proxy.close()
    return sorted(peaks)[len(peaks) // 2]
