# -*- test-case-name: tests.test_events -*-
"""
What is known of one exchange: the record that access log, counters and C{explain} are fed from.

Nothing else in the proxy reads a clock or counts bytes for its own purposes; a log field or a metric that is
missing begins here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twistproxy.errors import ProxyError
from twistproxy.message import Field, Peer, Request

_NONE = Request(Peer(""), b"", b"", 1, [], [], [])


class ExchangeRecord:
    """
    Facts about one exchange.  Times are seconds of C{clock}; 0.0 means I{did not happen} or, for L{directed}
    and L{connected}, I{took no time worth a reading}.

    @ivar clock: the clock in use (C{reactor.seconds}).
    @ivar peer: the address of the TCP peer, as text.
    @ivar client: the address of the client behind trusted proxies; the peer's, without such.
    @ivar method: the request's method.
    @ivar target: the request's target, as received.
    @ivar minor: the minor HTTP version of the request.
    @ivar host: the request's host.
    @ivar fields: the classified fields of the request's head.
    @ivar requestID: the request's id.
    @ivar status: the status that the client got; 499 if it left before the end, 0 if nothing was
        decided.
    @ivar requestBytes: body bytes received from the client.
    @ivar responseBytes: body bytes handed to the client's connection.
    @ivar upstream: the name of the upstream, C{""} if none was chosen.
    @ivar tries: how often the request was handed to an upstream connection.
    @ivar retried: the tries that came to nothing before the last one: the upstream's name, and what became of it there.
    @ivar reused: whether the last of these connections had been used before.
    @ivar tunnelled: whether it became a tunnel.
    @ivar error: what failed, or C{None}.
    @ivar started: when the request head was complete.
    @ivar directed: when a director that waited had decided.
    @ivar connected: when the request got an upstream connection that it had to wait for.
    @ivar responded: when the final response head had come.
    @ivar ended: when the exchange settled.
    """

    __slots__ = (
        "client", "clock", "connected", "directed", "ended", "error", "fields", "host", "method", "minor",
        "peer", "requestBytes", "requestID", "responded", "responseBytes", "retried", "reused", "started", "status",
        "target", "tries", "tunnelled", "upstream",
    )  # fmt: skip

    error: ProxyError | None
    retried: Sequence[tuple[str, str]]
    fields: list[Field]
    peer: str
    client: str
    method: bytes
    target: bytes
    minor: int
    host: bytes

    def __init__(self, clock: Callable[[], float], request: Request | None = None) -> None:
        """
        @param request: whose head is noted; C{None} if nobody asks for it.
        """
        if request is None:
            request = _NONE
        self.peer = self.client = request.peer.host
        self.method = request.method
        self.target = request.target
        self.minor = request.minor
        self.host = request.host
        self.fields = request.fields
        self.clock = clock
        self.started = clock()
        self.directed = self.connected = self.responded = self.ended = 0.0
        self.requestBytes = self.responseBytes = self.tries = self.status = 0
        self.upstream = ""
        self.requestID = b""
        self.reused = self.tunnelled = False
        self.error = None
        self.retried = ()

    def field(self, kind: int) -> bytes | None:
        """
        @param kind: a kind of L{twistproxy.rules.fields} that is classified (User-Agent, Referer).
        @return: the value of the request's first field of that kind, or C{None}.
        """
        for known, _, _, value, _ in self.fields:
            if known == kind:
                return value
        return None

    @property
    def total(self) -> float:
        """
        The whole exchange, in seconds.
        """
        return self.ended - self.started

    @property
    def directSeconds(self) -> float:
        """
        The director's share.
        """
        return self.directed - self.started if self.directed else 0.0

    @property
    def connectSeconds(self) -> float:
        """
        What it took to get an upstream connection: line, name resolution, TCP and TLS.
        """
        return self.connected - (self.directed or self.started) if self.connected else 0.0

    @property
    def waitSeconds(self) -> float:
        """
        From the request's way upstream to the response head.
        """
        return self.responded - (self.connected or self.directed or self.started) if self.responded else 0.0

    @property
    def bodySeconds(self) -> float:
        """
        From the response head to the end.
        """
        return self.ended - self.responded if self.responded else 0.0
