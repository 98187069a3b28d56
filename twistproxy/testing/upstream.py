# -*- test-case-name: tests.test_testing -*-
"""
An upstream that does what the test's script says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from twistproxy.testing.memory import MemoryTransport
from twistproxy.testing.messages import Message, MessageReader, httpResponse
from twistproxy.testing.network import MemoryNetwork

#: What an upstream does with a request: sends these bytes, or what the callable makes of the request, or, if it
#: is C{None}, nothing, so that the test sends when it likes.
Answer: TypeAlias = "bytes | Callable[[Message], bytes | None] | None"


def echo(request: Message) -> bytes:
    """
    @return: a 200 whose body names the request it belongs to.
    """
    asked = request.method + b" " + request.target
    length = {"Content-Length": str(len(asked))}
    return httpResponse(200, length, b"" if request.method == b"HEAD" else asked)


class _Line:
    """
    A connection to an upstream, and what was read of it.
    """

    def __init__(self, connection: MemoryTransport) -> None:
        self.connection = connection
        self.reader = MessageReader(connection)
        self.read = 0
        self.seen = 0
        self.answered = 0


class ScriptedUpstream:
    """
    Writes down every request that comes, whole or not, and answers each whole one as its script says.

    Whatever else an upstream can do wrong is done to its connections: L{onConnection} gets each of them
    before anything has passed.

    What comes over these connections is read from their C{received}, so there is nothing left there to take.

    @ivar answer: the answer to each request for which the script says nothing: by default one that echoes the
        request line.
    @ivar script: answers for the next requests, in the order in which these are complete; each is used once.
    @ivar delay: how long it thinks about each answer, in seconds.
    @ivar onConnection: called with each new connection; sets its faults and rates, say.
    @ivar refusing: whether connections are refused.
    @ivar holding: whether connections neither stand nor fail.
    @ivar connections: all of its connections, also those that are closed.
    @ivar requests: what has come, in the order in which the heads came.
    """

    def __init__(self, network: MemoryNetwork, name: str, answer: Answer = echo) -> None:
        """
        @param network: where it listens;
            L{MemoryProxy.addUpstream<twistproxy.testing.proxy.MemoryProxy.addUpstream>} sees to that.
        @param name: its address, for C{repr}.
        """
        self._network = network
        self._name = name
        self._lines: list[_Line] = []
        self._thinking: list[Any] = []
        self.answer = answer
        self.script: deque[Answer] = deque()
        self.delay = 0.0
        self.onConnection: Callable[[MemoryTransport], None] | None = None
        self.refusing = False
        self.holding = False
        self.requests: list[Message] = []
        network.watching.append(self._work)

    def __repr__(self) -> str:
        return f"<ScriptedUpstream {self._name}, {len(self._lines)} connections, {len(self.requests)} requests>"

    @property
    def connections(self) -> list[MemoryTransport]:
        """
        All of its connections, in the order in which they were made.
        """
        return [line.connection for line in self._lines]

    @property
    def connection(self) -> MemoryTransport:
        """
        The latest connection.

        @raise AssertionError: if there is none.
        """
        if not self._lines:
            raise AssertionError(f"{self._name} was never connected to")
        return self._lines[-1].connection

    @property
    def request(self) -> Message:
        """
        The latest request.

        @raise AssertionError: if there is none.
        """
        if not self.requests:
            raise AssertionError(f"{self._name} has got no request")
        return self.requests[-1]

    @property
    def broken(self) -> list[str]:
        """
        What could not be read of what the proxy sent, one text per connection.
        """
        return [line.reader.broken for line in self._lines if line.reader.broken]

    def opaque(self, number: int = -1) -> bytes:
        """
        @param number: of a connection.
        @return: what has come over it since it was upgraded.
        """
        return bytes(self._lines[number].reader.unread)

    def accepted(self, connection: MemoryTransport) -> None:
        """
        See L{IListening.accepted<twistproxy.testing.network.IListening>}.
        """
        self._lines.append(_Line(connection))
        if self.onConnection is not None:
            self.onConnection(connection)

    def close(self) -> None:
        """
        Forget the answers that it still thinks about.
        """
        for call in self._thinking:
            if call.active():
                call.cancel()

    def _work(self) -> bool:
        return sum(self._read(line) for line in self._lines) > 0

    def _read(self, line: _Line) -> bool:
        data = bytes(line.connection.received)
        if not data:
            return False
        line.connection.received.clear()
        line.reader.feed(data)
        messages = line.reader.messages
        self.requests += messages[line.seen :]
        line.seen = len(messages)
        while line.answered < len(messages) and messages[line.answered].complete:
            message = messages[line.answered]
            line.answered += 1
            self._respond(line, message)
        return True

    def _respond(self, line: _Line, request: Message) -> None:
        answer = self.script.popleft() if self.script else self.answer
        data = answer(request) if callable(answer) else answer
        if data is None:
            return
        if self.delay > 0:
            self._thinking = [call for call in self._thinking if call.active()]
            self._thinking.append(self._network.clock.callLater(self.delay, self._send, line, data))
        else:
            self._send(line, data)

    def _send(self, line: _Line, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 101 "):
            line.reader.upgrade()
        line.connection.queue(data)
