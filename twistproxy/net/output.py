# -*- test-case-name: tests.net.test_transport -*-
"""
The sending half of a transport on a hub.

Bytes are handed to the kernel at once, or, if they are few, at the end of the batch of events in which they were
written (L{twistproxy.net.hub}).  What it refuses is kept, and sent when there is room again, which is an event.
C{_unsent} decides with a single comparison: it is C{None} as long as nothing is kept I{and} nothing is unusual.  Where
closing, a pull producer or a failed send asks for care it is a deque, if only an empty one, and writing takes the
careful way.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol

from twistproxy.net.hub import Hub, HubSocket

#: Unsent bytes above which the registered producer is paused, and below which it is resumed.
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024

#: Pieces up to this many bytes are collected instead of kept one by one.  An unsent piece costs some 200
#: bytes beside its own, and a peer that is sent single bytes must not make the buffer two hundred times its
#: bound.
SMALL = 512
COLLECTED = 16 * 1024

#: Up to this many bytes a write waits for the end of the batch of events that it was made in.
HELD = 8 * 1024

#: Pieces that are given to the kernel in one call.
GATHERED = 64


def flat(data: Any) -> memoryview:
    """
    @return: C{data} as plain bytes to look at.
    @raise TypeError: for text and whatever else is no bytes.
    """
    if isinstance(data, str):
        raise TypeError("Data must not be str")
    return memoryview(data).cast("B")


class SocketOutput(HubSocket):
    """
    What sends and finishes sending; L{SocketTransport<twistproxy.net.transport.SocketTransport>} is this
    and the rest.

    @ivar unsentBytes: what the kernel has not taken yet, in bytes.
    @ivar producer: the registered producer, or C{None}.
    @ivar streamingProducer: whether that is a push producer.
    """

    __slots__ = (
        "_held",
        "_hub",
        "_outputDue",
        "_producerPaused",
        "_readEnded",
        "_refusing",
        "_send",
        "_socket",
        "_unsent",
        "_writeDisconnected",
        "_writeDisconnecting",
        "disconnected",
        "disconnecting",
        "producer",
        "protocol",
        "streamingProducer",
        "unsentBytes",
    )

    protocol: Any

    def __init__(self, hub: Hub, sock: socket.socket, protocol: Any) -> None:
        self.queued = False
        self._hub = hub
        self._socket = sock
        self._send: Any = sock.send
        self.protocol = protocol
        self.producer: Any = None
        self.streamingProducer = self._producerPaused = False
        self.unsentBytes = 0
        self.disconnecting = self.disconnected = False
        self._held: bytes | None = None
        self._unsent: deque[Any] | None = None
        self._refusing = self._outputDue = self._readEnded = False
        self._writeDisconnecting = self._writeDisconnected = False

    def write(self, data: bytes) -> None:
        """
        Send, and keep what the kernel does not take.

        Silently ignored once the connection is lost or its sending side closed, and behind
        C{loseConnection} or C{loseWriteConnection} unless a producer is registered, who may still finish.

        @param data: bytes.  A C{bytearray} or C{memoryview} may be changed after the call.
        """
        if type(data) is not bytes:
            data = flat(data)  # type: ignore[assignment]
        if self._unsent is None:
            held = self._held
            if held is not None:
                data = held + data
            hub = self._hub
            if hub.gathering and len(data) <= HELD:
                self._held = data if type(data) is bytes else bytes(data)
                if held is None:
                    hold = hub.hold  # looked up first, as CPython makes only that fast
                    hold(self)
            else:
                self._held = data
                self.sendHeld()
        elif data and not self._refusing:
            if (self.disconnecting or self._writeDisconnecting) and self.producer is None:
                return
            if not self._unsent:
                # Nothing waits for the kernel, so no event will come: this is one of the unusual states.
                self._outputSoon()
            self._keep(data, 0)

    def sendHeld(self) -> None:
        """
        See L{HubSocket.sendHeld}.
        """
        data = self._held
        if data is None:
            return
        self._held = None
        send = self._send
        try:
            sent = send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._sendFailed()
            return
        if sent != len(data):
            self.sentInPart(data, sent)

    def sentInPart(self, data: bytes, sent: int) -> None:
        """
        The beginning of C{data} is sent, by whomever: send the rest when there is room.

        @param sent: how many bytes the kernel has taken.
        """
        if self._unsent is None:
            self._hinder()
        if not self._refusing:
            self._keep(data, sent)

    def sendingFailed(self) -> None:
        """
        Somebody else has tried to send, and the kernel refuses for good.
        """
        if not self._refusing:
            self._sendFailed()

    def _hinder(self) -> None:
        """
        From now on writing takes the careful way, and nobody sends past it.
        """
        self._unsent = deque()
        self._closeWays()

    def _care(self) -> None:
        """
        From now on, writing takes the careful way, behind what waits for the end of a batch.
        """
        if self._held is not None:
            self.sendHeld()
        if self._unsent is None:
            self._hinder()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """
        Send several pieces as one.

        @param data: the pieces.
        """
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Pause and resume C{producer} as the peer takes its bytes: above 256 KiB unsent, and again below 64
        KiB.  A pull producer is asked for more whenever all is sent.

        @param producer: an C{IPushProducer}, or an C{IPullProducer} if not C{streaming}.
        @param streaming: which of the two.
        @raise RuntimeError: when there is one already.
        """
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} was not unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        if not streaming:
            self._care()
            producer.resumeProducing()
        elif self.unsentBytes > HIGH_WATER:
            self._producerPaused = True
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        Forget the producer.
        """
        self.producer = None
        self._producerPaused = False
        if self._unsent is not None and not self._unsent:
            self._outputSoon()

    def _keep(self, data: bytes, sent: int) -> None:
        """
        Put what is left of C{data} behind C{sent} bytes to the unsent, which exist.
        """
        unsent = self._unsent
        assert unsent is not None
        size = len(data) - sent
        if size > SMALL:
            unsent.append(memoryview(data)[sent:] if type(data) is bytes else bytes(data[sent:]))
        elif unsent and type(unsent[-1]) is bytearray and len(unsent[-1]) < COLLECTED:
            unsent[-1] += data[sent:]
        else:
            unsent.append(bytearray(data[sent:]))
        self.unsentBytes += size
        if (
            self.unsentBytes > HIGH_WATER
            and self.producer is not None
            and self.streamingProducer
            and not self._producerPaused
        ):
            self._producerPaused = True
            self.producer.pauseProducing()

    def _outputSoon(self) -> None:
        self._outputDue = True
        self._hub.queue(self)

    def _flush(self) -> None:
        """
        Send what is kept; then give the producer its turn, or close what waits to be closed.

        As with Twisted's own TCP transports a pull producer, or a paused one, holds up the closing, and one
        that is streaming does not.
        """
        self._outputDue = False
        unsent = self._unsent
        if unsent is None:
            return
        if unsent:
            try:
                self._sendKept(unsent)
            except BlockingIOError:
                pass
            except OSError:
                self._sendFailed()
                return
        producer = self.producer
        if not (
            unsent
            or self._refusing
            or self.disconnecting
            or self._writeDisconnecting
            or (producer is not None and not self.streamingProducer)
        ):
            self._unsent = None
        if producer is not None:
            if self._producerPaused:
                if self.unsentBytes <= LOW_WATER:
                    self._producerPaused = False
                    producer.resumeProducing()
                return
            if not self.streamingProducer:
                if not unsent:
                    producer.resumeProducing()
                return
        if not unsent and (self.disconnecting or self._writeDisconnecting):
            self._closeOutput()

    def _sendKept(self, unsent: deque[Any]) -> None:
        """
        Send until all is sent or the kernel takes no more.
        """
        while unsent:
            pieces = list(islice(unsent, GATHERED))
            sent = self._socket.sendmsg(pieces)
            self.unsentBytes -= sent
            for piece in pieces:
                size = len(piece)
                if sent < size:
                    # Short of the whole: the kernel is full, and an event will say when it is not.
                    unsent[0] = memoryview(piece)[sent:]
                    return
                sent -= size
                unsent.popleft()

    def _sendFailed(self) -> None:
        """
        The kernel refuses for good: the peer does not take bytes any more.
        """
        raise NotImplementedError

    def _lose(self, why: Exception) -> None:
        """
        End the connection, soon.
        """
        raise NotImplementedError

    def _closeWays(self) -> None:
        """
        Let nobody read or send in its place.
        """
        raise NotImplementedError

    def _refuse(self) -> None:
        data, self._held = self._held, None
        if data is not None:
            # It was written before whatever happened; without the holding back it would be on its way already.
            try:
                self._send(data)
            except OSError:
                pass
        self._refusing = True
        self._hinder()
        self.unsentBytes = 0

    def _closeOutput(self) -> None:
        if self.disconnecting:
            self._lose(ConnectionDone())
        elif not self._writeDisconnected:
            self._writeDisconnected = True
            self._refuse()
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the peer was faster, and its reset is an event of its own
            protocol = IHalfCloseableProtocol(self.protocol, None)
            if protocol is not None:
                protocol.writeConnectionLost()
            if self._readEnded:
                self._lose(ConnectionDone())
