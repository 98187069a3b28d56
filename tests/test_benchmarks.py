"""
The benchmarks' arithmetic and judgment: what they read, what they conclude, and when they refuse to.

No load is put on anything here. What runs real proxies is tried by C{make bench}.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import sys
from pathlib import Path
from random import Random

import pytest

from benchmarks import load, measure, nginx, report
from benchmarks.__main__ import allCandidates, choose, main
from benchmarks.candidates import BASE, CANDIDATES, OURS, Candidate, Place, parseCandidate
from benchmarks.load import Load
from benchmarks.processes import DidNotStart, Running, freePorts
from benchmarks.profile import foldedTable, titled
from benchmarks.series import CONFIDENCE, Result, Sample, Series, compareCost, countLeftOut, medianInterval, schedule
from benchmarks.works import QUICK, WORKS

SMALL, DOWNLOAD, UPLOAD = (
    next(work for work in WORKS if work.name == name) for name in ("small", "download", "upload")
)

WRK = """\
Running 1s test @ http://127.0.0.1:8080/small
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.31ms  396.48us   5.16ms   71.58%
    Req/Sec    24.35k     1.02k   26.11k    72.73%
  Latency Distribution
     50%  812.00us
     75%    1.50ms
     90%    1.80ms
     99%    2.58ms
  26651 requests in 1.10s, 4.07MB read
