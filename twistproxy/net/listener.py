# -*- test-case-name: tests.net.test_listener -*-
"""
A listening port on a hub.

One connection is accepted per event, level triggered: with several processes on one socket, whoever takes
all that waits gets all the work, and with one process the connections that are served already get their
turn in between.

When the process is out of descriptors, accepting pauses: the socket would be readable again at once, and
the loop would spin.  Clients wait in the kernel's queue meanwhile, and most often a descriptor is free
soon.  If not, one client per pause is accepted with the help of a descriptor kept in reserve, and closed:
those clients would wait in vain for minutes, behind others that gave up long ago.

Who stops listening still owes an answer to clients whose connection the kernel has completed but we have
not accepted: closing the socket would reset them.  So these are accepted first (B10.2).
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.net.binding import Address, IBindingLike, socketAddress
from twistproxy.net.hub import EPOLLIN, STREAM_EVENTS, Hub, HubSocket
from twistproxy.net.transport import SocketTransport

#: How long accepting pauses when the process is out of descriptors, in seconds.
SHORTAGE_PAUSE = 0.1

#: A shortage which follows the last within so many seconds is the same one, and not logged again.
SHORTAGE_OVER = 10.0

_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})

# What went wrong with one waiting connection, and not with accepting; accept(2) wants it to be taken like
# EAGAIN.
_CLIENT_GONE = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
    }
)


class SpareDescriptor:
    """
    A descriptor that can be given up for another.
    """

    def __init__(self) -> None:
        self._fd = -1

    def keep(self) -> None:
        """
        Open it, if that is possible.
        """
        if self._fd == -1:
            try:
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                pass  # the next pause tries again

    def free(self) -> None:
        """
        Close it.
        """
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1


@implementer(IListeningPort)
class Listener(HubSocket):
    """
    Accepts connections and gives each a L{SocketTransport} and a protocol.
    """

    _log = Logger()

    def __init__(self, hub: Hub, factory: Any, binding: IBindingLike) -> None:
        """
        @param hub: where it lives, and its connections.
        @param factory: makes the protocols, an C{IProtocolFactory}.
        @param binding: makes the socket.
        """
        super().__init__()
        self._hub = hub
        self._factory = factory
        self._binding = binding
        self._socket: socket.socket | None = None
        self._spare = SpareDescriptor()
        self._pause: Any = None
        self._short = False
        self._shortUntil = 0.0
        self._stopped: list[Deferred[None]] = []

    def __repr__(self) -> str:
        where = "not listening" if self._socket is None else f"on {self.getHost()}"
        return f"<Listener of {self._factory} {where}>"

    # -- IListeningPort ----------------------------------------------------------------------------

    def startListening(self) -> None:
        """
        Open the socket and accept from now on.

        @raise CannotListenError: why not.
        """
        sock = self._binding.open()
        if sock.family != socket.AF_UNIX:
            # Accepted sockets inherit it, which saves each connection a call to the kernel.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._spare.keep()
        self._factory.doStart()
        self._hub.add(sock.fileno(), self, EPOLLIN)
        if getattr(self._factory, "noisy", True):
            self._log.info("{factory} starting on {address}", factory=self._factory, address=self.getHost())

    def stopListening(self) -> Deferred[None] | None:
        """
        Accept what waits, then close.  Connections live on.

        @return: a Deferred that fires when the port is closed, C{None} if it was.
        """
        if self._socket is None:
            return None
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        self._hub.queue(self)
        return stopped

    def getHost(self) -> Address:
        """
        @return: where it listens.
        """
        assert self._socket is not None, "only a listening port has an address"
        return socketAddress(self._socket.family, self._socket.getsockname())

    # -- events of the hub -------------------------------------------------------------------------

    def socketEvent(self, events: int) -> None:
        """
        See L{HubSocket.socketEvent}.
        """
        if self._socket is not None and self._pause is None:
            self._acceptOne(self._socket)

    def runAgain(self) -> None:
        """
        See L{HubSocket.runAgain}: somebody wants it to stop.
        """
        self._stop()

    def crashed(self, reason: Failure) -> None:
        """
        See L{HubSocket.crashed}.  An error with one client is no reason to refuse the others.
        """

    def hubLost(self, reason: Failure) -> None:
        """
        See L{HubSocket.hubLost}.
        """
        self._stop(drain=False)

    # -- accepting ---------------------------------------------------------------------------------

    def _acceptOne(self, listening: socket.socket) -> bool:
        """
        @return: whether there may be more.
        """
        try:
            sock, name = listening.accept()
        except BlockingIOError:
            return False
        except OSError as why:
            if why.errno in _CLIENT_GONE:
                return True
            self._cannotAccept(why)
            return False
        self._short = False
        sock.setblocking(False)
        try:
            peer = socketAddress(sock.family, name)
            protocol = self._factory.buildProtocol(peer)
        except BaseException:
            sock.close()
            self._log.failure("No protocol for a new connection")
            return True
        if protocol is None:
            sock.close()
            return True
        transport = SocketTransport(self._hub, sock, peer, protocol)
        self._hub.add(sock.fileno(), transport, STREAM_EVENTS)
        try:
            protocol.makeConnection(transport)
        except BaseException:
            self._hub.clientFailed(transport)
        return True

    def _cannotAccept(self, why: OSError) -> None:
        """
        Pause, and at the second time in a row turn one client away.
        """
        reactor = self._hub.reactor
        if not self._short:
            self._short = True
            if reactor.seconds() >= self._shortUntil:
                self._log.error(
                    "Cannot accept connections on {address}, waiting clients are turned away slowly: {why}",
                    address=self.getHost(),
                    why=str(why),
                )
        elif why.errno in _NO_DESCRIPTOR:
            self._turnAway()
        self._shortUntil = reactor.seconds() + SHORTAGE_OVER
        if self._pause is None and self._socket is not None:
            self._hub.modify(self._socket.fileno(), 0)
            self._pause = reactor.callLater(SHORTAGE_PAUSE, self._acceptAgain)

    def _turnAway(self) -> None:
        assert self._socket is not None
        self._spare.free()
        try:
            self._socket.accept()[0].close()
        except OSError:
            pass  # somebody else was faster with the descriptor, or the client has gone
        self._spare.keep()

    def _acceptAgain(self) -> None:
        self._pause = None
        if self._socket is not None:
            self._spare.keep()
            self._hub.modify(self._socket.fileno(), EPOLLIN)

    # -- stopping ----------------------------------------------------------------------------------

    def _stop(self, drain: bool = True) -> None:
        listening = self._socket
        if listening is None:
            return
        self._binding.withdraw()
        self._spare.free()
        if drain:
            while self._acceptOne(listening):
                pass
            self._spare.free()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        address = self.getHost()
        self._socket = None
        self._hub.remove(listening.fileno(), listening)
        self._binding.closed()
        if getattr(self._factory, "noisy", True):
            self._log.info("{factory} stopped on {address}", factory=self._factory, address=address)
        stopped, self._stopped = self._stopped, []
        try:
            self._factory.doStop()
        finally:
            for waiting in stopped:
                waiting.callback(None)
