# -*- test-case-name: tests.policy.test_breakertransport -*-
"""
The transport that leaves upstreams alone which keep failing: a L{Breaker<twistproxy.policy.breaker.Breaker>} for each.

Where several upstreams serve the same, those whose breakers are open are left out.  If they all are, refusing
everything would keep a service down that is up again, and letting everything through would be no breaker: so pauses do
not count then, and each member gets one request at a time, as a trial, until one succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from twistproxy.errors import ProxyError, Side, Stage, Unavailable
from twistproxy.interfaces import IRoundTripReceiver
from twistproxy.message import OutboundRequest, Response
from twistproxy.policy.breaker import Breaker, BreakerSettings, State
from twistproxy.policy.layer import Layer, PassingReceiver
from twistproxy.upstreams import Member, Target

#: Breakers that are remembered; a director that makes up targets as it goes must not fill the memory.
MAX_BREAKERS = 4096

_CLOSED, _OPEN = State.CLOSED, State.OPEN


class Breakers:
    """
    The breakers of all targets, by their keys.

    @ivar settings: when they open.
    @ivar troubled: how many of them are not closed.
    """

    _log = Logger()

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        """
        @param clock: gives the time in seconds, as C{reactor.seconds} does.
        """
        self.settings = settings
        self.clock = clock
        self.troubled = 0
        self._breakers: dict[Hashable, Breaker] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def get(self, target: Target) -> Breaker | None:
        """
        @return: the breaker of a target, if it has been asked for before.
        """
        return self._breakers.get(target.key)

    def of(self, target: Target) -> Breaker:
        """
        @return: the breaker of a target.
        """
        breaker = self._breakers.get(target.key)
        if breaker is None:
            if len(self._breakers) >= MAX_BREAKERS:
                self._makeRoom()
            made = Breaker(self.settings, lambda before, after: self._moved(target, made, before, after))
            self._breakers[target.key] = breaker = made
        return breaker

    def _makeRoom(self) -> None:
        """
        Forget those that have nothing to say; if that is nobody, the oldest ones, several so that it is rarely done.
        """
        idle = [key for key, each in self._breakers.items() if each.state is _CLOSED and not each.failures]
        for key in idle or list(self._breakers)[: max(1, MAX_BREAKERS // 4)]:
            if self._breakers.pop(key).state is not _CLOSED:
                self.troubled -= 1

    def _moved(self, target: Target, breaker: Breaker, before: State, after: State) -> None:
        if self.get(target) is breaker:  # and has not been forgotten
            self.troubled += (after is not _CLOSED) - (before is not _CLOSED)
        if before is _CLOSED:
            self._log.warn(
                "{upstream} keeps failing: left alone for {seconds:g} s ({failures} failures in a row)",
                upstream=target.name,
                seconds=breaker.pause,
                failures=breaker.failures,
            )
        elif after is _CLOSED:
            self._log.info("{upstream} answers again", upstream=target.name)

    def admitted(self, members: Sequence[Member]) -> Sequence[Member]:
        """
        @return: those members that may be sent a request; if that is nobody, the one whose turn to be tried comes
            first, at once, unless each of them is being tried already.
        """
        now = self.clock()
        breakers = [self.get(member.target) for member in members]
        admitted = [m for m, each in zip(members, breakers, strict=True) if each is None or each.admits(now)]
        if admitted:
            return admitted
        waiting = [(each.until, number) for number, each in enumerate(breakers) if each and each.state is _OPEN]
        if not waiting:
            return members
        _, first = min(waiting)
        self.of(members[first].target).hasten()
        return [members[first]]


class BreakerTransport(Layer):
    """
    Refuses requests for targets that keep failing, before anything is sent: L{Unavailable
    <twistproxy.errors.Unavailable>}, a 503.

    What fails on the upstream's side counts, and the L{statuses<BreakerSettings>} that it is told to count.  A client
    that leaves, a hook that fails, and a full line for a connection say nothing of the upstream; nor does a body that
    breaks off, behind a head that has been passed on.
    """

    def __init__(self, transport: Any, settings: BreakerSettings | None = None, *, clock: Callable[[], float]) -> None:
        """
        @param transport: what carries requests; see L{Layer}.
        @param settings: when breakers open.
        @param clock: gives the time in seconds, as C{reactor.seconds} does.
        """
        super().__init__(transport)
        self._breakers = Breakers(settings or BreakerSettings(), clock)

    @property
    def breakers(self) -> Breakers:
        """
        The breakers.
        """
        return self._breakers

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        See L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        target = outbound.upstream
        if target is None:
            self._begin(outbound, receiver)
            return
        breakers = self._breakers
        breaker = breakers._breakers.get(target.key) or breakers.of(target)
        if breaker.state is _CLOSED:
            self._begin(outbound, _Watched(breaker, breakers, receiver))
            return
        now = breakers.clock()
        if now < breaker.until:
            receiver.roundTripFailed(Unavailable(f"the breaker of {target.name} is open"))
            return
        breaker.tryNow(now)
        self._begin(outbound, _Trial(breaker, breakers, receiver))


def _blames(error: ProxyError) -> bool:
    """
    @return: whether an error says something of the upstream.
    """
    return error.side is Side.UPSTREAM and error.stage is not Stage.QUEUE


@implementer(IRoundTripReceiver)
class _Watched(PassingReceiver):
    """
    Tells a closed breaker what becomes of a request.
    """

    __slots__ = ("_breaker", "_breakers", "_receiver")

    def __init__(self, breaker: Breaker, breakers: Breakers, receiver: Any) -> None:
        self._breaker = breaker
        self._breakers = breakers
        self._receiver = receiver

    def responseReceived(self, response: Response) -> None:
        """
        See L{IRoundTripReceiver.responseReceived<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        breakers = self._breakers
        if response.status in breakers.settings.statuses:
            self._breaker.failed(breakers.clock())
        else:
            self._breaker.succeeded(breakers.clock())
        self._receiver.responseReceived(response)

    def roundTripFailed(self, error: ProxyError) -> None:
        """
        See L{IRoundTripReceiver.roundTripFailed<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        if _blames(error):
            self._breaker.failed(self._breakers.clock())
        self._receiver.roundTripFailed(error)


class _Trial(_Watched):
    """
    Tells a breaker that is half open.
    """

    __slots__ = ("_until",)

    def __init__(self, breaker: Breaker, breakers: Breakers, receiver: Any) -> None:
        super().__init__(breaker, breakers, receiver)
        # By which it knows later whether the trial that is under way is still this one.
        self._until = breaker.until

    def __del__(self) -> None:
        # A transport is told of no outcome when the client has left: nobody holds the trial any longer, that is all.
        if self._breaker.until == self._until:
            self._breaker.trialToldNothing()

    def responseReceived(self, response: Response) -> None:
        """
        See L{IRoundTripReceiver.responseReceived<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        if response.status in self._breakers.settings.statuses:
            self._breaker.trialFailed(self._breakers.clock())
        else:
            self._breaker.trialSucceeded()
        self._receiver.responseReceived(response)

    def roundTripFailed(self, error: ProxyError) -> None:
        """
        See L{IRoundTripReceiver.roundTripFailed<twistproxy.interfaces.IRoundTripReceiver>}.
        """
        if _blames(error):
            self._breaker.trialFailed(self._breakers.clock())
        else:
            self._breaker.trialToldNothing()
        self._receiver.roundTripFailed(error)
