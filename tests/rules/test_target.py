"""
Targets as operators write them, joining, the fence around a base path, and queries that parsers disagree on.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from twistproxy.rules.target import (
    MAX_PARAMETERS,
    cleanTarget,
    climbsOut,
    joinTarget,
    parseTarget,
    pathFault,
)
from twistproxy.upstreams import Target

# -- how operators write them --------------------------------------------------------------------------------

LOCAL = "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http://host", Target("http", "host", 80)),
        ("https://host", Target("https", "host", 443)),
        ("HTTPS://Host.Example", Target("https", "host.example", 443)),  # neither has letter case
        ("http://host:443", Target("http", "host", 443)),
        ("https://host:80", Target("https", "host", 80)),
        ("http://ho/st:80", Target("http", "ho", 80, b"/st:80")),
        ("http://host:8081", Target("http", "host", 8081)),
        ("http://host:08081", Target("http", "host", 8081)),
        ("http://host/", Target("http", "host", 80, b"/")),
        ("http://host:8081/base", Target("http", "host", 8081, b"/base")),
        ("http://host/a%2Fb//c/", Target("http", "host", 80, b"/a%2Fb//c/")),
        ("http://host/base?k=v", Target("http", "host", 80, b"/base", b"k=v")),
        ("http://host?k=v?w", Target("http", "host", 80, b"", b"k=v?w")),
        ("http://host/?", Target("http", "host", 80, b"/")),
        ("http://host.", Target("http", "host.", 80)),
        ("http://my_service:80", Target("http", "my_service", 80)),  # Docker Compose names are like that
        ("http://a-b--c.d1", Target("http", "a-b--c.d1", 80)),
        ("http://127.0.0.1", Target("http", LOCAL, 80)),
        ("http://[::1]", Target("http", "::1", 80)),
        ("http://[::1]:8081/x", Target("http", "::1", 8081, b"/x")),
        ("https://[2001:DB8:0::1]", Target("https", "2001:db8::1", 443)),
        ("http://[fe80::1%25eth0]:80", Target("http", "fe80::1%eth0", 80)),
        ("http://[fe80::1%eth0.1]", Target("http", "fe80::1%eth0.1", 80)),
        ("http://m\u00fcnchen.example", Target("http", "xn--mnchen-3ya.example", 80)),
        ("http://xn--mnchen-3ya.example", Target("http", "xn--mnchen-3ya.example", 80)),
        ("localhost:8081", Target("http", "localhost", 8081)),
        ("localhost:8081/base?k", Target("http", "localhost", 8081, b"/base", b"k")),
        ("127.0.0.1:8081", Target("http", LOCAL, 8081)),
        ("[::1]:8081", Target("http", "::1", 8081)),
        (":8081", Target("http", LOCAL, 8081)),
        (":8081/base", Target("http", LOCAL, 8081, b"/base")),
        ("8081", Target("http", LOCAL, 8081)),
        ("8081/a:b@c", Target("http", LOCAL, 8081, b"/a:b@c")),
        ("1", Target("http", LOCAL, 1)),
        ("65535", Target("http", LOCAL, 65535)),
        ("unix:/run/app.sock", Target("http", "localhost", 0, socketPath="/run/app.sock")),
        ("unix:///run/app.sock", Target("http", "localhost", 0, socketPath="/run/app.sock")),
        (
            "unix:/run/app.sock:/base?k",
            Target("http", "localhost", 0, b"/base", b"k", socketPath="/run/app.sock"),
        ),
        (
            "http://unix:/run/app.sock:/base",
            Target("http", "localhost", 0, b"/base", socketPath="/run/app.sock"),
        ),
        ("unix:/run/\u00e4pp", Target("http", "localhost", 0, socketPath="/run/\u00e4pp")),
        ("unix:/" + 106 * "a", Target("http", "localhost", 0, socketPath="/" + 106 * "a")),
    ],
)
def test_parseTarget(text: str, target: Target) -> None:
    """B8.5: every way in which operators write a target."""
    assert parseTarget(text) == target


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "http://host:port"),
        # what int() and strip() would let through
        (" 8081", "white space"),
        ("8081\n", "white space"),
        ("80 81", "white space"),
        ("\u00a08081", "white space"),
        ("http://host\x0b", "white space"),
        ("http://ho\u200bst", "white space"),  # nothing to be seen there at all
        ("http://host\x00", "white space"),
        ("http://host/a b", "white space"),
        ("+8081", "http://host:port"),
        (":+8081", "1 to 65535"),
        ("8_081", "write http://8_081"),
        (":8_081", "1 to 65535"),
        (":\u0668\u0660", "1 to 65535"),
        ("http://host:\uff18\uff10", "1 to 65535"),
        # ports
        ("0", "1 to 65535"),
        (":0", "1 to 65535"),
        ("65536", "1 to 65535"),
        ("http://host:65536", "1 to 65535"),
        ("http://host:", "1 to 65535"),
        ("http://host:http", "1 to 65535"),
        ("http://host:-1", "1 to 65535"),
        ("808080", "1 to 65535"),
        # http or https?
        ("host", "write http://host or https://host"),
        ("example.com/base", "write http://example.com/base or https://"),
        ("127.0.0.1", "write http://127.0.0.1 or"),
        ("[::1]", "write http://[::1] or"),
        ("host:443", "write https://host or http://host:443"),
        ("[::1]:443", "write https://[::1] or http://[::1]:443"),
        (":443", "write https://127.0.0.1 or http://127.0.0.1:443"),
        ("443", "write https://127.0.0.1 or http://127.0.0.1:443"),
        # a host, a scheme, or the type of an endpoint?
        ("http:8081", "http://host:port"),
        ("https:8443", "https://host"),
        ("tcp:8081", "http://host:port"),
        ("tcp:host:8081", "http://host:port"),
        ("ssl:8443", "https://host"),
        ("::1", "http://[::1]:8080"),
        ("::1:8081", "http://[::1]:8080"),
        ("http://::1", "http://[::1]:8080"),
        ("http://2001:db8::1", "http://[::1]:8080"),
        # other schemes
        ("ftp://host", "http://, https:// or unix:/path"),
        ("ws://host", "http://, https:// or unix:/path"),
        ("h2c://host", "http://, https:// or unix:/path"),
        ("http+unix://run", "http://, https:// or unix:/path"),
        ("://host", "port"),
        # hosts
        ("http://", "http://host:port"),
        ("https://", "https://host:port"),
        ("http:///base", "http://host:port"),
        ("http://:8081", "http://host:port"),
        ("/base", "http://host:port"),
        ("//host:8081", "http://host:port"),
        ("?k", "http://host:port"),
        ("http://-host", "malformed"),
        ("http://host-", "malformed"),
        ("http://a..b", "malformed"),
        ("http://.a", "malformed"),
        ("http://a,b", "malformed"),
        ("http://a*b", "malformed"),
        ("http://a%20b", "malformed"),
        ("http://a\\b", "malformed"),
        ("http://" + 64 * "a", "malformed"),
        ("http://" + 100 * "aa." + "a", "malformed"),
        # what inet_aton would make an address of
        ("http://8081", "malformed IPv4"),
        ("http://127.1", "malformed IPv4"),
        ("http://0x7f.0.0.1", "malformed IPv4"),
        ("http://127.0.0.0x1", "malformed IPv4"),
        ("http://010.0.0.1", "malformed IPv4"),
        ("http://256.0.0.1", "malformed IPv4"),
        ("http://1.2.3.4.5", "malformed IPv4"),
        ("1.2.3:80", "malformed IPv4"),
        # IDNA 2003 makes other names of these
        ("http://stra\u00dfe.example", "xn--"),
        ("http://\u212aelvin.example", "xn--"),
        ("http://\uff4cocalhost", "xn--"),
        ("http://a\u3002b", "xn--"),
        ("http://M\u00dcNCHEN.example", "xn--"),
        ("http://\u00e9" + 70 * "a", "xn--"),
        # IPv6
        ("http://[::1", "http://[::1]:8080"),
        ("http://[]", "http://[::1]:8080"),
        ("http://[host]", "http://[::1]:8080"),
        ("http://[::1]8081", "http://[::1]:8080"),
        ("http://[1.2.3.4]", "http://[::1]:8080"),
        ("http://[::1%25]", "zone"),
        ("http://[::1%a/b]", "http://[::1]:8080"),
        ("http://[::1%a'b]", "zone"),
        # credentials
        ("http://user@host", "user name"),
        ("http://user:pass@host:80", "user name"),
        ("user:pass@host:80", "user name"),
        # paths
        ("http://host/#top", "fragment"),
        ("http://host#top", "fragment"),
        ("http://host/\u00e9", "percent-encoded"),
        ("http://host/?\u00e9", "percent-encoded"),
        ("http://host/100%", "%25"),
        ("http://host/%zz", "%25"),
        ("http://host/?%1", "%25"),
        ("http://host/a/../b", "dot segment"),
        ("http://host/.", "dot segment"),
        ("http://host/%2e%2E/b", "dot segment"),
        ("8081/..", "dot segment"),
        ("unix:/run/a:/..", "dot segment"),
        # UNIX sockets
        ("unix:", "unix:/run/app.sock"),
        ("unix:run/app.sock", "unix:/run/app.sock"),
        ("unix://run/app.sock", "unix:/run/app.sock"),
        ("unix:/", "unix:/run/app.sock"),
        ("unix:/run/app.sock/", "unix:/run/app.sock"),
        ("unix:/run/app.sock:", "unix:/run/app.sock:/base"),
        ("unix:/run/app.sock:base", "unix:/run/app.sock:/base"),
        ("unix:/run/app.sock:8081", "unix:/run/app.sock:/base"),
        ("unix:/run/app.sock?k=v", "unix:/run/app.sock:/base"),
        ("unix:/" + 107 * "a", "107 bytes"),
        ("unix:/" + 54 * "\u00e4", "107 bytes"),
        ("https://unix:/run/app.sock", "1 to 65535"),
    ],
)
def test_noTarget(text: str, advice: str) -> None:
    """B8.5: what could mean two things, or can never work, is one clear line at start."""
    with pytest.raises(ValueError, match=re.escape(advice)) as caught:
        parseTarget(text)
    told = str(caught.value)
    assert repr(text) in told
    assert "\n" not in told


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                "http://",
                "https://",
                "unix:",
                "a",
                "8081",
                ":",
                "/",
                "[",
                "]",
                "::1",
                "%",
                "?",
                "@",
                ".",
                "\u00e9",
            ]
        ),
        max_size=6,
    ).map("".join)
    | st.text(max_size=8)
)
def test_targetOrOneLine(text: str) -> None:
    """B8.5: whatever is written, it is a target that can be used or an error of one line."""
    try:
        target = parseTarget(text)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert target.socketPath or 1 <= target.port <= 65535
    assert target.host and target.authority
    assert target.path[:1] in (b"", b"/")


# -- joining -------------------------------------------------------------------------------------------------


def at(path: bytes, query: bytes = b"") -> Target:
    """
    @return: a target somewhere with a base path and query.
    """
    return Target("http", "up", 80, path, query)


@pytest.mark.parametrize(
    ("base", "target", "joined"),
    [
        (at(b""), b"/a", b"/a"),
        (at(b"/"), b"/a", b"/a"),
        (at(b"/base"), b"/a", b"/base/a"),  # exactly one slash, GO 27
        (at(b"/base/"), b"/a", b"/base/a"),
        (at(b"/base"), b"/", b"/base/"),
        (at(b"/base/"), b"/", b"/base/"),
        (at(b"/base"), b"//a", b"/base//a"),  # an empty segment of the client's is the client's
        (at(b"/base//"), b"/a", b"/base//a"),  # and one of the operator's the operator's
        (at(b"/base"), b"", b"/base/"),  # GO 28
        (at(b"/base"), b"?q", b"/base/?q"),
        (at(b"/base/"), b"a", b"/base/a"),
        (at(b""), b"", b"/"),
        (at(b"/"), b"?q", b"/?q"),
        (at(b"/b%2Fc"), b"/%2f/%7e", b"/b%2Fc/%2f/%7e"),  # escapes stay as they are, GO 27
        (at(b"/base"), b"/../x/./", b"/base/../x/./"),  # nothing is folded, GO 30
        (at(b""), b"/%2e%2e//a", b"/%2e%2e//a"),
        (at(b"/base"), b"/a?b=c", b"/base/a?b=c"),
        (at(b"/base"), b"/a?", b"/base/a?"),  # a bare question mark stays
        (at(b""), b"/a?", b"/a?"),
        (at(b"", b"k=v"), b"/a", b"/a?k=v"),  # the base query first, GO 29
        (at(b"", b"k=v"), b"/a?b=c", b"/a?k=v&b=c"),
        (at(b"", b"k=v"), b"/a?", b"/a?k=v"),
        (at(b"/", b"k=v"), b"/a", b"/a?k=v"),
        (at(b"/base/", b"k"), b"/a?b?c", b"/base/a?k&b?c"),
        (at(b"/base", b"k"), b"*", b"*"),  # the whole server, B1.8
        (at(b""), b"*", b"*"),
    ],
)
def test_joinTarget(base: Target, target: bytes, joined: bytes) -> None:
    """B2.6: one slash between the paths, & between the queries, and not a byte changed beside it."""
    assert joinTarget(base, target) == joined


PATHS = st.lists(st.sampled_from([b"/", b"a", b"..", b".", b"%2F", b"%2e", b";", b"%"]), max_size=6).map(
    b"".join
)
QUERIES = st.lists(st.sampled_from([b"a", b"=", b"&", b"?", b"/", b"%", b";"]), max_size=5).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(PATHS, QUERIES, PATHS, st.none() | QUERIES)
def test_joinKeepsEverything(basePath: bytes, baseQuery: bytes, path: bytes, query: bytes | None) -> None:
    """B2.6: what stood before and behind the seam stands there still, and the seam is one slash."""
    basePath, path = basePath and b"/" + basePath, b"/" + path
    joined = joinTarget(at(basePath, baseQuery), path if query is None else path + b"?" + query)
    joinedPath, mark, joinedQuery = joined.partition(b"?")
    assert joinedPath.startswith(basePath)
    assert joinedPath.endswith(path)
    seam = 1 if basePath.endswith(b"/") else 0
    assert len(joinedPath) == len(basePath) + len(path) - seam
    assert joinedQuery == b"&".join(part for part in (baseQuery, query) if part)
    assert bool(mark) == (bool(baseQuery) or query is not None)


# -- the fence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "climbs"),
    [
        (b"/", False),
        (b"*", False),
        (b"/a/b", False),
        (b"/a.b/..c/d../...", False),
        (b"/a/..", False),
        (b"/a/../b/./../", False),
        (b"/..", True),
        (b"/../", True),
        (b"/../base/x", True),  # that it comes back does not help
        (b"/a/../..", True),
        (b"/a/./../..", True),
        (b"/a//../..", True),  # a server that merges slashes
        (b"/%2e%2e", True),
        (b"/%2E.", True),
        (b"/.%2e/x", True),
        (b"/a/..%2f..", True),
        (b"/a/..%2F%2e%2E", True),
        (b"/a/..%5c..", True),  # a backslash is a slash to some
        (b"/a\\..\\..", True),
        (b"/..\\x", True),
        (b"/..;x", True),  # parameters of a segment are no part of its name to some
        (b"/..;x=y/a", True),
        (b"/..%3bx", True),
        (b"/%2e%2e%3Bx", True),
        (b"/;/..", True),
        (b"/a;/..", False),
        (b"/%252e%252e", False),  # is folded only by who decodes twice
        (b"/%2%65%2%65", False),
        (b"/a?/../..", False),  # a query is no path
        (b"/a?b=%2e%2e/../..", False),
        (b"/..?", True),
        (b"../x", True),
    ],
)
def test_climbsOut(target: bytes, climbs: bool) -> None:
    """B2.6: dot segments that lead above the base are seen in every way to write them."""
    assert climbsOut(target) is climbs


def climbsByFolding(target: bytes) -> bool:
    """
    The same question, answered the other way round: decode everything first, then let C{posixpath} fold it.
    """
    path = unquote_to_bytes(target.partition(b"?")[0]).replace(b"\\", b"/")
    plain = re.sub(rb";[^/]*", b"", path)
    folded = posixpath.normpath(b"./" + plain.lstrip(b"/"))
    return folded == b".." or folded.startswith(b"../")


@settings(deadline=None, max_examples=1000)
@given(
    st.lists(
        st.sampled_from(
            [
                b"/",
                b"a",
                b".",
                b"..",
                b"%2e",
                b"%2E",
                b"%2f",
                b"%2F",
                b"%5c",
                b"%5C",
                b"\\",
                b";",
                b"%3b",
                b"%",
                b"%25",
                b"2e",
                b"?",
            ]
        ),
        max_size=10,
    ).map(lambda parts: b"/" + b"".join(parts))
)
@example(b"/a/%2e%2e%2f%2e./b")
@example(b"/;a%2f../..")
def test_climbsOutAgreesWithFolding(target: bytes) -> None:
    """B2.6: the answer is that of a server which decodes everything and folds the path, for every path."""
    assert climbsOut(target) == climbsByFolding(target)


@pytest.mark.parametrize(
    ("target", "word"),
    [
        (b"/a%2Fb", "slash"),
        (b"/a%2fb", "slash"),
        (b"/a%5cb", "slash"),
        (b"/a\\b", "backslash"),
        (b"/a%00", "NUL"),
        (b"/.", "dot segment"),
        (b"/a/../b", "dot segment"),
        (b"/%2e/b", "dot segment"),
        (b"/a/%2E%2e", "dot segment"),
        (b"/..;x/b", "dot segment"),
        (b"/..%3bx/b", "dot segment"),
    ],
)
def test_pathFault(target: bytes, word: str) -> None:
    """B1.11: the strict policy names what an upstream might read differently."""
    fault = pathFault(target)
    assert fault is not None
    assert word in fault


@pytest.mark.parametrize(
    "target",
    [b"/", b"*", b"/a/b;x=y/", b"/a..b/...", b"/a//b", b"/%20%25", b"/%252f", b"/?a=%2F..%00\\&b=/../"],
)
def test_noPathFault(target: bytes) -> None:
    """B1.11: an ordinary path passes the strict policy, and its query is not looked at."""
    assert pathFault(target) is None


# -- queries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"*",
        b"/a?",
        b"/a?b",
        b"/a?b=c&b=d&&=&",
        b"/a?%41=%2f+%C3%A9&\xff=!*'()",
        b"/a;b%zz?c=d",  # the path is not looked at
        b"/a?b?c=d",
        b"/a?" + b"&".join([b"b=1"] * MAX_PARAMETERS),
    ],
)
def test_cleanQuery(target: bytes) -> None:
    """B2.7: a query on which parsers agree passes byte for byte (GO 22)."""
    assert cleanTarget(target) == target


# Made by sending each through the ReverseProxy of Go 1.27.
@pytest.mark.parametrize(
    ("target", "clean"),
    [
        (b"/x?a;b", b"/x"),
        (b"/x?;", b"/x"),
        (b"/x?a=1;b=2", b"/x"),
        (b"/x?a=1&b=2;c=3&d=4", b"/x?a=1&d=4"),
        (b"/x?b=%zz&a=1&a=0", b"/x?a=1&a=0"),
        (b"/x?b=2&a=1&%", b"/x?a=1&b=2"),  # sorted by name
        (b"/x?b=2&a=2&b=1&a=1&%", b"/x?a=2&a=1&b=2&b=1"),  # by nothing else
        (b"/x?z=1;&b=%41+%20&a&=v&&b=0", b"/x?=v&a=&b=A++&b=0"),
        (b"/x?a=%4", b"/x"),
        (b"/x?a=%", b"/x"),
        (b"/x?%%41=1&a=1", b"/x?a=1"),
        (b"/x?\xff=%&\xfe=2", b"/x?%FE=2"),
        (b"/x?=v&a=%", b"/x?=v"),
        (b"/x?a=~*!'()%&c=~*!'()-_.", b"/x?c=~%2A%21%27%28%29-_."),
        (b"/x?%3b=%26&;", b"/x?%3B=%26"),
        (b"/x?a=b=c&;", b"/x?a=b%3Dc"),
        (b"/x;%zz?a=1&;", b"/x;%zz?a=1"),
        (b"/x?" + b"&".join([b"a=1"] * 10_001), b"/x"),  # GO 23
        (b"/x?" + b"&" * 10_000, b"/x"),
        (b"/x?" + b"&".join([b"a=1"] * 9_999) + b"&;", b"/x?" + b"&".join([b"a=1"] * 9_999)),
    ],
    ids=range(20),
)
def test_disputedQuery(target: bytes, clean: bytes) -> None:
    """B2.7: a query on which they do not is parsed, what cannot be is dropped, and the rest encoded anew."""
    assert cleanTarget(target) == clean


DISPUTES = st.lists(
    st.sampled_from(
        [b"a", b"b", b"=", b"&", b";", b"%", b"%41", b"%3b", b"%zz", b"+", b" ", b"\xff", b"?", b"*"]
    ),
    max_size=10,
).map(b"".join)


@settings(deadline=None, max_examples=500)
@given(PATHS, DISPUTES)
def test_cleanIsClean(path: bytes, query: bytes) -> None:
    """B2.7: what comes out is not disputed any more, stays so, and the path is untouched."""
    cleaned = cleanTarget(b"/" + path + b"?" + query)
    cleanPath, _, cleanedQuery = cleaned.partition(b"?")
    assert cleanPath == b"/" + path
    assert cleanTarget(cleaned) == cleaned
    assert re.search(rb";|%(?![0-9A-Fa-f]{2})", cleanedQuery) is None


@settings(deadline=None, max_examples=500)
@given(DISPUTES)
def test_agreedQueriesPass(query: bytes) -> None:
    """B2.7: whatever has neither a semicolon nor a broken escape passes byte for byte."""
    assume(re.fullmatch(rb"(?:[^;%]|%[0-9A-Fa-f]{2})*", query))
    assert cleanTarget(b"/?" + query) == b"/?" + query


@settings(deadline=None, max_examples=500)
@given(DISPUTES)
def test_agreedParametersSurvive(query: bytes) -> None:
    """B2.7: every parameter that is not disputed has the same value afterwards, and no other has one."""
    good = b"&".join(part for part in query.split(b"&") if re.fullmatch(rb"(?:[^;%]|%[0-9A-Fa-f]{2})*", part))
    _, _, cleaned = cleanTarget(b"/?" + query).partition(b"?")
    assert sorted(parameters(cleaned)) == sorted(parameters(good))


def parameters(query: bytes) -> list[tuple[str, str]]:
    """
    @return: the parameters of a query, as the standard library reads them.
    """
    text = query.decode("latin-1")
    return parse_qsl(text, keep_blank_values=True, encoding="latin-1")
