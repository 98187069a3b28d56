"""
Errors: status, stage, side and what was sent are all there, whoever made them.
"""

from __future__ import annotations

import pytest

from twistproxy.errors import (
    ClientError,
    ClientLeft,
    HookFailed,
    LoopDetected,
    MalformedMessage,
    ProxyError,
    Refused,
    Sent,
    Side,
    Stage,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)

DOWNSTREAM, UPSTREAM, INTERNAL = Side.DOWNSTREAM, Side.UPSTREAM, Side.INTERNAL

# error, status (B7.2), stage, side, sent, limit, a word of the reason
CASES = [
    (ClientError("bad"), 400, Stage.HEAD, DOWNSTREAM, Sent.NOTHING, None, "bad"),
    (ClientError("big", 413), 413, Stage.HEAD, DOWNSTREAM, Sent.NOTHING, None, "big"),
    (
        ClientError("slow", 408, Stage.HEAD, "requestHead"),
        408, Stage.HEAD, DOWNSTREAM, Sent.NOTHING, "requestHead", "slow",
    ),
    (ClientLeft(Stage.WAIT, Sent.ALL), 499, Stage.WAIT, DOWNSTREAM, Sent.ALL, None, "client left"),
    (UpstreamError("refused", Stage.CONNECT), 502, Stage.CONNECT, UPSTREAM, Sent.NOTHING, None, "refused"),
    (UpstreamError("reset", Stage.BODY, Sent.ALL), 502, Stage.BODY, UPSTREAM, Sent.ALL, None, "reset"),
    (
        UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL),
        504, Stage.WAIT, UPSTREAM, Sent.ALL, "responseHead", "responseHead",
    ),
    (Unavailable("the line is full"), 503, Stage.QUEUE, UPSTREAM, Sent.NOTHING, None, "line"),
    (HookFailed("director", "raised"), 500, Stage.DIRECT, INTERNAL, Sent.NOTHING, None, "director: raised"),
    (Refused(403), 403, Stage.DIRECT, DOWNSTREAM, Sent.NOTHING, None, "refused"),
    (Refused(503, "closed"), 503, Stage.DIRECT, INTERNAL, Sent.NOTHING, None, "closed"),
    (LoopDetected(3), 508, Stage.HEAD, DOWNSTREAM, Sent.NOTHING, None, "3 times"),
    (ProxyError("odd", Stage.SEND, INTERNAL), 502, Stage.SEND, INTERNAL, Sent.NOTHING, None, "odd"),
    (ProxyError("x", Stage.BODY, INTERNAL, Sent.ALL, 500), 500, Stage.BODY, INTERNAL, Sent.ALL, None, "x"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status", "stage", "side", "sent", "timeout", "word"),
    CASES,
    ids=[f"{type(error).__name__}-{status}" for error, status, *_ in CASES],
)
def test_whatAnErrorSays(
    error: ProxyError, status: int, stage: Stage, side: Side, sent: Sent, timeout: str | None, word: str
) -> None:
    """B7.2: each error has its status, and says where it happened, whose it is and what had been sent."""
    said = (error.status, error.stage, error.side, error.sent, error.timeout)
    assert said == (status, stage, side, sent, timeout)
    assert word in error.reason
    assert str(error) == error.reason
    assert "\n" not in error.reason


def test_families() -> None:
    """A policy that asks for the upstream's failures gets timeouts and full lines as well, and no others."""
    upstreams = {type(error) for error, *_ in CASES if isinstance(error, UpstreamError)}
    assert upstreams == {UpstreamError, UpstreamTimeout, Unavailable}
    assert {error.side for error, *_ in CASES if isinstance(error, UpstreamError)} == {Side.UPSTREAM}


def test_statusOfOneErrorOnly() -> None:
    """An error with a status of its own leaves its class alone."""
    assert ClientError("big", 413).status == 413
    assert ClientError.status == 400
    assert ProxyError.timeout is None


@pytest.mark.parametrize("status", [0, 200, 301, 399, 600, -404])
def test_refusalNeedsAnErrorStatus(status: int) -> None:
    """B3.1: a director that means to answer with anything but an error returns a response instead."""
    with pytest.raises(ValueError, match="from 400 to 599"):
        Refused(status)


@pytest.mark.parametrize("status", [400, 599])
def test_refusalAtTheEdges(status: int) -> None:
    """The whole range of error statuses can be refused with."""
    assert Refused(status).status == status


def test_hookIsNamed() -> None:
    """A failed hook is named for the log, and keeps what the user's code raised."""
    try:
        try:
            raise KeyError("x")
        except KeyError as cause:
            raise HookFailed("modifyResponse", "raised", Sent.ALL) from cause
    except HookFailed as error:
        assert error.hook == "modifyResponse"
        assert error.sent is Sent.ALL
        assert isinstance(error.__cause__, KeyError)


def test_malformedMessage() -> None:
    """What a rule refuses has a reason and a status, and no opinion on whose fault it is."""
    assert (MalformedMessage("odd").reason, MalformedMessage("odd").status) == ("odd", 400)
    assert MalformedMessage("old", 505).status == 505
    assert not isinstance(MalformedMessage("odd"), ProxyError)


def test_labels() -> None:
    """The words that stand in logs and metric labels are fixed."""
    assert [stage.value for stage in Stage] == [
        "head", "direct", "queue", "connect", "tls", "send", "wait", "body", "tunnel",
    ]  # fmt: skip
    assert [side.value for side in Side] == ["downstream", "upstream", "internal"]
    assert [sent.value for sent in Sent] == ["nothing", "head", "some", "all"]
