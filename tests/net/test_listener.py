"""
The promises of a listening port: whoever was let in is served, and running out of something stops nothing
for good.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError, UnsupportedAddressFamily
from twisted.internet.interfaces import IListeningPort
from zope.interface.verify import verifyObject

from tests.net.peers import HalfCloseable, Ports, RawPeer, Recorder, Recorders, turn, until
from tests.support.programs import python
from twistproxy.net.binding import TCPBinding
from twistproxy.net.reactor import HubReactor


class Echo(Recorder):
    """Answers and stays."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)  # type: ignore[union-attr]


@ensureDeferred
async def test_interface(anyPorts: Ports) -> None:
    """A port is what Twisted means by one, of either version of IP."""
    for interface, kind in (("127.0.0.1", IPv4Address), ("::1", IPv6Address)):
        factory, port = anyPorts.listen(Echo, interface)
        assert verifyObject(IListeningPort, port)
        address = port.getHost()
        assert isinstance(address, kind)
        assert address == kind("TCP", interface, address.port)
        assert factory.events == ["start"]
        with RawPeer.connect(address) as peer:
            await peer.send(b"hello")
            assert await peer.read(5) == b"hello"


@ensureDeferred
async def test_allInterfaces(ports: Ports) -> None:
    """C{::} takes both versions of IP, as with Twisted's own."""
    factory, port = ports.listen(Echo, "::")
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        sock = socket.socket(family)
        sock.connect((host, port.getHost().port))
        with RawPeer(sock) as peer:
            await peer.send(b"hello")
            assert await peer.read(5) == b"hello"
    assert factory.made[0].transport.getPeer().host == "::ffff:127.0.0.1"


@ensureDeferred
async def test_stopKeepsConnections(anyPorts: Ports) -> None:
    """Who was accepted is served on when the port is closed, and nobody else gets in."""
    factory, port = anyPorts.listen(Echo)
    address = port.getHost()
    with RawPeer.connect(address) as peer:
        await factory.first()
        await port.stopListening()
        assert factory.events == ["start", "stop"]
        with pytest.raises(ConnectionRefusedError):
            RawPeer.connect(address)
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"


@ensureDeferred
async def test_stopServesTheBacklog(ports: Ports) -> None:
    """B10.2: connections that the kernel has completed when the port is closed are served, and not reset."""
    factory, port = ports.listen(Echo)
    peers = [RawPeer.connect(port.getHost()) for _ in range(30)]
    stopped = port.stopListening()
    await stopped
    assert len(factory.made) == 30
    for peer in peers:
        with peer:
            await peer.send(b"hello")
            assert await peer.read(5) == b"hello"


@ensureDeferred
async def test_stopTwice(ports: Ports) -> None:
    """Both callers of stopListening hear when the port is closed, and later ones need not wait."""
    factory, port = ports.listen()
    first, second = port.stopListening(), port.stopListening()
    await first
    await second
    assert port.stopListening() is None
    assert factory.events == ["start", "stop"]


@ensureDeferred
async def test_startAgain(ports: Ports) -> None:
    """A closed port can listen again."""
    factory, port = ports.listen(Echo)
    await port.stopListening()
    port.startListening()
    with RawPeer.connect(port.getHost()) as peer:
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
    assert factory.events == ["start", "stop", "start"]


@ensureDeferred
async def test_portTaken(anyPorts: Ports) -> None:
    """B10.3: a port that is taken, and an address that is not ours, are CannotListenError and leave nothing
    behind."""
    _, port = anyPorts.listen()
    taken = port.getHost().port
    for interface, number in (("127.0.0.1", taken), ("192.0.2.1", 0)):
        with pytest.raises(CannotListenError) as caught:
            anyPorts.reactor.listenTCP(number, Recorders(), interface=interface)
        assert (caught.value.interface, caught.value.port) == (interface, number)


def test_impossiblePort(hubReactor: HubReactor) -> None:
    """A port number that does not exist is CannotListenError, too."""
    with pytest.raises(CannotListenError):
        hubReactor.listenTCP(70_000, Recorders(), interface="127.0.0.1")


@ensureDeferred
async def test_reusePort(ports: Ports) -> None:
    """With a binding that says so, several ports share one number."""
    binding = TCPBinding(interface="127.0.0.1", reusePort=True)
    first = Recorders()
    port = ports.reactor.listenTCP(binding, first)
    ports.keep(first, port)
    again = TCPBinding(interface="127.0.0.1", port=port.getHost().port, reusePort=True)
    second = Recorders()
    ports.keep(second, ports.reactor.listenTCP(again, second))
    peers = [RawPeer.connect(port.getHost()) for _ in range(40)]
    await until(lambda: len(first.made) + len(second.made) == 40)
    for peer in peers:
        peer.close()
    assert first.made
    assert second.made


