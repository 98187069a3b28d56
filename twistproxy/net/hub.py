# -*- test-case-name: tests.net.test_hub -*-
"""
A hub: many sockets behind one descriptor of the reactor.

A reactor of Twisted asks the kernel twice for each answer that a server writes (watch for writing, stop
watching), and wraps each event in a logging context.  Together that costs more than a proxied request has
any right to.  A hub holds its own epoll, in which a socket is registered once, edge triggered, for
everything; and as an epoll descriptor is itself pollable, the reactor sees the whole as one
L{IReadDescriptor}.  So it runs on every reactor that provides L{IReactorFDSet
<twisted.internet.interfaces.IReactorFDSet>}, by public interfaces alone, and costs the same on each.

What is written while events are passed on is sent when all of them have been: a send to a peer that sleeps costs
half as much again, for waking it, and a row of sends wakes it once.  Python runs faster, too, between two calls to the
kernel than around each (measured: a tenth of a proxied request for the one and for the other).

Three rules keep it honest:

 1. B{Nobody starves.}  What a socket cannot finish in its event goes into a queue, which is worked off in
    rounds; after L{ROUNDS} of them the reactor gets its turn, and the rest follows in a delayed call of no
    delay.
 2. B{A descriptor's number means one socket throughout a batch of events.}  Sockets that are closed while
    the events of a batch are passed on are kept open until its end: otherwise the number could be given to
    a new socket, which would then be told what happened to the old one (that it is connected, or reset).
 3. B{An idle hub owns nothing.}  The epoll is opened for the first socket and closed with the last.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.net.relay import IDirection, relay

# Linux's numbers, written out so that this module can be imported where C{select.epoll} does not exist.
EPOLLIN = 0x001
EPOLLOUT = 0x004
EPOLLERR = 0x008
EPOLLHUP = 0x010
EPOLLRDHUP = 0x2000
EPOLLET = 1 << 31

#: What a stream socket is registered for, once and for all.
STREAM_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET

# Bytes came, there is room to send as almost always, and nobody hung up.
_ONLY_INPUT = EPOLLIN | EPOLLOUT

#: Events taken from the kernel at a time, whose answers wait for each other to be sent: enough to wake a peer once for
#: many, few enough that nobody waits long for slow code of somebody else's.  With more to come the descriptor stays
#: readable, so none is lost.
BATCH = 16

#: The same where all of the last batch were messages in tunnels: they cost little each, and rows of more of them cost
#: less (measured: a thirtieth).
TUNNEL_BATCH = 64

#: Rounds of events and queue before the reactor gets its turn: enough that a request which needs two or
#: three steps gets through in one, few enough that nobody else waits for more than about a millisecond, or two where
#: batches are long.
ROUNDS = 4


class HubSocket:
    """
    What a hub can hold.

    @ivar queued: whether it stands in the hub's queue.  The hub's own.
    """

    __slots__ = ("queued",)

    queued: bool

    def __init__(self) -> None:
        self.queued = False

    def socketEvent(self, events: int) -> None:
        """
        Called for each event of the socket.

        @param events: the C{EPOLL*} bits.
        """
        raise NotImplementedError

    def runAgain(self) -> None:
        """
        Called when its turn in the queue has come.  Never called out of one of its own methods, nor out of
        a protocol.
        """
        raise NotImplementedError

    def sendHeld(self) -> None:
        """
        Called at the end of a batch of events, for who asked for it by L{Hub.hold}.
        """
        raise NotImplementedError

    def crashed(self, reason: Failure) -> None:
        """
        Called when one of the methods above raised, after that was logged.

        @param reason: what was raised.
        """
        raise NotImplementedError

    def hubLost(self, reason: Failure) -> None:
        """
        Called when the reactor drops the hub, which it does when it stops.  No other call will follow, so
        whatever has to be told to anybody must be told now.

        @param reason: why.
        """
        raise NotImplementedError


@implementer(IReadDescriptor)
class Hub:
    """
    An epoll that poses as a single descriptor.

    @ivar reactor: the reactor it runs in, a provider of
        L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>} and
        L{IReactorTime<twisted.internet.interfaces.IReactorTime>}.
    @ivar gathering: whether what is written now had better wait for the end of a batch, by L{hold}.
    @ivar hold: called with a L{HubSocket} whose C{sendHeld} is to be called then.
    @ivar ways: by the number of a socket, where its messages go by L{relay}; C{None} for all that tunnels have nothing
        to do with.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._epoll: Any = None
        # With thousands of sockets a list touches a third of the memory that a dictionary does.
        self._sockets: list[HubSocket | None] = []
        self.ways: list[IDirection | None] = []
        self._count = 0
        self._ready: deque[HubSocket] = deque()
        self._kick: Any = None
        self._running = False
        self._passingOn = False
        self._batch = BATCH
        self._closeLater: list[socket.socket] = []
        self.gathering = False
        self._held: list[HubSocket] = []
        self.hold = self._held.append

    @staticmethod
    def available() -> bool:
        """
        @return: whether this platform has what a hub needs (Linux).
        """
        return hasattr(select, "epoll")

    def __repr__(self) -> str:
        return f"<Hub of {self._count} sockets, {len(self._ready)} queued>"

    # -- for sockets -------------------------------------------------------------------------------

    def add(self, fd: int, client: HubSocket, events: int = STREAM_EVENTS) -> None:
        """
        Start passing on the events of a socket.  What is true of it already counts as an event.

        @param fd: the socket's number.
        @param client: who gets the events.
        @param events: which.
        """
        if self._epoll is None:
            self._epoll = select.epoll()
            self.reactor.addReader(self)
        self._epoll.register(fd, events)
        self._count += 1
        if fd >= len(self._sockets):
            more = fd + 64 - len(self._sockets)
            self._sockets.extend([None] * more)
            self.ways.extend([None] * more)
        self._sockets[fd] = client

    def replace(self, fd: int, client: HubSocket) -> None:
        """
        Give the events of a registered socket to somebody else (a connector to the transport which it
        made).  The kernel is not asked, so what is true already is no event.
        """
        self._sockets[fd] = client

    def modify(self, fd: int, events: int) -> None:
        """
        Change what a level triggered socket is registered for.
        """
        self._epoll.modify(fd, events)

    def remove(self, fd: int, sock: socket.socket) -> None:
        """
        Forget a socket and close it.

        @param fd: its number.
        @param sock: the socket itself.
        """
        # Closing alone would do, unless a forked process shares the socket: then its events would come for
        # ever.
        self._epoll.unregister(fd)
        self._sockets[fd] = self.ways[fd] = None
        self._count -= 1
        if self._passingOn:
            self._closeLater.append(sock)
        else:
            sock.close()
            if not self._running:
                self.close()

    def queue(self, client: HubSocket) -> None:
        """
        Have C{client.runAgain} called soon, once.
        """
        if not client.queued:
            client.queued = True
            self._ready.append(client)
            if not self._running and self._kick is None:
                self._kick = self.reactor.callLater(0, self._kicked)

    def clientFailed(self, client: HubSocket) -> None:
        """
        Log the exception at hand and tell the socket whose it is: its connection is lost, and nothing else.
        """
        reason = Failure()
        self._log.failure("Unexpected error in {client!r}", failure=reason, client=client)
        try:
            client.crashed(reason)
        except BaseException:
            self._log.failure("Unexpected error while dropping {client!r}", client=client)

    def close(self) -> None:
        """
        Leave the reactor and close the epoll, if no socket is left; while one is, this happens by itself
        when it goes.  A closed hub opens again for the next socket.
        """
        if self._epoll is not None and self._count == 0:
            self.reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    # -- for the reactor ---------------------------------------------------------------------------

    def doRead(self) -> None:
        """
        Pass on what has happened and work off the queue.
        """
        ready = self._ready
        rounds = 0
        self._running = self.gathering = True
        held = self._held
        try:
            while True:
                more = self._epoll is not None and self._passOn()
                if not (ready or more) or rounds == ROUNDS:
                    break
                rounds += 1
                for _ in range(len(ready)):
                    client = ready.popleft()
                    client.queued = False
                    try:
                        client.runAgain()
                    except BaseException:
                        self.clientFailed(client)
        finally:
            self._running = self._passingOn = self.gathering = False
            if held:
                self._sendHeld(held)
        if ready:
            if self._kick is None:
                self._kick = self.reactor.callLater(0, self._kicked)
        elif self._count == 0:
            self.close()

    def _passOn(self) -> bool:
        """
        Pass on a batch of events, and send what was written for them.

        @return: whether there may be more of them.
        """
        sockets, ways, held = self._sockets, self.ways, self._held
        messages = []
        self._passingOn = True
        most = self._batch
        happened = self._epoll.poll(0, most)
        for fd, events in happened:
            if ways[fd] is not None and events == _ONLY_INPUT:
                messages.append(fd)
                continue
            client = sockets[fd]
            if client is not None:
                try:
                    client.socketEvent(events)
                # as in Twisted's own reactors: whatever escaped would cost every connection its life
                except BaseException:
                    self.clientFailed(client)
        if held:
            self._sendHeld(held)
        self._batch = BATCH
        if messages:
            if BATCH <= len(messages) == len(happened):
                self._batch = TUNNEL_BATCH
            relay(messages, ways, sockets, self.clientFailed)
        self._passingOn = False
        if self._closeLater:
            self._closeRemoved()
        return len(happened) == most

    def _sendHeld(self, held: list[HubSocket]) -> None:
        for client in held:
            try:
                client.sendHeld()
            except BaseException:
                self.clientFailed(client)
        held.clear()

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor dropped the hub: it stops, or the epoll itself is broken.

        @param reason: why.
        """
        for client in [client for client in self._sockets if client is not None]:
            try:
                client.hubLost(reason)
            except BaseException:
                self._log.failure("Unexpected error in {client!r}", client=client)
        if self._kick is not None:
            self._kick.cancel()
            self._kick = None
        self._ready.clear()
        self._closeRemoved()
        self.close()

    def fileno(self) -> int:
        """
        @return: the number of the epoll, or -1 while it is closed.
        """
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """
        @return: what Twisted writes before what is logged from here.
        """
        return "hub"

    def _kicked(self) -> None:
        self._kick = None
        self.doRead()

    def _closeRemoved(self) -> None:
        for sock in self._closeLater:
            sock.close()
        self._closeLater.clear()
