# -*- test-case-name: tests.web.test_http2 -*-
"""
What a stock HTTP/2 stream lacks, and a proxy needs.

C{twisted.web} holds up whoever writes to a stream when the stream's window is used up.  A client with a large window
that does not read its connection holds up nobody, and what the upstream sends piles up in the stream's queue; so the
queue is measured here.  And a stream that is aborted is reset with C{NO_ERROR}, which reads as if all were well.

Both go by private attributes of the stream, since there are no others.  Where these are not what they were, the stream
is used as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

#: Bytes that wait in a stream's queue when its producer is stopped, and when it goes on.
HIGH = 256 * 1024
LOW = 64 * 1024

#: RFC 9113 7.
_INTERNAL_ERROR = 2


class MeasuredQueue(deque[Any]):
    """
    The queue of one stream: pieces of a body, and a mark at its end.
    """

    def __init__(self, full: Callable[[], None], drained: Callable[[], None]) -> None:
        """
        @param full: called when more waits than L{HIGH}.
        @param drained: called when there is no more than L{LOW} left after that.
        """
        super().__init__()
        self._full = full
        self._drained = drained
        self._held = 0
        self._isFull = False

    def append(self, item: Any) -> None:
        super().append(item)
        if isinstance(item, bytes):
            self._held += len(item)
            if self._held > HIGH and not self._isFull:
                self._isFull = True
                self._full()

    def appendleft(self, item: Any) -> None:
        super().appendleft(item)
        if isinstance(item, bytes):
            self._held += len(item)

    def popleft(self) -> Any:
        item = super().popleft()
        if isinstance(item, bytes):
            self._held -= len(item)
            if self._isFull and self._held <= LOW:
                self._isFull = False
                self._drained()
        return item


def measure(stream: Any, full: Callable[[], None], drained: Callable[[], None]) -> None:
    """
    Have the queue of a stream, still empty, measured.
    """
    queues = getattr(getattr(stream, "_conn", None), "_outboundStreamQueues", None)
    if isinstance(queues, dict) and queues.get(stream.streamID) == deque():
        queues[stream.streamID] = MeasuredQueue(full, drained)


def reset(stream: Any) -> None:
    """
    Reset a stream because its response has broken off.
    """
    connection = getattr(stream, "_conn", None)
    if connection is None or not hasattr(connection, "_requestDone"):
        stream.abortConnection()
        return
    connection.conn.reset_stream(stream.streamID, error_code=_INTERNAL_ERROR)
    if connection._tryToWriteControlData():
        connection._requestDone(stream.streamID)
