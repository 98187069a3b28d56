# -*- test-case-name: tests.net.test_connector -*-
"""
Connectors: outgoing connections on a hub.

They behave as those of L{twisted.internet.tcp} and L{twisted.internet.unix} towards their factory.  Two
things are different, both for the sake of an upstream on the same machine.  A UNIX socket whose backlog is
full refuses with C{EAGAIN} and never says when to come back, so we ask again now and then.  And a TCP
connection to a port where nobody listens may, once in thousands of times, be given that very port for its
own end and connect to itself; that counts as refused.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    BadFileError,
    ConnectBindError,
    NotConnectingError,
    ServiceNameUnknownError,
    TimeoutError,
    UserError,
    getConnectError,
)
from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.python.lockfile import isLocked
from zope.interface import implementer

from twistproxy.net.binding import Address, TCPBinding, numericAddress, socketAddress
from twistproxy.net.hub import EPOLLERR, EPOLLHUP, EPOLLOUT, Hub, HubSocket
from twistproxy.net.transport import SocketTransport

#: Between two attempts at a UNIX socket whose backlog is full, in seconds.
BACKLOG_RETRY = 0.02

_UNDER_WAY = frozenset({0, errno.EINPROGRESS, errno.EINTR})


@implementer(IConnector)
class HubConnector(HubSocket):
    """
    What connectors of both kinds have in common.

    @ivar state: C{"connecting"}, C{"connected"} or C{"disconnected"}.
    @ivar factory: a C{IProtocolFactory} with the methods of a C{ClientFactory}.
    @ivar transport: the connection, as long as it is one.
    """

    def __init__(self, hub: Hub, factory: Any, timeout: float | None) -> None:
        """
        @param hub: where it lives, and its connection.
        @param factory: the factory.
        @param timeout: how long connecting may take, in seconds.
        """
        super().__init__()
        self._hub = hub
        self.factory = factory
        self.state = "disconnected"
        self.transport: SocketTransport | None = None
        self._timeout = timeout
        self._factoryStarted = False
        self._socket: socket.socket | None = None
        self._deadline: Any = None
        self._retry: Any = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state} {self.getDestination()}>"

    # -- IConnector --------------------------------------------------------------------------------

    def connect(self) -> None:
        """
        Start connecting.

        @raise RuntimeError: when it does already, or is connected.
        """
        if self.state != "disconnected":
            raise RuntimeError("can't connect in this state")
        self.state = "connecting"
        if not self._factoryStarted:
            self.factory.doStart()
            self._factoryStarted = True
        if self._timeout is not None:
            self._deadline = self._hub.reactor.callLater(self._timeout, self._fail, TimeoutError())
        self._begin()
        self.factory.startedConnecting(self)

    def stopConnecting(self) -> None:
        """
        Give up.

        @raise NotConnectingError: when it is not connecting.
        """
        if self.state != "connecting":
            raise NotConnectingError("we're not trying to connect")
        self._fail(UserError())

    def disconnect(self) -> None:
        """
        Give up, or close the connection.
        """
        if self.state == "connecting":
            self.stopConnecting()
        elif self.transport is not None:
            self.transport.loseConnection()

    def getDestination(self) -> Any:
        """
        @return: where to.
        """
        raise NotImplementedError

    # -- for subclasses ----------------------------------------------------------------------------

    def _begin(self) -> None:
        """
        Find out the address and call C{_attempt}; an error is for C{_failSoon}.
        """
        raise NotImplementedError

    def _target(self) -> Any:
        """
        @return: the address to connect to, as the C{socket} module wants it.
        """
        raise NotImplementedError

    def _attempt(self, sock: socket.socket) -> None:
        self._retry = None
        try:
            result = sock.connect_ex(self._target())
        except OSError as why:
            result = why.errno or errno.EINVAL
        if result in _UNDER_WAY:
            self._socket = sock
            # For all that a transport wants, so that the transport need not register it again.
            self._hub.add(sock.fileno(), self)
        elif result == errno.EAGAIN and sock.family == socket.AF_UNIX:
            self._socket = sock
            self._retry = self._hub.reactor.callLater(BACKLOG_RETRY, self._attempt, sock)
        else:
            sock.close()
            self._failSoon(getConnectError((result, os.strerror(result))))

    def _failSoon(self, why: BaseException) -> None:
        """
        Fail, though not before whoever called C{connect} knows this connector.
        """
        self._error = why
        self._hub.queue(self)

    # -- events of the hub -------------------------------------------------------------------------

    def socketEvent(self, events: int) -> None:
        """
        See L{HubSocket.socketEvent}.
        """
        sock = self._socket
        if sock is None or not events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
            return
        result = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not result and sock.family != socket.AF_UNIX and sock.getsockname() == self._target():
            result = errno.ECONNREFUSED
        if result:
            self._fail(getConnectError((result, os.strerror(result))))
            return
        self._connected(sock)
        if self.transport is not None:
            # What came together with the connection had its event already.
            self.transport.socketEvent(events)

    def runAgain(self) -> None:
        """
        See L{HubSocket.runAgain}.
        """
        why, self._error = self._error, None
        if why is not None:
            self._fail(why)

    def crashed(self, reason: Failure) -> None:
        """
        See L{HubSocket.crashed}.
        """
        self._fail(reason)

    def hubLost(self, reason: Failure) -> None:
        """
        See L{HubSocket.hubLost}.
        """
        self._fail(reason)

    # -- outcomes ----------------------------------------------------------------------------------

    def _connected(self, sock: socket.socket) -> None:
        peer = self._peer()
        protocol = self.factory.buildProtocol(peer)
        if self.state != "connecting":
            return  # buildProtocol gave up
        self._forget()
        self.state = "connected"
        declined = protocol is None
        if declined:
            # Twisted's way: the factory hears that its connection is lost, and not that none came about.
            protocol = Protocol()
        self.transport = transport = SocketTransport(self._hub, sock, peer, protocol, self)
        self._hub.replace(sock.fileno(), transport)
        if declined:
            transport.loseConnection()
            return
        try:
            protocol.makeConnection(transport)
        except BaseException:
            self._hub.clientFailed(transport)

    def _peer(self) -> Address:
        return self.getDestination()

    def _forget(self) -> None:
        """
        Stop waiting for anything.
        """
        self._socket = None
        for call in (self._deadline, self._retry):
            if call is not None and call.active():
                call.cancel()
        self._deadline = self._retry = None

    def _fail(self, why: BaseException | Failure) -> None:
        if self.state != "connecting":
            return
        self.state = "disconnected"
        sock = self._socket
        waiting = self._retry is not None
        self._forget()
        if sock is not None:
            if waiting:
                sock.close()
            else:
                self._hub.remove(sock.fileno(), sock)
        self.factory.clientConnectionFailed(self, why if isinstance(why, Failure) else Failure(why))
        self._perhapsStopFactory()

    def connectionLost(self, reason: Failure) -> None:
        """
        Called by the transport when the connection is lost, behind the protocol.

        @param reason: why.
        """
        self.state = "disconnected"
        self.transport = None
        self.factory.clientConnectionLost(self, reason)
        self._perhapsStopFactory()

    def _perhapsStopFactory(self) -> None:
        # A reconnecting factory has called connect() again by now.
        if self.state == "disconnected" and self._factoryStarted:
            self._factoryStarted = False
            self.factory.doStop()


class TCPConnector(HubConnector):
    """
    Connects to an IP address, or to a name by the reactor's resolver.
    """

    def __init__(
        self,
        hub: Hub,
        host: str,
        port: int | str,
        factory: Any,
        *,
        timeout: float | None = 30,
        bindAddress: Any = None,
    ) -> None:
        """
        @param hub: see L{HubConnector}.
        @param host: an IP literal or a name.
        @param port: the port, or its name in the services file.
        @param factory: see L{HubConnector}.
        @param timeout: see L{HubConnector}.
        @param bindAddress: C{None}, or this end: host and port, or a L{TCPBinding}.
        """
        super().__init__(hub, factory, timeout)
        if isinstance(port, str):
            try:
                port = socket.getservbyname(port, "tcp")
            except OSError as why:
                raise ServiceNameUnknownError(string=f"{why} ({port!r})") from why
        self._host = host
        self._port = port
        self._bindAddress = bindAddress
        self._name: Any = None
        self._resolving: Deferred[Any] | None = None

    def getDestination(self) -> Address:
        """
        @return: where to; with the name, if it was given one.
        """
        kind = IPv6Address if isIPv6Address(self._host) else IPv4Address
        return kind("TCP", self._host, self._port)

    def _begin(self) -> None:
        if isIPAddress(self._host) or isIPv6Address(self._host):
            self._resolved(self._host)
            return
        self._resolving = resolving = self._hub.reactor.resolve(self._host)
        resolving.addCallback(self._resolved)
        resolving.addErrback(self._notResolved)

    def _resolved(self, host: str) -> None:
        self._resolving = None
        if self.state != "connecting":
            return
        try:
            family, self._name = numericAddress(host, self._port)
            sock = socket.socket(family, socket.SOCK_STREAM)
        except (OSError, OverflowError) as why:
            self._failSoon(ConnectBindError(getattr(why, "errno", None), str(why)))
            return
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._bindAddress is not None:
                self._bind(sock)
        except OSError as why:
            sock.close()
            self._failSoon(ConnectBindError(why.errno, why.strerror))
            return
        self._attempt(sock)

    def _notResolved(self, reason: Failure) -> None:
        self._resolving = None
        if self.state == "connecting":
            assert reason.value is not None
            self._failSoon(reason.value)

    def _bind(self, sock: socket.socket) -> None:
        local = self._bindAddress
        if not isinstance(local, TCPBinding):
            local = TCPBinding(interface=local[0], port=local[1], reuseAddress=False)
        if local.reuseAddress:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if local.reusePort:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(numericAddress(local.interface, local.port)[1])

    def _target(self) -> Any:
        return self._name

    def _peer(self) -> Address:
        family = socket.AF_INET if len(self._name) == 2 else socket.AF_INET6
        return socketAddress(family, self._name)

    def _forget(self) -> None:
        super()._forget()
        resolving, self._resolving = self._resolving, None
        if resolving is not None:
            resolving.cancel()


class UNIXConnector(HubConnector):
    """
    Connects to a UNIX socket.
    """

    def __init__(
        self, hub: Hub, path: str | bytes, factory: Any, timeout: float | None, checkPID: bool
    ) -> None:
        """
        @param hub: see L{HubConnector}.
        @param path: where; C{"\\0"} in front means the abstract namespace.
        @param factory: see L{HubConnector}.
        @param timeout: see L{HubConnector}.
        @param checkPID: whether to fail at once unless the listening process holds a lock file.
        """
        super().__init__(hub, factory, timeout)
        self._address = UNIXAddress(path)
        self._checkPID = checkPID

    def getDestination(self) -> UNIXAddress:
        """
        @return: where to.
        """
        return self._address

    def _begin(self) -> None:
        path = self._target()
        if self._checkPID and not isLocked(path + b".lock"):
            self._failSoon(BadFileError(path))
            return
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as why:
            self._failSoon(getConnectError(why))
            return
        sock.setblocking(False)
        self._attempt(sock)

    def _target(self) -> Any:
        return self._address.name
