"""
Programs as upstreams: started when they are wanted, watched, and ended.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.net.peers import turn, until
from tests.support import ondemand
from tests.support.command import Command
from tests.support.peers import Client
from tests.support.programs import python
from twistproxy import Router, Timeouts
from twistproxy.targets import ProcessTarget, Supervision, targetOf
from twistproxy.upstream.supervisor import State, Supervisor

SCRIPT = ondemand.__file__
#: without site-packages it starts sooner
PROGRAM = [sys.executable, "-I", "-S", SCRIPT]


def program(
    *arguments: str, env: dict[str, str] | None = None, cwd: str | None = None, **settings: Any
) -> ProcessTarget:
    """@return: a target for the small server."""
    settings.setdefault("pause", 0.01)
    return ProcessTarget([*PROGRAM, *arguments], env=env, cwd=cwd, supervision=Supervision(**settings))


def supervisorOf(target: Any) -> Supervisor:
    """@return: who looks after a target's program."""
    found: Supervisor = target.endpoint.supervisor
    return found


def runs(pid: int) -> bool:
    """@return: whether there is such a process, be it a zombie."""
    return os.path.exists(f"/proc/{pid}")


def sockets() -> set[str]:
    """@return: the folders for sockets that there are."""
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("twistproxy-")}


# -- what is written


def test_interfaces() -> None:
    """It is an endpoint."""
    assert verifyObject(IStreamClientEndpoint, program().endpoint)


def test_strings() -> None:
    """A program can be written as one string, split as by a shell."""
    target = targetOf(f"exec:{sys.executable} -m 'http server' {{port}}", Clock())
    assert isinstance(target, ProcessTarget)
    assert supervisorOf(target).program.arguments == [sys.executable, "-m", "http server", "{port}"]
    assert target.name == f"exec:{os.path.basename(sys.executable)}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no program; write it with its arguments"),
        ("   ", "names no program"),
        ("python 'x", "malformed: No closing quotation; quote it"),
        ("no-such-program-here {port}", "there is no program 'no-such-program-here'"),
        ("/etc/passwd {port}", "there is no program '/etc/passwd' that can be run; write its path"),
        ("python3 {port} {socket}", "write one of them"),
    ],
)
def test_badPrograms(text: str, reason: str) -> None:
    """What is wrong is said in one line that says what to do, when the target is made."""
    with pytest.raises(ValueError, match=r"write|quote") as caught:
        targetOf(f"exec:{text}", Clock())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_badFolder(tmp_path: Path) -> None:
    """A folder that is not there is told of at once; a relative program is looked for in the folder."""
    with pytest.raises(ValueError, match="does not exist"):
        ProcessTarget(PROGRAM, cwd=str(tmp_path / "nowhere"))
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    target = ProcessTarget(["./run"], cwd=str(tmp_path))
    assert supervisorOf(target).program.executable == str(tmp_path / "run")


@pytest.mark.parametrize(("name", "value"), [("kill", -1), ("failures", 0), ("idle", float("nan"))])
def test_badSupervision(name: str, value: Any) -> None:
    """Numbers that make no sense are refused when they are written."""
    with pytest.raises(ValueError, match=f"{name}=.*at least"):
        Supervision(**{name: value})


# -- its life


@pytest_twisted.ensureDeferred
async def test_onDemand(front: Any, tmp_path: Path) -> None:
    """It is started by the first request, serves all, is told its port, and ends when the target is closed."""
    target = program("--listen={port}", env={"EXTRA": "port {port}"}, cwd=str(tmp_path))
    served = front(target)
    assert supervisorOf(target).pid is None
    first = (await served.ask()).body.decode()
    match = re.fullmatch(rf"(\d+) --listen=(\d+) port \2 {tmp_path}", first)
    assert match is not None, first
    pid = int(match[1])
    assert (await served.ask()).body.decode() == first
    assert supervisorOf(target).pid == pid
    served.proxy.transport.cut()
    await target.close()
    assert not runs(pid)
    answer = await served.ask()
    assert answer.status == 503


@pytest_twisted.ensureDeferred
async def test_unixSocket(front: Any) -> None:
    """With C{{socket}} it gets a UNIX socket, in a folder of its own, which goes with it."""
    before = sockets()
    target = program("{socket}")
    served = front(target)
    path = (await served.ask()).body.split()[1].decode()
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    assert len(sockets() - before) == 1
    served.proxy.transport.cut()
    await target.close()
    assert sockets() - before == set()


