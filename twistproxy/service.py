# -*- test-case-name: tests.test_service -*-
"""
The running proxy as a Twisted service: it listens when it starts, and goes down without losing an exchange when it
stops.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistproxy.core.explained import Explained
from twistproxy.deadlines import Timeouts
from twistproxy.demo import demoSite
from twistproxy.directors import TargetDirector
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.net.tls import TLSSettings
from twistproxy.observe.access import AccessLog
from twistproxy.observe.counters import Counters, Counts
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
    @ivar explain: whether every exchange is explained in the log; trusted proxies of C{proxy} may ask in any case.
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
    explain: bool = False


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
        responder: Any = parts.proxy
        trusted = parts.proxy.settings.trustedProxies
        if parts.explain or trusted:
            responder = Explained(responder, always=parts.explain, trusted=trusted)
        self.site = ProxySite(
            responder,
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
        self._started()

    def _started(self) -> None:
        """
        Say what it does now, and look at the targets.
        """
        parts = self._parts
        logStarted(self._log, parts, [port.getHost() for port in self.ports])
        self._probeTargets()

    def _probeTargets(self) -> None:
        if not self._parts.demo:
            for target in self._parts.targets:
                if type(target) in (Target, EndpointTarget):
                    # others are in this process, or started when they are needed
                    self._probe(target)

    def _endpoint(self, description: str) -> IStreamServerEndpoint:
        """
        @return: what a server endpoint string means.
        """
        return serverFromString(self._parts.network.reactor, description)

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
            listening = self._endpoint(description).listen(self.site)
        except Exception as error:
            self._giveUp()
            raise badEndpoint(description, error) from error
        listening.addCallbacks(self.ports.append, failed)
        starting = False
        if failures:
            self._giveUp()
            cause: Any = failures[0].value
            raise cannotListen(description, cause)

    def _giveUp(self) -> None:
        """
        The service does not start after all.
        """
        self._stopListening()
        if self._demoPort is not None:
            self._demoPort.stopListening()

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
                    "target {target} cannot be reached now ({reason}); {consequence} until it can",
                    target=_targetText(target),
                    reason=failure.getErrorMessage(),
                    consequence="requests get 502" if len(self._parts.targets) == 1 else "others get its requests",
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
        self._stopped()
        if self._demoPort is not None:
            return maybeDeferred(self._demoPort.stopListening)
        # Stock transports reset an aborted connection in the next turn, and a process that has ended by then closes it
        # in order instead, as if what was cut were complete.
        return deferLater(parts.network.reactor, 0)

    def _stopped(self) -> None:
        """
        Say what it has done.
        """
        logStopped(self._log, self.counters.counts(), self._cut)


def freezeWhatExists() -> None:
    """
    Take what exists now, which lives as long as the process, out of the garbage collector's sight: it need not look at
    it again and again.
    """
    gc.collect()
    gc.freeze()


def badEndpoint(description: str, error: Exception) -> BadEndpoint:
    """
    @return: the error for what is no endpoint.
    """
    # a TypeError tells of functions inside of Twisted
    reason = error if isinstance(error, ValueError) else "malformed"
    return BadEndpoint(f"cannot listen on '{description}': {reason}; write tcp:8080, or tcp:8080:interface=\\:\\:1")


def cannotListen(description: str, error: BaseException) -> CannotStart:
    """
    @return: the error for an endpoint that cannot be listened on.
    """
    reason = getattr(error, "socketError", None) or error
    return CannotStart(f"cannot listen on {description}: {reason}; choose another endpoint with --listen")


def logStarted(log: Logger, parts: ServiceParts, addresses: Sequence[Any], workers: int | None = None) -> None:
    """
    Say what a service does now, in one line.

    @param workers: in how many processes, if it is several that do it.
    """
    log.info(
        "twistproxy listens on {addresses}, forwards to {targets} ({limits})",
        addresses=", ".join(map(_addressText, addresses)) or "nothing yet",
        targets=", ".join(_targetText(target) for target in parts.targets) or "the demo origin",
        limits=_limitsText(parts) + ("" if workers is None else f", workers {workers}"),
    )


def logStopped(log: Logger, counts: Counts, cut: int) -> None:
    """
    Say what a service has done, in one line.

    @param cut: how many exchanges were cut off.
    """
    log.info(
        "twistproxy has stopped: {exchanges} exchanges, {failed} failed, {cut} cut off; "
        "{received} bytes of request and {sent} of response bodies",
        exchanges=counts.exchanges,
        failed=sum(counts.failures.values()),
        cut=cut,
        received=counts.requestBytes,
        sent=counts.responseBytes,
    )


def _limitsText(parts: ServiceParts) -> str:
    timeouts = parts.timeouts
    body = parts.proxy.settings.maxRequestBody
    return (
        f"connect {_seconds(timeouts.connect)}, response head {_seconds(timeouts.responseHead)}, "
        f"keep-alive {_seconds(timeouts.keepAlive)}, request bodies "
        f"{'unlimited' if body is None else f'up to {body} bytes'}, grace {_seconds(parts.grace)}"
    )


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
