"""
Small writes held for a moment.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.support.flow import Body, Taker, upstreamResponse
from twistproxy.core.flush import ENOUGH, CoalescedBody, mayCoalesce


def coalesced(clock: Clock) -> tuple[Body, CoalescedBody, Taker]:
    """@return: a source, the body that joins its pieces, and who takes them."""
    source, taker = Body(length=100_000), Taker()
    body = CoalescedBody(source, 0.5, clock)
    body.deliver(taker)
    return source, body, taker


@pytest.mark.parametrize(
    ("length", "lines", "may"),
    [
        (100, [], True),
        (100, [b"Content-Type: text/html"], True),
        (None, [], False),
        (100, [b"content-type: TEXT/Event-Stream ; charset=utf-8"], False),
        (100, [b"Content-Type: application/grpc"], False),
        (100, [b"Content-Type: application/grpc-web+proto"], False),
    ],
)
def test_mayCoalesce(length: int | None, lines: list[bytes], may: bool) -> None:
    """B5.4: whose client waits for each piece is never held: event streams, gRPC, and what has no known length."""
    assert mayCoalesce(upstreamResponse(body=Body(length), lines=lines)) is may


def test_wholeBody() -> None:
    """B5.4: what is all here has nothing to wait for."""
    assert mayCoalesce(upstreamResponse(body=b"all")) is False


def test_joined() -> None:
    """B5.4: pieces that come within the interval go out together, at its end."""
    clock = Clock()
    source, body, taker = coalesced(clock)
    source.consumer.write(b"one ")
    clock.advance(0.4)
    source.consumer.write(b"two")
    assert taker.told == []
    clock.advance(0.1)
    assert taker.told == [b"one two"]
    assert body.length == 100_000


def test_enough() -> None:
    """B5.4: and as soon as there is enough."""
    clock = Clock()
    source, _, taker = coalesced(clock)
    source.consumer.write(b"x")
    source.consumer.write(b"y" * ENOUGH)
    assert [len(piece) for piece in taker.told] == [ENOUGH + 1]
    assert clock.getDelayedCalls() == []


def test_end() -> None:
    """B5.4: the end waits for nothing, and comes behind all pieces."""
    clock = Clock()
    source, _, taker = coalesced(clock)
    source.consumer.write(b"x")
    source.consumer.finish([b"T: 1"])
    assert taker.told == [b"x", ("finish", [b"T: 1"])]
    assert clock.getDelayedCalls() == []


def test_failure() -> None:
    """B5.5: nor does a failure."""
    clock = Clock()
    source, _, taker = coalesced(clock)
    error = ValueError()
    source.consumer.write(b"x")
    source.consumer.fail(error)
    assert taker.told == [b"x", error]
    assert clock.getDelayedCalls() == []


def test_stopped() -> None:
    """B7.1: what nobody wants any more is dropped, and its timer with it."""
    clock = Clock()
    source, body, taker = coalesced(clock)
    source.consumer.write(b"x")
    body.stopProducing()
    assert source.told == ["stop"]
    assert taker.told == []
    assert clock.getDelayedCalls() == []


def test_backpressure() -> None:
    """B5.4: pausing reaches the source."""
    source, body, taker = coalesced(Clock())
    assert taker.producer is body
    body.pauseProducing()
    body.resumeProducing()
    assert source.told == ["pause", "resume"]
    source.consumer.unregisterProducer()
    assert taker.producer is None
