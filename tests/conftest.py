"""
What every test promises without saying so: it leaves nothing behind, and nothing fails where nobody looks.

A proxy's worst bugs are silent: a timer that lives on, a socket that nobody closes, an exception which only
the log has seen.  No assertion finds those, so two autouse fixtures do, around every single test.

 - C{nothingLeftBehind} compares delayed calls, readers, writers and open descriptors before and after.
   Closing takes a few turns of the reactor, so what seems left gets some turns to go away, which only costs
   time where there is something left.
 - C{loggedErrors} fails a test during which an error or a failure was logged.  A test that expects one asks
   for the fixture by name, looks at the list, and clears it.

With C{TWISTPROXY_NO_SKIPS=1} a skipped test fails: where everything that tests need is installed, a skip is
a hole.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from itertools import count
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

# A test that fails shows why its exchanges went as they did.
pytest_plugins = ["twistproxy.testing.pytestplugin"]

# How long what seems left may take to go away: a few bare turns for connections that are closing, then
# some ticks of the timer wheel and what a loaded machine needs.  In seconds, about 0.7 in all.
TURNS = (0, 0, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)

NO_SKIPS = os.environ.get("TWISTPROXY_NO_SKIPS", "") not in ("", "0")


class Belongings:
    """What the process and the reactor hold at one moment, as far as tests may leave it behind."""

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: the reactor to look at.
        """
        # The objects themselves are kept, so that no identity can be given out again between two looks.
        self.kinds: dict[str, dict[Any, Any]] = {
            "delayed call": {id(call): call for call in reactor.getDelayedCalls()},
            "reader": {id(reader): reader for reader in reactor.getReaders()},
            "writer": {id(writer): writer for writer in reactor.getWriters()},
            "descriptor": {item: "{}: {}".format(*item) for item in sorted(openDescriptors())},
        }

    def since(self, before: Belongings) -> list[tuple[str, Any]]:
        """
        @param before: an earlier look.
        @return: kind and object of everything that was not there before.
        """
        return [
            (kind, item)
            for kind, items in self.kinds.items()
            for key, item in items.items()
            if key not in before.kinds[kind]
        ]


def openDescriptors() -> set[tuple[int, str]]:
    """
    @return: number and target of every open descriptor, the standard three excepted (pytest swaps those as it
        captures).  The target of a socket contains its inode, so a number used again is noticed.
    """
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of this very listing
            continue
        if int(name) > 2:
            found.add((int(name), target))
    return found


@pytest.fixture(scope="session", autouse=True)
def warmReactor() -> Any:
    """
    The reactor that pytest-twisted runs, after everything in it that is opened once and kept: its wakers, and
    the spare descriptor that Twisted reserves when the first port listens.
    """
    from twisted.internet import reactor

    def openAndClose() -> Any:
        return reactor.listenTCP(0, Factory(), interface="127.0.0.1").stopListening()  # type: ignore[attr-defined]

    pytest_twisted.blockon(deferLater(reactor, 0, openAndClose))
    return reactor


_tests = count(1)


@pytest.fixture(autouse=True)
def loggedErrors() -> Iterator[list[LogEvent]]:
    """
    Every event of the test that carries a failure or is an error.  The test fails if one is left in the list.
    """
    events: list[LogEvent] = []

    def observer(event: LogEvent) -> None:
        level = event.get("log_level")
        if event.get("log_failure") is not None or (level is not None and level >= LogLevel.error):
            events.append(event)

    globalLogPublisher.addObserver(observer)
    try:
        yield events
        # A failed Deferred that nobody listens to speaks up when it is collected.  Cheap, as everything
        # older than the tests is frozen (see pytest_collection_finish), and so is now and then what they have
        # left behind: reports above all, without which the last tests would take five times as long as the first.
        gc.collect()
        if next(_tests) % 50 == 0:
            gc.freeze()
    finally:
        globalLogPublisher.removeObserver(observer)
    if events:
        told = "\n".join(eventAsText(event, includeTimestamp=False).rstrip() for event in events)
        pytest.fail(f"logged, and the test did not expect it:\n{told}", pytrace=False)


@pytest.fixture(autouse=True)
def nothingLeftBehind(warmReactor: Any, loggedErrors: list[LogEvent]) -> Iterator[None]:
    """
    Fail a test that leaves delayed calls, readers, writers or descriptors behind.  Torn down before
    C{loggedErrors}, so what is logged while things close counts for the test that opened them.
    """
    before = Belongings(warmReactor)
    yield
    left = settle(before, warmReactor)
    told = "\n".join(f"  {kind} {item}" for kind, item in left)
    for kind, item in left:
        if kind == "delayed call" and item.active():
            item.cancel()  # or it would go off in the middle of somebody else's test
    if left:
        pytest.fail(f"left behind:\n{told}", pytrace=False)


def settle(before: Belongings, reactor: Any) -> list[tuple[str, Any]]:
    """
    Let the reactor turn until nothing new is left, for a bounded time.

    @return: what is left then.
    """
    left = Belongings(reactor).since(before)
    for number, seconds in enumerate(TURNS):
        if not left:
            break
        if number == 3:
            # Under pytest-twisted a Failure keeps its frames, and these what they worked on.
            gc.collect()
        pytest_twisted.blockon(deferLater(reactor, seconds))
        left = Belongings(reactor).since(before)
    return left


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take everything imported so far out of the collector's sight, so that a collection costs little."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where skips are not allowed, turn a skipped test into a failed one (an expected failure is no skip)."""
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = skipReason(report.longrepr)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    if NO_SKIPS and report.skipped:
        report.outcome = "failed"
        report.longrepr = skipReason(report.longrepr)
    return report


def skipReason(longrepr: Any) -> str:
    """
    @param longrepr: what pytest says of a skip: path, line and reason.
    @return: one line.
    """
    where = "{}:{}: {}".format(*longrepr) if isinstance(longrepr, tuple) else str(longrepr)
    return f"skipped although TWISTPROXY_NO_SKIPS is set: {where}"
