# -*- test-case-name: tests.observe.test_lines -*-
"""
Writing lines so that whoever reads them gets each one whole.

A file that is opened to append takes what one C{write} brings in one piece, whoever else writes to it.  A pipe takes
so much in one piece as POSIX's C{PIPE_BUF} says, and is not asked to take anything before it has room, because a reader
that has stopped reading must not stop the writer.  So lines are written in pieces that end where lines end.
"""

from __future__ import annotations

import errno
import os
import select
import stat

#: What a pipe that is ready takes without blocking: POSIX's PIPE_BUF, on Linux.
ATOMIC = 4096


def mayBlock(fd: int) -> bool:
    """
    @return: whether writing to a descriptor may wait for somebody: to a pipe or a terminal, say.
    """
    return not stat.S_ISREG(os.fstat(fd).st_mode)


class LineWriter:
    """
    Writes lines to one place after another.

    @ivar patience: how long a write may wait for whoever reads, in seconds.  One who has kept it waiting for so long is
        not waited for again until it reads.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self.patience = patience
        self._keptWaiting = False
        self._torn = False

    def write(self, fd: int, data: bytes, blocking: bool) -> None:
        """
        @param fd: where to.
        @param data: lines, each with its end.
        @param blocking: whether writing there L{mayBlock}.
        @raise OSError: if lines are lost.
        """
        if self._torn:
            # what was left behind of a line must not become the beginning of another
            data = b"\n" + data
        rest = memoryview(data)
        begun = False
        try:
            while rest:
                if blocking and not self._ready(fd):
                    raise BlockingIOError(errno.EAGAIN, "whoever reads it does not keep up; lines are lost")
                written = os.write(fd, rest[: piece(data, len(data) - len(rest))] if blocking else rest)
                begun = True
                rest = rest[written:]
        finally:
            if begun:
                self._torn = bool(rest) and data[len(data) - len(rest) - 1] != 0x0A

    def _ready(self, fd: int) -> bool:
        ready = bool(select.select((), (fd,), (), 0.0 if self._keptWaiting else self.patience)[1])
        self._keptWaiting = not ready
        return ready


def piece(data: bytes, start: int) -> int:
    """
    @return: how many bytes from C{start} on to write in one go: as many whole lines as are no more than L{ATOMIC}, or
        so much of a line that is longer.
    """
    if len(data) - start <= ATOMIC:
        return len(data) - start
    end = data.rfind(b"\n", start, start + ATOMIC)
    return ATOMIC if end < 0 else end + 1 - start
