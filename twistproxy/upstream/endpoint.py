# -*- test-case-name: tests.upstream.test_endpoint -*-
"""
Upstreams behind any of Twisted's client endpoints: an SSH channel, a SOCKS proxy, the standard streams of a process, a
network in memory.

A request goes where its L{Target<twistproxy.upstreams.Target>} says, so an endpoint travels in one.  Whatever the
endpoint does below HTTP, TLS above all, is its own business; only the end of a TLS handshake is waited for, because
Twisted's endpoints call a connection made before it, and whoever asks why a request failed wants to know that nothing
of it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IProtocol,
    IProtocolFactory,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.errors import Stage, UpstreamError
from twistproxy.interfaces import IDialer
from twistproxy.upstream.agenterrors import connectError
from twistproxy.upstreams import Target

#: What a name can have in it: all that is visible.
_IN_NAMES = "".join(map(chr, range(0x21, 0x7F))).replace('"', "")


@attrs.frozen
class EndpointTarget(Target):
    """
    A target that is reached by an endpoint.  Scheme, host and port only tell what stands in C{Host} and in the log.

    @ivar endpoint: the L{IStreamClientEndpoint<twisted.internet.interfaces.IStreamClientEndpoint>}.
    @ivar pooledAs: under what to keep its connections; the endpoint itself by default, so two targets share
        connections if they share the endpoint.
    @ivar called: the target as it stands in logs, if host and port do not tell enough.
    """

    endpoint: Any = None
    pooledAs: Hashable = None
    called: str | None = None
    key: Hashable = attrs.field(init=False)
    name: str = attrs.field(init=False)

    @key.default
    def _endpointKey(self) -> Hashable:
        return ("endpoint", self.endpoint if self.pooledAs is None else self.pooledAs)

    @name.default
    def _calledName(self) -> str:
        # one word, as it stands among others in the access log
        return self._name() if self.called is None else quote(self.called, safe=_IN_NAMES)


@implementer(IDialer)
class EndpointDialer:
    """
    Connects by the endpoints of L{EndpointTarget}s, and leaves other targets to another dialer.
    """

    def __init__(self, dialer: Any) -> None:
        """
        @param dialer: an L{IDialer<twistproxy.interfaces.IDialer>}.
        """
        self._dialer = dialer

    def dial(
        self, target: Target, protocol: IProtocol, handshaking: Callable[[], None] | None = None
    ) -> Deferred[None]:
        """
        See L{IDialer.dial<twistproxy.interfaces.IDialer>}.  What an endpoint does is one step: the limit of time for
        connecting holds for its TLS handshake too.
        """
        if isinstance(target, EndpointTarget):
            return _Attempt(protocol, target.name).begin(target.endpoint)
        dialed: Deferred[None] = self._dialer.dial(target, protocol, handshaking)
        return dialed


@implementer(IProtocolFactory)
class _Attempt:
    """
    The way to one connection: what the endpoint does, then perhaps a TLS handshake.
    """

    noisy = False

    def __init__(self, protocol: Any, name: str) -> None:
        self._name = name
        self._entrance = _Entrance(protocol, self)
        self._connecting: Deferred[Any] | None = None
        self._result: Deferred[None] = Deferred(self._cancel)

    def begin(self, endpoint: Any) -> Deferred[None]:
        """
        @return: a Deferred that fires when the protocol is connected.
        """
        self._connecting = connecting = endpoint.connect(self)
        connecting.addCallbacks(self._connected, self._failed)
        return self._result

    def doStart(self) -> None:
        pass

    def doStop(self) -> None:
        pass

    def buildProtocol(self, addr: object) -> Any:
        """
        See L{IProtocolFactory.buildProtocol<twisted.internet.interfaces.IProtocolFactory>}.
        """
        return self._entrance

    def _connected(self, _: object) -> None:
        self._connecting = None
        if not INegotiated.providedBy(self._entrance.transport) or self._entrance.shaken:
            self.ready()

    def ready(self) -> None:
        """
        The connection stands, TLS and all.
        """
        if self._connecting is None and self._entrance.transport is not None and not self._result.called:
            self._entrance.enter()
            self._result.callback(None)

    def lost(self, reason: Failure) -> None:
        """
        The connection went before it stood.
        """
        if not self._result.called:
            error = UpstreamError(f"the TLS handshake with {self._name} failed: {reason.getErrorMessage()}", Stage.TLS)
            error.__cause__ = reason.value
            self._result.errback(error)

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        if not self._result.called:
            self._result.errback(connectError(failure.value, self._name))

    def _cancel(self, _: object) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        elif self._entrance.transport is not None:
            self._entrance.transport.abortConnection()


@implementer(IProtocol, IHalfCloseableProtocol, IHandshakeListener)
class _Entrance:
    """
    Stands between an endpoint's transport and a protocol that is only connected when everything below it is.

    @ivar transport: the endpoint's transport.
    @ivar shaken: whether a TLS handshake has been completed.
    """

    factory: Any = None

    def __init__(self, protocol: Any, attempt: _Attempt) -> None:
        self._protocol = protocol
        self._attempt: _Attempt | None = attempt
        self._entered = False
        self.transport: Any = None
        self.shaken = False

    def enter(self) -> None:
        """
        Connect the protocol.
        """
        self._entered = True
        self._attempt = None
        self._protocol.makeConnection(self.transport)

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def connectionMade(self) -> None:
        pass

    def handshakeCompleted(self) -> None:
        """
        See L{IHandshakeListener.handshakeCompleted<twisted.internet.interfaces.IHandshakeListener>}.
        """
        self.shaken = True
        if self._attempt is not None:
            self._attempt.ready()

    def dataReceived(self, data: bytes) -> None:
        if self._entered:
            self._protocol.dataReceived(data)
        else:
            # nobody has asked for anything yet
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        if self._entered:
            self._protocol.readConnectionLost()
        else:
            self.transport.abortConnection()

    def writeConnectionLost(self) -> None:
        if self._entered:
            self._protocol.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        attempt, self._attempt = self._attempt, None
        if self._entered:
            self._protocol.connectionLost(reason)
        elif attempt is not None:
            attempt.lost(reason)
