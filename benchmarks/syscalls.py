"""
Counting what twistproxy asks of the kernel for a request, by strace.

The client and the origin are this very program, which does one thing after the other: it sends, waits until all
requests have come out at the other end, answers, waits until all answers have come back. So nothing is left to
the speed of the machine but how many events the proxy finds waiting at a time: that shows in C{epoll_wait}, which is
counted apart, and hardly in a sequence of single requests.
"""

from __future__ import annotations

import re
import selectors
import shutil
import socket
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.candidates import Candidate, Place
from benchmarks.processes import DidNotStart, Running, freePorts

REQUEST = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nContent-Length: 13\r\n\r\nhello, world\n"

SEQUENTIAL = 512
CONNECTIONS = 32
ROUNDS = 16

#: A thing that does not happen within so many seconds never will.
_TIMEOUT = 20.0
# A process id comes first where there are several processes or threads.
_call = re.compile(r"^(?:\d+\s+)?(\w+)\(", re.MULTILINE)
_timedOut = re.compile(r"^(?:\d+\s+)?epoll_wait\(.*\) += 0$", re.MULTILINE)


def countLines(text: str) -> Counter[str]:
    """
    Count the system calls in what strace has written.

    @return: how many by name. Waits that ended because time was up are left out: how many there are depends on how
        long the machine takes.
    """
    counts = Counter(_call.findall(text))
    counts["epoll_wait"] -= len(_timedOut.findall(text))
    return +counts


def countSyscalls(candidate: Candidate, directory: Path, core: int) -> dict[str, float]:
    """
    Run a proxy under strace, and requests through it.

    @param candidate: the proxy.
    @param directory: for what is written.
    @param core: where the proxy runs.
    @return: figures per request.
    @raise DidNotStart: if it does not, or if there is no strace.
    """
    if shutil.which("strace") is None:
        raise DidNotStart("there is no strace: please install it, or leave system calls out by --no-syscalls")
    trace = directory / "trace"
    with _Ends() as ends:
        place = Place(freePorts(1)[0], ends.port, directory)
        command = ["strace", "-f", "-qq", "-o", str(trace), "--", *candidate.command(place)]
        proxy = Running(command, place.port, core, directory / "output")
        try:
            proxy.waitUntilListening()
            figures = {}
            for name, connections, rounds in (("one by one", 1, SEQUENTIAL), ("32 at once", CONNECTIONS, ROUNDS)):
                clients = ends.connect(place.port, connections)
                # connections are made in the first rounds
                ends.run(clients, 4)
                before = len(_settled(trace))
                ends.run(clients, rounds)
                counts = countLines(_settled(trace)[before:])
                requests = connections * rounds
                figures[f"syscalls.{name}.epoll_wait"] = round(counts.pop("epoll_wait", 0) / requests, 2)
                figures[f"syscalls.{name}.others"] = round(sum(counts.values()) / requests, 2)
            return figures
        finally:
            proxy.stop()


def _settled(trace: Path) -> str:
    """
    @return: what strace has written, once it has nothing to add: it writes line by line, a little behind.
    """
    size = -1
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        text = trace.read_text(errors="replace")
        if len(text) == size:
            return text
        size = len(text)
        time.sleep(0.03)
    raise DidNotStart("strace never stops writing")


class _Ends:
    """
    The client and the origin. A context manager: leaving it closes all connections.

    @ivar port: where the origin listens.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> _Ends:
        return self

    def __exit__(self, *reason: object) -> None:
        self._selector.close()
        for each in (*self._open, self._listening):
            each.close()

    def connect(self, port: int, count: int) -> list[socket.socket]:
        """
        Connect clients.
        """
        clients = [socket.create_connection(("127.0.0.1", port), _TIMEOUT) for _ in range(count)]
        self._open += clients
        return clients

    def run(self, clients: Sequence[socket.socket], rounds: int) -> None:
        """
        Let each client ask once in each round.

        @raise DidNotStart: if an answer is missing or wrong.
        """
        for _ in range(rounds):
            for client in clients:
                client.sendall(REQUEST)
            for upstream in self._asked(len(clients)):
                upstream.sendall(ANSWER)
            for client in clients:
                got = b""
                while not got.endswith(b"hello, world\n"):
                    piece = client.recv(65_536)
                    if not piece:
                        raise DidNotStart(f"the proxy broke off after {got[:80]!r}")
                    got += piece

    def _asked(self, count: int) -> list[socket.socket]:
        """
        Wait until so many requests have come out of the proxy.

        @return: the connections that they came over.
        """
        asked: list[socket.socket] = []
        deadline = time.monotonic() + _TIMEOUT
        while len(asked) < count:
            if time.monotonic() > deadline:
                raise DidNotStart(f"{len(asked)} of {count} requests came through the proxy")
            for key, _ in self._selector.select(1.0):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._listening:
                    accepted, _ = ready.accept()
                    self._open.append(accepted)
                    self._selector.register(accepted, selectors.EVENT_READ)
                    continue
                try:
                    data = ready.recv(65_536)
                except ConnectionError:
                    data = b""
                if not data:
                    # the proxy looks once whether the target is there
                    self._selector.unregister(ready)
                elif data.endswith(b"\r\n\r\n"):
                    asked.append(ready)
        return asked
