# -*- test-case-name: tests.test_routes -*-
"""
Composition: several directors as one, and one site of many parts.

A L{Router} looks up what serves a request by host, path prefix, method and header fields.  The most specific route
wins, in that order: an exact host before C{*.wildcard} (the longer the better) before none, a longer prefix before a
shorter one, a named method before any, more header conditions before fewer, and what was added first before what came
later.  The order in which routes are added matters for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable, Mapping
from copy import copy
from typing import Any, Unpack, cast

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twistproxy.core.errorpage import plainResponse
from twistproxy.core.exchange import Exchange
from twistproxy.core.hooks import DirectorLike, TransportLike
from twistproxy.core.mount import mapBack, takePrefix, withPrefix
from twistproxy.core.request import ProxyRequest
from twistproxy.delivery import policiesOf
from twistproxy.directors import TargetDirector
from twistproxy.errors import ClientError
from twistproxy.headers import TOKEN
from twistproxy.interfaces import IDirector, IResponder, hookOf
from twistproxy.message import Request, Response
from twistproxy.proxy import ProxyOptions, ReverseProxy
from twistproxy.rules.pathmap import splitPrefix
from twistproxy.targets import TargetLike, isTarget

_isHost = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]").fullmatch
_needsCare = re.compile(rb"%|//|/\.").search
_escape = re.compile(rb"%([0-9A-Fa-f]{2})")
_mayBeSlash = re.compile(rb"%2[Ff]|%5[Cc]|\\").sub
_parameters = re.compile(rb";[^/]*").sub
_readDifferently = re.compile(rb"%2[Ff]|%5[Cc]|[\\;]").search
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def comparable(path: bytes) -> bytes:
    """
    @param path: an escaped path.
    @return: the form in which paths are compared: unreserved characters unescaped, slashes in a row taken for one,
        dot segments resolved (RFC 3986 6.2.2), so that no spelling of a path gets around a route.
    """
    if _needsCare(path) is None:
        return path
    path = _escape.sub(_unescaped, path)
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    end = b"/" if kept and segments[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + end


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = int(match[1], 16)
    return bytes((code,)) if code in _UNRESERVED else match[0].upper()


def hostOf(request: Request) -> bytes:
    """
    @return: the host that a request is for, in lower case, without port and final dot.
    """
    host = request.host.lower()
    if host.endswith(b"]"):
        return host
    return host.rpartition(b":")[0].removesuffix(b".") if b":" in host else host.removesuffix(b".")


def _bytes(value: bytes | str) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else value


class Route:
    """
    What a request must be to be served by a branch.

    @ivar host: C{b"www.example.com"}, C{b"*.example.com"}, or C{None} for any.
    @ivar prefix: a path without slash at its end; C{b""} for any.
    @ivar methods: the methods, or C{None} for any.
    @ivar fields: names of header fields and what they must be, C{None} for anything.
    @ivar branch: what serves it.
    @ivar stripPrefix: whether C{branch} sees paths without C{prefix}.
    @ivar forwardPrefix: whether upstreams are told of that.
    @ivar mapBack: whether what they say of their own addresses is mapped.
    """

    def __init__(
        self,
        branch: Any,
        host: str | None,
        prefix: str,
        methods: str | Iterable[str] | None,
        fields: Mapping[str, str | bytes | None],
        stripPrefix: bool = False,
        forwardPrefix: bool = True,
        mapBack: bool = True,
    ) -> None:
        """
        @raise ValueError: if one of the conditions can never be met.
        """
        if host is not None and _isHost(host.removesuffix(".")) is None:
            raise ValueError(f"{host!r} is no host; write name, *.name or [address], without a port")
        if prefix and (not prefix.startswith("/") or "?" in prefix or "#" in prefix):
            raise ValueError(f"{prefix!r} is no path prefix; it begins with a slash and has no query")
        named = [methods] if isinstance(methods, str) else methods
        self.branch = branch
        self.host = None if host is None else host.lower().removesuffix(".").encode("ascii")
        self.prefix = comparable(prefix.encode("utf-8")).rstrip(b"/")
        self.methods = None if named is None else frozenset(map(_bytes, named))
        self.fields = [(_bytes(name), None if value is None else _bytes(value)) for name, value in fields.items()]
        self.stripPrefix = stripPrefix
        self.forwardPrefix = forwardPrefix
        self.mapBack = mapBack
        if stripPrefix and not self.prefix:
            raise ValueError("stripPrefix needs a path to take off")
        if any(TOKEN.fullmatch(name) is None for name in [*(self.methods or ()), *(name for name, _ in self.fields)]):
            raise ValueError(f"a method or a header field of {self!r} is no token")

    def __repr__(self) -> str:
        return f"<Route {self.host!r} {self.prefix!r} {self.methods and sorted(self.methods)} {self.fields}>"

    def admits(self, request: Request) -> bool:
        """
        @return: whether method and header fields are right.
        """
        if self.methods is not None and request.method not in self.methods:
            return False
        for name, value in self.fields:
            found = request.headers.getAll(name)
            if not found or (value is not None and value not in found):
                return False
        return True

    def enter(self, request: Request) -> tuple[Request, bytes]:
        """
        @return: a request as the branch is to see it, and the prefix that was taken off, as the client wrote it.
        @raise ClientError: if the path is written so that no prefix can be taken off it: C{/x/../api/y} and C{//api/y}
            are below C{/api}, and do not begin with it.
        """
        inner = copy(request)
        prefix = takePrefix(inner, self.prefix.count(b"/"), self.forwardPrefix)
        whole = (self.prefix + comparable(inner.path)).rstrip(b"/")
        if comparable(prefix) != self.prefix or whole != comparable(request.path).rstrip(b"/"):
            raise ClientError(f"a path from which the prefix {self.prefix.decode('latin-1')} cannot be taken")
        return inner, prefix


@implementer(IResponder, IDirector)
class Router:
    """
    Gives each request to the branch of the most specific route.

    A router is a responder, to be given to a L{ProxySite<twistproxy.proxy.ProxySite>}.  Where all of its branches are
    directors it is also a director, for a L{ReverseProxy<twistproxy.proxy.ReverseProxy>} or for L{chain}.
    """

    def __init__(self, transport: TransportLike | None = None, **options: Unpack[ProxyOptions]) -> None:
        """
        @param transport: carries the requests of those branches that are directors.
        @param options: for the L{ReverseProxy<twistproxy.proxy.ReverseProxy>}s around these.
        @raise ValueError: if one of the policies of delivery is none, as for L{deliver<twistproxy.delivery.deliver>}.
        @raise TypeError: likewise.
        """
        # these proxies are made when the first request comes, which is no time to find that out
        policiesOf(options.get("balance"), options.get("retries"), options.get("breaker"))
        self._transport: Any = transport
        self._options = options
        self._proxies: dict[int, ReverseProxy] = {}
        self._ours: list[TargetDirector] = []
        # host (b"*.name" or None too), then prefix, then routes, best first
        self._hosts: dict[bytes | None, dict[bytes, list[Route]]] = {}
        self._wildcards = False
        self._deepest = 0

    def add(
        self,
        branch: TargetLike | Response | IResponder | DirectorLike,
        *,
        host: str | None = None,
        path: str = "",
        method: str | Iterable[str] | None = None,
        headers: Mapping[str, str | bytes | None] | None = None,
        stripPrefix: bool = False,
        forwardPrefix: bool = True,
        mapBack: bool = True,
    ) -> Router:
        """
        Add a route.  A request must meet all of its conditions.

        @param branch: an L{IResponder<twistproxy.interfaces.IResponder>}, an
            L{IDirector<twistproxy.interfaces.IDirector>}, a callable (taken for a director), a target as in
            L{TargetDirector}, or a L{Response} to answer with.
        @param host: C{"www.example.com"}; C{"*.example.com"} for every name below it.
        @param path: the beginning of the path, in whole segments: C{"/api"} is C{/api} and C{/api/x}, not C{/apix}.
        @param method: one method or several.
        @param headers: names of fields that must be there, with the value that one of their lines must have, or
            C{None} for any.
        @param stripPrefix: let the branch see paths without C{path}, as if it had a site of its own.  By default it
            sees them whole.  The other two matter only then.
        @param forwardPrefix: tell upstreams by C{X-Forwarded-Prefix}.
        @param mapBack: map C{Location}, C{Content-Location}, C{Refresh} and C{Set-Cookie} of upstreams to the public
            address; to be switched off for upstreams that go by C{X-Forwarded-Prefix} themselves.
        @return: the router itself.
        @raise ValueError: if a condition makes no sense.
        @raise TypeError: if C{branch} is nothing of these.
        """
        if isTarget(branch):
            branch = TargetDirector(cast(TargetLike, branch), reactor=self._options.get("reactor"))
            self._ours.append(branch)
        if IResponder.providedBy(branch):
            hookOf(branch, IResponder, "respond")
        elif not isinstance(branch, Response):
            hookOf(branch, IDirector, "direct")
        route = Route(branch, host, path, method, headers or {}, stripPrefix, forwardPrefix, mapBack)
        routes = self._hosts.setdefault(route.host, {}).setdefault(route.prefix, [])
        routes.append(route)
        # stable: what was added first stays first
        routes.sort(key=lambda each: (each.methods is None, -len(each.fields)))
        self._wildcards = self._wildcards or (route.host or b"").startswith(b"*")
        self._deepest = max(self._deepest, route.prefix.count(b"/"))
        return self

    def match(self, request: Request) -> Route | None:
        """
        @return: the route of a request, or C{None}.
        """
        prefixes = self._prefixes(request.path)
        for host in self._names(hostOf(request)):
            paths = self._hosts.get(host)
            if paths is not None:
                for prefix in prefixes:
                    for route in paths.get(prefix, ()):
                        if route.admits(request):
                            return route
        return None

    def _find(self, request: Request) -> Route | None:
        """
        @return: the same.
        @raise ClientError: if some upstreams would take the path for that of another route: they unescape slashes, know
            two sorts of them, or leave out what stands behind a semicolon.  A route is also what keeps requests out.
        """
        route, path = self.match(request), request.path
        if _readDifferently(path) is None or (route is not None and b"%" in route.prefix):
            return route
        other = copy(request)
        other.target = _parameters(b"", _mayBeSlash(b"/", path))
        if self.match(other) is not route:
            raise ClientError("a path that not everybody would take the same route for")
        return route

    def _names(self, host: bytes) -> list[bytes | None]:
        """
        @return: what a route's host may be, best first.
        """
        # a client's asterisk is no wildcard
        names: list[bytes | None] = [] if host.startswith(b"*") else [host]
        if self._wildcards:
            # a name has at most 127 labels, and only a valid one can match
            labels = host[-253:].split(b".")
            names += [b"*." + b".".join(labels[number:]) for number in range(1, len(labels))]
        names.append(None)
        return names

    def _prefixes(self, path: bytes) -> list[bytes]:
        """
        @return: what a route's prefix may be, longest first; no more of them than there are segments in any route.
        """
        path = comparable(path)
        found = [b""]
        if path.startswith(b"/"):
            end = 0
            while len(found) <= self._deepest and end >= 0:
                end = path.find(b"/", end + 1)
                found.append(path if end < 0 else path[:end])
        found.reverse()
        return found

    def respond(self, exchange: Exchange) -> Any:
        """
        See L{IResponder.respond<twistproxy.interfaces.IResponder>}.
        """
        try:
            route = self._find(exchange.request)
        except ClientError as fault:
            route = None
            exchange.request = copy(exchange.request)
            exchange.request.fault = exchange.request.fault or fault
        ours = exchange.request.fault is not None or route is None or isinstance(route.branch, Response)
        if route is not None and route.stripPrefix and not ours:
            ours = not self._enter(route, exchange)
        if route is None or ours:
            responder: Any = self._proxyOf(self)
        elif IResponder.providedBy(route.branch):
            responder = route.branch
        else:
            responder = self._proxyOf(route.branch)
        return responder.respond(exchange)

    def _enter(self, route: Route, exchange: Exchange) -> bool:
        """
        Take a route's prefix off an exchange's request.

        @return: whether that was possible; otherwise the request is one to be refused.
        """
        publicPath = exchange.request.path
        try:
            # not in place: a connection may go by this request when the next one comes
            exchange.request, prefix = route.enter(exchange.request)
        except ClientError as fault:
            exchange.request = copy(exchange.request)
            exchange.request.fault = fault
            return False
        if route.mapBack:
            mapBack(exchange, prefix, publicPath)
        return True

    def _proxyOf(self, director: Any) -> ReverseProxy:
        """
        @return: what carries the requests of a director; all of them share one transport.
        """
        proxy = self._proxies.get(id(director))
        if proxy is None:
            # which keeps the director, so that its id is not given out again
            proxy = self._proxies[id(director)] = ReverseProxy(director, self._transport, **self._options)
            self._transport = proxy.transport
            # its policies stand around it, and around those of the other branches with it
            self._options["balance"] = self._options["retries"] = self._options["breaker"] = None
        return proxy

    def direct(self, request: ProxyRequest) -> Any:
        """
        See L{IDirector.direct<twistproxy.interfaces.IDirector>}.

        @raise TypeError: if the branch is a responder: there is a proxy around the router already.
        """
        route = self._find(request.inbound)
        if route is None:
            return plainResponse(404)
        branch = route.branch
        if isinstance(branch, Response):
            return branch
        if route.stripPrefix:
            return self._directBelow(route, request)
        return self._ask(branch, request)

    def _ask(self, branch: Any, request: ProxyRequest) -> Any:
        if IDirector.providedBy(branch):
            return branch.direct(request)
        if IResponder.providedBy(branch):
            raise TypeError(f"{branch!r} is a responder; give the router itself to the site")
        return branch(request)

    def _directBelow(self, route: Route, request: ProxyRequest) -> Any:
        """
        Let a branch direct a request from which its prefix was taken.
        """
        inbound, outbound = request.inbound, request.outbound
        inner, prefix = route.enter(inbound)
        _, outbound.target = splitPrefix(outbound.target, route.prefix.count(b"/"))
        if route.forwardPrefix:
            outbound.ownLines()[:] = withPrefix(outbound.lines, prefix, inbound.lines)
        if route.mapBack:
            mapBack(request.exchange, prefix, inbound.path)
        return self._ask(route.branch, request.withInbound(inner))

    def close(self) -> None:
        """
        Close idle upstream connections now, the others as their exchanges end.
        """
        if hasattr(self._transport, "close"):
            self._transport.close()
        for director in self._ours:
            director.close()


@implementer(IDirector)
class DirectorChain:
    """
    Asks one director after the other; see L{chain}.

    @ivar directors: the directors.
    """

    def __init__(self, directors: Iterable[DirectorLike]) -> None:
        self.directors = tuple(directors)
        self._directs = [hookOf(director, IDirector, "direct") for director in self.directors]

    def direct(self, request: ProxyRequest) -> Any:
        """
        See L{IDirector.direct<twistproxy.interfaces.IDirector>}.
        """
        for number, direct in enumerate(self._directs):
            answer = direct(request)
            if isinstance(answer, (Deferred, Coroutine)):
                return self._goOn(answer, number + 1, request)
            if answer is not None:
                return answer
        return None

    async def _goOn(self, waiting: Any, number: int, request: ProxyRequest) -> Any:
        answer = await waiting
        for direct in self._directs[number:]:
            if answer is not None:
                break
            answer = direct(request)
            if isinstance(answer, (Deferred, Coroutine)):
                answer = await answer
        return answer


def chain(*directors: DirectorLike) -> DirectorChain:
    """
    Several directors as one: each sees what those before it have made of the request.  The first that returns a
    response, or raises, is the last.

    @param directors: L{IDirector<twistproxy.interfaces.IDirector>}s or callables; each may wait.
    @raise TypeError: if one is neither.
    """
    return DirectorChain(directors)
