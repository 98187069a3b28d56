"""
Story: several workers share the port, come and go, and nobody notices but those whose connection died with one.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import UNIXAddress

from tests.net.peers import turn, until
from tests.story.test_drain import Held, clients, refuses
from tests.support.command import Command
from tests.support.load import Load
from tests.support.peers import Client

pytestmark = pytest.mark.slow

# Where it matters nothing which transports are used, ours are.
onHub = pytest.mark.parametrize("networkKind", ["hub"])


def workers(proxy: Command) -> dict[int, int]:
    """@return: the process id of the last worker in each slot."""
    found = re.findall(rb"worker (\d+) \(pid (\d+)\) is ready", proxy.output)
    return {int(number): int(pid) for number, pid in found}


def alive(pid: int) -> bool:
    """@return: whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends while it is read
        return False


def held(pid: int, number: int) -> int:
    """@return: how many accepted connections of a port a process has."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{name}")
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # 0A is LISTEN; the kernel may list a connection twice while others come and go
    accepted = {row[9] for row in rows if int(row[1].split(":")[1], 16) == number and row[3] != "0A"}
    return len(accepted & inodes)


async def seconds(load: Load, count: int) -> None:
    """Let so many more requests be answered."""
    wanted = load.done + count
    await until(lambda: load.done >= wanted, f"{count} more requests; {load.failures}")


async def stopped(proxy: Command) -> tuple[int, ...]:
    """@return: exchanges, failed and cut, as it says at the end of an orderly stop."""
    proxy.signal(signal.SIGTERM)
    assert await proxy.status() == 0, proxy.output.decode()
    assert b"Traceback" not in proxy.output, proxy.output.decode()
    found = re.search(rb"stopped: (\d+) exchanges, (\d+) failed, (\d+) cut off", proxy.output)
    assert found is not None, proxy.output.decode()
    return tuple(map(int, found.groups()))


@onHub
@pytest_twisted.ensureDeferred
async def test_killedUnderLoad(command: Any) -> None:
    """A worker that is killed under load takes no more than the connections that it held; it is replaced."""
    proxy = await command("--demo", "--workers", "2").started()
    before = workers(proxy)
    assert sorted(before) == [1, 2]
    with Load(proxy.number) as load:
        await seconds(load, 100)
        # Stopped first: what it holds is counted, while its queue fills; that must not die with it.
        os.kill(before[1], signal.SIGSTOP)
        await turn(0.1)
        mine = held(before[1], proxy.number)
        os.kill(before[1], signal.SIGKILL)
        await until(lambda: workers(proxy)[1] != before[1], "the new worker")
        await seconds(load, 200)
    assert load.again + len(load.failures) <= mine, (load.failures, mine)
    assert workers(proxy)[2] == before[2]
    assert re.search(rb"worker 1 was killed by SIGKILL; the next one starts now", proxy.output)
    assert not alive(before[1])
    exchanges, _, cut = await stopped(proxy)
    # what the killed one had counted in its last second is lost with it
    assert (exchanges > 200, cut) == (True, 0)


@pytest_twisted.ensureDeferred
async def test_rollingRestart(command: Any) -> None:
    """SIGHUP replaces all workers under load; no connection is refused or reset, no request fails."""
    proxy = await command("--demo", "--workers", "2").started()
    before = workers(proxy)
    with Load(proxy.number) as load:
        await seconds(load, 100)
        for _ in range(2):
            old = proxy.output.count(b"rolling restart done")
            proxy.signal(signal.SIGHUP)
            await until(lambda old=old: proxy.output.count(b"rolling restart done") > old, "the end of the restart")
            await seconds(load, 50)
    assert load.failures == []
    after = workers(proxy)
    assert set(before.values()) & set(after.values()) == set()
    await until(lambda: not any(map(alive, before.values())), "the end of the old ones")
    exchanges, failed, cut = await stopped(proxy)
    assert (exchanges, failed, cut) == (load.done, 0, 0)


@onHub
@pytest_twisted.ensureDeferred
async def test_longExchangeDuringARestart(command: Any, webServer: Any) -> None:
    """A rolling restart waits for nobody's long exchange, and cuts none: the old worker finishes it and goes then."""
    running = Held()
    origin = webServer(running)
    proxy = await command("--target", origin.target, "--workers", "2").started()
    before = workers(proxy)
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        await client.ask("POST", "/long", ("Content-Length: 20000",))
        await client.send(b"x" * 10000)
        holders = lambda: [pid for pid in before.values() if held(pid, proxy.number)]  # noqa: E731
        [mine] = await until(holders, "the accepted connection")
        proxy.signal(signal.SIGHUP)
        await until(lambda: b"rolling restart done" in proxy.output, "the end of the restart")
        assert alive(mine)
        await client.send(b"x" * 10000)
        await until(lambda: running.waiting, "the request upstream")
        running.release()
        response = await client.response()
        assert (response.status, response[b"connection"], len(response.body)) == (200, b"close", 20005)
        await until(lambda: not any(map(alive, before.values())), "the end of the old ones")
    assert await stopped(proxy) == (1, 0, 0)


