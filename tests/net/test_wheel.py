"""
The promises of the timer wheel: not too early, not too late, in order, and nothing left behind.
"""

from __future__ import annotations

import random
import weakref
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from tests.net.peers import until
from twistproxy.deadlines import NEVER, Timed
from twistproxy.net.wheel import TICK, Wheel


class Alarm(Timed):
    """Writes down when it went off."""

    def __init__(self, clock: Any, name: str = "", log: list[Any] | None = None) -> None:
        super().__init__()
        self.clock = clock
        self.name = name
        self.log: list[Any] = [] if log is None else log
        self.rang: list[float] = []

    def timedOut(self) -> None:
        self.rang.append(self.clock.seconds())
        self.log.append(self.name)


def advance(clock: Clock, seconds: float, step: float = 0.02) -> None:
    """Let time pass in small steps, as it does in a reactor that is not blocked."""
    clock.pump([step] * round(seconds / step))


def test_ticks() -> None:
    """Seconds become ticks rounded up, and at least one."""
    wheel = Wheel(Clock())
    seconds = (0, 0.001, 0.1, 0.1000001, 0.11, 0.3, 0.7, 1, 5, 60, 75.05)
    assert [wheel.ticks(each) for each in seconds] == [1, 1, 1, 1, 2, 3, 7, 10, 50, 600, 751]


def test_accuracy() -> None:
    """B9: a timeout happens after at least its ticks, and less than two ticks later than that, whatever the
    phase."""
    chance = random.Random(3)
    for _ in range(300):
        clock = Clock()
        clock.advance(chance.random() * 1e6)
        wheel = Wheel(clock)
        other = Alarm(clock)
        if chance.random() < 0.5:
            wheel.schedule(other, 1000)
        advance(clock, chance.random() * 3, 0.01)
        alarm = Alarm(clock)
        ticks = chance.randrange(1, 40)
        start = clock.seconds()
        wheel.schedule(alarm, ticks)
        advance(clock, (ticks + 3) * TICK, 0.01)
        [rang] = alarm.rang
        # One step of the clock may lie between the moment and its being noticed.
        assert ticks * TICK - 0.001 <= rang - start < (ticks + 2) * TICK
        wheel.cancel(other)
        assert clock.getDelayedCalls() == []


def test_moveLater() -> None:
    """A deadline that keeps moving never comes, and then once."""
    clock = Clock()
    wheel, alarm = Wheel(clock), Alarm(clock)
    for _ in range(50):
        wheel.schedule(alarm, 10)
        advance(clock, 0.9)
        assert alarm.rang == []
    advance(clock, 0.4)
    assert len(alarm.rang) == 1
    assert clock.getDelayedCalls() == []


def test_moveLaterAllocatesNothing() -> None:
    """Moving a deadline to a later time leaves the slots as they are."""
    clock = Clock()
    wheel, alarm = Wheel(clock), Alarm(clock)
    wheel.schedule(alarm, 10)
    slot = alarm.slot
    wheel.schedule(alarm, 20)
    wheel.schedule(alarm, 700)
    assert (alarm.slot, alarm.deadline) == (slot, wheel.now + 701)


def test_moveEarlier() -> None:
    """A deadline can move to an earlier time, and then comes once."""
    clock = Clock()
    wheel, alarm = Wheel(clock), Alarm(clock)
    wheel.schedule(alarm, 600)
    advance(clock, 1)
    wheel.schedule(alarm, 10)
    advance(clock, 1.3)
    assert len(alarm.rang) == 1
    advance(clock, 90, 0.1)
    assert len(alarm.rang) == 1


def test_cancel() -> None:
    """What is cancelled does not happen and is not held; cancelling twice, or what was never scheduled,
    does no harm."""
    clock = Clock()
    wheel = Wheel(clock)
    alarm, other = Alarm(clock), Alarm(clock)
    wheel.schedule(alarm, 600)
    wheel.schedule(other, 600)
    rang = alarm.rang
    gone = weakref.ref(alarm)
    wheel.cancel(alarm)
    wheel.cancel(alarm)
    wheel.cancel(Alarm(clock))
    del alarm
    assert gone() is None
    advance(clock, 61, 0.1)
    assert (len(rang), len(other.rang)) == (0, 1)


