"""
Disorder: many clients and upstream connections at once, everything in random pieces, in a random order, with accidents.

No single test thinks of every order of events.  Here a seeded random generator does, and what must hold whatever happens is checked: every
byte that arrives belongs to the exchange it arrives in, responses come in the order of their requests, nothing is logged as an
error, and in the end nothing is left.
"""

from __future__ import annotations

import random
import re
from typing import Any

import h11
import pytest

from tests.support.memory import MemoryTransport
from tests.support.world import MAX_HEAD, World, readResponses
from twistproxy.deadlines import Timeouts
from twistproxy.limits import Limits
from twistproxy.upstream.pool import PoolSettings

#: What the proxy itself may answer.
ERRORS = (400, 408, 502, 503, 504)


def bodyOf(target: bytes, size: int) -> bytes:
    """The one body that belongs to a target."""
    return (target + b" ") * (size // (len(target) + 1) + 1)


def belongs(body: bytes, target: bytes) -> bool:
    """Whether every target that a body names is this one.  (A client that spoilt its message may have spoilt one of the names.)"""
    return set(re.findall(rb"/[0-9]/[0-9](?= )", body)) <= {target}


def inPieces(chance: random.Random, data: bytes) -> list[bytes]:
    """Cut somewhere, or everywhere."""
    most = chance.choice([1, 3, 50, 1000, 100_000])
    pieces = []
    while data:
        size = chance.randint(1, most)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


class Caller:
    """
    One client: its requests, in pieces, and what it was to get for them.
    """

    def __init__(self, chance: random.Random, world: World, number: int) -> None:
        self.chance = chance
        self.line: MemoryTransport = world.client()
        self.targets = [b"/%d/%d" % (number, count) for count in range(chance.randint(1, 5))]
        self.methods = []
        data = b""
        for target in self.targets:
            method = chance.choice([b"GET", b"GET", b"HEAD", b"POST", b"PUT"])
            self.methods.append(method)
            lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: a"]
            body = b""
            if method in (b"POST", b"PUT"):
                body = bodyOf(target, chance.choice([5, 500, 40_000]))
                if chance.random() < 0.5:
                    lines.append(b"Content-Length: %d" % len(body))
                else:
                    lines.append(b"Transfer-Encoding: chunked")
                    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            data += b"\r\n".join((*lines, b"", body))
        if chance.random() < 0.1:
            at = chance.randrange(len(data))
            data = data[:at] + chance.choice([b"\x00", b"\n", b"\r"]) + data[at:]
        self.pieces = inPieces(chance, data)
        self.leaves = chance.choice(["", "", "", "EOF", "reset"])

    def move(self) -> None:
        """Do something."""
        chance = self.chance
        if self.line.lost:
            return
        self.line.taking = chance.random() < 0.9
        if self.pieces and chance.random() < 0.8:
            count = chance.randint(1, 5)
            self.line.queue(*self.pieces[:count])
            del self.pieces[:count]
        elif self.leaves and chance.random() < 0.02:
            self.line.sendEOF() if self.leaves == "EOF" else self.line.sendReset()

    def check(self, data: bytes) -> None:
        """Look at everything that came."""
        final = [each for each in readResponses(data, self.methods, ended=True) if each.status >= 200]
        for target, response in zip(self.targets, final, strict=False):
            if response[b"x-asked"]:
                assert (response[b"x-asked"], response.status) == ([target], 200)
                assert belongs(response.body, target)
            else:
                assert (response.status in ERRORS, response.complete) == (True, True)
        assert len(final) <= len(self.targets) + 1


class Answerer:
    """
    One upstream connection: checks what it is sent, and answers well, badly, or not at all.
    """

    def __init__(self, chance: random.Random, line: MemoryTransport) -> None:
        self.chance = chance
        self.line = line
        self.parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.method = self.target = b""
        self.body = b""
        self.pieces: list[Any] = []
        self.answered = self.over = False

    def move(self) -> None:
        """Do something."""
        chance = self.chance
        self.line.taking = chance.random() < 0.9
        self._read()
        if self.line.lost or self.over:
            return
        if self.pieces and chance.random() < 0.8:
            piece = self.pieces.pop(0)
            if isinstance(piece, bytes):
                self.line.queue(piece)
            else:
                self.over = True
                self.line.sendEOF() if piece == "EOF" else self.line.sendReset()
        elif not self.pieces and not self.answered and chance.random() < 0.002:
            self.line.sendEOF()  # closes an idle connection, or one whose request is on its way
            self.over = True

    def _read(self) -> None:
        data = self.line.take()
        if not data:
            return
        self.parser.receive_data(data)
        while True:
            event = self.parser.next_event()
            if isinstance(event, h11.Request):
                self.method, self.target, self.body, self.answered = (
                    bytes(event.method),
                    bytes(event.target),
                    b"",
                    False,
                )
                if self.chance.random() < 0.1:
                    self._answer()
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
                assert belongs(self.body, self.target)
            elif isinstance(event, h11.EndOfMessage):
                if not self.answered:
                    self._answer()
                self.parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                self.parser.send(h11.EndOfMessage())
                if self.parser.our_state is not h11.DONE or self.parser.their_state is not h11.DONE:
                    return
                self.parser.start_next_cycle()
            else:
                return

    def _answer(self) -> None:
        chance = self.chance
        self.answered = True
        body = bodyOf(self.target, chance.choice([0, 5, 500, 100_000]))
        head = b"HTTP/1.1 200 OK\r\nX-Asked: %b\r\n" % self.target
        kind = chance.choice(
            [
                "length",
                "length",
                "length",
                "chunks",
                "chunks",
                "close",
                "interim",
                "short",
                "garbage",
                "behind",
                "reset",
                "never",
            ]
        )
        ending: list[Any] = []
        if self.method == b"HEAD":
            data = head + b"Content-Length: %d\r\n\r\n" % len(body)
        elif kind == "chunks":
            data = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(body), body)
        elif kind == "close":
            data, ending = head + b"\r\n" + body, ["EOF"]
        else:
            data = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        if kind == "interim":
            data = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * chance.randint(1, 3) + data
        elif kind == "short":
            data, ending = data[: chance.randrange(len(data))], ["EOF"]
        elif kind == "reset":
            data, ending = data[: chance.randrange(len(data))], ["reset"]
        elif kind == "garbage":
            at = chance.randrange(len(head))
            data = data[:at] + b"\x00" + data[at:]
        elif kind == "never":
            data = b""
        self.pieces += [*inPieces(chance, data), *ending]
        if kind == "behind":
            # In the same read: what comes when the next request is on its way already is a response to that, for anybody who reads HTTP/1.1.
            self.pieces[-1] += b"HTTP/1.1 200 OK\r\nX-Asked: /evil\r\nContent-Length: 4\r\n\r\nevil"


