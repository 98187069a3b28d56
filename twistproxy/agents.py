# -*- test-case-name: tests.upstream.test_agent,tests.upstream.test_agentstory -*-
"""
C{ProxyAgent} and C{ProxyConnectionPool} with their default parts, for programs that use them beside a proxy or without
one::

    agent = ProxyAgent(reactor)
    client = treq.client.HTTPClient(agent)
    proxy = ReverseProxy(director, agent)
"""

from __future__ import annotations

from typing import Any

import attrs

from twistproxy.deadlines import Timeouts
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.net.tls import TLSSettings
from twistproxy.upstream import agent as _agent
from twistproxy.upstream.agenttransport import AgentTransport
from twistproxy.upstream.endpoint import EndpointDialer, EndpointTarget
from twistproxy.upstream.pool import PoolSettings
from twistproxy.upstream.transport import PooledTransport

__all__ = ["AgentTransport", "EndpointTarget", "ProxyAgent", "ProxyConnectionPool"]


class ProxyConnectionPool(_agent.ProxyConnectionPool):
    """
    A pool on a network: see L{twistproxy.upstream.agent.ProxyConnectionPool}.
    """

    def __init__(
        self,
        reactor: Any = None,
        persistent: bool = True,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        settings: PoolSettings | None = None,
        tls: TLSSettings | None = None,
    ) -> None:
        """
        @param reactor: a reactor, a L{Network<twistproxy.net.network.Network>}, or C{None} for the global reactor.
        @param persistent: whether connections carry more than one request of an agent.
        @param timeouts: the limits of time.
        @param limits: the bounds on what an upstream can make this hold.
        @param settings: the bounds on connections, and on the line for one.
        @param tls: how to speak TLS; verified by default.  A stock Agent's own policy goes for what I{it} connects.
        """
        network = Network.of(reactor)
        timeouts = timeouts or Timeouts()
        if not persistent:
            # who has said "Connection: close" must not use that connection again (RFC 9112 9.6)
            settings = attrs.evolve(settings or PoolSettings(), maxIdle=0)
        dialer = EndpointDialer(network.dialer(timeouts, tls))
        transport = PooledTransport(dialer, network.wheel, timeouts=timeouts, limits=limits, settings=settings)
        super().__init__(network.reactor, transport, persistent)


class ProxyAgent(_agent.ProxyAgent):
    """
    An agent on a network: see L{twistproxy.upstream.agent.ProxyAgent}.
    """

    def __init__(self, reactor: Any = None, pool: _agent.ProxyConnectionPool | None = None) -> None:
        """
        @param reactor: as for L{ProxyConnectionPool}; used if there is no C{pool}.
        @param pool: the pool; a new one with the defaults of a careful operator if there is none.
        """
        super().__init__(ProxyConnectionPool(reactor) if pool is None else pool)

    @classmethod
    def default(
        cls,
        reactor: Any = None,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        pool: PoolSettings | None = None,
        tls: TLSSettings | None = None,
    ) -> ProxyAgent:
        """
        The transport that a L{ReverseProxy<twistproxy.proxy.ReverseProxy>} makes itself if it is given none: to be
        wrapped by one of your own, or shared by several proxies.

        @param reactor: as for L{ProxyConnectionPool}.
        @param timeouts: the limits of time.
        @param limits: the bounds on what an upstream can make this hold.
        @param pool: the bounds on connections, and on the line for one.
        @param tls: how to speak TLS with upstreams; verified by default.
        """
        network = Network.of(reactor)
        return cls(network, ProxyConnectionPool(network, timeouts=timeouts, limits=limits, settings=pool, tls=tls))
