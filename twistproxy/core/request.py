# -*- test-case-name: tests.core.test_request -*-
"""
What a director is given: the request as it came, the request as it will go, and the moves that most directors make.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from twistproxy.errors import ClientError
from twistproxy.message import OutboundRequest, Request
from twistproxy.rules.forwarded import setForwarded, setXForwarded
from twistproxy.rules.target import climbsOut, joinTarget, parseTarget
from twistproxy.upstreams import Target

if TYPE_CHECKING:
    from twistproxy.core.exchange import Exchange


#: A director that names its targets by strings names the same few again and again; the same string gives the same
#: object, which is what the transport recognizes its pool by.
_parsed = lru_cache(maxsize=1024)(parseTarget)


class ProxyRequest:
    """
    One request in the hands of a director (Go's C{ProxyRequest}).

    @ivar inbound: what the client sent; read-only.
    @ivar outbound: what will be sent; a copy, to be edited.
    @ivar exchange: whose request it is.
    """

    __slots__ = ("_claims", "exchange", "inbound", "outbound")

    def __init__(self, inbound: Request, outbound: OutboundRequest, exchange: Exchange, claims: bool) -> None:
        """
        @param claims: whether C{outbound} may hold forwarding fields already, those of a trusted peer.
        """
        self.inbound = inbound
        self.outbound = outbound
        self.exchange = exchange
        self._claims = claims

    def withInbound(self, inbound: Request) -> ProxyRequest:
        """
        @return: the same for whoever is to see another inbound request: one without a prefix, say.
        """
        request = ProxyRequest(inbound, self.outbound, self.exchange, True)
        self._claims = True  # what that one sets may be there, if this one is asked
        return request

    def setTarget(self, target: Target | str, preserveHost: bool = False, fence: bool = True) -> None:
        """
        Send the request to C{target}: its scheme and authority, paths joined with exactly one slash, queries with C{&}
        (Go's C{SetURL}; B2.6).

        @param target: where it goes, or its address as operators write it (L{parseTarget}).
        @param preserveHost: keep the client's Host instead of the target's.
        @param fence: refuse a request whose dot segments would climb out of the target's base path.
        @raise ClientError: if it would.
        @raise ValueError: if C{target} is a string that is no target.
        """
        # the first half is for the usual case, which needs no call
        if type(target) is not Target and not isinstance(target, Target):
            target = _parsed(target)
        outbound = self.outbound
        outbound.upstream = target
        if not preserveHost or not self.inbound.host:
            outbound.host = target.authority
        if target.path or target.query:
            if fence and target.fenced and climbsOut(outbound.target):
                raise ClientError("dot segments that climb out of the target's base path")
            outbound.target = joinTarget(target, outbound.target)

    def setXForwarded(self) -> None:
        """
        Set X-Forwarded-For (appended to what a trusted peer sent), -Host and -Proto (unless a trusted peer sent them:
        it is the one that the client spoke to, over TLS perhaps).
        """
        outbound = self.outbound
        inbound = self.inbound
        peer = inbound.peer
        if self._claims or outbound.view is not None:
            host = self._claimed(b"x-forwarded-host") or inbound.host
            scheme = self._claimed(b"x-forwarded-proto") or peer.scheme
            setXForwarded(outbound.headers, peer.host.encode("ascii"), host, scheme)
            return
        # nothing of the kind can be there: nobody but us has touched the lines
        if peer.host:
            outbound.lines.append(peer.forLine)
        if inbound.host:
            outbound.lines += b"X-Forwarded-Host: " + inbound.host, peer.protoLine
        else:
            outbound.lines.append(peer.protoLine)
        self._claims = True

    def _claimed(self, name: bytes) -> bytes | None:
        """
        @return: what a trusted peer says in the field C{name}: an untrusted one's word is gone from the draft, and what
            a director wrote there is not what came in.
        """
        value = self.outbound.headers.get(name)
        return value if value == self.inbound.headers.get(name) else None

    def setForwarded(self) -> None:
        """
        Set C{Forwarded} (RFC 7239), appended to what a trusted peer sent.
        """
        inbound = self.inbound
        setForwarded(self.outbound.headers, inbound.peer.host.encode("ascii"), inbound.host, inbound.peer.scheme)