@pytest.mark.parametrize("seed", range(40))
def test_disorder(seed: int) -> None:
    """B5.8, B7.4: whatever happens in whatever order, no byte of one exchange gets into another, and nothing is left."""
    chance = random.Random(seed)
    world = World(
        pool=PoolSettings(maxIdle=chance.choice([1, 256]), maxConnections=chance.choice([None, 2])),
        timeouts=Timeouts(
            requestHead=2,
            requestBody=3,
            responseHead=3,
            responseBody=3,
            write=3,
            keepAlive=10,
            upstreamIdle=5,
            queue=20,
        ),
        limits=Limits(discarded=50_000, held=20_000),
    )
    world.network.watching.clear()
    callers = [Caller(chance, world, number) for number in range(4)]
    received = [b""] * len(callers)
    answerers: list[Answerer] = []
    for _ in range(600):
        for line in world.network.dialed[len(answerers) :]:
            answerers.append(Answerer(chance, line))
        for actor in (*callers, *answerers):
            if chance.random() < 0.5:
                actor.move()
                if chance.random() < 0.7:
                    world.network.run()
        if chance.random() < 0.03:
            world.network.advance(chance.choice([0.1, 0.3, 2.5]))
    for actor in (*callers, *answerers):
        actor.line.taking = True
    world.network.advance(60)
    for number, caller in enumerate(callers):
        received[number] += caller.line.take()
        caller.check(received[number])
    assert world.site.exchanges == set()
    assert {record.status for record in world.records} <= {200, 499, *ERRORS}
    world.end()
