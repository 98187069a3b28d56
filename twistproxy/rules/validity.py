# -*- test-case-name: tests.rules.test_validity -*-
"""
What makes a request line or a host invalid: RFC 9112 2 and 3, read strictly.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from twistproxy.errors import MalformedMessage
from twistproxy.headers import TOKEN, membersOf

_token = TOKEN.pattern
_requestLine = re.compile(rb"(%b) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])" % _token).fullmatch
_isMethod = TOKEN.fullmatch
_isVersion = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
# reg-name, IPv4address or IP-literal of RFC 3986 3.2.2, with an optional port; no userinfo, no empty host
# (RFC 9110 4.2.1), and no comma, which would read as a list once it stands in X-Forwarded-Host.
_hostAndPort = re.compile(
    rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+|\[([0-9A-Fa-f:.]+)(?:%25[A-Za-z0-9\-._~]+)?\])"
    rb"(?::([0-9]{0,5}))?"
).fullmatch
_absolute = re.compile(rb"(https?)://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL).fullmatch
# RFC 9110 7.8: protocol = token ["/" token].  One member only: a pattern for the whole list, with its
# optional white space and empty members, can be made to backtrack for minutes.
_isProtocol = re.compile(rb"%b(?:/%b)?" % (_token, _token)).fullmatch

#: What a request target may consist of: no control characters, no space, no fragment.
_TARGET_BYTES = bytes(byte for byte in range(0x21, 0x100) if byte not in b"#\x7f")
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))

_hosts: dict[bytes, bool] = {}


def requestLine(line: bytes) -> tuple[bytes, bytes, int]:
    """
    Take a request line apart.

    @param line: the line without its CRLF.
    @return: method, target and minor version; HTTP/1.2 to 1.9 count as 1.1 (RFC 9110 2.5).
    @raise MalformedMessage: with 505 for another major version, 400 for anything else.
    """
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    if version == b"HTTP/1.1" and target and not target.translate(None, _TARGET_BYTES):
        # the common case, without the pattern that decides about all others
        if method in _METHODS or _isMethod(method) is not None:
            return method, target, 1
    match = _requestLine(line)
    if match is None:
        raise MalformedMessage(_lineFault(line))
    method, target, major, minor = match.groups()
    if major != b"1":
        raise MalformedMessage(f"HTTP/{major.decode()} on an HTTP/1 port", 505)
    return method, target, 0 if minor == b"0" else 1


def _lineFault(line: bytes) -> str:
    """
    @return: what is wrong with a request line, in words.
    """
    parts = line.split(b" ")
    if _isMethod(parts[0]) is None:
        return "the method is no token"
    if len(parts) < 3:
        return "the request line has no version (HTTP/0.9)"
    if len(parts) > 3:
        return "a space in the request target"
    if _isVersion(parts[2]) is None:
        return "the HTTP version is malformed"
    return "a character in the request target that must not stand there raw"


def looksHopeless(start: bytes) -> bool:
    """
    @param start: the first bytes of a request, whose first line is still incomplete.
    @return: whether they can no longer become a request line: TLS on a cleartext port, say.
    """
    return bool(start) and _isMethod(start.split(b" ", 1)[0]) is None


def originForm(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """
    Bring a request target into the form that goes to an origin server (RFC 9112 3.2).

    @param method: the request's method.
    @param target: the target as received.
    @return: the target in origin form (or C{*}), and the authority of an absolute-form target, which wins
        over Host.
    @raise MalformedMessage: if the form does not fit the method, or the authority is invalid.
    """
    if target.startswith(b"/"):
        return target, None
    if target == b"*":
        if method != b"OPTIONS":
            raise MalformedMessage("the target * is for OPTIONS only")
        return target, None
    match = _absolute(target)
    if match is None:
        raise MalformedMessage("the request target has no form of RFC 9112 3.2")
    _, authority, rest = match.groups()
    if b"@" in authority:
        raise MalformedMessage("userinfo in the request target")
    if not validHost(authority):
        raise MalformedMessage("the authority in the request target is invalid")
    if not rest:
        # RFC 9112 3.2.4: OPTIONS for the whole server is written so in absolute form
        return (b"*" if method == b"OPTIONS" else b"/"), authority
    return (rest if rest.startswith(b"/") else b"/" + rest), authority


def validHost(host: bytes) -> bool:
    """
    @return: whether C{host} can be the value of a Host field.
    """
    known = _hosts.get(host)
    if known is None:
        known = _isHost(host)
        if known and len(host) <= 256:
            if len(_hosts) >= 1024:
                _hosts.clear()
            _hosts[host] = known
    return known


def _isHost(host: bytes) -> bool:
    match = _hostAndPort(host)
    if match is None:
        return False
    literal, port = match.groups()
    if port and int(port) > 65535:
        return False
    if literal is not None:
        try:
            IPv6Address(literal.decode("ascii"))
        except ValueError:
            return False
    return True


def validUpgrade(value: bytes) -> bool:
    """
    @return: whether the value of an Upgrade field is a list of protocols (B1.9).  Empty members do not count
        (RFC 9110 5.6.1.2), but there must be one that is not.
    """
    members = membersOf(value)
    return bool(members) and all(map(_isProtocol, members))
