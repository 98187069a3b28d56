"""
How long a message is: every number that Python would accept and HTTP does not.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twistproxy.errors import MalformedMessage
from twistproxy.rules.framing import MAX_LENGTH, contentLength, hasNoBody, transferCoding


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"5", 5),
        (b"0005", 5),  # 1*DIGIT, RFC 9110 8.6
        (b"5, 5", 5),
        (b"5,5 ,\t5", 5),
        (b"9223372036854775807", MAX_LENGTH),
    ],
)
def test_contentLength(value: bytes, length: int) -> None:
    """B1.4: digits are a length, and repeating it changes nothing."""
    assert contentLength(value) == length


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"+5",  # int() takes signs,
        b"-5",
        b"-0",
        b"0_5",  # underscores,
        b" 5",  # white space,
        b"5 ",
        b"5\n",
        b"\x0b5",
        b"5\x0c",
        b"\xa05",
        "\u00a05".encode(),
        "\u0665".encode(),  # and other scripts' digits
        "\uff15".encode(),
        "\u00b2".encode(),
        b"0x5",
        b"5.0",
        b"5e0",
        b"5;5",
        b"5 5",
        b"five",
        b"9223372036854775808",
        b"18446744073709551621",  # 5, in 64 bits
        b"99999999999999999999",
        b"1" * 5000,  # int() itself would raise here, and not what is expected
        b"5, 6",
        b"5, 05",  # the same number, but two ways to write it are one too many
        b"5, 5, 6",
        b"5,",
        b",5",
        b"5,,5",
        b",",
        b"5, +5",
        b"+5, +5",
        b"5,\x0b5",
        b" 5, 5",  # an accident waiting to happen: one of the two would be refused alone
        b"5, 5\t",
    ],
)
def test_noContentLength(value: bytes) -> None:
    """B1.4: anything else is refused, whatever int() thinks of it."""
    with pytest.raises(MalformedMessage, match="Content-Length") as caught:
        contentLength(value)
    assert caught.value.status == 400


@settings(deadline=None, max_examples=500)
@given(
    st.binary(max_size=24)
    | st.from_regex(rb"[0-9+_, \t]{1,24}", fullmatch=True)
    | st.integers().map(b"%d".__mod__)
)
@example(b"5\n")
@example(b"5, 5\n")
@example(b"\t0,0")
def test_onlyDigits(value: bytes) -> None:
    """B1.4: what is accepted are equal members, digits and nothing else, and means what they say."""
    try:
        length = contentLength(value)
    except MalformedMessage:
        return
    members = re.split(rb"[ \t]*,[ \t]*", value)
    assert all(re.fullmatch(rb"[0-9]+", member) for member in members)
    assert {int(member) for member in members} == {length}
    assert 0 <= length <= 2**63 - 1


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_everyLength(length: int) -> None:
    """B1.4: every length that there is can be said."""
    assert contentLength(b"%d" % length) == length


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED"])
def test_chunked(value: bytes) -> None:
    """B1.5: the one transfer coding, without letter case."""
    transferCoding(value, 1)


@pytest.mark.parametrize(
    ("value", "minor", "status"),
    [
        (b"chunked", 0, 400),  # unknown to HTTP/1.0, so its sender and its reader may differ, RFC 9112 6.1
        (b"chunked, chunked", 1, 400),
        (b"chunked, gzip", 1, 400),
        (b"chunked,", 1, 400),
        (b"gzip", 1, 501),
        (b"gzip, chunked", 1, 501),
        (b"identity", 1, 501),
        (b"", 1, 501),
        (b",chunked", 1, 501),
        (b"xchunked", 1, 501),
        (b"chunkedx", 1, 501),
        (b"chunked;q=1", 1, 501),
        (b"chunked\n", 1, 501),
        (b"\x0bchunked", 1, 501),  # strip() without an argument would make this chunked
        (b"\xa0chunked", 1, 501),
        (b'"chunked"', 1, 501),
        ("chun\u212aed".encode(), 1, 501),  # so would str.lower()
    ],
)
def test_otherCodings(value: bytes, minor: int, status: int) -> None:
    """B1.5: anything but exactly one chunked, in HTTP/1.1, is refused."""
    with pytest.raises(MalformedMessage) as caught:
        transferCoding(value, minor)
    assert caught.value.status == status


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"chunked", b"CHUNKED", b" ", b",", b"\x0b", b";", b"gzip"]), max_size=3).map(
        b"".join
    )
)
def test_onlyChunked(value: bytes) -> None:
    """B1.5: nothing that is accepted differs from C{chunked} in more than letter case."""
    try:
        transferCoding(value, 1)
    except MalformedMessage:
        return
    assert re.fullmatch(rb"(?i:chunked)", value)


@pytest.mark.parametrize(
    ("method", "status", "without"),
    [
        (b"GET", 200, False),
        (b"POST", 201, False),
        (b"GET", 205, False),  # has one, of length 0, RFC 9110 15.3.6
        (b"GET", 304, True),
        (b"GET", 204, True),
        (b"GET", 100, True),
        (b"GET", 103, True),
        (b"GET", 101, True),  # what follows is no body
        (b"HEAD", 200, True),
        (b"HEAD", 404, True),
        (b"head", 200, False),  # methods have letter case, RFC 9110 9.1
        (b"GET", 404, False),
        (b"GET", 500, False),
    ],
)
def test_hasNoBody(method: bytes, status: int, without: bool) -> None:
    """B5.3: HEAD, 1xx, 204 and 304 have no body whatever the header says."""
    assert hasNoBody(method, status) is without
