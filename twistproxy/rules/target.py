# -*- test-case-name: tests.rules.test_target -*-
"""
Targets: how operators write them (B8.5), and how a request's target is joined to one (B2.6, B2.7, B1.11).

Everything works on the escaped bytes as they came: nothing is decoded, folded or re-encoded on the way,
except a query on whose meaning parsers disagree.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote_plus, unquote_to_bytes

from twistproxy.upstreams import Target

#: A query with more parameters is dropped: no honest form has them, and parsers give up at different counts.
MAX_PARAMETERS = 10_000

_isPort = re.compile(r"[0-9]{1,5}").fullmatch
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9\-_]{0,61}[A-Za-z0-9_])?"
_isHostName = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?").fullmatch
# What inet_aton takes for a number, as the last label of a host: such a host is an IPv4 address or a mistake.
_endsInNumber = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?").fullmatch
_isPath = re.compile(r"(?:[\x21\x22\x24\x26-\x3e\x40-\x7e]|%[0-9A-Fa-f]{2})*").fullmatch
_isQuery = re.compile(r"(?:[\x21\x22\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*").fullmatch
_hasScheme = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL).fullmatch
_disputed = re.compile(rb";|%(?![0-9A-Fa-f]{2})").search

#: Words that are a scheme or the type of a Twisted endpoint where C{host:port} is expected.
_NO_HOSTS = frozenset(("http", "https", "ssl", "tcp", "tcp6", "tls", "unix"))

#: What a target begins with that is more than an address: it is made once, not read anew for every request.
MADE = ("endpoint:", "exec:")

#: The longest path that fits into a C{sockaddr_un} with its NUL, on Linux.
_MAX_SOCKET_PATH = 107


def parseTarget(text: str) -> Target:
    """
    Read a target as operators write them: C{http://host:8081/base}, C{https://host}, C{host:8081}, C{:8081},
    C{8081}, C{unix:/run/app.sock}, each with or without a base path (behind a UNIX socket after a colon:
    C{unix:/run/app.sock:/base}).

    @param text: what the operator wrote.
    @return: the target.
    @raise ValueError: with one line that says what to write instead, for anything that could mean two things.
    @raise TypeError: if it is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no target: give a string, or what twistproxy.targets.targetOf makes of it")
    if text.startswith(MADE):
        kind, _, rest = text.partition(":")
        if rest[:1].isdigit():
            raise ValueError(f"the target {text!r} is ambiguous; write http://{text}, or {kind}:... for what it makes")
        raise ValueError(f"the target {text[:200]!r} is made once: give what twistproxy.targets.targetOf makes of it")
    if not text or any(char.isspace() or not char.isprintable() for char in text):
        raise ValueError(f"the target {text!r} is empty or has white space in it; write http://host:port")
    if "#" in text:
        raise ValueError(f"the target {text!r} has a fragment (#), which no server ever sees; leave it out")
    if text.startswith("unix:"):
        return _unixTarget(text, text[len("unix:") :])
    match = _hasScheme(text)
    if match is None:
        return _bareTarget(text)
    scheme, rest = match.group(1).lower(), match.group(2)
    if scheme not in ("http", "https"):
        raise ValueError(
            f"the target {text!r} has the scheme {scheme!r}; write http://, https:// or unix:/path"
        )
    if scheme == "http" and rest.startswith("unix:"):
        return _unixTarget(text, rest[len("unix:") :])
    authority, path, query = _split(text, rest)
    host, port = _hostAndPort(text, authority)
    if not host:
        raise ValueError(f"the target {text!r} names no host; write {scheme}://host:port")
    return Target(scheme, host, port or (443 if scheme == "https" else 80), path, query)


def _bareTarget(text: str) -> Target:
    """
    A target without a scheme: a port must say that it is meant as one.
    """
    authority, path, query = _split(text, text)
    if not authority:
        raise ValueError(f"the target {text!r} names no host; write http://host:port")
    if authority.isascii() and authority.isdigit():
        authority = f":{authority}"
    host, port = _hostAndPort(text, authority)
    if port is None:
        raise ValueError(f"the target {text!r} is ambiguous; write http://{text} or https://{text}")
    if host in _NO_HOSTS:
        raise ValueError(
            f"the target {text!r} is ambiguous; write http://host:port, https://host or unix:/path"
        )
    if port == 443:
        name = authority.rpartition(":")[0] or "127.0.0.1"
        raise ValueError(f"the target {text!r} is ambiguous; write https://{name} or http://{name}:443")
    return Target("http", host or "127.0.0.1", port, path, query)


def _unixTarget(text: str, rest: str) -> Target:
    """
    A target behind a UNIX socket.
    """
    if rest.startswith("//"):
        rest = rest[2:]
    socketPath, colon, base = rest.partition(":")
    if not socketPath.startswith("/"):
        raise ValueError(f"the target {text!r} needs an absolute path; write unix:/run/app.sock")
    if socketPath.endswith("/"):
        raise ValueError(f"the target {text!r} names a directory; write unix:/run/app.sock")
    if len(socketPath.encode("utf-8")) > _MAX_SOCKET_PATH:
        raise ValueError(
            f"the target {text!r} has a socket path over {_MAX_SOCKET_PATH} bytes, which no socket can have"
        )
    if "?" in socketPath or (colon and not base.startswith("/")):
        raise ValueError(f"the target {text!r} is ambiguous; write unix:/run/app.sock:/base/path")
    _, path, query = _split(text, base)
    return Target("http", "localhost", 0, path, query, socketPath=socketPath)


def _split(text: str, rest: str) -> tuple[str, bytes, bytes]:
    """
    @return: authority, base path and base query.
    """
    beforeQuery, _, query = rest.partition("?")
    authority, slash, path = beforeQuery.partition("/")
    if not _isPath(path) or not _isQuery(query):
        raise ValueError(
            f"the path of the target {text!r} has a character in it that must be percent-encoded "
            "(a percent sign is %25)"
        )
    base = (slash + path).encode("ascii")
    if any(segment in (b".", b"..") for segment in _segments(base)):
        raise ValueError(
            f"the path of the target {text!r} has a dot segment in it; write the path it leads to"
        )
    return authority, base, query.encode("ascii")


def _hostAndPort(text: str, authority: str) -> tuple[str, int | None]:
    """
    @return: the host without brackets, and the port or C{None}.
    """
    if "@" in authority:
        raise ValueError(f"the target {text!r} has a user name in it; set credentials in a director instead")
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"the target {text!r} has a broken IPv6 address; write http://[::1]:8080")
        # RFC 6874 writes the percent sign of a zone as %25, and people write it as it is.
        address, percent, zone = host.partition("%")
        zone = zone.removeprefix("25") if percent else ""
        try:
            host = str(IPv6Address(address))
        except ValueError:
            raise ValueError(
                f"the target {text!r} has a broken IPv6 address; write http://[::1]:8080"
            ) from None
        if percent:
            if not _isHostName(zone):
                raise ValueError(f"the target {text!r} has a broken zone; write http://[fe80::1%25eth0]:8080")
            host = f"{host}%{zone}"
        port = rest[1:]
        hasPort = bool(rest)
    else:
        if authority.count(":") > 1:
            raise ValueError(
                f"the target {text!r} is ambiguous; write http://host:port, with an IPv6 address in "
                "brackets: http://[::1]:8080"
            )
        host, colon, port = authority.partition(":")
        hasPort = bool(colon)
        host = _hostName(text, host)
    return host, _portNumber(text, port) if hasPort else None


