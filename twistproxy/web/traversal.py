# -*- test-case-name: tests.web.test_traversal -*-
"""
What is known of the way through a resource tree when only the head of a request is here.

A resource that is found or rendered before the body has come must not look at the body.  Few promise that, but of the
steps and the resources of C{twisted.web} itself it is known.  L{leadsToHead} looks along the way without taking it: it
asks nobody but those who say that they may be asked (L{IHeadTraversal}).  Where it meets a step of which nothing is
known, the body is collected first, as ever; that is slower, and never wrong.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.web._auth.wrapper import UnauthorizedResource
from twisted.web.guard import BasicCredentialFactory, DigestCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.http import parse_qs
from twisted.web.resource import Resource
from twisted.web.util import DeferredResource
from twisted.web.vhost import NameVirtualHost
from zope.interface import Interface

#: Those that read credentials out of the head; others may sign the body.
_HEAD_CREDENTIALS = (BasicCredentialFactory, DigestCredentialFactory)


class IStreamingResource(Interface):
    """
    Marks a resource that can be rendered when only the head of a request is here: it reads C{request.streamedBody}, and
    does not look at C{request.content} or at form fields in C{request.args}; or it first waits for
    C{request.collectBody()}.
    """


class IHeadTraversal(Interface):
    """
    A resource that is not a leaf, and whose children are found by nothing but the head of a request.
    """

    def getChildWithDefault(path: bytes, request: Any) -> Any:
        """
        As in C{twisted.web.resource.IResource}, with a promise: it does not look at the body, and has no effect, so
        that it may be asked when the body is still to come and once more later.  What takes its time may be a
        C{twisted.web.util.DeferredResource}.
        """


def takeURI(request: Any) -> None:
    """
    Give a request what it has of its C{uri} when its resource is looked for, as C{HTTPChannel} and C{Request.process}
    do.
    """
    request.path, _, query = request.uri.partition(b"?")
    request.args = parse_qs(query, 1)
    request.prepath = []
    request.postpath = [unquote_to_bytes(segment) for segment in request.path[1:].split(b"/")]


def atHost(hosts: Any, host: bytes) -> Any:
    """
    @param hosts: something that finds its children as a C{NameVirtualHost} does.
    @param host: what a request says in C{Host}.
    @return: the child, or C{None}.
    """
    return hosts.hosts.get(host.lower().split(b":", 1)[0], hosts.default)


def leadsToHead(request: Any, resource: Any, prepath: list[bytes], postpath: list[bytes]) -> bool:
    """
    Look along a request's way.

    @param request: the request.
    @param resource: where it begins.
    @param prepath: the steps that are behind, and
    @param postpath: those that lie ahead; both are changed, and are what the request shows to those who are asked.
    @return: whether it leads, without a look at the body, to what can be rendered without one.
    """
    while resource is not None and postpath and not resource.isLeaf:
        if isGuard(resource):
            return True  # behind it another look is taken
        name = postpath[0]
        inner = avatarOf(resource)
        if inner is not None:
            resource = inner
        elif IHeadTraversal.providedBy(resource):
            prepath.append(postpath.pop(0))
            resource = resource.getChildWithDefault(name, request)
            if type(resource) is DeferredResource:
                resource.d.addErrback(lambda _: None)  # the next one that is asked for will say so
        elif type(resource).getChildWithDefault is not Resource.getChildWithDefault:
            return False
        elif name in resource.children:
            prepath.append(postpath.pop(0))
            resource = resource.children[name]
        elif type(resource).getChild is NameVirtualHost.getChild:
            resource = atHost(resource, request.getHeader(b"host") or b"")
        else:
            return False
    return needsHeadOnly(resource)


def needsHeadOnly(resource: Any) -> bool:
    """
    @return: whether a resource can be rendered when only the head is here.
    """
    resource = behindWrappers(resource)
    kind = type(resource)
    return (
        IStreamingResource.providedBy(resource)
        or kind is DeferredResource
        or kind is UnauthorizedResource
        or isGuard(resource)
    )


def isGuard(resource: Any) -> bool:
    """
    @return: whether it is C{twisted.web.guard}'s, and asks for what stands in the head.
    """
    return type(resource) is HTTPAuthSessionWrapper and all(
        type(factory) in _HEAD_CREDENTIALS for factory in resource._credentialFactories
    )


def avatarOf(resource: Any) -> Any:
    """
    @return: what stands behind the wrapper that a guard puts around an avatar, which only waits for the end of the
        request; C{None} if it is no such wrapper.
    """
    kind = type(resource)
    if kind.__module__ == HTTPAuthSessionWrapper.__module__ and kind.__name__ == "ResourceWrapper":
        return resource.resource
    return None


def behindWrappers(resource: Any) -> Any:
    """
    @return: what stands behind all of those wrappers, of which there is one around each step below a guard; the
        resource itself if it is none.
    """
    while (inner := avatarOf(resource)) is not None:
        resource = inner
    return resource
