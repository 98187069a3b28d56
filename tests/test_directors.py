"""
Ready-made directors.
"""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.support.flow import Bench
from twistproxy.directors import TargetDirector
from twistproxy.interfaces import IDirector
from twistproxy.upstreams import Target


def directed(director: TargetDirector, times: int = 1) -> list[Any]:
    """@return: what so many requests have become."""
    bench = Bench(director=director)
    for _ in range(times):
        bench.start().clientLeft()
    return [outbound for outbound, _ in bench.transport.begun]


def test_interface() -> None:
    """It is a director."""
    assert verifyObject(IDirector, TargetDirector(":8081"))


@pytest.mark.parametrize(
    "target", [":8081", "8081", "http://127.0.0.1:8081", Target("http", "127.0.0.1", 8081), [":8081"]]
)
def test_targets(target: Any) -> None:
    """B8.5: a target may be given as operators write it, ready-made, or as one of several."""
    [outbound] = directed(TargetDirector(target))
    assert outbound.upstream.name == "127.0.0.1:8081"


@pytest.mark.parametrize("wrong", [[], "ftp://x", "example.org", ["http://ok", "x:y:z"]])
def test_wrongTargets(wrong: Any) -> None:
    """B8.5: what is none, or could mean two things, is an error at the start."""
    with pytest.raises(ValueError, match="target"):
        TargetDirector(wrong)


def test_inTurn() -> None:
    """Several targets are used in turn."""
    director = TargetDirector([":8001", ":8002", "unix:/run/app.sock"])
    names = [outbound.upstream.name for outbound in directed(director, 4)]
    assert names == ["127.0.0.1:8001", "127.0.0.1:8002", "unix:/run/app.sock", "127.0.0.1:8001"]


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, b"127.0.0.1:8081"),
        ({"preserveHost": True}, b"front.test"),
        ({"fixedHost": b"fixed.test"}, b"fixed.test"),
    ],
)
def test_host(options: Any, host: bytes) -> None:
    """B2.6: the Host is the target's, the client's, or a fixed one."""
    [outbound] = directed(TargetDirector(":8081", **options))
    assert outbound.host == host


@pytest.mark.parametrize("forwarded", [False, True])
def test_forwarded(forwarded: bool) -> None:
    """B2.4: X-Forwarded-* always, Forwarded if asked for."""
    [outbound] = directed(TargetDirector(":8081", forwarded=forwarded))
    names = [name for name, _ in outbound.headers.items() if b"orwarded" in name]
    assert names == [b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto"] + [b"Forwarded"] * forwarded
