"""
What C{Connection} names, and the one upgrade that is not passed on.
"""

from __future__ import annotations

import pytest

from twistproxy.rules.hopbyhop import connectionOptions, upgradeAccepted, withoutH2C, withoutNamed


@pytest.mark.parametrize(
    ("value", "options", "names"),
    [
        (b"", set(), set()),
        (b" , ,, ", set(), set()),  # empty members do not count, B2.2
        (b"close", {b"close"}, set()),
        (b"Keep-Alive", {b"keep-alive"}, set()),
        (b"CLOSE,x-a", {b"close"}, {b"x-a"}),
        (b"close, X-A ,\tX-b,x-a", {b"close"}, {b"x-a", b"x-b"}),
        (b"Upgrade, HTTP2-Settings", {b"upgrade"}, {b"http2-settings"}),
        # where the message goes and how long it is are not the client's to take away, B2.2
        (b"Host, Content-Length, Transfer-Encoding, X-A", set(), {b"x-a"}),
        # neither is what a trusted peer has written about it
        (b"X-Forwarded-For, forwarded, X-Real-IP", set(), set()),
        (b"close x-a", set(), {b"close x-a"}),  # a space separates nothing: no close, and no such field
        (b"\x0bclose", set(), {b"\x0bclose"}),  # bytes.strip() without an argument would find a close here
        (b"\xa0close", set(), {b"\xa0close"}),
        (
            "\u212aeep-alive".encode(),
            set(),
            {"\u212aeep-alive".encode()},
        ),  # str.lower() would find a keep-alive
        (b"closed", set(), {b"closed"}),
    ],
)
def test_connectionOptions(value: bytes, options: set[bytes], names: set[bytes]) -> None:
    """B2.2: options and names of a Connection line, without letter case; the second look finds the same."""
    for _ in range(2):
        assert [set(found) for found in connectionOptions(value)] == [options, names]


def test_manyNames() -> None:
    """B2.2: a line that is too long to be remembered is read like any other, and so is the thousandth."""
    for number in range(1000):
        name = b"x-%d" % number
        assert connectionOptions(name) == (frozenset(), frozenset((name,)))
    many = [b"x-%d" % number for number in range(1000)]
    assert connectionOptions(b",".join(many)) == (frozenset(), frozenset(many))


def test_withoutNamed() -> None:
    """B2.2: all lines of a field go, whatever their letter case, and the others stay as they are."""
    lines = [b"X-A: 1", b"x-ab: 2", b"x-a:3", b"X-B:4", b"Y: x-a: 5"]
    assert withoutNamed(lines, {b"x-a", b"x-b"}) == [b"x-ab: 2", b"Y: x-a: 5"]
    assert lines == [b"X-A: 1", b"x-ab: 2", b"x-a:3", b"X-B:4", b"Y: x-a: 5"]


@pytest.mark.parametrize(
    ("value", "rest"),
    [
        (b"websocket", b"websocket"),
        (b"WebSocket , x/1", b"WebSocket , x/1"),  # nothing to take out: not a byte is changed
        (b"h2c", None),
        (b"H2C", None),
        (b" , h2c,", None),
        (b"h2c, websocket", b"websocket"),
        (b"websocket,h2C ,x/1", b"websocket, x/1"),
        (b"h2c-14x", b"h2c-14x"),  # another protocol
    ],
)
def test_withoutH2C(value: bytes, rest: bytes | None) -> None:
    """B6.2: h2c is not asked for upstream; the other protocols still are."""
    assert withoutH2C(value) == rest


@pytest.mark.parametrize(
    ("asked", "answered", "accepted"),
    [
        (b"websocket", b"websocket", True),
        (b"websocket", b"WebSocket", True),  # letter case aside
        (b"a/1, b/2", b"b/2", True),
        (b"a, b", b"a, b", True),  # in layers, RFC 9110 7.8
        (b"websocket", b"other", False),
        (b"websocket", b"websocket, other", False),
        (b"websocket", b"web", False),
        (b"websocket", b"", False),
        (b"websocket", None, False),
        (None, b"websocket", False),
        (None, None, False),
        (b"", b"", False),
        (b"k", "\u212a".encode(), False),
    ],
)
def test_upgradeAccepted(asked: bytes | None, answered: bytes | None, accepted: bool) -> None:
    """B6.2: a 101 is good only for what was asked for."""
    assert upgradeAccepted(asked, answered) is accepted
