"""
Header lines: what gets in, what comes out, and that nothing else changes on the way.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twistproxy.headers import Headers, fieldLine, lineName, membersOf

NAMES = st.text("abcXYZ019-_.!~", min_size=1, max_size=8).map(str.encode)
VALUES = st.binary(max_size=12).map(lambda raw: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", raw).strip(b" \t"))


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (b"X-A", b"1", b"X-A: 1"),
        ("X-A", "1", b"X-A: 1"),
        ("x-a", " \t1 2\t ", b"x-a: 1 2"),  # white space around a value is not part of it, RFC 9110 5.5
        ("X-A", "", b"X-A: "),
        ("X-A", b"\x80\xff", b"X-A: \x80\xff"),  # obs-text
        ("X-A", "\u00e9", b"X-A: \xc3\xa9"),  # text is UTF-8
        ("X-A", "a\tb", b"X-A: a\tb"),  # the one control character that may stand in a value
        ("X-A", "\u00a01\u00a0", b"X-A: \xc2\xa01\xc2\xa0"),  # NBSP is none of HTTP's white space
        ("!#$%&'*+-.^_`|~", "1", b"!#$%&'*+-.^_`|~: 1"),  # all that a token may be made of
        (bytearray(b"X-A"), memoryview(b"1"), b"X-A: 1"),
    ],
)
def test_lineIsMade(name: Any, value: Any, line: bytes) -> None:
    """A line is made of bytes or text, and loses nothing but the white space around the value."""
    assert fieldLine(name, value) == line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "1"),
        ("X A", "1"),
        ("X-A ", "1"),  # a space before the colon is how requests are smuggled, RFC 9112 5.1
        (" X-A", "1"),
        ("X-A:", "1"),
        ("X-A\r\nX-B", "1"),
        ("X-A\n", "1"),  # what $ instead of fullmatch would let through
        ("\u212a", "1"),  # the Kelvin sign, which str.lower() makes a k
        (b"\xe9", "1"),
        ("X-A", "1\r\nX-B: 2"),
        ("X-A", "1\n"),
        ("X-A", "\r1"),
        ("X-A", "a\x00b"),
        ("X-A", "\x0b1"),  # the vertical tab and the form feed, which bytes.strip() would take off
        ("X-A", "1\x0c"),
        ("X-A", "\x7f"),
        ("X-A", "\x1b[2J"),
    ],
)
def test_lineIsRefused(name: Any, value: Any) -> None:
    """B1.3: neither a name that is no token nor a control character in a value gets in, whoever sets it."""
    headers = Headers([b"X-A: 0"])
    for attempt in (headers.set, headers.add, fieldLine, lambda n, v: Headers.of([(n, v)])):
        with pytest.raises(ValueError, match=r"header field name|control character|ascii"):
            attempt(name, value)
    assert headers.lines == [b"X-A: 0"]


@pytest.mark.parametrize("value", [0, 3, True, 1.5, None, ["1"]])
def test_valueThatIsNoText(value: Any) -> None:
    """A number is a mistake that is told; C{bytes(3)} would be three NULs, and C{bytes(0)} an empty value."""
    with pytest.raises(TypeError):
        fieldLine("X-A", value)


@settings(deadline=None)
@given(st.text() | st.binary(), st.text() | st.binary())
def test_noLineBreakGetsIn(name: Any, value: Any) -> None:
    """Whatever is set or added, no line ever holds a CR, LF or NUL, and each has a token for a name."""
    headers = Headers([b"A: 1"])
    for attempt in (headers.add, headers.set):
        try:
            attempt(name, value)
        except ValueError:
            continue
        line = headers.lines[-1]
        assert re.search(rb"[\r\n\x00]", line) is None
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: .*", line, re.DOTALL)


def test_raw() -> None:
    """B2.8: order, letter case and bytes of the lines stay as they came; values are read without padding."""
    lines = [b"b:1", b"A:  x y\t", b"B: \xff", b"c:", b"d: a:b"]
    headers = Headers(lines)
    assert headers.lines == [b"b:1", b"A:  x y\t", b"B: \xff", b"c:", b"d: a:b"]
    assert list(headers) == [(b"b", b"1"), (b"A", b"x y"), (b"B", b"\xff"), (b"c", b""), (b"d", b"a:b")]
    assert len(headers) == 5
    assert headers.edited is False


def test_look() -> None:
    """Names are found without regard to letter case, as bytes or text; the first value or all of them."""
    headers = Headers([b"Set-Cookie: a", b"X: 1", b"set-cookie: b"])
    assert headers.get("SET-COOKIE") == b"a"
    assert headers.getAll(b"Set-cookie") == [b"a", b"b"]
    assert "x" in headers
    assert b"X" in headers
    assert "y" not in headers
    assert 3 not in headers
    assert headers.get("y") is None
    assert headers.getAll("y") == []


def test_kelvinIsNoK() -> None:
    """A name that is not ASCII is an error, never another name (C{str.lower()} makes a k of U+212A)."""
    headers = Headers([b"keep-alive: 1"])
    with pytest.raises(ValueError, match="ascii"):
        headers.get("\u212aeep-alive")


def test_set() -> None:
    """C{set} puts one line in the place of the first of that name and drops the others; C{None} drops all."""
    headers = Headers([b"A: 1", b"b: 2", b"a: 3"])
    headers.set("a", "4")
    assert headers.lines == [b"a: 4", b"b: 2"]
    headers.set("C", "5")
    assert headers.lines == [b"a: 4", b"b: 2", b"C: 5"]
    headers.set("B", None)
    assert headers.lines == [b"a: 4", b"C: 5"]
    assert headers.edited is True


def test_addAndRemove() -> None:
    """C{add} appends a line beside those of the same name; C{remove} and C{removeAll} take out every one."""
    headers = Headers([b"A: 1", b"B: 2"])
    headers.add("a", "3")
    assert headers.getAll("A") == [b"1", b"3"]
    headers.remove("nothing")
    headers.remove("A")
    assert headers.lines == [b"B: 2"]
    headers.add("C", "4")
    headers.removeAll(["c", b"b"])
    assert headers.lines == []


def test_valuesAreReadAnewAfterAChange() -> None:
    """What was looked at before an edit is not what is seen after it."""
    headers = Headers([b"A: 1"])
    assert headers.get("A") == b"1"
    headers.set("A", "2")
    assert headers.get("A") == b"2"
    headers.replaceLines([b"A: 3"])
    assert headers.items() == [(b"A", b"3")]


def test_copyIsAnother() -> None:
    """B2.1: a copy shares nothing with its original, in either direction."""
    headers = Headers([b"A: 1"])
    copy = headers.copy()
    copy.add("B", "2")
    headers.set("A", "3")
    headers.copy().lines.append(b"C: 4")
    assert copy.lines == [b"A: 1", b"B: 2"]
    assert headers.lines == [b"A: 3"]


def test_listIsShared() -> None:
    """A message and the headers over its lines hold one list: what either changes, the other has."""
    lines = [b"A: 1", b"B: 2"]
    headers = Headers(lines)
    headers.set("A", "3")
    headers.add("C", "4")
    headers.remove("B")
    assert lines == [b"A: 3", b"C: 4"]
    assert headers.get("D") is None
    lines.append(b"D: 5")
    assert headers.get("D") == b"5"


def test_equality() -> None:
    """Two are equal when they hold the same fields in order; letter case and padding do not count."""
    assert Headers([b"A:1", b"B: 2"]) == Headers([b"a: 1 ", b"b:2"])
    assert Headers([b"A: 1", b"B: 2"]) != Headers([b"B: 2", b"A: 1"])
    assert Headers([b"A: x"]) != Headers([b"A: X"])
    assert Headers([]) != []
    with pytest.raises(TypeError):
        hash(Headers())


def test_toTwisted() -> None:
    """The view for Twisted holds the same fields, repeated ones in order, and is independent."""
    headers = Headers([b"Set-Cookie: a", b"X: 1", b"set-cookie: b"])
    twisted = headers.toTwisted()
    assert twisted.getRawHeaders(b"set-cookie") == [b"a", b"b"]
    assert twisted.getRawHeaders(b"x") == [b"1"]
    twisted.removeHeader(b"x")
    assert "x" in headers


def test_repr() -> None:
    """What a developer prints shows the fields."""
    assert repr(Headers([b"A:1"])) == "Headers([(b'A', b'1')])"


@settings(deadline=None)
@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.lists(st.tuples(st.sampled_from(["set", "add", "remove"]), NAMES, VALUES), max_size=6),
)
def test_asAModel(pairs: list[tuple[bytes, bytes]], edits: list[tuple[str, bytes, bytes]]) -> None:
    """After any edits the headers hold what a plain list of pairs would."""
    headers, model = Headers.of(pairs), list(pairs)
    for edit, name, value in edits:
        same = [index for index, (other, _) in enumerate(model) if other.lower() == name.lower()]
        rest = [pair for index, pair in enumerate(model) if index not in same[1:]]
        if edit == "set":
            headers.set(name, value)
            model = rest
            if same:
                model[same[0]] = (name, value)
            else:
                model.append((name, value))
        elif edit == "add":
            headers.add(name, value)
            model.append((name, value))
        else:
            headers.remove(name)
            model = [pair for index, pair in enumerate(model) if index not in same]
    assert headers.items() == model


@pytest.mark.parametrize(
    ("line", "name"),
    [(b"A: b: c", b"a"), (b"X-Y:", b"x-y"), (b"\xc3\x89: 1", b"\xc3\x89"), (b"nothing", b"nothing")],
)
def test_lineName(line: bytes, name: bytes) -> None:
    """The name is what stands before the first colon, ASCII letters made small and no others."""
    assert lineName(line) == name


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b" , ,\t,", []),  # empty members do not count, RFC 9110 5.6.1.2
        (b"close", [b"close"]),
        (b"Close ,\tX-A", [b"close", b"x-a"]),
        (b"a b", [b"a b"]),  # a space separates nothing
        (b"\x0bclose", [b"\x0bclose"]),  # a vertical tab is no white space
        (b"\xa0close", [b"\xa0close"]),  # neither is NBSP
    ],
)
def test_membersOf(value: bytes, members: list[bytes]) -> None:
    """Lists are split at commas, with HTTP's white space and no other taken off."""
    assert membersOf(value) == members
