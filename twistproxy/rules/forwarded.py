# -*- test-case-name: tests.rules.test_forwarded -*-
"""
Who the client is, and how the upstream is told: X-Forwarded-* and Forwarded (RFC 7239); B2.4 and B2.5.

What a client claims about itself counts only if it comes from a peer that the operator trusts; then the way
is followed from right to left, through trusted hops only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from twistproxy.headers import OWS, TOKEN, Headers

Network: TypeAlias = "IPv4Network | IPv6Network"
Address: TypeAlias = "IPv4Address | IPv6Address"

_TOKEN = TOKEN.pattern
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_PAIR = _TOKEN + rb"=(?:" + _TOKEN + rb"|" + _QUOTED + rb")"
_ELEMENT = _PAIR + rb"(?:;" + _PAIR + rb")*"
_isToken = TOKEN.fullmatch
# RFC 7239 4, without empty members
_isForwarded = re.compile(_ELEMENT + rb"(?:[ \t]*,[ \t]*" + _ELEMENT + rb")*").fullmatch
# One member of X-Forwarded-For: some proxies write ports, and put IPv6 addresses in brackets.
_claimed = re.compile(
    rb"([0-9.]+)(?::[0-9]{1,5})?"
    rb"|\[([0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::[0-9]{1,5})?"
    rb"|([0-9A-Fa-f:.]+)(?:%.*)?"
).fullmatch

#: The longest text of an IP address, in characters: IPv6 with an IPv4 tail.
_LONGEST = 45


def networks(names: Iterable[str]) -> tuple[Network, ...]:
    """
    @param names: addresses or networks (C{10.0.0.0/8}, C{::1}).
    @raise ValueError: if one is neither, with a line that says so.
    """
    result = []
    for name in names:
        try:
            result.append(ip_network(name, strict=False))
        except ValueError:
            raise ValueError(f"{name!r} is no IP address or network; write 10.0.0.0/8 or ::1") from None
    return tuple(result)


def isTrusted(host: str, trusted: Sequence[Network]) -> bool:
    """
    @param host: an IP address as text; anything else is not trusted.
    @param trusted: the networks of trusted peers.
    """
    if not trusted:
        return False
    host = host.partition("%")[0]
    # what is longer is no address, and not remembered either
    address = _addressOf(host) if len(host) <= _LONGEST else None
    return address is not None and _liesIn(address, trusted)


@lru_cache(maxsize=1024)
def _addressOf(host: str) -> Address | None:
    """
    @return: an IP address from its text; remembered, because a peer sends many requests, and each asks twice.
    """
    try:
        return _unmapped(ip_address(host))
    except ValueError:
        return None


def _liesIn(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _unmapped(address: Address) -> Address:
    """
    @return: an IPv4 address that a dual-stack socket shows as IPv6 as what it is.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def clientAddress(peer: str, forwardedFor: Sequence[bytes], trusted: Sequence[Network]) -> str:
    """
    Find the client behind trusted proxies.

    @param peer: the address of the TCP peer.
    @param forwardedFor: the values of X-Forwarded-For, in order.
    @param trusted: the networks of trusted peers.
    @return: the first address from the right that is not trusted; the leftmost, if all are; the last good
        one, if a member is no address.  Empty members do not count (RFC 9110 5.6.1.2).
    """
    if not isTrusted(peer, trusted):
        return peer
    client: Address | None = None
    members = [member.strip(OWS) for value in forwardedFor for member in value.split(b",")]
    for member in reversed(members):
        if not member:
            continue
        address = _address(member)
        if address is None:
            break
        client = address
        if not _liesIn(address, trusted):
            break
    return peer if client is None else str(client)


def _address(member: bytes) -> Address | None:
    """
    @return: the address in one member of X-Forwarded-For, in the one form that logs and limits know it by:
        without a port, without a zone (into which C{ipaddress} lets any text), and IPv4 as IPv4.
    """
    match = _claimed(member)
    if match is None:
        return None
    try:
        return _unmapped(ip_address(next(filter(None, match.groups())).decode("ascii")))
    except ValueError:
        return None


def setXForwarded(headers: Headers, peer: bytes, host: bytes, scheme: bytes) -> None:
    """
    Tell the upstream by X-Forwarded-For (appended to what is there), -Host and -Proto (replaced).

    @param headers: the outbound fields.
    @param peer: the peer's address, whose zone is left out; empty for a UNIX socket, which adds nothing.
    @param host: the host that the client asked for; empty if none.
    @param scheme: C{b"http"} or C{b"https"}.
    """
    lines = []
    before: list[bytes] = []
    for line in headers.lines:
        name, _, value = line.partition(b":")
        lower = name.lower()
        if lower == b"x-forwarded-for":
            value = value.strip(OWS)
            if value:
                before.append(value)
        elif lower not in (b"x-forwarded-host", b"x-forwarded-proto"):
            lines.append(line)
    if peer:
        before.append(peer.partition(b"%")[0])
    if before:
        lines.append(b"X-Forwarded-For: " + b", ".join(before))
    if host:
        lines.append(b"X-Forwarded-Host: " + host)
    lines.append(b"X-Forwarded-Proto: " + scheme)
    headers.replaceLines(lines)


def forwardedElement(peer: bytes, host: bytes, scheme: bytes) -> bytes:
    """
    One element of a C{Forwarded} field (RFC 7239 4).

    @return: C{for=...;host=...;proto=...}; IPv6 addresses in brackets and, like anything that is no token,
        quoted (RFC 7239 6).
    """
    if not peer:
        node = b"unknown"
    elif b":" in peer:
        node = b'"[' + peer.partition(b"%")[0] + b']"'
    else:
        node = peer
    element = b"for=" + node
    if host:
        element += b";host=" + (host if _isToken(host) else b'"' + host + b'"')
    return element + b";proto=" + scheme


def setForwarded(headers: Headers, peer: bytes, host: bytes, scheme: bytes) -> None:
    """
    Tell the upstream by C{Forwarded}, appended to what is there.  Parameters as in L{setXForwarded}.
    """
    element = forwardedElement(peer, host, scheme)
    # An unclosed quote in what is there would swallow what is added.
    before = [value for value in headers.getAll(b"forwarded") if _isForwarded(value)]
    headers.set(b"Forwarded", b", ".join([*before, element]))
