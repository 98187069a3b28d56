"""
The supervisor under a clock: processes are played by the test.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.python.failure import Failure

from twistproxy.observe.counters import Counts
from twistproxy.workers import RestartPolicy, WorkerSupervisor
from twistproxy.workers.plan import FROM_SUPERVISOR, TO_SUPERVISOR, VARIABLE
from twistproxy.workers.process import LINGERING, LONGEST_LINE, WorkerProcess, howItEnded
from twistproxy.workers.protocol import Lines, decoded, encoded
from twistproxy.workers.slots import SlotState
from twistproxy.workers.supervisor import FORGETTING, OVERTIME

POLICY = RestartPolicy(first=1.0, factor=2.0, longest=10.0, steady=20.0, attempts=4, startup=30.0)


class Played:
    """
    A process that the test plays.

    @ivar told: the kinds of messages that it has got.
    """

    def __init__(self, reactor: Stage, protocol: WorkerProcess, environment: dict[str, str]) -> None:
        self.pid = 1000 + len(reactor.processes)
        self.protocol = protocol
        self.plan = json.loads(environment[VARIABLE])
        self.messages: list[dict[str, Any]] = []
        self.signals: list[str] = []
        self.closed: list[int] = []
        self._lines = Lines()
        protocol.makeConnection(self)  # type: ignore[arg-type]

    # the transport

    def writeToChild(self, childFD: int, data: bytes) -> None:
        """Take what the supervisor says."""
        assert childFD == FROM_SUPERVISOR
        self.messages += map(decoded, self._lines.feed(data))

    def signalProcess(self, name: str) -> None:
        """Note a signal."""
        self.signals.append(name)

    def closeChildFD(self, childFD: int) -> None:
        """Note that a pipe was closed."""
        self.closed.append(childFD)

    # the process

    @property
    def told(self) -> list[str]:
        """The kinds of messages that it has got."""
        return [message["kind"] for message in self.messages]

    def say(self, kind: str, **fields: Any) -> None:
        """Send a message to the supervisor."""
        self.protocol.childDataReceived(TO_SUPERVISOR, encoded(kind, **fields))

    def end(self, status: int = 0, signal: int | None = None) -> None:
        """End, and let go of the pipes."""
        self.exit(status, signal)
        self.protocol.processEnded(self._reason(status, signal))

    def exit(self, status: int = 0, signal: int | None = None) -> None:
        """End, while somebody else still has the pipes."""
        self.protocol.processExited(self._reason(status, signal))

    def _reason(self, status: int, signal: int | None) -> Failure:
        done = status == 0 and signal is None
        return Failure(ProcessDone(0) if done else ProcessTerminated(status, signal, 0))


class Stage(Clock):
    """A reactor whose processes are played."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Played] = []
        self.refuse = False

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        """It runs."""
        call()

    def spawnProcess(self, protocol: Any, executable: str, args: Any, env: Any, childFDs: Any) -> None:
        """Note a process."""
        if self.refuse:
            raise OSError(errno.EAGAIN, "no more processes")
        self.processes.append(Played(self, protocol, env))


@pytest.fixture(autouse=True)
def deathsAreExpected(loggedErrors: list[LogEvent]) -> Iterator[None]:
    """Deaths are errors in the log, and these tests are about them; failures stay what they are."""
    yield
    loggedErrors[:] = [event for event in loggedErrors if event.get("log_failure") is not None]


@pytest.fixture
def stage() -> Stage:
    """A reactor."""
    return Stage()


@pytest.fixture
def gaveUp() -> list[str]:
    """What was said when it gave up."""
    return []


@pytest.fixture
def supervisor(stage: Stage, gaveUp: list[str]) -> Iterator[WorkerSupervisor]:
    """One with three workers."""
    made = WorkerSupervisor(
        stage,
        ["program"],
        ["tcp:0:interface=127.0.0.1"],
        workers=3,
        grace=7.0,
        policy=POLICY,
        write=lambda lines: None,
        gaveUp=gaveUp.append,
    )
    made.startService()
    yield made
    made.sockets.close()


