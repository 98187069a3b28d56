# -*- test-case-name: tests.rules.test_pathmap -*-
"""
Mounting below a prefix: from public paths to the upstream's, and back.

A request for C{/api/x} that is mounted at C{/api} goes to an upstream with the base path C{/app} as C{/app/x}.  What
the upstream says of its own paths, in redirects and cookies, has to go the same way in the other direction, or the
browser leaves the mount.  Both directions are here, side by side, so that one can be tested as the inverse of the
other.

What cannot be mapped stays as it is: an address of some other site, and a path of the upstream's outside of its base,
which nobody can reach through the proxy anyway.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin

import attrs

_network = re.compile(rb"(?:(https?):)?//([^/?#]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL).fullmatch
_hasScheme = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*:").match
_refresh = re.compile(
    rb"([ \t]*[0-9.]+[ \t]*[;,][ \t]*url[ \t]*=[ \t]*)([\"']?)(.*?)(\2[ \t]*)", re.IGNORECASE
).fullmatch
_attribute = re.compile(rb"([ \t]*)(path|domain)([ \t]*=[ \t]*)(.*?)([ \t]*)", re.IGNORECASE | re.DOTALL).fullmatch
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


def _below(path: bytes, base: bytes) -> bytes | None:
    """
    @param base: a path without a slash at its end; C{b""} for the root.
    @return: what follows C{base} in C{path}: nothing, or something that begins with a slash; C{None} if C{path} does
        not lie below it.
    """
    if path.startswith(base) and path[len(base) :][:1] in (b"", b"/"):
        return path[len(base) :]
    return None


def splitPrefix(target: bytes, segments: int) -> tuple[bytes, bytes]:
    """
    Take the first segments off a request target.

    @param target: in origin form.
    @param segments: how many lead to the mount.
    @return: the prefix as the client wrote it, C{b""} or beginning with a slash, and the rest in origin form.
    """
    path, mark, query = target.partition(b"?")
    parts = path.split(b"/")
    prefix = b"/".join(parts[: segments + 1])
    rest = b"/".join((b"", *parts[segments + 1 :])) or b"/"
    return prefix, rest + mark + query


def sameAuthority(one: bytes, other: bytes, scheme: bytes) -> bool:
    """
    @return: whether two authorities are one for C{scheme}: letter case and the scheme's own port do not count.
    """
    port = _DEFAULT_PORTS[scheme]
    return one.lower().removesuffix(port) == other.lower().removesuffix(port)


def _hostOf(authority: bytes) -> bytes:
    """
    @return: the host in an authority, in lower case.
    """
    host, colon, port = authority.rpartition(b":")
    return (host if colon and port.isdigit() else authority.removesuffix(b":")).lower()


def _withoutSlash(path: bytes) -> bytes:
    return path.removesuffix(b"/")


@attrs.frozen
class PathMap:
    """
    Where a mount lies, and where it leads.

    @ivar prefix: the public path of the mount, escaped, without a slash at its end; C{b""} for the root.
    @ivar base: the upstream's base path, in the same form.
    @ivar scheme: how the upstream is spoken to, C{b"http"} or C{b"https"}.
    @ivar authorities: the names under which the upstream knows itself.
    @ivar publicHost: the authority that the client asked, C{b""} if it is not known.
    @ivar publicPath: the path that the client asked for, which relative references are relative to.
    """

    prefix: bytes
    base: bytes = attrs.field(converter=_withoutSlash)
    scheme: bytes = b"http"
    authorities: tuple[bytes, ...] = ()
    publicHost: bytes = b""
    publicPath: bytes = b"/"

    def toUpstream(self, path: bytes) -> bytes | None:
        """
        @param path: a public path.
        @return: the upstream's, or C{None} if C{path} does not lie below the mount.
        """
        rest = _below(path, self.prefix)
        return None if rest is None else self.base + (rest or b"/")

    def toPublic(self, path: bytes) -> bytes | None:
        """
        @param path: a path of the upstream's.
        @return: the public one, or C{None} if C{path} does not lie below the base.
        """
        rest = _below(path, self.base)
        return None if rest is None else (self.prefix + rest or b"/")

    def reference(self, value: bytes) -> bytes:
        """
        Map the value of C{Location} or C{Content-Location}.

        An address of the upstream's own becomes an absolute path: behind something else that ends TLS, the scheme that
        the client used is not known here.

        @param value: a URI reference.
        @return: the same for the client.
        """
        match = _network(value)
        if match is not None:
            return self._network(value, match)
        if value.startswith(b"/"):
            path, tail = _cut(value)
            public = self.toPublic(path)
            return value if public is None else _absolutePath(public) + tail
        if self.prefix and self.publicPath == self.prefix and value and not _hasScheme(value) and value[:1] != b"#":
            # The upstream was asked for "/", and the client for something without a slash at its end: what is relative
            # to the one is not to the other.
            try:
                return self.reference(urljoin(self.base + b"/", value))
            except ValueError:
                return value  # no URI reference at all
        return value

    def _network(self, value: bytes, match: re.Match[bytes]) -> bytes:
        """
        Map a reference with an authority.
        """
        scheme, authority, path, tail = match.groups()
        public = self.toPublic(path or b"/")
        if public is None:
            return value
        if scheme is None or scheme.lower() == self.scheme:
            if any(sameAuthority(authority, own, self.scheme) for own in self.authorities):
                return _absolutePath(public) + tail
        if self.publicHost and sameAuthority(authority, self.publicHost, (scheme or self.scheme).lower()):
            # the public site under another scheme: a redirect to https, say
            return value[: match.start(3)] + public + tail
        return value

    def refresh(self, value: bytes) -> bytes:
        """
        Map the value of C{Refresh}.
        """
        match = _refresh(value)
        if match is None:
            return value
        lead, quote, url, end = match.groups()
        return lead + quote + self.reference(url) + end

    def cookie(self, value: bytes) -> bytes:
        """
        Map C{Path} and C{Domain} of a C{Set-Cookie} value.  A C{__Host-} cookie is not one with any other path than
        C{/} (RFC 6265bis 4.1.3.2), and stays as it is.
        """
        pair, *attributes = value.split(b";")
        if pair.lstrip(b" \t").lower().startswith(b"__host-"):
            return value
        return b";".join((pair, *map(self._cookieAttribute, attributes)))

    def _cookieAttribute(self, attribute: bytes) -> bytes:
        match = _attribute(attribute)
        if match is None:
            return attribute
        space, name, equals, value, end = match.groups()
        if name.lower() == b"path":
            value = self._cookiePath(value)
        elif self.publicHost and any(value.lower().removeprefix(b".") == _hostOf(own) for own in self.authorities):
            value = _hostOf(self.publicHost)
        return space + name + equals + value + end

    def _cookiePath(self, path: bytes) -> bytes:
        """
        @return: the public path for a cookie.  One that holds for more than the upstream's base holds for the mount.
        """
        if not path.startswith(b"/"):
            return path  # the browser takes the default then, which is public
        if _below(self.base + b"/", path.removesuffix(b"/")) is not None:
            return self.prefix or b"/"
        public = self.toPublic(path)
        return path if public is None else public

    def lines(self, lines: list[bytes]) -> list[bytes]:
        """
        @param lines: the header lines of a response.
        @return: the same, mapped; the very same list if there is nothing to map.
        """
        changed = None
        for index, line in enumerate(lines):
            name, _, value = line.partition(b":")
            mapping = _MAPPED.get(name.lower())
            if mapping is not None:
                stripped = value.strip(b" \t")
                mapped = mapping(self, stripped)
                if mapped != stripped:
                    changed = changed or lines.copy()
                    changed[index] = name + b": " + mapped
        return changed or lines


_MAPPED = {
    b"location": PathMap.reference,
    b"content-location": PathMap.reference,
    b"refresh": PathMap.refresh,
    b"set-cookie": PathMap.cookie,
}


# It begins with what is found fast.
_isMapped = re.compile(rb"(?:%b)[ \t:]" % b"|".join(map(re.escape, _MAPPED)), re.IGNORECASE).match
_LONGEST = max(map(len, _MAPPED)) + 1
#: Whether a line is of a field that is mapped, by its beginning: responses of one origin begin their lines alike.
_known: dict[bytes, bool] = {}


def mayBeMapped(lines: list[bytes]) -> bool:
    """
    @param lines: the header lines of a response.
    @return: whether there is any among them that a L{PathMap} would look at.
    """
    for line in lines:
        start = line[:_LONGEST]
        mapped = _known.get(start)
        if mapped is None:
            if len(_known) >= 1024:
                _known.clear()
            mapped = _known[start] = _isMapped(start) is not None
        if mapped:
            return True
    return False


def _cut(value: bytes) -> tuple[bytes, bytes]:
    """
    @return: the path of a reference, and its query and fragment.
    """
    end = min((at for at in (value.find(b"?"), value.find(b"#")) if at >= 0), default=len(value))
    return value[:end], value[end:]


def _absolutePath(path: bytes) -> bytes:
    """
    @return: C{path} so that it stays one: with two slashes in front it would name another site (RFC 3986 4.2).
    """
    return b"/." + path if path.startswith(b"//") else path
