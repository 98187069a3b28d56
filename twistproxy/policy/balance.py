# -*- test-case-name: tests.policy.test_balance -*-
"""
Which member of a cluster gets a request.

The director names a L{Cluster<twistproxy.upstreams.Cluster>} as it would name any target, and has decided by that what
becomes of path and Host.  Which member it is, is decided here, for each try anew: a try that follows another goes
elsewhere, if there is anywhere else, and none goes to a member whose breaker is open while there are others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from random import Random
from typing import Any, TypeAlias

from zope.interface import implementer

from twistproxy.errors import HookFailed
from twistproxy.interfaces import IBalancer, hookOf
from twistproxy.message import OutboundRequest
from twistproxy.policy.layer import Layer
from twistproxy.rules.target import joinTarget
from twistproxy.upstreams import Cluster, Member, Target

#: Picks a member.
PickerLike: TypeAlias = IBalancer | Callable[[Sequence[Member], OutboundRequest], Member]

# One count for all clusters and transports: who was picked longest ago is then the same question everywhere.
_turns = count(1)


@implementer(IBalancer)
class RoundRobin:
    """
    Picks in turn.

    It goes by who was picked longest ago and counts nothing itself, so that one object serves any number of clusters,
    and a member that was left out for a while changes nothing for the others.
    """

    counts = False

    def pick(self, candidates: Sequence[Member], outbound: OutboundRequest) -> Member:
        """
        See L{IBalancer.pick<twistproxy.interfaces.IBalancer>}.
        """
        best = candidates[0]
        for member in candidates:
            if member.turn < best.turn:
                best = member
        return best


@implementer(IBalancer)
class LeastRequests:
    """
    Picks who has the fewest requests under way, in turn where that is the same: for requests of which some take much
    longer than others.
    """

    counts = True

    def pick(self, candidates: Sequence[Member], outbound: OutboundRequest) -> Member:
        """
        See L{IBalancer.pick<twistproxy.interfaces.IBalancer>}.
        """
        best = candidates[0]
        for member in candidates:
            if member.active < best.active or (member.active == best.active and member.turn < best.turn):
                best = member
        return best


@implementer(IBalancer)
class RandomOfTwo:
    """
    Draws two, and picks the one with fewer requests under way: nearly as even as L{LeastRequests} where members are
    many, and without the rush of several proxies on whoever has just become the best.
    """

    counts = True

    def __init__(self, random: Callable[[], float] | None = None) -> None:
        """
        @param random: gives numbers from 0.0 up to 1.0; a generator of its own by default.
        """
        self._random = Random().random if random is None else random

    def pick(self, candidates: Sequence[Member], outbound: OutboundRequest) -> Member:
        """
        See L{IBalancer.pick<twistproxy.interfaces.IBalancer>}.
        """
        number = len(candidates)
        first = int(self._random() * number)
        second = int(self._random() * (number - 1))
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second % number]  # of a single one, that one
        return other if other.active < one.active else one


#: The ready-made ones, by the names that operators know.
BALANCERS: dict[str, Callable[[], IBalancer]] = {
    "round-robin": RoundRobin,
    "least-requests": LeastRequests,
    "random": RandomOfTwo,
}


def elsewhere(members: Iterable[Member], failed: Iterable[Target]) -> list[Member]:
    """
    @param failed: targets that did not do.
    @return: those members that are other servers.
    """
    keys = {target.key for target in failed}
    return [member for member in members if member.target.key not in keys]


def _checked(pick: Callable[..., Any]) -> Callable[..., Member]:
    """
    @param pick: picks a member, if it is right.
    @return: the same, failing where it picks none.
    """

    def picked(candidates: Sequence[Member], outbound: OutboundRequest) -> Member:
        member = pick(candidates, outbound)
        if not isinstance(member, Member):
            raise TypeError(f"it picked {member!r}, which is no Member")
        return member

    return picked


class _Place:
    """
    One request's place among those that a member has under way.

    It is given back when nobody holds it any longer.  A transport is told of an outcome only while somebody waits for
    one: not when the client leaves, and not when a body or a tunnel has ended; but then the exchange lets go of it, and
    so does who gives the request up.
    """

    __slots__ = ("_member",)

    def __init__(self, member: Member) -> None:
        self._member = member
        member.active += 1

    def __del__(self) -> None:
        self._member.active -= 1


class BalancingTransport(Layer):
    """
    Sends each request for a cluster to a member of it; others pass as they are.

    Where L{BreakerTransport<twistproxy.policy.breakertransport.BreakerTransport>} is below, members whose breaker is
    open are not candidates.
    """

    def __init__(self, transport: Any, balancer: PickerLike | None = None) -> None:
        """
        @param transport: what carries them; see L{Layer}.
        @param balancer: an L{IBalancer<twistproxy.interfaces.IBalancer>}, or a callable; L{RoundRobin} by default.
        @raise TypeError: if it is neither.
        """
        super().__init__(transport)
        self.balancer: Any = RoundRobin() if balancer is None else balancer
        pick = hookOf(self.balancer, IBalancer, "pick")
        self._pick = pick if type(self.balancer) in BALANCERS.values() else _checked(pick)
        self._counts = bool(getattr(self.balancer, "counts", True))
        self._breakers = self.breakers

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        See L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        cluster = outbound.upstream
        if isinstance(cluster, Cluster):
            try:
                member = self._choose(cluster, outbound)
                target = member.target
            except BaseException as error:  # asyncio's CancelledError, too: in a further try nobody else would notice
                name = f"balancer {type(self.balancer).__qualname__}"
                failure = HookFailed(name, f"{type(error).__name__}: {error}")
                failure.__cause__ = error
                receiver.roundTripFailed(failure)
                return
            if not outbound.failed:
                # A further try takes nobody's turn: whoever helps out would be behind, and who fails always next.
                member.turn = next(_turns)
            outbound.upstream = target
            outbound.record.upstream = target.name
            # The very object: the director has left Host to the target.  Equal bytes of a client's are another one.
            if outbound.host is cluster.authority:
                outbound.host = target.authority
            if target.path or target.query:
                outbound.target = joinTarget(target, outbound.target)
            if self._counts:
                outbound.held = _Place(member)
        self._begin(outbound, receiver)

    def _choose(self, cluster: Cluster, outbound: OutboundRequest) -> Member:
        """
        @return: the member for a try.
        """
        members: Sequence[Member] = cluster.members
        if outbound.failed:
            members = elsewhere(members, outbound.failed) or members
        if self._breakers is not None and self._breakers.troubled:
            members = self._breakers.admitted(members)
        if len(members) == 1:
            return members[0]
        member: Member = self._pick(members, outbound)
        return member
