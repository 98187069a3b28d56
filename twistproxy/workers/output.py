# -*- test-case-name: tests.workers.test_output -*-
"""
Where the lines that workers write to their standard output go: to the supervisor's.
"""

from __future__ import annotations

import sys
from typing import TextIO

from twisted.logger import Logger

from twistproxy.observe.lines import LineWriter, mayBlock


class LineOutput:
    """
    Passes lines of all workers on to one place.
    """

    _log = Logger()

    def __init__(self, output: TextIO | None = None) -> None:
        """
        @param output: where to; by default what standard output was when the process began, because a log puts
            something of its own in the place of C{sys.stdout}.
        """
        output = output or sys.__stdout__
        # a daemon may have none
        self._fd = -1 if output is None else output.fileno()
        self._blocking = self._fd >= 0 and mayBlock(self._fd)
        self._writer = LineWriter()
        self._failed = False

    def write(self, lines: bytes) -> None:
        """
        Write them.  What cannot be written is lost, which is said once.
        """
        if self._fd < 0:
            return
        try:
            self._writer.write(self._fd, lines, self._blocking)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._log.warn("standard output cannot be written: {error}", error=str(error))
