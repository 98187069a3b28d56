# -*- test-case-name: tests.test_upstreams -*-
"""
Where requests go: a target, as a value.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable

import attrs

# All of this ends up in the head of a request, so it must not be able to end a line there.
_isAuthority = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+;=%:\[\]]+").fullmatch
_isPath = re.compile(rb"(?:/[\x21\x22\x24-\x3e\x40-\x7e\x80-\xff]*)?").fullmatch
_isQuery = re.compile(rb"[\x21\x22\x24-\x7e\x80-\xff]*").fullmatch


@attrs.frozen
class Target:
    """
    One place to send requests to.  Two targets with the same L{key} share their upstream connections, so the
    key holds all that makes a difference to a connection (B8.2).

    @ivar scheme: C{"http"} or C{"https"}.
    @ivar host: a name, or an IP literal without brackets, an IPv6 one perhaps with a zone (C{fe80::1%eth0});
        for a UNIX socket the name to put into C{Host}.
    @ivar port: the port number.
    @ivar path: the base path in its escaped form, C{b""} or beginning with a slash.
    @ivar query: the base query without its question mark.
    @ivar socketPath: the path of a UNIX socket, or C{None} for TCP.
    @ivar tls: the settings for C{https}, hashable; C{None} for the defaults of whoever connects.
    """

    scheme: str
    host: str
    port: int
    path: bytes = b""
    query: bytes = b""
    socketPath: str | None = None
    tls: Hashable = None
    #: the authority as it stands in C{Host}: the port is left out where it is the scheme's own, and a zone
    #: always, as it means something on this machine only (RFC 6874 4)
    authority: bytes = attrs.field(init=False)
    #: what the connections to this target are kept under
    key: Hashable = attrs.field(init=False)
    #: the target as it stands in logs
    name: str = attrs.field(init=False)
    #: whether it has a base path, out of which no request shall climb
    fenced: bool = attrs.field(init=False, repr=False, eq=False)

    @authority.default
    def _authority(self) -> bytes:
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        port = "" if self.socketPath is not None or self.port == default else f":{self.port}"
        return f"{host}{port}".encode("ascii")

    @key.default
    def _key(self) -> Hashable:
        return (self.scheme, self.host, self.port, self.socketPath, self.tls)

    @name.default
    def _name(self) -> str:
        if self.socketPath is not None:
            return f"unix:{self.socketPath}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @fenced.default
    def _fenced(self) -> bool:
        return self.path not in (b"", b"/")

    def __attrs_post_init__(self) -> None:
        if self.scheme not in ("http", "https"):
            raise ValueError(f"a target has the scheme http or https, not {self.scheme!r}")
        if not _isAuthority(self.authority):
            raise ValueError(f"{self.host!r} is no host")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"{self.port!r} is no port")
        if not _isPath(self.path):
            raise ValueError(f"{self.path!r} is no base path; it begins with a slash, and is escaped")
        if not _isQuery(self.query):
            raise ValueError(f"{self.query!r} is no query; it must be escaped")


class Member:
    """
    One upstream of a cluster, and what a balancer may know of it.

    @ivar target: where it is.
    @ivar active: how many requests it has under way, where a balancer asks for that.
    @ivar turn: which was the last request that went to it first, of all there have been; 0 for none.
    """

    __slots__ = ("active", "target", "turn")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.active = self.turn = 0

    def __repr__(self) -> str:
        return f"<Member {self.target.name}, {self.active} requests>"


@attrs.frozen(init=False, eq=False)
class Cluster(Target):
    """
    Several upstreams that serve the same, under one name: a director sets it like any target, and a
    L{BalancingTransport<twistproxy.policy.balance.BalancingTransport>} sends each try of a request to one of them.

    What the director makes of Host and path holds for whichever that is: a request that was to have its target's Host
    gets that of the member, and the member's base path is put before its path.

    @ivar members: who it is made of.
    """

    members: tuple[Member, ...] = ()
    #: the cluster as it stands in logs, until a member is picked
    called: str = ""
    key: Hashable = attrs.field(init=False)
    name: str = attrs.field(init=False)
    fenced: bool = attrs.field(init=False, repr=False)

    def __init__(self, targets: Iterable[Target], name: str | None = None) -> None:
        """
        @param targets: its members, at least one.  One that is there twice gets twice as much.
        @param name: one word for the log; the members' names by default.
        @raise ValueError: if there is none, or one is a cluster itself.
        """
        members = tuple(Member(target) for target in targets)
        if not members or any(isinstance(member.target, Cluster) for member in members):
            raise ValueError("a cluster has members, and these are no clusters")
        called = "|".join(member.target.name for member in members) if name is None else name
        # A slash is put before every path all the same, and says that this one has to be looked at.
        path = b"/" if any(member.target.fenced for member in members) else b""
        self.__attrs_init__(scheme="http", host="cluster", port=80, path=path, members=members, called=called)

    # Two of the same members are two: each counts what it has under way.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @key.default
    def _clusterKey(self) -> Hashable:
        return ("cluster", *(member.target.key for member in self.members))

    @name.default
    def _calledName(self) -> str:
        return self.called

    @fenced.default
    def _anyFenced(self) -> bool:
        return any(member.target.fenced for member in self.members)
