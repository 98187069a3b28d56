# -*- test-case-name: tests.web.test_tree -*-
"""
A tree of C{twisted.web} resources, served by our own wire.

When the head of a request is here its resource is looked for.  Down static children and virtual hosts that takes a few
look-ups and no request object; anything else is asked with a true C{twisted.web.server.Request}, whose body is empty
at that time::

    found                                what happens
    takes exchanges (a proxy)            it is given the exchange: nothing of the body has been read
    a Deferred of a resource             that is waited for; what comes of it counts
    what a guard has let pass            the same for what it guards
    streams (IStreamingResource)         rendered now, with the body in request.streamedBody
    says no (404, 401)                   rendered now; nobody wants the body
    anything else                        the body is collected, up to a bound, and then it is rendered

The request is then led through what a stock channel calls, in the same order, so that subclasses see what they know;
only C{getResourceFor} is not asked twice, since looking for a resource may have an effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.guard import HTTPAuthSessionWrapper
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import Request as SiteRequest
from twisted.web.server import Site
from twisted.web.util import DeferredResource
from twisted.web.vhost import NameVirtualHost
from zope.interface import implementer

from twistproxy.core.draft import draftResponse, identify
from twistproxy.core.errorpage import errorResponse
from twistproxy.core.exchange import Exchange
from twistproxy.core.settings import ProxySettings
from twistproxy.errors import ClientError
from twistproxy.interfaces import IResponder
from twistproxy.limits import Limits
from twistproxy.message import Request
from twistproxy.web.collected import CollectedContent, streamedBody
from twistproxy.web.entering import enterFrom
from twistproxy.web.mounted import IExchangeResource
from twistproxy.web.sitechannel import ExchangeChannel, asked
from twistproxy.web.traversal import IStreamingResource, atHost, behindWrappers, takeURI

_SETTINGS = ProxySettings()

#: Module and name of stock resources that render an error and nothing else.
_SAYING_NO = {
    (HTTPAuthSessionWrapper.__module__, "UnauthorizedResource"),
    ("twisted.web.pages", "_ErrorPage"),
    ("twisted.web.resource", "_UnsafeErrorPage"),
    ("twisted.web.resource", "_UnsafeForbiddenResource"),
    ("twisted.web.resource", "_UnsafeNoResource"),
}


class TreeSite(Site):
    """
    The site of a tree: what C{request.site} is.  It is not listened with; sessions and what else a
    C{twisted.web.server.Site} keeps for its resources are here.
    """

    def getResourceFor(self, request: Any) -> Any:
        """
        See C{twisted.web.server.Site.getResourceFor}.  The answer for a request that has been looked up at its head is
        known.
        """
        channel = getattr(request, "channel", None)
        found = getattr(channel, "found", None)
        if channel is None or found is None:
            return super().getResourceFor(request)
        channel.found = None
        return found.restore(request)


class Found:
    """
    What a look-up at the head has found, and the request as it was then.

    @ivar resource: the resource, C{None} if looking for it failed.
    """

    _KEPT = ("method", "uri", "path", "prepath", "postpath")

    def __init__(self, request: Any) -> None:
        """
        @param request: the request, about to be looked up.
        """
        self.resource: Any = None
        self.failure: Failure | None = None
        self._query = request.args.copy()
        self._args: Any = None
        self._kept: dict[str, Any] = {}

    def keep(self, request: Any) -> None:
        """
        @param request: the request, as the look-up has left it.
        """
        self._kept = {name: getattr(request, name) for name in self._KEPT}
        self._args = request.args

    def restore(self, request: Any) -> Any:
        """
        @param request: the same request, made ready to be looked up once more.
        @return: the resource.
        """
        for name, value in self._kept.items():
            setattr(request, name, value)
        form = {name: values for name, values in request.args.items() if self._query.get(name) != values}
        request.args = self._args
        request.args.update(form)
        if self.failure is not None:
            self.failure.raiseException()
        return self.resource


@implementer(IResponder)
class ResourceTree:
    """
    Answers exchanges with the resources of a tree.

    @ivar site: the L{TreeSite}.
    """

    _log = Logger()

    def __init__(
        self,
        site: TreeSite,
        *,
        limits: Limits | None = None,
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        """
        @param site: the site; its C{resource} is the root of the tree.
        @param limits: the bounds; C{collected} is the one on bodies.
        @param wallClock: seconds since the epoch.
        """
        self.site = site
        self._limits = limits or Limits()
        self._wallClock = wallClock

    def respond(self, exchange: Exchange) -> Any:
        """
        See L{IResponder.respond<twistproxy.interfaces.IResponder>}.
        """
        request = exchange.request
        if request.fault is None and request.target[:1] == b"/":
            resource, prepath = self._walk(request)
            if resource is not None and IExchangeResource.providedBy(resource):
                return resource.enter(exchange, prepath)
        identify(request, _SETTINGS, exchange.record)
        if request.fault is None and request.method == b"CONNECT":
            request.fault = ClientError("CONNECT asks for a forward proxy, which this is not", 405)
        if request.fault is not None:
            exchange.record.error = request.fault
            response = errorResponse(request.fault, request, exchange.record.requestID)
            draftResponse(response, self._wallClock())
            exchange.answer(response)
            return None
        self._begin(exchange)
        return None

    def _walk(self, request: Request) -> tuple[Any, list[bytes]]:
        """
        Go as far down the tree as can be gone without a request object.

        @return: the resource that the request's path leads to, or C{None} if that is not known yet; and the segments
            that lead to it.
        """
        path = request.target.partition(b"?")[0]
        segments = path[1:].split(b"/")
        if b"%" in path:
            segments = [unquote_to_bytes(segment) for segment in segments]
        resource, step, last = self.site.resource, 0, len(segments)
        while step < last and not resource.isLeaf:
            sort = type(resource)
            if getattr(sort, "getChildWithDefault", None) is not Resource.getChildWithDefault:
                return None, []
            child = resource.children.get(segments[step])
            if child is not None:
                step += 1
                resource = child
            elif sort.getChild is NameVirtualHost.getChild:
                resource = atHost(resource, request.host)
                if resource is None:
                    return None, []
            else:
                return None, []
        return resource, segments[:step]

    # -- with a request object

    def _begin(self, exchange: Exchange) -> None:
        """
        Make the request of an exchange, and look for its resource.
        """
        channel = ExchangeChannel(exchange, self.site, self._wallClock)
        factory = self.site.requestFactory
        arguments = (channel,) if INonQueuedRequestFactory.providedBy(factory) else (channel, 0)
        request = channel.request = factory(*arguments)
        for line in exchange.request.lines:
            name, _, value = line.partition(b":")
            request.requestHeaders.addRawHeader(name, value.strip(b" \t"))
        host = exchange.request.host
        if host and request.requestHeaders.getRawHeaders(b"host") != [host]:
            # RFC 9112 3.2.2: what a whole URL says counts, and no Host
            request.requestHeaders.setRawHeaders(b"Host", [host])
        request.parseCookies()
        exchange.run(channel.flow())
        if exchange.request.target == b"*":
            self._collect(channel)
            return
        request.method, request.uri, request.clientproto = asked(exchange)
        takeURI(request)
        request.site, request.content = self.site, BytesIO()
        found = Found(request)
        try:
            resource = channel.within(self.site.getResourceFor, request)
        except Exception:
            found.failure = Failure()
            resource = None
        self._found(channel, found, resource)

    def _found(self, channel: ExchangeChannel, found: Found, resource: Any) -> None:
        """
        A resource was found, or C{None} if that failed.
        """
        if getattr(type(resource), "render", None) is DeferredResource.render:
            waiting: Deferred[Any] = resource.d
            channel.waitsFor(waiting)
            waiting.addBoth(self._arrived, channel, found)
            return
        request = channel.request
        if resource is not None and IExchangeResource.providedBy(resource):
            enterFrom(channel, resource, self._limits)
            return
        found.resource = resource
        found.keep(request)
        channel.found = found
        renderNow = False
        if resource is not None and IStreamingResource.providedBy(resource):
            request.streamedBody, request.expectations = streamedBody(channel)
            renderNow = request.streamedBody is not None
        elif _wantsNoBody(resource):
            # a request that does what it likes may not even look for its resource
            plain = getattr(type(request), "process", None) is SiteRequest.process
            renderNow = plain and type(channel.exchange.request.body) is not bytes
        else:
            # the wrapper around a proxy only wants to be told of the end
            renderNow = IExchangeResource.providedBy(behindWrappers(resource))
        if renderNow:
            request.gotLength(0)
            channel.render()
            return
        self._collect(channel)

    def _arrived(self, result: Any, channel: ExchangeChannel, found: Found) -> None:
        """
        What a guard, say, had to wait for.
        """
        channel.waitsFor(None)
        if channel.over:
            return
        resource = None
        if isinstance(result, Failure):
            found.failure = result
        else:
            try:
                resource = channel.within(getChildForRequest, result, channel.request)
            except Exception:
                found.failure = Failure()
        self._found(channel, found, resource)

    def _collect(self, channel: ExchangeChannel) -> None:
        """
        Collect the body, then render.
        """
        if not channel.over:
            CollectedContent(channel, self._limits.collected).begin()


def _wantsNoBody(resource: Any) -> bool:
    """
    @return: whether it is one of those resources that say no, whatever the body is.
    """
    sort = type(resource)
    return sort is Resource or (sort.__module__, sort.__name__) in _SAYING_NO


def responderFor(site: TreeSite, limits: Limits | None = None) -> Any:
    """
    @param site: the site; its C{resource} is the root of the tree.
    @param limits: the bounds.
    @return: what serves a tree.  One that is nothing but a proxy is entered without being walked.
    """
    root = site.resource
    if IExchangeResource.providedBy(root) and getattr(root, "isLeaf", False):
        return lambda exchange: root.enter(exchange, ())
    return ResourceTree(site, limits=limits)


def isTree(root: Any) -> bool:
    """
    @return: whether C{root} is the root of a tree, and no responder.
    """
    return IResource.providedBy(root) and not IResponder.providedBy(root)
