"""
What an installed twistproxy promises: to package tools, to type checkers, and to C{twist}.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata, version
from importlib.resources import files
from pathlib import Path

TWIST = Path(sys.executable).with_name("twist")


def test_metadata() -> None:
    """The distribution says what it is, what it needs and under which terms it comes."""
    found = metadata("twistproxy")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version("twistproxy"))
    assert found["Requires-Python"] == ">=3.11"
    assert found["License-Expression"] == "MIT"
    assert found["Summary"]
    wanted = [line for line in found.get_all("Requires-Dist") or [] if "extra" not in line]
    needed = {re.split(r"[^\w.-]", line)[0].replace(".", "-") for line in wanted}
    assert needed == {"attrs", "hpack", "treq", "twisted", "zope-interface"}


def test_extras() -> None:
    """The extras that the Makefile installs exist."""
    assert set(metadata("twistproxy").get_all("Provides-Extra") or []) == {"benchmarks", "docs", "test"}


def test_typed() -> None:
    """The marker that tells type checkers to believe the annotations is shipped."""
    assert files("twistproxy").joinpath("py.typed").is_file()


def test_needsNothingElse() -> None:
    """
    Every module of the package can be imported where nothing is installed but what it depends on.  The plugin for
    pytest is for those who have pytest.
    """
    program = (
        "import importlib, pkgutil, sys\n"
        "absent = 'OpenSSL aiohttp h11 h2 hypothesis klein pytest pytest_twisted treq uvicorn uvloop websockets'\n"
        "sys.modules.update(dict.fromkeys(absent.split()))\n"
        "import twistproxy\n"
        "names = [found.name for found in pkgutil.walk_packages(twistproxy.__path__, 'twistproxy.')]\n"
        "for name in names:\n"
        "    if not name.endswith(('.__main__', '.pytestplugin')):\n"
        "        importlib.import_module(name)\n"
        "print('twistproxy.workers.sockets' in names)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (told.stderr, told.stdout) == ("", "True\n")


def test_pluginIsFound() -> None:
    """B10.1: C{twist --help} lists the command C{revproxy}."""
    told = subprocess.run([TWIST, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.search(r"^\s+revproxy\s+A reverse HTTP proxy\.$", told, re.MULTILINE)


def test_pluginLeavesTheReactorAlone() -> None:
    """C{twist --reactor} works, because nothing on the way to the options has installed one already."""
    program = (
        "import sys\n"
        "from twisted.plugins import twistproxy_plugin\n"
        "twistproxy_plugin.revproxy.options()\n"
        "assert 'twistproxy.tap' in sys.modules\n"
        "print('twisted.internet.reactor' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told == "False\n"