def test_sleeps() -> None:
    """With the last one cancelled or gone off, nothing is left in the reactor; the next one wakes the wheel
    at the right time."""
    clock = Clock()
    wheel, alarm = Wheel(clock), Alarm(clock)
    assert clock.getDelayedCalls() == []
    wheel.schedule(alarm, 5)
    assert len(clock.getDelayedCalls()) == 1
    wheel.cancel(alarm)
    assert clock.getDelayedCalls() == []
    advance(clock, 1000, 1)
    wheel.schedule(alarm, 5)
    assert wheel.now == 10_000
    advance(clock, 0.5)
    assert alarm.rang == []
    advance(clock, 0.2)
    assert len(alarm.rang) == 1
    assert clock.getDelayedCalls() == []


def test_never() -> None:
    """A limit that is switched off is scheduled like any other, never comes, and is soon not held any
    more."""
    clock = Clock()
    wheel, alarm = Wheel(clock), Alarm(clock)
    wheel.schedule(alarm, NEVER)
    assert clock.getDelayedCalls() == []
    wheel.schedule(alarm, 10)
    wheel.schedule(alarm, NEVER)
    advance(clock, 2)
    assert (alarm.rang, clock.getDelayedCalls()) == ([], [])
    wheel.schedule(alarm, 10)
    advance(clock, 2)
    assert len(alarm.rang) == 1


def test_farAdvance() -> None:
    """When time jumps, everything that is due goes off, in order, also what was moved; the rest does not."""
    clock = Clock()
    wheel = Wheel(clock)
    log: list[str] = []
    alarms = {name: Alarm(clock, name, log) for name in "abcdefg"}
    for name, ticks in zip("abcdef", (50, 10, 3000, 1, 20, 600), strict=True):
        wheel.schedule(alarms[name], ticks)
    wheel.schedule(alarms["b"], 100)
    wheel.schedule(alarms["g"], 36_000)
    clock.advance(1000)
    assert log == ["d", "e", "a", "b", "f", "c"]
    wheel.cancel(alarms["g"])
    assert clock.getDelayedCalls() == []


def test_sameTickInOrder() -> None:
    """Deadlines in the same tick are met in the order in which they were set."""
    clock = Clock()
    wheel = Wheel(clock)
    log: list[str] = []
    for name in "hgfedcba":
        wheel.schedule(Alarm(clock, name, log), 7)
    clock.advance(5)
    assert log == list("hgfedcba")


def test_fromInside() -> None:
    """timedOut may schedule itself again, and cancel or move others of the same tick."""
    clock = Clock()
    wheel = Wheel(clock)
    victim, moved = Alarm(clock), Alarm(clock)

    class Again(Alarm):
        def timedOut(self) -> None:
            super().timedOut()
            if len(self.rang) < 3:
                wheel.schedule(self, 10)
            wheel.cancel(victim)
            wheel.schedule(moved, 50)

    again = Again(clock)
    for timed in (again, victim, moved):
        wheel.schedule(timed, 10)
    advance(clock, 4)
    assert (len(again.rang), victim.rang, moved.rang) == (3, [], [])
    advance(clock, 6)
    assert (len(again.rang), victim.rang, len(moved.rang)) == (3, [], 1)
    assert clock.getDelayedCalls() == []


def test_errors(loggedErrors: list[Any]) -> None:
    """B7.4: a timeout that raises is logged, and the others happen all the same."""
    clock = Clock()
    wheel = Wheel(clock)

    class Bad(Alarm):
        def timedOut(self) -> None:
            super().timedOut()
            raise ZeroDivisionError

    alarms = [Bad(clock), Alarm(clock), Bad(clock), Alarm(clock)]
    for alarm in alarms[:3]:
        wheel.schedule(alarm, 10)
    wheel.schedule(alarms[3], 20)
    advance(clock, 3)
    assert [len(alarm.rang) for alarm in alarms] == [1, 1, 1, 1]
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError] * 2
    loggedErrors.clear()


