# -*- test-case-name: tests.core.test_states -*-
"""
The state of an exchange: two enumerations and one table.

Rule 1: everything that decides what may still be sent lives here.  Rule 2: a transition that is not in the table is a
bug of ours, and raises.  The diagram in the documentation is made from the table.
"""

from __future__ import annotations

import enum


class RequestSide(enum.Enum):
    """
    How much of the request has come.
    """

    COMING = "coming"  #: its body is still being read
    COMPLETE = "complete"  #: all of it has been read
    DROPPED = "dropped"  #: nobody wants the rest
    BROKEN = "broken"  #: its body broke off

    __hash__ = object.__hash__


class ResponseSide(enum.Enum):
    """
    How much of the response has been sent.
    """

    NOTHING = "nothing"  #: nothing but interim responses; an error can still be answered
    STREAMING = "streaming"  #: the head, and perhaps some of the body
    COMPLETE = "complete"  #: all of it
    TUNNEL = "tunnel"  #: a 101; bytes are opaque from here on
    CUT = "cut"  #: it was cut off, or the client left

    __hash__ = object.__hash__


class Event(enum.Enum):
    """
    What moves an exchange from one state to the next.
    """

    BODY_ENDED = "body ended"
    BODY_DROPPED = "body dropped"
    BODY_BROKE = "body broke off"
    HEAD_SENT = "head sent"
    SENT = "all sent"
    SWITCHED = "switched protocols"
    CUT = "cut off"

    __hash__ = object.__hash__


REQUEST_TRANSITIONS: dict[tuple[RequestSide, Event], RequestSide] = {
    (RequestSide.COMING, Event.BODY_ENDED): RequestSide.COMPLETE,
    (RequestSide.COMING, Event.BODY_DROPPED): RequestSide.DROPPED,
    (RequestSide.COMING, Event.BODY_BROKE): RequestSide.BROKEN,
    # a filter or an upstream may give up a body in the same turn in which it ends
    (RequestSide.COMPLETE, Event.BODY_DROPPED): RequestSide.COMPLETE,
    (RequestSide.BROKEN, Event.BODY_DROPPED): RequestSide.BROKEN,
    (RequestSide.DROPPED, Event.BODY_DROPPED): RequestSide.DROPPED,
    (RequestSide.DROPPED, Event.BODY_ENDED): RequestSide.COMPLETE,
    (RequestSide.DROPPED, Event.BODY_BROKE): RequestSide.BROKEN,
}

RESPONSE_TRANSITIONS: dict[tuple[ResponseSide, Event], ResponseSide] = {
    (ResponseSide.NOTHING, Event.HEAD_SENT): ResponseSide.STREAMING,
    (ResponseSide.NOTHING, Event.SENT): ResponseSide.COMPLETE,  # head and body in one write
    (ResponseSide.NOTHING, Event.SWITCHED): ResponseSide.TUNNEL,
    (ResponseSide.NOTHING, Event.CUT): ResponseSide.CUT,
    (ResponseSide.STREAMING, Event.SENT): ResponseSide.COMPLETE,
    (ResponseSide.STREAMING, Event.CUT): ResponseSide.CUT,
    (ResponseSide.TUNNEL, Event.SENT): ResponseSide.COMPLETE,
    (ResponseSide.TUNNEL, Event.CUT): ResponseSide.CUT,
    # terminal: what comes later changes nothing
    (ResponseSide.COMPLETE, Event.CUT): ResponseSide.COMPLETE,
    (ResponseSide.CUT, Event.CUT): ResponseSide.CUT,
}
