"""
A proxy in this process in front of one target, with clients over real sockets.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import eventAsText, globalLogPublisher

from tests.net.peers import until
from tests.support.peers import Client, Message
from twistproxy import ProxySite, ReverseProxy, Timeouts
from twistproxy.events import ExchangeRecord


class Front:
    """
    A site with a proxy for one target.

    @ivar records: of the exchanges that have settled.
    @ivar said: what was logged meanwhile.
    """

    def __init__(self, reactor: Any, target: Any, **options: Any) -> None:
        self.records: list[ExchangeRecord] = []
        self.said: list[str] = []
        self._clients: list[Client] = []
        self.target = target
        # a program takes its time to start where many run
        options.setdefault("timeouts", Timeouts(connect=60))
        self.proxy = ReverseProxy.to(target, **options)
        self.site = ProxySite(self.proxy, observers=[self.records.append])
        self._port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        globalLogPublisher.addObserver(self._logged)

    def _logged(self, event: Any) -> None:
        self.said.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    def client(self, receiveBuffer: int | None = None) -> Client:
        """@return: a client that has connected."""
        client = Client.connect(self._port.getHost().port, receiveBuffer)
        assert isinstance(client, Client)
        self._clients.append(client)
        return client

    async def ask(
        self, method: str = "GET", target: str = "/", fields: tuple[str, ...] = (), body: bytes | None = None
    ) -> Message:
        """@return: the response to a request over a connection of its own."""
        client = self.client()
        await client.ask(method, target, fields, body)
        found = await client.response(method)
        client.close()
        return found

    async def settled(self, number: int = 1) -> ExchangeRecord:
        """@return: the record of the so-manieth exchange, when that is over."""
        await until(lambda: len(self.records) >= number, f"the end of exchange {number}")
        return self.records[number - 1]

    @property
    def connections(self) -> int:
        """How many connections there are to the target."""
        return sum(pool.connections for pool in self.proxy.transport.pools.values())

    async def close(self) -> None:
        """End all of it."""
        for client in self._clients:
            client.close()
        await maybeDeferred(self._port.stopListening)
        self.site.cut()
        self.proxy.transport.cut()
        self.proxy.close()
        if hasattr(self.target, "close"):
            await self.target.close()
        await until(lambda: not self.connections, "that no connection is left")
        globalLogPublisher.removeObserver(self._logged)
