"""
The figures that do not depend on the machine: how they are taken, compared and stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import counting, exact, micro, syscalls
from benchmarks.candidates import CANDIDATES
from benchmarks.inprocess import KINDS, InProcess
from benchmarks.processes import DidNotStart

NOWHERE = Path(os.devnull)

STRACE = """\
812 epoll_wait(3, [{events=EPOLLIN, data={u32=9, u64=9}}], 3, 86) = 1
812 recvfrom(10, "GET / HTTP/1.1\\r\\nsendto(1)"..., 32768, 0, NULL, NULL) = 40
813 futex(0x7f, FUTEX_WAIT <unfinished ...>
812 sendto(14, "GET / HTTP/1.1\\r\\n"..., 185, 0, NULL, 0) = 185
813 <... futex resumed>) = 0
812 epoll_wait(3, [], 3, 86)              = 0
812 epoll_wait(3, [], 3, 100)              = 0
write(1, "x", 1) = 1
812 epoll_wait(3, """


class TestCounting:
    """
    What is counted in this process.
    """

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
    def test_kinds(self, kind: object) -> None:
        """Each kind of exchange is really carried: what is sent upstream and back is a whole message."""
        assert kind in KINDS
        proxy = InProcess(NOWHERE)
        proxy.check(kind)  # type: ignore[arg-type]
        proxy.close()

    def test_check(self) -> None:
        """A proxy that does not answer rightly is found out before anything is counted."""
        kind = KINDS[0]
        proxy = InProcess(NOWHERE)
        broken = type(kind)("broken", [b"GARBAGE\r\n\r\n"], kind.answer)
        with pytest.raises((RuntimeError, IndexError)):
            proxy.check(broken)
        proxy.close()

    def test_calls(self) -> None:
        """Only the package's calls count, and every one of them."""

        def two() -> int:
            return len(os.fspath(NOWHERE))

        with counting.CallCount() as count:
            two()
        # two() itself, fspath() and len(), and the PurePath.__fspath__ and __str__ that they lead to
        assert count.python >= 2
        assert count.builtin >= 2

    def test_deterministic(self) -> None:
        """Counted twice, the figures are the same; a larger head costs no fewer calls, a streamed body more."""
        figures = counting.countCalls(NOWHERE)
        assert counting.countCalls(NOWHERE) == figures
        assert figures["calls.small"] <= figures["calls.changing"]
        assert figures["calls.small"] < figures["calls.64k"]

    def test_nothingLeft(self) -> None:
        """When all exchanges are over nothing is left of them."""
        figures = counting.countMemory(NOWHERE)
        assert figures["blocks.left behind"] < 0.5
        assert figures["blocks.idle connection"] > 1
        assert figures["blocks.waiting exchange"] > 1


class TestSyscalls:
    """
    What strace writes.
    """

    def test_lines(self) -> None:
        """Calls are counted once each, with a process id or without; waits that timed out are not."""
        assert syscalls.countLines(STRACE) == {"epoll_wait": 2, "recvfrom": 1, "sendto": 1, "futex": 1, "write": 1}

    def test_noStrace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without strace it is said how to do without."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(DidNotStart, match="--no-syscalls"):
            syscalls.countSyscalls(CANDIDATES[0], tmp_path, 0)


class TestJudgment:
    """
    What has grown.
    """

    @pytest.mark.parametrize(
        ("name", "before", "now", "grown"),
        [
            ("calls.small", 50.07, 50.07, False),
            ("calls.small", 50.07, 50.08, True),
            ("builtins.small", 40, 41, True),
            ("blocks.idle connection", 24, 24.5, False),
            ("blocks.idle connection", 24, 24.6, True),
            ("bytes.peak.small", 4000, 4180, False),
            ("bytes.peak.small", 4000, 4190, True),
            ("bytes.left behind", 0, 64, False),
            ("bytes.left behind", 0, 65, True),
            ("syscalls.one by one.others", 4, 4.05, False),
            ("syscalls.one by one.others", 4, 4.06, True),
            ("syscalls.32 at once.epoll_wait", 0.25, 0.5, False),
            ("syscalls.32 at once.epoll_wait", 0.25, 0.51, True),
        ],
    )
    def test_tolerance(self, name: str, before: float, now: float, grown: bool) -> None:
        """Calls are exact; what the machine has a hand in has some room."""
        assert bool(exact.judge({name: now}, {name: before}).grown) is grown

    def test_lines(self) -> None:
        """What has grown is a line with both figures; what has shrunk or is new is said, too."""
        verdict = exact.judge({"calls.a": 5, "calls.b": 3, "calls.c": 1}, {"calls.a": 4, "calls.b": 4})
        assert verdict.grown == ["calls.a: 4 before, 5 now (must not grow)"]
        assert verdict.shrunk == ["calls.b: 4 before, 3 now", "calls.c: 1, not stored yet"]

    def run(self, path: Path, figures: dict[str, float], monkeypatch: pytest.MonkeyPatch, write: bool = False) -> int:
        """
        Run the command with figures that are given.
        """
        monkeypatch.setattr(exact, "takeFigures", lambda candidate, syscalls: figures)
        return exact.run(CANDIDATES[0], True, write, path)

    def test_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing stored compares nothing; stored figures fail the command with one line for each that grew."""
        path = tmp_path / "exact.json"
        assert self.run(path, {"calls.a": 4}, monkeypatch) == 0
        assert "nothing was compared" in capsys.readouterr().out
        assert self.run(path, {"calls.a": 4}, monkeypatch, write=True) == 0
        assert json.loads(path.read_text()) == {exact.version(): {"calls.a": 4}}
        assert self.run(path, {"calls.a": 4}, monkeypatch) == 0
        assert self.run(path, {"calls.a": 3}, monkeypatch) == 0
        capsys.readouterr()
        assert self.run(path, {"calls.a": 5}, monkeypatch) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line.startswith("GROWN")] == [
            "GROWN: calls.a: 4 before, 5 now (must not grow)"
        ]

    def test_otherVersions(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Writing keeps the figures of other versions of Python."""
        path = tmp_path / "exact.json"
        path.write_text('{"cpython 2.7": {"calls.a": 1}}')
        self.run(path, {"calls.a": 4}, monkeypatch, write=True)
        assert exact.load(path) == {"cpython 2.7": {"calls.a": 1}, exact.version(): {"calls.a": 4}}


class TestMicro:
    """
    The steps by themselves.
    """

    def test_steps(self) -> None:
        """Every step can be set up and takes some time."""
        timings = micro.measureSteps(rounds=1)
        assert [timing.failure for timing in timings] == [""] * len(micro.STEPS)
        assert [timing for timing in timings if not timing.microseconds] == []

    def test_table(self) -> None:
        """Over its budget a step is marked; one that cannot be set up stays, with the reason."""

        def broken(_: object) -> Callable[[], None]:
            raise AttributeError("no such function")

        steps = [
            micro.Step("tight", 1e-9, lambda _: lambda: sum(range(1000))),
            micro.Step("loose", 1e9, lambda _: lambda: None),
            micro.Step("gone", 1.0, broken),
        ]
        rows = micro.table(micro.measureSteps(steps, rounds=1)).splitlines()[1:]
        assert "over by" in rows[0]
        assert rows[1].split()[0] == "loose"
        assert "over" not in rows[1]
        assert "cannot be set up: AttributeError: no such function" in rows[2]
