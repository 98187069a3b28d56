"""
The rule by which an upstream is left alone: a table, thresholds, and a model to compare it with.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings as hypothesisSettings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twistproxy.policy.breaker import TRANSITIONS, Breaker, BreakerSettings, Event, State

PATIENT = BreakerSettings(failures=1000, share=1.0, requests=1000)


def opened(settings: BreakerSettings | None = None) -> Breaker:
    """@return: a breaker that has opened at 0.0 for a second."""
    breaker = Breaker(settings or BreakerSettings(failures=1))
    breaker.failed(0.0)
    assert breaker.state is State.OPEN
    return breaker


def test_table() -> None:
    """What can happen in a state has a row: only a closed one trips, and then no trial can begin."""
    impossible = {(State.CLOSED, Event.TRIAL), (State.OPEN, Event.TRIPPED), (State.HALF_OPEN, Event.TRIPPED)}
    assert set(TRANSITIONS) == {(state, event) for state in State for event in Event} - impossible


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("ffff", State.CLOSED),
        ("fffff", State.OPEN),
        ("ffff.fffff", State.OPEN),
        ("ffff." * 3 + "ffff", State.CLOSED),  # most of nineteen
        ("ffff." * 4 + "f", State.OPEN),  # most of twenty-one
        ("f." * 10, State.CLOSED),  # the twentieth succeeds; a success opens nothing
        ("f." * 10 + "f", State.OPEN),
        ("f.." * 30, State.CLOSED),
    ],
)
def test_opens(outcomes: str, state: State) -> None:
    """It opens after five failures in a row, or when half of twenty and more requests have failed."""
    breaker = Breaker(BreakerSettings())
    for outcome in outcomes:
        (breaker.failed if outcome == "f" else breaker.succeeded)(0.0)
    assert breaker.state is state


def test_shareIsOfNow() -> None:
    """The share is that of the last seconds: a healthy day does not make up for a bad minute."""
    breaker = Breaker(BreakerSettings(failures=1000))
    for _ in range(100_000):
        breaker.succeeded(0.0)
    for number in range(40):
        assert breaker.state is State.CLOSED or number > 19
        (breaker.failed if number % 3 else breaker.succeeded)(100.0)
    assert breaker.state is State.OPEN


def test_pauses() -> None:
    """Each further opening in a row doubles the pause, up to the longest; a success makes it short again."""
    breaker = opened(BreakerSettings(failures=1, pause=1.0, longest=5.0))
    now, pauses = 0.0, []
    for _ in range(5):
        pauses.append(breaker.until - now)
        now = breaker.until
        assert not breaker.admits(now - 0.001)
        assert breaker.admits(now)
        breaker.tryNow(now)
        breaker.trialFailed(now)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    breaker.tryNow(breaker.until)
    breaker.trialSucceeded()
    assert (breaker.state, breaker.opened, breaker.failures) == (State.CLOSED, 0, 0)
    breaker.failed(now)
    assert breaker.until == now + 1.0


def test_oneTrial() -> None:
    """While a trial is under way nothing else goes, until it has told nothing for a whole pause."""
    breaker = opened()
    breaker.tryNow(1.0)
    assert [breaker.admits(1.0), breaker.admits(1.99), breaker.admits(2.0)] == [False, False, True]
    breaker.tryNow(2.0)
    assert (breaker.state, breaker.admits(2.5)) == (State.HALF_OPEN, False)


def test_trialThatToldNothing() -> None:
    """A trial that ends for a reason of ours leaves its place to the next request."""
    breaker = opened()
    breaker.tryNow(1.0)
    breaker.trialToldNothing()
    assert breaker.admits(1.0)
    assert breaker.state is State.HALF_OPEN


def test_closedAnew() -> None:
    """When it closes again, what was counted before is forgotten: the next failure is the first."""
    breaker = Breaker(BreakerSettings(failures=100, requests=4))
    for _ in range(4):
        breaker.failed(0.0)
    breaker.tryNow(breaker.until)
    breaker.trialSucceeded()
    for _ in range(3):
        breaker.failed(breaker.until)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("late", ["trialSucceeded", "trialToldNothing", "trialFailed"])
def test_lateTrial(late: str) -> None:
    """A trial whose outcome comes when another has decided changes nothing."""
    breaker = opened()
    breaker.tryNow(1.0)
    breaker.tryNow(2.0)
    breaker.trialFailed(2.5)
    state = (breaker.state, breaker.until, breaker.opened)
    getattr(breaker, late)(*([9.0] if late == "trialFailed" else []))
    assert (breaker.state, breaker.until, breaker.opened) == state


def test_lateOthers() -> None:
    """What was under way when it opened says nothing about a trial."""
    breaker = opened()
    breaker.tryNow(1.0)
    breaker.succeeded(1.0)
    breaker.failed(1.0)
    assert (breaker.state, breaker.opened) == (State.HALF_OPEN, 1)


def test_hasten() -> None:
    """A trial may be had at once, but not two."""
    breaker = opened()
    breaker.hasten()
    assert breaker.admits(0.0)
    breaker.tryNow(0.0)
    breaker.hasten()
    assert not breaker.admits(0.0)


def test_repr() -> None:
    """It says how it is, for whoever looks for trouble."""
    assert repr(opened()) == "<Breaker open, 1 failures in a row, opened 1 times>"


def test_moved() -> None:
    """Whoever wants to know is told of each change, and of nothing else."""
    told: list[Any] = []
    breaker = Breaker(BreakerSettings(failures=2), lambda before, after: told.append((before.value, after.value)))
    breaker.failed(0.0)
    breaker.failed(0.0)
    breaker.tryNow(1.0)
    breaker.tryNow(2.0)
    breaker.trialSucceeded()
    breaker.trialSucceeded()
    assert told == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]


@pytest.mark.parametrize(
    "wrong",
    [{"failures": 0}, {"share": 0.0}, {"share": 1.1}, {"requests": 0}, {"window": 0.0}, {"pause": 0.0}, {"longest": -1}, {"statuses": [5]}],
)
def test_settings(wrong: Any) -> None:
    """Thresholds that make no sense are an error at once."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BreakerSettings(**wrong)


