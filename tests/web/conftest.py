"""
A stock site with a proxy in its tree, real sockets on both sides, and both ends played by the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.net.peers import until
from tests.support.peers import Client, Origin
from twistproxy import Limits, ReverseProxyResource, StreamingRequest
from twistproxy.events import ExchangeRecord


class Recording(Site):
    """
    A site that knows its channels.

    @ivar channels: what it has built.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.channels: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.channels.append(super().buildProtocol(addr))
        return self.channels[-1]


class Impatient(StreamingRequest):
    """Waits a short time only for bodies that nobody wants."""

    limits = Limits(discardSeconds=0.1)


class Mounted:
    """
    A site that is listened with.

    @ivar origin: the upstream that the test plays.
    @ivar resource: the proxy.
    @ivar records: of the exchanges that have settled.
    """

    def __init__(
        self,
        reactor: Any,
        tree: Callable[[Any], Any] | None,
        streaming: bool,
        base: str = "",
        timeout: float = 60,
        impatient: bool = False,
        **options: Any,
    ) -> None:
        """
        @param tree: gives the root of the tree in which the resource is; by default it is the root itself.
        @param impatient: whether bodies that nobody wants are read for a short time only.
        """
        self.origin = Origin()
        self.records: list[ExchangeRecord] = []
        self.resource = ReverseProxyResource.to(
            self.origin.target + base, observers=[self.records.append], reactor=reactor, **options
        )
        root = self.resource if tree is None else tree(self.resource)
        self.site = Recording(
            root,
            requestFactory=(Impatient if impatient else StreamingRequest) if streaming else Request,
            timeout=timeout,
        )
        self.site.displayTracebacks = False
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.number = self.port.getHost().port
        self.clients: list[Client] = []

    def client(self, receiveBuffer: int | None = None) -> Client:
        """A connected client."""
        client = Client.connect(self.number, receiveBuffer)
        assert isinstance(client, Client)
        self.clients.append(client)
        return client

    @property
    def channel(self) -> Any:
        """The newest downstream connection."""
        return self.site.channels[-1]._channel

    async def settled(self, count: int = 1) -> list[ExchangeRecord]:
        """The records, once so many exchanges have settled."""
        await until(lambda: len(self.records) >= count, f"{count} settled exchanges")
        assert len(self.records) == count
        return self.records

    async def close(self) -> None:
        """End everything."""
        for client in self.clients:
            client.close()
        self.origin.close()
        await self.port.stopListening()
        await self.resource.close(cut=True)
        self.resource.proxy.transport.cut()
        pools = self.resource.proxy.transport.pools
        await until(lambda: not any(pool.connections for pool in pools.values()), f"empty pools: {pools}")


@pytest.fixture
def mount(warmReactor: Any) -> Iterator[Callable[..., Mounted]]:
    """Mounts a proxy in a stock site."""
    running: list[Mounted] = []

    def start(tree: Callable[[Any], Any] | None = None, streaming: bool = False, **options: Any) -> Mounted:
        running.append(Mounted(warmReactor, tree, streaming, **options))
        return running[-1]

    yield start
    for mounted in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(mounted.close()))


def below(*path: bytes) -> Callable[[Any], Any]:
    """Puts a resource below a path."""

    def tree(leaf: Any) -> Any:
        root = node = Resource()
        for name in path[:-1]:
            child = Resource()
            node.putChild(name, child)
            node = child
        node.putChild(path[-1], leaf)
        return root

    return tree


@pytest.fixture
def under() -> Callable[..., Any]:
    """L{below}, for tests."""
    return below