@pytest_twisted.ensureDeferred
async def test_requestsWait(front: Any, tmp_path: Path) -> None:
    """Requests wait until it can be connected to, up to a number, and it is started once."""
    go = tmp_path / "go"
    target = program("late", str(go), maxWaiting=3)
    served = front(target)
    clients = [served.client() for _ in range(3)]
    for client in clients:
        await client.ask()
    await until(lambda: served.connections == 3, "that they wait")
    await until(lambda: any("starting" in line for line in served.said), "its start")
    assert (await served.ask()).status == 503
    assert supervisorOf(target).state is State.STARTING
    go.touch()
    bodies = {(await client.response()).body for client in clients}
    assert len(bodies) == 1
    assert sum(line.endswith(": starting") for line in served.said) == 1


@pytest_twisted.ensureDeferred
async def test_clientLeaves(front: Any, tmp_path: Path) -> None:
    """B7.1: who leaves while it starts waits no more; the next one finds it ready."""
    go = tmp_path / "go"
    target = program("late", str(go))
    served = front(target)
    client = served.client()
    await client.ask()
    await until(lambda: served.connections, "that it waits")
    client.close()
    assert (await served.settled()).error.stage.value == "connect"
    assert served.connections == 0
    go.touch()
    assert (await served.ask()).status == 200


@pytest_twisted.ensureDeferred
async def test_connectLimit(front: Any) -> None:
    """B9: a request waits no longer than the limit for connecting, however long it takes to start."""
    served = front(program("mute"), timeouts=Timeouts(connect=0.2))
    assert (await served.ask()).status == 504


@pytest_twisted.ensureDeferred
async def test_tooSlow(front: Any) -> None:
    """One that cannot be connected to in time is ended, and has failed."""
    served = front(program("mute", start=0.2, failures=1))
    answer = await served.ask()
    assert answer.status == 503
    assert "could not be connected to within 0.2 s" in served.records[0].error.reason


@pytest_twisted.ensureDeferred
async def test_crash(front: Any) -> None:
    """One that crashes is started again by the next request; the log says how it ended, and its last words."""
    target = program()
    served = front(target)
    first = (await served.ask()).body
    assert (await served.ask("POST", "/crash")).status == 502
    second = (await served.ask()).body
    assert first != second
    [said] = [line for line in served.said if "failed:" in line and "it ended" in line]
    assert "it ended with exit status 3; it said last:\nsomething went wrong\nvery wrong" in said


@pytest_twisted.ensureDeferred
async def test_crashLoop(front: Any) -> None:
    """One that always fails: 503, one line in the log with its last words, and no new start before the pause is over."""
    target = program("fail", failures=3, pause=0.02, maxPause=1000.0)
    served = front(target)
    assert (await served.ask()).status == 503
    error = served.records[0].error
    assert "keeps failing: it ended with exit status 1" in error.reason
    assert (error.stage.value, error.side.value, error.sent.value) == ("connect", "upstream", "nothing")
    [said] = [line for line in served.said if "keeps failing" in line and "requests get 503" in line]
    assert said.endswith("it said last:\nno such luck")
    supervisor = supervisorOf(target)
    supervisor._notBefore += 1000
    assert (await served.ask()).status == 503
    assert sum(line.endswith(": starting") for line in served.said) == 3
    supervisor._notBefore = 0
    assert (await served.ask()).status == 503
    assert sum(line.endswith(": starting") for line in served.said) == 4
    assert sum("requests get 503" in line for line in served.said) == 1


def test_pauses() -> None:
    """Each failure doubles the pause, up to a bound, and a random part of it is left out."""
    clock = Clock()
    supervisor = Supervisor(program().endpoint.supervisor.program, Supervision(pause=1, maxPause=8), lambda: clock)
    for most in (1, 2, 4, 8, 8):
        supervisor._failed("it was told to")
        assert most / 2 <= supervisor._notBefore <= most
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_idle(front: Any) -> None:
    """One that nobody has a connection to ends after a while, if asked, and is started again when it is wanted."""
    target = program(idle=0.1)
    served = front(target, timeouts=Timeouts(connect=60, upstreamIdle=0.2))
    first = (await served.ask()).body
    await until(lambda: supervisorOf(target).state is State.STOPPED, "its end")
    assert (await served.ask()).body != first
    assert [line for line in served.said if "failed" in line] == []


