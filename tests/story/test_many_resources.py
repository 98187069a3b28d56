"""
Hundreds of proxies in the tree of one site, made and dropped while it serves: real sockets, and requests all the time.
"""

from __future__ import annotations

import gc
import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import h11
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.net.peers import turn, until
from tests.support.peers import Client
from tests.support.webserver import WebServer
from twistproxy import ReverseProxyResource, StreamingRequest

CLIENTS = 12
#: In one round; there are two.
RESOURCES = 150
#: That stand in the tree at the same time.
STANDING = 40


class Crowd:
    """
    Clients that ask for one resource after another until they are told to stop.

    @ivar seen: how often each status was seen at a resource that stands, and at one that is being dropped.
    """

    def __init__(self, number: int, standing: dict[int, Any], dropping: set[int]) -> None:
        self._number = number
        self._standing = standing
        self._dropping = dropping
        self.seen: Counter[tuple[str, Any]] = Counter()
        self.stopped = False
        self._running = [Deferred.fromCoroutine(self._client(each)) for each in range(CLIENTS)]

    async def _client(self, number: int) -> None:
        client: Any = None
        turns = number
        while not self.stopped:
            turns += 1
            known = [*self._standing, *self._dropping]
            if not known:
                await turn()
                continue
            name = known[turns * 7 % len(known)]
            client = client or Client.connect(self._number)
            stood = name in self._standing
            status: Any
            try:
                body = b"x" * 2000 if turns % 3 == 0 else None
                await client.ask("GET" if body is None else "POST", f"/{name}/x", (), body)
                response = await client.response()
                status = response.status
                if status == 200:
                    assert response.body == b"%d" % name
                closes = response[b"connection"] == b"close"
            except (ConnectionError, h11.RemoteProtocolError):
                status, closes = "cut", True
            stood = stood and name in self._standing
            self.seen["stands" if stood else "dropped", status] += 1
            if closes:
                client.close()
                client = None
        if client is not None:
            client.close()

    async def stop(self) -> None:
        """Let every client finish."""
        self.stopped = True
        await gatherResults(self._running, consumeErrors=True)


@pytest.fixture(params=[Request, StreamingRequest], ids=["stock", "streaming"])
def requestFactory(request: pytest.FixtureRequest) -> Any:
    """The class of the site's requests."""
    return request.param


@pytest.fixture
def origin(warmReactor: Any) -> Iterator[WebServer]:
    """An upstream that takes its time, and answers with what stands first in the path."""

    def answer(message: Any) -> Any:
        name = message.target.split(b"/")[1]
        return deferLater(warmReactor, 0.005, lambda: (200, [], name))

    server = WebServer(warmReactor, answer)
    yield server
    pytest_twisted.blockon(Deferred.fromCoroutine(server.close()))


def descriptors() -> int:
    """
    @return: how many descriptors are open.
    """
    return len(os.listdir("/proc/self/fd"))


def allGone(references: list[Any]) -> bool:
    """
    @return: whether none of the objects lives any more.
    """
    # Twisted keeps what was logged until somebody begins to log, which nobody does in tests; and events their sources.
    globalLogBeginner._initialBuffer._buffer.clear()
    gc.collect()
    return not any(each() for each in references)


async def comeAndGo(reactor: Any, root: Resource, origin: WebServer, number: int) -> tuple[Counter[Any], list[Any]]:
    """
    One round: resources come and go by the dozen while clients ask for them.

    @return: what the clients saw, and weak references to all that has gone.
    """
    standing: dict[int, Any] = {}
    dropping: set[int] = set()
    gone: list[Any] = []
    crowd = Crowd(number, standing, dropping)
    ending = []

    async def drop(name: int) -> None:
        resource = standing.pop(name)
        dropping.add(name)
        cut = name % 2 == 0
        if name % 3 == 0:
            root.delEntity(b"%d" % name)  # 404 from now on, 503 otherwise
        await resource.close(cut=cut)
        assert resource.exchanges == set()
        await turn(0.01)
        dropping.discard(name)
        if b"%d" % name in root.children:
            root.delEntity(b"%d" % name)

    for name in range(RESOURCES):
        resource = ReverseProxyResource.to(f"{origin.target}/{name}", reactor=reactor)
        gone += [weakref.ref(each) for each in (resource, resource.proxy, resource.proxy.transport)]
        standing[name] = resource
        root.putChild(b"%d" % name, resource)
        del resource
        if len(standing) > STANDING:
            ending.append(Deferred.fromCoroutine(drop(min(standing))))
        await turn(0.002)
    for name in list(standing):
        ending.append(Deferred.fromCoroutine(drop(name)))
    await gatherResults(ending, consumeErrors=True)
    await crowd.stop()
    return crowd.seen, gone


