"""
What stands beside the load: idle connections that a proxy may or may not keep.
"""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.beside import Broken, Held, allowManyFiles
from benchmarks.works import WORKS

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhello, world\n"


class Server:
    """
    Answers each connection once, in two pieces, and keeps it.
    """

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections: list[socket.socket] = []
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            self.connections.append(connection)
            self.asked.append(connection.recv(65_536))
            if not self.asked[-1]:
                break
            connection.sendall(self._answer[:20])
            connection.sendall(self._answer[20:])

    def stop(self) -> None:
        """
        End the thread: a connection that asks for nothing ends it.
        """
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        for each in (*self.connections, self._listening):
            each.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """
    A server that answers rightly.
    """
    server = Server(ANSWER)
    yield server
    server.stop()


def test_held(server: Server) -> None:
    """Each connection has asked once, and stays open until the end; one that was closed is noticed."""
    with Held(server.port, "/small", 5) as held:
        assert len(server.asked) == 5
        assert {data.split(b"\r\n")[0] for data in server.asked} == {b"GET /small HTTP/1.1"}
        assert held.gone() == 0
        server.connections[2].shutdown(socket.SHUT_RDWR)
        assert held.gone() == 1
    assert [connection.recv(1) for connection in server.connections] == [b""] * 5


def test_refused() -> None:
    """A proxy that takes no connection, or answers wrongly, is a reason and not a crash."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Broken, match="connection 1 of 3"), Held(port, "/", 3):
        pass
    server = Server(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    try:
        with pytest.raises(Broken, match="503"), Held(server.port, "/", 3):
            pass
    finally:
        server.stop()


def test_enoughFiles() -> None:
    """Thousands of connections need that many files, so the limit is raised as far as it goes."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert allowManyFiles() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert max(work.idle for work in WORKS) == 5000
