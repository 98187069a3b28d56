# -*- test-case-name: tests.test_service -*-
"""
The running proxy as a Twisted service: it listens when it starts, and goes down without losing an exchange when it
stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistproxy.deadlines import Timeouts
from twistproxy.demo import demoSite
from twistproxy.directors import TargetDirector
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.net.tls import TLSSettings
from twistproxy.observe.access import AccessLog
from twistproxy.observe.counters import Counters
from twistproxy.proxy import ProxySite, ReverseProxy
from twistproxy.targets import closeTargets
from twistproxy.upstream.endpoint import EndpointDialer, EndpointTarget
from twistproxy.upstreams import Target


class CannotStart(Exception):
    """
    The service cannot start; its text is one line that says why and what to do.
    """


class BadEndpoint(CannotStart):
    """
    What to listen on is no endpoint.
    """


@attrs.define(kw_only=True)
class ServiceParts:
    """
    What a service is made of.

    @ivar network: sockets and time.
    @ivar proxy: the proxy.
    @ivar targets: where it sends requests, for the log.
    @ivar listen: server endpoint strings.
    @ivar grace: how long running exchanges may take when the service stops, in seconds.
    @ivar access: the access log, if there is one.
    @ivar tls: how targets are spoken to over TLS.
    @ivar demo: whether to serve the demo origin and send all requests there.
    """

    network: Network
    proxy: ReverseProxy
    targets: Sequence[Target]
    listen: Sequence[str]
    timeouts: Timeouts
    limits: Limits
    grace: float = 30.0
    access: AccessLog | None = None
    tls: TLSSettings | None = None
    demo: bool = False


class ProxyService(Service):
    """
    Listens, serves, drains.

    @ivar counters: counts of all exchanges.
    @ivar site: the factory in use.
    """

    name = "twistproxy"
    _log = Logger()

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self.counters = Counters()
        observers: list[Any] = [self.counters]
        if parts.access is not None:
            observers.append(parts.access)
        self.site = ProxySite(
            parts.proxy,
            reactor=parts.network,
            limits=parts.limits,
            timeouts=parts.timeouts,
            observers=observers,
        )
        self.ports: list[IListeningPort] = []
        self._demoPort: Any = None
        self._stopping: Deferred[None] | None = None
        self._cut = 0
        self._graceCall: Any = None
        self._probes: set[Deferred[None]] = set()

    def startService(self) -> None:
        """
        Listen on every endpoint.

        @raise CannotStart: if one of them cannot be listened on.
        """
        super().startService()
        parts = self._parts
        if parts.demo:
            self._startDemo()
        for description in parts.listen:
            self._listen(description)
        self._log.info(
            "twistproxy listens on {addresses}, forwards to {targets} ({limits})",
            addresses=", ".join(_addressText(port.getHost()) for port in self.ports) or "nothing yet",
            targets=", ".join(_targetText(target) for target in parts.targets) or "the demo origin",
            limits=self._limitsText(),
        )
        if not parts.demo:
            for target in parts.targets:
                if type(target) in (Target, EndpointTarget):
                    # others are in this process, or started when they are needed
                    self._probe(target)

    def _startDemo(self) -> None:
        """
        Serve the demo origin on a free port of the loopback interface.
        """
        port: Any = self._parts.network.reactor.listenTCP(0, demoSite(), interface="127.0.0.1")
        self._demoPort = port
        target = Target("http", "127.0.0.1", port.getHost().port)
        self._parts.proxy.useDirector(TargetDirector(target))

    def _listen(self, description: str) -> None:
        failures: list[Failure] = []
        starting = True

        def failed(failure: Failure) -> None:
            failures.append(failure)
            if not starting:
                # an endpoint that took its time; there is nobody any more to raise it to
                self._log.failure("cannot listen on {description}", failure, description=description)

        try:
            listening = serverFromString(self._parts.network.reactor, description).listen(self.site)
        except Exception as error:
            self._giveUp()
            # a TypeError tells of functions inside of Twisted
            reason = error if isinstance(error, ValueError) else "malformed"
            raise BadEndpoint(
                f"cannot listen on '{description}': {reason}; write tcp:8080, or tcp:8080:interface=\\:\\:1"
            ) from error
        listening.addCallbacks(self.ports.append, failed)
        starting = False
        if failures:
            self._giveUp()
            cause: Any = failures[0].value
            reason = getattr(cause, "socketError", None) or cause
            raise CannotStart(f"cannot listen on {description}: {reason}; choose another endpoint with --listen")

    def _giveUp(self) -> None:
        """
        The service does not start after all.
        """
        self._stopListening()
        if self._demoPort is not None:
            self._demoPort.stopListening()

    def _limitsText(self) -> str:
        timeouts = self._parts.timeouts
        body = self._parts.proxy.settings.maxRequestBody
        return (
            f"connect {_seconds(timeouts.connect)}, response head {_seconds(timeouts.responseHead)}, "
            f"keep-alive {_seconds(timeouts.keepAlive)}, request bodies "
            f"{'unlimited' if body is None else f'up to {body} bytes'}, grace {_seconds(self._parts.grace)}"
        )

    def _probe(self, target: Target) -> None:
        """
        Say so if a target cannot be reached now; it may be there when it is needed (B10.3).
        """
        connection = Protocol()
        connection.factory = Factory()
        dialer = EndpointDialer(self._parts.network.dialer(self._parts.timeouts, self._parts.tls))
        probing = dialer.dial(target, connection)
        self._probes.add(probing)

        def reached(_: object) -> None:
            transport: Any = connection.transport
            if transport is not None:
                transport.abortConnection()

        def failed(failure: Failure) -> None:
            if self.running:
                self._log.warn(
                    "target {target} cannot be reached now ({reason}); requests get 502 until it can",
                    target=_targetText(target),
                    reason=failure.getErrorMessage(),
                )

        def forget(_: object) -> None:
            self._probes.discard(probing)

        probing.addCallbacks(reached, failed).addBoth(forget)

    def reopenLogs(self) -> None:
        """
        Open the access log anew, for log rotation.
        """
        if self._parts.access is not None:
            self._parts.access.reopen()
            self._log.info("access log reopened")

    # -- going down

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, close idle connections, let running exchanges end for as long as the grace lasts, then cut them
        (B10.2).

        @return: a Deferred that fires when all is done.
        """
        if self._stopping is None:
            super().stopService()
            self._stopping = self._drain()
        return self._stopping

    def _drain(self) -> Deferred[None]:
        parts = self._parts
        for probing in list(self._probes):
            probing.cancel()
        running = len(self.site.exchanges)
        if running:
            self._log.info("draining: {running} exchanges are running", running=running)
        done: Deferred[None] = Deferred()
        self._stopListening().addBoth(lambda _: self.site.drain()).chainDeferred(done)
        self._graceCall = parts.network.reactor.callLater(parts.grace, self.cutNow)
        return done.addBoth(self._finished)

    def cutNow(self) -> None:
        """
        Do not wait any longer.
        """
        self._cut += self.site.cut()

    def _stopListening(self) -> Deferred[Any]:
        ports, self.ports = self.ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    def _finished(self, _: object) -> Any:
        if self._graceCall is not None and self._graceCall.active():
            self._graceCall.cancel()
        parts = self._parts
        transport: Any = parts.proxy.transport
        if hasattr(transport, "cut"):
            transport.cut()
        return closeTargets(parts.targets).addCallback(self._closed)

    def _closed(self, _: object) -> Any:
        parts = self._parts
        if parts.access is not None:
            parts.access.close()
        counters = self.counters.counts()
        failed = sum(counters.failures.values())
        self._log.info(
            "twistproxy has stopped: {exchanges} exchanges, {failed} failed, {cut} cut off; "
            "{received} bytes of request and {sent} of response bodies",
            exchanges=counters.exchanges,
            failed=failed,
            cut=self._cut,
            received=counters.requestBytes,
            sent=counters.responseBytes,
        )
        if self._demoPort is not None:
            return maybeDeferred(self._demoPort.stopListening)
        # Stock transports reset an aborted connection in the next turn, and a process that has ended by then closes it
        # in order instead, as if what was cut were complete.
        return deferLater(parts.network.reactor, 0)


def _addressText(address: Any) -> str:
    host = getattr(address, "host", None)
    if host is None:
        name = getattr(address, "name", None)
        return f"unix:{name.decode() if isinstance(name, bytes) else name}" if name else str(address)
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{address.port}"


def _targetText(target: Target) -> str:
    path = target.path.decode("ascii") + ("?" + target.query.decode("ascii") if target.query else "")
    if target.socketPath is not None:
        return target.name + (":" + path if path else "")
    if isinstance(target, EndpointTarget):
        return target.name + path
    return f"{target.scheme}://{target.authority.decode('ascii')}{path}"


def _seconds(value: float | None) -> str:
    return "off" if value is None else f"{value:g} s"
