# -*- test-case-name: tests.test_routes_prefix,tests.web.test_resource -*-
"""
A part of a site that lies below a prefix: the upstream sees paths without it, is told of it by C{X-Forwarded-Prefix},
and what it says of its own addresses is mapped back (L{twistproxy.rules.pathmap}).

Mounts may lie inside of each other.  Their prefixes are then taken for one: the responses of an upstream are mapped
once, by the outermost.
"""

from __future__ import annotations

from typing import Any

from twistproxy.core.exchange import Exchange
from twistproxy.core.interposed import InterposedDownstream, interpose
from twistproxy.message import Request, Response, UpstreamResponse
from twistproxy.rules.pathmap import PathMap, mayBeMapped, splitPrefix

_NAME = b"x-forwarded-prefix:"


def takePrefix(request: Request, segments: int, forwardPrefix: bool = True) -> bytes:
    """
    Take the first segments off a request's target.

    @param request: the request, which is changed.
    @param segments: how many lead to the mount.
    @param forwardPrefix: whether upstreams are to be told.
    @return: the prefix as the client wrote it.
    """
    prefix, request.target = splitPrefix(request.target, segments)
    if forwardPrefix:
        # behind what the parser let pass, among which there is none: it is never a client's claim
        request.forward = withPrefix(request.forward, prefix)
    return prefix


def withPrefix(lines: list[bytes], prefix: bytes, claims: list[bytes] | tuple[()] = ()) -> list[bytes]:
    """
    @param lines: header lines.
    @param prefix: the prefix to tell of; it follows that of a mount around this one.
    @param claims: header lines of the client, which are left alone.
    @return: the lines with the field added.
    """
    kept = [line for line in lines if line in claims or not line.lower().startswith(_NAME)]
    outer = b"".join(line[len(_NAME) :].strip() for line in lines if line not in claims and line not in kept)
    return [*kept, b"X-Forwarded-Prefix: " + outer + prefix]


def mapBack(exchange: Exchange, prefix: bytes, publicPath: bytes) -> None:
    """
    Map C{Location}, C{Content-Location}, C{Refresh} and C{Set-Cookie} of the exchange's upstream to public addresses.

    @param prefix: the path that was taken off its target.
    @param publicPath: the path that the client asked for.
    """
    if not joined(exchange, prefix):
        interpose(exchange, lambda downstream: Mapping(downstream, exchange, prefix, publicPath))


def joined(exchange: Exchange, prefix: bytes) -> bool:
    """
    Let a mount around this one, if there is any, map for both.

    @return: whether there is.
    """
    downstream: Any = exchange._downstream
    while isinstance(downstream, InterposedDownstream):
        if isinstance(downstream, Mapping):
            downstream.prefix += prefix
            return True
        downstream = downstream.downstream
    return False


class Mapping(InterposedDownstream):
    """
    Maps the heads of an upstream's responses.

    @ivar prefix: the public path of the mount.
    """

    __slots__ = ("_exchange", "_publicPath", "prefix")

    def __init__(self, downstream: Any, exchange: Exchange, prefix: bytes, publicPath: bytes) -> None:
        """
        @param publicPath: the path that the client asked for; a query behind it is ignored.
        """
        super().__init__(downstream)
        self._exchange = exchange
        self._publicPath = publicPath
        self.prefix = prefix

    def linesOf(self, response: Response) -> list[bytes]:
        """
        See L{InterposedDownstream.linesOf}.
        """
        outbound = self._exchange.outbound
        if outbound is None or outbound.upstream is None or not isinstance(response, UpstreamResponse):
            return response.lines
        if not mayBeMapped(response.lines):
            return response.lines
        target = outbound.upstream
        paths = PathMap(
            self.prefix,
            target.path,
            target.scheme.encode("ascii"),
            (target.authority, outbound.host),
            self._exchange.request.host,
            self._publicPath.partition(b"?")[0],
        )
        return paths.lines(response.lines)
