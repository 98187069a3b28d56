"""
Run C{twist} so that it tells on request what Python knows of its memory.

Usage: python -m benchmarks.watched FILE path/to/twist ARGUMENT...

On SIGUSR2 it collects garbage and appends a line of JSON to FILE: how many objects the collector looks after that were
made since the proxy has started, and how many it has found in cycles so far.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from pathlib import Path


def tell(path: Path) -> None:
    """
    Write a line.
    """
    gc.collect()
    collected = sum(generation["collected"] for generation in gc.get_stats())
    line = json.dumps({"objects": len(gc.get_objects()), "collected": collected})
    with path.open("a") as file:
        file.write(line + "\n")


def main(path: Path, arguments: list[str]) -> None:
    """
    Run twist.
    """
    from twisted.application.twist._twist import Twist

    signal.signal(signal.SIGUSR2, lambda number, frame: tell(path))
    Twist.main(["twist", *arguments])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3:])
