"""
The annotations, as users' type checkers see them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
API = Path(__file__).with_name("api.py")


def test_api() -> None:
    """Users' code passes C{mypy --strict}, and each of its mistakes on purpose is found for what it is."""
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(API)],
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.stdout + ran.stderr == ""
    assert ran.returncode == 0
