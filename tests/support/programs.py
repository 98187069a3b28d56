"""
Programs that stories are played with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.net.peers import turn

#: How long a program may run, in seconds.  Only a failing test waits that long.
LIMIT = 90.0


def program(name: str) -> str:
    """
    @return: the path of a program; where it is missing, the test is skipped and says so.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin" + os.pathsep + "/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@dataclass
class Ended:
    """A program that has ended: its exit status and what it wrote."""

    status: int
    output: bytes
    errors: bytes


def python(*arguments: str, folder: Path | None = None, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """
    Run a Python that finds what this one does, and wait for its end; meanwhile the reactor stands still.

    @param arguments: its command line: C{-c} and a program, say.
    @param folder: where it runs; here by default.
    @param seconds: how long it may take.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


async def run(*arguments: str, given: bytes = b"", descriptors: tuple[int, ...] = ()) -> Ended:
    """
    Run a program while the reactor turns.

    @param given: its standard input.
    @param descriptors: what it inherits besides.
    """
    with (
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        source.write(given)
        source.seek(0)
        process = subprocess.Popen(
            arguments, stdin=source, stdout=output, stderr=errors, pass_fds=descriptors
        )
        try:
            # by a clock of its own, as what it does may be much
            end = time.monotonic() + LIMIT
            while process.poll() is None:
                assert time.monotonic() < end, f"{arguments} did not end"
                await turn(0.002)
        finally:
            if process.poll() is None:
                process.kill()
            status = process.wait()
        output.seek(0)
        errors.seek(0)
        return Ended(status, output.read(), errors.read())
