# -*- test-case-name: tests.net.test_wheel,tests.wire.test_h1_time -*-
"""
Time as the proxy knows it: the named limits, and the base of whatever can time out.

Every wait of the proxy has a name here and a default that a careful operator would choose.  What measures
them is a L{Wheel<twistproxy.net.wheel.Wheel>}; protocols only inherit L{Timed} and are handed a wheel, so that
tests can hand them one on a C{task.Clock}.
"""

from __future__ import annotations

from typing import Protocol

import attrs

#: The slot and the deadline of something that waits for nothing.
NEVER = 1 << 60


class Timed:
    """
    Something that can time out: a connection, as a rule.

    A wheel owns both attributes; a subclass only calls the wheel's C{schedule} and C{cancel}.  On the path of every
    request it does for itself what C{schedule} does, which for its three calls was a thirtieth of a whole exchange: of
    a method that sees objects of several classes CPython 3.11 cannot make the attributes fast.

    @ivar deadline: the tick at which it times out, or L{NEVER}.
    @ivar slot: the tick under which the wheel will look at it next, or L{NEVER} when the wheel does not hold it.
    """

    __slots__ = ("deadline", "slot")

    deadline: int
    slot: int

    def __init__(self) -> None:
        self.deadline = NEVER
        self.slot = NEVER

    @property
    def limitName(self) -> str:
        """
        The name of the limit that it waits under now, for whoever looks at the timers; C{""} if it has none.
        """
        return ""

    @property
    def wheel(self) -> IWheelLike | None:
        """
        The wheel that holds it, for whoever looks at the timers; C{None} if it does not tell.
        """
        return None

    def timedOut(self) -> None:
        """
        Called once when the deadline has passed; it may schedule itself again.
        """
        raise NotImplementedError("a Timed says what happens when its time is up")


class IWheelLike(Protocol):
    """
    What a protocol needs of a timer wheel (structural type, so that floor 0 names no floor above it).
    """

    now: int

    def ticks(self, seconds: float) -> int:
        """
        @return: C{seconds} in ticks, rounded up, at least 1.
        """

    def schedule(self, timed: Timed, ticks: int) -> None:
        """
        Set or move the deadline of C{timed} to C{ticks} from now.
        """

    def file(self, timed: Timed, ticks: int) -> None:
        """
        For C{schedule}, and for who does its work: C{timed}, whose deadline is C{ticks} from now, has to be looked at
        sooner than it would be.
        """

    def cancel(self, timed: Timed) -> None:
        """
        Forget the deadline of C{timed}.
        """


@attrs.frozen(kw_only=True)
class Timeouts:
    """
    All limits of time, in seconds; C{None} switches one off.  Each ends in a C{504}, a C{408} or a close, and its name
    stands in the log (B9).

    @ivar connect: until the upstream connection stands, name resolution included.
    @ivar tlsHandshake: of the TLS handshake with the upstream.
    @ivar queue: in the line for an upstream connection, where their number is capped.
    @ivar requestHead: from the first byte of a request head to its last (slowloris).
    @ivar requestBody: between two pieces of a request body.
    @ivar responseHead: from the last byte of the request to the response head.
    @ivar responseBody: between two pieces of a response body.
    @ivar write: during which a peer takes not one byte of what waits for it.
    @ivar keepAlive: between two requests on a downstream connection.
    @ivar upstreamIdle: of an unused upstream connection.  55 lies below the 60 that most origins use, so that it is
        the proxy that closes first and no request meets a connection that is just being closed.
    @ivar exchange: of one exchange as a whole.
    @ivar tunnelIdle: without a byte in either direction of a tunnel.
    """

    connect: float | None = 5.0
    tlsHandshake: float | None = 5.0
    queue: float | None = 30.0
    requestHead: float | None = 10.0
    requestBody: float | None = 60.0
    responseHead: float | None = 60.0
    responseBody: float | None = 60.0
    write: float | None = 60.0
    keepAlive: float | None = 75.0
    upstreamIdle: float | None = 55.0
    exchange: float | None = None
    tunnelIdle: float | None = None


def ticksOf(wheel: IWheelLike, seconds: float | None) -> int:
    """
    @return: the ticks of a limit, L{NEVER} for one that is switched off.
    """
    return NEVER if seconds is None else wheel.ticks(seconds)
