"""
The running proxy as a service: listening, looking at its targets, draining.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher
from zope.interface.verify import verifyObject

from tests.net.peers import until
from tests.support.peers import Client, Origin
from twistproxy.deadlines import Timeouts
from twistproxy.limits import Limits
from twistproxy.net.network import Network
from twistproxy.observe.access import AccessLog, CombinedFormat
from twistproxy.proxy import ReverseProxy
from twistproxy.service import BadEndpoint, CannotStart, ProxyService, ServiceParts
from twistproxy.targets import targetOf

LOOPBACK = "tcp:0:interface=127.0.0.1"


def serviceFor(reactor: Any, *targets: str, **options: Any) -> ProxyService:
    """@return: a service that forwards to targets."""
    network = Network.of(reactor)
    proxy = options.pop("proxy", None) or ReverseProxy.to(targets[0] if targets else ":1", reactor=network)
    options.setdefault("listen", [LOOPBACK])
    return ProxyService(
        ServiceParts(
            network=network,
            proxy=proxy,
            targets=[targetOf(target, network) for target in targets],
            timeouts=Timeouts(),
            limits=Limits(),
            **options,
        )
    )


@pytest.fixture
def serve(warmReactor: Any) -> Iterator[Any]:
    """Starts services on loopback."""
    running: list[ProxyService] = []

    def start(*targets: str, **options: Any) -> ProxyService:
        service = serviceFor(warmReactor, *targets, **options)
        service.startService()
        running.append(service)
        return service

    async def stop(service: ProxyService) -> None:
        stopping = service.stopService()
        service.cutNow()
        await stopping

    yield start
    for service in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(stop(service)))


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin whose part the test plays."""
    made = Origin()
    yield made
    made.close()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged at info and above."""
    found: list[str] = []

    def observer(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.debug) >= LogLevel.info:
            found.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    globalLogPublisher.addObserver(observer)
    yield found
    globalLogPublisher.removeObserver(observer)


def client(service: ProxyService) -> Client:
    """@return: a client connected to a service's first port."""
    made = Client.connect(service.ports[0].getHost().port)  # type: ignore[attr-defined]
    assert isinstance(made, Client)
    return made


async def running(service: ProxyService, origin: Origin) -> tuple[Client, Any]:
    """@return: the client and the origin's connection of an exchange that waits for its response."""
    asking = client(service)
    await asking.ask()
    connection = await origin.acceptRequest()
    await connection.head()
    return asking, connection


def test_interface() -> None:
    """It is a service with a name."""
    service = serviceFor(MemoryReactorClock(), ":8081")
    assert verifyObject(IService, service)
    assert service.name == "twistproxy"


def test_starts(said: list[str]) -> None:
    """B10.1: it says once where it listens, where it forwards to, and within what limits."""
    reactor = MemoryReactorClock()
    service = serviceFor(
        reactor,
        "http://a.test:81/base?q",
        "https://b.test",
        "unix:/run/app.sock:/base",
        listen=["tcp:8080", r"tcp:8081:interface=\:\:1"],
    )
    service.startService()
    assert [server[0] for server in reactor.tcpServers] == [8080, 8081]
    assert said == [
        "twistproxy listens on 0.0.0.0:8080, [::1]:8081, forwards to http://a.test:81/base?q, https://b.test, "
        "unix:/run/app.sock:/base (connect 5 s, response head 60 s, keep-alive 75 s, request bodies unlimited, grace 30 s)"
    ]