def _hostName(text: str, host: str) -> str:
    """
    @return: C{host} in ASCII and lower case.
    """
    if not host.isascii():
        host = _toASCII(text, host)
    if host and (not _isHostName(host) or len(host) > 253):
        raise ValueError(f"the target {text!r} has a malformed host name {host!r}; write http://host:port")
    if _endsInNumber(host):
        # http://8081 would be 0.0.31.145, and 010.0.0.1 is 8.0.0.1 to some
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ValueError(
                f"the target {text!r} has a malformed IPv4 address {host!r}; write http://127.0.0.1:8080"
            ) from None
    return host.lower()


def _toASCII(text: str, host: str) -> str:
    """
    @return: an internationalized host name in ASCII.  Python knows IDNA 2003 only, which turns some names
        into others (C{\xdf} to C{ss}) that now belong to somebody else: only what survives the way back is
        taken.
    """
    try:
        name = host.encode("idna").decode("ascii")
        same = name.encode("ascii").decode("idna") == host
    except UnicodeError:
        same = False
    if not same:
        raise ValueError(f"the host name of the target {text!r} can be read in two ways; write it as xn--...")
    return name


def _portNumber(text: str, port: str) -> int:
    """
    @return: the port as a number, 1 to 65535.
    """
    if not _isPort(port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"the target {text!r} has the port {port!r}; a port is a number from 1 to 65535")
    return int(port)


