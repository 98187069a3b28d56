"""
Sockets that the supervisor opens and workers accept from.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol

from tests.net.peers import RawPeer
from tests.support.peers import shortFolder
from twistproxy.net.reactor import networkReactor
from twistproxy.service import BadEndpoint, CannotStart
from twistproxy.workers.sockets import AdoptingReactor, ListeningSockets, Share

LOOPBACK = "tcp:0:interface=127.0.0.1"


@pytest.fixture
def sockets(warmReactor: Any) -> Iterator[Callable[..., ListeningSockets]]:
    """Opens sockets."""
    made: list[ListeningSockets] = []

    def open(*descriptions: str, slots: int = 3, **options: Any) -> ListeningSockets:
        made.append(ListeningSockets(warmReactor, descriptions, slots, **options))
        made[-1].open()
        return made[-1]

    yield open
    for each in made:
        each.close()


def test_onePort(sockets: Callable[..., ListeningSockets]) -> None:
    """Every slot has a socket of its own, and port 0 is the same port for them all."""
    opened = sockets(LOOPBACK, LOOPBACK)
    shares, descriptors = opened.shares(5)
    assert [(share.fd, share.endpoint, share.slot) for share in shares] == [
        (5 + number, number // 3, number % 3) for number in range(6)
    ]
    ports = []
    for share in shares:
        with socket.socket(fileno=socket.dup(descriptors[share.fd])) as sock:
            ports.append(sock.getsockname()[1])
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert ports[:3] == [ports[0]] * 3
    assert ports[3:] == [ports[3]] * 3
    assert [address.port for address in opened.addresses()] == [ports[0], ports[3]]
    assert ports[0] != ports[3]


def test_shared(sockets: Callable[..., ListeningSockets]) -> None:
    """Where a port can have one socket only, all share it."""
    shares, _ = sockets(LOOPBACK, reusePort=False).shares(5)
    assert [(share.fd, share.endpoint, share.slot) for share in shares] == [(5, 0, None)]


def test_unix(sockets: Callable[..., ListeningSockets]) -> None:
    """All share a UNIX socket, whose file goes when the supervisor closes it."""
    path = Path(shortFolder()) / "s"
    opened = sockets(f"unix:{path}")
    assert [(share.family, share.slot) for share in opened.shares(5)[0]] == [(socket.AF_UNIX, None)]
    assert path.is_socket()
    opened.close()
    assert not path.exists()
    path.parent.rmdir()


def test_portTaken(sockets: Callable[..., ListeningSockets]) -> None:
    """B10.3: a port that somebody has is taken, also if they would share it; nothing stays open then."""
    port = sockets(LOOPBACK).addresses()[0].port
    with pytest.raises(CannotStart, match=f"cannot listen on tcp:{port}.*already in use.*--listen"):
        sockets(LOOPBACK, f"tcp:{port}:interface=127.0.0.1")


@pytest.mark.parametrize(
    ("description", "complaint"),
    [
        ("nonsense", "cannot listen on 'nonsense'"),
        ("tcp:port=many", "cannot listen on 'tcp:port=many'"),
        ("tcp", "write tcp:8080"),
        ("fd:0", "cannot listen on 'fd:0'"),
    ],
)
def test_noEndpoint(sockets: Callable[..., ListeningSockets], description: str, complaint: str) -> None:
    """B10.3: what several workers cannot listen on is refused in one line."""
    with pytest.raises(BadEndpoint, match=complaint) as refused:
        sockets(LOOPBACK, description)
    assert "\n" not in str(refused.value)


def test_unixOnStockTransports(sockets: Callable[..., ListeningSockets]) -> None:
    """Twisted's own ports shut a UNIX socket down for everybody when they stop; so that is refused."""
    with pytest.raises(BadEndpoint, match="--stock-transports"):
        sockets("unix:/nonexistent/s", unix=False)


class Greeting(Protocol):
    """Says hello and goes."""

    def connectionMade(self) -> None:
        """Do it."""
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


@pytest.mark.parametrize("kind", ["hub", "stock"])
@pytest_twisted.ensureDeferred
async def test_queueOutlivesAWorker(sockets: Callable[..., ListeningSockets], warmReactor: Any, kind: str) -> None:
    """Who connects while nobody accepts is accepted by the next one on the same socket, as are those after it."""
    opened = sockets(LOOPBACK, slots=1)
    [share], descriptors = opened.shares(5)
    reactor = networkReactor(warmReactor) if kind == "hub" else warmReactor
    adopting = AdoptingReactor(reactor, Share(descriptors[share.fd], share.family, 0, 0))
    for _ in range(2):
        with RawPeer.connect(opened.addresses()[0]).socket as waiting:
            port = await serverFromString(adopting, LOOPBACK).listen(Factory.forProtocol(Greeting))
            with RawPeer.connect(opened.addresses()[0]).socket as later:
                assert await RawPeer(waiting).readAll() == b"hello"
                assert await RawPeer(later).readAll() == b"hello"
            await port.stopListening()
