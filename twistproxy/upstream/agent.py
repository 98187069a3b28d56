# -*- test-case-name: tests.upstream.test_agent,tests.upstream.test_agentstory -*-
"""
The native transport, dressed as what the Twisted world knows: an Agent on an C{HTTPConnectionPool}.

Three ways lead to the same connections::

    ReverseProxy --begin, roundTrip--> ProxyAgent -------.
    treq, any user of IAgent --request--> ProxyAgent -----+--> PooledTransport --> H1Client
    a stock Agent(pool=...) --getConnection--> ProxyConnectionPool --'

The pool subclasses L{twisted.web.client.HTTPConnectionPool} at its one public seam, C{getConnection}; nothing of the
stock connections is used.  A stock Agent brings an endpoint of its own, with its own idea of whom to trust, so the
connections that its endpoints make are kept apart from those that the pool has dialed.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers as TwistedHeaders
from twisted.web.iweb import IAgent
from zope.interface import implementer

from twistproxy.events import ExchangeRecord
from twistproxy.headers import TOKEN, fieldLine, membersOf
from twistproxy.interfaces import ICallbackTransport, ITransport
from twistproxy.message import OutboundRequest, UpstreamResponse
from twistproxy.rules.fields import OF_CONNECTION
from twistproxy.rules.target import parseTarget
from twistproxy.rules.validity import validHost
from twistproxy.upstream.agentbodies import AgentResponse, ClientRequest
from twistproxy.upstream.agenterrors import agentFailure
from twistproxy.upstream.agentuploads import ProducedBody
from twistproxy.upstream.endpoint import EndpointTarget
from twistproxy.upstream.transport import PooledTransport
from twistproxy.upstreams import Target

# A scheme, an authority, whatever becomes the target, and a fragment, which is never sent.
_isURI = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^#]*)(?:#.*)?").fullmatch
_isVisible = re.compile(rb"[\x21-\x7e]+").fullmatch

# Framing is computed from the body, and the connection is the pool's; Host stands apart.
_OURS = OF_CONNECTION | {b"host", b"content-length"}


def splitURI(uri: bytes) -> tuple[Target, bytes]:
    """
    Take an absolute URI apart without changing a byte of what goes into the request line, except that a fragment is
    left out and an empty path becomes C{/} (RFC 9112 3.2.1).

    @return: where to connect, and the request target.
    @raise SchemeNotSupported: if it is neither C{http} nor C{https}.
    @raise ValueError: if it is malformed.
    @raise TypeError: if it is not bytes.
    """
    if not isinstance(uri, bytes):
        raise TypeError(f"a URI is bytes, not {uri!r}")
    if _isVisible(uri) is None:
        raise ValueError(f"the URI {uri!r} is empty, or has characters in it that must be escaped")
    match = _isURI(uri)
    if match is None:
        raise ValueError(f"the URI {uri!r} is not absolute")
    scheme, authority, target = match.groups()
    if scheme.lower() not in (b"http", b"https"):
        raise SchemeNotSupported(f"Unsupported scheme: {scheme!r}")
    return _targetAt(f"{scheme.decode()}://{authority.decode()}"), target if target[:1] == b"/" else b"/" + target


@lru_cache(maxsize=1024)
def _targetAt(base: str) -> Target:
    return parseTarget(base)


def outboundOf(
    request: ClientRequest, target: Target, path: bytes, body: Any, record: ExchangeRecord
) -> OutboundRequest:
    """
    @param request: as a user of an agent asked for it.
    @param target: where it goes.
    @param path: the request target.
    @param body: an L{IBodyProducer<twisted.web.iweb.IBodyProducer>}, or C{None}.
    @raise ValueError: for what would break the head, and for what no agent can carry.
    @raise TypeError: if the method is not bytes.
    """
    if not isinstance(request.method, bytes):
        raise TypeError(f"a method is bytes, not {request.method!r}")
    if TOKEN.fullmatch(request.method) is None or request.method == b"CONNECT":
        raise ValueError(f"the method {request.method!r} cannot be used")
    headers = request.headers
    if headers.hasHeader(b"upgrade"):
        raise ValueError("an upgrade cannot be had through request(), whose responses are no tunnels; use roundTrip()")
    hosts = headers.getRawHeaders(b"host", [target.authority])
    if len(hosts) != 1 or not validHost(hosts[0]):
        raise ValueError(f"a request has one valid Host, not {hosts!r}")
    lines = [
        fieldLine(name, value)
        for name, values in headers.getAllRawHeaders()
        if name.lower() not in _OURS
        for value in values
    ]
    given = b"" if body is None else ProducedBody(body)
    outbound = OutboundRequest(request.method, path, target, hosts[0], lines, given, record)
    outbound.acceptsTrailers = b"trailers" in membersOf(b",".join(headers.getRawHeaders(b"te", [])))
    return outbound


class PooledConnection:
    """
    What L{ProxyConnectionPool.getConnection} hands out: the right to send one request.  Which connection carries it is
    decided when it is sent, and given up the same moment if none is free and the line is full.
    """

    def __init__(self, pool: ProxyConnectionPool, target: Target) -> None:
        self._pool = pool
        self._target = target

    def request(self, request: Any) -> Deferred[Any]:
        """
        Send a request.

        @param request: as L{twisted.web.client.Agent} makes them: C{method}, C{uri} (the request target), C{headers},
            C{bodyProducer}, C{persistent} and C{absoluteURI}.
        @return: a Deferred of the L{IResponse<twisted.web.iweb.IResponse>}, fired at the head.  Cancelling it ends the
            request at once.
        """
        asked = ClientRequest(request.method, request.absoluteURI, request.headers)
        return self._pool.ask(self._target, request.uri, asked, request.bodyProducer)

    def __repr__(self) -> str:
        return f"<PooledConnection to {self._target.name}>"


class ProxyConnectionPool(HTTPConnectionPool):
    """
    An C{HTTPConnectionPool} of the proxy's own connections, for L{ProxyAgent} and for stock Agents.

    Its bounds are those of L{PoolSettings<twistproxy.upstream.pool.PoolSettings>} and L{Timeouts
    <twistproxy.deadlines.Timeouts>}, fixed when it is made; setting one of the stock pool's attributes raises, since
    nothing would come of it.

    @ivar transport: where the connections are.
    """

    def __init__(self, reactor: Any, transport: PooledTransport, persistent: bool = True) -> None:
        """
        @param reactor: the reactor.
        @param transport: the connections; its dialer has to know L{EndpointTarget}s if stock Agents are to use this.
        @param persistent: whether connections carry more than one request of an agent.
        """
        super().__init__(reactor, persistent)
        self.transport = transport

    def _fixed(self, value: object) -> NoReturn:
        raise AttributeError(
            "a ProxyConnectionPool takes its bounds when it is made: PoolSettings(maxIdle=...) for "
            "maxPersistentPerHost, Timeouts(upstreamIdle=...) for cachedConnectionTimeout; it retries what is safe"
        )

    maxPersistentPerHost = property(lambda self: self.transport.settings.maxIdle, _fixed)
    cachedConnectionTimeout = property(lambda self: self.transport.timeouts.upstreamIdle, _fixed)
    retryAutomatically = property(lambda self: True, _fixed)

    def getConnection(self, key: Hashable, endpoint: Any) -> Deferred[Any]:
        """
        See C{HTTPConnectionPool.getConnection}.

        @param key: what a stock Agent makes: scheme, host and port, as bytes.
        @param endpoint: how to connect if no connection is free.
        @return: a Deferred of a L{PooledConnection}.
        """
        match key:
            case (bytes() as scheme, bytes() as host, int() as port) if scheme in (b"http", b"https"):
                target = EndpointTarget(scheme.decode(), host.decode(), port, endpoint=endpoint, pooledAs=key)
            case _:
                # an agent of another kind; Host comes from it in any case
                target = EndpointTarget("http", "endpoint", 80, endpoint=endpoint, pooledAs=key)
        known = self.transport.pools.get(target.key)
        if known is not None:
            # As in the stock pool: it is the latest endpoint that connects.
            known.target = target
        return succeed(PooledConnection(self, target))

    def ask(self, target: Target, path: bytes, request: ClientRequest, bodyProducer: Any) -> Deferred[Any]:
        """
        Send a request.

        @param target: where it goes.
        @param path: the request target.
        @param bodyProducer: the body, or C{None}.
        @return: a Deferred of an L{AgentResponse}; its failures are those of an Agent (L{agentFailure}).
        """
        try:
            outbound = outboundOf(request, target, path, bodyProducer, ExchangeRecord(self._reactor.seconds))
        except (TypeError, ValueError):
            return fail()
        if not self.persistent:
            outbound.lines.append(b"Connection: close")

        def answered(response: UpstreamResponse) -> AgentResponse:
            return AgentResponse(response, request, self._reactor)

        return self.transport.roundTrip(outbound).addCallbacks(answered, _failed)

    def closeCachedConnections(self) -> Deferred[None]:
        """
        Close all idle connections; new ones are made when they are needed.

        @return: a Deferred that fires when they are closed.
        """
        closing: list[Deferred[None]] = []
        for pool in self.transport.pools.values():
            for connection in pool.idle.copy():
                transport = connection.transport
                connection.abort()
                closing.append(Deferred.fromCoroutine(self._closed(transport)))
        return gatherResults(closing).addCallback(lambda _: None)

    async def _closed(self, transport: Any) -> None:
        while transport.connected:
            await deferLater(self._reactor, 0)

    def close(self) -> None:
        """
        Close idle connections now and the others as they become free, and make no new ones.
        """
        self.transport.close()

    def cut(self) -> None:
        """
        Close every connection now.
        """
        self.transport.cut()


def _failed(failure: Failure) -> Failure:
    return failure if failure.check(CancelledError) else agentFailure(failure)


@implementer(IAgent, ITransport, ICallbackTransport)
class ProxyAgent:
    """
    One pool of connections for the proxy and for everything else in the process that speaks HTTP: an L{ITransport
    <twistproxy.interfaces.ITransport>}, and an L{IAgent<twisted.web.iweb.IAgent>} for treq and its like.

    @ivar pool: the pool.
    """

    def __init__(self, pool: ProxyConnectionPool) -> None:
        self.pool = pool
        # The hot path: not one call more than without an agent.
        self.begin = pool.transport.begin  # type: ignore[method-assign]

    def begin(self, outbound: OutboundRequest, receiver: Any) -> None:
        """
        See L{ICallbackTransport.begin<twistproxy.interfaces.ICallbackTransport>}.
        """
        self.pool.transport.begin(outbound, receiver)

    def roundTrip(self, outbound: OutboundRequest) -> Deferred[UpstreamResponse]:
        """
        See L{ITransport.roundTrip<twistproxy.interfaces.ITransport>}.
        """
        return self.pool.transport.roundTrip(outbound)

    @property
    def pools(self) -> Any:
        """
        The connections, by L{Target.key<twistproxy.upstreams.Target>}.
        """
        return self.pool.transport.pools

    def request(
        self, method: bytes, uri: bytes, headers: TwistedHeaders | None = None, bodyProducer: Any = None
    ) -> Deferred[Any]:
        """
        See L{IAgent.request<twisted.web.iweb.IAgent>}.  What is wrong with the arguments fails the Deferred.

        Other than a stock Agent's, the request target has every byte of C{uri} in it.  C{Content-Length} and
        C{Transfer-Encoding} of the caller's are replaced by those of the body.
        """
        try:
            target, path = splitURI(uri)
        except (TypeError, ValueError, SchemeNotSupported):
            return fail()
        asked = ClientRequest(method, uri, TwistedHeaders() if headers is None else headers)
        return self.pool.ask(target, path, asked, bodyProducer)

    def close(self) -> None:
        """
        Close idle connections now and the others as they become free, and make no new ones.
        """
        self.pool.close()

    def cut(self) -> None:
        """
        Close every connection now.
        """
        self.pool.cut()
