# -*- test-case-name: tests.net.test_listener -*-
"""
Where to listen, and from where to connect: the sockets that listeners and connectors start with.

A binding opens a listening socket as often as it is asked to, and clears away what it left in the file
system.  The rules for UNIX sockets are those of L{twisted.internet.unix}, lock file included, so that both
can stand on either side; with one thing more: a socket file that a dead process left behind is recognized
by asking whether anybody listens, and not by the lock alone.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any, Protocol

import attrs
from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.python.lockfile import FilesystemLock

Address = IPv4Address | IPv6Address | UNIXAddress


def socketAddress(family: int, name: Any) -> Address:
    """
    @param family: one of C{socket.AF_INET}, C{AF_INET6} and C{AF_UNIX}.
    @param name: an address as the C{socket} module has it.
    @return: the same as Twisted has it.
    """
    if family == socket.AF_INET:
        return IPv4Address("TCP", *name)
    if family == socket.AF_INET6:
        host, port, flow, scope = name
        if scope:
            # Python leaves the interface's name out of a link-local address, which is useless without it.
            host = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        return IPv6Address("TCP", host, port, flow, scope)
    return UNIXAddress(name or None)


def numericAddress(host: str, port: int) -> tuple[int, Any]:
    """
    @param host: an IP literal, or nothing for all interfaces of IPv4.
    @return: family and address as the C{socket} module wants them.
    """
    if isIPv6Address(host):
        # Only getaddrinfo knows how to take the interface out of fe80::1%eth0.
        name = socket.getaddrinfo(host, port, socket.AF_INET6, 0, 0, socket.AI_NUMERICHOST)[0][4]
        return socket.AF_INET6, name
    return socket.AF_INET, (host, port)


class IBindingLike(Protocol):
    """
    How a listener comes to its socket (structural type).
    """

    def open(self) -> socket.socket:
        """
        @return: a listening socket that does not block.
        @raise CannotListenError: why not.
        """

    def withdraw(self) -> None:
        """
        Nobody shall find the socket any more, which still is open.
        """

    def closed(self) -> None:
        """
        The socket was closed.
        """


@attrs.frozen(kw_only=True)
class TCPBinding:
    """
    @ivar interface: an IP literal of either version; nothing for all interfaces of IPv4, C{"::"} for those
        of both.
    @ivar port: the port, 0 for any that is free.
    @ivar backlog: completed connections that the kernel holds for us.
    @ivar reuseAddress: whether to listen in spite of old connections (C{SO_REUSEADDR}).
    @ivar reusePort: whether several processes may listen, each with its own queue (C{SO_REUSEPORT}).
    """

    interface: str = ""
    port: int = 0
    backlog: int = 50
    reuseAddress: bool = True
    reusePort: bool = False

    def open(self) -> socket.socket:
        """
        See L{IBindingLike.open}.
        """
        try:
            family, name = numericAddress(self.interface, self.port)
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                if self.reuseAddress:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if self.reusePort:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(name)
                sock.listen(self.backlog)
            except BaseException:
                sock.close()
                raise
        except (OSError, OverflowError) as why:
            raise CannotListenError(self.interface, self.port, why) from why
        sock.setblocking(False)
        return sock

    def withdraw(self) -> None:
        """
        See L{IBindingLike.withdraw}.
        """

    def closed(self) -> None:
        """
        See L{IBindingLike.closed}.
        """


class AdoptedBinding:
    """
    A socket that somebody else made to listen: a service manager, or the process which forked this one.
    """

    def __init__(self, fileDescriptor: int, family: int) -> None:
        """
        @param fileDescriptor: its number.  It is duplicated, and stays the caller's to close.
        @param family: the address family.
        """
        self._socket = socket.fromfd(fileDescriptor, family, socket.SOCK_STREAM)

    def open(self) -> socket.socket:
        """
        See L{IBindingLike.open}.
        """
        self._socket.setblocking(False)
        return self._socket

    def withdraw(self) -> None:
        """
        See L{IBindingLike.withdraw}.  Whoever made the socket clears up.
        """

    def closed(self) -> None:
        """
        See L{IBindingLike.closed}.
        """


class UNIXBinding:
    """
    A socket in the file system, or in Linux's abstract namespace.
    """

    def __init__(
        self, path: str | bytes, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> None:
        """
        @param path: where; C{"\\0"} in front means the abstract namespace.
        @param backlog: completed connections that the kernel holds for us.
        @param mode: the file's permissions.
        @param wantPID: whether to hold a lock file beside it, as C{connectUNIX(checkPID=True)} asks for.
        """
        name = UNIXAddress(path).name
        assert name is not None
        self._path = name
        self._backlog = backlog
        self._mode = mode
        self._lock = FilesystemLock(name + b".lock") if wantPID else None
        self._identity: tuple[int, int] | None = None
        self._inFiles = not name.startswith(b"\0")

    def open(self) -> socket.socket:
        """
        See L{IBindingLike.open}.
        """
        if self._lock is not None and not self._lock.lock():
            raise CannotListenError(None, self._path, "Cannot acquire lock")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self._inFiles:
                removeStale(self._path)
            sock.bind(self._path)
            if self._inFiles:
                os.chmod(self._path, self._mode)
                self._identity = identityOf(self._path)
            sock.listen(self._backlog)
        except OSError as why:
            sock.close()
            self.closed()
            raise CannotListenError(None, self._path, why) from why
        sock.setblocking(False)
        return sock

    def withdraw(self) -> None:
        """
        See L{IBindingLike.withdraw}.
        """
        # Another process may have put its own socket in the place of ours.
        if self._identity is not None and identityOf(self._path) == self._identity:
            os.unlink(self._path)
        self._identity = None

    def closed(self) -> None:
        """
        See L{IBindingLike.closed}.
        """
        if self._lock is not None and self._lock.locked:
            self._lock.unlock()


def identityOf(path: bytes) -> tuple[int, int] | None:
    """
    @return: what tells a file from another one of the same name, or C{None} if there is none.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def removeStale(path: bytes) -> None:
    """
    Remove a socket file behind which nobody listens.  Anything that is no socket stays: it is a mistake in
    the path.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog must not make us wait; it gives EAGAIN, and means that somebody listens.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass
