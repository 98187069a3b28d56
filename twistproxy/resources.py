# -*- test-case-name: tests.web.test_resource -*-
"""
C{ReverseProxyResource} with its default parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, Unpack

from twisted.internet.defer import Deferred

from twistproxy.core.hooks import DirectorLike, ObserverLike, TransportLike
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.proxy import HookOptions, ReverseProxy
from twistproxy.targets import TargetLike
from twistproxy.web import resource as _resource


class ResourceOptions(HookOptions, total=False):
    """
    What a L{ReverseProxyResource} passes on to its proxy.
    """

    timeouts: Timeouts | None


class TargetOptions(ResourceOptions, total=False):
    """
    All of its options.
    """

    transport: TransportLike | None
    reactor: Any
    limits: Limits | None
    observers: Sequence[ObserverLike]
    mapBack: bool
    forwardPrefix: bool


class ReverseProxyResource(_resource.ReverseProxyResource):
    """
    A reverse proxy as a leaf of any C{twisted.web} resource tree.  It has a pool of upstream connections of its own,
    which is closed with it.

    @ivar proxy: the proxy behind it.
    """

    def __init__(
        self,
        director: DirectorLike,
        transport: TransportLike | None = None,
        *,
        reactor: Any = None,
        limits: Limits | None = None,
        observers: Sequence[ObserverLike] = (),
        mapBack: bool = True,
        forwardPrefix: bool = True,
        **options: Unpack[ResourceOptions],
    ) -> None:
        """
        @param director: an L{IDirector<twistproxy.interfaces.IDirector>}, or a callable; decides where a request goes.
        @param transport: an L{ITransport<twistproxy.interfaces.ITransport>}; by default a pool of connections per
            target.
        @param reactor: the reactor; the global one by default.
        @param limits: the bounds on size.
        @param observers: L{IObserver<twistproxy.interfaces.IObserver>}s, or callables.
        @param mapBack: map C{Location}, C{Content-Location}, C{Refresh} and C{Set-Cookie} of upstreams to the public
            address.
        @param forwardPrefix: tell upstreams of the prefix that it is mounted at, by C{X-Forwarded-Prefix}.
        @param options: as for L{ReverseProxy<twistproxy.proxy.ReverseProxy>}.
        """
        network = Network.of(reactor)
        self.proxy = ReverseProxy(director, transport, reactor=network, limits=limits, **options)
        self._ownsTransport = transport is None
        super().__init__(
            self.proxy,
            network.reactor.seconds,
            limits=limits,
            observers=observers,
            mapBack=mapBack,
            forwardPrefix=forwardPrefix,
        )

    @classmethod
    def to(
        cls,
        target: TargetLike | Iterable[TargetLike],
        *,
        preserveHost: bool = False,
        fence: bool = True,
        **options: Unpack[TargetOptions],
    ) -> Self:
        """
        A resource for one target, or for several that serve the same, as in L{ReverseProxy.to
        <twistproxy.proxy.ReverseProxy.to>}.

        @param target: its address as operators write it: C{"http://host/base"}, C{"localhost:8081"},
            C{"unix:/run/app.sock"}; or anything else that L{targetOf<twistproxy.targets.targetOf>} takes; or a sequence
            of such.
        @param preserveHost: keep the client's Host.
        @param fence: refuse requests whose dot segments would climb out of the base path.
        @param options: as for L{ReverseProxyResource}.
        @raise ValueError: if C{target} is malformed or ambiguous, with one line that says what to write.
        """
        director = TargetDirector(
            target, preserveHost=preserveHost, fence=fence, balanced=True, reactor=options.get("reactor")
        )
        for name, value in director.policies.items():
            if options.get(name) is None:
                options[name] = value  # type: ignore[literal-required]
        resource = cls(director, **options)
        resource._closing = director.close
        return resource

    #: ends what belongs to the director, where that was made here
    _closing: Callable[[], Deferred[None]] | None = None

    def close(self, cut: bool = False) -> Deferred[None]:
        """
        Take no more requests, and close the upstream connections behind the last exchange.  A transport that was given
        from outside is left alone.

        @param cut: end the exchanges that are running now; otherwise they are finished.
        @return: a Deferred that fires when the last has ended.
        """
        ended = super().close(cut)
        if self._ownsTransport:
            ended.addCallback(lambda _: self.proxy.close())
        if self._closing is not None:
            closing = self._closing
            ended.addCallback(lambda _: closing())
        return ended