@pytest_twisted.ensureDeferred
async def test_closeWaits(front: Any) -> None:
    """B10.2: closed, it ends behind its last connection, not before."""
    target = program()
    served = front(target)
    client = served.client()
    await client.ask("GET", "/wait")
    await until(lambda: any("waiting" in line for line in served.said), "the request")
    closing = target.close()
    await turn(0.05)
    assert not closing.called
    assert supervisorOf(target).state is State.READY
    client.close()
    await closing
    assert supervisorOf(target).state is State.STOPPED


@pytest_twisted.ensureDeferred
async def test_closeWhileStarting(front: Any) -> None:
    """Closed while it starts, it ends, and who waits for it gets 503."""
    target = program("mute")
    served = front(target)
    client = served.client()
    await client.ask()
    await until(lambda: supervisorOf(target).pid, "its start")
    await target.close()
    assert (await client.response()).status == 503
    assert supervisorOf(target).pid is None


@pytest_twisted.ensureDeferred
async def test_stubborn(front: Any) -> None:
    """One that does not mind SIGTERM is killed after a while."""
    target = program("stubborn", kill=0.1)
    served = front(target)
    pid = int((await served.ask()).body.split()[0])
    served.proxy.transport.cut()
    await target.close()
    assert not runs(pid)


@pytest_twisted.ensureDeferred
async def test_ownedByTheProxy(front: Any) -> None:
    """A program that was given as a string belongs to the proxy, whose C{close} ends it; another is its giver's."""
    own = front(f"exec:{' '.join(PROGRAM)}")
    [made] = own.proxy.director.targets
    given = program()
    lent = front(given)
    for served, target, state in ((own, made, State.STOPPED), (lent, given, State.READY)):
        assert (await served.ask()).status == 200
        served.proxy.close()
        await until(lambda: supervisorOf(target)._users == 0, "that nobody is there")  # noqa: B023
        await until(lambda: supervisorOf(target).state is not State.STOPPING, "its end")  # noqa: B023
        assert supervisorOf(target).state is state


@pytest_twisted.ensureDeferred
async def test_router(front: Any) -> None:
    """A router that made a program ends it too."""
    router = Router().add(f"exec:{' '.join(PROGRAM)}")
    [director] = router._ours
    [target] = director.targets
    supervisor = supervisorOf(target)
    waiting = supervisor.ready()
    await waiting
    router.close()
    await until(lambda: supervisor.state is State.STOPPED, "its end")


# -- from the command line


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Starts the command."""
    running: list[Command] = []

    def start(*arguments: str) -> Command:
        running.append(Command(tmp_path, *arguments))
        return running[-1]

    yield start
    for each in running:
        each.kill()


@pytest_twisted.ensureDeferred
async def test_command(command: Callable[..., Command]) -> None:
    """B10.1, B10.2: C{--target exec:...} starts it when it is wanted, and it does not outlive the command."""
    process = await command("--target", f"exec:{' '.join(PROGRAM)} {{port}}", "--limit", "connect=60").started()
    assert b": starting" not in process.output
    with Client.connect(process.number) as client:
        assert isinstance(client, Client)
        pid = int((await client.get()).body.split()[0])
    process.signal(15)
    assert await process.status() == 0
    assert not runs(pid)
    assert b"Traceback" not in process.output


STOPPED = """
import sys
from twisted.internet import reactor
from twistproxy.agents import ProxyAgent
from twistproxy.targets import ProcessTarget
from twistproxy.events import ExchangeRecord
from twistproxy.headers import Headers
from twistproxy.message import OutboundRequest

target = ProcessTarget(sys.argv[1:])
request = OutboundRequest(b"GET", b"/", target, b"x", Headers(), b"", ExchangeRecord(reactor.seconds))

def answered(response):
    print(response.body.decode().split()[0])
    reactor.stop()

ProxyAgent(reactor).roundTrip(request).addCallback(answered)
reactor.run()
"""


@pytest.mark.parametrize("stubborn", [False, True])
def test_reactorStops(tmp_path: Path, stubborn: bool) -> None:
    """A reactor that stops leaves no program behind, even if nobody has closed the target."""
    arguments = ["stubborn"] if stubborn else []
    script = STOPPED.replace(
        "sys.argv[1:]", "sys.argv[1:], supervision=__import__('twistproxy').targets.Supervision(kill=0.2)"
    )
    done = python("-c", script, *PROGRAM, *arguments, folder=tmp_path)
    assert done.stderr == ""
    assert not runs(int(done.stdout))