# -- joining -------------------------------------------------------------------------------------------------


def joinTarget(base: Target, target: bytes) -> bytes:
    """
    Put a request's target behind a base path and query.

    @param base: where the request goes.
    @param target: the request's target in origin form (its first slash may be missing), or C{*}.
    @return: the target to send: paths joined with exactly one slash, queries with C{&}; escapes, a bare C{?}
        and empty segments are kept.
    """
    if target[:1] != b"/":
        if target == b"*":
            return target
        target = b"/" + target
    if base.path in (b"", b"/") and not base.query:
        return target
    path, mark, query = target.partition(b"?")
    if base.path:
        path = (base.path[:-1] if base.path.endswith(b"/") else base.path) + path
    if base.query:
        query = base.query + b"&" + query if query else base.query
        mark = b"?"
    return path + mark + query


_separator = re.compile(rb"/|\\|%2[Ff]|%5[Cc]")
_dot = re.compile(rb"%2[Ee]")
_parameters = re.compile(rb"(?:;|%3[Bb]).*", re.DOTALL)


def _segments(path: bytes) -> list[bytes]:
    """
    @return: the segments of a path as the most generous server would see them: escaped and turned slashes
        separate, escaped dots are dots, and parameters (C{..;x}) do not count.
    """
    return [_dot.sub(b".", _parameters.sub(b"", part)) for part in _separator.split(path)]


def climbsOut(target: bytes) -> bool:
    """
    @return: whether the dot segments of a request's path would lead above where it begins, for a server that
        folds them.
    """
    if b".." not in target and b"%2" not in target:
        return False
    depth = 0
    for segment in _segments(target.partition(b"?")[0]):
        if segment == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif segment not in (b".", b""):
            depth += 1
    return False


def pathFault(target: bytes) -> str | None:
    """
    The strict path policy.

    @return: what an upstream might read differently from the proxy (escaped slashes, dot segments, an escaped
        NUL), or C{None}.
    """
    path = target.partition(b"?")[0]
    lower = path.lower()
    if b"%2f" in lower or b"%5c" in lower or b"\\" in path:
        return "an encoded slash or a backslash in the path"
    if b"%00" in path:
        return "an encoded NUL in the path"
    if any(segment in (b".", b"..") for segment in _segments(path)):
        return "a dot segment in the path"
    return None


def cleanTarget(target: bytes) -> bytes:
    """
    Take out of a target's query what parsers disagree on, as Go's proxy does: a query with C{;} or a broken
    percent escape in it is parsed, its unparsable parameters dropped, and the rest encoded anew, sorted by
    name; one with more than L{MAX_PARAMETERS} is dropped.  Any other passes byte for byte.
    """
    path, mark, query = target.partition(b"?")
    if not query or (_disputed(query) is None and query.count(b"&") < MAX_PARAMETERS):
        return target
    query = _recode(query)
    return path + mark + query if query else path


def _recode(query: bytes) -> bytes:
    """
    @return: the parameters of C{query} that every parser reads alike.
    """
    parts = query.split(b"&")
    if len(parts) > MAX_PARAMETERS:
        return b""
    pairs = []
    for part in parts:
        if part and _disputed(part) is None:
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    pairs.sort(key=lambda pair: pair[0])
    return b"&".join(f"{quote_plus(name)}={quote_plus(value)}".encode("ascii") for name, value in pairs)
