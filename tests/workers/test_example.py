"""
The guide's programs with workers of one's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import twistproxy
from tests.test_docs import ask, freePort, origins

__all__ = ["origins"]

CHECKOUT = Path(twistproxy.__file__).parent.parent
EXAMPLES = CHECKOUT / "docs" / "examples" / "workers"


def test_workersExample(origins: list[int], tmp_path: Path) -> None:
    """A supervisor in a program of one's own, and a director of one's own in its workers."""
    port, (pages, _) = freePort(), origins
    for name in ("worker.py", "supervise.py"):
        text = (EXAMPLES / name).read_text().replace("localhost:3000", f"127.0.0.1:{pages}")
        (tmp_path / name).write_text(text.replace("tcp:8080", f"tcp:{port}:interface=127.0.0.1"))
    with subprocess.Popen(
        [sys.executable, "-u", tmp_path / "supervise.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "two workers are ready\n"
            answers = [ask(port, path) for path in ("/x?y=1", "/internal/secrets", "/z")]
        finally:
            process.terminate()
        said = process.stdout.read()
        assert (process.wait(), said) in ((-15, ""), (0, ""))
    assert [answers[0], answers[2]] == [(200, f"{pages} /x?y=1 127.0.0.1"), (200, f"{pages} /z 127.0.0.1")]
    assert answers[1][0] == 404


def test_supervisorGivesUp(tmp_path: Path) -> None:
    """Workers that cannot start end the guide's supervisor, with the reason and a status."""
    (tmp_path / "worker.py").write_text("raise SystemExit('no database')\n")
    text = (EXAMPLES / "supervise.py").read_text()
    (tmp_path / "supervise.py").write_text(text.replace("tcp:8080", f"tcp:{freePort()}:interface=127.0.0.1"))
    told = subprocess.run(
        [sys.executable, tmp_path / "supervise.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
        timeout=60,
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert "5 times in a row (its last words: no database)" in told.stderr.splitlines()[-1]


def test_workerAlone() -> None:
    """A worker that nobody supervises says so and ends."""
    told = subprocess.run(
        [sys.executable, EXAMPLES / "worker.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
        timeout=60,
    )
    assert (told.returncode, told.stdout) == (64, "")
    assert told.stderr == "this program is a worker and does not run alone; WorkerSupervisor starts it\n"
