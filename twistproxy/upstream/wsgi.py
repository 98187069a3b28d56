# -*- test-case-name: tests.upstream.test_wsgi -*-
"""
A WSGI application as an upstream, without a socket: C{twisted.web.wsgi} behind a connection in memory.

What is added to the stock resource is a bound on everything.  It takes what an application writes as fast as that
comes, so a client that reads slowly would have all of it in memory; here the application's thread waits for its client.
And only so many requests wait for a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.web.resource import IResource, Resource
from twisted.web.wsgi import WSGIResource
from zope.interface import implementer

from twistproxy.globalreactor import reactorOf
from twistproxy.upstream.resource import MAX_BODY, ResourceTarget


@attrs.frozen(init=False, eq=False)
class WSGITarget(ResourceTarget):
    """
    A WSGI application in this process.
    """

    def __init__(
        self,
        application: Callable[..., Any],
        *,
        threads: int = 10,
        maxWaiting: int = 1024,
        threadPool: ThreadPool | None = None,
        host: str = "localhost",
        path: bytes = b"",
        maxBody: int | None = MAX_BODY,
        grace: float = 30.0,
        reactor: Any = None,
    ) -> None:
        """
        @param application: the application.
        @param threads: how many threads it may run in at once.
        @param maxWaiting: how many requests may wait for one; more get 503.
        @param threadPool: a thread pool to use instead of a new one of C{threads}; whoever gives it starts and stops
            it.
        @param host: what stands in C{Host}, unless the client's is kept.
        @param path: the base path.
        @param maxBody: the largest request body in bytes, as all of it is collected before the application is called;
            more is answered with 413.  C{None} for no bound.
        @param grace: how long requests may go on when the target is closed or the reactor stops, in seconds.
        @param reactor: the reactor; the global one by default.
        @raise TypeError: if C{application} cannot be called.
        """
        if not callable(application):
            raise TypeError(f"{application!r} is no WSGI application: it cannot be called")
        name = getattr(application, "__name__", type(application).__name__)
        root = _WSGI(application, name, threads, maxWaiting, threadPool, grace, reactor)
        super().__init__(root, host=host, path=path, maxBody=maxBody, parseForms=False, reactor=reactor)
        object.__setattr__(self, "name", f"wsgi:{name}")

    def close(self) -> Deferred[None]:
        """
        Take no more requests, let those that are running end, then end the threads.

        @return: a Deferred that fires when the last thread has ended.
        """
        root: _WSGI = self.endpoint.factory.resource
        return root.close()


@implementer(IResource)
class _WSGI(Resource):
    """
    Gives each request to a stock L{WSGIResource}, with a flow of its own around the application.
    """

    isLeaf = True

    def __init__(
        self,
        application: Any,
        name: str,
        threads: int,
        maxWaiting: int,
        threadPool: ThreadPool | None,
        grace: float,
        reactor: Any,
    ) -> None:
        super().__init__()
        self._application = application
        self._grace = grace
        self._reactor = reactor
        self._owned = threadPool is None
        self._pool = ThreadPool(0, threads, name=f"wsgi {name}") if threadPool is None else threadPool
        self._most = threads + maxWaiting
        self._flows: set[_Flow] = set()
        self._trigger: Any = None
        self._closing: Deferred[None] | None = None
        self._emptied: Deferred[None] | None = None

    def render(self, request: Any) -> Any:
        """
        See L{IResource.render<twisted.web.resource.IResource>}.
        """
        if self._closing is not None or len(self._flows) >= self._most:
            request.setResponseCode(503)
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            return b"503 Service Unavailable\n"
        reactor = reactorOf(self._reactor)
        if self._trigger is None:
            self._trigger = reactor.addSystemEventTrigger("before", "shutdown", self._shutDown)
            if self._owned:
                self._pool.start()
        # CVE-2016-5385: it would be HTTP_PROXY in the application's environment
        request.requestHeaders.removeHeader(b"proxy")
        flow = _Flow(self._application, request, reactor)
        self._flows.add(flow)
        request.registerProducer(flow, True)
        request.notifyFinish().addErrback(lambda _: flow.stopProducing())
        flow.ended.addCallback(lambda _: self._ended(flow))
        return WSGIResource(reactor, self._pool, flow.run).render(request)

    def _ended(self, flow: _Flow) -> None:
        self._flows.discard(flow)
        if not self._flows and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _shutDown(self) -> Deferred[None]:
        self._trigger = None
        return self.close()

    def close(self) -> Deferred[None]:
        """
        See L{WSGITarget.close}.
        """
        if self._closing is None:
            self._closing = Deferred.fromCoroutine(self._close())
        closed: Deferred[None] = Deferred()
        self._closing.addCallback(lambda _: closed.callback(None))
        return closed

    async def _close(self) -> None:
        reactor = reactorOf(self._reactor)
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            reactor.removeSystemEventTrigger(trigger)
        if self._flows:
            self._emptied = Deferred()
            cutting = reactor.callLater(self._grace, self._cut)
            await self._emptied
            if cutting.active():
                cutting.cancel()
        if self._owned and self._pool.started:
            # Not here: it waits for the threads, and they, perhaps, for the reactor.
            await deferToThreadPool(reactor, reactor.getThreadPool(), self._pool.stop)

    def _cut(self) -> None:
        for flow in list(self._flows):
            if flow.request.channel is not None:
                flow.request.channel.transport.abortConnection()


@implementer(IPushProducer)
class _Flow:
    """
    One call of the application, which goes no faster than its client reads.
    """

    def __init__(self, application: Any, request: Any, reactor: Any) -> None:
        """
        @ivar ended: fires when the application has ended, well or not.
        """
        self.ended: Deferred[None] = Deferred()
        self._application = application
        self.request = request
        self._reactor = reactor
        self._wanted = Event()
        self._wanted.set()
        self._stopped = Event()

    # -- in the reactor's thread

    def pauseProducing(self) -> None:
        if not self._stopped.is_set():
            self._wanted.clear()

    def resumeProducing(self) -> None:
        self._wanted.set()

    def stopProducing(self) -> None:
        self._stopped.set()
        self._wanted.set()

    def _done(self) -> None:
        if self.request.channel is not None:
            self.request.unregisterProducer()
        self.ended.callback(None)

    # -- in the application's

    def run(self, environ: dict[str, Any], startResponse: Callable[..., Any]) -> Iterator[bytes]:
        """
        The application, as C{twisted.web.wsgi} calls it.
        """

        def start(status: str, headers: list[tuple[str, str]], excInfo: Any = None) -> Callable[[bytes], None]:
            write = startResponse(status, headers, excInfo)

            def writeAndWait(data: bytes) -> None:
                write(data)
                self._wanted.wait()

            return writeAndWait

        pieces: Any = None
        try:
            if self._stopped.is_set():
                startResponse("503 Service Unavailable", [])
                return
            pieces = self._application(environ, start)
            for piece in pieces:
                # twisted.web.wsgi writes it, and does not come back before the reactor has it
                yield piece
                self._wanted.wait()
                if self._stopped.is_set():
                    return
        finally:
            try:
                if hasattr(pieces, "close"):
                    pieces.close()
            finally:
                self._reactor.callFromThread(self._done)