Requests/sec:  24229.64
Transfer/sec:      3.70MB
"""
WRK_WITH_ERRORS = WRK.replace(
    "Requests/sec",
    "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 90\nRequests/sec",
)


def series(name: str, *costs: float, errors: int = 0) -> Series:
    """
    Make figures with the given costs.
    """
    return Series(name, [Sample(cost, 1000.0, 1.0, 2.0, errors, 60_000_000) for cost in costs], 50_000_000)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """
    A procfs with process 10 of two threads, whose child 11 has a child 12.
    """
    for pid, tid, cpu, children in (
        (10, 10, 100, "11 "),
        (10, 13, 20, ""),
        (11, 11, 3, "12 "),
        (12, 12, 4, ""),
    ):
        task = tmp_path / str(pid) / "task" / str(tid)
        task.mkdir(parents=True)
        (task / "schedstat").write_text(f"{cpu} 7 9\n")
        (task / "children").write_text(children)
        (tmp_path / str(pid) / "status").write_text(
            f"Name:\tproxy\nVmHWM:\t    {pid * 2} kB\nVmRSS:\t    {pid} kB\nThreads:\t1\n"
        )
        (tmp_path / str(pid) / "fd").mkdir(exist_ok=True)
        (tmp_path / str(pid) / "fd" / "0").touch()
    ticks = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(f"cpu  1 2 3 4 5 6 7 {ticks * 3} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    return tmp_path


class TestMeasure:
    """
    What the kernel's files say.
    """

    def test_tree(self, proc: Path) -> None:
        """CPU time and memory are summed over all threads and descendants."""
        assert sorted(measure.processTree(10, proc)) == [10, 11, 12]
        assert measure.cpuNanoseconds(10, proc) == 127
        assert measure.residentBytes(10, proc) == 33 * 1024
        assert measure.peakBytes(10, proc) == 66 * 1024
        assert measure.openFiles(10, proc) == 3

    def test_goneProcess(self, proc: Path) -> None:
        """A process that has ended counts as nothing instead of breaking the run."""
        assert measure.cpuNanoseconds(99, proc) == 0
        assert measure.residentBytes(99, proc) == 0

    def test_steal(self, proc: Path) -> None:
        """Steal is the eighth figure of the line for all cores, in seconds."""
        assert measure.stealSeconds(proc) == 3.0

    def test_ownProcess(self) -> None:
        """On a real procfs a process that does something is seen to have used time and memory."""
        assert measure.cpuNanoseconds(os.getpid()) > 0
        assert measure.residentBytes(os.getpid()) > 1_000_000
        assert measure.openFiles(os.getpid()) > 2

    def test_peak(self) -> None:
        """The peak is of the time since it was reset."""
        pid = os.getpid()
        measure.resetPeak(pid)
        before = measure.peakBytes(pid)
        bytearray(b"x") * 80_000_000
        assert measure.peakBytes(pid) - before > 60_000_000
        measure.resetPeak(pid)
        assert measure.peakBytes(pid) - before < 60_000_000

    @pytest.mark.parametrize(
        ("available", "siblings", "expected"),
        [
            ({3}, {}, (3, 3)),
            ({0, 1}, {}, (0, 1)),
            ({0, 1}, {0: {0, 1}}, (0, 1)),
            ({0, 1, 2, 3}, {0: {0, 1}}, (0, 2)),
            ({2, 5, 7}, {2: {2, 6}}, (2, 5)),
        ],
    )
    def test_chooseCores(
        self, available: set[int], siblings: dict[int, set[int]], expected: tuple[int, int]
    ) -> None:
        """The proxy gets a core whose hyper-thread is not given to the load, if there are enough of them."""
        assert measure.chooseCores(available, siblings) == expected

    def test_pinned(self) -> None:
        """Pinning ends with the block."""
        before = os.sched_getaffinity(0)
        core = min(before)
        with measure.pinnedTo(core):
            assert os.sched_getaffinity(0) == {core}
        assert os.sched_getaffinity(0) == before


class TestLoad:
    """
    What the load generators report.
    """

    def test_wrk(self) -> None:
        """Units are converted: latencies to milliseconds, time to seconds."""
        assert load.parseWrk(WRK) == Load(26651, 0, 1.1, 0.812, 2.58, 0)

    def test_wrkErrors(self) -> None:
        """Wrong statuses and broken connections of all four kinds are added up."""
        assert load.parseWrk(WRK_WITH_ERRORS).errors == 100

    def test_tunnels(self) -> None:
        """Of tunnels: messages, seconds, and latencies in microseconds."""
        assert load.parseTunnels("2000 0.5 800.0 2500.0 3\n") == Load(2000, 0, 0.5, 0.8, 2.5, 3)
        for nothing in ("", "0 1.0 0 0 5\n"):
            with pytest.raises(load.WrongAnswer):
                load.parseTunnels(nothing)

    @pytest.mark.parametrize(
        "text", ["", "unable to connect to 127.0.0.1:1 Connection refused\n", WRK.replace("26651", "0")]
    )
    def test_wrkNothing(self, text: str) -> None:
        """No report, or one of no requests, is not taken for a result."""
        with pytest.raises(ValueError):
            load.parseWrk(text)

    def test_curl(self) -> None:
        """Bodies of both directions count; a wrong status and a body that broke off are one error each."""
        text = "200 100000000 0 0.1 0\n200 5 100000000 0.3 18\n502 7 0 0.2 0\n"
        got = load.parseCurl(text)
        assert (got.requests, got.bytes, got.errors, got.p99) == (3, 200_000_012, 2, None)
        assert got.seconds == pytest.approx(0.6)
        assert got.p50 == pytest.approx(200)

    @pytest.mark.parametrize("text", ["", "000 0 0 0.000100 7\n"])
    def test_curlNothing(self, text: str) -> None:
        """Transfers which moved nothing are not taken for a result."""
        with pytest.raises(ValueError):
            load.parseCurl(text)


class TestWorks:
    """
    The commands that put load on a proxy.
    """

    def test_names(self) -> None:
        """Works and candidates have names of their own, and those of the quick run and the base exist."""
        names = [work.name for work in WORKS]
        assert len(set(names)) == len(names)
        assert set(QUICK) <= set(names)
        candidates = [candidate.name for candidate in CANDIDATES]
        assert len(set(candidates)) == len(candidates)
        assert {OURS, BASE} <= set(candidates)

    def test_scripts(self, tmp_path: Path) -> None:
        """The scripts that wrk is told to run are there."""
        scripts = [
            Path(command[command.index("-s") + 1])
            for command in (list(work.command(1, tmp_path)) for work in WORKS)
            if "-s" in command
        ]
        assert len(scripts) == 3
        assert [script for script in scripts if not script.is_file()] == []

    def test_transfers(self, tmp_path: Path) -> None:
        """A slice of large bodies is a fixed number of whole ones, each with its own output and upload."""
        command = UPLOAD.command(8080, tmp_path)
        assert command.count("http://127.0.0.1:8080/") == UPLOAD.transfers
        assert command.count("/dev/null") == UPLOAD.transfers
        assert command.count(str(tmp_path / "100m")) == UPLOAD.transfers
        assert str(tmp_path / "100m") not in DOWNLOAD.command(8080, tmp_path)


class TestSeries:
    """
    What is concluded from the slices.
    """

    def test_costPerRequest(self) -> None:
        """CPU time is related to requests, in microseconds."""
        sample = Sample.of(SMALL, Load(2000, 0, 0.5, 1.0, 2.0, 0), 50_000_000)
        assert sample == Sample(25.0, 4000.0, 1.0, 2.0, 0)

    def test_costPerGigabyte(self) -> None:
        """CPU time of large bodies is related to their size, in milliseconds for a gigabyte."""
        sample = Sample.of(DOWNLOAD, Load(3, 300_000_000, 0.25, 70.0, None, 1), 75_000_000)
        assert sample == Sample(250.0, 1200.0, 70.0, None, 1)

    def test_spread(self) -> None:
        """The spread of few slices is their whole range, of many the middle half, without outliers."""
        assert series("x", 10, 13, 11).spread == 3
        assert series("x", 10, 11, 12, 13, 90).spread == 2

    @pytest.mark.parametrize(
        ("count", "low", "high"),
        [
            (1, 1, 1),
            (3, 1, 3),
            (5, 1, 5),
            (6, 1, 6),
            (8, 1, 8),
            (9, 2, 8),
            (11, 2, 10),
            (12, 3, 10),
            (15, 4, 12),
            (17, 5, 13),
            (20, 6, 15),
        ],
    )
    def test_interval(self, count: int, low: int, high: int) -> None:
        """The interval goes between the figures that the tables of the sign test name; of few it is the range."""
        figures = [float(number) for number in range(1, count + 1)]
        Random(count).shuffle(figures)
        assert medianInterval(figures) == (low, high)

    @pytest.mark.parametrize("count", [6, 7, 9, 16, 50])
    def test_confidence(self, count: int) -> None:
        """As many are left out as the confidence allows, and no more: with one more it would be too low."""

        def confidence(leftOut: int) -> float:
            return sum(math.comb(count, below) for below in range(leftOut + 1, count - leftOut)) / 2**count

        leftOut = countLeftOut(count)
        assert (confidence(leftOut) >= CONFIDENCE, confidence(leftOut + 1) >= CONFIDENCE) == (True, False)

    @pytest.mark.parametrize(
        ("ours", "base", "value", "interval"),
        [
            ((20, 21, 22, 21, 20), (40, 42, 44, 42, 40), 0.5, (0.5, 0.5)),
            # the medians are 4 and 10
            ((1, 4, 16), (2, 10, 20), 0.5, (0.4, 0.8)),
            ((10, 11, 12, 13, 14, 15, 16, 17, 99), (10,) * 9, 1.4, (1.1, 1.7)),
            ((9, 99), (10, 10), None, None),
        ],
    )
    def test_ratio(
        self,
        ours: tuple[float, ...],
        base: tuple[float, ...],
        value: float | None,
        interval: tuple[float, float] | None,
    ) -> None:
        """The ratio is the median of the quotients of all rounds, not the quotient of medians, with its interval."""
        ratio = compareCost(series("a", *ours), series("b", *base))
        assert (ratio.value, ratio.interval) == (value, interval)

    def test_drift(self) -> None:
        """A machine that gets slower and slower changes the costs, and not the ratio."""
        drift = [2**number for number in range(9)]
        ours, base = (series(name, *(cost * factor for factor in drift)) for name, cost in (("a", 3), ("b", 4)))
        assert ours.spread > abs(ours.cost - base.cost)
        ratio = compareCost(ours, base)
        assert (ratio.value, ratio.interval) == (0.75, (0.75, 0.75))

    @pytest.mark.parametrize(
        ("costs", "interval", "reason"),
        [
            ((94, 97, 103), (0.94, 1.03), "between 0.94 and 1.03 by 3 rounds"),
            ((90, 91, 92, 93, 94, 101), (0.9, 1.01), "between 0.90 and 1.01 by 6 rounds"),
            ((80, 94, 95, 96, 97, 98, 99, 103, 130), (0.94, 1.03), "between 0.94 and 1.03 by 9 rounds"),
            ((100, 105, 110), (1.0, 1.1), "between 1.00 and 1.10 by 3 rounds"),
            ((100, 100, 100), (1.0, 1.0), "between 1.00 and 1.00 by 3 rounds"),
        ],
    )
    def test_noRatioInNoise(self, costs: tuple[float, ...], interval: tuple[float, float], reason: str) -> None:
        """Where the rounds do not agree which of the two costs more, there is no ratio, but its interval."""
        ratio = compareCost(series("a", *costs), series("b", *[100] * len(costs)))
        assert (ratio.value, ratio.interval, ratio.reason) == (None, interval, reason)

    @pytest.mark.parametrize(
        ("ours", "base", "reason"),
        [
            (series("a", 20, 20, 20), None, "the base of comparison was not in this run"),
            (series("a", 20, 20), series("b", 40, 40), "fewer than 3 slices tell too little about the noise"),
            (series("a", 20, 20, 20, errors=2), series("b", 40, 40, 40), "a made 6 errors"),
            (series("a", 20, 20, 20), series("b", 40, 40, 40, errors=1), "b made 3 errors"),
            (series("a", *[20] * 4), series("b", *[40] * 3), "a has 4 slices and b 3, so they do not make pairs"),
            (series("a", 20, 20, 20), series("b", 40, 0, 40), "a slice of b cost nothing"),
            (series("a", 20, 20, 20), series("b"), "b has no figures"),
            (series("a", 20, 20, 20), Series("b", failure="did not start"), "b has no figures"),
        ],
    )
    def test_noRatio(self, ours: Series, base: Series | None, reason: str) -> None:
        """No ratio without a base, with slices too few or not in pairs, or with errors on either side."""
        ratio = compareCost(ours, base)
        assert (ratio.value, ratio.reason, ratio.interval) == (None, reason, None)

    def test_base(self) -> None:
        """The base compared with itself is one, unless it has no figures."""
        base, failed = series(BASE, 40, 50, 60), Series(BASE, failure="did not start")
        assert compareCost(base, base).value == 1.0
        assert compareCost(failed, failed).value is None

    def test_schedule(self) -> None:
        """Each round has every candidate once, in an order that changes."""
        rounds = [tuple(order) for order in schedule(5, 20, Random(1))]
        assert len(rounds) == 20
        assert {tuple(sorted(order)) for order in rounds} == {(0, 1, 2, 3, 4)}
        assert len(set(rounds)) > 10


class TestReport:
    """
    The tables.
    """

    results = (
        Result(
            SMALL,
            [
                series(OURS, 20, 21, 22),
                series(BASE, 42, 42, 42),
                Series("lame", failure="did not start: no output"),
            ],
            steal=0.25,
        ),
        Result(DOWNLOAD, [series(OURS, 41, 40, 43), series(BASE, 40, 42, 44)], steal=0.001),
    )

    def test_table(self) -> None:
        """Each candidate has a row; one that failed stays in the table, with the reason below it."""
        small = report.table(self.results[0])
        rows = {
            cells[0]: cells[1:]
            for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in small.splitlines())
            if cells
        }
        assert rows["candidate"][2:4] == [f"CPU / {BASE}", "95 %"]
        assert rows[OURS] == ["21.0", "2.0", "0.50", "0.48-0.52", "1000", "1.00", "2.00", "50", "60", "0"]
        assert rows[BASE][2:4] == ["1.00", "-"]
        assert rows["lame"] == ["-"] * 10
        assert "- lame: did not start: no output" in small.splitlines()

    def test_refusal(self) -> None:
        """A refused ratio is a question mark, and says why; its interval stays, as it tells more."""
        download = report.table(self.results[1])
        assert "|        ? | 0.95-1.02 |" in download
        assert f"- {OURS} / {BASE} is ?: between 0.95 and 1.02 by 3 rounds" in download
        assert "CPU ms/GB" in download

    def test_base(self) -> None:
        """Another base than the usual one can be compared to, and is named."""
        result = Result(SMALL, [series("a", 20, 20, 20), series("b", 40, 40, 40)], base="b")
        assert "CPU / b" in report.table(result)
        assert "|    0.50 |" in report.table(result)
        assert json.loads(report.asJSON([result], {}, {}, ""))["works"][0]["base"] == "b"

    def test_memory(self) -> None:
        """For idle connections bytes are told instead of CPU time, and no latency."""
        idle = next(work for work in WORKS if work.name == "idle")
        figures = Series(BASE, [Sample(2000.0, 900.0, None, None, 0, 60_000_000)] * 3, 50_000_000)
        text = report.table(Result(idle, [figures]))
        assert "bytes/connection" in text
        assert f"bytes / {BASE}" in text
        assert [cell.strip() for cell in text.splitlines()[4].split("|")[1:-1]] == [
            *(BASE, "2000.0", "0.0", "1.00", "-", "900", "-", "-", "50", "60", "0")
        ]

    def test_steal(self) -> None:
        """Much steal is pointed out, little is not."""
        assert "25%" in report.table(self.results[0])
        assert "hypervisor" not in report.table(self.results[1])

    def test_document(self) -> None:
        """The file tells on what, with which versions and when it was measured, and how noisy it was."""
        text = report.document(
            [
                report.Section(
                    "Proxies", [Candidate(OURS, "ours", lambda place: [])], self.results, "chart.svg"
                ),
                report.Section("Others", [], []),
            ],
            repetitions=3,
            machine={"CPU": "abacus"},
            versions={"Python": "3.11"},
            date="2026-01-02",
        )
        for expected in ("abacus", "Python 3.11", "2026-01-02", "at most 25.0%", "- **twistproxy**: ours"):
            assert expected in text
        assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Proxies", "## Others"]
        assert text.count("](chart.svg)") == 1
        assert [report.table(result) in text for result in self.results] == [True, True]

    def test_json(self) -> None:
        """The JSON form has every slice, the conclusion, and the reason for a missing one."""
        data = json.loads(report.asJSON(self.results, {}, {}, "2026-01-02"))
        ours, base, lame = data["works"][0]["candidates"]
        assert [sample["cost"] for sample in ours["samples"]] == [20, 21, 22]
        assert (ours["ratio"], ours["noRatioBecause"], base["ratio"]) == (0.5, None, 1.0)
        assert (ours["ratioLow"], ours["ratioHigh"], base["ratioLow"]) == (20 / 42, 22 / 42, None)
        refused = data["works"][1]["candidates"][0]
        assert (refused["ratio"], refused["ratioLow"], refused["ratioHigh"]) == (None, 40 / 42, 41 / 40)
        assert refused["noRatioBecause"] == "between 0.95 and 1.02 by 3 rounds"
        assert (lame["cost"], lame["ratio"], lame["failure"]) == (None, None, "did not start: no output")


class TestCandidates:
    """
    How the proxies are started.
    """

    def test_commandLine(self, tmp_path: Path) -> None:
        """The command line's candidates are split like a shell's words, and placeholders filled in."""
        candidate = parseCandidate("mine=env 'A=b c' run {port} --to=127.0.0.1:{origin} {log}")
        assert candidate.name == "mine"
        assert candidate.command(Place(81, 82, tmp_path)) == [
            *("env", "A=b c", "run", "81", "--to=127.0.0.1:82", str(tmp_path / "access.log"))
        ]

    @pytest.mark.parametrize("text", ["", "name", "name=", "=command"])
    def test_badCommandLine(self, text: str) -> None:
        """One without a name or a command is refused."""
        with pytest.raises(ValueError):
            parseCandidate(text)

    def test_replace(self) -> None:
        """One with a known name takes that one's place, a new one is added."""
        merged = allCandidates([f"{OURS}=true", "new=true"])
        assert [candidate.name for candidate in merged] == [
            *(candidate.name for candidate in CANDIDATES),
            "new",
        ]
        assert merged[0].title == "given on the command line"

    def test_choose(self) -> None:
        """Names pick in the table's order; one that is not there is said, with those that are."""
        assert [work.name for work in choose(WORKS, "download, small")] == ["small", "download"]
        assert choose(WORKS, None) == list(WORKS)
        for names in ("small,fast", ","):
            with pytest.raises(ValueError, match="there are small, browser"):
                choose(WORKS, names)

    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The help names all works and candidates."""
        with pytest.raises(SystemExit):
            main(["compare", "--help"])
        words = "".join(capsys.readouterr().out.split())
        assert ",".join(work.name for work in WORKS) in words
        assert ",".join(candidate.name for candidate in CANDIDATES) in words

    def test_nginx(self, tmp_path: Path) -> None:
        """Nginx's configuration is complete, and keeps to its own directory."""
        command = nginx.proxyCommand(tmp_path, 81, 82, tmp_path / "log")
        configuration = (tmp_path / "nginx.conf").read_text()
        assert command[-1] == str(tmp_path / "nginx.conf")
        assert "listen 127.0.0.1:81 " in configuration
        assert "server 127.0.0.1:82;" in configuration
        assert configuration.count("{") == configuration.count("}")
        assert configuration.count(str(tmp_path)) == 7


