# -*- test-case-name: tests.upstream.test_pool -*-
"""
The connections to one target: idle ones, those at work, and the line for one.

Reuse is last in, first out, so that a burst's surplus goes idle and is closed; the line is first in, first out, so that
nobody starves.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.deadlines import IWheelLike, Timed, ticksOf
from twistproxy.errors import ProxyError, Sent, Stage, Unavailable, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import ICarrier
from twistproxy.message import OutboundRequest
from twistproxy.rules.methods import IDEMPOTENT
from twistproxy.upstreams import Target
from twistproxy.wire.context import ClientContext
from twistproxy.wire.h1client import H1Client


@attrs.frozen(kw_only=True)
class PoolSettings:
    """
    The bounds of a pool (B8.2).

    @ivar maxIdle: idle connections kept per target.  Go keeps two by default, and its users run out of ports.
    @ivar maxConnections: connections per target in all; C{None} for no cap.
    @ivar maxWaiting: requests that may wait for one, where there is a cap.
    """

    maxIdle: int = 256
    maxConnections: int | None = None
    maxWaiting: int = 1024


class Pool:
    """
    The connections to one target.

    @ivar target: where they lead.
    @ivar idle: those that wait for a request, the latest last.
    @ivar connections: how many there are in all, counting those that are being made.
    @ivar waiting: the line.
    """

    _log = Logger()

    def __init__(
        self,
        target: Target,
        dialer: Any,
        context: ClientContext,
        settings: PoolSettings,
        connectTicks: int,
        queueTicks: int,
    ) -> None:
        """
        @param target: where the connections lead.
        @param dialer: makes them, an L{IDialer<twistproxy.interfaces.IDialer>}.
        @param context: what upstream connections have in common.
        @param settings: the bounds.
        @param connectTicks: the limit of time for a connection, TLS included.
        @param queueTicks: the limit of time in the line.
        """
        self.target = target
        self.idle: list[H1Client] = []
        self.open: set[H1Client] = set()
        self.connections = 0
        self.waiting: deque[_Waiting] = deque()
        self._dialer = dialer
        self.context = context
        self._settings = settings
        self._connectTicks = connectTicks
        self._queueTicks = queueTicks
        self._closed = False
        self._attempts: set[_Connecting] = set()
        self._filling = False

    def __repr__(self) -> str:
        return f"<Pool {self.target.name}: {len(self.idle)} idle of {self.connections}, {len(self.waiting)} waiting>"

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        Send a request over an idle connection, a new one, or the next one that is free.
        """
        if self.idle:
            self.idle.pop().begin(outbound, receiver)
            return
        settings = self._settings
        if self._closed:
            receiver.roundTripFailed(Unavailable("the pool is closed"))
        elif self._hasRoom():
            self._connect(outbound, receiver)
        elif len(self.waiting) < settings.maxWaiting:
            self.waiting.append(_Waiting(self, outbound, receiver, self._queueTicks))
        else:
            receiver.roundTripFailed(Unavailable(f"{len(self.waiting)} requests are waiting for a connection already"))

    def _hasRoom(self) -> bool:
        most = self._settings.maxConnections
        return most is None or self.connections < most

    def _connect(self, outbound: OutboundRequest, receiver: Any) -> None:
        self.connections += 1
        _Connecting(self, outbound, receiver, self._connectTicks).dial(self._dialer)

    # -- from connections

    def connected(self, connection: H1Client) -> None:
        """
        A connection stands.
        """
        self.open.add(connection)

    def release(self, connection: H1Client) -> None:
        """
        A connection is free: the next in line gets it, or it goes idle.
        """
        while self.waiting:
            waiting = self.waiting.popleft()
            if waiting.active:
                waiting.serve(connection)
                return
        if self._closed or len(self.idle) >= self._settings.maxIdle:
            connection.abort()
        else:
            self.idle.append(connection)

    def lost(self, connection: H1Client) -> None:
        """
        A connection is gone, or is not to be used again.
        """
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        self.gone()

    def gone(self) -> None:
        """
        There is one connection less: room for the next in line.
        """
        self.connections -= 1
        if self._filling:
            # An attempt that fails at once ends up here again: a loop, lest a long line become a deep stack.
            return
        self._filling = True
        try:
            while self.waiting and self._hasRoom():
                waiting = self.waiting.popleft()
                if waiting.active:
                    waiting.leave()
                    self._connect(waiting.outbound, waiting.receiver)
        finally:
            self._filling = False

    def replay(self, outbound: OutboundRequest, receiver: Any, error: ProxyError) -> bool:
        """
        A kept connection died before a single response byte came: the upstream had closed it while the request was on
        its way.  One more try, on a fresh connection, is safe if nothing was sent, or if doing it twice does no harm,
        and the body is still whole (B8.3).

        @return: whether the request is tried again.
        """
        if self._closed or outbound.replayed or type(outbound.body) is not bytes:
            return False
        if error.sent is not Sent.NOTHING and outbound.method not in IDEMPOTENT:
            return False
        outbound.replayed = True
        if self._hasRoom():
            self._connect(outbound, receiver)
        else:
            # the dead connection's place went to the next in line; this request has waited longer than anybody there
            self.waiting.appendleft(_Waiting(self, outbound, receiver, self._queueTicks))
        return True

    def close(self) -> None:
        """
        Close idle connections, and the others when they become free.
        """
        self._closed = True
        for connection in self.idle.copy():
            connection.abort()

    def cut(self) -> None:
        """
        Close every connection now.
        """
        self._closed = True
        for waiting in list(self.waiting):
            waiting.giveUp()
        for attempt in list(self._attempts):
            attempt.giveUp()
        for connection in list(self.open):
            connection.cut()


