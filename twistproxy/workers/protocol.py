# -*- test-case-name: tests.workers.test_protocol -*-
"""
What the supervisor and a worker say to each other: one JSON object per line, each with a version and a kind.

The two may be of different releases for a while, when the program is replaced under a supervisor that runs and its
workers are restarted.  So a kind that one does not know is left alone, and a version that it does not know is an error
which names both.  A line has a bound, so that neither can make the other hold more than that.

From a worker: C{ready}; C{leaving} (it was asked to end, and waits for an order); C{draining} (it will take no more, by
its own decision or by order); C{forgot} (the answer to C{forget}); C{counts} (all that it has counted, as L{Counts.data
<twistproxy.observe.counters.Counts.data>} has it, and how many exchanges it has cut off); C{log} (one event for the
supervisor's log).

From the supervisor: C{cover} (also accept for these slots, and for no others); C{forget} (close the sockets that are
not your own); C{drain}; C{cut}; C{reopen} (the logs).
"""

from __future__ import annotations

import json
from typing import Any

#: Of this protocol.  It changes when a line could be understood wrongly.
VERSION = 1

#: A line is no longer than this, in bytes.
LONGEST = 1 << 18

#: The text of a log event is no longer than this, in characters; of the worst of them JSON makes twelve bytes each.
LONGEST_TEXT = 1 << 14


class BadMessage(Exception):
    """
    What came is no message of this protocol.
    """


def encoded(kind: str, **fields: Any) -> bytes:
    """
    @param kind: what kind of message.
    @param fields: what belongs to it.
    @return: its line.
    """
    line = json.dumps({"v": VERSION, "kind": kind, **fields}, separators=(",", ":")).encode("ascii") + b"\n"
    if len(line) > LONGEST:
        raise ValueError(f"a message of kind {kind} has {len(line)} bytes, more than {LONGEST}")
    return line


def decoded(line: bytes) -> dict[str, Any]:
    """
    @param line: without its end.
    @return: a message, which has a C{"kind"}.
    @raise BadMessage: if it is none.
    """
    try:
        message = json.loads(line)
    except ValueError as error:
        raise BadMessage(f"no JSON: {line[:80]!r}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise BadMessage(f"no message: {line[:80]!r}")
    if message.get("v") != VERSION:
        raise BadMessage(
            f"version {message.get('v')} of the protocol, not {VERSION}: another release of twistproxy was installed; "
            "restart the whole"
        )
    return message


class Lines:
    """
    Finds lines in a stream of bytes.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        """
        @param longest: how long a line may be, in bytes.
        """
        self._longest = longest
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """
        @return: the lines that are complete now, without their ends.
        @raise BadMessage: if one is too long.
        """
        *lines, self.rest = (self.rest + data).split(b"\n")
        if max(map(len, (*lines, self.rest))) >= self._longest:
            raise BadMessage(f"a line of more than {self._longest} bytes")
        return lines