@ensureDeferred
async def test_factoryDeclines(anyPorts: Ports) -> None:
    """A factory that builds no protocol has the connection closed."""
    _, port = anyPorts.listen(lambda: None)
    with RawPeer.connect(port.getHost()) as peer:
        assert await peer.readAll() == b""


@ensureDeferred
async def test_factoryFails(ports: Ports, loggedErrors: list[Any]) -> None:
    """B7.4: errors in buildProtocol and in connectionMade cost that connection and not the port."""

    class Late(Echo):
        def connectionMade(self) -> None:
            raise ValueError

    kinds: list[Any] = [ZeroDivisionError, Late, Echo]

    def make() -> Any:
        kind = kinds.pop(0)
        if kind is ZeroDivisionError:
            raise kind
        return kind()

    factory, port = ports.listen(make)
    for _ in range(2):
        with RawPeer.connect(port.getHost()) as peer:
            assert await peer.readAll() == b""
    with RawPeer.connect(port.getHost()) as peer:
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
    assert factory.made[0].events == [("lost", "ValueError")]
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError, ValueError]
    loggedErrors.clear()


@ensureDeferred
async def test_repr(ports: Ports) -> None:
    """A port says where it listens."""
    _, port = ports.listen()
    assert str(port.getHost().port) in repr(port)
    await port.stopListening()
    assert "not listening" in repr(port)


# -- out of descriptors ----------------------------------------------------------------------------

SHORTAGE = """
import os, resource, socket, sys, time
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogBeginner
from twistproxy.net.reactor import HubReactor

errors = []

def observe(event):
    if event["log_level"].name == "error":
        errors.append(event)

globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False)

class Echo(Protocol):
    def connectionMade(self):
        made.append(self)
    def dataReceived(self, data):
        self.transport.write(data)

made = []
port = HubReactor(reactor).listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
address = ("127.0.0.1", port.getHost().port)
reads = 0

def countTurns():
    global reads
    reads += 1
    original()

original = port._hub.doRead
port._hub.doRead = countTurns

def patience(condition, then, tries=1000):
    if condition():
        then()
    elif tries:
        reactor.callLater(0.01, patience, condition, then, tries - 1)
    else:
        print("in vain", condition.__name__, len(made), errors)
        reactor.stop()

# The clients are made first, and all descriptors taken before the port gets to accept one.
clients = []
for number in range(20):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(address)
    clients.append(client)
low = max(client.fileno() for client in clients) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (low + 2, low + 2))
hoard = []
try:
    while True:
        hoard.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass

def turnedAway():
    gone = 0
    for client in clients:
        try:
            gone += client.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            pass
    return gone >= 2

def recover():
    global before
    assert made == [], "there was no descriptor"
    print("errors", len(errors))
    # A second of turns: pauses of 0.1 s, one wake-up each, are some 10 or 20.  Spinning would be thousands.
    before = reads
    reactor.callLater(0.5, check)

def check():
    print("spins", reads - before > 100)
    for fd in hoard:
        os.close(fd)
    patience(served, finish)

def served():
    return len(made) >= 2

def finish():
    made[-1].transport.write(b"hello")
    patience(hello, end)

def hello():
    for client in clients:
        try:
            if client.recv(5) == b"hello":
                return True
        except BlockingIOError:
            pass
    return False

def end():
    print("errors", len(errors))
    print("served")
    reactor.stop()

reactor.callWhenRunning(patience, turnedAway, recover)
reactor.run()
"""


def test_outOfDescriptors() -> None:
    """B8.1: without descriptors clients are turned away one by one, nothing spins, one line is logged, and
    it recovers."""
    done = python("-c", SHORTAGE)
    assert (done.stdout, done.stderr) == ("errors 1\nspins False\nerrors 1\nserved\n", "")


# -- UNIX sockets and adopted ones -----------------------------------------------------------------


