# -*- test-case-name: tests.test_directors -*-
"""
Ready-made directors.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any, cast

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twistproxy.core.request import ProxyRequest
from twistproxy.interfaces import IDirector
from twistproxy.rules.validity import validHost
from twistproxy.targets import TargetLike, closeTargets, isMade, targetOf
from twistproxy.upstreams import Cluster


@implementer(IDirector)
class TargetDirector:
    """
    Sends every request to one target, or to several in turn, and says who asked (X-Forwarded-For, -Host, -Proto).

    @ivar targets: where requests go.
    @cvar plain: that it neither waits nor looks at context variables, so that none need be copied for it, and that what
        it makes of a request is sure to be valid.
    """

    plain = True

    def __init__(
        self,
        targets: TargetLike | Iterable[TargetLike],
        *,
        preserveHost: bool = False,
        fixedHost: bytes | None = None,
        fence: bool = True,
        forwarded: bool = False,
        balanced: bool = False,
        reactor: Any = None,
    ) -> None:
        """
        @param targets: one target or a sequence of them, each as L{targetOf} takes it.
        @param preserveHost: keep the client's Host; the target's is the default.
        @param fixedHost: the Host to send, whatever the client's and the target's are.
        @param fence: refuse requests whose dot segments would climb out of a target's base path.
        @param forwarded: also set C{Forwarded} (RFC 7239).
        @param balanced: name several targets as one L{Cluster<twistproxy.upstreams.Cluster>}, for a
            L{BalancingTransport<twistproxy.policy.balance.BalancingTransport>} to pick from, instead of taking turns
            here.
        @param reactor: for targets that are endpoints or programs; the global reactor by default.
        @raise ValueError: if a target or C{fixedHost} is malformed, or there is no target.
        """
        if fixedHost is not None and not validHost(fixedHost):
            raise ValueError(f"the host {fixedHost!r} is invalid")
        several = isinstance(targets, Iterable) and not isinstance(targets, str)
        given: list[Any] = list(cast(Iterable[Any], targets)) if several else [targets]
        if not given:
            raise ValueError("a target is needed")
        self.targets = tuple(targetOf(target, reactor) for target in given)
        # What was given from outside belongs to whoever gave it.
        self._made = [target for target, text in zip(self.targets, given, strict=True) if isMade(text)]
        self._only = self.targets[0] if len(self.targets) == 1 else Cluster(self.targets) if balanced else None
        self._turns = cycle(self.targets)
        self._preserveHost = preserveHost
        self._fixedHost = fixedHost
        self._fence = fence
        self._forwarded = forwarded

    @property
    def policies(self) -> dict[str, Any]:
        """
        The policies that a careful operator would have for its targets: arguments of L{deliver
        <twistproxy.delivery.deliver>}.  There are none for one target, which is as good as its upstream is.
        """
        if isinstance(self._only, Cluster):
            return {"balance": "round-robin", "retries": 1, "breaker": True}
        return {}

    def direct(self, request: ProxyRequest) -> None:
        """
        See L{IDirector.direct<twistproxy.interfaces.IDirector>}.
        """
        request.setTarget(self._only or next(self._turns), self._preserveHost, self._fence)
        if self._fixedHost is not None:
            request.outbound.host = self._fixedHost
        request.setXForwarded()
        if self._forwarded:
            request.setForwarded()

    def close(self) -> Deferred[None]:
        """
        End what was started for targets that were given as strings, as soon as nobody uses it any more.

        @return: a Deferred that fires when it has ended.
        """
        return closeTargets(self._made)
