"""
Request lines, targets, hosts and upgrades: what is let in, and what is not.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twistproxy.errors import MalformedMessage
from twistproxy.rules.validity import looksHopeless, originForm, requestLine, validHost, validUpgrade


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"GET / HTTP/1.1", (b"GET", b"/", 1)),
        (b"GET / HTTP/1.0", (b"GET", b"/", 0)),
        (b"GET / HTTP/1.9", (b"GET", b"/", 1)),  # a higher minor version is a 1.1 to us, RFC 9110 2.5
        (b"get / HTTP/1.1", (b"get", b"/", 1)),  # methods have letter case, so this is one of its own
        (b"!#$%&'*+-.^_`|~0aZ / HTTP/1.1", (b"!#$%&'*+-.^_`|~0aZ", b"/", 1)),
        (b"OPTIONS * HTTP/1.1", (b"OPTIONS", b"*", 1)),
        (b"CONNECT a:443 HTTP/1.1", (b"CONNECT", b"a:443", 1)),
        (b"GET http://a/b HTTP/1.1", (b"GET", b"http://a/b", 1)),
        (b"GET /%2F/../%zz?a;b&%c3 HTTP/1.1", (b"GET", b"/%2F/../%zz?a;b&%c3", 1)),  # nothing is decoded
        (
            b'GET /"<>[]\\^`{|} HTTP/1.1',
            (b"GET", b'/"<>[]\\^`{|}', 1),
        ),  # not for URIs, but browsers send them
        (b"GET /\x80\xff HTTP/1.1", (b"GET", b"/\x80\xff", 1)),
    ],
)
def test_requestLine(line: bytes, parts: tuple[bytes, bytes, int]) -> None:
    """B1.1, B1.11: method, target and version are taken as they came."""
    assert requestLine(line) == parts


@pytest.mark.parametrize(
    ("line", "status", "word"),
    [
        (b"GET /", 400, "HTTP/0.9"),
        (b"GET", 400, "HTTP/0.9"),
        (b"", 400, "method"),
        (b"GET / HTTP/2.0", 505, "HTTP/2"),
        (b"PRI * HTTP/2.0", 505, "HTTP/2"),  # an HTTP/2 preface
        (b"GET / HTTP/0.9", 505, "HTTP/0"),
        (b"GET / HTTP/1", 400, "version"),
        (b"GET / HTTP/1.", 400, "version"),
        (b"GET / HTTP/1.10", 400, "version"),
        (b"GET / HTTP/01.1", 400, "version"),
        (b"GET / HTTP/+1.1", 400, "version"),
        (b"GET / http/1.1", 400, "version"),
        (b"GET / HTTPS/1.1", 400, "version"),
        (b"GET / HTTP/1,1", 400, "version"),
        (b"GET / HTTP/1.1\n", 400, "version"),  # what $ instead of fullmatch would let through
        (b"GET / HTTP/1.1\r", 400, "version"),
        (b"GET / HTTP/1.\xb9", 400, "version"),
        (b"GET / HTTP/1.1 ", 400, "space"),
        (b"GET /a b HTTP/1.1", 400, "space"),
        (b"GET  / HTTP/1.1", 400, "space"),
        (b"GET /  HTTP/1.1", 400, "space"),
        (b" GET / HTTP/1.1", 400, "method"),
        (b"G(T / HTTP/1.1", 400, "method"),
        (b"G\xc9T / HTTP/1.1", 400, "method"),
        (b"GET: / HTTP/1.1", 400, "method"),
        (b"G\x00T / HTTP/1.1", 400, "method"),
        (b"GET\t/\tHTTP/1.1", 400, "method"),
        (b"GET\x0b/ HTTP/1.1", 400, "method"),
        (b"GET\xa0/ HTTP/1.1", 400, "method"),
        (b"GET /\t HTTP/1.1", 400, "target"),
        (b"GET /\x00 HTTP/1.1", 400, "target"),
        (b"GET /\x1f HTTP/1.1", 400, "target"),
        (b"GET /\x7f HTTP/1.1", 400, "target"),
        (b"GET /\n HTTP/1.1", 400, "target"),
        (b"GET /a#b HTTP/1.1", 400, "target"),  # a fragment is not sent, and hides what follows from some
    ],
)
def test_noRequestLine(line: bytes, status: int, word: str) -> None:
    """B1.1: everything else is refused, for a reason that an operator can read."""
    with pytest.raises(MalformedMessage, match=word) as caught:
        requestLine(line)
    assert caught.value.status == status
    assert caught.value.reason.isprintable()


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [b"GET", b"/", b"*", b" ", b"HTTP/", b"1.1", b"1.0", b"2", b".", b"\t", b"\r", b"\n", b"\x00"]
        ),
        max_size=8,
    ).map(b"".join)
)
def test_requestLineIsNothingButItsParts(line: bytes) -> None:
    """B1.1: a line that is accepted is its method, target and version, with one space between each."""
    try:
        method, target, minor = requestLine(line)
    except MalformedMessage:
        return
    assert line == b"%b %b HTTP/1.%d" % (method, target, minor)
    assert re.search(rb"[\x00-\x20\x7f]", method + target) is None


@pytest.mark.parametrize(
    ("start", "hopeless"),
    [
        (b"", False),  # nothing has come yet
        (b"G", False),
        (b"GET", False),
        (b"GET ", False),
        (b"GET /\x00", False),  # that is for the complete line
        (b"\x16\x03\x01\x02\x00", True),  # TLS on a cleartext port
        (b"\x00", True),
        (b" GET", True),
        (b"GET\t/", True),
        (b"{", True),
        (b"\xa0", True),
    ],
)
def test_looksHopeless(start: bytes, hopeless: bool) -> None:
    """What can never become a request line is told at once, and nothing that still can."""
    assert looksHopeless(start) is hopeless


@settings(deadline=None)
@given(st.binary(max_size=8), st.binary(max_size=8))
def test_hopelessStaysHopeless(start: bytes, rest: bytes) -> None:
    """Whatever follows a hopeless beginning, it does not become a request line."""
    if looksHopeless(start):
        for more in (rest, b" / HTTP/1.1", b"GET / HTTP/1.1"):
            with pytest.raises(MalformedMessage):
                requestLine(start + more)


@pytest.mark.parametrize(
    ("method", "target", "origin", "authority"),
    [
        (b"GET", b"/", b"/", None),
        (b"GET", b"/a?b", b"/a?b", None),
        (b"GET", b"//a/b", b"//a/b", None),  # a path with an empty segment, and no authority
        (b"GET", b"/http://a/b", b"/http://a/b", None),
        (b"OPTIONS", b"*", b"*", None),
        (b"GET", b"http://a/b?c", b"/b?c", b"a"),
        (b"GET", b"HTTP://A:80/", b"/", b"A:80"),
        (b"GET", b"https://[::1]:443/b", b"/b", b"[::1]:443"),
        (b"GET", b"http://a", b"/", b"a"),
        (b"GET", b"http://a?b", b"/?b", b"a"),
        (b"GET", b"http://a/?", b"/?", b"a"),
        (b"GET", b"http://a//b/../%2f", b"//b/../%2f", b"a"),
        (b"OPTIONS", b"http://a", b"*", b"a"),  # the whole server, RFC 9112 3.2.4
        (b"OPTIONS", b"http://a/", b"/", b"a"),
        (b"OPTIONS", b"http://a?b", b"/?b", b"a"),
    ],
)
def test_originForm(method: bytes, target: bytes, origin: bytes, authority: bytes | None) -> None:
    """B1.7, B1.8: absolute form is taken apart, its authority is told, and nothing of the path is changed."""
    assert originForm(method, target) == (origin, authority)


@pytest.mark.parametrize(
    ("method", "target", "word"),
    [
        (b"GET", b"*", "OPTIONS"),
        (b"GET", b"a", "form"),
        (b"GET", b"a/b", "form"),
        (b"GET", b"?a", "form"),
        (b"GET", b"\\a", "form"),
        (b"GET", b"**", "form"),
        (b"GET", b"a:80", "form"),  # for CONNECT
        (b"GET", b"ftp://a/", "form"),
        (b"GET", b"http:/a", "form"),
        (b"GET", b"http:a", "form"),
        (b"GET", b"http:///b", "authority"),
        (b"GET", b"http://", "authority"),
        (b"GET", b"http://:80/", "authority"),
        (b"GET", b"http://a:b/", "authority"),
        (b"GET", b"http://a\\b/", "authority"),
        (b"GET", b"http://a,b/", "authority"),
        (b"GET", b"http://\x80/", "authority"),
        (b"GET", b"http://user@a/", "userinfo"),
        (b"GET", b"http://user:pass@a/", "userinfo"),
        (b"GET", b"http://@a/", "userinfo"),
        (b"GET", b"http://a@/", "userinfo"),
    ],
)
def test_noOriginForm(method: bytes, target: bytes, word: str) -> None:
    """B1.7: a target in no form, or with an authority that is none, is refused."""
    with pytest.raises(MalformedMessage, match=word) as caught:
        originForm(method, target)
    assert caught.value.status == 400


HOSTS = [
    b"a", b"example.com", b"EXAMPLE.com.", b"example.com:80", b"a:0", b"a:65535", b"a_b",
    b"xn--mnchen-3ya.de", b"127.0.0.1", b"127.0.0.1:8080", b"[::1]", b"[::1]:80",
    b"[2001:db8::192.0.2.1]:80", b"[fe80::1%25eth0]:80",
    b"a:",  # port = *DIGIT, RFC 3986 3.2.3
    b"a%20b", b"a!$&'()*+;=~b",  # reg-name
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_validHost(host: bytes) -> None:
    """B1.7: names, IPv4 and bracketed IPv6, with or without a port; asked twice, the answer is the same."""
    assert validHost(host) is True
    assert validHost(host) is True


NO_HOSTS = [
    b"",
    b":80",  # no host, RFC 9110 4.2.1
    b"a b",
    b" a",
    b"a ",
    b"a\t",
    b"a\n",
    b"a\r\nX: y",
    b"a\x00",
    b"a\x7f",
    b"a\xa0",
    b"\xc3\xa9.com",
    b"user@a",
    b"a,b",  # a list, once it stands in X-Forwarded-Host
    b"a/b",
    b"a?b",
    b"a#b",
    b"a\\b",
    b'a"b',
    b"<a>",
    b"a|b",
    b"{a}",
    b"http://a",
    b"a:b",
    b"a:80:80",
    b"a:+80",
    b"a:-1",
    b"a:8_0",
    b"a: 80",
    b"a:\xd9\xa0",
    b"a:65536",
    b"a:99999",
    b"a:000080",
    b"a%",
    b"a%2",
    b"a%zz",
    b"::1",
    b"[::1",
    b"::1]",
    b"[]",
    b"[a]",
    b"[:::]",
    b"[1.2.3.4]",
    b"[::1]a",
    b"[::1]80",
    b"[::1%eth0]",
    b"[::1%25]",
    b"[::1%25a b]",
    b"[12345::]",
    b"[v1.a]",  # the future has not come
]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_invalidHost(host: bytes) -> None:
    """B1.7: what is no host, or could be read as something else, is refused, however often it comes."""
    assert validHost(host) is False
    assert validHost(host) is False


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from([*HOSTS, b"@", b"/", b",", b'"', b"\\", b" ", b"\t", b"%", b"\n", b"[", b"]", b":"]),
        max_size=3,
    ).map(b"".join)
)
def test_validHostCannotBreakOut(host: bytes) -> None:
    """B1.7: nothing in a valid host ends a line, a list member, a quoted string, or an authority."""
    if validHost(host):
        assert re.search(rb'[\x00-\x20\x7f-\xff,"\\/?#@<>|^`{}]', host) is None
        assert host


def test_manyHosts() -> None:
    """The hosts that are remembered are bounded; the answer is not affected by it."""
    assert all(validHost(b"host-%d" % number) for number in range(3000))
    assert validHost(b"a" * 10_000) is True
    assert not any(validHost(b"no host %d" % number) for number in range(3000))


@pytest.mark.parametrize(
    "value",
    [
        b"websocket",
        b"WebSocket",
        b"HTTP/2.0, SHTTP/1.3,IRC/6.9 ,\tRTA/x11",  # RFC 9110 7.8
        b"websocket,",
        b", ,websocket",
        b"h2c",  # is taken out elsewhere
    ],
)
def test_validUpgrade(value: bytes) -> None:
    """B1.9, B6.1: any protocol, or a list of them."""
    assert validUpgrade(value) is True


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b",",
        b"web socket",
        b"web\tsocket",
        b"web\x00socket",
        b"web\x7fsocket",
        b"web\x0bsocket",
        b"\x0bwebsocket",
        b"websocket\n",
        b"websocket\xa0",
        "websoc\u212aet".encode(),  # the Kelvin sign, a k to str.lower()
        b"a, \x80",
        b"a/b/c",
        b"/1",
        b"a/",
        b"a;b",
        b'"a"',
    ],
)
def test_invalidUpgrade(value: bytes) -> None:
    """B1.9: bytes that no protocol's name is made of are refused."""
    assert validUpgrade(value) is False


@pytest.mark.parametrize(
    "value", [b"a," * 20_000 + b"\x80", b"a , " * 10_000 + b"\x80", b"," * 60_000 + b"\x80"]
)
def test_upgradeThatIsMeantToTakeLong(value: bytes) -> None:
    """Long lists are refused in linear time; a pattern that backtracks would never return."""
    assert validUpgrade(value) is False
