"""
The proxies that are compared: how each is started.

Every one is told to listen on a port of 127.0.0.1 and to forward everything to another. Twistproxy runs
with everything on (access log, request id, Via, X-Forwarded-*, timeouts); what the others lack
favors them, see C{README.md}.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import golang, nginx

HERE = Path(__file__).parent
PROXIES = HERE / "candidates"


@dataclass(frozen=True)
class Place:
    """
    Where one started candidate lives.

    @ivar port: where it listens.
    @ivar originPort: where it forwards to.
    @ivar directory: its own, existing, for whatever it writes.
    """

    port: int
    originPort: int
    directory: Path

    @property
    def log(self) -> Path:
        """
        The file for its access log.
        """
        return self.directory / "access.log"


@dataclass(frozen=True)
class Candidate:
    """
    A proxy to measure.

    @ivar name: short, for the command line and the tables.
    @ivar title: what it is, for the legend.
    @ivar command: makes the command that runs it, and whatever that needs. It may raise
        L{golang.CannotBuild}.
    """

    name: str
    title: str
    command: Callable[[Place], list[str]]


def twistproxyCommand(place: Place) -> list[str]:
    """
    Run this environment's own C{twist revproxy}.
    """
    return [
        str(Path(sys.executable).parent / "twist"),
        "revproxy",
        *("--target", f"http://127.0.0.1:{place.originPort}"),
        *("--listen", f"tcp:{place.port}:interface=127.0.0.1"),
        *("--access-log", str(place.log)),
    ]


def _goCommand(*options: str) -> Callable[[Place], list[str]]:
    return lambda place: [
        str(golang.build(PROXIES / "goproxy")),
        str(place.port),
        str(place.originPort),
        *options,
    ]


def _nginxCommand(place: Place) -> list[str]:
    return nginx.proxyCommand(place.directory, place.port, place.originPort, place.log)


def _pythonCommand(script: str) -> Callable[[Place], list[str]]:
    return lambda place: [sys.executable, str(PROXIES / script), str(place.port), str(place.originPort)]


OURS = "twistproxy"
# The one to which the others are compared.
BASE = "go"

CANDIDATES = (
    Candidate(OURS, "twist revproxy, everything on", twistproxyCommand),
    Candidate(BASE, "Go's httputil.ReverseProxy, no access log", _goCommand()),
    Candidate("go+pool", "the same with a BufferPool", _goCommand("pool")),
    Candidate("nginx", "nginx with proxy_pass, one worker, access log on", _nginxCommand),
    Candidate(
        "aiohttp", "aiohttp server and client on uvloop, no access log", _pythonCommand("aiohttpproxy.py")
    ),
    Candidate(
        "stock", "twisted.web.proxy.ReverseProxyResource, no access log", _pythonCommand("stockproxy.py")
    ),
)


def parseCandidate(text: str) -> Candidate:
    """
    Make a candidate of the command line's C{NAME=COMMAND}.

    @param text: the command may contain C{{port}}, C{{origin}} (the port to forward to) and C{{log}}; it is
        split like a shell's, but run without one.
    @raise ValueError: if there is no name or no command.
    """
    name, _, command = text.partition("=")
    words = shlex.split(command)
    if not name or not words:
        raise ValueError(f"not NAME=COMMAND: {text!r}")

    def fill(place: Place) -> list[str]:
        values = {"{port}": str(place.port), "{origin}": str(place.originPort), "{log}": str(place.log)}
        filled = []
        for word in words:
            for key, value in values.items():
                word = word.replace(key, value)
            filled.append(word)
        return filled

    return Candidate(name, "given on the command line", fill)