@pytest_twisted.ensureDeferred
async def test_unixPort(serve: Any, origin: Origin, tmp_path: Path, said: list[str]) -> None:
    """B10.1: a UNIX socket is an endpoint like any other."""
    from tests.support.peers import shortFolder

    folder = Path(shortFolder())
    try:
        service = serve(origin.target, listen=[f"unix:{folder}/s"])
        assert f"listens on unix:{folder}/s," in said[0]
        asking = Client.connect(service.ports[0].getHost())
        assert isinstance(asking, Client)
        await asking.ask()
        connection = await origin.acceptRequest()
        head = await connection.head()
        assert b"X-Forwarded-For" not in head
        await connection.answer(b"hello")
        assert (await asking.response()).body == b"hello"
        asking.close()
        await service.stopService()
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@pytest_twisted.ensureDeferred
async def test_serves(serve: Any, origin: Origin) -> None:
    """It forwards, and counts."""
    service = serve(origin.target)
    asking, connection = await running(service, origin)
    await connection.answer(b"hello")
    assert (await asking.response()).body == b"hello"
    await until(lambda: service.counters.counts().exchanges)
    assert service.counters.counts().statuses == {200: 1}
    asking.close()


@pytest_twisted.ensureDeferred
async def test_unreachable(serve: Any, said: list[str]) -> None:
    """B10.3: a target that cannot be reached now only warns; requests get 502."""
    closed = Origin()
    target = closed.target
    closed.close()
    service = serve(target)
    await until(lambda: len(said) > 1)
    assert said[1].startswith(f"target {target} cannot be reached now (")
    assert said[1].endswith("requests get 502 until it can")
    asking = client(service)
    assert (await asking.get()).status == 502
    asking.close()


@pytest_twisted.ensureDeferred
async def test_oneUnreachable(serve: Any, said: list[str], origin: Origin) -> None:
    """B10.3: of several targets it is said whose requests others get."""
    closed = Origin()
    target = closed.target
    closed.close()
    service = serve(target, origin.target)
    await until(lambda: len(said) > 1)
    assert said[1].startswith(f"target {target} cannot be reached now (")
    assert said[1].endswith("others get its requests until it can")
    assert service.running


@pytest_twisted.ensureDeferred
async def test_endpoint(serve: Any, origin: Origin, said: list[str]) -> None:
    """B8.5, B10.3: an endpoint is a target as any other: looked at, named as it was written, and used."""
    port = origin.target.rpartition(":")[2]
    service = serve(f"endpoint:tcp:host=127.0.0.1:port={port}")
    asking, connection = await running(service, origin)
    await connection.answer(b"hello")
    assert (await asking.response()).body == b"hello"
    assert f"forwards to endpoint:tcp:host=127.0.0.1:port={port} (" in said[0]
    asking.close()


@pytest_twisted.ensureDeferred
async def test_reachable(serve: Any, origin: Origin, said: list[str]) -> None:
    """B10.3: one that can be reached is not kept waiting by the look at it, and nothing is said."""
    serve(origin.target)
    connection = await origin.accept()
    assert await connection.ending() == "reset"
    assert len(said) == 1


@pytest_twisted.ensureDeferred
async def test_stopsWhileLooking(warmReactor: Any, said: list[str]) -> None:
    """B10.2: a service that stops while it still looks says nothing about what it has not found."""
    service = serviceFor(warmReactor, "http://127.0.0.1:1")
    service.startService()
    await service.stopService()
    assert not any("cannot be reached" in line for line in said)


@pytest_twisted.ensureDeferred
async def test_drains(serve: Any, origin: Origin, said: list[str]) -> None:
    """B10.2: running exchanges finish, nobody new gets in, and the goodbye counts."""
    service = serve(origin.target)
    number = service.ports[0].getHost().port
    asking, connection = await running(service, origin)
    stopping = service.stopService()
    assert service.stopService() is stopping
    await until(lambda: _refused(number))
    assert not stopping.called
    await connection.answer(b"hello")
    response = await asking.response()
    assert (response.body, response[b"connection"]) == (b"hello", b"close")
    await stopping
    assert "draining: 1 exchanges are running" in said
    assert (
        said[-1]
        == "twistproxy has stopped: 1 exchanges, 0 failed, 0 cut off; 0 bytes of request and 5 of response bodies"
    )
    assert await connection.ending() in ("closed", "reset")
    asking.close()


def _refused(number: int) -> bool:
    try:
        Client.connect(number).close()
    except ConnectionError:
        return True
    return False


