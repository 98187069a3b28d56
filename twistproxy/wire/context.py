"""
What the connections of one port, or of one transport, have in common: limits, time, and whom they report to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twistproxy.deadlines import IWheelLike, Timeouts, ticksOf
from twistproxy.limits import Limits
from twistproxy.message import Request


class ServerContext:
    """
    What the connections of one port have in common.

    @ivar connections: those that are open.
    @ivar draining: whether the port is going down: no response invites another request any more.
    """

    def __init__(
        self,
        wheel: IWheelLike,
        begin: Callable[[Any, Request], Any],
        limits: Limits,
        timeouts: Timeouts,
        scheme: bytes = b"http",
    ) -> None:
        """
        @param wheel: measures the limits of time.
        @param begin: makes the exchange of a request; its C{start()} is called next.
        @param limits: the bounds.
        @param timeouts: the limits of time.
        @param scheme: the scheme that clients of this port use.
        """
        self.wheel = wheel
        self.begin = begin
        self.limits = limits
        self.scheme = scheme
        self.headTicks = ticksOf(wheel, timeouts.requestHead)
        self.bodyTicks = ticksOf(wheel, timeouts.requestBody)
        self.writeTicks = ticksOf(wheel, timeouts.write)
        self.keepAliveTicks = ticksOf(wheel, timeouts.keepAlive)
        self.discardTicks = ticksOf(wheel, limits.discardSeconds)
        self.connections: set[Any] = set()
        self.draining = False
        self.emptied: Callable[[], None] | None = None


class ClientContext:
    """
    What upstream connections have in common.
    """

    def __init__(self, wheel: IWheelLike, limits: Limits, timeouts: Timeouts) -> None:
        """
        @param wheel: measures the limits of time.
        @param limits: the bounds.
        @param timeouts: the limits of time, unless a request has its own.
        """
        self.wheel = wheel
        self.limits = limits
        self.ticks = ClientTicks(wheel, timeouts)
        self.idleTicks = ticksOf(wheel, timeouts.upstreamIdle)
        self._known: dict[Timeouts, ClientTicks] = {timeouts: self.ticks}

    def ticksFor(self, timeouts: Timeouts | None) -> ClientTicks:
        """
        @param timeouts: a request's own limits, or C{None}.
        """
        if timeouts is None:
            return self.ticks
        ticks = self._known.get(timeouts)
        if ticks is None:
            ticks = ClientTicks(self.wheel, timeouts)
            if len(self._known) < 256:
                self._known[timeouts] = ticks
        return ticks


class ClientTicks:
    """
    The limits of one request upstream, in ticks of the wheel.
    """

    __slots__ = ("responseBody", "responseHead", "write")

    def __init__(self, wheel: IWheelLike, timeouts: Timeouts) -> None:
        self.responseHead = ticksOf(wheel, timeouts.responseHead)
        self.responseBody = ticksOf(wheel, timeouts.responseBody)
        self.write = ticksOf(wheel, timeouts.write)
