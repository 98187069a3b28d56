# -*- test-case-name: tests.upstream.test_asgi -*-
"""
An ASGI application as a responder, and its life: it is told to start before the first request, and to end behind the
last one.

It runs in the event loop of the asyncio reactor; there is no other way to run what awaits asyncio's futures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from twistproxy.core.errorpage import plainResponse
from twistproxy.errors import Stage, Unavailable
from twistproxy.globalreactor import reactorOf
from twistproxy.interfaces import IResponder
from twistproxy.upstream.asgicall import Call, scopeOf
from twistproxy.upstream.inmemory import InMemoryEndpoint


def checkReactor(reactor: Any) -> None:
    """
    @raise RuntimeError: if C{reactor} does not run in asyncio's event loop.
    """
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    # a facade passes all on to the reactor that runs, its class excepted
    if not isinstance(getattr(reactor, "_reactor", reactor), AsyncioSelectorReactor):
        raise RuntimeError(
            "an ASGI application needs the asyncio reactor: start with 'twist --reactor=asyncio', or call "
            "twisted.internet.asyncioreactor.install() before anything imports the reactor"
        )


@implementer(IResponder)
class ASGIApplication:
    """
    Answers exchanges by an ASGI application.

    @ivar calls: those that are running.
    @ivar state: what the application has kept when it started.
    """

    _log = Logger()

    def __init__(
        self, application: Callable[..., Any], *, rootPath: str, lifespan: bool, linger: float, grace: float
    ) -> None:
        """
        @param application: takes C{scope}, C{receive} and C{send}.
        @param rootPath: where the application is mounted, for its own links.
        @param lifespan: whether to tell it of its start and its end.
        @param linger: how long a call may go on when its client has left, in seconds.
        @param grace: how long starting, ending, and the calls that run then may take, in seconds.
        """
        self.application = application
        self.name = getattr(application, "__name__", type(application).__name__)
        self.calls: set[Call] = set()
        self.state: dict[str, Any] = {}
        self._rootPath = rootPath
        self._lifespan = lifespan
        self._linger = linger
        self._grace = grace
        self._starting: asyncio.Future[None] | None = None
        self._life: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[str] = asyncio.Queue()
        self._ending: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    # -- requests

    def respond(self, exchange: Any) -> None:
        """
        See L{IResponder.respond<twistproxy.interfaces.IResponder>}.
        """
        request = exchange.request
        if request.fault is not None:
            exchange.answer(plainResponse(request.fault.status, request.fault.reason))
        elif self._closing is not None:
            exchange.answer(plainResponse(503, "the application is closed"))
        elif request.upgrade is not None and b"websocket" in request.upgrade.lower():
            exchange.answer(plainResponse(501, "no upgrade over ASGI targets"))
        else:
            call = Call(self.application, scopeOf(request, self._rootPath, self.state), exchange, self._linger)
            self.calls.add(call)
            call.task.add_done_callback(lambda _: self.calls.discard(call))
            exchange.run(call.flow())

    # -- lifespan

    @property
    def started(self) -> bool:
        """
        Whether the application is ready.
        """
        return self._starting is not None and self._starting.done() and self._starting.exception() is None

    async def start(self) -> None:
        """
        Tell the application to start, once, and wait until it has.

        @raise Unavailable: if it has failed, or has been closed.
        """
        if self._closing is not None:
            raise Unavailable(f"the ASGI application {self.name} is closed", Stage.CONNECT)
        if self._starting is None:
            loop = asyncio.get_running_loop()
            self._starting = loop.create_future()
            self._starting.add_done_callback(lambda future: future.exception())
            if self._lifespan:
                self._ending = loop.create_future()
                self._life = loop.create_task(self._live())
                self._events.put_nowait("lifespan.startup")
                late = f"it has not started within {self._grace:g} s"
                limit = loop.call_later(self._grace, self._started, late)
                self._starting.add_done_callback(lambda _: limit.cancel())
            else:
                self._starting.set_result(None)
        await asyncio.shield(self._starting)

    def _started(self, problem: str | None) -> None:
        starting = self._starting
        if starting is None or starting.done():
            return
        if problem is None:
            starting.set_result(None)
            return
        reason = f"the ASGI application {self.name} did not start: {problem}"
        self._log.error("{reason}; its requests get 503", reason=reason)
        starting.set_exception(Unavailable(reason, Stage.CONNECT))

    async def _live(self) -> None:
        """
        Be the application's life.
        """
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}

        async def receive() -> dict[str, Any]:
            return {"type": await self._events.get()}

        try:
            await self.application(scope, receive, self._told)
        except Exception as error:
            if not self.started:
                # It knows nothing of lifespans, says the specification.
                self._log.info("{name} takes no part in its lifespan: {error!r}", name=self.name, error=error)
            else:
                self._log.failure("{name} failed outside of all requests", name=self.name)
        self._started(None)
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(None)

    async def _told(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._started(None)
        elif kind == "lifespan.startup.failed":
            self._started(message.get("message") or "it says no more")
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            if kind.endswith("failed"):
                self._log.error("{name} did not end well: {why}", name=self.name, why=message.get("message", ""))
            if self._ending is not None and not self._ending.done():
                self._ending.set_result(None)
        else:
            raise RuntimeError(f"{kind!r} does not belong into a lifespan")

    async def close(self) -> None:
        """
        Take no more requests, let those that are running end, then tell the application that it is over.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        running = [call.task for call in self.calls]
        if running:
            _, late = await asyncio.wait(running, timeout=self._grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=self._grace)
        if self._life is None:
            return
        if self.started and not self._life.done() and self._ending is not None:
            self._events.put_nowait("lifespan.shutdown")
            await asyncio.wait([self._ending], timeout=self._grace)
        self._life.cancel()
        await asyncio.wait([self._life], timeout=self._grace)


class ASGIEndpoint(InMemoryEndpoint):
    """
    Connects when the application has started.

    @ivar application: the application.
    """

    def __init__(self, application: ASGIApplication, factory: Any, reactor: Any = None) -> None:
        super().__init__(factory, reactor)
        self.application = application
        self._closed: Deferred[None] | None = None
        self._used = False
        self._trigger: Any = None

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        See L{IStreamClientEndpoint.connect<twisted.internet.interfaces.IStreamClientEndpoint>}.
        """
        if self._closed is not None:
            return fail(Unavailable(f"the ASGI application {self.application.name} is closed", Stage.CONNECT))
        if not self._used:
            self._used = True
            self._trigger = reactorOf(self._reactor).addSystemEventTrigger("before", "shutdown", self._shutDown)
        if self.application.started:
            return super().connect(protocolFactory)
        connect = super().connect
        starting = Deferred.fromFuture(asyncio.ensure_future(self.application.start()))
        return starting.addCallback(lambda _: connect(protocolFactory))

    def _shutDown(self) -> Deferred[None]:
        self._trigger = None
        return self.close()

    def close(self) -> Deferred[None]:
        """
        See L{ASGIApplication.close}.

        @return: a Deferred that fires when it is done.
        """
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            reactorOf(self._reactor).removeSystemEventTrigger(trigger)
        if self._closed is None:
            # where nobody has ever come, there may not even be a loop
            closing = self.application.close() if self._used else None
            self._closed = succeed(None) if closing is None else Deferred.fromFuture(asyncio.ensure_future(closing))
        closed: Deferred[None] = Deferred()
        self._closed.addCallback(lambda _: closed.callback(None))
        return closed
