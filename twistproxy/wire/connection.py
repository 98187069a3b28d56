"""
What both ends of HTTP/1.1 have in common: a transport that is written to, somebody to pause while it does not keep up,
and bytes of a head that is not complete yet.
"""

from __future__ import annotations

from typing import Any

from twistproxy.deadlines import IWheelLike, Timed

#: What ends a head.
BLANK = b"\r\n\r\n"


class H1Connection(Timed):
    """
    The base of L{H1Server<twistproxy.wire.h1server.H1Server>} and L{H1Client<twistproxy.wire.h1client.H1Client>}.

    @ivar transport: the byte transport.
    @ivar factory: set by Twisted, used by nobody here.
    """

    _context: Any  # in a slot of the subclass, which knows its sort

    __slots__ = ("__weakref__", "_buffer", "_producer", "_scanned", "_unsent", "_writable", "factory", "transport")

    def __init__(self) -> None:
        super().__init__()
        self._buffer = b""
        self._scanned = 0
        self._producer: Any = None
        self._unsent = 0
        self._writable = True
        self.factory: Any = None
        self.transport: Any = None

    @property
    def bufferedBytes(self) -> int:
        """
        What was read, and is still to be parsed or to be taken by whoever gets the body.
        """
        body: Any = getattr(self, "_body", None)
        return len(self._buffer) + (0 if body is None else body.bufferedBytes)

    def _partition(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """
        @return: C{data.partition(BLANK)}, without looking again at what was looked at before: a head that comes byte by
            byte must not cost the square of its length.
        """
        end = data.find(BLANK, self._scanned)
        return (data, b"", b"") if end < 0 else (data[:end], BLANK, data[end + 4 :])

    @property
    def wheel(self) -> IWheelLike | None:
        """
        See L{Timed.wheel<twistproxy.deadlines.Timed>}.
        """
        return self._context.wheel

    def writeConnectionLost(self) -> None:
        """
        Our side is closed, which only we do.
        """

    # -- IPushProducer, towards the transport

    def setProducer(self, producer: Any) -> None:
        """
        From now on C{producer} is paused while the peer does not keep up.

        @param producer: an C{IPushProducer}, or C{None}.
        """
        self._producer = producer
        if producer is not None and not self._writable:
            producer.pauseProducing()

    def pauseProducing(self) -> None:
        """
        The peer does not keep up with what is sent to it.
        """
        self._writable = False
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """
        The peer has caught up.
        """
        self._writable = True
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """
        The transport is going; C{connectionLost} follows.
        """

    def _stalled(self) -> bool:
        """
        @return: whether the peer has taken nothing since this was last asked.
        """
        unsent = getattr(self.transport, "unsentBytes", None)
        if unsent is None:
            # a stock transport does not tell; one that has paused us for so long has sent next to nothing
            unsent = 0 if self._writable else 1
        stalled = unsent != 0 and unsent == self._unsent
        self._unsent = unsent
        return stalled