@onHub
@pytest_twisted.ensureDeferred
async def test_oneSocketForAll(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a port can have one socket only, all workers accept from it, and a restart loses nothing either."""
    (tmp_path / "sitecustomize.py").write_text("import socket\ndel socket.SO_REUSEPORT\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    proxy = await command("--demo", "--workers", "2").started()
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert sum(int(row[1].split(":")[1], 16) == proxy.number and row[3] == "0A" for row in rows) == 1
    with Load(proxy.number, kept=3, fresh=3) as load:
        await seconds(load, 50)
        proxy.signal(signal.SIGHUP)
        await until(lambda: b"rolling restart done" in proxy.output, "the end of the restart")
        await seconds(load, 50)
    assert load.failures == []
    assert await stopped(proxy) == (load.done, 0, 0)


@onHub
@pytest_twisted.ensureDeferred
async def test_everythingDrains(command: Any, webServer: Any) -> None:
    """B10.2: SIGTERM to the parent loses none of the running exchanges of any worker; the sums say so."""
    running = Held()
    origin = webServer(running)
    proxy = await command("--target", origin.target, "--workers", "2").started()
    everybody = clients(proxy.number, 30)
    try:
        for number, client in enumerate(everybody):
            await client.ask("GET", f"/{number}")
        await until(lambda: len(running.waiting) == 30, "30 requests upstream")
        assert all(held(pid, proxy.number) for pid in workers(proxy).values())
        proxy.signal(signal.SIGTERM)
        await until(lambda: refuses(proxy.number), "the end of listening")
        running.release()
        for number, client in enumerate(everybody):
            response = await client.response()
            assert (response.status, response[b"connection"], response.body) == (200, b"close", b"/%d" % number)
    finally:
        for client in everybody:
            client.close()
    assert await proxy.status() == 0
    assert re.search(rb"twistproxy has stopped: 30 exchanges, 0 failed, 0 cut off", proxy.output)
    assert len(re.findall(rb'" 200 \d+ "', proxy.output)) == 30
    assert not any(map(alive, workers(proxy).values()))


@onHub
@pytest_twisted.ensureDeferred
async def test_acceptedJustBeforeTheSignal(command: Any, webServer: Any) -> None:
    """B10.2: clients who wait in the queues of the workers when the signal comes get their response."""
    proxy = await command("--target", webServer(Held()).target, "--workers", "2").started()
    # They cannot accept any of them before they are told to drain.
    for pid in workers(proxy).values():
        os.kill(pid, signal.SIGSTOP)
    early = clients(proxy.number, 40)
    try:
        for client in early:
            await client.ask("GET", "/now")
        proxy.signal(signal.SIGTERM)
        for pid in workers(proxy).values():
            os.kill(pid, signal.SIGCONT)
        for client in early:
            response = await client.response()
            # one that wakes up before it is told to drain keeps the connection, until it is
            assert (response.status, response.body) == (200, b"now")
        assert await proxy.status() == 0
    finally:
        for client in early:
            client.close()
    assert b"40 exchanges, 0 failed, 0 cut off" in proxy.output


@onHub
@pytest_twisted.ensureDeferred
async def test_secondSignalCuts(command: Any, webServer: Any) -> None:
    """B10.2: a second signal cuts what still runs in any worker."""
    origin = webServer(Held())
    proxy = await command("--target", origin.target, "--workers", "2").started()
    everybody = clients(proxy.number, 40)  # so many that no worker goes without
    try:
        for client in everybody:
            await client.ask("GET", "/held")
        await until(lambda: origin.requests == 40, "the requests upstream")
        proxy.signal(signal.SIGTERM)
        await until(lambda: proxy.output.count(b"draining") == 2, "the beginning of the draining")
        proxy.signal(signal.SIGTERM)
        for client in everybody:
            assert await client.ending() in ("closed", "reset")
        assert await proxy.status() == 0
    finally:
        for client in everybody:
            client.close()
    assert b"40 failed, 40 cut off" in proxy.output


@onHub
@pytest_twisted.ensureDeferred
async def test_signalToTheWholeGroup(command: Any, webServer: Any) -> None:
    """B10.2: a service manager's signal to every process of the group drains like one to the parent alone."""
    running = Held()
    origin = webServer(running)
    proxy = await command("--target", origin.target, "--workers", "2").started()
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        await client.ask("GET", "/held")
        await until(lambda: origin.requests == 1, "the request upstream")
        for number in (signal.SIGINT, signal.SIGHUP):
            for pid in workers(proxy).values():
                os.kill(pid, number)
        for pid in (*workers(proxy).values(), proxy.process.pid):
            os.kill(pid, signal.SIGTERM)
        await until(lambda: b"draining: 1" in proxy.output, "the beginning of the draining")
        running.release()
        assert (await client.response()).body == b"/held"
    assert await proxy.status() == 0
    assert b"1 exchanges, 0 failed, 0 cut off" in proxy.output


@onHub
@pytest_twisted.ensureDeferred
async def test_terminalClosed(command: Any) -> None:
    """SIGHUP from a terminal that was closed is no wish for a restart: nothing is left running behind the user's back."""
    master, slave = os.openpty()
    try:
        proxy = await command("--demo", "--workers", "2", stdin=slave).started()
        before = workers(proxy)
        proxy.signal(signal.SIGHUP)
        await until(lambda: b"rolling restart done" in proxy.output, "the restart")
    finally:
        os.close(slave)
        os.close(master)
    assert set(before.values()) & set(workers(proxy).values()) == set()
    proxy.signal(signal.SIGHUP)
    assert await proxy.status() == 0
    assert b"the terminal was closed" in proxy.output
    assert not any(map(alive, workers(proxy).values()))


@onHub
@pytest_twisted.ensureDeferred
async def test_signalToOneWorker(command: Any) -> None:
    """A worker that is told to end by somebody else has a successor first, and then drains; told twice it drains first."""
    proxy = await command("--demo", "--workers", "2").started()
    before = workers(proxy)
    with Load(proxy.number) as load:
        await seconds(load, 50)
        os.kill(before[2], signal.SIGTERM)
        await until(lambda: workers(proxy)[2] != before[2], "the new worker")
        await until(lambda: not alive(before[2]), "the end of the old one")
        second = workers(proxy)[2]
        for _ in range(2):
            os.kill(second, signal.SIGTERM)
            await turn(0.05)
        await until(lambda: not alive(second), "the end of the second")
        await until(lambda: workers(proxy)[2] != second, "the third worker")
        await seconds(load, 50)
    assert load.failures == []
    assert (await stopped(proxy))[1:] == (0, 0)


@onHub
@pytest_twisted.ensureDeferred
async def test_parentKilled(command: Any) -> None:
    """When the parent is killed, its workers go, and so does the port."""
    proxy = await command("--demo", "--workers", "2").started()
    pids = workers(proxy).values()
    proxy.signal(signal.SIGKILL)
    await until(lambda: not any(map(alive, pids)), "the end of the workers")
    assert refuses(proxy.number)


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes workers crash as soon as they start, or lets them be."""
    folder, flag = tmp_path / "site", tmp_path / "site" / "crash"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if 'twistproxy.workers' in sys.orig_argv and os.path.exists({str(flag)!r}):\n"
        "    sys.stderr.write('out of luck\\n')\n"
        "    sys.stderr.flush()\n"
        "    os._exit(7)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    def set(crash: bool) -> None:
        if crash:
            flag.touch()
        else:
            flag.unlink()

    return set


@onHub
@pytest_twisted.ensureDeferred
async def test_crashLoop(command: Any, crashing: Callable[[bool], None]) -> None:
    """Workers that die as often as they are started are the end: one error that says why, and an exit status."""
    crashing(True)
    proxy = command("--demo", "--workers", "2")
    assert await proxy.status() == 1
    output = proxy.output.decode()
    errors = [line for line in output.splitlines() if "giving up" in line]
    assert len(errors) == 1, output
    assert re.search(r"#critical\] worker \d ended \(exit status 7\), 5 times in a row .*out of luck", errors[0])
    assert "listens on" not in output
    assert "Traceback" not in output


@onHub
@pytest_twisted.ensureDeferred
async def test_restartThatFails(command: Any, crashing: Callable[[bool], None]) -> None:
    """A rolling restart to workers that cannot start costs nothing: the old ones go on."""
    proxy = await command("--demo", "--workers", "2").started()
    before = workers(proxy)
    crashing(True)
    with Load(proxy.number) as load:
        proxy.signal(signal.SIGHUP)
        await until(lambda: b"rolling restart given up" in proxy.output, "the end of the restart")
        await seconds(load, 50)
        assert all(map(alive, before.values()))
        crashing(False)
        proxy.signal(signal.SIGHUP)
        await until(lambda: b"rolling restart done" in proxy.output, "the second restart")
    assert (load.failures, set(before.values()) & set(workers(proxy).values())) == ([], set())
    assert (await stopped(proxy))[1:] == (0, 0)


@onHub
@pytest_twisted.ensureDeferred
async def test_emptySlotIsCovered(command: Any, crashing: Callable[[bool], None]) -> None:
    """While a dead worker has no successor yet, its port's queue is not: another one accepts from it."""
    proxy = await command("--demo", "--workers", "2").started()
    before = workers(proxy)
    crashing(True)
    os.kill(before[1], signal.SIGKILL)
    # the fourth comes a second after the third: there is time to ask
    await until(lambda: b"starts in 0.25 s" in proxy.output, "the second death")
    everybody = clients(proxy.number, 20)
    try:
        for client in everybody:
            assert (await client.get("/")).status == 200
        await until(lambda: held(before[2], proxy.number) == 20, "that the other one has them all")
    finally:
        for client in everybody:
            client.close()
    crashing(False)
    await until(lambda: workers(proxy)[1] != before[1], "the new worker")
    assert (await stopped(proxy))[1:] == (0, 0)


@onHub
@pytest.mark.parametrize("file", [False, True])
@pytest_twisted.ensureDeferred
async def test_linesAreWhole(command: Any, tmp_path: Path, file: bool) -> None:
    """B10.4: each exchange of each worker is one whole line of the one access log, and counted once."""
    path = tmp_path / "access.log"
    options = ("--access-log", str(path)) if file else ()
    # far longer than what a pipe takes in one piece
    target = "/" + "x" * 9000
    proxy = await command("--demo", "--workers", "2", *options).started()
    with Load(proxy.number, kept=4, fresh=4, path=target) as load:
        await seconds(load, 300)
        if file:
            path.rename(tmp_path / "old.log")
            proxy.signal(signal.SIGUSR1)
            await until(path.exists, "the new file")
        await seconds(load, 300)
    exchanges, failed, _ = await stopped(proxy)
    assert (load.failures, failed) == ([], 0)
    written = path.read_bytes() + (tmp_path / "old.log").read_bytes() if file else proxy.output
    assert (b"x" * 9000 in proxy.output) is not file
    lines = [line for line in written.splitlines() if b"xxxx" in line]
    whole = re.compile(rb'127\.0\.0\.1 - - \[[^\]]+\] "GET /x{9000} HTTP/1\.1" 200 \d+ "-" "-" (\w+) [\d.:]+ 1 \d+ \d+ \d+ -')
    found = [whole.fullmatch(line) for line in lines]
    assert all(found)
    assert len(lines) == exchanges == load.done
    # B2.8: request ids are unique, of whatever worker
    assert len({match[1] for match in found if match}) == exchanges
    assert proxy.output.count(b"access log reopened") == file


@onHub
@pytest_twisted.ensureDeferred
async def test_severalEndpoints(command: Any, socketFolder: str) -> None:
    """B10.1: all workers listen on all endpoints; a UNIX socket survives each of them, and is gone at the end."""
    path = f"{socketFolder}/s"
    # the second one is the same as the one which is always there
    same = ("--listen", "tcp:0:interface=127.0.0.1")
    proxy = await command("--demo", "--workers", "2", *same, "--listen", f"unix:{path}").started()
    [told] = re.findall(rb"listens on 127.0.0.1:(\d+), 127.0.0.1:(\d+), unix:", proxy.output)
    assert told[0] != told[1]
    for _ in range(2):
        for where in (int(told[0]), int(told[1]), UNIXAddress(path)):
            with Client.connect(where) as client:
                assert isinstance(client, Client)
                assert (await client.get("/")).status == 200
        proxy.signal(signal.SIGHUP)
        await until(lambda: b"rolling restart done" in proxy.output, "the restart")
    assert (await stopped(proxy))[0] == 6
    assert not Path(path).exists()


@onHub
@pytest_twisted.ensureDeferred
async def test_portTaken(command: Any) -> None:
    """B10.3: a port that another set of workers has is taken, and that is said once."""
    first = await command("--demo", "--workers", "2").started()
    second = command("--demo", "--workers", "2", "--listen", f"tcp:{first.number}:interface=127.0.0.1")
    assert await second.status() == 1
    assert re.fullmatch(
        rb"twist revproxy: cannot listen on tcp:\d+:interface=127.0.0.1: .*Address already in use.*\n",
        second.output,
    )
    with Client.connect(first.number) as client:
        assert isinstance(client, Client)
        assert (await client.get("/")).status == 200


@pytest.mark.parametrize("networkKind", ["stock"])
@pytest_twisted.ensureDeferred
async def test_stockTransportsCannotShare(command: Any, socketFolder: str) -> None:
    """B10.3: what cannot work is refused in one line: Twisted's own ports shut a shared UNIX socket down."""
    proxy = command("--demo", "--workers", "2", "--listen", f"unix:{socketFolder}/s")
    assert await proxy.status() == 64
    assert b"--stock-transports" in proxy.output
    assert proxy.output.count(b"\n") == 1


@onHub
@pytest_twisted.ensureDeferred
async def test_auto(command: Any) -> None:
    """C{--workers auto}: one for each CPU that the process may use; no module is taken from the folder it runs in."""
    # what lies there must not become a part of the workers
    proxy = command("--demo", "--workers", "auto", launcher=("-P", "-m", "twisted"))
    await proxy.started()
    count = len(os.sched_getaffinity(0))
    assert b"workers %d)" % count in proxy.output
    assert sorted(workers(proxy)) == list(range(1, count + 1))
    assert await stopped(proxy) == (0, 0, 0)


@onHub
@pytest_twisted.ensureDeferred
async def test_otherReactor(command: Any) -> None:
    """The workers run the reactor that the parent runs, and their log goes through the parent's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()[1]
    proxy = await command("--target", f":{nobody}", "--workers", "2", twist=("--reactor=asyncio",)).started()
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        assert (await client.get("/")).status == 502
    await until(lambda: re.search(rb"worker \d: .*refused", proxy.output), "the worker's log")
    # looked for once, by the first worker alone
    await until(lambda: b"cannot be reached now" in proxy.output, "the probe")
    assert proxy.output.count(b"cannot be reached now") == 1
    assert (await stopped(proxy))[:2] == (1, 1)
