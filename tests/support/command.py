"""
The command in a process of its own: C{twist revproxy}.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import twistproxy
from tests.net.peers import until

_PAGE = os.sysconf("SC_PAGESIZE")
_listens = re.compile(rb"twistproxy listens on \S*?:(\d+), .*forwards")


class Command:
    """
    A running C{twist revproxy}.

    @ivar number: the number of its port.
    """

    number = 0

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        twist: Sequence[str] = (),
        launcher: Sequence[str] = ("-m", "twisted"),
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """
        @param folder: where its output goes.
        @param arguments: options of the command, besides C{--listen}.
        @param twist: options of C{twist}.
        @param launcher: what Python runs.
        @param stdin: its standard input.
        """
        self._output = folder / "output"
        # The checkout must be found from wherever this runs, with the plugin in it.
        root = str(Path(twistproxy.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *launcher, "--log-format=text", *twist),
                    *("revproxy", "--listen", "tcp:0:interface=127.0.0.1", *arguments),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=stdin,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            )

    async def started(self) -> Command:
        """
        Wait until it listens and has its signals in hand.

        @return: itself.
        """
        await until(
            lambda: b"has started" in self.output or b"Starting reactor" in self.output or self.ended,
            "its start",
        )
        await until(lambda: _listens.search(self.output) or self.ended, "that it listens")
        found = _listens.search(self.output)
        assert found is not None, self.output.decode()
        self.number = int(found[1])
        # its own signal handlers are in place when the reactor runs
        await until(lambda: self._catches(signal.SIGUSR1) or self.ended, "that it runs")
        return self

    def _catches(self, number: int) -> bool:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status)
        assert caught is not None
        return bool(int(caught[1], 16) & 1 << number - 1)

    @property
    def output(self) -> bytes:
        """
        What it has written so far.
        """
        return self._output.read_bytes()

    @property
    def ended(self) -> bool:
        """
        Whether the process has ended.
        """
        return self.process.poll() is not None

    def rss(self) -> int:
        """
        @return: its resident memory, in bytes.
        """
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE

    def peak(self) -> int:
        """
        @return: the most resident memory it has ever had, in bytes.
        """
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        """
        @return: how many it has open.
        """
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def status(self) -> int:
        """
        Wait for its end.

        @return: its exit status.
        """
        await until(lambda: self.ended, "its end")
        return self.process.wait()

    def kill(self) -> None:
        """End it if it still runs."""
        if not self.ended:
            self.process.kill()
        self.process.wait()
