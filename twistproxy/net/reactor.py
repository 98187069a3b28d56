# -*- test-case-name: tests.net.test_reactor -*-
"""
A reactor whose TCP and UNIX sockets are on a hub.

Endpoints, C{serverFromString} and L{HostnameEndpoint<twisted.internet.endpoints.HostnameEndpoint>} get
their transports from the reactor that they are given.  Given a L{HubReactor} they get them from its hub,
and know no difference.  All else is passed on to the reactor that runs: this is a facade, and nothing that
runs by itself.

What a transport here does not have is C{startTLS}.  The endpoints C{tls:} and C{wrapClientTLS} do without
it; C{ssl:} asks for C{listenSSL} and C{connectSSL}, which are the real reactor's.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IReactorFDSet
from zope.interface import directlyProvides, providedBy

from twistproxy.net.binding import AdoptedBinding, IBindingLike, TCPBinding, UNIXBinding
from twistproxy.net.connector import TCPConnector, UNIXConnector
from twistproxy.net.hub import Hub
from twistproxy.net.listener import Listener

# Where a reactor keeps the facade that all proxies in it share.  An attribute of its own: in a
# WeakKeyDictionary the facade, which holds the reactor, would be the value that keeps its own key alive.
_ATTRIBUTE = "_twistproxyHubReactor"


class HubReactor:
    """
    Provides whatever C{reactor} provides, with sockets on a hub.

    @ivar hub: the hub.
    """

    def __init__(self, reactor: Any, hub: Hub | None = None) -> None:
        """
        @param reactor: a reactor that provides L{IReactorFDSet}.
        @param hub: the hub to use instead of a new one.
        """
        self._reactor = reactor
        self.hub = Hub(reactor) if hub is None else hub
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def __repr__(self) -> str:
        return f"<HubReactor on {self._reactor!r}>"

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Listener:
        """
        See L{IReactorTCP.listenTCP<twisted.internet.interfaces.IReactorTCP.listenTCP>}.

        @param port: the port, or a L{TCPBinding}, which says it all.
        """
        if not isinstance(port, TCPBinding):
            port = TCPBinding(interface=interface or "", port=port, backlog=backlog)
        return self._listen(factory, port)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> TCPConnector:
        """
        See L{IReactorTCP.connectTCP<twisted.internet.interfaces.IReactorTCP.connectTCP>}.
        """
        connector = TCPConnector(self.hub, host, port, factory, timeout=timeout, bindAddress=bindAddress)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: str | bytes, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> Listener:
        """
        See L{IReactorUNIX.listenUNIX<twisted.internet.interfaces.IReactorUNIX.listenUNIX>}.
        """
        return self._listen(factory, UNIXBinding(address, backlog, mode, wantPID))

    def connectUNIX(
        self, address: str | bytes, factory: Any, timeout: float = 30, checkPID: bool = False
    ) -> UNIXConnector:
        """
        See L{IReactorUNIX.connectUNIX<twisted.internet.interfaces.IReactorUNIX.connectUNIX>}.
        """
        connector = UNIXConnector(self.hub, address, factory, timeout, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Listener:
        """
        See L{IReactorSocket.adoptStreamPort<twisted.internet.interfaces.IReactorSocket.adoptStreamPort>}.
        """
        if addressFamily not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise UnsupportedAddressFamily(addressFamily)
        return self._listen(factory, AdoptedBinding(fileDescriptor, addressFamily))

    def _listen(self, factory: Any, binding: IBindingLike) -> Listener:
        listener = Listener(self.hub, factory, binding)
        listener.startListening()
        return listener


def networkReactor(reactor: Any) -> Any:
    """
    The best that this platform and reactor can do: sockets on a hub, which everything in this reactor
    shares, or stock ones.

    @param reactor: a reactor, or what this function returned for it.
    @return: a L{HubReactor}, or C{reactor} itself.
    """
    if isinstance(reactor, HubReactor):
        return reactor
    # IReactorFDSet alone will not do: twisted.internet.testing.MemoryReactor claims it too, and never asks
    # a descriptor.
    if not (Hub.available() and IReactorFDSet.providedBy(reactor) and isinstance(reactor, ReactorBase)):
        return reactor
    facade = getattr(reactor, _ATTRIBUTE, None)
    if facade is None:
        facade = HubReactor(reactor)
        setattr(reactor, _ATTRIBUTE, facade)
    return facade