@ensureDeferred
async def test_unix(anyPorts: Ports, tmp_path: Path) -> None:
    """A UNIX socket serves, has the mode that was asked for, and its file goes with it."""
    path = tmp_path / "app.sock"
    factory = Recorders(Echo)
    port = anyPorts.reactor.listenUNIX(str(path), factory, mode=0o600)
    anyPorts.keep(factory, port)
    assert verifyObject(IListeningPort, port)
    assert port.getHost() == UNIXAddress(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    with RawPeer.connect(port.getHost()) as peer:
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
        transport = factory.made[0].transport
        assert (transport.getHost(), transport.getPeer()) == (port.getHost(), UNIXAddress(None))
        transport.setTcpNoDelay(True)
        assert not transport.getTcpNoDelay()
    await port.stopListening()
    assert not path.exists()


@ensureDeferred
async def test_unixPeerCloses(ports: Ports, tmp_path: Path) -> None:
    """On a UNIX socket a close by the peer ends both directions, behind the last byte, for every kind of
    protocol."""
    for protocolClass, told in ((Recorder, []), (HalfCloseable, ["readLost"])):
        factory = Recorders(protocolClass)
        port = ports.reactor.listenUNIX(str(tmp_path / protocolClass.__name__), factory)
        ports.keep(factory, port)
        peer = RawPeer.connect(port.getHost())
        await peer.send(b"last words")
        peer.close()
        await until(lambda factory=factory: factory.made and factory.made[0].lost)
        assert bytes(factory.made[0].received) == b"last words"
        assert factory.made[0].events == ["made", *told, ("lost", "ConnectionDone")]


@ensureDeferred
async def test_unixStale(ports: Ports, tmp_path: Path) -> None:
    """B10.3: a socket file that a dead process left is taken over; a live one, and what is no socket, is
    not touched."""
    path = tmp_path / "app.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    factory = Recorders(Echo)
    port = ports.reactor.listenUNIX(str(path), factory)
    ports.keep(factory, port)
    with RawPeer.connect(port.getHost()) as peer:
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
    with pytest.raises(CannotListenError):
        ports.reactor.listenUNIX(str(path), Recorders())
    # The question whether anybody listens was a connection of its own.
    await until(lambda: len(factory.made) == 2 and factory.made[1].lost)
    with RawPeer.connect(port.getHost()) as peer:
        await peer.send(b"still")
        assert await peer.read(5) == b"still"
    file = tmp_path / "precious"
    file.write_text("data")
    with pytest.raises(CannotListenError):
        ports.reactor.listenUNIX(str(file), Recorders())
    assert file.read_text() == "data"


@ensureDeferred
async def test_unixReplaced(ports: Ports, tmp_path: Path) -> None:
    """A port that stops leaves the file alone which another process has put in the place of its own."""
    path = tmp_path / "app.sock"
    port = ports.reactor.listenUNIX(str(path), Recorders())
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        await port.stopListening()
        assert path.exists()


@ensureDeferred
async def test_unixLock(anyPorts: Ports, tmp_path: Path) -> None:
    """With wantPID a lock file stands beside the socket, as Twisted's clients can ask for, and goes with
    it."""
    path, lock = tmp_path / "app.sock", tmp_path / "app.sock.lock"
    factory = Recorders()
    port = anyPorts.reactor.listenUNIX(str(path), factory, wantPID=True)
    anyPorts.keep(factory, port)
    assert os.readlink(lock) == str(os.getpid())
    await port.stopListening()
    assert not lock.is_symlink()


def test_unixLockTaken(hubReactor: HubReactor, tmp_path: Path) -> None:
    """Where another living process holds the lock, nobody listens."""
    (tmp_path / "app.sock.lock").symlink_to(str(os.getppid()))
    with pytest.raises(CannotListenError):
        hubReactor.listenUNIX(str(tmp_path / "app.sock"), Recorders(), wantPID=True)
    assert (tmp_path / "app.sock.lock").is_symlink()
    assert not (tmp_path / "app.sock").exists()


@ensureDeferred
async def test_unixCannotBind(ports: Ports, tmp_path: Path) -> None:
    """A path where nothing can be made is CannotListenError, and leaves no lock."""
    with pytest.raises(CannotListenError):
        ports.reactor.listenUNIX(str(tmp_path / ("x" * 200)), Recorders())
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotListenError):
        ports.reactor.listenUNIX(str(tmp_path / "file"), Recorders(), wantPID=True)
    assert sorted(os.listdir(tmp_path)) == ["file"]


@ensureDeferred
async def test_abstractNamespace(ports: Ports) -> None:
    """A name in Linux's abstract namespace needs no file."""
    name = f"\0twistproxy-test-{os.getpid()}"
    factory = Recorders(Echo)
    port = ports.reactor.listenUNIX(name, factory)
    ports.keep(factory, port)
    with RawPeer.connect(port.getHost()) as peer:
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"


@ensureDeferred
async def test_adopted(anyPorts: Ports) -> None:
    """A socket made elsewhere is listened on, and its maker's descriptor stays the maker's."""
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        mine.listen()
        mine.setblocking(False)
        factory = Recorders(Echo)
        port = anyPorts.reactor.adoptStreamPort(mine.fileno(), socket.AF_INET, factory)
        anyPorts.keep(factory, port)
        assert port.getHost().port == mine.getsockname()[1]
        with RawPeer.connect(port.getHost()) as peer:
            await peer.send(b"hello")
            assert await peer.read(5) == b"hello"
            await port.stopListening()
        await turn()
        assert mine.getsockname()[1] != 0


def test_adoptedFamily(hubReactor: HubReactor) -> None:
    """Only streams of IP and UNIX can be adopted."""
    with pytest.raises(UnsupportedAddressFamily):
        hubReactor.adoptStreamPort(0, socket.AF_PACKET, Recorders())
