# -*- test-case-name: tests.net.test_transport -*-
"""
The transport of a connection on a hub: what L{twisted.internet.tcp} does for a reactor, made for relaying.

Reading.  The socket is registered once, edge triggered: an event says that I{something} came, not that
something is there.  A read that does not fill its buffer has emptied the socket, so no second call to the
kernel asks for that.  A read which does fill it is repeated three times, then the connection queues behind
the others.  Pausing is a flag; an event that comes meanwhile is remembered. The exception is the end of the
stream: it may have come together with the last bytes, and no further event will tell.  So after the peer
hung up everything is read until the end shows.

Writing is in L{twistproxy.net.output}.

Ending.  Nothing is ever told to a protocol from inside a call that it made: losing a connection puts it
into the hub's queue.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.net.binding import Address, socketAddress
from twistproxy.net.hub import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Hub
from twistproxy.net.output import SocketOutput
from twistproxy.net.relay import IDirection
from twistproxy.net.socketoptions import SocketOptions

#: The first read of an event, in bytes: more than heads and small bodies need, and cheap to allocate.
READ_SIZE = 32 * 1024

#: Further reads, of what has filled the first one and so is a body, in bytes.  Measured: with 64 KiB a megabyte costs a
#: quarter more.  From 128 KiB on the C library maps memory for each read, or trims its heap behind it, and a megabyte
#: costs up to a third more, depending on what was read before.
BODY_READ_SIZE = 120 * 1024

#: Further reads of a full socket before others have their turn.
MORE_READS = 3

#: Reads of unwanted input before closing, which makes 256 KiB: what peers send ahead, and not what floods us.
DISCARDED_READS = 8

_FIN_OR_WORSE = EPOLLRDHUP | EPOLLHUP | EPOLLERR
_INPUT = EPOLLIN | _FIN_OR_WORSE
_DEAD = EPOLLHUP | EPOLLERR

# What the protocol has been told about its peer, see _tellHangUp.
_TOLD_FIN = 1
_TOLD_RESET = 2

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@implementer(ITCPTransport, IConsumer, IPushProducer, ISystemHandle)
class SocketTransport(SocketOutput, SocketOptions):
    """
    A connected stream socket on a hub.

    A protocol may have a method C{peerHungUp(reset)}.  It is called while reading is paused, at most once
    for each value: with C{False} when the peer has closed its side, with C{True} when the connection was
    reset.  Bytes that came before can still be read then. Without that method the end is noticed when
    reading resumes.

    @ivar protocol: who gets the bytes.  It may be replaced at any time, and the next call goes to the new
        one.
    @ivar connected: false from the moment at which the loss is told.
    @ivar disconnecting: whether C{loseConnection} was called.
    @ivar disconnected: the opposite of C{connected}.
    @ivar connector: the connector that made it, which is told of the loss behind the protocol, or C{None}.
    """

    __slots__ = (
        "__weakref__",
        "_diverted",
        "_fd",
        "_fedBy",
        "_feeds",
        "_host",
        "_hungUp",
        "_loss",
        "_peer",
        "_readable",
        "_reading",
        "_recv",
        "_sendBroke",
        "_told",
        "connected",
        "connector",
    )

    def __init__(
        self, hub: Hub, sock: socket.socket, peer: Address, protocol: Any, connector: Any = None
    ) -> None:
        """
        @param hub: where it lives.
        @param sock: a connected socket that does not block.  The caller registers it.
        @param peer: the other end.
        @param protocol: who gets the bytes; the caller connects it.
        @param connector: something with C{connectionLost(reason)}.
        """
        super().__init__(hub, sock, protocol)
        self._fd = sock.fileno()
        self._recv: Any = sock.recv
        self._peer = peer
        self._host: Address | None = None
        self.connector = connector
        self.connected = True
        self._diverted: IDirection | None = None
        self._feeds: SocketTransport | None = None
        self._fedBy = -1
        self._loss: Failure | None = None
        self._reading = True
        self._readable = self._sendBroke = False
        self._hungUp = self._told = 0

    def __repr__(self) -> str:
        state = "lost" if self.disconnected else "closing" if self.disconnecting else "open"
        return f"<SocketTransport {state} to {self._peer}, {self.unsentBytes} unsent>"

    # -- events of the hub -------------------------------------------------------------------------

    def socketEvent(self, events: int) -> None:
        """
        See L{HubSocket.socketEvent}.
        """
        if self._unsent is not None and events & EPOLLOUT:
            self._flush()
        if events & _INPUT:
            if events & _FIN_OR_WORSE:
                self._hangUp(events)
            if not self._reading:
                self._readable = True
                return
            # The first read of _readOn, for the usual case that it is the only one.
            recv = self._recv
            try:
                data = recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                self._lose(ConnectionLost())
                return
            if not data:
                self._endOfInput()
                return
            self._readable = len(data) == READ_SIZE or self._hungUp != 0
            if self._diverted is None:
                self.protocol.dataReceived(data)
            else:
                self._diverted.write(data)
            if self._readable and self._reading:
                self._readOn()
        if self._feeds is not None:
            self._openWay()

    def runAgain(self) -> None:
        """
        See L{HubSocket.runAgain}.
        """
        if self._loss is not None:
            self._finish()
            return
        if self._outputDue:
            self._flush()
        if self._reading:
            if self._readable:
                self._readOn()
        elif self._hungUp:
            self._tellHangUp()

    def crashed(self, reason: Failure) -> None:
        """
        See L{HubSocket.crashed}.
        """
        self._loseFor(reason)

    def hubLost(self, reason: Failure) -> None:
        """
        See L{HubSocket.hubLost}.
        """
        if self._loss is None:
            self._loseFor(reason)
        self._finish()

    # -- reading -----------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """
        Deliver nothing until C{resumeProducing}.
        """
        if self._reading:
            self._reading = False
            self._closeWays()
            if self._hungUp:
                # The end of the stream stands behind unread bytes, and its event is over.
                self._hub.queue(self)

    def resumeProducing(self) -> None:
        """
        Deliver again, though nothing before this method has returned.
        """
        if self.connected and not (self.disconnecting or self._readEnded or self._loss is not None):
            self._reading = True
            if self._readable:
                self._hub.queue(self)

    def stopProducing(self) -> None:
        """
        Close the connection.
        """
        self.loseConnection()

    def divert(self, direction: IDirection | None, peer: Any = None) -> None:
        """
        From now on give what is read to C{direction}, and all else to the protocol as before: for tunnels, whose
        messages are small and many.

        @param direction: what counts and writes; C{None} ends it.
        @param peer: the byte transport to which it writes.  If that lives on this hub, too, small messages go there at
            once, and C{direction} only hears of them: L{twistproxy.net.relay}.
        """
        if self._feeds is not None:
            self._hub.ways[self._fd] = None
            self._feeds._fedBy = -1
            self._feeds = None
        self._diverted = direction
        if direction is not None and type(peer) is SocketTransport and peer._hub is self._hub:
            direction.to = peer._fd
            self._feeds = peer
            peer._fedBy = self._fd
            self._openWay()

    def _openWay(self) -> None:
        """
        Let small messages go the short way, if nothing is unusual here or on the other side.
        """
        peer = self._feeds
        if peer is None or peer._unsent is not None or self._unsent is not None:
            return
        if self._reading and not self._readable:
            self._hub.ways[self._fd] = self._diverted

    def _closeWays(self) -> None:
        """
        See L{SocketOutput}: something unusual is for the transports to see to, on either side.
        """
        if self._feeds is not None:
            self._hub.ways[self._fd] = None
        if self._fedBy >= 0:
            self._hub.ways[self._fedBy] = None

    # -- for whoever reads in its place

    def inputCame(self) -> None:
        """
        There is something to read, which nobody has read yet.
        """
        self.socketEvent(EPOLLIN | EPOLLOUT)

    def readFailed(self) -> None:
        """
        The kernel has told that the connection is lost.
        """
        self._lose(ConnectionLost())

    def wasRead(self, data: bytes) -> None:
        """
        Take what was read, and read what is behind it.

        @param data: what it is; C{b""} for the end of the stream.
        """
        if not data:
            self._endOfInput()
            return
        self._readable = True
        self._deliver(data)
        if self._reading:
            self._readOn()

    def _readOn(self) -> None:
        recv = self._recv
        for _ in range(MORE_READS):
            try:
                data = recv(BODY_READ_SIZE)
            except BlockingIOError:
                self._readable = False
                return
            except OSError:
                self._lose(ConnectionLost())
                return
            if not data:
                self._endOfInput()
                return
            self._readable = len(data) == BODY_READ_SIZE or self._hungUp != 0
            self._deliver(data)
            if not (self._readable and self._reading):
                return
        self._hub.queue(self)

    def _deliver(self, data: bytes) -> None:
        if self._diverted is None:
            self.protocol.dataReceived(data)
        else:
            self._diverted.write(data)

    def _endOfInput(self) -> None:
        self._reading = False
        self._closeWays()
        self._readEnded = True
        if self._sendBroke:
            self._lose(ConnectionLost())
            return
        protocol: Any = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self._lose(ConnectionDone())
            return
        protocol.readConnectionLost()
        # Without a reset EPOLLHUP means that both directions are closed: ours was, or a UNIX socket's peer
        # closed it as a whole.
        if self._writeDisconnected or self._hungUp & _DEAD:
            self._lose(ConnectionDone())

    def _hangUp(self, events: int) -> None:
        """
        Remember that the peer hung up, and act on it where no read will.
        """
        self._hungUp |= events & _FIN_OR_WORSE
        if self._reading:
            return
        if self.disconnecting or self._readEnded:
            if events & _DEAD:
                self._lose(ConnectionLost())
        else:
            self._tellHangUp()

    def _tellHangUp(self) -> None:
        if self._reading or self.disconnecting or self._readEnded or self._loss is not None:
            return
        # A failed send takes the error away from the socket: then EPOLLHUP is all that is left of it.
        reset = bool(self._hungUp & EPOLLERR) or self._sendBroke
        told = _TOLD_RESET if reset else _TOLD_FIN
        if self._told < told:
            peerHungUp = getattr(self.protocol, "peerHungUp", None)
            if peerHungUp is not None:
                self._told = told
                peerHungUp(reset)

    def _sendFailed(self) -> None:
        """
        The peer does not take bytes any more.  What it sent before may still be on its way to the protocol,
        such as a 413 in answer to the very request that could not be sent.  So only the output ends here,
        and the connection where the input does.
        """
        self._refuse()
        self._sendBroke = True
        if self.disconnecting or self._readEnded:
            self._lose(ConnectionLost())
        else:
            # Read, or tell the protocol that does not want to: whichever event told of the failure may be
            # over.
            self._hungUp |= EPOLLHUP
            self._readable = True
            self._hub.queue(self)

    # -- ending ------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """
        Close when all is sent, and read no more from now on.
        """
        if self.connected and not self.disconnecting and self._loss is None:
            self.disconnecting = True
            self._reading = False
            self._care()
            if not self._unsent:
                self._outputSoon()

    def loseWriteConnection(self) -> None:
        """
        Close the sending side when all is sent.  The peer sees the end of the stream and may go on sending.
        """
        if self.connected and not (self._writeDisconnecting or self.disconnecting or self._refusing):
            self._writeDisconnecting = True
            self._care()
            if not self._unsent:
                self._outputSoon()

    def abortConnection(self) -> None:
        """
        Reset the connection: the peer gets an error, and what is unsent goes nowhere.
        """
        if not self.disconnected:
            self._lose(ConnectionAborted())

    def _lose(self, why: Exception) -> None:
        if self._loss is None or type(why) is ConnectionAborted:
            # Each loss has a Failure of its own: one that is shared would keep the frames of whoever raised
            # it last.
            self._loseFor(Failure(why))

    def _loseFor(self, reason: Failure) -> None:
        if not self.disconnected:
            self._loss = reason
            self._reading = False
            self._refuse()
            self._hub.queue(self)

    def _finish(self) -> None:
        """
        Close the socket and tell everybody, dropping every reference on the way: protocol and transport
        hold each other, and with thousands of connections a second that must not wait for the garbage
        collector.
        """
        reason = self._loss
        if self.disconnected or reason is None:
            return
        self.connected = False
        self.disconnected = True
        try:
            if reason.type is ConnectionAborted:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            elif self.disconnecting and self._readable:
                self._discardInput()
        except OSError:
            pass  # reset by the peer already
        self._hub.remove(self._fd, self._socket)
        protocol, self.protocol = self.protocol, None
        producer, self.producer = self.producer, None
        connector, self.connector = self.connector, None
        if self._feeds is not None:
            self._feeds._fedBy = -1  # the number is somebody else's soon
        self._recv = self._send = self._loss = self._diverted = self._feeds = None
        try:
            if producer is not None:
                producer.stopProducing()
        finally:
            try:
                protocol.connectionLost(reason)
            finally:
                if connector is not None:
                    connector.connectionLost(reason)

    def _discardInput(self) -> None:
        """
        Take what nobody will read any more: the kernel answers it with a reset when the socket is closed,
        and that can cost the peer our last bytes.  For what comes later a protocol has to wait, or not.
        """
        for _ in range(DISCARDED_READS):
            if len(self._recv(READ_SIZE)) < READ_SIZE:
                break

    # -- about the socket --------------------------------------------------------------------------

    @property
    def reactor(self) -> Any:
        """
        The reactor in which it lives, as Twisted's own transports tell, too.
        """
        return self._hub.reactor

    def getPeer(self) -> Any:
        """
        @return: the address of the other end.
        """
        return self._peer

    def getHost(self) -> Any:
        """
        @return: the address of this end.  After the loss only if it was asked for before.
        """
        if self._host is None:
            self._host = socketAddress(self._socket.family, self._socket.getsockname())
        return self._host
