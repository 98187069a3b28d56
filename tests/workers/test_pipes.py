"""
The pipes between a worker and its supervisor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from twistproxy.workers.pipes import AGAIN, WAITING, Receiver, Sender
from twistproxy.workers.protocol import BadMessage, Lines, decoded, encoded


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: what can be read, what can be written."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass  # the test has closed it


def read(reader: int) -> bytes:
    """@return: what is in a pipe."""
    found = bytearray()
    try:
        while piece := os.read(reader, 1 << 20):
            found += piece
    except BlockingIOError:
        pass
    return bytes(found)


def test_atOnce(pipe: tuple[int, int]) -> None:
    """What is sent is on its way at once, and needs no turn of a reactor."""
    sender = Sender(Clock(), pipe[1])
    sender.send("ready")
    assert read(pipe[0]) == encoded("ready")


def test_fullPipe(pipe: tuple[int, int]) -> None:
    """A supervisor that does not read costs events of the log, within a bound, and is told how many; nothing else is lost."""
    clock = Clock()
    sender = Sender(clock, pipe[1])
    count = 0
    while not sender._lost:
        sender.sendEvent("info", "test", f"{count} " + "x" * 10000)
        count += 1
    sender.sendEvent("info", "test", "lost too")
    assert len(sender._waiting) < WAITING + 20000
    sender.send("draining")
    lines, found = Lines(), []
    while clock.getDelayedCalls():
        found += lines.feed(read(pipe[0]))
        clock.advance(AGAIN)
    sender.sendEvent("info", "test", "there is room again")
    found += lines.feed(read(pipe[0]))
    messages = [decoded(line) for line in found]
    numbers = [int(message["text"].split()[0]) for message in messages[: count - 1]]
    assert numbers == list(range(count - 1))
    assert [message["kind"] for message in messages[count - 1 :]] == ["draining", "log", "log"]
    assert [message["text"] for message in messages[count:]] == ["2 log events are lost", "there is room again"]


def test_lastWords(pipe: tuple[int, int]) -> None:
    """What waits at the end is written before the process goes, if somebody reads, and no timer is left."""
    clock = Clock()
    sender = Sender(clock, pipe[1])
    sender._waiting += b"x" * 100_000
    sender.send("counts")
    assert len(clock.getDelayedCalls()) == 1
    first = read(pipe[0])
    sender.last()
    assert clock.getDelayedCalls() == []
    assert (first + read(pipe[0])).endswith(encoded("counts"))


def test_nobodyReads(pipe: tuple[int, int]) -> None:
    """Without a supervisor nothing is kept."""
    sender = Sender(Clock(), pipe[1])
    os.close(pipe[0])
    sender.send("ready")
    assert sender._waiting == b""


def test_receiver(pipe: tuple[int, int]) -> None:
    """Messages arrive one by one; the end of the pipe is the end of the supervisor."""
    told: list[Any] = []
    receiver = Receiver(pipe[0], lambda message: told.append(message["kind"]), lambda: told.append("orphaned"))
    assert verifyObject(IReadDescriptor, receiver)
    assert receiver.fileno() == pipe[0]
    assert receiver.doRead() is None
    os.write(pipe[1], encoded("drain") + encoded("cut")[:5])
    assert receiver.doRead() is None
    os.write(pipe[1], encoded("cut")[5:])
    assert receiver.doRead() is None
    assert told == ["drain", "cut"]
    os.close(pipe[1])
    assert receiver.doRead() is CONNECTION_DONE
    receiver.connectionLost(Failure(CONNECTION_DONE))
    assert told == ["drain", "cut", "orphaned"]


def test_nonsense(pipe: tuple[int, int]) -> None:
    """Who says nonsense is no supervisor: the reactor drops the pipe for what is raised."""
    receiver = Receiver(pipe[0], lambda message: None, lambda: None)
    os.write(pipe[1], b"nonsense\n")
    with pytest.raises(BadMessage):
        receiver.doRead()
