# -*- test-case-name: tests.test_proxy -*-
"""
C{ReverseProxy} and C{ProxySite} with their default parts: what most users begin with.

The flow itself is in L{twistproxy.core.proxy}; here it is given a transport, a timer wheel, and the defaults of a
careful operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypedDict, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.web.resource import IResource
from twisted.web.server import Site

from twistproxy.agents import ProxyAgent
from twistproxy.core.hooks import (
    DirectorLike,
    ErrorHandlerLike,
    ModifierLike,
    ObserverLike,
    RequestFilterLike,
    ResponderLike,
    ResponseFilterLike,
    TransportLike,
)
from twistproxy.core.proxy import ProxyFlow
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.delivery import BalancerLike, BreakerLike, RetriesLike, deliver
from twistproxy.directors import TargetDirector
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.net.tls import TLSSettings
from twistproxy.server import site as _site
from twistproxy.targets import TargetLike
from twistproxy.upstream.pool import PoolSettings
from twistproxy.web.tree import TreeSite, isTree, responderFor


class HookOptions(TypedDict, total=False):
    """
    Options that everything around a L{ReverseProxy} passes on to it, for type checkers.
    """

    settings: ProxySettings | None
    pool: PoolSettings | None
    tls: TLSSettings | None
    modifyResponse: ModifierLike | None
    errorHandler: ErrorHandlerLike | None
    requestFilters: Sequence[RequestFilterLike]
    responseFilters: Sequence[ResponseFilterLike]
    balance: BalancerLike | None
    retries: RetriesLike | None
    breaker: BreakerLike | None


class ProxyOptions(HookOptions, total=False):
    """
    All of a L{ReverseProxy}'s options but its transport.
    """

    reactor: Any
    timeouts: Timeouts | None
    limits: Limits | None


class TargetOptions(ProxyOptions, total=False):
    """
    All of them.
    """

    transport: TransportLike | None


class ReverseProxy(ProxyFlow):
    """
    A reverse proxy: give it to a L{ProxySite} to serve with.
    """

    def __init__(
        self,
        director: DirectorLike,
        transport: TransportLike | None = None,
        *,
        reactor: Any = None,
        settings: ProxySettings | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        pool: PoolSettings | None = None,
        tls: TLSSettings | None = None,
        modifyResponse: ModifierLike | None = None,
        errorHandler: ErrorHandlerLike | None = None,
        requestFilters: Sequence[RequestFilterLike] = (),
        responseFilters: Sequence[ResponseFilterLike] = (),
        balance: BalancerLike | None = None,
        retries: RetriesLike | None = None,
        breaker: BreakerLike | None = None,
    ) -> None:
        """
        @param director: an L{IDirector<twistproxy.interfaces.IDirector>}, or a callable; decides where a request goes.
        @param transport: an L{ITransport<twistproxy.interfaces.ITransport>}; by default a
            L{ProxyAgent.default<twistproxy.agents.ProxyAgent.default>}, which keeps a pool of connections per target.
        @param reactor: the reactor; the global one by default.
        @param settings: the policies.
        @param timeouts: the limits of time.
        @param limits: the bounds on size, for the default transport.
        @param pool: the bounds of the default transport's pools.
        @param tls: how the default transport speaks TLS with upstreams; verified by default.
        @param modifyResponse: an L{IResponseModifier<twistproxy.interfaces.IResponseModifier>}, or a callable.
        @param errorHandler: an L{IErrorHandler<twistproxy.interfaces.IErrorHandler>}, or a callable.
        @param requestFilters: L{IBodyFilter<twistproxy.interfaces.IBodyFilter>}s, or callables.
        @param responseFilters: the same for responses.
        @param balance: who picks members, if C{director} names L{Cluster<twistproxy.upstreams.Cluster>}s; as for
            L{deliver}.
        @param retries: how many tries may follow the first one; none by default.
        @param breaker: whether to leave upstreams alone that keep failing; not by default.
        """
        network = Network.of(reactor)
        timeouts = timeouts or Timeouts()
        if transport is None:
            transport = ProxyAgent.default(network, timeouts=timeouts, limits=limits, pool=pool, tls=tls)
        super().__init__(
            director,
            deliver(transport, reactor=network, balance=balance, retries=retries, breaker=breaker),
            settings=settings or ProxySettings(),
            timeouts=timeouts,
            wheel=network.wheel,
            clock=network.reactor,
            modifyResponse=modifyResponse,
            errorHandler=errorHandler,
            requestFilters=requestFilters,
            responseFilters=responseFilters,
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
        A proxy for one target, or for several that serve the same.

        Several are used in turn, and unless C{options} say otherwise, what could not be sent to one goes to another one
        (C{retries=1}), and one that keeps failing is left alone for a while (C{breaker=True}).

        @param target: its address as operators write it: C{"http://host/base"}, C{"localhost:8081"},
            C{"unix:/run/app.sock"}; or anything else that L{targetOf<twistproxy.targets.targetOf>} takes; or a sequence
            of such.
        @param preserveHost: keep the client's Host.
        @param fence: refuse requests whose dot segments would climb out of the base path.
        @param options: as for L{ReverseProxy}.
        @raise ValueError: if C{target} is malformed or ambiguous, with one line that says what to write.
        """
        director = TargetDirector(
            target, preserveHost=preserveHost, fence=fence, balanced=True, reactor=options.get("reactor")
        )
        for name, value in director.policies.items():
            if options.get(name) is None:
                options[name] = value  # type: ignore[literal-required]
        proxy = cls(director, **options)
        proxy._closing = director.close
        return proxy

    #: ends what belongs to the director, where that was made here
    _closing: Callable[[], object] | None = None

    def close(self) -> None:
        """
        Close idle upstream connections now, the others as their exchanges end.
        """
        if hasattr(self.transport, "close"):
            self.transport.close()
        if self._closing is not None:
            self._closing()


