"""
The command: what it is told on its command line, and that every option does something.
"""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import IService, IServiceMaker
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from tests.net.certificates import Certificates, certificates
from tests.net.peers import until
from tests.support.command import Command
from tests.support.peers import Client, Origin
from twistproxy.deadlines import Timeouts
from twistproxy.net.reactor import HubReactor
from twistproxy.options import Options
from twistproxy.service import ProxyService
from twistproxy.tap import CommandService, makeService, serviceParts
from twistproxy.workers.command import CommandSupervisor

__all__ = ["certificates"]


def parsed(*arguments: str) -> Options:
    """@return: the options of a command line."""
    options = Options()
    options.parseOptions(list(arguments))
    return options


class Running:
    """
    What a command line makes, running in this process.

    @ivar number: the number of its first port.
    """

    def __init__(self, *arguments: str) -> None:
        from twisted.internet import reactor

        if "--access-log" not in arguments:
            arguments = (*arguments, "--no-access-log")
        self.parts = serviceParts(parsed("--listen", "tcp:0:interface=127.0.0.1", *arguments), reactor)
        self.service = ProxyService(self.parts)
        self.service.startService()
        self.number = self.service.ports[0].getHost().port
        self.clients: list[Client] = []

    def client(self) -> Client:
        """@return: a connected client."""
        client = Client.connect(self.number)
        assert isinstance(client, Client)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """End it."""
        for client in self.clients:
            client.close()
        await self.service.stopService()


