"""
Mounting below a prefix: the way back is the inverse of the way there.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistproxy.rules.pathmap import PathMap, mayBeMapped, sameAuthority, splitPrefix
from twistproxy.rules.target import joinTarget
from twistproxy.upstreams import Target

MOUNTED = PathMap(b"/api", b"/app", b"http", (b"up.test:8081",), b"public.test")
ROOT = PathMap(b"", b"", b"http", (b"up.test:8081", b"sent.test"), b"public.test")
BASED = PathMap(b"", b"/app/", b"https", (b"up.test",), b"public.test:8443")

segment = st.text("abc.%/-", max_size=3).map(lambda text: text.encode("ascii"))
prefixes = st.lists(st.sampled_from([b"a", b"api", b"%61", b"app", b"a.b"]), max_size=3).map(
    lambda parts: b"".join(b"/" + part for part in parts)
)
paths = st.lists(segment, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
queries = st.sampled_from([b"", b"?", b"?k=/v", b"?a#b"])


@given(prefixes, prefixes, paths, queries)
def test_inverse(prefix: bytes, base: bytes, path: bytes, query: bytes) -> None:
    """What was mapped to the upstream maps back to what the client wrote, byte for byte."""
    mount = PathMap(prefix, base)
    there = mount.toUpstream(prefix + path)
    assert there is not None
    assert mount.toPublic(there) == prefix + path


@given(prefixes, prefixes, paths)
def test_otherInverse(prefix: bytes, base: bytes, path: bytes) -> None:
    """Any path below the upstream's base can be reached, and is what the public one maps to."""
    mount = PathMap(prefix, base)
    public = mount.toPublic(base + path)
    assert public is not None
    assert mount.toUpstream(public) == base + path


@given(prefixes, prefixes, paths)
def test_asRequestsGo(prefix: bytes, base: bytes, path: bytes) -> None:
    """The map is the one that requests take: the prefix is stripped, and the rest joined to the target."""
    mount = PathMap(prefix, base)
    stripped, rest = splitPrefix(prefix + path, prefix.count(b"/"))
    assert stripped == prefix
    assert joinTarget(Target("http", "up.test", 80, base), rest) == mount.toUpstream(prefix + path)


@given(prefixes, prefixes, paths, queries)
def test_staysOnTheSite(prefix: bytes, base: bytes, path: bytes, query: bytes) -> None:
    """However many slashes an upstream writes, its own address never becomes one of another site."""
    mount = PathMap(prefix, base, authorities=(b"up.test",))
    mapped = mount.reference(b"http://up.test" + base + path + query)
    assert mapped[:1] == b"/"
    assert mapped[:2] != b"//"


@pytest.mark.parametrize(
    ("target", "segments", "prefix", "rest"),
    [
        (b"/api/x?q", 1, b"/api", b"/x?q"),
        (b"/api", 1, b"/api", b"/"),
        (b"/api?q", 1, b"/api", b"/?q"),
        (b"/api/", 1, b"/api", b"/"),
        (b"/api//x", 1, b"/api", b"//x"),
        (b"/%61pi/a%2Fb", 1, b"/%61pi", b"/a%2Fb"),
        (b"/x", 0, b"", b"/x"),
        (b"/a/b/c", 2, b"/a/b", b"/c"),
    ],
)
def test_splitPrefix(target: bytes, segments: int, prefix: bytes, rest: bytes) -> None:
    """The prefix goes as the client wrote it, and what is left is a target in origin form."""
    assert splitPrefix(target, segments) == (prefix, rest)


@pytest.mark.parametrize(
    ("mount", "value", "mapped"),
    [
        (MOUNTED, b"/app/x?a=/app#f", b"/api/x?a=/app#f"),
        (MOUNTED, b"/app", b"/api"),
        (MOUNTED, b"/app?q", b"/api?q"),
        (MOUNTED, b"/apple", b"/apple"),
        (MOUNTED, b"/login", b"/login"),
        (MOUNTED, b"http://up.test:8081/app/x", b"/api/x"),
        (MOUNTED, b"HTTP://UP.test:8081/app/x", b"/api/x"),
        (MOUNTED, b"//up.test:8081/app/x", b"/api/x"),
        (MOUNTED, b"http://up.test/app/x", b"http://up.test/app/x"),
        (MOUNTED, b"https://up.test:8081/app/x", b"https://up.test:8081/app/x"),
        (MOUNTED, b"http://other.test/app/x", b"http://other.test/app/x"),
        (MOUNTED, b"https://public.test/app/x", b"https://public.test/api/x"),
        (MOUNTED, b"x/y", b"x/y"),
        (MOUNTED, b"../x", b"../x"),
        (MOUNTED, b"?q", b"?q"),
        (MOUNTED, b"#f", b"#f"),
        (MOUNTED, b"", b""),
        (MOUNTED, b"mailto:a@b", b"mailto:a@b"),
        (ROOT, b"http://sent.test/x", b"/x"),
        (ROOT, b"http://sent.test:80/x", b"/x"),
        (ROOT, b"http://sent.test", b"/"),
        (ROOT, b"http://sent.test//evil.test/", b"/.//evil.test/"),
        (ROOT, b"//evil.test/", b"//evil.test/"),
        (BASED, b"/app//evil.test", b"/.//evil.test"),
        (BASED, b"/app", b"/"),
        (BASED, b"https://up.test:443/app/x", b"/x"),
        (PathMap(b"/api", b"", publicPath=b"/api"), b"x", b"/api/x"),
        (PathMap(b"/api", b"", publicPath=b"/api"), b"?q", b"/api/?q"),
        (PathMap(b"/api", b"/app", publicPath=b"/api"), b"../x", b"/x"),
        (PathMap(b"/api", b"", publicPath=b"/api"), b"\xff", b"\xff"),
        (PathMap(b"/api", b"", publicPath=b"/api/y"), b"x", b"x"),
    ],
)
def test_reference(mount: PathMap, value: bytes, mapped: bytes) -> None:
    """Location and Content-Location: the upstream's own addresses are mapped, everybody else's stay."""
    assert mount.reference(value) == mapped


