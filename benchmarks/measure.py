"""
What a process used, as the kernel tells it.

The figure that is compared is CPU time, not requests per second: on a machine shared with others the rate
says more about the neighbors than about the proxy. C{/proc/PID/task/TID/schedstat} counts nanoseconds on
the CPU for each thread, where C{/proc/PID/stat} counts ticks of 10 ms. It is summed over the whole process
tree, because nginx works in a child process and Go in several threads. A thread that ends takes its count
along; none of the candidates ends threads while it serves.

Steal is the time in which the hypervisor ran somebody else on our cores: the one sort of noise that can be
read off directly.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def processTree(pid: int, proc: Path = PROC) -> list[int]:
    """
    List a process and all its descendants.

    @param pid: the root of the tree.
    @param proc: where procfs is mounted.
    @return: process ids, the root first.
    """
    tree = [pid]
    for children in (proc / str(pid) / "task").glob("*/children"):
        for child in _read(children).split():
            tree.extend(processTree(int(child), proc))
    return tree


def cpuNanoseconds(pid: int, proc: Path = PROC) -> int:
    """
    Tell the CPU time that a process tree has used so far.

    @return: user and system time of all living threads, in nanoseconds.
    """
    total = 0
    for member in processTree(pid, proc):
        for schedstat in (proc / str(member) / "task").glob("*/schedstat"):
            fields = _read(schedstat).split()
            total += int(fields[0]) if fields else 0
    return total


def residentBytes(pid: int, proc: Path = PROC) -> int:
    """
    Tell the memory that a process tree holds.

    @return: the sum of the resident set sizes, in bytes. Pages that members share are counted for each of
        them.
    """
    return _sumOf("VmRSS:", pid, proc)


def peakBytes(pid: int, proc: Path = PROC) -> int:
    """
    Tell the most memory that the members of a process tree have held since L{resetPeak}.

    @return: the sum of the members' peaks, in bytes.
    """
    return _sumOf("VmHWM:", pid, proc)


def resetPeak(pid: int, proc: Path = PROC) -> None:
    """
    Let the peak of a process tree begin anew, at what it holds now.
    """
    for member in processTree(pid, proc):
        with contextlib.suppress(OSError):
            # proc(5): 5 resets the peak resident set size
            (proc / str(member) / "clear_refs").write_text("5\n")


def _sumOf(field: str, pid: int, proc: Path) -> int:
    total = 0
    for member in processTree(pid, proc):
        for line in _read(proc / str(member) / "status").splitlines():
            if line.startswith(field):
                total += int(line.split()[1]) * 1024
    return total


def openFiles(pid: int, proc: Path = PROC) -> int:
    """
    Tell how many files and sockets a process tree has open.
    """
    return sum(len(list((proc / str(member) / "fd").glob("*"))) for member in processTree(pid, proc))


def stealSeconds(proc: Path = PROC) -> float:
    """
    Tell the time stolen from this machine's cores since it started.

    @return: seconds, summed over all cores, with the resolution of the kernel's tick.
    """
    fields = _read(proc / "stat").partition("\n")[0].split()
    # The aggregate line: cpu user nice system idle iowait irq softirq steal ...
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def chooseCores(available: set[int], siblings: dict[int, set[int]] | None = None) -> tuple[int, int]:
    """
    Choose the core for the proxies and the one for the origins and the load.

    @param available: the cores that this process may use.
    @param siblings: for each core, those that share its execution units (hyper-threads), itself included.
    @return: two cores, not siblings of each other if that can be avoided, and the same twice if there is
        only one.
    """
    ours, *others = sorted(available)
    if not others:
        return ours, ours
    apart = [core for core in others if core not in (siblings or {}).get(ours, set())]
    return ours, (apart or others)[0]


def coreSiblings(available: set[int]) -> dict[int, set[int]]:
    """
    Read which cores share their execution units.

    @return: for each core in C{available} its siblings, itself included; empty where the kernel does not
        tell.
    """
    found = {}
    for core in available:
        text = _read(Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"))
        members: set[int] = set()
        for part in filter(None, text.strip().split(",")):
            first, _, last = part.partition("-")
            members.update(range(int(first), int(last or first) + 1))
        found[core] = members
    return found


@contextlib.contextmanager
def pinnedTo(core: int) -> Iterator[None]:
    """
    Run the block on one core. Processes started inside inherit that from their first instruction on.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _read(path: Path) -> str:
    # A thread or process that has just ended counts as nothing.
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
