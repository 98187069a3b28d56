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
from typing import Any, TypeAlias

import attrs
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.resource import IResource

from twistproxy.deadlines import Timeouts
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.rules.target import MADE, parseTarget
from twistproxy.server.site import ProxySite
from twistproxy.upstream import process as _process
from twistproxy.upstream.asgi import ASGIApplication, ASGIEndpoint, checkReactor
from twistproxy.upstream.endpoint import EndpointTarget
from twistproxy.upstream.inmemory import InMemoryEndpoint
from twistproxy.upstream.resource import ResourceTarget
from twistproxy.upstream.supervisor import Supervision
from twistproxy.upstream.wsgi import WSGITarget
from twistproxy.upstreams import Target

__all__ = [
    "ASGITarget",
    "EndpointTarget",
    "InMemoryEndpoint",
    "ProcessTarget",
    "ResourceTarget",
    "Supervision",
    "WSGITarget",
    "closeTargets",
    "targetOf",
]

# What comes over a connection in memory has been looked at already, and its time is measured at the other end.
_GENEROUS = Limits(head=1 << 24, requestLine=1 << 24, requestFields=1 << 16)
_PATIENT = Timeouts(**{field.name: None for field in attrs.fields(Timeouts)})

#: What L{targetOf} makes a target of.
TargetLike: TypeAlias = Target | str | IStreamClientEndpoint | IResource

#: Endpoints that lead to a host and port, and the port that goes without saying there.
_SCHEMES = {"tcp": "http", "tls": "https", "ssl": "https"}
_colons = re.compile(r"(?<!\\):").split


class ProcessTarget(_process.ProcessTarget):
    """
    A program that is started on demand, over the fast transports where there are any; see
    L{twistproxy.upstream.process.ProcessTarget}.
    """

    @staticmethod
    def findReactor(reactor: Any) -> Any:
        """
        @return: what to connect with; looked for when the program is started.
        """
        return Network.of(reactor).reactor


@attrs.frozen(init=False, eq=False)
class ASGITarget(EndpointTarget):
    """
    An ASGI application in this process, in the event loop of the asyncio reactor.  The proxy's own client speaks to the
    proxy's own server in memory, so bodies stream both ways.
    """

    def __init__(
        self,
        application: Callable[..., Any],
        *,
        host: str = "localhost",
        path: bytes = b"",
        rootPath: str = "",
        lifespan: bool = True,
        linger: float = 1.0,
        grace: float = 30.0,
        reactor: Any = None,
    ) -> None:
        """
        @param application: takes C{scope}, C{receive} and C{send} (ASGI 3).
        @param host: what stands in C{Host}, unless the client's is kept.
        @param path: the base path.
        @param rootPath: where the application is mounted: put before every path that it sees.
        @param lifespan: whether to tell it of its start, before the first request, and of its end.
        @param linger: how long a call may go on when its client has left, until it is cancelled, in seconds.
        @param grace: how long starting, ending, and the calls that run when the target is closed may take, in seconds.
        @param reactor: the reactor; the global one by default.
        @raise RuntimeError: if the reactor is another than asyncio's, with one line that says what to do.
        @raise TypeError: if C{application} cannot be called.
        """
        if not callable(application):
            raise TypeError(f"{application!r} is no ASGI application: it cannot be called")
        network = Network.of(reactor)
        checkReactor(network.reactor)
        responder = ASGIApplication(application, rootPath=rootPath, lifespan=lifespan, linger=linger, grace=grace)
        seconds = network.reactor.seconds
        site = ProxySite(responder, network.wheel, seconds, limits=_GENEROUS, timeouts=_PATIENT)
        self.__attrs_init__(
            scheme="http",
            host=host,
            port=80,
            path=path,
            endpoint=ASGIEndpoint(responder, site, network.reactor),
            called=f"asgi:{responder.name}",
        )

    def close(self) -> Deferred[None]:
        """
        Take no more requests, let those that are running end, then tell the application that it is over.

        @return: a Deferred that fires when it is done.
        """
        endpoint: ASGIEndpoint = self.endpoint
        return endpoint.close()


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
    return ProcessTarget(command, reactor=reactor)


_KINDS: dict[str, Callable[[str, str, Any], Target]] = {"endpoint:": _fromDescription, "exec:": _fromCommand}
