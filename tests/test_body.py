"""
Bodies: discarding them, and collecting them up to a bound.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twistproxy.body import BodyTooLarge, BytesBody, Discarding, collect
from twistproxy.interfaces import IBody, IBodyConsumer


@implementer(IBody)
class Feed:
    """
    A body whose pieces come when a test says so.

    @ivar consumer: whom it was delivered to.
    @ivar stopped: how often it was given up.
    """

    length: int | None = None

    def __init__(self) -> None:
        self.consumer: Any = None
        self.stopped = 0

    def deliver(self, consumer: Any) -> None:
        self.consumer = consumer
        consumer.registerProducer(self, True)

    def pauseProducing(self) -> None:
        raise AssertionError("nobody here has a reason to pause")

    resumeProducing = pauseProducing

    def stopProducing(self) -> None:
        self.stopped += 1


@implementer(IBodyConsumer)
class Noting:
    """
    Notes what it is told, and gives the body up where it is asked to.
    """

    def __init__(self, stopAt: str = "") -> None:
        self.told: list[Any] = []
        self._stopAt = stopAt

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.told.append(("producer", streaming))
        if self._stopAt == "producer":
            producer.stopProducing()
        self._producer = producer

    def unregisterProducer(self) -> None:
        self.told.append("unregistered")

    def write(self, data: bytes) -> None:
        self.told.append(data)
        if self._stopAt == "write":
            self._producer.stopProducing()

    def finish(self, trailers: list[bytes]) -> None:
        self.told.append(trailers)

    def fail(self, error: Exception) -> None:
        self.told.append(error)


def outcome(deferred: Deferred[bytes]) -> list[Any]:
    """
    @return: a list into which the Deferred's result will be put, an exception without its Failure.
    """
    fired: list[Any] = []
    deferred.addBoth(lambda result: fired.append(result.value if isinstance(result, Failure) else result))
    return fired


def test_interfaces() -> None:
    """What is said to provide an interface does."""
    verifyObject(IBodyConsumer, Discarding())
    verifyObject(IBody, BytesBody(b""))
    feed = Feed()
    collect(feed, 1)
    verifyObject(IBodyConsumer, feed.consumer)


def test_discarding() -> None:
    """A discarded body is read to its end, which is told once."""
    ended: list[Any] = []
    body = Feed()
    body.deliver(Discarding(ended.append))
    body.consumer.write(b"data")
    assert ended == []
    body.consumer.finish([b"X: 1"])
    body.consumer.fail(ConnectionLost())
    assert ended == [None]


def test_discardingWhatBreaksOff() -> None:
    """That a discarded body broke off is told with the error, once."""
    ended: list[Any] = []
    body, error = Feed(), ConnectionLost()
    body.deliver(Discarding(ended.append))
    body.consumer.fail(error)
    body.consumer.finish([])
    assert ended == [error]


def test_discardingInSilence() -> None:
    """Nobody has to want to know."""
    body = Feed()
    body.deliver(Discarding())
    body.consumer.write(b"data")
    body.consumer.unregisterProducer()
    body.consumer.finish([])
    assert body.stopped == 0


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"data", [("producer", True), b"data", "unregistered", [b"X: 1"]]),
        (b"", [("producer", True), "unregistered", [b"X: 1"]]),
    ],
)
def test_bytesAsABody(data: bytes, told: list[Any]) -> None:
    """Bytes are delivered like any body: a push producer, at most one piece, trailers at the end."""
    consumer = Noting()
    body = BytesBody(data, [b"X: 1"])
    body.deliver(consumer)
    assert consumer.told == told
    assert body.length == len(data)


@pytest.mark.parametrize(
    ("stopAt", "told"),
    [("producer", [("producer", True)]), ("write", [("producer", True), b"data"])],
)
def test_bytesGivenUp(stopAt: str, told: list[Any]) -> None:
    """A consumer that gives a body up hears no more of it: above all, not that it was complete."""
    consumer = Noting(stopAt)
    BytesBody(b"data").deliver(consumer)
    assert consumer.told == told


def test_collectBytes() -> None:
    """A body that is all here is collected at once."""
    assert outcome(collect(b"data", 4)) == [b"data"]


def test_collectTooManyBytes() -> None:
    """The bound counts for a body that is all here as well, so that no caller has to know which it has."""
    [error] = outcome(collect(b"data", 3))
    assert isinstance(error, BodyTooLarge)


def test_collect() -> None:
    """A body is collected to its last byte, up to the bound itself."""
    body = Feed()
    fired = outcome(collect(body, 6))
    body.consumer.write(b"abc")
    body.consumer.write(bytearray(b"def"))
    assert fired == []
    body.consumer.unregisterProducer()
    body.consumer.finish([])
    assert fired == [b"abcdef"]
    assert body.stopped == 0


def test_collectNothing() -> None:
    """An empty body is a body."""
    body = Feed()
    fired = outcome(collect(body, 0))
    body.consumer.finish([])
    assert fired == [b""]


def test_collectTooMuch() -> None:
    """One byte over the bound: an error, the rest is given up, and what still comes of it changes nothing."""
    body = Feed()
    fired = outcome(collect(body, 5))
    body.consumer.write(b"abc")
    body.consumer.write(b"def")
    assert [type(error) for error in fired] == [BodyTooLarge]
    assert body.stopped == 1
    body.consumer.write(b"ghi")
    body.consumer.finish([])
    body.consumer.fail(ConnectionLost())
    assert len(fired) == 1
    assert body.stopped == 1


def test_collectWhatBreaksOff() -> None:
    """A body that breaks off is an error, never the part of it that came."""
    body, error = Feed(), ConnectionLost()
    fired = outcome(collect(body, 5))
    body.consumer.write(b"abc")
    body.consumer.fail(error)
    assert fired == [error]


def test_collectCancelled() -> None:
    """Who does not want the body any more gives up its rest, and what still comes of it changes nothing."""
    body = Feed()
    deferred = collect(body, 5)
    fired = outcome(deferred)
    body.consumer.write(b"abc")
    deferred.cancel()
    assert body.stopped == 1
    assert [type(error) for error in fired] == [CancelledError]
    body.consumer.write(b"def")
    body.consumer.finish([])
    assert len(fired) == 1
