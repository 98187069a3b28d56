"""
Much data at full speed: senders and receivers in threads of their own, so that they run beside the reactor.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from tests.net.peers import turn
from tests.support.programs import LIMIT

#: What is sent, over and over.
BLOCK = hashlib.shake_128(b"volume").digest(1 << 20)


def digestOf(blocks: int) -> str:
    """
    @return: the SHA-256 of so many L{BLOCK}s.
    """
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)
    return digest.hexdigest()


class Worker(threading.Thread):
    """
    A part that is played in a thread.

    @ivar moved: bytes that it has sent or received so far.
    @ivar failure: what it raised.
    """

    def __init__(self, play: Callable[[Worker], None]) -> None:
        super().__init__(daemon=True)
        self._play = play
        self.moved = 0
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Play it."""
        try:
            self._play(self)
        except BaseException as error:  # told where the part is awaited
            self.failure = error

    async def done(self) -> None:
        """Wait for its end."""
        end = time.monotonic() + LIMIT
        while self.is_alive():
            assert time.monotonic() < end, f"a part that has moved {self.moved} bytes does not end"
            await turn(0.001)
        if self.failure is not None:
            raise self.failure

    async def stuck(self) -> int:
        """
        Wait until it does not get on any more.

        @return: the bytes moved until then.
        """
        last, same = -1, 0
        while same < 200:
            assert self.failure is None, self.failure
            same = same + 1 if self.moved == last else 0
            last = self.moved
            await turn(0.001)
        return self.moved


def sendBlocks(sock: socket.socket, blocks: int, chunked: bool, worker: Worker) -> None:
    """Send so many blocks as a body."""
    if chunked:
        for _ in range(blocks):
            sock.sendall(b"%x\r\n" % len(BLOCK))
            sock.sendall(BLOCK)
            sock.sendall(b"\r\n")
            worker.moved += len(BLOCK)
        sock.sendall(b"0\r\n\r\n")
    else:
        for _ in range(blocks):
            sock.sendall(BLOCK)
            worker.moved += len(BLOCK)


class Receiving:
    """
    Reads a body and remembers only its length and digest.

    @ivar length: its length so far, in bytes.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb", buffering=1 << 18)
        self._digest = hashlib.sha256()
        self.length = 0

    def head(self) -> bytes:
        """
        @return: the head, with its empty line.
        """
        lines = []
        while not lines or lines[-1] not in (b"\r\n", b""):
            lines.append(self._file.readline())
        return b"".join(lines)

    def body(self, length: int | None, worker: Worker, pauseAfter: int, go: threading.Event) -> str:
        """
        Read a body, and stop in the middle of it until told to go on.

        @param length: its length in bytes, C{None} if it is chunked.
        @param pauseAfter: where to stop.
        @return: its digest.
        """
        left = self._size() if length is None else length
        while left:
            piece = self._file.read1(min(left, 1 << 18))
            if not piece:
                raise EOFError(f"the body ended after {self.length} bytes")
            self._digest.update(piece)
            left -= len(piece)
            self.length += len(piece)
            worker.moved = self.length
            if self.length >= pauseAfter:
                pauseAfter = 1 << 62
                go.wait(60)
            if not left and length is None:
                self._file.read(2)
                left = self._size()
        return self._digest.hexdigest()

    def _size(self) -> int:
        size = int(self._file.readline(), 16)
        if not size:
            self._file.readline()
        return size

    def close(self) -> None:
        """Let go of the socket."""
        self._file.close()


def blocking(number: int | None = None, sock: socket.socket | None = None) -> socket.socket:
    """
    @param number: of a port of the loopback interface to connect to.
    @param sock: a socket to use instead.
    @return: a blocking socket that gives up after a minute.
    """
    if sock is None:
        sock = socket.create_connection(("127.0.0.1", number))
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 60, 0))
    return sock
