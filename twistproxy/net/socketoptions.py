# -*- test-case-name: tests.net.test_transport -*-
"""
The options of a transport's socket.
"""

from __future__ import annotations

import socket

#: The receive window has room for so many times what a transport waits for, or the sender would have to stop until that
#: is read: with one window to a wait an upload takes several times as long, from a round trip of half a millisecond on.
WINDOW = 4


class SocketOptions:
    """
    The part of L{SocketTransport<twistproxy.net.transport.SocketTransport>} that sets and tells what the kernel keeps
    for its socket.
    """

    __slots__ = ()

    _socket: socket.socket

    def getHandle(self) -> socket.socket:
        """
        @return: the socket.
        """
        return self._socket

    def getTcpNoDelay(self) -> bool:
        """
        @return: whether small segments are sent at once.  The default here, unlike elsewhere.
        """
        return bool(self._getOption(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        @param enabled: whether to send small segments at once.
        """
        self._setOption(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """
        @return: whether the kernel probes an idle peer.
        """
        return bool(self._getOption(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        @param enabled: whether the kernel shall probe an idle peer.
        """
        self._setOption(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def setReadLowWater(self, size: int) -> None:
        """
        From now on input is no event before there is so much of it: fewer and larger reads.  The end of the stream
        still is one, and so is a full receive buffer.

        The kernel makes the window as large as what it is told to wait for, and does not make it smaller again; so it
        is told of L{WINDOW} times as much first.  Where it may not grow so far, less is waited for.

        Whoever sets it must set it back: when less than that is to come, and when the peer takes its time, or it would
        wait for ever.

        @param size: in bytes; 1, the default of the kernel, makes an event of what is there already.
        """
        if size > 1:
            self._setOption(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WINDOW * size)
            size = max(1, self._getOption(socket.SOL_SOCKET, socket.SO_RCVLOWAT) // WINDOW)
        self._setOption(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    # A UNIX socket has no TCP options, and a lost one none at all.  Neither is worth an exception.

    def _getOption(self, level: int, option: int) -> int:
        try:
            return self._socket.getsockopt(level, option)
        except OSError:
            return 0

    def _setOption(self, level: int, option: int, value: int) -> None:
        try:
            self._socket.setsockopt(level, option, value)
        except OSError:
            pass