@pytest_twisted.ensureDeferred
async def test_grace(serve: Any, origin: Origin, said: list[str]) -> None:
    """B10.2: at most for as long as the grace lasts; then they are cut, and counted as that."""
    service = serve(origin.target, grace=0.1)
    asking, connection = await running(service, origin)
    await service.stopService()
    assert await asking.ending() == "reset"
    assert await connection.ending() == "reset"
    assert said[-1].startswith("twistproxy has stopped: 1 exchanges, 1 failed, 1 cut off;")


@pytest_twisted.ensureDeferred
async def test_cutNow(serve: Any, origin: Origin) -> None:
    """B10.2: or until somebody has enough of waiting."""
    service = serve(origin.target, grace=1000.0)
    asking, _ = await running(service, origin)
    stopping = service.stopService()
    service.cutNow()
    await stopping
    assert await asking.ending() == "reset"


@pytest_twisted.ensureDeferred
async def test_ownTransport(serve: Any) -> None:
    """A proxy with a transport of the user's stops as well."""
    from twisted.internet import reactor

    from twistproxy.message import Response

    proxy = ReverseProxy(lambda request: request.setTarget(":1"), lambda outbound: Response(204), reactor=reactor)
    service = serve(proxy=proxy)
    asking = client(service)
    assert (await asking.get()).status == 204
    asking.close()
    await service.stopService()


@pytest.mark.parametrize(
    ("listen", "error", "said"),
    [
        ("nonsense", BadEndpoint, "cannot listen on 'nonsense'"),
        ("tcp:http:80", BadEndpoint, "cannot listen on 'tcp:http:80'"),
        (
            "tcp:80:interface=::1",
            BadEndpoint,
            "cannot listen on 'tcp:80:interface=::1': malformed; write tcp:8080, or ",
        ),
        ("tcp:0:interface=192.0.2.99", CannotStart, "cannot listen on tcp:0:interface=192.0.2.99: "),
    ],
)
@pytest_twisted.ensureDeferred
async def test_cannotListen(warmReactor: Any, listen: str, error: type[Exception], said: str) -> None:
    """B10.3: what cannot be listened on is said in one line, and what was listened on already is let go."""
    service = serviceFor(warmReactor, listen=[LOOPBACK, listen], demo=True)
    with pytest.raises(error, match="cannot listen") as caught:
        service.startService()
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert service.ports == []


def test_cannotListenLater(loggedErrors: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """B10.3: an endpoint that fails when the service runs already is at least heard of."""
    later: Deferred[Any] = Deferred()

    class Slow:
        def listen(self, factory: Any) -> Deferred[Any]:
            return later

    monkeypatch.setattr("twistproxy.service.serverFromString", lambda reactor, description: Slow())
    service = serviceFor(MemoryReactorClock(), ":1")
    service.startService()
    later.errback(OSError("no more sockets"))
    [event] = loggedErrors
    assert event["description"] == LOOPBACK
    loggedErrors.clear()


@pytest_twisted.ensureDeferred
async def test_reopenLogs(serve: Any, warmReactor: Any, tmp_path: Path) -> None:
    """B10.4: the access log can be rotated, and is complete when the service has stopped."""
    path, old = tmp_path / "access.log", tmp_path / "old.log"
    service = serve(demo=True, access=AccessLog(str(path), CombinedFormat(), warmReactor))
    asking = client(service)
    assert (await asking.get("/old")).status == 200
    await until(lambda: service.counters.counts().exchanges == 1)
    path.rename(old)
    service.reopenLogs()
    assert (await asking.get("/new")).status == 200
    asking.close()
    await service.stopService()
    assert ['"GET /old HTTP/1.1"' in old.read_text(), '"GET /new HTTP/1.1"' in path.read_text()] == [True, True]


def test_noLogToReopen() -> None:
    """B10.4: without an access log there is nothing to reopen."""
    serviceFor(MemoryReactorClock(), ":1").reopenLogs()
