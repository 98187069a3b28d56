# -*- test-case-name: tests.test_tap -*-
"""
The command: C{twist revproxy}.

Nothing here imports the reactor before the service is made, so that C{twist --reactor=...} decides which one it is.
"""

from __future__ import annotations

import signal
from typing import Any, NoReturn

import attrs
from twisted.application.service import IService
from twisted.logger import Logger

from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.net.tls import TLSSettings
from twistproxy.observe.access import FORMATS, AccessLog
from twistproxy.options import EX_USAGE, Options, exitWith
from twistproxy.policy.retry import Retries
from twistproxy.proxy import ReverseProxy
from twistproxy.service import BadEndpoint, CannotStart, ProxyService, ServiceParts, freezeWhatExists
from twistproxy.signals import Termination, catchSignals
from twistproxy.targets import targetOf
from twistproxy.upstream.pool import PoolSettings

_log = Logger()


def makeService(options: Options) -> IService:
    """
    Make the service that C{twist} runs.
    """
    from twisted.internet import reactor

    parts = serviceParts(options, reactor)
    if options["workers"] == 1:
        return CommandService(reactor, parts)
    return _supervisor(options, reactor, parts)


def _supervisor(options: Options, reactor: Any, parts: ServiceParts) -> IService:
    """
    @return: the service that runs several workers.  Its own parts have shown that they can be made, and are not used.
    """
    from twistproxy.workers.command import CommandSupervisor, availableCPUs

    if parts.access is not None:
        parts.access.close()
    workers = availableCPUs() if options["workers"] == "auto" else options["workers"]
    level = getattr(options.parent and options.parent.get("logLevel"), "name", "info")
    _warnOfTLS(parts)
    return CommandSupervisor(reactor, parts, workers, options.arguments, _cannotStart, level)


def _cannotStart(error: CannotStart) -> NoReturn:
    exitWith(EX_USAGE if isinstance(error, BadEndpoint) else 1, str(error))


def _warnOfTLS(parts: ServiceParts) -> None:
    if parts.tls is not None and not parts.tls.verify:
        _log.warn("certificates of https targets are NOT verified (--insecure-upstream): anybody can pose as them")


def serviceParts(options: Options, reactor: Any) -> ServiceParts:
    """
    @return: the parts of the service that the options ask for.
    """
    settings = _settings(options)
    network = Network(reactor, hub=False) if options["stock-transports"] else Network.of(reactor)
    timeouts = attrs.evolve(Timeouts(), **options["limits"])
    limits = Limits()
    tls = _tlsSettings(options)
    try:
        targets = [targetOf(target, network) for target in options["targets"]]
    except ValueError as error:
        exitWith(EX_USAGE, str(error))
    host = options["host"]
    director: Any = (
        _noDirector
        if options["demo"]
        else TargetDirector(
            targets,
            preserveHost=bool(options["preserve-host"]),
            fixedHost=None if host is None else host.encode("ascii"),
            fence=not options["no-fence"],
            forwarded=bool(options["forwarded"]),
            balanced=True,
        )
    )
    proxy = ReverseProxy(
        director,
        reactor=network,
        settings=settings,
        timeouts=timeouts,
        limits=limits,
        pool=PoolSettings(maxConnections=options["max-connections"]),
        tls=tls,
        balance=options["balance"] if len(targets) > 1 else None,
        retries=Retries(most=options["retries"], statuses=options["retry-on"]) if options["retries"] else None,
        breaker=options["breaker"],
    )
    return ServiceParts(
        network=network,
        proxy=proxy,
        targets=targets,
        listen=options["listen"],
        timeouts=timeouts,
        limits=limits,
        grace=options["grace"],
        access=_accessLog(options, reactor),
        tls=tls,
        demo=bool(options["demo"]),
        explain=bool(options["explain"]),
    )


def _settings(options: Options) -> ProxySettings:
    """
    @return: the policies that the options ask for.
    """
    try:
        return ProxySettings(
            trustedProxies=tuple(options["trusted"]),
            via=None if options["via"] == "none" else options["via"],
            rawQuery=bool(options["raw-query"]),
            strictPaths=bool(options["strict-paths"]),
            allowTrace=bool(options["allow-trace"]),
            maxRequestBody=options["max-body"],
            flushInterval=options["flush-interval"],
        )
    except ValueError as error:
        exitWith(EX_USAGE, str(error))


def _noDirector(request: Any) -> None:
    raise RuntimeError("the demo origin is not running yet")


def _tlsSettings(options: Options) -> TLSSettings:
    """
    @return: how https targets are spoken to; unreadable files end the command.
    """
    tls = TLSSettings(
        verify=not options["insecure-upstream"],
        caFile=options["upstream-ca"],
        certificate=options["upstream-cert"],
        key=options["upstream-key"],
        serverName=options["upstream-name"],
    )
    try:
        tls.context()
    except OSError as error:
        files = [options[name] for name in ("upstream-ca", "upstream-cert", "upstream-key") if options[name]]
        exitWith(1, f"cannot use the certificate files {', '.join(files)}: {error}")
    return tls


def _accessLog(options: Options, reactor: Any) -> AccessLog | None:
    if options["no-access-log"]:
        return None
    path = None if options["access-log"] == "-" else options["access-log"]
    try:
        return AccessLog(path, FORMATS[options["access-format"]](), reactor)
    except OSError as error:
        exitWith(1, f"cannot write the access log {path}: {error.strerror}; choose another file with --access-log")


class CommandService(ProxyService):
    """
    The service with what belongs to a process of its own: signals, and a tamed garbage collector.
    """

    def __init__(self, reactor: Any, parts: ServiceParts) -> None:
        super().__init__(parts)
        self._reactor = reactor
        self._terminate = Termination(reactor, lambda: self.cutNow(), self._log)
        _warnOfTLS(parts)

    def startService(self) -> None:
        """
        Listen; if that fails, say so in one line and end.
        """
        try:
            super().startService()
        except CannotStart as error:
            _cannotStart(error)
        # From here on clients can connect, so a signal must not kill them; the reactor starts a little later.
        self._catchSignals()
        self._reactor.callWhenRunning(self._running)

    def _running(self) -> None:
        """
        The reactor runs, and has installed its own signal handlers; ours drain first.
        """
        self._catchSignals()
        freezeWhatExists()

    def _catchSignals(self) -> None:
        catchSignals(
            self._reactor,
            {signal.SIGTERM: self._terminate, signal.SIGINT: self._terminate, signal.SIGUSR1: self.reopenLogs},
        )
