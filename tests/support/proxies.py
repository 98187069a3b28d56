"""
A proxy in the process of the test, on a network of the test's choice.
"""

from __future__ import annotations

from typing import Any

from tests.net.peers import until
from tests.support.peers import Client
from twistproxy.directors import TargetDirector
from twistproxy.events import ExchangeRecord
from twistproxy.net.network import Network
from twistproxy.proxy import ProxySite, ReverseProxy


class Served:
    """
    A proxy that is listened with.

    @ivar records: of the exchanges that have settled.
    @ivar number: the port's number.
    """

    def __init__(
        self,
        network: Network,
        director: Any,
        *,
        timeouts: Any = None,
        limits: Any = None,
        observer: Any = None,
        **options: Any,
    ) -> None:
        """
        @param director: a director, or a target's address.
        @param observer: is told of each exchange that has settled, instead of C{records}.
        @param options: for L{ReverseProxy}.
        """
        self.records: list[ExchangeRecord] = []
        if isinstance(director, str):
            director = TargetDirector(director)
        self.proxy = ReverseProxy(director, reactor=network, timeouts=timeouts, limits=limits, **options)
        self.site = ProxySite(
            self.proxy,
            reactor=network,
            timeouts=timeouts,
            limits=limits,
            observers=[self.records.append if observer is None else observer],
        )
        self.port = network.reactor.listenTCP(0, self.site, interface="127.0.0.1", backlog=128)
        self.number = self.port.getHost().port
        self.clients: list[Client] = []

    def client(self, receiveBuffer: int | None = None) -> Client:
        """
        @return: a connected client.
        """
        client = Client.connect(self.number, receiveBuffer)
        assert isinstance(client, Client)
        self.clients.append(client)
        return client

    @property
    def pools(self) -> list[Any]:
        """
        The pools of the transport.
        """
        return list(self.proxy.transport.pools.values())

    async def settled(self, count: int = 1) -> list[ExchangeRecord]:
        """
        Wait until so many exchanges have settled.

        @return: their records.
        """
        await until(
            lambda: len(self.records) >= count, f"{count} settled exchanges, there are {len(self.records)}"
        )
        assert len(self.records) == count
        return self.records

    async def calm(self) -> None:
        """
        Wait until nothing runs: no exchange, and in the pools nothing but idle connections.
        """
        await until(lambda: not self.site.exchanges, "the end of all exchanges")
        await until(
            lambda: all(
                pool.connections == len(pool.idle) == len(pool.open) and not pool.waiting
                for pool in self.pools
            ),
            f"idle pools: {self.pools}",
        )

    async def close(self) -> None:
        """Stop listening and end everything."""
        for client in self.clients:
            client.close()
        await self.port.stopListening()
        self.site.cut()
        self.proxy.transport.cut()
        await until(lambda: not self.site.connections, "the end of all connections")
        await until(lambda: not any(pool.connections for pool in self.pools), f"empty pools: {self.pools}")
