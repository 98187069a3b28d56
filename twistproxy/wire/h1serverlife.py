# -*- test-case-name: tests.wire.test_h1server,tests.wire.test_h1_time -*-
"""
The life of a downstream connection: its phases, its limits of time, and all the ways in which it ends.

A connection is in one of six phases::

    HEAD --head complete--> BUSY --settled--> HEAD                the ordinary way round
                             |  `--settled, body still coming--> DISCARD --its end--> HEAD
                             |--101--> TUNNEL
                             `--settled, cannot be used again--> LINGER --> CLOSED

It may end from any of them: by the client, who leaves or stalls, by us, who are done with it or drain the port, and by
whoever cuts it off.  An exchange that runs on it is told, once.
"""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from twistproxy.errors import ClientError, MalformedMessage, Stage
from twistproxy.wire.bodies import BodyReader, BodyWriter
from twistproxy.wire.connection import H1Connection
from twistproxy.wire.context import ServerContext

HEAD, BUSY, DISCARD, TUNNEL, LINGER, CLOSED = range(6)


class ServerLife(H1Connection):
    """
    What L{H1Server<twistproxy.wire.h1server.H1Server>} is before it reads or writes anything: its state, and its end.

    The state is set up by L{H1Server<twistproxy.wire.h1server.H1Server>}, in one C{__init__} for all its bases.

    @ivar served: how many exchanges it has begun.
    """

    __slots__ = ("_body", "_complete", "_context", "_exchange", "_persist", "_phase", "_request", "_writer", "served")

    _body: BodyReader | None
    _complete: bool
    _context: ServerContext
    _exchange: Any
    _persist: bool
    _phase: int
    _request: Any
    _writer: BodyWriter | None
    served: int

    def _refuse(self, fault: MalformedMessage, data: bytes, timeout: str | None = None) -> None:
        """
        Start an exchange for a request that cannot be read.
        """
        raise NotImplementedError

    @property
    def exchange(self) -> Any:
        """
        The exchange that runs on it, or C{None}.
        """
        return self._exchange

    # -- the client is gone

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone; what ran on it is cancelled.
        """
        self._phase = CLOSED
        context = self._context
        context.wheel.cancel(self)
        context.connections.discard(self)
        self._producer = None
        self._buffer = b""
        body, self._body = self._body, None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.clientLeft()
        if body is not None:
            body.failed(ClientError("the client closed its connection inside the body", 400, Stage.SEND))
        self._request = self._writer = None
        if context.emptied is not None and not context.connections:
            context.emptied()

    def readConnectionLost(self) -> None:
        """
        End of file.  In a tunnel it travels on; anywhere else a client that half-closes counts as gone, as in Go and
        nginx (B7.1).
        """
        if self._phase == TUNNEL:
            if self._body is not None:
                self._body.finished()
        else:
            self._gone()

    def peerHungUp(self, reset: bool) -> None:
        """
        The client has gone while we do not read.
        """
        if reset or self._phase != TUNNEL:
            self._gone()

    def _gone(self) -> None:
        if self._phase == LINGER or self._exchange is None:
            self._close()
            return
        self._phase = CLOSED
        exchange, self._exchange = self._exchange, None
        self.transport.abortConnection()
        exchange.clientLeft()

    # -- time

    @property
    def limitName(self) -> str:
        """
        See L{Timed.limitName<twistproxy.deadlines.Timed>}.
        """
        if self._phase == HEAD:
            return "requestHead" if self._buffer and self._writable else "keepAlive"
        if self._phase == BUSY:
            body = self._body
            return "requestBody" if body is not None and not body.ended and not body.paused else "write"
        return "discard" if self._phase in (DISCARD, LINGER) else "write"

    def timedOut(self) -> None:
        """
        See L{Timed.timedOut<twistproxy.deadlines.Timed>}.
        """
        context = self._context
        if self._phase == HEAD:
            if self._buffer and self._writable:
                self._refuse(MalformedMessage("the request head took too long", 408), self._buffer, "requestHead")
            else:
                self._close()
        elif self._phase == DISCARD:
            self._close()
        elif self._phase in (LINGER, CLOSED):
            # a client that is still taking its response may have the time it needs for that
            if self._stalled() or not self._unsent:
                self.transport.abortConnection()
            else:
                context.wheel.schedule(self, context.writeTicks)
        elif self._phase == BUSY:
            body = self._body
            if body is not None and not body.ended and not body.paused:
                self._bodyFailed(body, ClientError("the request body stalled", 408, Stage.SEND, "requestBody"))
            elif self._stalled():
                exchange, self._exchange = self._exchange, None
                self._phase = CLOSED
                self.transport.abortConnection()
                exchange.clientLeft("write")
            else:
                context.wheel.schedule(self, context.writeTicks)

    def _bodyFailed(self, body: BodyReader, error: ClientError) -> None:
        """
        The client has not sent the body that it announced; whatever else it sends is not looked at.
        """
        self._persist = False
        self._body = None
        self._request.fault = error
        body.failed(error)

    # -- our end of it

    def drain(self) -> None:
        """
        The port is going down: close if nothing is asked of us.  A connection that has not brought a request yet may
        have one on its way, for as long as a request's head may take.
        """
        if self._phase == HEAD and not self._buffer:
            if self.served:
                self._close()
            else:
                self._context.wheel.schedule(self, self._context.headTicks)

    def cut(self) -> None:
        """
        End it now, whatever it does; an exchange that runs on it is told that it is our doing, and not its client's.
        """
        exchange, self._exchange = self._exchange, None
        self._phase = CLOSED
        self.transport.abortConnection()
        if exchange is not None:
            exchange.cutOff()

    def _close(self, abort: bool = False) -> None:
        """
        Close the connection.  If the client may still be sending, only our side at first: closing with unread bytes
        resets the connection, and the reset overtakes the response (RFC 9112 9.6).
        """
        phase, self._phase = self._phase, CLOSED
        transport = self.transport
        if abort:
            transport.abortConnection()
        elif phase in (BUSY, DISCARD) and (self._buffer or self._body is not None or not self._clean()):
            self._phase = LINGER
            body, self._body = self._body, None
            if body is not None:
                body.gatherNoMore()
            self._buffer = b""
            self._scanned = 0
            self._context.wheel.schedule(self, self._context.discardTicks)
            transport.resumeProducing()
            transport.unregisterProducer()
            transport.loseWriteConnection()
        else:
            self._context.wheel.schedule(self, self._context.writeTicks)
            transport.unregisterProducer()
            transport.loseConnection()

    def _clean(self) -> bool:
        """
        @return: whether the last request was read to its end.
        """
        return self._request is None or self._request.fault is None