class TestProcesses:
    """
    Starting and ending programs.
    """

    def test_freePorts(self) -> None:
        """Ports that are found are different, and can be listened on."""
        ports = freePorts(20)
        assert len(set(ports)) == 20
        with socket.create_server(("127.0.0.1", ports[0])):
            pass

    def test_noProgram(self, tmp_path: Path) -> None:
        """A program that is not there is a reason, not a crash."""
        with pytest.raises(DidNotStart, match="No such file"):
            Running([str(tmp_path / "nothing")], 1, min(os.sched_getaffinity(0)), tmp_path / "output")

    def test_lastWords(self, tmp_path: Path) -> None:
        """Of a program that ends at once the last line it wrote is the reason."""
        code = "print('first'); print('bad port'); print(); raise SystemExit(3)"
        [port] = freePorts(1)
        running = Running(
            [sys.executable, "-c", code], port, min(os.sched_getaffinity(0)), tmp_path / "output"
        )
        try:
            with pytest.raises(DidNotStart, match="ended with 3: bad port"):
                running.waitUntilListening()
        finally:
            running.stop()

    def test_stop(self, tmp_path: Path) -> None:
        """Stopping ends the children too, even one that ignores the polite way."""
        stubborn = "from signal import *; signal(15, SIG_IGN); print('ready', flush=True); pause()"
        parent = (
            "import socket, subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-c', {stubborn!r}], stdout=subprocess.PIPE)\n"
            "child.stdout.readline()\n"
            "print(child.pid, flush=True)\n"
            "listening = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
            "time.sleep(60)\n"
        )
        [port] = freePorts(1)
        core = min(os.sched_getaffinity(0))
        running = Running([sys.executable, "-c", parent, str(port)], port, core, tmp_path / "output")
        try:
            running.waitUntilListening()
            child = int(running.lastLine())
            assert measure.processTree(running.pid) == [running.pid, child]
            watch = os.pidfd_open(child)
        finally:
            running.stop()
        try:
            # Readable once the process has ended, whether or not its new parent has buried it.
            assert select.select([watch], [], [], 10.0)[0] == [watch]
        finally:
            os.close(watch)


class TestCommand:
    """
    The command itself.
    """

    @pytest.mark.parametrize(
        "arguments",
        [["compare", "--work", "nosuch"], ["compare", "--only", "nosuch"], ["profile", "--work", "x"]],
    )
    def test_mistakes(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """A wrong name ends it before anything is started, with one line."""
        assert main(arguments) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("benchmarks: no such name: ")


def test_folded() -> None:
    """In a profile the lines of a function count together, and recursion counts once."""
    text = "main (a.py:1);f (b.py:2) 6\nmain (a.py:1);f (b.py:9);f (b.py:2) 3\nmain (a.py:1) 1\n"
    rows = [line.split(maxsplit=2) for line in foldedTable(text).splitlines()[1:]]
    assert rows == [["90.0%", "90.0%", "f (b.py)"], ["10.0%", "100.0%", "main (a.py)"]]


def test_flameTitle() -> None:
    """A flame graph says what was measured, and no path of the machine; other text stays."""
    picture = '<svg><text id="title" x="1">py-spy record --output /some/where</text><text>f (a.py)</text></svg>'
    assert titled(picture, "a & b") == '<svg><text id="title" x="1">a &amp; b</text><text>f (a.py)</text></svg>'
