# -*- test-case-name: tests.test_delivery -*-
"""
The policies of delivery, put together in the order that most proxies want::

    retry --> balance --> breaker --> connections

so that each further try may go to another member, and those that keep failing are no candidates.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from twistproxy.interfaces import IBalancer, IRetryPolicy, hookOf
from twistproxy.net.network import Network
from twistproxy.policy.balance import BALANCERS, BalancingTransport, PickerLike
from twistproxy.policy.breaker import BreakerSettings
from twistproxy.policy.breakertransport import BreakerTransport
from twistproxy.policy.retry import Retries, RetryPolicyLike
from twistproxy.policy.retrytransport import RetryTransport

#: Picks a member: the name of a ready-made balancer, or one of your own.
BalancerLike: TypeAlias = str | PickerLike

#: How many tries may follow the first one, or what decides.
RetriesLike: TypeAlias = int | RetryPolicyLike

#: Whether there is one, or when it opens.
BreakerLike: TypeAlias = bool | BreakerSettings


def deliver(
    transport: Any,
    *,
    reactor: Any = None,
    balance: BalancerLike | None = None,
    retries: RetriesLike | None = None,
    breaker: BreakerLike | None = None,
) -> Any:
    """
    Put policies around a transport.

    @param transport: carries the requests in the end: an L{ITransport<twistproxy.interfaces.ITransport>}, or a
        callable.
    @param reactor: a reactor or a L{Network}, whose time is used; the global reactor by default.
    @param balance: who picks members of clusters: C{"round-robin"}, C{"least-requests"}, C{"random"}, an
        L{IBalancer<twistproxy.interfaces.IBalancer>}, or a callable; C{None} where there are no clusters.
    @param retries: how many tries may follow the first one, as L{Retries} has it; or an L{IRetryPolicy
        <twistproxy.interfaces.IRetryPolicy>}, or a callable.
    @param breaker: whether to leave upstreams alone that keep failing, or a L{BreakerSettings} with the thresholds.
    @return: the outermost of them; C{transport} itself if none was asked for.
    @raise ValueError: as L{policiesOf}.
    @raise TypeError: likewise.
    """
    balancer, policy, settings = policiesOf(balance, retries, breaker)
    network = Network.of(reactor)
    if settings is not None:
        transport = BreakerTransport(transport, settings, clock=network.reactor.seconds)
    if balancer is not None:
        transport = BalancingTransport(transport, balancer)
    if policy is not None:
        transport = RetryTransport(transport, policy, wheel=network.wheel)
    return transport


def policiesOf(
    balance: BalancerLike | None = None, retries: RetriesLike | None = None, breaker: BreakerLike | None = None
) -> tuple[PickerLike | None, RetryPolicyLike | None, BreakerSettings | None]:
    """
    Make of the arguments of L{deliver} what they stand for, each C{None} where there is to be no such policy.

    @raise ValueError: if there is no such balancer, or C{retries} is less than 0.
    @raise TypeError: if one of them is nothing of its kind.
    """
    if breaker is not None and not isinstance(breaker, (bool, BreakerSettings)):
        raise TypeError(f"{breaker!r} is no breaker; write True, False, or BreakerSettings(...)")
    balancer = policy = None
    if balance is not None:
        balancer = balancerOf(balance)
        hookOf(balancer, IBalancer, "pick")
    if retries is not None and retries != 0:
        policy = Retries(most=retries) if isinstance(retries, int) else retries
        hookOf(policy, IRetryPolicy, "again")
    return balancer, policy, BreakerSettings() if breaker is True else breaker or None


def balancerOf(given: BalancerLike) -> PickerLike:
    """
    @return: the balancer of a name; anything else is one itself.
    @raise ValueError: if there is none of that name.
    """
    if not isinstance(given, str):
        return given
    make = BALANCERS.get(given)
    if make is None:
        raise ValueError(f"there is no balancer {given!r}; write {', '.join(BALANCERS)}")
    return make()
