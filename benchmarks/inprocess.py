"""
A whole proxy in this process, between transports that keep nothing: what a request costs in Python alone.

All parts of the proxy are the real ones, with everything on: wires, pool, timer wheel, access log, counters.
Only sockets, the kernel and the clock are not, so that nothing here depends on what else the machine does, and a
call that is counted today is counted tomorrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from benchmarks.works import BROWSER, KIB64
from twistproxy import ProxySite, ReverseProxy
from twistproxy.net.network import Network
from twistproxy.observe.access import AccessLog, CombinedFormat
from twistproxy.observe.counters import Counters

#: What a read of the hub takes at most, in bytes.
READ = 32_768
#: How many different requests there are where every value changes: never the same one twice in a row is enough.
VARIANTS = 512
#: Access log, counters and request ids work in batches; this is a multiple of all of them.
ROUND = 512


class NullTransport:
    """
    Takes everything at once and forgets it.

    @ivar protocol: whose transport it is.
    @ivar last: what was written last.
    @ivar count: how many bytes were written.
    """

    disconnecting = disconnected = False
    connected = True

    def __init__(self, protocol: Any, port: int) -> None:
        self.protocol = protocol
        self.last = b""
        self.count = 0
        self._peer = IPv4Address("TCP", "127.0.0.1", port)
        self._host = IPv4Address("TCP", "127.0.0.1", 80)

    def write(self, data: bytes) -> None:
        self.last = data
        self.count += len(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:
        self.write(b"".join(data))

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    def forget(self) -> None:
        """
        Forget what was written.
        """
        self.last = b""
        self.count = 0

    def drop(self) -> None:
        """
        Lose the connection.
        """
        protocol, self.protocol = self.protocol, None
        protocol.connectionLost(Failure(ConnectionDone()))

    def _nothing(self, *arguments: Any) -> None:
        pass

    registerProducer = unregisterProducer = pauseProducing = resumeProducing = stopProducing = _nothing
    loseConnection = loseWriteConnection = abortConnection = _nothing
    setTcpNoDelay = setTcpKeepAlive = _nothing


class NullNetwork(Network):
    """
    Connects at once, to nobody.

    @ivar dialed: the transports of the connections that the proxy has made.
    """

    def __init__(self) -> None:
        super().__init__(Clock(), hub=False)
        self.dialed: list[NullTransport] = []

    def dialer(self, timeouts: Any, tls: Any = None) -> Any:
        return self

    def dial(self, target: Any, protocol: Any, handshaking: Any = None) -> Deferred[None]:
        transport = NullTransport(protocol, 9)
        self.dialed.append(transport)
        protocol.makeConnection(transport)
        return succeed(None)


@dataclass(frozen=True)
class Kind:
    """
    One sort of exchange.

    @ivar name: as of the work that it resembles.
    @ivar requests: what the client sends, one after the other, and then from the beginning.
    @ivar answer: what the upstream sends, read by read.
    """

    name: str
    requests: Sequence[bytes]
    answer: Sequence[bytes]


def _head(first: str, *lines: str) -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode("ascii")


def _answer(body: bytes) -> tuple[bytes, ...]:
    head = _head(
        "HTTP/1.1 200 OK",
        "Server: nginx",
        "Date: Sat, 21 Nov 2026 10:00:00 GMT",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        "Connection: keep-alive",
    )
    whole = head + body
    return tuple(whole[at : at + READ] for at in range(0, len(whole), READ))


def _changing(number: int) -> bytes:
    lines = [f"{line}; n={number}" if not line.startswith("Connection") else line for line in BROWSER]
    return _head(f"GET /small?n={number} HTTP/1.1", "Host: 127.0.0.1:8080", *lines)


_HOST = "Host: 127.0.0.1:8080"
_SMALL = _answer(b"hello, world\n")
_POSTED = b"x" * 4096

KINDS = (
    Kind("small", [_head("GET /small HTTP/1.1", _HOST)], _SMALL),
    Kind("browser", [_head("GET /small HTTP/1.1", _HOST, *BROWSER)], _SMALL),
    Kind("changing", [_changing(number) for number in range(VARIANTS)], _SMALL),
    Kind("64k", [_head("GET /64k HTTP/1.1", _HOST)], _answer(bytes(KIB64))),
    Kind(
        "post",
        [_head("POST /post HTTP/1.1", _HOST, "Content-Type: text/plain", "Content-Length: 4096") + _POSTED],
        _answer(b"4096\n"),
    ),
)


class InProcess:
    """
    A proxy with one client per connection that is asked for.

    @ivar network: where it lives.
    """

    def __init__(self, log: Path) -> None:
        """
        @param log: the file for the access log.
        """
        self.network = network = NullNetwork()
        self._access = AccessLog(str(log), CombinedFormat(), network.reactor, wallClock=lambda: 1_800_000_000.0)
        self._proxy = ReverseProxy.to("http://127.0.0.1:9", reactor=network)
        self._site = ProxySite(self._proxy, reactor=network, observers=[Counters(), self._access])
        self._clients = 0

    def connect(self) -> Any:
        """
        Connect a client.

        @return: the server's protocol, to be fed; its C{transport} is a L{NullTransport}.
        """
        self._clients += 1
        port = 20_000 + self._clients
        protocol: Any = self._site.buildProtocol(IPv4Address("TCP", "127.0.0.1", port))
        protocol.makeConnection(NullTransport(protocol, port))
        return protocol

    def exchange(self, client: Any, request: bytes, answer: Sequence[bytes]) -> None:
        """
        Carry one request there and back.
        """
        client.dataReceived(request)
        upstream = self.network.dialed[-1].protocol
        for piece in answer:
            upstream.dataReceived(piece)

    def run(self, kind: Kind, count: int = ROUND) -> None:
        """
        Carry so many requests of a kind, over one connection.
        """
        client = self.connect()
        requests, answer, exchange = kind.requests, kind.answer, self.exchange
        for number in range(count):
            exchange(client, requests[number % len(requests)], answer)

    def check(self, kind: Kind) -> None:
        """
        Carry one, and see that it arrived.

        @raise RuntimeError: if it did not: then whatever would be counted is not what is meant.
        """
        client = self.connect()
        self.exchange(client, kind.requests[0], kind.answer)
        body = sum(map(len, kind.answer)) - kind.answer[0].index(b"\r\n\r\n") - 4
        if client.transport.count < body or not client.transport.last.endswith(kind.answer[-1][-5:]):
            raise RuntimeError(f"the proxy in this process does not answer {kind.name!r} rightly")

    def flush(self) -> None:
        """
        Write the access log's batch.
        """
        self._access.flush()

    def close(self) -> None:
        """
        Be done.
        """
        self._proxy.close()
        self._access.close()
