"""
Field lines: what is valid, what may be forwarded, what the rules get to see, and that remembering changes nothing.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twistproxy.errors import MalformedMessage
from twistproxy.rules.fields import CONNECTION, CONTENT_LENGTH, HOST, KNOWN, USER_AGENT
from twistproxy.wire import fieldlines
from twistproxy.wire.fieldlines import CLOSE, KEEP_ALIVE, fieldLines

_isName = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_isValue = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch


def forget() -> None:
    """Be like a new process."""
    for memory in (fieldlines._meant, fieldlines._layouts):
        memory.clear()


@pytest.fixture(autouse=True)
def nothingRemembered() -> None:
    """No test knows what others have parsed."""
    forget()


def reason(section: bytes) -> str:
    """@return: why a section is refused."""
    with pytest.raises(MalformedMessage) as caught:
        fieldLines(section, 100)
    assert caught.value.status == 400
    return caught.value.reason


@pytest.mark.parametrize(
    ("section", "forward", "fields"),
    [
        (b"", [], []),
        (b"X:", [b"X:"], []),
        (b"b: 1\r\nA:2\r\nb:  3 \t", [b"b: 1", b"A:2", b"b:  3 \t"], []),
        (b"X: a:b\r\nY: \xff\t~", [b"X: a:b", b"Y: \xff\t~"], []),
        (b"Host: a\r\nX: y", [b"X: y"], [(HOST, False, b"host", b"a", True)]),
        (b"X: y\r\nhOST:\ta ", [b"X: y"], [(HOST, False, b"host", b"a", True)]),
        (b"Content-Length: 5", [], [(CONTENT_LENGTH, False, b"content-length", b"5", 5)]),
        (
            b"Connection: Keep-Alive, X, close\r\nX: y",
            [b"X: y"],
            [
                (
                    CONNECTION,
                    False,
                    b"connection",
                    b"Keep-Alive, X, close",
                    (CLOSE | KEEP_ALIVE, frozenset((b"x",))),
                )
            ],
        ),
        (b"User-Agent: \t me ", [b"User-Agent: \t me "], [(USER_AGENT, True, b"user-agent", b"me", None)]),
    ],
)
def test_good(section: bytes, forward: list[bytes], fields: list[object]) -> None:
    """B1.3, B2.2: lines as they came, those that go on, and the fields of the rules; the second time the same."""
    for _ in range(2):
        lines, mine, noticed = fieldLines(section, 100)
        assert (b"\r\n".join(lines), mine, noticed) == (section, forward, fields)
        mine.append(b"changed by whoever asked")


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        (b"X", "a header line without a colon"),
        (b"A: b\r\nX\r\nC: d", "a header line without a colon"),
        (b"A: b\r\nX\r\nC: d:e", "a header line without a colon"),
        (b"A: b\r\n\r\nC: d", "a header line without a colon"),
        (b"A: b\r\n", "a header line without a colon"),
        (b": x", "a header name that is no token"),
        (b"A : x", "a header name that is no token"),
        (b"A\x00: x", "a header name that is no token"),
        (b"\xc3\xa4: x", "a header name that is no token"),
        (b"A: b\r\n c: d", "a folded header line"),
        (b"A: b\r\n\tc", "a folded header line"),
        (b" A: b", "a folded header line"),
        (b"A: \x00", "a control character in a header value"),
        (b"A: \x7f", "a control character in a header value"),
        (b"A: b\nC: d", "a control character in a header value"),
        (b"A: b\rC: d", "a control character in a header value"),
        (b"A: b\r", "a control character in a header value"),
        (b"A: b\n\r\nC: d", "a control character in a header value"),
        # as many names as lines, and yet not a name for each line
        (b"A: b\nC: d\r\nE", "a control character in a header value"),
        (b"E\r\nA: b\nC: d", "a header line without a colon"),
        (b"A: b\r\r\n\nC: d", "a control character in a header value"),
    ],
)
def test_bad(section: bytes, fault: str) -> None:
    """B1.3: what is refused, and why; again when it comes again, behind a good one with the same names, too."""
    assert reason(section) == fault
    fieldLines(b"A: b\r\nC: d\r\nE: f", 100)
    fieldLines(b"A: b\r\nX: y\r\nC: d", 100)
    assert reason(section) == fault


@pytest.mark.parametrize("line", [b"Content-Length: x", b"Content-Length: 1, 2", b"Content-Length: +1"])
def test_badMeaning(line: bytes) -> None:
    """B1.4: a length that is none is refused each time."""
    for _ in range(2):
        reason(b"X: y\r\n" + line)


def test_tooMany() -> None:
    """B1.2: lines are counted before anything else is done with them."""
    section = b"\r\n".join([b"X: y"] * 5)
    assert len(fieldLines(section, 5)[0]) == 5
    with pytest.raises(MalformedMessage) as caught:
        fieldLines(section + b"\r\n bad", 5)
    assert caught.value.status == 431


_pieces = st.one_of(
    st.sampled_from([b"Host", b"host", b"X", b"Connection", b"Content-Length", b"Cookie", b"X_Forwarded_For", b"TE"]),
    st.sampled_from([b":", b": ", b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b"1", b"close", b"\xff"]),
    st.binary(max_size=3),
)


def plainly(section: bytes) -> tuple[list[bytes], list[bytes]] | None:
    """
    Do the same line by line, as the RFC has it.

    @return: the lines that may be forwarded and the names that are noticed; C{None} if there is a bad line.
    """
    forward, noticed = [], []
    for line in section.split(b"\r\n") if section else []:
        name, colon, value = line.partition(b":")
        if not (colon and _isName(name) and _isValue(value)):
            return None
        kind, kept = KNOWN.get(name.lower(), (0, True))
        if kept:
            forward.append(line)
        if kind:
            noticed.append(name.lower())
    return forward, noticed


@given(st.lists(_pieces, max_size=12).map(b"".join))
@example(b"X\r\nHost: a\n:")
def test_asLineByLine(section: bytes) -> None:
    """B1.3, B2.2: looking at all lines together finds what looking at each alone does, whatever was seen before."""
    expected = plainly(section)
    for _ in range(2):
        try:
            _, forward, fields = fieldLines(section, 100)
        except MalformedMessage:
            # a length that is none is as bad as a line that is none
            assert expected is None or b"content-length" in expected[1]
        else:
            assert expected == (forward, [name for _, _, name, _, _ in fields])


def test_secretsAreNotRemembered() -> None:
    """DESIGN 5: no value is kept that could be a secret."""
    names = [b"Authorization", b"cookie", b"Proxy-Authorization", b"X-API-Key", b"Set-Cookie", b"X-Forwarded-For", b"X"]
    fieldLines(b"\r\n".join(name + b": secret" for name in names), 100)
    fieldLines(b"Host: secret", 100)
    assert b"secret" not in b" ".join(fieldlines._layouts)
    assert list(fieldlines._meant) == [b"Host: secret"]


def test_memoryIsBounded() -> None:
    """DESIGN 6: what is remembered is bounded, in number and in size, whoever sends what."""
    for number in range(8000):
        fieldLines(b"X-%d: y\r\nContent-Length: %d" % (number, number), 100)
    assert 0 < len(fieldlines._layouts) <= 1024
    assert 0 < len(fieldlines._meant) <= 1024
    forget()
    long = b"y" * 100
    fieldLines(b"\r\n".join(long + b": z" for _ in range(30)), 100)
    fieldLines(b"Host: " + b"y" * 300, 100)
    assert not (fieldlines._layouts.keys() | fieldlines._meant.keys()) - {b"Host"}