@implementer(ICarrier)
class _Waiting(Timed):
    """
    A place in the line.
    """

    __slots__ = ("_pool", "active", "outbound", "receiver")

    stage = Stage.QUEUE
    limitName = "queue"

    def __init__(self, pool: Pool, outbound: OutboundRequest, receiver: Any, ticks: int) -> None:
        super().__init__()
        self._pool = pool
        self.outbound = outbound
        self.receiver = receiver
        self.active = True
        outbound.carrier = self
        if outbound.timeouts is not None:
            ticks = ticksOf(pool.context.wheel, outbound.timeouts.queue)
        pool.context.wheel.schedule(self, ticks)

    @property
    def wheel(self) -> IWheelLike:
        """
        See L{Timed.wheel<twistproxy.deadlines.Timed>}.
        """
        return self._pool.context.wheel

    def serve(self, connection: H1Client) -> None:
        """
        It is this one's turn.
        """
        self.leave()
        self.outbound.record.connected = self.outbound.record.clock()
        connection.begin(self.outbound, self.receiver)

    def leave(self) -> None:
        """
        Leave the line.
        """
        self.active = False
        self._pool.context.wheel.cancel(self)

    def abort(self) -> None:
        """
        The client has left.
        """
        self.leave()
        if self in self._pool.waiting:
            self._pool.waiting.remove(self)

    def timedOut(self) -> None:
        """
        No connection became free.
        """
        error = Unavailable("no upstream connection became free in time")
        error.timeout = "queue"
        self._fail(error)

    def giveUp(self) -> None:
        """
        There will be no connection any more.
        """
        self._fail(Unavailable("the proxy is going down"))

    def _fail(self, error: ProxyError) -> None:
        self.abort()
        self.outbound.carrier = None
        self.receiver.roundTripFailed(error)


@implementer(ICarrier)
class _Connecting(Timed):
    """
    A connection that is being made for a request.
    """

    __slots__ = ("_attempt", "_connection", "_outbound", "_pool", "_receiver", "_stage")

    def __init__(self, pool: Pool, outbound: OutboundRequest, receiver: Any, ticks: int) -> None:
        super().__init__()
        self._stage = Stage.CONNECT
        self._pool = pool
        self._outbound = outbound
        self._receiver: Any = receiver
        self._attempt: Deferred[None] | None = None
        self._connection = H1Client(pool.context, pool)
        pool._attempts.add(self)
        outbound.carrier = self
        if outbound.timeouts is not None:
            ticks = ticksOf(pool.context.wheel, outbound.timeouts.connect)
        pool.context.wheel.schedule(self, ticks)

    limitName = "connect"

    @property
    def wheel(self) -> IWheelLike:
        """
        See L{Timed.wheel<twistproxy.deadlines.Timed>}.
        """
        return self._pool.context.wheel

    @property
    def stage(self) -> Stage:
        """
        Connecting, or in the TLS handshake.
        """
        return self._stage

    def dial(self, dialer: Any) -> None:
        """
        Begin.
        """
        try:
            target = self._pool.target
            if target.scheme == "https":
                attempt = dialer.dial(target, self._connection, self._handshaking)
            else:
                attempt = dialer.dial(target, self._connection)
        except Exception:
            attempt = fail()
        self._attempt = attempt
        attempt.addCallbacks(self._connected, self._failed)

    def _handshaking(self) -> None:
        """
        The connection stands; the handshake has a limit of its own, which whoever dials keeps.
        """
        self._stage = Stage.TLS
        self._pool.context.wheel.cancel(self)

    def _connected(self, _: object) -> None:
        self._pool.context.wheel.cancel(self)
        self._pool._attempts.discard(self)
        pool, receiver, outbound = self._pool, self._receiver, self._outbound
        pool.connected(self._connection)
        if receiver is None:
            self._connection.abort()
            return
        self._receiver = None
        outbound.record.connected = outbound.record.clock()
        self._connection.begin(outbound, receiver)

    def _failed(self, failure: Failure) -> None:
        self._pool.context.wheel.cancel(self)
        receiver, self._receiver = self._receiver, None
        error = failure.value
        if not isinstance(error, ProxyError):
            wrapped = UpstreamError(f"connecting failed: {failure.getErrorMessage()}", Stage.CONNECT)
            wrapped.__cause__ = error
            error = wrapped
        self._end(receiver, error)

    def _end(self, receiver: Any, error: ProxyError) -> None:
        """
        There will be no connection.
        """
        self._pool._attempts.discard(self)
        self._pool.gone()
        if receiver is not None:
            self._outbound.carrier = None
            receiver.roundTripFailed(error)

    def abort(self) -> None:
        """
        The client has left: nobody needs this connection any more.
        """
        self._receiver = None
        if self._attempt is not None:
            self._attempt.cancel()

    def timedOut(self) -> None:
        """
        It took too long.
        """
        self._giveUp(UpstreamTimeout("connect", Stage.CONNECT))

    def giveUp(self) -> None:
        """
        There will be no connection any more.
        """
        self._giveUp(Unavailable("the proxy is going down", self._stage))

    def _giveUp(self, error: ProxyError) -> None:
        receiver, self._receiver = self._receiver, None
        if self._attempt is not None:
            self._attempt.cancel()
        if receiver is not None:
            self._outbound.carrier = None
            receiver.roundTripFailed(error)
