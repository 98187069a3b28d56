"""
The proxies that are compared: how each is started.

Every one is told to listen on a port of 127.0.0.1 and to forward everything to another. Twistproxy runs
with everything on (access log, request id, Via, X-Forwarded-*, timeouts); what the others lack
favors them, see C{README.md}.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import golang, haproxy, nginx

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
    @ivar prefix: what it wants before each path.
    """

    name: str
    title: str
    command: Callable[[Place], list[str]]
    prefix: str = ""


def _twistproxyCommand(*hosts: str, options: Sequence[str] = ()) -> Callable[[Place], list[str]]:
    """
    Run this environment's own C{twist revproxy}.

    @param hosts: where its targets are; the origins listen on each.
    @param options: what else it is told.
    """
    return lambda place: [
        str(Path(sys.executable).parent / "twist"),
        "revproxy",
        *(word for host in hosts for word in ("--target", f"http://{host}:{place.originPort}")),
        *("--listen", f"tcp:{place.port}:interface=127.0.0.1"),
        *("--access-log", str(place.log)),
        *options,
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


def _haproxyCommand(place: Place) -> list[str]:
    return haproxy.proxyCommand(place.directory, place.port, place.originPort)


def _pythonCommand(script: str, *options: str, log: bool = False) -> Callable[[Place], list[str]]:
    """
    @param options: what stands before the ports.
    @param log: whether it wants to know where to write its access log.
    """
    return lambda place: [
        sys.executable,
        str(PROXIES / script),
        *options,
        str(place.port),
        str(place.originPort),
        *([str(place.log)] if log else []),
    ]


OURS = "twistproxy"
# What costs most of each policy.
_POLICIES = ("--balance", "least-requests", "--retries", "1", "--retry-on", "502,503,504", "--breaker", "on")
# The one to which the others are compared.
BASE = "go"

CANDIDATES = (
    Candidate(OURS, "twist revproxy, everything on", _twistproxyCommand("127.0.0.1")),
    Candidate(
        "full",
        "the same with all policies that there are: two targets, least requests, retries, breakers",
        _twistproxyCommand("127.0.0.1", "127.0.0.2", options=_POLICIES),
    ),
    Candidate(
        "twistproxy-async",
        "the same with a director that is async def and waits one turn of the reactor",
        _pythonCommand("twistproxyasync.py", log=True),
    ),
    Candidate(BASE, "Go's httputil.ReverseProxy, no access log", _goCommand()),
    Candidate("go+pool", "the same with a BufferPool", _goCommand("pool")),
    Candidate("nginx", "nginx with proxy_pass, one worker, access log on", _nginxCommand),
    Candidate("haproxy", "HAProxy, one thread, log on", _haproxyCommand),
    Candidate(
        "aiohttp", "aiohttp server and client on uvloop, no access log", _pythonCommand("aiohttpproxy.py")
    ),
    Candidate(
        "stock", "twisted.web.proxy.ReverseProxyResource, no access log", _pythonCommand("stockproxy.py")
    ),
)

# Twisted's own resource, to which those that are mounted in twisted.web are compared.
RESOURCE_BASE = "stock"


def _resource(name: str, title: str, kind: str, prefix: str = "") -> Candidate:
    return Candidate(name, title, _pythonCommand("resourceproxy.py", kind), prefix)


RESOURCES = (
    _resource("bare", "ProxySite(ReverseProxy), no resource and no access log", "bare"),
    _resource("resource-stock", "ReverseProxyResource under Twisted's Site", "stock"),
    _resource("resource-streaming", "ReverseProxyResource under Twisted's Site with StreamingRequest", "streaming"),
    _resource("resource-proxysite", "ReverseProxyResource as the root of a ProxySite", "proxysite"),
    _resource("resource-deep", "ReverseProxyResource three levels down a tree under ProxySite", "deep", "/a/b/c"),
    *(candidate for candidate in CANDIDATES if candidate.name == RESOURCE_BASE),
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