class Model(RuleBasedStateMachine):
    """
    The same in other words: a list of what happened, from which everything is worked out anew.  Nothing is simpler than
    three failures in a row, so that is when this one opens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(BreakerSettings(failures=3, requests=1000, pause=1.0, longest=4.0))
        self.now = 0.0
        self.row = ""  # outcomes since it was closed
        self.openings: list[float] = []  # since it was closed
        self.trial: float | None = None  # when the one that is under way began

    @property
    def pause(self) -> float:
        return [1.0, 2.0, 4.0][min(len(self.openings), 3) - 1]

    @property
    def closed(self) -> bool:
        return not self.openings

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(good=st.booleans())
    def other(self, good: bool) -> None:
        (self.breaker.succeeded if good else self.breaker.failed)(self.now)
        if self.closed:
            self.row += "." if good else "f"
            if self.row.endswith("fff"):
                self.openings.append(self.now)
                self.row = ""

    @precondition(lambda self: not self.closed)
    @rule()
    def ask(self) -> None:
        since = self.openings[-1] if self.trial is None else self.trial
        may = self.now >= since + self.pause
        assert self.breaker.admits(self.now) == may
        if may:
            self.breaker.tryNow(self.now)
            self.trial = self.now

    @precondition(lambda self: self.trial is not None)
    @rule(good=st.booleans())
    def tell(self, good: bool) -> None:
        self.trial = None
        if good:
            self.breaker.trialSucceeded()
            self.openings.clear()
        else:
            self.breaker.trialFailed(self.now)
            self.openings.append(self.now)

    @invariant()
    def agrees(self) -> None:
        expected = State.CLOSED if self.closed else State.OPEN if self.trial is None else State.HALF_OPEN
        assert self.breaker.state is expected
        assert self.breaker.opened == len(self.openings)
        assert not self.closed or self.breaker.admits(self.now)


TestModel = Model.TestCase
TestModel.settings = hypothesisSettings(max_examples=60, stateful_step_count=40, deadline=None)
TestModel.__doc__ = "Whatever happens in whatever order, the breaker does what the model says."