@pytest.fixture
def texts() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        found.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def all(supervisor: WorkerSupervisor, stage: Stage) -> list[Played]:
    """Three workers that are ready."""
    for process in stage.processes:
        process.say("ready")
    assert supervisor.started.called
    return list(stage.processes)


def states(supervisor: WorkerSupervisor) -> list[str]:
    """@return: the states of all slots."""
    return [slot.state.value for slot in supervisor.slots]


def test_atLeastOne() -> None:
    """No workers is a mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        WorkerSupervisor(Stage(), ["program"], [], workers=0)


def test_startedWhenAllAre(supervisor: WorkerSupervisor, stage: Stage) -> None:
    """It has started when every worker is ready, and not before."""
    assert [process.plan["slot"] for process in stage.processes] == [0, 1, 2]
    for process in stage.processes:
        assert not supervisor.started.called
        process.say("ready")
    assert supervisor.started.called
    # a worker that is ready has no limit of time any more
    assert stage.getDelayedCalls() == []


def test_coverAndRelease(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """The next worker accepts for a dead one until there is a new one, and for two if it comes to that."""
    all[0].end(signal=9)
    assert all[1].messages[-1]["slots"] == [0]
    all[2].end(signal=9)
    assert sorted(all[1].messages[-1]["slots"]) == [0, 2]
    stage.advance(0)
    assert len(stage.processes) == 5
    stage.processes[3].say("ready")
    assert all[1].messages[-1]["slots"] == []
    assert stage.processes[3].messages[-1]["slots"] == [2]
    stage.processes[4].say("ready")
    assert stage.processes[3].messages[-1]["slots"] == []
    assert states(supervisor) == ["serving"] * 3


def test_backoff(all: list[Played], supervisor: WorkerSupervisor, stage: Stage, gaveUp: list[str]) -> None:
    """Pauses between deaths grow; while another worker is well it goes on for ever."""
    stage.advance(POLICY.steady)
    pauses = []
    all[1].end(signal=11)
    for _ in range(7):
        before = stage.seconds()
        while supervisor.slots[1].state is SlotState.WAITING:
            [call] = stage.getDelayedCalls()
            stage.advance(call.getTime() - stage.seconds())
        pauses.append(stage.seconds() - before)
        stage.processes[-1].end(3)
    assert pauses == [0, 1, 2, 4, 8, 10, 10]
    assert gaveUp == []
    # one that was well for long is replaced at once again
    stage.advance(10)
    stage.processes[-1].say("ready")
    stage.advance(POLICY.steady)
    stage.processes[-1].end(3)
    stage.advance(0)
    assert supervisor.slots[1].state is SlotState.STARTING


def test_crashLoop(supervisor: WorkerSupervisor, stage: Stage, gaveUp: list[str]) -> None:
    """Nobody was ever well: after so many deaths of one everything stops, and the reason is given with its last words."""
    for _ in range(POLICY.attempts):
        process = next(process for process in reversed(stage.processes) if process.plan["slot"] == 1)
        process.protocol.childDataReceived(2, b"Traceback\n  no hope")
        process.end(3)
        stage.advance(POLICY.longest / 2)
    assert len(gaveUp) == 1
    assert "worker 2 ended (exit status 3), 4 times in a row (its last words: no hope)" in gaveUp[0]
    assert states(supervisor) == ["stopped"] * 3
    # those which were still starting have accepted nothing
    assert [process.signals for process in stage.processes if process.plan["slot"] != 1] == [["KILL"], ["KILL"]]
    stopping = supervisor.stopService()
    assert not stopping.called
    for process in stage.processes:
        if process.signals:
            process.end(signal=9)
    assert stopping.called
    assert stage.getDelayedCalls() == []


def test_pipesOutliveTheWorker(supervisor: WorkerSupervisor, stage: Stage, all: list[Played]) -> None:
    """A process that a worker has started keeps its pipes open: the worker is replaced all the same, and once only."""
    first = all[0]
    first.exit(signal=9)
    first.protocol.childDataReceived(2, b"last words\n")
    stage.advance(LINGERING)
    assert (len(stage.processes), supervisor.slots[0].lastWords) == (4, "last words")
    assert (states(supervisor)[0], first.closed) == ("starting", [1, 2, TO_SUPERVISOR, FROM_SUPERVISOR])
    first.end(signal=9)
    first.protocol.childDataReceived(2, b"not any more\n")
    stage.advance(LINGERING)
    assert (len(stage.processes), states(supervisor)[0]) == (4, "starting")


def test_stopsWithoutThePipes(supervisor: WorkerSupervisor, stage: Stage, all: list[Played]) -> None:
    """Nobody waits at the end for processes that workers have left behind."""
    stopping = supervisor.stopService()
    for process in all:
        process.say("forgot")
    for process in all:
        process.exit()
    assert not stopping.called
    stage.advance(LINGERING)
    assert (stopping.called, stage.getDelayedCalls()) == (True, [])


def test_cannotSpawn(supervisor: WorkerSupervisor, stage: Stage, all: list[Played]) -> None:
    """A process that cannot even be started is a death like any other."""
    stage.refuse = True
    stage.advance(POLICY.steady)
    all[0].end(signal=9)
    stage.advance(0)
    stage.advance(0)
    assert (states(supervisor)[0], supervisor.slots[0].deaths) == ("waiting", 2)
    assert "no more processes" in supervisor.slots[0].lastEnd
    stage.refuse = False
    stage.advance(1)
    stage.processes[-1].say("ready")
    assert states(supervisor) == ["serving"] * 3


def test_tooSlow(supervisor: WorkerSupervisor, stage: Stage) -> None:
    """A worker that does not get ready is killed."""
    stage.advance(POLICY.startup)
    assert [process.signals for process in stage.processes] == [["KILL"]] * 3


def test_rolling(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """One after the other: a new one is ready before its old one drains, and before the next begins."""
    supervisor.restart()
    for number in range(3):
        assert len(stage.processes) == 4 + number
        new = stage.processes[-1]
        assert (new.plan["slot"], new.plan["first"]) == (number, False)
        assert "drain" not in all[number].told
        new.say("ready")
        assert all[number].told[-1] == "drain"
    assert len(stage.processes) == 6
    # the old ones may take the grace, and no more than a bit beyond it
    stage.advance(7.0)
    assert [process.signals for process in all] == [[]] * 3
    all[0].end()
    stage.advance(OVERTIME)
    assert [process.signals for process in all] == [[], ["KILL"], ["KILL"]]


def test_rollingTwice(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """Who asks for a restart during one gets another after it, and one only."""
    supervisor.restart()
    supervisor.restart()
    supervisor.restart()
    for _ in range(6):
        stage.processes[-1].say("ready")
    assert len(stage.processes) == 9


def test_rollingFails(all: list[Played], supervisor: WorkerSupervisor, stage: Stage, texts: list[str]) -> None:
    """A successor that dies ends the restart; the old worker goes on, and nobody is the worse for it."""
    supervisor.restart()
    stage.processes[-1].end(1)
    assert [process.told for process in all] == [[], [], []]
    assert states(supervisor) == ["serving"] * 3
    assert "rolling restart given up: the new worker 1 ended (exit status 1); the old one goes on" in texts
    # and it can be asked for again
    supervisor.restart()
    assert len(stage.processes) == 5


def test_anotherSuccessorFails(
    all: list[Played], supervisor: WorkerSupervisor, stage: Stage, texts: list[str]
) -> None:
    """The successor of a worker that was asked to end by somebody else dies: the restart of all goes on."""
    supervisor.restart()
    all[2].say("leaving")
    first, third = stage.processes[3:]
    third.end(1)
    assert "a worker is not replaced: the new worker 3 ended (exit status 1); the old one goes on" in texts
    first.say("ready")
    assert (states(supervisor), len(stage.processes)) == (["serving", "rolling", "serving"], 6)
    stage.processes[-1].say("ready")
    stage.processes[-1].say("ready")
    assert "rolling restart done" in texts
    assert [process.told for process in all] == [["drain"]] * 3


def test_oldOneDiesWhileTheNewOneStarts(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """Its successor is on its way already; until then it is covered."""
    supervisor.restart()
    all[0].end(signal=9)
    assert len(stage.processes) == 4
    assert all[1].messages[-1] == {"v": 1, "kind": "cover", "slots": [0]}
    stage.processes[3].say("ready")
    assert all[1].messages[-1]["kind"] == "cover"
    assert stage.processes[4].plan["slot"] == 1


def test_leaving(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """A worker that was asked to end by somebody else goes on until its successor is ready."""
    all[2].say("leaving")
    assert (states(supervisor)[2], stage.processes[-1].plan["slot"], all[2].told) == ("rolling", 2, [])
    stage.processes[-1].say("ready")
    assert all[2].told == ["drain"]
    all[2].say("draining")
    all[2].end()
    assert (states(supervisor), len(stage.processes)) == (["serving"] * 3, 4)


def test_leavingWithAll(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """If all were asked to end, so was the supervisor: nobody drains out of turn, and no successor is left behind."""
    all[0].say("leaving")
    supervisor.stopService()
    all[1].say("leaving")
    for process in all:
        assert process.told == ["forget"]
        process.say("forgot")
    assert [process.told for process in all] == [["forget", "drain"]] * 3
    assert [process.signals for process in stage.processes] == [[], [], [], ["KILL"]]


def test_drainsByItself(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """A worker that drains by its own decision is replaced while it still does, and is not told to again."""
    all[2].say("draining")
    stage.advance(0)
    assert (states(supervisor)[2], stage.processes[-1].plan["slot"]) == ("starting", 2)
    assert all[0].messages[-1]["slots"] == [2]
    stage.processes[-1].say("ready")
    all[2].end()
    assert states(supervisor) == ["serving"] * 3
    assert "drain" not in all[2].told


def test_drainsAgainAndAgain(
    supervisor: WorkerSupervisor, stage: Stage, all: list[Played], gaveUp: list[str]
) -> None:
    """Workers that end in order as soon as they are ready are a crash loop too; one that was well is replaced at once."""
    stage.advance(POLICY.steady)
    worker = all[0]
    for pause in (0, 0, 1, 2):
        worker.say("draining")
        worker.end()
        assert [call.getTime() - stage.seconds() for call in stage.getDelayedCalls()] == [pause]
        stage.advance(pause)
        worker = stage.processes[-1]
        worker.say("ready")
    assert (states(supervisor), gaveUp) == (["serving"] * 3, [])


def test_nobodyStays(supervisor: WorkerSupervisor, stage: Stage, all: list[Played], gaveUp: list[str]) -> None:
    """If none stays, that is the end."""
    worker = all[0]
    for _ in range(POLICY.attempts):
        worker.say("draining")
        worker.end()
        stage.advance(POLICY.longest)
        worker = stage.processes[-1]
        worker.say("ready")
        for process in all[1:]:
            process.protocol.readySince = stage.seconds()
    assert len(gaveUp) == 1
    assert gaveUp[0].startswith("worker 1 drained by itself, 4 times in a row")


def test_stopInTwoSteps(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """Nobody drains before all have closed the sockets of the others; then it ends with the last worker."""
    stopping = supervisor.stopService()
    assert supervisor.stopService() is stopping
    assert [process.told for process in all] == [["forget"]] * 3
    all[0].say("forgot")
    all[1].end(signal=9)
    assert all[0].told == ["forget"]
    all[2].say("forgot")
    assert all[0].told == all[2].told == ["forget", "drain"]
    all[0].end()
    assert not stopping.called
    all[2].end()
    assert stopping.called
    assert stage.getDelayedCalls() == []
    assert len(stage.processes) == 3


def test_stopWithoutAnswer(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """A worker that does not answer keeps nobody from draining, and is killed in the end."""
    stopping = supervisor.stopService()
    stage.advance(FORGETTING)
    assert [process.told for process in all] == [["forget", "drain"]] * 3
    supervisor.cutNow()
    assert all[0].told[-1] == "cut"
    stage.advance(7.0 + OVERTIME)
    assert [process.signals for process in all] == [["KILL"]] * 3
    for process in all:
        process.end(signal=9)
    assert stopping.called


def test_cutWithoutAnswer(supervisor: WorkerSupervisor, stage: Stage, all: list[Played]) -> None:
    """B10.2: who is told to wait for nothing any more does not wait for a worker that hangs, either."""
    stopping = supervisor.stopService()
    supervisor.cutNow()
    stage.advance(OVERTIME / 2)
    assert [process.signals for process in all] == [[], [], []]
    supervisor.cutNow()
    for process in all[:2]:
        process.end()
    stage.advance(OVERTIME / 2)
    assert [process.signals for process in all] == [[], [], ["KILL"]]
    all[2].end(signal=9)
    assert (stopping.called, stage.getDelayedCalls()) == (True, [])


def test_cutAndGoOn(supervisor: WorkerSupervisor, stage: Stage, all: list[Played]) -> None:
    """Cutting the exchanges of workers that are not stopping ends no worker."""
    supervisor.cutNow()
    stage.advance(OVERTIME)
    assert [(process.told, process.signals) for process in all] == [(["cut"], [])] * 3


def test_stopWhileOneWaits(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """A worker that is due is not started any more."""
    all[0].end(signal=9)
    supervisor.stopService()
    for process in all[1:]:
        process.say("forgot")
        process.end()
    stage.advance(100)
    assert len(stage.processes) == 3
    assert supervisor.stopService().called


def test_noRestartThen(all: list[Played], supervisor: WorkerSupervisor, stage: Stage) -> None:
    """Who is stopping does not restart."""
    supervisor.stopService()
    supervisor.restart()
    assert len(stage.processes) == 3


def test_counts(all: list[Played], supervisor: WorkerSupervisor) -> None:
    """What the workers count is summed, and stays when they go."""
    for number, process in enumerate(all):
        counts = Counts()
        counts.exchanges, counts.statuses = 10 ** number, {200: 10 ** number}
        process.say("counts", counts=counts.data(), cut=number)
    assert (supervisor.counts().exchanges, supervisor.cut) == (111, 3)
    all[2].end(signal=9)
    assert supervisor.counts().statuses == {200: 111}
    assert (supervisor.counts().exchanges, supervisor.cut) == (111, 3)


@pytest.mark.parametrize(
    ("fd", "data", "complaint"),
    [
        (TO_SUPERVISOR, b"hello\n", "no JSON"),
        (TO_SUPERVISOR, b'{"v":2,"kind":"ready"}\n', "version 2 of the protocol"),
        (TO_SUPERVISOR, encoded("counts", counts={}), "no counts"),
        (1, b"x" * (LONGEST_LINE + 1), "a line of more than"),
    ],
)
def test_nonsense(all: list[Played], texts: list[str], fd: int, data: bytes, complaint: str) -> None:
    """A worker that says what cannot be understood is ended, and the log says why."""
    all[0].protocol.childDataReceived(fd, data)
    assert all[0].signals == ["KILL"]
    assert any("worker 1" in text and complaint in text for text in texts)


def test_logAndLines(stage: Stage, texts: list[str]) -> None:
    """What workers log is logged with their number, what they write is passed on in whole lines."""
    written: list[bytes] = []
    supervisor = WorkerSupervisor(stage, ["program"], [], workers=2, write=written.append)
    supervisor.startService()
    second = stage.processes[1]
    second.say("log", level="info", namespace="test", text="{not} a format")
    second.protocol.childDataReceived(2, b"hm\n")
    assert texts[-2:] == ["worker 2: {not} a format", "worker 2: hm"]
    for piece in (b"one\ntw", b"o", b"\nthree\nfo"):
        second.protocol.childDataReceived(1, piece)
    second.end(signal=9)
    assert written == [b"one\n", b"two\nthree\n"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProcessDone(0), "ended (exit status 0)"),
        (ProcessTerminated(3, None, 0), "ended (exit status 3)"),
        (ProcessTerminated(None, 9, 0), "was killed by SIGKILL"),
        (ProcessTerminated(None, 99, 0), "was killed by signal 99"),
    ],
)
def test_howItEnded(error: Exception, expected: str) -> None:
    """The end of a process in words."""
    assert howItEnded(Failure(error)) == expected
