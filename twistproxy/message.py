# -*- test-case-name: tests.test_message -*-
"""
Requests and responses, as values that every floor of the house agrees on.

A proxy sees each request twice, as it came (L{Request}) and as it will go (L{OutboundRequest}), and each
response at least once.  They are slotted and built by position in one place each, because one of each is made
for every exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from twistproxy.headers import NOT_IN_VALUE, Headers

if TYPE_CHECKING:
    from twistproxy.deadlines import Timeouts
    from twistproxy.errors import ProxyError
    from twistproxy.events import ExchangeRecord
    from twistproxy.upstreams import Target

#: One classified header field: kind, whether it is forwarded as it came, lower-case name, value, and what the
#: value means (for the kinds that decide about framing and persistence; None for the others).
Field: TypeAlias = "tuple[int, bool, bytes, bytes, Any]"

#: All of an outbound request that a director has made, for whoever may have to begin again from there.
Draft: TypeAlias = "tuple[Any, ...]"

#: Reason phrases.  Python had older names for four of them until 3.13; these are RFC 9110's (15.5).
REASONS: dict[int, bytes] = {status.value: status.phrase.encode("ascii") for status in HTTPStatus} | {
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
}


class Peer:
    """
    The other end of a downstream connection.

    @ivar host: its address as text, without a port, IPv4 always as IPv4; C{""} for a UNIX socket.
    @ivar port: its port.
    @ivar scheme: C{b"http"} or C{b"https"}, as the client used it towards the proxy.
    @ivar forLine: the header line that names it to an upstream.
    @ivar protoLine: the header line that names the scheme.
    """

    __slots__ = ("forLine", "host", "port", "protoLine", "scheme")

    def __init__(self, host: str, port: int = 0, scheme: bytes = b"http") -> None:
        if host.startswith("::ffff:") and "." in host:
            # an IPv4 client on a port that takes both is known by its IPv4 address, in logs and upstream
            host = host[7:]
        self.host = host
        self.port = port
        self.scheme = scheme
        # once per connection, not per request
        self.forLine = b"X-Forwarded-For: " + host.partition("%")[0].encode("ascii", "replace")
        self.protoLine = b"X-Forwarded-Proto: " + scheme


class Request:
    """
    What a client sent.  Read-only: a hook edits the outbound request.

    @ivar method: the method, case kept.
    @ivar target: the request target in origin form, or C{b"*"}: raw bytes, nothing decoded.
    @ivar minor: the minor version of HTTP/1 (2 for HTTP/2).
    @ivar host: the authority that the request is for, C{b""} if there is none (HTTP/1.0).
    @ivar peer: who sent it.
    @ivar lines: every header line as received.
    @ivar forward: the lines that may be forwarded: no hop-by-hop, framing or forwarding field among them.
    @ivar fields: the classified fields, in order.
    @ivar kinds: the kinds of these fields, as bits; a bit too many does no harm.
    @ivar length: the length of the body in bytes; 0 for none, C{None} if it is not known (chunked).
    @ivar upgrade: the protocols that the client asks to switch to, or C{None}.
    @ivar body: the body: C{bytes} if all of it has come, else an L{IBody<twistproxy.interfaces.IBody>}.
    @ivar trailers: trailer lines that came with a complete body.
    @ivar keepAlive: whether the client's connection can be used again.
    @ivar fault: why it must be refused, found while it was read; the head may be incomplete then.
    """

    __slots__ = (
        "_headers", "body", "fault", "fields", "forward", "host", "keepAlive", "kinds", "length", "lines", "method",
        "minor", "peer", "target", "trailers", "upgrade",
    )  # fmt: skip

    body: Any
    fault: ProxyError | None
    length: int | None
    upgrade: bytes | None

    def __init__(
        self,
        peer: Peer,
        method: bytes,
        target: bytes,
        minor: int,
        lines: list[bytes],
        forward: list[bytes],
        fields: list[Field],
        last: Request | None = None,
    ) -> None:
        """
        @param last: a request with the same header lines; what they mean is taken from it.
        """
        self.peer = peer
        self.method = method
        self.target = target
        self.minor = minor
        self.lines = lines
        self.forward = forward
        self.fields = fields
        self.body = b""
        self.trailers: Sequence[bytes] = ()
        self.fault = None
        self._headers: Headers | None = None
        if last is None:
            self.kinds = -1
            self.length = 0
            self.host = b""
            self.keepAlive = False
            self.upgrade = None
        else:
            self.kinds = last.kinds
            self.length = last.length
            self.host = last.host
            self.keepAlive = last.keepAlive
            self.upgrade = last.upgrade

    @property
    def headers(self) -> Headers:
        """
        All header fields as received (a view: changing it changes nothing that is forwarded).
        """
        if self._headers is None:
            self._headers = Headers(self.lines.copy())
        return self._headers

    @property
    def path(self) -> bytes:
        """
        The target without its query, escaped as it came.
        """
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """
        The query without its question mark.
        """
        return self.target.partition(b"?")[2]

    def __repr__(self) -> str:
        return f"<Request {self.method!r} {self.target!r} from {self.peer.host}>"


class HeadersView:
    """
    Header lines, and on demand the multidict over them: both hold the same list.

    @ivar lines: the raw lines.
    @ivar view: the multidict, if anybody has asked for it.
    """

    __slots__ = ("_shared", "lines", "view")

    lines: list[bytes]
    view: Headers | None
    _shared: bool

    def _setHeaders(self, headers: Headers | list[bytes]) -> None:
        self._shared = False
        if type(headers) is list:
            self.lines = headers
            self.view = None
        else:
            self.view = headers  # type: ignore[assignment]
            self.lines = headers.lines  # type: ignore[union-attr]

    @property
    def headers(self) -> Headers:
        """
        The fields, to be read and edited.
        """
        view = self.view
        if view is None:
            view = self.view = Headers(self.ownLines())
        return view

    @headers.setter
    def headers(self, headers: Headers) -> None:
        # a copy: whose headers they were must not change with this message
        headers = headers.copy()
        self._setHeaders(headers)
        headers.edited = True

    def ownLines(self) -> list[bytes]:
        """
        @return: the lines, to be changed.  What several messages share is copied first.
        """
        if self._shared:
            self._shared = False
            self.lines = self.lines.copy()
        return self.lines

    @property
    def edited(self) -> bool:
        """
        Whether user code has changed the fields.
        """
        return self.view is not None and self.view.edited


class OutboundRequest(HeadersView):
    """
    What will be sent upstream; a director may change everything in it.

    @ivar method: the method.
    @ivar target: the request target, as it will stand in the request line.
    @ivar upstream: where it goes.
    @ivar host: the value of C{Host}.
    @ivar headers: the other fields.  Framing is not among them: it is recomputed from the body.
    @ivar body: the body: C{bytes}, or an L{IBody<twistproxy.interfaces.IBody>}.
    @ivar trailers: trailer lines behind a body of C{bytes}.
    @ivar chunked: whether to send the body in chunks even if its length is known.
    @ivar acceptsTrailers: whether to say C{TE: trailers}.
    @ivar upgrade: the protocols to ask for, or C{None}.
    @ivar timeouts: limits for this request; C{None} for those of the transport.
    @ivar replayed: whether it was sent once more because a kept connection had died; set by the transport.
    @ivar onInformational: called with each interim L{Response}; set by the proxy.
    @ivar failed: the targets that this request came to nothing at; set by whoever tries again.
    @ivar held: whatever is taken for as long as this request is under way, a place in a count, say; it is let go of
        when the exchange settles, or nobody knows of the request any more.
    @ivar record: what is known of the exchange.
    @ivar carrier: whatever carries it now, an L{ICarrier<twistproxy.interfaces.ICarrier>}; set by the
        transport.
    """

    __slots__ = (
        "acceptsTrailers", "body", "carrier", "chunked", "failed", "held", "host", "method", "onInformational",
        "record", "replayed", "target", "timeouts", "trailers", "upgrade", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        target: bytes,
        upstream: Target | None,
        host: bytes,
        headers: Headers | list[bytes],
        body: Any,
        record: ExchangeRecord,
    ) -> None:
        self.method = method
        self.target = target
        self.upstream = upstream
        self.host = host
        if type(headers) is list:
            self.lines = headers
            self.view = None
            self._shared = False
        else:
            self._setHeaders(headers)
        self.body = body
        self.record = record
        self.trailers: Sequence[bytes] = ()
        self.chunked = self.acceptsTrailers = self.replayed = False
        self.upgrade: bytes | None = None
        self.timeouts: Timeouts | None = None
        self.onInformational: Callable[[Response], None] | None = None
        self.failed: Sequence[Target] = ()
        self.carrier: Any = None
        self.held: Any = None

    def draft(self) -> Draft:
        """
        @return: the request as it is now, for L{restore}.
        """
        return (
            self.method, self.target, self.upstream, self.host, self.lines.copy(), self.body, self.trailers,
            self.chunked, self.acceptsTrailers, self.upgrade, self.timeouts,
        )  # fmt: skip

    def restore(self, draft: Draft) -> None:
        """
        Be again as L{draft} found it, whatever a transport has made of it since (B2.2).
        """
        (
            self.method, self.target, self.upstream, self.host, lines, self.body, self.trailers,
            self.chunked, self.acceptsTrailers, self.upgrade, self.timeouts,
        ) = draft  # fmt: skip
        self._setHeaders(lines.copy())
        self.carrier = self.held = None
        self.replayed = False

    def __repr__(self) -> str:
        return f"<OutboundRequest {self.method!r} {self.target!r} to {self.upstream and self.upstream.name}>"


class Response(HeadersView):
    """
    A response for a client: made by user code, or (L{UpstreamResponse}) come from an upstream.

    @ivar status: the status, 200 to 599 (100 to 199 for an interim one).
    @ivar reason: the reason phrase.
    @ivar headers: its fields; framing is not among them.
    @ivar body: C{bytes}, or an L{IBody<twistproxy.interfaces.IBody>}.
    @ivar trailers: trailer lines behind a body of C{bytes}.
    @ivar dated: whether it is known to have a Date.
    @ivar chunked: whether to send its body in chunks although all of it is here: it came so.
    @ivar contentLength: what Content-Length says where there is no body (HEAD, 304), or C{None}.
    """

    __slots__ = ("body", "chunked", "contentLength", "dated", "reason", "status", "trailers")

    def __init__(
        self,
        status: int,
        headers: Headers | dict[Any, Any] | None = None,
        body: Any = b"",
        reason: bytes | None = None,
    ) -> None:
        if not 100 <= status <= 599:
            raise ValueError(f"a status is a number from 100 to 599, not {status!r}")
        if reason is not None and NOT_IN_VALUE.search(reason):
            raise ValueError(f"the reason phrase {reason!r} has a control character in it")
        self.status = status
        if not isinstance(headers, Headers):
            headers = Headers.of(headers.items()) if headers else Headers()
        self._setHeaders(headers)
        self.body = body.encode("utf-8") if isinstance(body, str) else body
        self.reason = REASONS.get(status, b"") if reason is None else reason
        self.trailers: Sequence[bytes] = ()
        self.contentLength: int | None = None
        self.dated = self.chunked = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class UpstreamResponse(Response):
    """
    A response that came from an upstream.

    @ivar minor: the upstream's minor HTTP version.
    @ivar upgrade: the protocol switched to (101), or C{None}.
    @ivar length: the length of its body in bytes as its head says, C{None} if that does not say.
    @ivar keepAlive: whether its connection can be used again, as far as its head goes.
    @ivar connection: what it came over; has C{abort()}, and C{tunnel()} after a 101.
    """

    __slots__ = ("connection", "keepAlive", "length", "minor", "upgrade")

    length: int | None
    keepAlive: bool

    def __init__(self, status: int, reason: bytes, minor: int, headers: Headers | list[bytes], connection: Any) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        if type(headers) is list:
            # it comes from a parser, which may give it to the next response too
            self.lines = headers
            self.view = None
            self._shared = True
        else:
            self._setHeaders(headers)
        self.connection = connection
        self.body = b""
        self.trailers = ()
        self.contentLength = None
        self.dated = self.chunked = False
        self.upgrade: bytes | None = None

    def abort(self) -> None:
        """
        Give the response up: the upstream request ends at once.  Harmless if it has ended already.
        """
        if self.connection is not None:
            self.connection.abort()


class TunnelEnd:
    """
    One side of a tunnel, where HTTP has ended and bytes are opaque.

    @ivar source: an L{IBody<twistproxy.interfaces.IBody>} of what this side sends; it finishes at this side's
        end of file.
    @ivar sink: an L{IBodyConsumer<twistproxy.interfaces.IBodyConsumer>}; C{finish} closes its write side.
    @ivar close: called when both directions are done.
    @ivar abort: called to cut it off.
    @ivar transport: the connection's byte transport.  If its class has a method C{divert}, as those of the hub do,
        bytes can go past the source: L{SocketTransport.divert<twistproxy.net.transport.SocketTransport.divert>}.
    @ivar onLost: set by the tunnel; called with the error if this side breaks off after its source has finished.
    """

    __slots__ = ("abort", "close", "onLost", "sink", "source", "transport")

    def __init__(
        self,
        source: Any,
        sink: Any,
        close: Callable[[], None],
        abort: Callable[[], None],
        transport: Any = None,
    ) -> None:
        self.source = source
        self.sink = sink
        self.close = close
        self.abort = abort
        self.transport = transport
        self.onLost: Callable[[Exception], None] | None = None
