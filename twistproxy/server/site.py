# -*- test-case-name: tests.server.test_site -*-
"""
C{ProxySite}: the factory to listen with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocolFactory, IProtocolNegotiationFactory
from zope.interface import implementer

from twistproxy.core.exchange import Exchange, ExchangeContext
from twistproxy.core.responders import limited
from twistproxy.deadlines import IWheelLike, Timeouts
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import IObserver, IResponder, hookOf
from twistproxy.limits import Limits
from twistproxy.wire.context import ServerContext
from twistproxy.wire.h1server import H1Server


@implementer(IProtocolFactory, IProtocolNegotiationFactory)
class ProxySite:
    """
    Serves exchanges on whatever Twisted endpoint it is listened with.

    @ivar connections: the downstream connections that are open.
    @ivar exchanges: the exchanges that are running.
    """

    noisy = False

    def __init__(
        self,
        responder: Any,
        wheel: IWheelLike,
        clock: Callable[[], float],
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        observers: Sequence[Any] = (),
        scheme: bytes = b"http",
    ) -> None:
        """
        @param responder: an L{IResponder<twistproxy.interfaces.IResponder>}, or a callable that takes over an exchange.
        @param wheel: measures the limits of time.
        @param clock: seconds, for the records.
        @param limits: the bounds.
        @param timeouts: the limits of time.
        @param observers: L{IObserver<twistproxy.interfaces.IObserver>}s or callables; told of each exchange that has
            settled.
        @param scheme: the scheme that clients of this port use.
        """
        told: list[Callable[[ExchangeRecord], None]] = [
            hookOf(observer, IObserver, "exchangeSettled") for observer in observers
        ]
        self.responder = responder
        timeouts = timeouts or Timeouts()
        self._wheel, self._mostSeconds = wheel, timeouts.exchange
        self._exchanges = ExchangeContext(self._respondOf(responder), clock, told)
        self._context = ServerContext(wheel, self._exchanges.begin, limits or Limits(), timeouts, scheme)
        self._drained: Deferred[None] | None = None

    def _respondOf(self, responder: Any) -> Callable[[Exchange], Any]:
        respond: Callable[[Exchange], Any] = hookOf(responder, IResponder, "respond")
        if self._mostSeconds is None:
            return respond
        # whatever responds: one that never answers must not hold its exchange for ever
        return limited(respond, self._wheel, self._mostSeconds)

    def _replaceResponder(self, responder: Any) -> None:
        """
        @param responder: gets the exchanges from now on.
        """
        self._exchanges.respond = self._respondOf(responder)
        self.responder = responder

    @property
    def connections(self) -> set[H1Server]:
        """
        The downstream connections that are open.
        """
        return self._context.connections

    @property
    def exchanges(self) -> set[Exchange]:
        """
        The exchanges that are running.
        """
        return {connection.exchange for connection in self._context.connections if connection.exchange is not None}

    def doStart(self) -> None:
        """
        See L{IProtocolFactory.doStart<twisted.internet.interfaces.IProtocolFactory>}.
        """

    def doStop(self) -> None:
        """
        See L{IProtocolFactory.doStop<twisted.internet.interfaces.IProtocolFactory>}.
        """

    def buildProtocol(self, addr: IAddress) -> H1Server:
        """
        See L{IProtocolFactory.buildProtocol<twisted.internet.interfaces.IProtocolFactory>}.
        """
        return H1Server(self._context)

    def acceptableProtocols(self) -> list[bytes]:
        """
        See L{IProtocolNegotiationFactory.acceptableProtocols
        <twisted.internet.interfaces.IProtocolNegotiationFactory.acceptableProtocols>}: without an answer, Twisted's TLS
        refuses every client that names the protocols it speaks.
        """
        return [b"http/1.1"]

    def drain(self) -> Deferred[None]:
        """
        Go down without losing anything: idle connections close, exchanges that run are finished and their connections
        closed behind them
        (B10.2).  Stop listening first.

        @return: a Deferred that fires when the last connection is closed.
        """
        context = self._context
        if self._drained is None:
            context.draining = True
            if not context.connections:
                return succeed(None)
            self._drained = Deferred()
            context.emptied = self._emptied
            for connection in list(context.connections):
                connection.drain()
        return self._drained

    def _emptied(self) -> None:
        drained = self._drained
        if drained is not None and not drained.called:
            drained.callback(None)

    def cut(self) -> int:
        """
        End every connection now.

        @return: how many exchanges were cut off.
        """
        running = len(self.exchanges)
        for connection in list(self._context.connections):
            connection.cut()
        return running
