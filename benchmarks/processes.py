"""
Starting programs and, above all, ending them.

Each runs in a process group of its own, so that Ctrl-C reaches the benchmark alone, which then ends all of
them in order. Their output goes to a file in the run's temporary directory; its last line is the reason
given for one that does not start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure

# A Python proxy on a busy core needs about a second.
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0


class DidNotStart(Exception):
    """
    A program ended, or did not listen, before it was asked anything.
    """


class Running:
    """
    A program that listens on a port.

    @ivar pid: the process id, which is also the id of its process group.
    @ivar port: the TCP port on 127.0.0.1.
    """

    def __init__(self, command: Sequence[str], port: int, core: int, output: Path) -> None:
        """
        Start it, without waiting.

        @param command: the program and its arguments.
        @param core: the core on which it and all its children run.
        @param output: the file for its standard output and error.
        @raise DidNotStart: if there is no such program.
        """
        self.port = port
        self._output = output
        self._stopped = False
        with output.open("wb") as sink, measure.pinnedTo(core):
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, process_group=0
                )
            except OSError as error:
                raise DidNotStart(f"{command[0]}: {error.strerror}") from error
        self.pid = self._process.pid

    def waitUntilListening(self) -> None:
        """
        Block until the port accepts connections.

        @raise DidNotStart: with the last line of the program's output, or after L{START_TIMEOUT} seconds.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self.ended:
                raise DidNotStart(f"ended with {self._process.returncode}: {self.lastLine()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                time.sleep(0.05)
        raise DidNotStart(f"does not listen after {START_TIMEOUT:g} s: {self.lastLine()}")

    @property
    def ended(self) -> bool:
        """
        Whether the program has ended.
        """
        return self._process.poll() is not None

    def lastLine(self) -> str:
        """
        Give the last line the program wrote, or a word for none.
        """
        lines = self._output.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")

    def stop(self) -> None:
        """
        End the program and all its children, politely first.  Harmless if that was done before.
        """
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        # Also when the first process went away: a child that ignored the signal keeps the group alive.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def freePorts(count: int) -> list[int]:
    """
    Find TCP ports on 127.0.0.1 which nobody uses.

    @return: C{count} different ports. All are held while searching, so none is given twice.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
