"""
What stands beside the load that is measured: connections that do nothing, and tunnels that are opened before.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import tempfile
from types import TracebackType
from typing import IO

from benchmarks import golang
from benchmarks.golang import HERE

_TIMEOUT = 20.0


class Broken(Exception):
    """
    A proxy did not take the connections, or lost them.
    """


def allowManyFiles() -> int:
    """
    Let this process, and those that it starts, have as many open files as may be had without asking anybody.

    @return: how many that is.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Held:
    """
    Connections that are open and idle, each of which has asked once. A context manager: leaving it closes them.
    """

    def __init__(self, port: int, path: str, count: int) -> None:
        """
        @param port: where the proxy listens.
        @param path: what is asked for.
        @param count: how many there are.
        """
        self._port = port
        self._count = count
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode("ascii")
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Held:
        try:
            for _ in range(self._count):
                self._open()
        except OSError as error:
            self._close()
            raise Broken(f"connection {len(self._connections) + 1} of {self._count}: {error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def gone(self) -> int:
        """
        Tell how many of them the proxy has closed, or sent something nobody asked for.
        """
        poll = select.poll()
        for connection in self._connections:
            poll.register(connection, select.POLLIN)
        return len(poll.poll(0))

    def _open(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT)
        self._connections.append(connection)
        connection.sendall(self._request)
        got = connection.recv(65_536)
        # Head and body of the small answer may come apart.
        while got and not got.endswith(b"world\n") and not got.endswith(b"0\r\n\r\n"):
            piece = connection.recv(65_536)
            if not piece:
                break
            got += piece
        if not got.startswith(b"HTTP/1.1 200 "):
            raise OSError(f"answered {got[:60]!r}")

    def _close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()


class Tunnels:
    """
    WebSocket connections, by a program of ours. A context manager: leaving it closes them.
    """

    def __init__(self, port: int, path: str, count: int) -> None:
        """
        @param port: where the proxy listens.
        @param path: where it takes handshakes.
        @param count: how many there are.
        """
        self._command = [str(golang.build(HERE / "tunnels")), str(port), path, str(count)]

    def __enter__(self) -> Tunnels:
        self._complaints: IO[str] = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            process_group=0,
        )
        if self._line() != "ready\n":
            self.__exit__(None, None, None)
            raise Broken(self._complaint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._complaints.seek(0)
        said = self._complaints.read().strip().splitlines()
        self._complaint = said[-1] if said else "no output"
        self._complaints.close()

    def play(self, milliseconds: int) -> str:
        """
        Let messages go there and back.

        @return: what the program reports.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{milliseconds}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        # The program gives up on whatever does not happen within some seconds, so a line or the end will come.
        return self._process.stdout.readline()
