"""
What tests of agents need: servers of their own on loopback, on stock parts of Twisted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.net.peers import until
from tests.support.front import Front
from tests.support.peers import Message
from tests.support.webserver import WebServer
from twistproxy.agents import ProxyAgent, ProxyConnectionPool


@pytest.fixture
def webServer(warmReactor: Any) -> Iterator[Callable[..., WebServer]]:
    """Starts origins that answer by themselves."""
    running: list[WebServer] = []

    def start(answer: Callable[[Message], Any]) -> WebServer:
        running.append(WebServer(warmReactor, answer))
        return running[-1]

    yield start
    for server in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(server.close()))


class Stream(Resource):
    """
    A resource of twisted.web that the test plays.

    @ivar requests: the requests that have come, body and all.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def render(self, request: Any) -> Any:
        self.requests.append(request)
        request.notifyFinish().addErrback(lambda _: None)
        return NOT_DONE_YET


class Reader(Protocol):
    """
    Reads a response's body.

    @ivar pieces: what has come.
    @ivar reason: why it ended.
    @ivar onPiece: called with each piece.
    """

    def __init__(self, onPiece: Callable[[bytes], Any] = lambda data: None, pausing: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.reason: Any = None
        self._onPiece = onPiece
        self._pausing = pausing

    def connectionMade(self) -> None:
        if self._pausing:
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        self._onPiece(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        assert self.reason is None
        self.reason = reason.value

    @property
    def data(self) -> bytes:
        """All that has come."""
        return b"".join(self.pieces)


class Flood:
    """
    Answers a request of twisted.web as fast as it may.

    @ivar left: how many pieces of 64 KiB are still to be written.
    """

    def __init__(self, request: Any, pieces: int) -> None:
        self.left = pieces
        self._request = request
        request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Write one more."""
        self.left -= 1
        self._request.write(bytes(65536))
        if not self.left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        """The client has gone."""

    async def stalled(self) -> None:
        """Wait until nothing moves any more."""
        from twisted.internet import reactor

        before = 0
        while before != self.left:
            before = self.left
            for _ in range(100):
                await deferLater(reactor, 0)  # type: ignore[arg-type]


class Page(Resource):
    """A resource that always says the same."""

    isLeaf = True

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self._text = text

    def render_GET(self, request: Any) -> bytes:
        return self._text


class Origin:
    """
    A stock Site on loopback.

    @ivar stream: its resource.
    @ivar url: its address.
    """

    def __init__(self, reactor: Any) -> None:
        self.stream = Stream()
        self._site = Site(self.stream, reactor=reactor)
        self._site.noisy = False  # type: ignore[attr-defined]
        self._port = reactor.listenTCP(0, self._site, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}/"

    async def request(self, number: int = 0) -> Any:
        """
        @return: one of the requests, when it has come.
        """
        await until(lambda: len(self.stream.requests) > number, f"request {number}")
        return self.stream.requests[number]

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        await maybeDeferred(self._port.stopListening)
        for request in self.stream.requests:
            if not request._disconnected and not request.finished:
                request.channel.abortConnection()


@pytest.fixture
def origin(warmReactor: Any) -> Iterator[Origin]:
    """A stock Site whose resource the test plays."""
    made = Origin(warmReactor)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest.fixture
def proxyAgent(warmReactor: Any) -> Iterator[Callable[..., ProxyAgent]]:
    """Makes agents, of which nothing is left afterwards."""
    made: list[ProxyAgent] = []

    def make(**options: Any) -> ProxyAgent:
        made.append(ProxyAgent(warmReactor, ProxyConnectionPool(warmReactor, **options)))
        return made[-1]

    yield make

    async def ended(agent: ProxyAgent) -> None:
        agent.cut()
        await until(lambda: not any(pool.connections for pool in agent.pools.values()), f"no pools: {agent.pools}")

    for agent in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(ended(agent)))


@pytest.fixture
def front(warmReactor: Any) -> Iterator[Callable[..., Front]]:
    """Puts proxies in front of targets."""
    made: list[Front] = []

    def make(target: Any, **options: Any) -> Front:
        made.append(Front(warmReactor, target, **options))
        return made[-1]

    yield make
    for each in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(each.close()))