def _ofTree(name: str) -> Any:
    """
    @return: a property of a L{ProxySite} that is an attribute of its tree's C{twisted.web.server.Site}.
    """

    def get(site: ProxySite) -> Any:
        return getattr(site.webSite, name)

    def set(site: ProxySite, value: Any) -> None:
        setattr(site.webSite, name, value)

    return property(get, set)


class ProxySite(_site.ProxySite):
    """
    The factory to listen with: see L{twistproxy.server.site.ProxySite}.  It serves a responder, or a tree of
    C{twisted.web} resources.

    Of a tree it offers what a C{twisted.web.server.Site} does: C{resource}, C{requestFactory}, C{displayTracebacks}
    (off by default), C{sessions}, C{sessionFactory}, C{makeSession}, C{getSession} and C{getResourceFor}.
    """

    requestFactory = _ofTree("requestFactory")
    displayTracebacks = _ofTree("displayTracebacks")
    sessions = _ofTree("sessions")
    sessionFactory = _ofTree("sessionFactory")
    makeSession = _ofTree("makeSession")
    getSession = _ofTree("getSession")
    getResourceFor = _ofTree("getResourceFor")

    def __init__(
        self,
        responder: ResponderLike | IResource,
        *,
        reactor: Any = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        observers: Sequence[ObserverLike] = (),
        requestFactory: Any = None,
        parsePOSTFormSubmission: bool = True,
    ) -> None:
        """
        @param responder: an L{IResponder<twistproxy.interfaces.IResponder>} (a L{ReverseProxy}, say), a callable, or
            the root of a tree, an L{IResource<twisted.web.resource.IResource>}.
        @param reactor: the reactor; the global one by default.
        @param limits: the bounds on what one client can make the proxy hold.
        @param timeouts: the limits of time towards clients.
        @param observers: L{IObserver<twistproxy.interfaces.IObserver>}s, or callables.
        @param requestFactory: makes the requests of a tree, as for C{twisted.web.server.Site}.
        @param parsePOSTFormSubmission: whether to parse forms into C{request.args}, for a tree.
        @raise TypeError: if C{responder} is none of these.
        """
        network = Network.of(reactor)
        self._webSite: TreeSite | None = None
        if isTree(responder):
            self._webSite = site = TreeSite(
                responder,
                requestFactory,
                parsePOSTFormSubmission=parsePOSTFormSubmission,
                reactor=network.reactor,
            )
            self._treeLimits = limits
            responder = responderFor(site, limits)
        elif isinstance(responder, Site):
            raise TypeError("ProxySite takes the place of a Site, and not one itself: give it site.resource")
        super().__init__(
            responder,
            network.wheel,
            network.reactor.seconds,
            limits=limits,
            timeouts=timeouts,
            observers=observers,
        )
        self.network = network

    @property
    def webSite(self) -> TreeSite:
        """
        The C{twisted.web.server.Site} that the resources of a tree see.

        @raise AttributeError: if this site serves no tree.
        """
        if self._webSite is None:
            raise AttributeError("this site serves a responder, and no tree of resources")
        return self._webSite

    @property
    def resource(self) -> Any:
        """
        The root of the tree; another one may take its place while the site runs.
        """
        return self.webSite.resource

    @resource.setter
    def resource(self, root: Any) -> None:
        self.webSite.resource = root
        self._replaceResponder(responderFor(self.webSite, self._treeLimits))

    def listen(self, endpoint: str) -> Deferred[IListeningPort]:
        """
        Listen, on the fast transports where there are any.

        @param endpoint: a server endpoint as Twisted writes them: C{"tcp:8080"}, C{"unix:/run/proxy.sock"}.
        @return: a Deferred of the port, as from L{IStreamServerEndpoint.listen
            <twisted.internet.interfaces.IStreamServerEndpoint>}.
        @raise ValueError: if C{endpoint} is none.
        """
        return serverFromString(self.network.reactor, endpoint).listen(self)
