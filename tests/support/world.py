"""
A whole proxy in memory: a site, a reverse proxy and a real pool on a L{MemoryNetwork}, with clients and an origin that the test plays.

What the proxy writes, in either direction, is read by h11, so that nothing of ours can agree with itself about a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import h11

from tests.support.memory import MemoryNetwork, MemoryTransport
from twistproxy.core.proxy import ProxyFlow
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.events import ExchangeRecord
from twistproxy.headers import Headers
from twistproxy.limits import Limits
from twistproxy.message import OutboundRequest, Peer, Request
from twistproxy.rules.target import parseTarget
from twistproxy.testing import MemoryProxy
from twistproxy.upstream.transport import PooledTransport

MAX_HEAD = 1 << 18


@dataclass
class Message:
    """
    A message as h11 reads it.

    @ivar fields: names in lower case, and values.
    @ivar complete: whether all of it came.
    @ivar connection: the number of the connection it came over.
    """

    status: int = 0
    reason: bytes = b""
    method: bytes = b""
    target: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False
    connection: int = 0

    def __getitem__(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for known, value in self.fields if known == name]


class OriginLine:
    """One connection of the proxy to the origin, read by h11 as a server."""

    def __init__(self, number: int, line: MemoryTransport) -> None:
        self.number = number
        self.line = line
        self.parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.current: Message | None = None
        self.told = False
        self.broken = ""


class Origin:
    """
    Writes down every request it is sent, whole or not, and answers each whole one, if it is told to.

    @ivar requests: what came, in the order in which the heads came.
    @ivar answer: makes the response to a request, bytes; C{None} not to answer.
    @ivar broken: what h11 objected to in what the proxy wrote.
    """

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._lines: list[OriginLine] = []
        self.requests: list[Message] = []
        self.answer: Callable[[Message], bytes] | None = echo
        network.watching.append(self.work)

    @property
    def broken(self) -> list[str]:
        return [line.broken for line in self._lines if line.broken]

    @property
    def whole(self) -> list[tuple[bytes, bytes, bytes]]:
        """
        Method, target and body of every request of which all has come.
        """
        return [(each.method, each.target, each.body) for each in self.requests if each.complete]

    def work(self) -> bool:
        """
        Look at what has come.

        @return: whether there was anything.
        """
        for number in range(len(self._lines), len(self._network.dialed)):
            self._lines.append(OriginLine(number, self._network.dialed[number]))
        return sum(self._read(line) for line in self._lines if not line.broken) > 0

    def _read(self, line: OriginLine) -> bool:
        data = line.line.take()
        ended = line.line.ended == "closed" and not line.told
        if not data and not ended:
            return False
        if data:
            line.parser.receive_data(data)
        if ended:
            line.told = True
            line.parser.receive_data(b"")
        try:
            while self._event(line, line.parser.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            if not ended:
                line.broken = str(error)
        return True

    def _event(self, line: OriginLine, event: Any) -> bool:
        if isinstance(event, h11.Request):
            message = Message(
                method=event.method, target=event.target, fields=list(event.headers), connection=line.number
            )
            line.current = message
            self.requests.append(message)
        elif isinstance(event, h11.Data):
            assert line.current is not None
            line.current.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert line.current is not None
            line.current.trailers = list(event.headers)
            line.current.complete = True
            if self.answer is not None:
                line.line.queue(self.answer(line.current))
            line.parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            line.parser.send(h11.EndOfMessage())
            if line.parser.our_state is h11.DONE and line.parser.their_state is h11.DONE:
                line.parser.start_next_cycle()
        else:
            return False
        return True


def echo(request: Message) -> bytes:
    """
    @return: a response that names the request it belongs to.
    """
    body = b"" if request.method == b"HEAD" else b"you asked for " + request.target
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Asked: %b\r\n\r\n%b" % (len(body), request.target, body)


def outboundRequest(method: bytes = b"GET", target: bytes = b"/", body: Any = b"", minor: int = 1) -> OutboundRequest:
    """
    @return: a request to C{http://origin.test} that was not made from one of a client's.
    """
    inbound = Request(Peer("192.0.2.1"), method, target, minor, [], [], [])
    record = ExchangeRecord(lambda: 0.0, inbound)
    return OutboundRequest(method, target, parseTarget("http://origin.test"), b"origin.test", Headers(), body, record)


def readResponses(data: bytes, methods: Sequence[bytes] = (), ended: bool = False) -> list[Message]:
    """
    Read what a client was sent.

    @param methods: of the requests, as far as they are not GET.
    @param ended: whether the connection was closed behind it.
    @return: the responses, interim ones too; the last one perhaps incomplete.
    """
    found: list[Message] = []
    pending = list(methods)
    while data:
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        method = pending.pop(0) if pending else b"GET"
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x"), ("Upgrade", "any")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(data)
        if ended:
            parser.receive_data(b"")
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError:
                assert ended, data
                return found
            if isinstance(event, (h11.Response, h11.InformationalResponse)):
                assert event.http_version == b"1.1"
                found.append(Message(event.status_code, event.reason, fields=list(event.headers)))
            elif isinstance(event, h11.Data):
                found[-1].body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found[-1].complete = True
                found[-1].trailers = list(event.headers)
                break
            else:
                return found
        data = parser.trailing_data[0]
    return found


class World(MemoryProxy):
    """
    Everything, with an origin that h11 reads; where a proxy connects to is nothing that these tests look at.
    """

    def __init__(
        self,
        *,
        director: Any = None,
        settings: ProxySettings | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        pool: Any = None,
        **options: Any,
    ) -> None:
        """
        @param options: for L{ProxyFlow}.
        """
        network = MemoryNetwork()
        timeouts = timeouts or Timeouts()
        self.transport = PooledTransport(network, network.wheel, timeouts=timeouts, limits=limits, settings=pool)
        self.proxy = ProxyFlow(
            director or TargetDirector("http://origin.test"),
            self.transport,
            settings=settings or ProxySettings(),
            timeouts=timeouts,
            wheel=network.wheel,
            clock=network.clock,
            **options,
        )
        super().__init__(network=network, responder=self.proxy, limits=limits, timeouts=timeouts)
        network.strict = False
        self.origin = Origin(network)

    def client(self) -> MemoryTransport:  # type: ignore[override]
        """
        @return: a new client's end of its connection.
        """
        return self.network.connect(self.site)

    def upstream(self, number: int = -1) -> MemoryTransport:
        """
        @return: the origin's end of a connection.
        """
        return self.network.dialed[number]

    @property
    def idle(self) -> int:
        """
        How many upstream connections wait for reuse.
        """
        return sum(len(pool.idle) for pool in self.transport.pools.values())

    def end(self) -> None:
        """
        End everything, and check that nothing is left of it.
        """
        self.close()
        for pool in self.transport.pools.values():
            assert (pool.connections, pool.idle, pool.open, list(pool.waiting)) == (0, [], set(), [])