@pytest.mark.parametrize(
    ("value", "mapped"),
    [
        (b"5; url=/app/x", b"5; url=/api/x"),
        (b"0;URL='/app/x'", b"0;URL='/api/x'"),
        (b'1, url = "http://up.test:8081/app/"', b'1, url = "/api/"'),
        (b"5", b"5"),
        (b"5; url=http://other.test/app", b"5; url=http://other.test/app"),
    ],
)
def test_refresh(value: bytes, mapped: bytes) -> None:
    """Refresh: the address in it is mapped like a Location."""
    assert MOUNTED.refresh(value) == mapped


@pytest.mark.parametrize(
    ("mount", "value", "mapped"),
    [
        (MOUNTED, b"a=b; Path=/app; Secure", b"a=b; Path=/api; Secure"),
        (MOUNTED, b"a=b; path=/app/x/; HttpOnly", b"a=b; path=/api/x/; HttpOnly"),
        (MOUNTED, b"a=b; Path=/", b"a=b; Path=/api"),
        (MOUNTED, b"a=b; Path=/app/", b"a=b; Path=/api"),  # /api is asked as /app/
        (MOUNTED, b"a=b; Path=/other", b"a=b; Path=/other"),
        (MOUNTED, b"a=b; Path=", b"a=b; Path="),
        (MOUNTED, b"path=/app", b"path=/app"),
        (MOUNTED, b"a=b; Domain=up.test", b"a=b; Domain=public.test"),
        (MOUNTED, b"a=b; domain=.UP.test;Path=/app", b"a=b; domain=public.test;Path=/api"),
        (MOUNTED, b"a=b; Domain=test", b"a=b; Domain=test"),
        (MOUNTED, b"__Host-a=b; Path=/; Secure", b"__Host-a=b; Path=/; Secure"),
        (BASED, b"a=b; Path=/app/x; Domain=up.test", b"a=b; Path=/x; Domain=public.test"),
        (BASED, b"a=b; Path=/", b"a=b; Path=/"),
        (PathMap(b"/api", b""), b"a=b; Path=/; Domain=x", b"a=b; Path=/api; Domain=x"),
    ],
)
def test_cookie(mount: PathMap, value: bytes, mapped: bytes) -> None:
    """Set-Cookie: Path and Domain are mapped; a cookie that holds for all of the upstream holds for the mount."""
    assert mount.cookie(value) == mapped


def test_lines() -> None:
    """Only the fields that hold addresses are looked at; a head without them is not copied."""
    plain = [b"Content-Type: text/html", b"Link: </app/x>"]
    assert MOUNTED.lines(plain) is plain
    lines = [
        b"location:  /app/x ",
        b"Content-Location: /app/y",
        b"Refresh: 1; url=/app",
        b"Set-Cookie: a=b; Path=/app",
        b"X: /app",
    ]
    assert MOUNTED.lines(lines) == [
        b"location: /api/x",
        b"Content-Location: /api/y",
        b"Refresh: 1; url=/api",
        b"Set-Cookie: a=b; Path=/api",
        b"X: /app",
    ]
    assert lines[0] == b"location:  /app/x "


@pytest.mark.parametrize("line", [b"LOCATION: /", b"content-location:/", b"Refresh : 1", b"Set-Cookie: a=b"])
def test_mayBeMapped(line: bytes) -> None:
    """A head that has nothing to be mapped is known quickly, wherever the field stands and however it is written."""
    plain = [b"Content-Type: text/html", b"X-Location: /", b"Content-Language: en"]
    assert mayBeMapped(plain) is False
    assert mayBeMapped([*plain, line]) is True
    assert mayBeMapped([line, *plain]) is True


def test_sameAuthority() -> None:
    """The scheme's own port may be written or not."""
    assert sameAuthority(b"A.test:80", b"a.TEST", b"http") is True
    assert sameAuthority(b"a.test:80", b"a.test", b"https") is False
    assert sameAuthority(b"[::1]", b"[::1]:443", b"https") is True
