# -*- test-case-name: tests.core.test_tunnel -*-
"""
After a 101: opaque bytes, both ways.

A tunnel is two bodies, each of which ends with its side's end of file: what the client sends is pumped into the
upstream's connection and what the upstream sends into the client's.  The end of one closes the write side of the other
and leaves the other direction alone (B6.3); the failure of one ends both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProducer
from zope.interface import implementer

from twistproxy.deadlines import NEVER, IWheelLike, Timed
from twistproxy.errors import ProxyError, Sent, Side, Stage, UpstreamError
from twistproxy.interfaces import IBodyConsumer
from twistproxy.message import TunnelEnd

if TYPE_CHECKING:
    from twistproxy.core.exchange import Exchange


class Tunnel(Timed):
    """
    One tunnel.

    @ivar timed: whether there is a limit to its idle time.
    """

    limitName = "tunnelIdle"

    __slots__ = ("_directions", "_downstream", "_exchange", "_idleTicks", "_open", "_upstream", "_wheel", "timed")

    def __init__(
        self, exchange: Exchange, downstream: TunnelEnd, upstream: TunnelEnd, wheel: IWheelLike | None, idleTicks: int
    ) -> None:
        """
        @param exchange: whose tunnel it is; told when it has ended.
        @param downstream: the client's side.
        @param upstream: the upstream's side.
        @param wheel: measures the idle time, if there is a limit to it.
        @param idleTicks: that limit, in ticks.
        """
        super().__init__()
        self._exchange = exchange
        self._downstream = downstream
        self._upstream = upstream
        self._wheel = wheel
        self._idleTicks = idleTicks
        self.timed = wheel is not None and idleTicks != NEVER
        self._open = 2
        self._directions: tuple[_Direction, _Direction] | None = None

    @property
    def wheel(self) -> IWheelLike | None:
        """
        See L{Timed.wheel<twistproxy.deadlines.Timed>}.
        """
        return self._wheel

    def start(self) -> None:
        """
        Let the bytes flow.
        """
        record = self._exchange.record
        up = _Direction(self, self._upstream.sink, record.requestBytes)
        down = _Direction(self, self._downstream.sink, record.responseBytes)
        self._directions = up, down
        self._exchange.tunnelling(self)
        self.moved()
        downstream, upstream = self._downstream, self._upstream
        upstream.onLost = self.failed
        self._connect(upstream, down, downstream)
        if self._open:
            self._connect(downstream, up, upstream)

    def _connect(self, end: TunnelEnd, direction: _Direction, other: TunnelEnd) -> None:
        end.source.deliver(direction)
        # What came before is through, so what comes now need not go by the connection any more.
        if self._open:
            _divert(end, direction, other.transport)

    def moved(self) -> None:
        """
        Bytes have come from either side.
        """
        if self._wheel is not None and self.timed:
            self._wheel.schedule(self, self._idleTicks)

    def timedOut(self) -> None:
        """
        Nothing has come from either side for too long.
        """
        error = ProxyError("the tunnel was idle for too long", Stage.TUNNEL, Side.INTERNAL, Sent.ALL)
        error.timeout = "tunnelIdle"
        self.failed(error)

    def ended(self) -> None:
        """
        One direction has ended in order.
        """
        self._open -= 1
        if self._open == 0:
            self._finish()
            # first of all: a stock transport whose write side is closed tells of its loss inside of loseConnection
            self._exchange.tunnelEnded(None)
            self._downstream.close()
            self._upstream.close()

    def failed(self, error: Exception) -> None:
        """
        One side broke off: both are cut.
        """
        if self._open > 0:
            if not isinstance(error, ProxyError):
                error = UpstreamError(str(error), Stage.TUNNEL, Sent.ALL)
            exchange = self._exchange
            self.abort()
            exchange.tunnelEnded(error)

    def abort(self) -> None:
        """
        Cut both sides; the exchange is not told.
        """
        if self._open > 0:
            self._finish()
            self._downstream.abort()
            self._upstream.abort()

    def tally(self) -> None:
        """
        Enter what has passed so far into the exchange's record.  While the tunnel runs it is too busy for that.
        """
        if self._directions is not None:
            record, (up, down) = self._exchange.record, self._directions
            record.requestBytes = up.passed
            record.responseBytes = down.passed

    def _finish(self) -> None:
        self._open = 0
        self._upstream.onLost = None
        for end in (self._downstream, self._upstream):
            _divert(end, None)
        self.tally()
        self._directions = None  # which hold the tunnel
        if self._wheel is not None:
            self._wheel.cancel(self)


def _divert(end: TunnelEnd, direction: _Direction | None, peer: Any = None) -> None:
    """
    Let what C{end} sends go past its connection, if its byte transport can do that.
    """
    # Its class is asked: Twisted's TLS, as every wrapper of a protocol, has whatever the transport below it has, and
    # the bytes of that one are not those of the tunnel.
    divert = getattr(type(end.transport), "divert", None)
    if divert is not None:
        divert(end.transport, direction, peer)


@implementer(IBodyConsumer)
class _Direction:
    """
    One direction of a tunnel: counts, and keeps the tunnel awake.

    @ivar passed: the bytes that have gone this way.
    @ivar moved: to be called whenever some did, or C{None} if nobody waits for that.
    @ivar to: for who takes a short way past it.
    """

    __slots__ = ("_sink", "_tunnel", "_write", "moved", "passed", "to")

    def __init__(self, tunnel: Tunnel, sink: Any, passed: int) -> None:
        self._tunnel = tunnel
        self._sink = sink
        self._write = sink.write
        self.moved = tunnel.moved if tunnel.timed else None
        self.passed = passed
        self.to = -1

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._sink.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._sink.unregisterProducer()

    def write(self, data: bytes) -> None:
        self.passed += len(data)
        if self.moved is not None:
            self.moved()
        self._write(data)

    def finish(self, trailers: list[bytes]) -> None:
        self._sink.finish(trailers)
        self._tunnel.ended()

    def fail(self, error: Exception) -> None:
        self._tunnel.failed(error)
