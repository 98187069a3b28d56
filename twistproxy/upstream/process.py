# -*- test-case-name: tests.upstream.test_process -*-
"""
A program as an upstream: started when the first request wants it, watched, and ended with the proxy.

The program is a value like every target; behind its endpoint stands one
L{Supervisor<twistproxy.upstream.supervisor.Supervisor>}.  Requests wait for it as connections that are being made.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.globalreactor import reactorOf
from twistproxy.upstream.endpoint import EndpointTarget
from twistproxy.upstream.program import Program
from twistproxy.upstream.supervisor import Supervision, Supervisor


@attrs.frozen(init=False, eq=False)
class ProcessTarget(EndpointTarget):
    """
    A program that is started on demand.
    """

    def __init__(
        self,
        argv: Sequence[str] | str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        host: str = "localhost",
        path: bytes = b"",
        supervision: Supervision | None = None,
        reactor: Any = None,
    ) -> None:
        """
        @param argv: the program and its arguments, as a list, or as a string that is split as a shell would, without
            being one.  C{{port}} in them stands for the port of 127.0.0.1 that the program is to listen on, or
            C{{socket}} for the path of a UNIX socket.  It finds the same in the environment, as C{PORT} or C{SOCKET}.
        @param env: what to add to the environment, where the same may stand in values.
        @param cwd: the folder to start it in.
        @param host: what stands in C{Host}, unless the client's is kept.
        @param path: the base path.
        @param supervision: how it is started, restarted and ended.
        @param reactor: the reactor; the global one by default.
        @raise ValueError: if there is no such program, or the arguments make no sense, with one line that says why.
        """
        program = _program(argv, dict(env or {}), cwd)
        self.__attrs_init__(
            scheme="http",
            host=host,
            port=80,
            path=path,
            endpoint=ProcessEndpoint(program, supervision or Supervision(), lambda: self.findReactor(reactor)),
            called=f"exec:{os.path.basename(program.arguments[0])}",
        )

    #: how to find the reactor, when it is needed
    findReactor = staticmethod(reactorOf)

    def close(self) -> Deferred[None]:
        """
        Start it no more, and end it as soon as no connection to it is open.

        @return: a Deferred that fires when it has ended.
        """
        endpoint: ProcessEndpoint = self.endpoint
        return endpoint.supervisor.close()


def _program(argv: Sequence[str] | str, env: dict[str, str], cwd: str | None) -> Program:
    """
    @raise ValueError: if it cannot be started.
    """
    try:
        arguments = shlex.split(argv) if isinstance(argv, str) else list(argv)
    except ValueError as error:
        raise ValueError(f"the program {argv!r} is malformed: {error}; quote it as for a shell") from None
    if not arguments or any("\0" in each for each in arguments):
        raise ValueError(f"{argv!r} names no program; write it with its arguments: python -m http.server {{port}}")
    texts = [*arguments, *env.values()]
    socket = any("{socket}" in each for each in texts)
    if socket and any("{port}" in each for each in texts):
        raise ValueError(f"the program {arguments[0]!r} is to listen on {{port}} and on {{socket}}; write one of them")
    if cwd is not None and not os.path.isdir(cwd):
        raise ValueError(f"the folder {cwd!r} for the program {arguments[0]!r} does not exist")
    name = arguments[0]
    # as the program itself would take it, from where it runs
    asked = os.path.join(cwd or "", name) if os.sep in name else name
    executable = shutil.which(asked, path=env.get("PATH", os.environ.get("PATH")))
    if executable is None:
        raise ValueError(f"there is no program {name!r} that can be run; write its path, or see what PATH holds")
    return Program(os.path.abspath(executable), arguments, env, cwd, socket)


@implementer(IStreamClientEndpoint)
class ProcessEndpoint:
    """
    Connects to a program, when that is ready.

    @ivar supervisor: who starts it and ends it.
    """

    def __init__(self, program: Program, supervision: Supervision, reactor: Callable[[], Any]) -> None:
        """
        @param reactor: gives the reactor.
        """
        self.supervisor = Supervisor(program, supervision, reactor)

    def __repr__(self) -> str:
        return f"<ProcessEndpoint {self.supervisor!r}>"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        See L{IStreamClientEndpoint.connect<twisted.internet.interfaces.IStreamClientEndpoint>}.
        """
        return _Way(self.supervisor, protocolFactory).result


class _Way:
    """
    The way to one connection: first the program, then the connection itself.
    """

    def __init__(self, supervisor: Supervisor, factory: Any) -> None:
        self._supervisor = supervisor
        self._factory = factory
        self._using = False
        self.result: Deferred[Any] = Deferred(self._cancel)
        self._step: Deferred[Any] | None = supervisor.ready()
        self._step.addCallbacks(self._connect, self._failed)

    def _connect(self, endpoint: Any) -> None:
        self._supervisor.use()
        self._using = True
        self._step = endpoint.connect(_Counting(self._factory, self._supervisor))
        self._step.addCallbacks(self._connected, self._failed)

    def _connected(self, protocol: Any) -> None:
        self._step = None
        if not self.result.called:
            self.result.callback(protocol.inner)

    def _failed(self, failure: Failure) -> None:
        self._step = None
        if self._using:
            self._supervisor.leave()
        if not self.result.called:
            self.result.errback(failure)

    def _cancel(self, _: object) -> None:
        if self._step is not None:
            self._step.cancel()


@implementer(IProtocolFactory)
class _Counting:
    """
    Wraps the protocols of a factory to learn when their connection is lost.
    """

    noisy = False

    def __init__(self, factory: Any, supervisor: Supervisor) -> None:
        self._factory = factory
        self._supervisor = supervisor

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        inner = self._factory.buildProtocol(addr)
        return None if inner is None else _Counted(inner, self._supervisor)


@implementer(IProtocol, IHalfCloseableProtocol)
class _Counted:
    """
    Passes everything on.
    """

    factory: Any = None

    def __init__(self, inner: Any, supervisor: Supervisor) -> None:
        self.inner = inner
        self._supervisor = supervisor

    def makeConnection(self, transport: Any) -> None:
        self.inner.makeConnection(transport)

    def connectionMade(self) -> None:
        """
        The inner protocol was told by C{makeConnection}.
        """

    def dataReceived(self, data: bytes) -> None:
        self.inner.dataReceived(data)

    def readConnectionLost(self) -> None:
        self.inner.readConnectionLost()

    def writeConnectionLost(self) -> None:
        self.inner.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        self._supervisor.leave()
        self.inner.connectionLost(reason)
