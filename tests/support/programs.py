"""
Programs that stories are played with.
"""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """
    @return: the path of a program; where it is missing, the test is skipped and says so.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin" + os.pathsep + "/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
