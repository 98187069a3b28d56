# -*- test-case-name: tests.workers.test_sockets -*-
"""
Listening sockets that outlive the processes which accept from them.

The supervisor opens them and never accepts; workers inherit them.  Where there is C{SO_REUSEPORT} each slot has a
socket of its own for each TCP port, and the kernel spreads connections over them.  Elsewhere, and for UNIX sockets, all
share one.  A socket's queue of connections lives as long as any process holds the socket: so neither a worker's death
nor its replacement resets what waits there.

What to listen on is written as Twisted's endpoint strings.  On both sides the endpoint itself is asked, with a facade
for a reactor: here one that takes down what it is asked for, in the worker one that takes a socket which is there.  So
endpoints that wrap others (C{haproxy:tcp:80}) do what they always do, in the worker.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from twistproxy.net.binding import IBindingLike, TCPBinding, UNIXBinding, numericAddress, socketAddress
from twistproxy.service import BadEndpoint, badEndpoint, cannotListen

#: Whether a port can have several sockets, each with its own queue.
REUSE_PORT = hasattr(socket, "SO_REUSEPORT")


@attrs.frozen
class Share:
    """
    One listening socket, as a worker is told of it.

    @ivar fd: its number in the worker.
    @ivar family: its address family.
    @ivar endpoint: which endpoint it belongs to, by number.
    @ivar slot: whose it is; C{None} if it is everybody's.
    """

    fd: int
    family: int
    endpoint: int
    slot: int | None


@attrs.frozen
class _Opened:
    endpoint: int
    slot: int | None
    socket: socket.socket
    binding: IBindingLike


class NotedPort:
    """
    Stands in for a port while endpoints are asked what they want.
    """

    def getHost(self) -> Any:
        """
        @return: some address; endpoints may want to log one.
        """
        return IPv4Address("TCP", "0.0.0.0", 0)

    def stopListening(self) -> None:
        """
        Nothing listens.
        """


class Notepad:
    """
    A reactor for endpoints which takes down what it is asked to listen on, and does not listen.

    @ivar bindings: what it was asked for.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.bindings: list[TCPBinding | UNIXBinding] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> NotedPort:
        """
        See L{IReactorTCP.listenTCP<twisted.internet.interfaces.IReactorTCP.listenTCP>}.
        """
        self.bindings.append(TCPBinding(interface=interface or "", port=port, backlog=backlog))
        return NotedPort()

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> NotedPort:
        """
        See L{IReactorSSL.listenSSL<twisted.internet.interfaces.IReactorSSL.listenSSL>}.
        """
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(
        self, address: str | bytes, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> NotedPort:
        """
        See L{IReactorUNIX.listenUNIX<twisted.internet.interfaces.IReactorUNIX.listenUNIX>}.
        """
        self.bindings.append(UNIXBinding(address, backlog, mode, wantPID))
        return NotedPort()

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> NotedPort:
        """
        See L{IReactorSocket.adoptStreamPort<twisted.internet.interfaces.IReactorSocket.adoptStreamPort>}.
        """
        raise ValueError("several workers cannot share a socket that is there already")


class AdoptingReactor:
    """
    A reactor for endpoints which listens on a socket that is there, whatever it is asked for.
    """

    def __init__(self, reactor: Any, share: Share) -> None:
        self._reactor = reactor
        self._share = share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """
        See L{IReactorTCP.listenTCP<twisted.internet.interfaces.IReactorTCP.listenTCP>}.
        """
        return self._reactor.adoptStreamPort(self._share.fd, self._share.family, factory)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """
        See L{IReactorSSL.listenSSL<twisted.internet.interfaces.IReactorSSL.listenSSL>}.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory  # needs pyOpenSSL, as nothing else here does

        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: str | bytes, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> Any:
        """
        See L{IReactorUNIX.listenUNIX<twisted.internet.interfaces.IReactorUNIX.listenUNIX>}.
        """
        return self.listenTCP(0, factory)


class ListeningSockets:
    """
    The sockets of a supervisor.
    """

    def __init__(
        self, reactor: Any, descriptions: Sequence[str], slots: int, *, unix: bool = True, reusePort: bool = REUSE_PORT
    ) -> None:
        """
        @param reactor: for endpoints that want one.
        @param descriptions: server endpoint strings.
        @param slots: how many slots there are.
        @param unix: whether the workers' transports can share a UNIX socket.
        @param reusePort: whether a TCP port may have several sockets.
        """
        self._reactor = reactor
        self._descriptions = descriptions
        self._slots = slots
        self._unix = unix
        self._reusePort = reusePort
        self._opened: list[_Opened] = []

    def open(self) -> None:
        """
        Open all of them.

        @raise CannotStart: if one of them cannot be opened, in one line; then none is.
        """
        try:
            for number, description in enumerate(self._descriptions):
                self._open(number, description)
        except BaseException:
            self.close()
            raise

    def _open(self, number: int, description: str) -> None:
        notepad = Notepad(self._reactor)
        try:
            listening: Deferred[Any] = serverFromString(notepad, description).listen(ServerFactory())
        except Exception as error:
            raise badEndpoint(description, error) from error
        failures: list[Failure] = []
        listening.addErrback(failures.append)
        if failures and isinstance(failures[0].value, ValueError):
            raise badEndpoint(description, failures[0].value)
        if len(notepad.bindings) != 1:
            raise BadEndpoint(
                f"cannot listen on '{description}' with several workers; "
                "write a tcp: or unix: endpoint, or leave --workers out"
            )
        [binding] = notepad.bindings
        if isinstance(binding, UNIXBinding) and not self._unix:
            raise BadEndpoint(
                f"cannot listen on '{description}' with several workers on Twisted's own transports, which shut a "
                "shared socket down; leave --stock-transports or --workers out"
            )
        try:
            for slot, each in self._bindings(binding):
                self._opened.append(_Opened(number, slot, each.open(), each))
        except CannotListenError as error:
            raise cannotListen(description, error) from error

    def _bindings(self, binding: TCPBinding | UNIXBinding) -> Iterator[tuple[int | None, TCPBinding | UNIXBinding]]:
        """
        @return: slot and binding of each socket to open.  The next is only asked for when the last is open.
        """
        if isinstance(binding, UNIXBinding) or not self._reusePort:
            yield None, binding
            return
        claim(binding)
        for slot in range(self._slots):
            yield slot, attrs.evolve(binding, reusePort=True)
            if binding.port == 0:
                # the first has got a free port; it is the port of them all
                binding = attrs.evolve(binding, port=self._opened[-1].socket.getsockname()[1])

    def addresses(self) -> list[Any]:
        """
        @return: where is listened, one address for each endpoint.
        """
        found = {each.endpoint: socketAddress(each.socket.family, each.socket.getsockname()) for each in self._opened}
        return list(found.values())

    def shares(self, firstFD: int) -> tuple[list[Share], dict[int, int]]:
        """
        @param firstFD: the first number that is free in a worker.
        @return: what to tell a worker, and its numbers with ours.
        """
        shares = [
            Share(number, each.socket.family, each.endpoint, each.slot)
            for number, each in enumerate(self._opened, firstFD)
        ]
        return shares, {
            share.fd: each.socket.fileno() for share, each in zip(shares, self._opened, strict=True)
        }

    def close(self) -> None:
        """
        Close all of them.  A queue lives on as long as a worker has it.
        """
        opened, self._opened = self._opened, []
        for each in opened:
            each.binding.withdraw()
        for each in opened:
            each.socket.close()
            each.binding.closed()


def claim(binding: TCPBinding) -> None:
    """
    Make sure that a port is free.  With C{SO_REUSEPORT} a second proxy of the same user could take it too, and half of
    the clients with it.

    @raise CannotListenError: if it is not.
    """
    try:
        family, name = numericAddress(binding.interface, binding.port)
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(name)
    except (OSError, OverflowError) as why:
        raise CannotListenError(binding.interface, binding.port, why) from why
