"""
The table of an exchange's states.
"""

from __future__ import annotations

import pytest

from twistproxy.core.states import REQUEST_TRANSITIONS, RESPONSE_TRANSITIONS, Event, RequestSide, ResponseSide

ENDS = [ResponseSide.COMPLETE, ResponseSide.CUT]


def test_everyStateIsReached() -> None:
    """No state of either side stands in the table for nothing."""
    assert set(REQUEST_TRANSITIONS.values()) | {RequestSide.COMING} == set(RequestSide)
    assert set(RESPONSE_TRANSITIONS.values()) | {ResponseSide.NOTHING} == set(ResponseSide)


@pytest.mark.parametrize("end", ENDS)
def test_endsAreEnds(end: ResponseSide) -> None:
    """B3.6: what has ended stays as it is, whatever comes later."""
    assert {new for (old, _), new in RESPONSE_TRANSITIONS.items() if old is end} == {end}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("event", [Event.HEAD_SENT, Event.SENT, Event.SWITCHED])
def test_nothingIsSentTwice(end: ResponseSide, event: Event) -> None:
    """No way leads to a second response: asking for one is a bug of ours, and raises."""
    with pytest.raises(KeyError):
        RESPONSE_TRANSITIONS[end, event]


@pytest.mark.parametrize("side", list(ResponseSide))
def test_everythingCanBeCut(side: ResponseSide) -> None:
    """B7.1: the client may leave in every state."""
    assert RESPONSE_TRANSITIONS[side, Event.CUT] in ENDS


@pytest.mark.parametrize("side", list(RequestSide))
def test_everyBodyCanBeDropped(side: RequestSide) -> None:
    """An upstream may give up a request's body in every state."""
    assert (side, Event.BODY_DROPPED) in REQUEST_TRANSITIONS