def test_abstract() -> None:
    """A Timed that does not say what happens is a mistake."""
    with pytest.raises(NotImplementedError):
        Timed().timedOut()


def test_bytesCountAfterABlock() -> None:
    """When the loop was blocked, deadlines that the next turn of the loop moves are not missed."""
    clock = Clock()
    wheel, alive, dead = Wheel(clock), Alarm(clock), Alarm(clock)
    wheel.schedule(alive, 10)
    wheel.schedule(dead, 10)
    # Due when the clock jumps, and so called behind the tick that is late: as sockets are in a reactor.
    clock.callLater(5, wheel.schedule, alive, 10)
    clock.advance(5)
    assert (len(alive.rang), len(dead.rang)) == (0, 1)
    advance(clock, 1.3)
    assert len(alive.rang) == 1


def test_clockSetBack() -> None:
    """A clock that is set back delays timeouts and breaks nothing."""
    clock = Clock()
    wheel, alarm = Wheel(clock), Alarm(clock)
    wheel.schedule(alarm, 5)
    advance(clock, 0.3)
    now = wheel.now
    clock.rightNow -= 100
    other = Alarm(clock)
    wheel.schedule(other, 5)
    assert wheel.now == now
    clock.advance(102)
    assert (len(alarm.rang), len(other.rang)) == (1, 1)


def test_many() -> None:
    """Against a list of deadlines: thousands of random changes, and each alarm goes off exactly when it
    must."""
    chance = random.Random(5)
    clock = Clock()
    wheel = Wheel(clock)
    alarms = [Alarm(clock) for _ in range(200)]
    due: dict[Alarm, float] = {}
    for _ in range(4000):
        alarm = chance.choice(alarms)
        if chance.random() < 0.2:
            wheel.cancel(alarm)
            due.pop(alarm, None)
        else:
            ticks = chance.choice((1, 3, 10, 30, 100, 600))
            wheel.schedule(alarm, ticks)
            due[alarm] = clock.seconds() + ticks * TICK
        for each in alarms:
            each.rang.clear()
        clock.advance(chance.random() * 0.1)
        for each in alarms:
            if each.rang:
                assert each.rang[0] >= due.pop(each) - 0.001
        assert all(clock.seconds() < deadline + 3 * TICK for deadline in due.values())
    clock.advance(100)
    assert clock.getDelayedCalls() == []


def test_scheduled() -> None:
    """What has a deadline can be listed with the time it has left; what was put off for ever is not among it."""
    clock = Clock()
    wheel = Wheel(clock)
    alarm, moved, put = Alarm(clock), Alarm(clock), Alarm(clock)
    for each in (alarm, moved, put):
        wheel.schedule(each, 10)
    wheel.schedule(moved, 50)
    wheel.schedule(put, NEVER)
    assert [(timed, round(seconds, 6)) for timed, seconds in wheel.scheduled()] == [(alarm, 1.1), (moved, 5.1)]
    advance(clock, 0.5)
    assert [round(seconds, 6) for _, seconds in wheel.scheduled()] == [0.6, 4.6]
    advance(clock, 10)
    assert (wheel.scheduled(), alarm.limitName) == ([], "")


def test_repr() -> None:
    """A wheel says how much it holds."""
    clock = Clock()
    wheel = Wheel(clock)
    wheel.schedule(Alarm(clock), 5)
    assert repr(wheel) == "<Wheel at 0, 1 scheduled>"


@ensureDeferred
async def test_inAReactor() -> None:
    """The same in a real reactor."""
    from twisted.internet import reactor

    wheel, alarm, other = Wheel(reactor), Alarm(reactor), Alarm(reactor)
    start = reactor.seconds()  # type: ignore[attr-defined]
    wheel.schedule(alarm, 2)
    wheel.schedule(other, 1000)
    await until(lambda: alarm.rang)
    assert alarm.rang[0] - start >= 0.2
    wheel.cancel(other)
