# -*- test-case-name: tests.upstream.test_transport -*-
"""
The native transport: carries requests over pooled connections of our own.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twistproxy.deadlines import IWheelLike, Timeouts, ticksOf
from twistproxy.errors import HookFailed, Unavailable
from twistproxy.interfaces import ICallbackTransport, ITransport
from twistproxy.limits import Limits
from twistproxy.message import OutboundRequest, UpstreamResponse
from twistproxy.roundtrip import roundTripBy
from twistproxy.upstream.pool import Pool, PoolSettings
from twistproxy.upstreams import Cluster, Target
from twistproxy.wire.context import ClientContext

#: Pools that are remembered; a director that makes up targets as it goes must not fill the memory.
MAX_POOLS = 4096


@implementer(ICallbackTransport, ITransport)
class PooledTransport:
    """
    Keeps one pool of connections per target.

    @ivar pools: the pools, by L{Target.key<twistproxy.upstreams.Target>}.
    @ivar settings: the bounds of each pool.
    @ivar timeouts: the limits of time.
    """

    def __init__(
        self,
        dialer: Any,
        wheel: IWheelLike,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        settings: PoolSettings | None = None,
    ) -> None:
        """
        @param dialer: makes connections, an L{IDialer<twistproxy.interfaces.IDialer>}.
        @param wheel: measures the limits of time.
        """
        self.timeouts = timeouts = timeouts or Timeouts()
        self.pools: dict[Hashable, Pool] = {}
        self._dialer = dialer
        self.settings = settings or PoolSettings()
        self._context = ClientContext(wheel, limits or Limits(), timeouts)
        self._connectTicks = ticksOf(wheel, timeouts.connect)
        self._queueTicks = ticksOf(wheel, timeouts.queue)
        self._closed = False
        self._lastTarget: Target | None = None
        self._lastPool: Any = None

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        See L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        target = outbound.upstream
        if target is None:
            receiver.roundTripFailed(HookFailed("transport", "the request names no upstream"))
            return
        if target is self._lastTarget:
            pool = self._lastPool
        else:
            pool = self.pools.get(target.key)
            if pool is None:
                if self._closed:
                    receiver.roundTripFailed(Unavailable("the transport is closed"))
                    return
                if isinstance(target, Cluster):
                    receiver.roundTripFailed(HookFailed("transport", "a cluster needs a BalancingTransport above it"))
                    return
                pool = self._makePool(outbound)
            # Most proxies have one target: its key need not be hashed for every request.
            self._lastTarget, self._lastPool = target, pool
        idle = pool.idle
        if idle:
            idle.pop().begin(outbound, receiver)
        else:
            pool.begin(outbound, receiver)

    def _makePool(self, outbound: OutboundRequest) -> Pool:
        target = outbound.upstream
        assert target is not None
        if len(self.pools) >= MAX_POOLS:
            self._lastTarget = self._lastPool = None
            for key in [key for key, pool in self.pools.items() if not pool.connections]:
                del self.pools[key]
        pool = Pool(target, self._dialer, self._context, self.settings, self._connectTicks, self._queueTicks)
        self.pools[target.key] = pool
        return pool

    def roundTrip(self, outbound: OutboundRequest) -> Deferred[UpstreamResponse]:
        """
        See L{ITransport.roundTrip<twistproxy.interfaces.ITransport>}.
        """
        return roundTripBy(self.begin, outbound)

    def close(self) -> None:
        """
        Close idle connections now and the others as they become free.
        """
        self._closed = True
        for pool in self.pools.values():
            pool.close()

    def cut(self) -> None:
        """
        Close every connection now.
        """
        self._closed = True
        for pool in list(self.pools.values()):
            pool.cut()
