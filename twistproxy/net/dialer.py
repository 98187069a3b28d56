# -*- test-case-name: tests.net.test_dialer -*-
"""
Making upstream connections: names to addresses, addresses to connections, TLS on top; all by Twisted's endpoints.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.errors import ProxyError, Sent, Stage, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import IDialer
from twistproxy.net.tls import TLSSettings, clientTLS
from twistproxy.upstreams import Target


@implementer(IProtocolFactory)
class _OneProtocol:
    """
    Gives the one protocol it was made for.
    """

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def doStart(self) -> None:
        pass

    def doStop(self) -> None:
        pass

    def buildProtocol(self, addr: object) -> Any:
        # Connector and factory of an endpoint hold each other, so what this kept would have to wait for the garbage
        # collector; and of two addresses that answer at the same time only one may have it.
        protocol, self._protocol = self._protocol, None
        return protocol

    def connectBy(self, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """
        @return: what C{endpoint.connect} returns.
        """
        connecting: Deferred[Any] = endpoint.connect(self)
        return connecting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        self._protocol = None
        return failure


@implementer(IDialer)
class Dialer:
    """
    Connects to targets.
    """

    def __init__(
        self, reactor: Any, timeout: float | None, handshakeTimeout: float | None, tls: TLSSettings
    ) -> None:
        """
        @param reactor: whose sockets are used.
        @param timeout: of one attempt to connect, in seconds; the pool limits the whole.
        @param handshakeTimeout: of the TLS handshake, in seconds.
        @param tls: for targets that have no settings of their own.
        """
        self._reactor = reactor
        self._timeout = timeout
        self._handshakeTimeout = handshakeTimeout
        self._tls = tls

    def dial(
        self, target: Target, protocol: IProtocol, handshaking: Callable[[], None] | None = None
    ) -> Deferred[None]:
        """
        See L{IDialer.dial<twistproxy.interfaces.IDialer>}.
        """
        if target.scheme == "https":
            return self._dialTLS(target, protocol, handshaking)
        connecting = _OneProtocol(protocol).connectBy(self._endpoint(target))

        def connected(_: object) -> None:
            # An endpoint wraps the protocol to learn when it is connected; from here on that is only in the way.
            transport: Any = protocol.transport  # type: ignore[attr-defined]
            if transport is not None and hasattr(transport, "unsentBytes"):
                transport.protocol = protocol

        connecting.addCallbacks(connected, lambda failure: _asUpstreamError(failure, target))
        return connecting

    def _dialTLS(
        self, target: Target, protocol: IProtocol, handshaking: Callable[[], None] | None
    ) -> Deferred[None]:
        settings = target.tls if isinstance(target.tls, TLSSettings) else self._tls
        attempt = _TLSAttempt(self._reactor, self._handshakeTimeout, handshaking)
        layer = clientTLS(protocol, settings, target.host, attempt.ready, attempt.failed)
        return attempt.begin(_OneProtocol(layer).connectBy(self._endpoint(target)), layer, target)

    def _endpoint(self, target: Target) -> IStreamClientEndpoint:
        # None, and not 0, is no limit: 0 is over at once
        timeout: Any = self._timeout
        endpoint: IStreamClientEndpoint
        if target.socketPath is not None:
            endpoint = UNIXClientEndpoint(self._reactor, target.socketPath, timeout=timeout)
        elif isIPAddress(target.host):
            endpoint = TCP4ClientEndpoint(self._reactor, target.host, target.port, timeout=timeout)
        elif isIPv6Address(target.host):
            endpoint = TCP6ClientEndpoint(self._reactor, target.host, target.port, timeout=timeout)
        else:
            endpoint = HostnameEndpoint(self._reactor, target.host, target.port, timeout=timeout)
        return endpoint


class _TLSAttempt:
    """
    The way to a connection with TLS: TCP first, then the handshake, which has a limit of its own.
    """

    def __init__(
        self, reactor: Any, handshakeTimeout: float | None, handshaking: Callable[[], None] | None
    ) -> None:
        self._reactor = reactor
        self._handshakeTimeout = handshakeTimeout
        self._handshaking = handshaking
        self._result: Deferred[None] = Deferred(self._cancel)
        self._connecting: Deferred[Any] | None = None
        self._layer: Any = None
        self._timer: Any = None

    def begin(self, connecting: Deferred[Any], layer: Any, target: Target) -> Deferred[None]:
        """
        @return: a Deferred that fires when the handshake is done.
        """
        self._layer = layer
        self._connecting = connecting
        connecting.addCallbacks(self._connected, lambda failure: self._end(_error(failure, target)))
        return self._result

    def _connected(self, _: object) -> None:
        self._connecting = None
        if self._handshaking is not None:
            self._handshaking()
        if self._handshakeTimeout is not None and not self._result.called:
            self._timer = self._reactor.callLater(self._handshakeTimeout, self._timedOut)

    def ready(self) -> None:
        """
        The handshake is done.
        """
        self._end(None)

    def failed(self, error: Exception) -> None:
        """
        The handshake has failed.
        """
        wrapped = UpstreamError(f"the TLS handshake failed: {error}", Stage.TLS)
        wrapped.__cause__ = error
        self._end(wrapped)

    def _timedOut(self) -> None:
        self._timer = None
        self._layer.abortConnection()
        self._end(UpstreamTimeout("tlsHandshake", Stage.TLS))

    def _cancel(self, _: object) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        else:
            self._layer.abortConnection()
        self._stopTimer()

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _end(self, error: ProxyError | None) -> None:
        self._stopTimer()
        if self._result.called:
            return
        if error is None:
            self._result.callback(None)
        else:
            self._result.errback(error)


def _asUpstreamError(failure: Failure, target: Target) -> Failure:
    return Failure(_error(failure, target))


def _error(failure: Failure, target: Target) -> ProxyError:
    """
    @return: why there is no connection; nothing of a request was sent.
    """
    cause = failure.value
    error: ProxyError
    if isinstance(cause, ProxyError):
        return cause
    if isinstance(cause, ConnectTimeoutError):
        error = UpstreamTimeout("connect", Stage.CONNECT)
    elif isinstance(cause, ConnectionRefusedError):
        error = UpstreamError(f"{target.name} refused the connection", Stage.CONNECT)
    elif isinstance(cause, DNSLookupError):
        error = UpstreamError(f"the name {target.host} cannot be resolved", Stage.CONNECT)
    elif isinstance(cause, CancelledError):
        error = UpstreamError("given up", Stage.CONNECT)
    else:
        number = getattr(cause, "osError", None)
        known = (
            errno.errorcode.get(number, "") if isinstance(cause, ConnectError) and number is not None else ""
        )
        detail = known or failure.getErrorMessage()
        error = UpstreamError(f"{target.name} cannot be reached: {detail}", Stage.CONNECT, Sent.NOTHING)
    error.__cause__ = cause
    return error