# Twisted warns with each of its 404s, and pytest keeps what it is warned of: objects that nobody here has made.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("unwitnessed")
@pytest_twisted.ensureDeferred
async def test_comeAndGoUnderLoad(warmReactor: Any, requestFactory: Callable[..., Any], origin: WebServer) -> None:
    """B8: three hundred resources come and go while clients ask.  One that stands always answers; one that is dropped
    finishes its exchanges or cuts them, by choice, and then says 503, or 404 where it is out of its tree; and when all
    are gone so is what they had: connections, descriptors, objects."""
    root = Resource()
    site = Site(root, requestFactory=requestFactory)
    port = warmReactor.listenTCP(0, site, interface="127.0.0.1")
    atFirst = descriptors()
    objects = []
    try:
        for _ in range(2):
            seen, gone = await comeAndGo(warmReactor, root, origin, port.getHost().port)
            assert {status for kind, status in seen if kind == "stands"} == {200}
            assert {status for kind, status in seen if kind == "dropped"} <= {200, 503, 404, "cut"}
            assert seen["dropped", 503] + seen["dropped", 404] > 0
            assert origin.requests >= seen["stands", 200] > CLIENTS
            await until(lambda: not origin.open, "the end of the upstream connections")
            await until(lambda gone=gone: allGone(gone), "the end of the resources")
            await until(lambda: descriptors() == atFirst, "the end of the descriptors")
            assert root.children == {}
            seen, gone = Counter(), []
            gc.collect()
            objects.append(len(gc.get_objects()))
    finally:
        await port.stopListening()
    assert objects[1] - objects[0] < RESOURCES  # the second round has not left one object for each


@pytest_twisted.ensureDeferred
async def test_dropByChoice(warmReactor: Any, requestFactory: Callable[..., Any]) -> None:
    """B8: of a hundred resources with an exchange each, half are told to finish and half to cut: the one kind answers
    when its upstream does, the other at once, with a 503 that says so."""
    waiting: list[Deferred[Any]] = []

    def answer(message: Any) -> Any:
        waiting.append(Deferred())
        return waiting[-1]

    origin = WebServer(warmReactor, answer)
    root = Resource()
    port = warmReactor.listenTCP(0, Site(root, requestFactory=requestFactory), interface="127.0.0.1")
    try:
        resources, clients = [], []
        for name in range(100):
            resources.append(ReverseProxyResource.to(origin.target, reactor=warmReactor))
            root.putChild(b"%d" % name, resources[-1])
            clients.append(Client.connect(port.getHost().port))
            await clients[-1].ask("GET", f"/{name}/x")
            await turn()  # the port takes only so many at once
        await until(lambda: len(waiting) == 100, "all of the exchanges")
        ends = [resource.close(cut=name % 2 == 0) for name, resource in enumerate(resources)]
        for client in clients[::2]:
            response = await client.response()
            assert response.status == 503
        assert [end.called for end in ends] == [True, False] * 50
        for deferred in waiting:
            if not deferred.called:
                deferred.callback((200, [], b"finished"))
        for client in clients[1::2]:
            assert (await client.response()).body == b"finished"
        await gatherResults(ends)
        for name, client in enumerate(clients):
            assert (await client.get(f"/{name}/x")).status == 503
            client.close()
        await until(lambda: not origin.open, "the end of the upstream connections")
    finally:
        await port.stopListening()
        await origin.close()