@pytest.fixture
def run(warmReactor: Any) -> Iterator[Any]:
    """Runs command lines."""
    running: list[Running] = []

    def start(*arguments: str) -> Running:
        running.append(Running(*arguments))
        return running[-1]

    yield start
    for each in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(each.close()))


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin whose part the test plays."""
    made = Origin()
    yield made
    made.close()


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    """What is logged."""
    found: list[LogEvent] = []
    globalLogPublisher.addObserver(found.append)
    yield found
    globalLogPublisher.removeObserver(found.append)


async def sent(running: Running, origin: Origin, *lines: str, target: str = "/p", method: str = "GET") -> list[bytes]:
    """@return: the lines of the head that the origin gets for a request."""
    client = running.client()
    await client.send("\r\n".join((f"{method} {target} HTTP/1.1", "Host: front.test", *lines, "", "")).encode())
    connection = await origin.acceptRequest()
    head = await connection.head()
    await connection.answer()
    assert await client.upTo(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
    return head.split(b"\r\n")


async def refused(running: Running, head: str) -> bytes:
    """@return: the status line that a request gets at once."""
    client = running.client()
    await client.send(head.encode() + b"\r\nHost: front.test\r\n\r\n")
    return await client.upTo(b"\r\n")


# -- as a plugin


def test_plugin() -> None:
    """B10.1: C{twist} finds it under its name."""
    from twisted.application.twist._options import TwistOptions

    found = {plugin.tapname: plugin for plugin in TwistOptions().plugins.values()}["revproxy"]
    assert verifyObject(IPlugin, found)
    assert verifyObject(IServiceMaker, found)
    assert found.options is Options


def test_makeService() -> None:
    """B10.1: what it makes is a service."""
    made = makeService(parsed("--target", ":8081", "--no-access-log"))
    assert verifyObject(IService, made)
    assert type(made) is CommandService


def test_makeWorkers() -> None:
    """Several workers have a supervisor, whatever their number is; it hands its command line on to them."""
    arguments = ("--target", ":8081", "--no-access-log", "--workers")
    for number in ("2", "auto"):
        made = makeService(parsed(*arguments, number))
        assert verifyObject(IService, made)
        assert isinstance(made, CommandSupervisor)
        assert made._command[1:] == ["-P", "-m", "twistproxy.workers", *arguments, number]
    assert type(makeService(parsed(*arguments, "1"))) is CommandService


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """B10.1: --help shows examples, line by line, and all limits of time with their defaults."""
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    assert not ended.value.code
    text = capsys.readouterr().out
    assert "\nExamples:\n\ntwist revproxy --target http://127.0.0.1:8000\n  listen on port 8080" in text
    assert "\ntwist revproxy --demo\n" in text
    assert "connect 5, tls-handshake 5" in text
    for name in ("--target=", "--listen=", "--limit=", "--trust="):
        assert name in text
    continued = [line.strip() for line in text.partition("Examples:")[0].splitlines() if line.startswith(" " * 20)]
    assert [line for line in continued if "  " in line] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """C{twist revproxy --version} tells its own version, and that of Twisted beside it."""
    with pytest.raises(SystemExit) as ended:
        parsed("--version")
    assert not ended.value.code
    assert capsys.readouterr().out == f"twistproxy {version('twistproxy')}, Twisted {version('twisted')}\n"


def test_examples() -> None:
    """B10.1: and the examples work."""
    examples = [shlex.split(line)[2:] for line in Options.epilog.splitlines() if line.startswith("twist revproxy ")]
    assert len(examples) == 8
    for arguments in examples:
        parsed(*arguments)


# -- what is wrong (B10.1, B10.3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say where to: --target"),
        (["--target", "example.org"], "ambiguous; write http://example.org or https://example.org"),
        (["--target", "ftp://x"], "scheme 'ftp'"),
        (["--target", "endpoint:8081"], "ambiguous; write http://endpoint:8081"),
        (["--demo", "--target", ":1"], "exclude each other"),
        (["--target", ":1", "--host", "x", "--preserve-host"], "exclude each other"),
        (["--target", ":1", "--host", "a b"], "no valid Host"),
        (["--target", ":1", "--upstream-key", "k"], "needs --upstream-cert"),
        (["--target", ":1", "--access-format", "xml"], "write combined or json"),
        (["--target", ":1", "--grace", "soon"], "grace"),
        (["--target", ":1", "--grace", "-1"], "at least 0"),
        (["--target", ":1", "--grace", "nan"], "at least 0"),
        (["--target", ":1", "--grace", "inf"], "--grace inf: write a number, at least 0"),
        (["--target", ":1", "--flush-interval", "inf"], "write a number"),
        (["--demo", "--workers", "0"], "--workers 0: write a whole number from 1 to 256, or auto"),
        (["--demo", "--workers", "257"], "--workers 257: write a whole number from 1 to 256, or auto"),
        (["--demo", "--workers", "many"], "--workers many: write a whole number from 1 to 256, or auto"),
        (["--target", ":1", "--max-body", "1.5"], "--max-body 1.5: write a whole number"),
        (["--target", ":1", "--max-connections", "0"], "at least 1"),
        (["--target", ":1", "--trust", "proxy.test"], "write 10.0.0.0/8 or ::1"),
        (["--target", ":1", "--limit", "conect=5"], "unknown limit 'conect'"),
        (["--target", ":1", "--limit", "connect"], "write connect=SECONDS"),
        (["--target", ":1", "--limit", "connect=0"], "more than 0 seconds; write connect=off"),
        (["--target", ":1", "--limit", "connect=nan"], "more than 0 seconds"),
        (["--target", ":1", "--limit", "connect=inf"], "more than 0 seconds"),
        (["--tarket", ":1"], "tarket"),
        (["http://localhost:3000"], "is --target http://localhost:3000 meant?"),
        (["--target", "https://x", "--upstream-name", "a b"], "no name of a server"),
        (["--target", "https://x", "--upstream-name", ""], "no name of a server"),
        (["--target", "https://x", "--upstream-name", "x:8443"], "no name of a server"),
        (["--target", "https://x", "--upstream-name", "https://x"], "no name of a server"),
        (["--target"], "target"),
        (["--target", ":1", "--balance", "fastest"], "--balance fastest: write round-robin, least-requests, random"),
        (["--target", ":1", "--retries", "-1"], "--retries -1: write a whole number from 0 to 30"),
        (["--target", ":1", "--retries", "31"], "--retries 31: write a whole number from 0 to 30"),
        (["--target", ":1", "--retry-on", "all"], "--retry-on all: write statuses such as 502,503,504"),
        (["--target", ":1", "--retry-on", "503,200"], "write statuses such as"),
        (["--target", ":1", "--retry-on", ""], "write statuses such as"),
        (["--target", ":1", "--retry-on", "503", "--retries", "0"], "needs --retries of 1 at least"),
        (["--target", ":1", "--breaker", "maybe"], "--breaker maybe: write on or off"),
    ],
)
def test_wrong(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """B10.1: what is wrong is said in one line, with what to do; exit status 64."""
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (64, "", 1)
    assert err.startswith("twist revproxy: ")
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["--balance", "random"], []),
        (["--retries", "2"], ["RetryTransport"]),
        (["--retry-on", "503"], ["RetryTransport"]),
        (["--breaker", "on"], ["BreakerTransport"]),
        (["--target", ":2"], ["RetryTransport", "BalancingTransport", "BreakerTransport"]),
        (["--target", ":2", "--retries", "0", "--breaker", "off"], ["BalancingTransport"]),
    ],
)
def test_policies(arguments: list[str], expected: list[str]) -> None:
    """One target is as good as its upstream is; several are balanced, tried one after the other, and left alone."""
    parts = serviceParts(parsed("--target", ":1", *arguments), MemoryReactorClock())
    found, transport = [], parts.proxy.transport
    while hasattr(transport, "transport"):
        found.append(type(transport).__name__)
        transport = transport.transport
    assert found == expected


def test_policySettings() -> None:
    """What the options say is what the policies do."""
    arguments = "--target :2 --balance least-requests --retries 3 --retry-on 502,503"
    transport: Any = serviceParts(parsed("--target", ":1", *arguments.split()), MemoryReactorClock()).proxy.transport
    assert (transport.policy.most, transport.policy.statuses) == (3, {502, 503})
    assert type(transport.transport.balancer).__name__ == "LeastRequests"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--via", "two words"], 64, "Via must be a token"),
        (["--upstream-ca", "/nonexistent.pem"], 1, "/nonexistent.pem"),
        (["--upstream-cert", "/nonexistent.pem"], 1, "/nonexistent.pem"),
        (["--upstream-ca", "/dev/null"], 1, "/dev/null"),
        (["--access-log", "/nonexistent/access.log"], 1, "/nonexistent/access.log"),
        (["--target", "endpoint:nope:x"], 64, "Unknown endpoint type: 'nope'; write endpoint:tcp:"),
    ],
)
def test_cannotBeMade(arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """B10.3: so is what turns out when the service is made; exit status 1 for what lies outside."""
    with pytest.raises(SystemExit) as ended:
        serviceParts(parsed("--target", ":1", *arguments), MemoryReactorClock())
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (status, 1)
    assert said in err


@pytest.mark.parametrize(("demo", "first"), [(False, False), (True, False), (False, True)])
def test_portTaken(demo: bool, first: bool, warmReactor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """B10.3: a port that is taken: one line that names it, exit status 1, and nothing else is left listening."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        free = ["--listen", "tcp:0:interface=127.0.0.1"] if first else []
        options = parsed(
            *(["--demo"] if demo else ["--target", ":1"]),
            *free,
            "--listen",
            f"tcp:{number}:interface=127.0.0.1",
            "--no-access-log",
        )
        service = CommandService(warmReactor, serviceParts(options, warmReactor))
        with pytest.raises(SystemExit) as ended:
            service.startService()
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (1, 1)
    assert f"cannot listen on tcp:{number}" in err
    assert "Address already in use" in err


