"""
What a proxy is told once: an immutable snapshot, held by every exchange that began under it.
"""

from __future__ import annotations

import attrs

from twistproxy.headers import TOKEN
from twistproxy.rules.forwarded import Network
from twistproxy.rules.validity import validHost


@attrs.frozen(kw_only=True)
class ProxySettings:
    """
    The policies of one L{ReverseProxy<twistproxy.proxy.ReverseProxy>}.

    @ivar trustedProxies: peers whose forwarding fields and request ids are believed (B2.4).
    @ivar via: the name that the proxy writes into Via, or C{None} to write none.
    @ivar maxVia: how often a request may have passed this name already before it counts as a loop (B2.10); more than
        one, because twistproxies of the same name may well stand behind each other.
    @ivar cdnLoop: the name for CDN-Loop (RFC 8586), or C{None} to leave that field alone.
    @ivar rawQuery: forward queries as they came, even those on which parsers disagree (B2.7).
    @ivar strictPaths: refuse encoded slashes, dot segments and NUL in paths (B1.11).
    @ivar allowTrace: forward TRACE (B1.8).
    @ivar maxRequestBody: the largest request body in bytes, C{None} for no limit (B1.10).
    @ivar flushInterval: how long, in seconds, small writes of a response of known length may be held to be sent
        together; 0 sends each at once (B5.4).
    """

    trustedProxies: tuple[Network, ...] = ()
    via: str | None = attrs.field(default="twistproxy")
    maxVia: int = 4
    cdnLoop: str | None = attrs.field(default=None)
    rawQuery: bool = False
    strictPaths: bool = False
    allowTrace: bool = False
    maxRequestBody: int | None = None
    flushInterval: float = 0.0

    #: whether any of these settings can refuse an ordinary request
    checksRequests: bool = attrs.field(init=False, repr=False, eq=False)
    #: the Via lines for requests of HTTP/1.0 and 1.1
    viaLines: tuple[bytes, bytes] | None = attrs.field(init=False, repr=False, eq=False)

    @checksRequests.default
    def _checksRequests(self) -> bool:
        return self.maxRequestBody is not None or self.strictPaths

    @viaLines.default
    def _viaLines(self) -> tuple[bytes, bytes] | None:
        if self.via is None:
            return None
        name = self.via.encode("ascii", "replace")
        return b"Via: 1.0 " + name, b"Via: 1.1 " + name

    @cdnLoop.validator
    def _cdnLoopIsID(self, attribute: object, value: str | None) -> None:
        # RFC 8586 2: a token, or a host
        name = b"" if value is None else value.encode("latin-1", "replace")
        if value is not None and not (TOKEN.fullmatch(name) or (name and b"," not in name and validHost(name))):
            raise ValueError(f"the name for CDN-Loop must be a token or a host, not {value!r}")

    @via.validator
    def _viaIsToken(self, attribute: object, value: str | None) -> None:
        if value is not None and TOKEN.fullmatch(value.encode("latin-1", "replace")) is None:
            raise ValueError(f"the name for Via must be a token, not {value!r}")
