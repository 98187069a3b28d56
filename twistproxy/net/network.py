# -*- test-case-name: tests.net.test_network -*-
"""
What a proxy needs of a reactor, made once per reactor: sockets, time, connections.
"""

from __future__ import annotations

from typing import Any

from twistproxy.deadlines import Timeouts
from twistproxy.globalreactor import reactorOf
from twistproxy.net.dialer import Dialer
from twistproxy.net.reactor import networkReactor
from twistproxy.net.tls import TLSSettings
from twistproxy.net.wheel import Wheel

# On the reactor itself: a table here would keep every reactor that a test makes.
_ATTRIBUTE = "_twistproxyNetwork"


class Network:
    """
    Sockets and time of one reactor.

    @ivar reactor: what to listen and connect with: the hub's facade where there is one, else the reactor itself.
    @ivar wheel: measures the limits of time.
    """

    def __init__(self, reactor: Any, hub: bool = True) -> None:
        """
        @param reactor: the reactor.
        @param hub: whether to use a hub if there can be one; otherwise Twisted's own transports.
        """
        self.reactor = networkReactor(reactor) if hub else reactor
        self.wheel = Wheel(reactor)

    @classmethod
    def of(cls, reactor: Any) -> Network:
        """
        @param reactor: a reactor, a L{Network}, which is given back, or C{None} for the global reactor.
        @return: the network that everything in this reactor shares.
        """
        if isinstance(reactor, Network):
            return reactor
        reactor = reactorOf(reactor)
        network: Network | None = getattr(reactor, _ATTRIBUTE, None)
        if network is None:
            network = cls(reactor)
            setattr(reactor, _ATTRIBUTE, network)
        return network

    def dialer(self, timeouts: Timeouts, tls: TLSSettings | None = None) -> Dialer:
        """
        @return: a maker of connections with these limits of time.
        """
        return Dialer(self.reactor, timeouts.connect, timeouts.tlsHandshake, tls or TLSSettings())