def test_noEndpoint(warmReactor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """B10.1: what is no endpoint at all is a bad option."""
    options = parsed(
        "--target", ":1", "--listen", "tcp:0:interface=127.0.0.1", "--listen", "nonsense", "--no-access-log"
    )
    service = CommandService(warmReactor, serviceParts(options, warmReactor))
    with pytest.raises(SystemExit) as ended:
        service.startService()
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (64, 1)
    assert "cannot listen on 'nonsense'" in err


def test_process(tmp_path: Path) -> None:
    """B10.1: as a process: one line on standard error, and its exit status."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        root = str(Path(__file__).parent.parent)
        for arguments, status in (
            (["--limit", "x=1"], 64),
            (["--demo", "--listen", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"], 1),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "twisted", "revproxy", *arguments],
                cwd=tmp_path,
                env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
                capture_output=True,
                check=False,
                timeout=60,
            )
            assert (done.returncode, done.stderr.count(b"\n")) == (status, 1)
            assert done.stderr.startswith(b"twist revproxy: ")


# -- what every option does


def test_defaults() -> None:
    """B10.1: port 8080, 30 seconds of grace, and a careful operator's limits."""
    parts = serviceParts(parsed("--target", ":1", "--no-access-log"), MemoryReactorClock())
    assert (parts.listen, parts.grace, parts.timeouts) == (["tcp:8080"], 30.0, Timeouts())
    assert (parts.access, parts.tls.verify) == (None, True)  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_target(run: Any, origin: Origin) -> None:
    """B10.1: --target says where to, and what the request becomes."""
    lines = await sent(run("--target", origin.target + "/base"), origin)
    assert lines[:2] == [b"GET /base/p HTTP/1.1", b"Host: 127.0.0.1:%d" % origin.port]
    assert b"X-Forwarded-For: 127.0.0.1" in lines
    assert b"Via: 1.1 twistproxy" in lines
    assert not any(line.startswith(b"Forwarded") for line in lines)


@pytest_twisted.ensureDeferred
async def test_targets(run: Any, origin: Origin) -> None:
    """B10.1: several are used in turn."""
    other = Origin()
    try:
        running = run("--target", origin.target, "-t", other.target)
        for each in (origin, other):
            await sent(running, each)
    finally:
        other.close()


@pytest_twisted.ensureDeferred
async def test_listen(run: Any, origin: Origin, tmp_path: Path) -> None:
    """B10.1: --listen takes any endpoint, several times."""
    running = run("--target", origin.target, "-l", "tcp:0:interface=127.0.0.1")
    numbers = [port.getHost().port for port in running.service.ports]
    assert len(set(numbers)) == 2
    running.number = numbers[1]
    await sent(running, origin)


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (["--preserve-host"], b"Host: front.test"),
        (["--host", "fixed.test"], b"Host: fixed.test"),
        (["--forwarded"], b"Forwarded: for=127.0.0.1;host=front.test;proto=http"),
        (["--via", "edge"], b"Via: 1.1 edge"),
        (["--raw-query"], b"GET /p?a;b HTTP/1.1"),
        (["--trust", "10.0.0.0/8", "--trust", "127.0.0.1"], b"X-Forwarded-For: 198.51.100.9, 127.0.0.1"),
        (["--trust", "::1"], b"X-Forwarded-For: 127.0.0.1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_heads(run: Any, origin: Origin, arguments: list[str], there: bytes) -> None:
    """B10.1: options that change what the upstream is sent."""
    lines = await sent(
        run("--target", origin.target, *arguments), origin, "X-Forwarded-For: 198.51.100.9", target="/p?a;b"
    )
    assert there in lines


@pytest_twisted.ensureDeferred
async def test_noVia(run: Any, origin: Origin) -> None:
    """B10.1: --via none writes none, and without --raw-query a query is cleaned."""
    lines = await sent(run("--target", origin.target, "--via", "none"), origin, target="/p?a;b")
    assert lines[0] == b"GET /p HTTP/1.1"
    assert not any(line.startswith(b"Via") for line in lines)


@pytest.mark.parametrize(
    ("option", "head", "status"),
    [
        ("--strict-paths", "GET /a%2Fb HTTP/1.1", b"400"),
        ("--max-body=2", "POST / HTTP/1.1\r\nContent-Length: 3", b"413"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusing(run: Any, option: str, head: str, status: bytes) -> None:
    """B10.1: options that refuse more."""
    assert (await refused(run("--target", ":1", option), head)).split(b" ")[1] == status
    assert (await refused(run("--target", ":1"), head)).split(b" ")[1] == b"502"


@pytest.mark.parametrize(
    ("option", "head", "status"),
    [("--allow-trace", "TRACE / HTTP/1.1", b"405"), ("--no-fence", "GET /../x HTTP/1.1", b"400")],
)
@pytest_twisted.ensureDeferred
async def test_allowing(run: Any, option: str, head: str, status: bytes) -> None:
    """B10.1: options that allow more."""
    assert (await refused(run("--target", "http://127.0.0.1:1/base", option), head)).split(b" ")[1] == b"502"
    assert (await refused(run("--target", "http://127.0.0.1:1/base"), head)).split(b" ")[1] == status


@pytest_twisted.ensureDeferred
async def test_maxConnections(run: Any, origin: Origin) -> None:
    """B10.1: --max-connections lets the others wait in line."""
    running = run("--target", origin.target, "--max-connections", "1")
    first, second = running.client(), running.client()
    await first.ask(target="/1")
    connection = await origin.acceptRequest()
    await connection.head()
    await second.ask(target="/2")
    [pool] = running.parts.proxy.transport.pools.values()
    await until(lambda: pool.waiting)
    await connection.answer()
    assert (await connection.head()).startswith(b"GET /2 ")
    await connection.answer()
    await second.head()


@pytest_twisted.ensureDeferred
async def test_limit(run: Any, origin: Origin) -> None:
    """B10.1: --limit sets a limit of time, or switches it off."""
    running = run("--target", origin.target, "--limit", "response-head=0.1", "--limit", "keep-alive=off")
    assert running.parts.timeouts == Timeouts(responseHead=0.1, keepAlive=None)
    client = running.client()
    await client.ask()
    await origin.acceptRequest()
    assert (await client.head()).startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("name", [field.name for field in Timeouts.__attrs_attrs__])  # type: ignore[attr-defined]
def test_everyLimit(name: str) -> None:
    """B9: every limit has a name on the command line."""
    written = "".join(f"-{char.lower()}" if char.isupper() else char for char in name)
    parts = serviceParts(parsed("--target", ":1", "--limit", f"{written}=7", "--no-access-log"), MemoryReactorClock())
    assert getattr(parts.timeouts, name) == 7.0


def test_transports(warmReactor: Any) -> None:
    """B10.1: --stock-transports does without the hub."""
    base = ["--target", ":1", "--no-access-log"]
    assert isinstance(serviceParts(parsed(*base), warmReactor).network.reactor, HubReactor)
    assert serviceParts(parsed(*base, "--stock-transports"), warmReactor).network.reactor is warmReactor


def test_numbers() -> None:
    """B10.1: --grace and --flush-interval arrive where they are used."""
    options = parsed("--target", ":1", "-g", "5", "--flush-interval", "0.25", "--no-access-log")
    parts = serviceParts(options, MemoryReactorClock())
    assert (parts.grace, parts.proxy.settings.flushInterval) == (5.0, 0.25)


def test_tls(certificates: Certificates, events: list[LogEvent]) -> None:
    """B8.4: how https targets are spoken to; not to verify them is said loudly."""
    arguments = [
        *("--target", "https://app.example", "--insecure-upstream", "--no-access-log"),
        *("--upstream-ca", certificates.authority, "--upstream-cert", certificates.client),
        *("--upstream-key", certificates.client, "--upstream-name", "other.example"),
    ]
    reactor = MemoryReactorClock()
    parts = serviceParts(parsed(*arguments), reactor)
    tls = parts.tls
    assert tls is not None
    assert (tls.verify, tls.caFile, tls.certificate, tls.key, tls.serverName) == (
        False,
        certificates.authority,
        certificates.client,
        certificates.client,
        "other.example",
    )
    CommandService(reactor, parts)
    assert ["NOT verified" in event["log_format"] for event in events if "log_format" in event] == [True]


@pytest.mark.parametrize("format", ["combined", "json"])
@pytest_twisted.ensureDeferred
async def test_accessLog(run: Any, origin: Origin, tmp_path: Path, format: str) -> None:
    """B10.4: the access log goes to a file in the format asked for, and is flushed when the service stops."""
    path = tmp_path / "access.log"
    running = run("--target", origin.target, "--access-log", str(path), "--access-format", format)
    await sent(running, origin)
    await running.close()
    [line] = path.read_text().splitlines()
    if format == "json":
        assert (json.loads(line)["target"], json.loads(line)["status"]) == ("/p", 200)
    else:
        assert '"GET /p HTTP/1.1" 200 0' in line


@pytest_twisted.ensureDeferred
async def test_demo(run: Any) -> None:
    """B10.1: --demo shows what is forwarded, without a server at hand."""
    running = run("--demo")
    response = await running.client().get("/hello")
    assert response.status == 200
    assert b"GET /hello HTTP/1.1" in response.body
    assert b"X-Forwarded-For: 127.0.0.1" in response.body


# -- signals


class Stopping(MemoryReactorClock):
    """A reactor that counts how often it is stopped."""

    stops = 0

    def stop(self) -> None:
        self.stops += 1

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        function(*arguments)


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers as they were."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_signals(handlers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B10.2, B10.4: SIGUSR1 reopens the log; the first SIGTERM or SIGINT drains, the second cuts, however soon it comes."""
    monkeypatch.setattr("gc.freeze", lambda: None)
    reactor = Stopping()
    path = tmp_path / "access.log"
    parts = serviceParts(parsed("--demo", "--access-log", str(path)), reactor)
    service = CommandService(reactor, parts)
    cuts: list[int] = []
    monkeypatch.setattr(service, "cutNow", lambda: cuts.append(1))
    service._running()
    path.unlink()
    signal.raise_signal(signal.SIGUSR1)
    assert path.exists()
    signal.raise_signal(signal.SIGTERM)
    assert (reactor.stops, cuts) == (1, [])
    signal.raise_signal(signal.SIGINT)
    assert (reactor.stops, cuts) == (1, [1])
    assert parts.access is not None
    parts.access.close()


def test_earlySignals(handlers: None, tmp_path: Path) -> None:
    """B10.2, B10.4: from the moment it listens: a log rotation must not kill a proxy whose reactor is still starting."""
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # not the default: it would end the tests
    reactor = Stopping()
    path = tmp_path / "access.log"
    parts = serviceParts(parsed("--target", ":1", "--access-log", str(path)), reactor)
    service = CommandService(reactor, parts)
    service.startService()
    path.unlink()
    signal.raise_signal(signal.SIGUSR1)
    assert path.exists()
    signal.raise_signal(signal.SIGTERM)
    assert reactor.stops == 1
    assert parts.access is not None
    parts.access.close()


@pytest_twisted.ensureDeferred
async def test_explain(run: Any, origin: Origin, events: list[LogEvent]) -> None:
    """B9: --explain tells in the log why each exchange went as it did; nothing of it without."""
    await sent(run("--target", origin.target), origin)
    assert [event for event in events if "explanation" in event] == []
    await sent(run("--target", origin.target, "--explain"), origin, "Connection: X-Mine", "X-Mine: 1")
    [event] = [event for event in events if "explanation" in event]
    assert "  removed x-mine: named by Connection" in str(event["explanation"]).splitlines()
    json.dumps(event["explanation"])


@pytest.mark.parametrize(("network", "answered"), [("127.0.0.0/8", True), ("10.0.0.0/8", False)])
@pytest_twisted.ensureDeferred
async def test_explainToTrusted(run: Any, origin: Origin, network: str, answered: bool) -> None:
    """B9: those of --trust may ask for an explanation, which no upstream gets to see; nobody else may."""
    client = run("--target", origin.target, "--trust", network).client()
    await client.send(b"GET /p HTTP/1.1\r\nHost: front.test\r\nX-Proxy-Explain: 1\r\n\r\n")
    connection = await origin.acceptRequest()
    assert b"explain" not in (await connection.head()).lower()
    await connection.answer()
    head = await client.upTo(b"\r\n\r\n")
    assert (b"\r\nX-Proxy-Explain: director: forwarded to 127.0.0.1:" in head) is answered


@pytest_twisted.ensureDeferred
async def test_jsonLog(tmp_path: Path) -> None:
    """B10.4: twist --log-format json works: what the proxy logs can be written as JSON, and its fields can be read."""
    command = Command(tmp_path, "--demo", "--no-access-log", twist=("--log-format=json",))
    try:
        await until(lambda: b"listens on" in command.output or command.ended)
    finally:
        command.kill()
    events = [json.loads(line) for line in command.output.decode().split("\x1e") if line]
    [event] = [event for event in events if event["log_namespace"].startswith("twistproxy.") and "targets" in event]
    assert event["addresses"].startswith("127.0.0.1:")
    assert event["targets"] == "the demo origin"
