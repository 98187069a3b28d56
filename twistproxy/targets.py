# -*- test-case-name: tests.test_targets -*-
"""
All that can be a target, and the one place that makes targets of what users write.

A target is a value, made once and named again and again: its connections are kept for it, and what stands behind it (a
program, an application) is started for it.  L{targetOf} takes a target as it is, and makes one of anything else that
tells by itself how it is reached.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.resource import IResource

from twistproxy.net.network import Network
from twistproxy.rules.target import MADE, parseTarget
from twistproxy.upstream.endpoint import EndpointTarget
from twistproxy.upstream.inmemory import InMemoryEndpoint
from twistproxy.upstream.process import ProcessTarget
from twistproxy.upstream.resource import ResourceTarget
from twistproxy.upstream.supervisor import Supervision
from twistproxy.upstream.wsgi import WSGITarget
from twistproxy.upstreams import Target

__all__ = [
    "EndpointTarget",
    "InMemoryEndpoint",
    "ProcessTarget",
    "ResourceTarget",
    "Supervision",
    "WSGITarget",
    "closeTargets",
    "targetOf",
]

#: Endpoints that lead to a host and port, and the port that goes without saying there.
_SCHEMES = {"tcp": "http", "tls": "https", "ssl": "https"}
_colons = re.compile(r"(?<!\\):").split


def targetOf(given: Any, reactor: Any = None) -> Target:
    """
    Make a target of what users write.

    @param given: a target, which is given back; a client endpoint; a C{twisted.web} resource; or a string: an address
        as L{parseTarget} reads it, C{endpoint:DESCRIPTION} with the description of any Twisted client endpoint, or
        C{exec:PROGRAM} with a program and its arguments, as for L{ProcessTarget}.
    @param reactor: a reactor or L{Network}, for what has to be made; the global reactor by default.
    @raise ValueError: for a string that is no target, with one line that says what to write.
    @raise TypeError: if C{given} is nothing of these.
    """
    if isinstance(given, Target):
        return given
    if isinstance(given, str):
        kind, colon, rest = given.partition(":")
        make = _KINDS.get(kind + colon)
        # "endpoint:8081" has always been a host and a port, and is no endpoint: parseTarget says so
        return parseTarget(given) if make is None or rest[:1].isdigit() else make(given, rest, reactor)
    if IStreamClientEndpoint.providedBy(given):
        return EndpointTarget("http", "localhost", 80, endpoint=given, called=f"endpoint:{type(given).__name__}")
    if IResource.providedBy(given):
        return ResourceTarget(given, reactor=reactor if reactor is None else Network.of(reactor).reactor)
    raise TypeError(f"{given!r} is no target: give a Target, a client endpoint, or a string such as 'http://host:port'")


def isTarget(given: Any) -> bool:
    """
    @return: whether it is something that L{targetOf} takes, if perhaps a malformed string.
    """
    return isinstance(given, (Target, str)) or IStreamClientEndpoint.providedBy(given) or IResource.providedBy(given)


def isMade(given: Any) -> bool:
    """
    @return: whether it is a string of which L{targetOf} would make something that has to be closed, or at least kept.
    """
    return isinstance(given, str) and given.startswith(MADE) and not given.partition(":")[2][:1].isdigit()


def closeTargets(targets: Iterable[Target]) -> Deferred[None]:
    """
    Close those targets that can be closed.

    @return: a Deferred that fires when they are.
    """
    closing = [maybeDeferred(target.close) for target in targets if hasattr(target, "close")]
    return DeferredList(closing, consumeErrors=True).addCallback(lambda _: None)


def _fromDescription(text: str, description: str, reactor: Any) -> Target:
    try:
        endpoint = clientFromString(Network.of(reactor).reactor, description)
    except Exception as error:
        # a TypeError tells of functions inside of Twisted
        reason = "malformed" if isinstance(error, TypeError) else str(error)
        raise ValueError(
            f"the target {text!r} names no endpoint: {reason}; write endpoint:tcp:host=127.0.0.1:port=8081, "
            "or any other client endpoint of Twisted's"
        ) from error
    scheme, host, port = _authority(description)
    return EndpointTarget(scheme, host, port, endpoint=endpoint, called=text)


def _authority(description: str) -> tuple[str, str, int]:
    """
    @return: scheme, host and port that a description of an endpoint leads to, as far as it shows; they become C{Host}.
    """
    kind, *arguments = _colons(description)
    scheme = _SCHEMES.get(kind.lower())
    if scheme is not None:
        named = dict(each.split("=", 1) for each in arguments if "=" in each)
        placed = [each for each in arguments if "=" not in each]
        host = named.get("host") or (placed.pop(0) if placed else "")
        port = named.get("port") or (placed.pop(0) if placed else "")
        try:
            target = parseTarget(f"{scheme}://{_bracketed(host)}:{port}")
        except ValueError:
            pass
        else:
            return scheme, target.host, target.port
    return "http", "localhost", 80


def _bracketed(host: str) -> str:
    host = host.replace("\\:", ":")
    return f"[{host}]" if ":" in host else host


def _fromCommand(text: str, command: str, reactor: Any) -> Target:
    return ProcessTarget(command, reactor=Network.of(reactor).reactor)


_KINDS: dict[str, Callable[[str, str, Any], Target]] = {"endpoint:": _fromDescription, "exec:": _fromCommand}
