# -*- test-case-name: tests.upstream.test_agenttransport -*-
"""
Any L{IAgent<twisted.web.iweb.IAgent>} as the proxy's transport: a stock Agent with a policy of its own, one that
crosses Tor, a test double.

An agent can do less than the proxy's own connections.  What is asked of it that it cannot do fails here, before
anything is sent, with an error that says so; otherwise the upstream would hear something else than the client said:

 - an upgrade: a stock Agent swallows a 101 and then chokes on the tunnel
 - trailers, where there are any: refused at the head, or the request is broken off if they come later
 - targets that a stock Agent rewrites: it drops a bare C{?}, an empty parameter behind C{;}, and anything behind
   C{#}, and cannot say C{OPTIONS *}
 - UNIX sockets, endpoints and TLS settings in the target, and limits of time per request: the agent's own affair

Other losses cannot be noticed here and are in the documentation (C{docs/agents.rst}).
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.http_headers import Headers as TwistedHeaders
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent
from zope.interface import implementer

from twistproxy.body import Discarding
from twistproxy.errors import HookFailed, MalformedMessage, ProxyError, Sent, Side, Stage, UpstreamError
from twistproxy.headers import NOT_IN_VALUE, Headers, membersOf
from twistproxy.interfaces import ITransport
from twistproxy.message import REASONS, OutboundRequest, Response, UpstreamResponse
from twistproxy.rules.fields import CONNECTION, CONTENT_LENGTH, HOP, KNOWN, TE, TRAILER, TRANSFER_ENCODING, UPGRADE
from twistproxy.rules.framing import contentLength, hasNoBody
from twistproxy.rules.hopbyhop import connectionOptions
from twistproxy.upstream.agentbodies import AgentBody
from twistproxy.upstream.agenterrors import proxyError
from twistproxy.upstream.agentuploads import TrailersLost, Upload
from twistproxy.upstream.endpoint import EndpointTarget

_isVisible = re.compile(rb"[\x21-\x7e]+").fullmatch

# What a response has for this hop only.  A stock Agent takes most of it out, others may not.
_HOP_BY_HOP = tuple(
    name
    for name, (kind, _) in KNOWN.items()
    if kind in (CONNECTION, CONTENT_LENGTH, HOP, TE, TRAILER, TRANSFER_ENCODING, UPGRADE)
)


@implementer(ITransport)
class AgentTransport:
    """
    Carries requests by an agent.
    """

    def __init__(self, agent: Any, *, exactTargets: bool = False) -> None:
        """
        @param agent: the L{IAgent<twisted.web.iweb.IAgent>}.
        @param exactTargets: whether the agent sends the target of a URI byte for byte.  A stock Agent does not, and
            neither do the agents built on it, so targets that it would change are refused.
        @raise TypeError: if C{agent} is no agent.
        """
        if not IAgent.providedBy(agent):
            raise TypeError(f"{agent!r} does not provide IAgent")
        self._agent = agent
        self._exactTargets = exactTargets
        self._name = f"agent {type(agent).__qualname__}"

    def roundTrip(self, outbound: OutboundRequest) -> Deferred[UpstreamResponse]:
        """
        See L{ITransport.roundTrip<twistproxy.interfaces.ITransport>}.  Interim responses of the upstream are never
        seen here; a client that waits for a 100 is given one when the agent asks for the body.

        @return: as there; what an agent cannot carry fails with status 501 and nothing sent.
        """
        fault = self._fault(outbound)
        if fault is not None:
            return fail(fault)
        target = outbound.upstream
        assert target is not None
        uri = target.scheme.encode("ascii") + b"://" + target.authority + outbound.target
        headers = outbound.headers.toTwisted()
        headers.setRawHeaders(b"host", [outbound.host])
        upload = None if outbound.body == b"" else self._upload(outbound, headers)
        try:
            asking: Deferred[Any] = self._agent.request(outbound.method, uri, headers, upload)
        except Exception as error:
            return fail(proxyError(error, self._name, False))
        return asking.addCallbacks(self._answered, self._failed, callbackArgs=(outbound.method,), errbackArgs=(upload,))

    def _upload(self, outbound: OutboundRequest, headers: TwistedHeaders) -> Upload:
        """
        @param headers: those for the agent.
        @return: the body for the agent.
        """
        expected = b",".join(headers.getRawHeaders(b"expect", []))
        if b"100-continue" not in membersOf(expected):
            return Upload(outbound.body)
        # The agent sends the body without waiting, and swallows the upstream's 100: nobody else can tell the client to
        # go on (RFC 9110 10.1.1 lets a proxy do that).
        headers.removeHeader(b"expect")
        tell = outbound.onInformational
        return Upload(outbound.body, None if tell is None else lambda: tell(Response(100)))

    def _fault(self, outbound: OutboundRequest) -> ProxyError | None:
        """
        @return: why the agent cannot carry a request, or C{None}.
        """
        target = outbound.upstream
        if target is None:
            return HookFailed("transport", "the request names no upstream")
        if isinstance(target, EndpointTarget) or target.socketPath is not None:
            return self._cannot(f"connect to {target.name}: it knows nothing but host and port")
        if target.tls is not None:
            return self._cannot("use the TLS settings of a target: it has its own")
        if "%" in target.host:
            return self._cannot(f"connect to {target.host}: a URI has no zone")
        if outbound.timeouts is not None:
            return self._cannot("keep limits of time for one request")
        if outbound.upgrade is not None:
            return self._cannot(f"upgrade a connection (to {outbound.upgrade!r})")
        if outbound.trailers:
            return self._cannot("send trailers")
        path = outbound.target
        if path[:1] != b"/" or _isVisible(path) is None or b"#" in path or not self._keeps(path):
            return self._cannot(f"send the target {path!r} as it is")
        return None

    def _keeps(self, path: bytes) -> bool:
        return self._exactTargets or URI.fromBytes(b"http://x" + path).originForm == path

    def _cannot(self, what: str) -> ProxyError:
        return ProxyError(f"{self._name} cannot {what}", Stage.SEND, Side.INTERNAL, Sent.NOTHING, 501)

    def _answered(self, response: Any, method: bytes) -> UpstreamResponse:
        """
        Look at what the agent has let through before it goes to a client.
        """
        try:
            return upstreamResponse(response, method)
        except (MalformedMessage, ValueError, TypeError) as error:
            AgentBody(response, None).abort()
            reason = getattr(error, "reason", None) or str(error)
            raise UpstreamError(f"a malformed response: {reason}", Stage.WAIT, Sent.ALL) from error

    def _failed(self, failure: Failure, upload: Upload | None) -> Failure:
        error = None if upload is None else upload.error
        if isinstance(error, ProxyError):
            return Failure(error)
        if isinstance(error, TrailersLost):
            lost = self._cannot(f"send what the request ended with: {error}")
            lost.sent = Sent.SOME
            return Failure(lost)
        return Failure(proxyError(failure.value, self._name, upload is not None))


def upstreamResponse(response: Any, method: bytes) -> UpstreamResponse:
    """
    @param response: an L{IResponse<twisted.web.iweb.IResponse>}.
    @param method: of its request.
    @return: the same for the proxy.
    @raise MalformedMessage: if it says its length in two ways.
    @raise ValueError: if it cannot be forwarded faithfully.
    """
    status = response.code
    if not (isinstance(status, int) and 200 <= status <= 599):
        raise ValueError(f"the status {status!r}")
    reason = response.phrase
    if not isinstance(reason, bytes) or NOT_IN_VALUE.search(reason):
        reason = REASONS.get(status, b"")
    headers = Headers.of((name, value) for name, values in response.headers.getAllRawHeaders() for value in values)
    named: frozenset[bytes] = frozenset()
    for value in headers.getAll(b"connection"):
        named |= connectionOptions(value)[1]
    lengths = {contentLength(value) for value in headers.getAll(b"content-length")}
    headers.removeAll((*_HOP_BY_HOP, *named))
    made = UpstreamResponse(status, reason, response.version[2] and 1, headers.lines, None)
    made.dated = b"date" in headers
    made.keepAlive = True
    if hasNoBody(method, status):
        if status != 204 and len(lengths) == 1:
            [made.contentLength] = lengths
        made.length = 0
        # nobody will, and its connection is not free before somebody has
        AgentBody(response, 0).deliver(Discarding())
        return made
    made.length = None if response.length is UNKNOWN_LENGTH else response.length
    made.body = made.connection = AgentBody(response, made.length)
    return made
