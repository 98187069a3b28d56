"""
An origin that answers by itself: a protocol of its own on h11, for stories with many exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol

from tests.net.peers import until
from tests.support.peers import Message

#: What is answered: status, fields and body.
Answer = tuple[int, list[tuple[str, str]], bytes]


class _Connection(Protocol):
    """One connection of the proxy."""

    factory: WebServer

    def connectionMade(self) -> None:
        self.factory.open.add(self)
        self.factory.connections += 1
        self._parser = h11.Connection(h11.SERVER)
        self._request = Message()
        self._waiting: Deferred[Any] | None = None

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.open.discard(self)
        if self._waiting is not None:
            self.factory.abandoned += 1
            self._waiting.cancel()

    def dataReceived(self, data: bytes) -> None:
        self._parser.receive_data(data)
        self._work()

    def _work(self) -> None:
        while True:
            event = self._parser.next_event()
            if isinstance(event, h11.Request):
                self._request = Message(method=event.method, target=event.target, fields=list(event.headers))
            elif isinstance(event, h11.Data):
                self._request.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.factory.requests += 1
                self._waiting = maybeDeferred(self.factory.answer, self._request)
                self._waiting.addCallback(self._answered).addErrback(
                    lambda _: self.transport.abortConnection()
                )
            else:
                return

    def _answered(self, answer: Answer) -> None:
        status, fields, body = answer
        self._waiting = None
        send = self._parser.send
        head = h11.Response(status_code=status, headers=[*fields, ("Content-Length", str(len(body)))])
        data = send(head) + (send(h11.Data(data=body)) or b"") + (send(h11.EndOfMessage()) or b"")
        self.transport.write(data)
        if self._parser.our_state is h11.MUST_CLOSE:
            self.transport.loseConnection()
        else:
            self._parser.start_next_cycle()
            self._work()


class WebServer(Factory):
    """
    Listens on a free port, on Twisted's stock transports.

    @ivar connections: how many have been made to it.
    @ivar requests: how many were received, body and all.
    @ivar abandoned: how many of them were given up by the proxy before they were answered.
    @ivar open: the connections that are open.
    """

    noisy = False
    protocol = _Connection

    def __init__(self, reactor: Any, answer: Callable[[Message], Any], number: int = 0) -> None:
        """
        @param answer: takes a request and gives an L{Answer}, or a Deferred of one.
        @param number: of the port.
        """
        self.answer = answer
        self.connections = self.requests = self.abandoned = 0
        self.open: set[Any] = set()
        self._port = reactor.listenTCP(number, self, interface="127.0.0.1", backlog=512)
        self.number = self._port.getHost().port
        self.target = f"http://127.0.0.1:{self.number}"

    async def close(self) -> None:
        """Stop listening, and reset what is open."""
        await maybeDeferred(self._port.stopListening)
        for connection in list(self.open):
            connection.transport.abortConnection()
        await until(lambda: not self.open, "the end of the origin's connections")
