"""
Who the client is, and how the upstream is told.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twistproxy.headers import TOKEN, Headers
from twistproxy.rules.forwarded import (
    clientAddress,
    forwardedElement,
    isTrusted,
    networks,
    setForwarded,
    setXForwarded,
)
from twistproxy.rules.validity import validHost

TRUSTED = networks(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),  # an address in its network, as ifconfig shows it
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("::1", "::1/128"),
        ("fd00::/8", "fd00::/8"),
    ],
)
def test_networks(name: str, meant: str) -> None:
    """Networks are read in the ways that people write them."""
    assert [str(network) for network in networks([name])] == [meant]


@pytest.mark.parametrize(
    "name", ["", "localhost", "10.0.0", "10.0.0.0/33", "10.0.0.1-9", " ::1", "010.0.0.1", "[::1]"]
)
def test_noNetwork(name: str) -> None:
    """What is no network is said at start, with what to write instead."""
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8") as caught:
        networks(["127.0.0.1", name])
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("fd12::1", True),
        ("fe80::1", False),
        ("fd12::1%eth0", True),
        ("::ffff:10.0.0.1", True),  # an IPv4 peer of a dual-stack port
        ("::ffff:11.0.0.1", False),
        ("::10.0.0.1", False),  # looks like it, and is another address
        ("", False),  # a UNIX socket
        ("localhost", False),
        ("10.0.0.1 ", False),
        ("010.0.0.1", False),
        ("10.0.0.\u0661", False),  # another script's digit
        ("\uff11\uff10.0.0.1", False),
        # as long as an address gets, with a zone; and longer
        ("fd00:0000:0000:0000:0000:0000:10.255.255.255%eth0.1234567890", True),
        ("0000:0000:0000:0000:0000:ffff:010.000.000.001", False),
        ("fd00:0000:0000:0000:0000:0000:10.255.255.2555", False),
    ],
)
def test_isTrusted(host: str, trusted: bool) -> None:
    """B2.4: an address is trusted if it lies in a trusted network; whatever is no address is not."""
    assert isTrusted(host, TRUSTED) is trusted
    assert isTrusted(host, ()) is False


@pytest.mark.parametrize(
    ("peer", "forwardedFor", "client"),
    [
        # nobody to trust: what is claimed does not count
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", [b"198.51.100.1"], "192.0.2.1"),
        ("", [b"198.51.100.1"], ""),
        # from right to left, as far as trust goes
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", [b"198.51.100.1", b"10.0.0.2,10.0.0.3"], "198.51.100.1"),
        ("10.0.0.1", [b"10.0.0.2, 10.0.0.3"], "10.0.0.2"),  # all of them are: the leftmost
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, ,", b" "], "198.51.100.1"),  # empty members do not count
        # a member that is no address ends the way
        ("10.0.0.1", [b"unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, _hidden, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b"198.51.100.1\x0b"], "10.0.0.1"),
        ("10.0.0.1", [b"\xa0198.51.100.1"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.001"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1;198.51.100.2"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1/32"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.\u0661".encode()], "10.0.0.1"),
        ("10.0.0.1", [b"3325256705"], "10.0.0.1"),  # an int to ipaddress, if it were one
        # the forms that proxies write
        ("10.0.0.1", [b"198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", [b"[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", [b"[2001:DB8:0::1]"], "2001:db8::1"),
        ("10.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", [b"::ffff:198.51.100.1"], "198.51.100.1"),  # one client, one name for it
        ("10.0.0.1", [b"198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        # a zone may be any text to ipaddress, so it is left out
        ("10.0.0.1", [b"fe80::1%eth0"], "fe80::1"),
        ("10.0.0.1", [b'fe80::1%" 200 "-'], "fe80::1"),
        ("10.0.0.1", [b"[fe80::1%25eth0]:80"], "fe80::1"),
        ("10.0.0.1", [b"[2001:db8::1]x"], "10.0.0.1"),
        ("10.0.0.1", [b"[2001:db8::1"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1:x"], "10.0.0.1"),
        # the peer itself is taken as it came
        ("fd00::1%eth0", [b"198.51.100.1"], "198.51.100.1"),
    ],
)
def test_clientAddress(peer: str, forwardedFor: list[bytes], client: str) -> None:
    """B2.5: right to left through trusted hops, and not one step further."""
    assert clientAddress(peer, forwardedFor, TRUSTED) == client


STRANGERS = (
    st.ip_addresses()
    .filter(lambda address: getattr(address, "ipv4_mapped", None) is None)
    .map(str)
    .filter(lambda host: not isTrusted(host, TRUSTED))
)
HOPS = st.integers(1, 2**24 - 1).map(lambda number: str(ip_address(0x0A000000 + number)))
CLAIMS = st.lists(
    st.lists(
        st.sampled_from(
            [b"203.0.113.9", b"10.9.9.9", b",", b" ", b"\t", b"[", b"]", b"%", b"unknown", b"::1", b":80"]
        ),
        max_size=6,
    ).map(b"".join)
    | st.binary(max_size=12),
    max_size=3,
)


@settings(deadline=None, max_examples=300)
@given(STRANGERS, CLAIMS, st.lists(HOPS, max_size=4))
@example("192.0.2.1", [b"10.0.0.1,"], ["10.0.0.1"])
def test_strangersClaimsDoNotCount(stranger: str, claims: list[bytes], hops: list[str]) -> None:
    """B2.4, B2.5: whatever a stranger claims, through any number of trusted hops, it is the client."""
    *way, peer = [stranger, *hops]
    forwardedFor = [*claims, *(address.encode() for address in way)]
    assert clientAddress(peer, forwardedFor, TRUSTED) == stranger


@settings(deadline=None)
@given(CLAIMS)
def test_clientIsAnAddress(claims: list[bytes]) -> None:
    """B2.5: what comes out for a trusted peer is always an address, fit for logs and headers."""
    found = clientAddress("10.0.0.1", claims, TRUSTED)
    assert str(ip_address(found)) == found
    assert "%" not in found


@pytest.mark.parametrize(
    ("before", "peer", "host", "after"),
    [
        ([], b"192.0.2.1", b"a", [b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-Host: a"]),
        # appended, several lines folded into one; the rest replaced (GO 18)
        (
            [b"x-forwarded-for: 1.1.1.1", b"X-Forwarded-Host: z", b"X-Forwarded-For:2.2.2.2, 3.3.3.3"],
            b"192.0.2.1",
            b"a",
            [b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1", b"X-Forwarded-Host: a"],
        ),
        ([b"X-Forwarded-For: "], b"192.0.2.1", b"", [b"X-Forwarded-For: 192.0.2.1"]),
        (
            [b"X-Forwarded-Proto: ftp", b"X-Forwarded-Host: z"],
            b"",
            b"",
            [],
        ),  # a UNIX socket, HTTP/1.0 without Host
        ([b"X-Forwarded-For: 1.1.1.1"], b"", b"a", [b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Host: a"]),
        ([], b"2001:db8::1", b"[::1]:80", [b"X-Forwarded-For: 2001:db8::1", b"X-Forwarded-Host: [::1]:80"]),
        ([], b"fe80::1%eth0", b"", [b"X-Forwarded-For: fe80::1"]),  # a zone means nothing elsewhere
    ],
)
def test_setXForwarded(before: list[bytes], peer: bytes, host: bytes, after: list[bytes]) -> None:
    """B2.4: For is appended, Host and Proto replaced, and no other line is touched."""
    headers = Headers([b"A: 1", *before, b"X-Forwarded: 2", b"X-Forwarded-Port: 3"])
    setXForwarded(headers, peer, host, b"https")
    kept = [b"A: 1", b"X-Forwarded: 2", b"X-Forwarded-Port: 3"]
    assert headers.lines == [*kept, *after, b"X-Forwarded-Proto: https"]
    assert headers.edited is True


@pytest.mark.parametrize(
    ("peer", "host", "element"),
    [
        (b"192.0.2.1", b"example.com", b"for=192.0.2.1;host=example.com;proto=http"),
        (b"192.0.2.1", b"example.com:80", b'for=192.0.2.1;host="example.com:80";proto=http'),
        (b"2001:db8::1", b"[::1]:80", b'for="[2001:db8::1]";host="[::1]:80";proto=http'),
        (b"fe80::1%eth0", b"", b'for="[fe80::1]";proto=http'),
        (b"", b"", b"for=unknown;proto=http"),
    ],
)
def test_forwardedElement(peer: bytes, host: bytes, element: bytes) -> None:
    """B2.4: an element of RFC 7239, with IPv6 in brackets, and quotes where a token would not do."""
    assert forwardedElement(peer, host, b"http") == element


class Reader:
    """
    Reads a C{Forwarded} field letter by letter, as RFC 7239 4 has it, knowing nothing of how it was written.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def elements(self) -> list[list[tuple[bytes, bytes]]]:
        found = [self._element()]
        while self._at < len(self._text):
            self._white()
            self._expect(b",")
            self._white()
            found.append(self._element())
        return found

    def _element(self) -> list[tuple[bytes, bytes]]:
        pairs = [self._pair()]
        while self._peek() == b";":
            self._at += 1
            pairs.append(self._pair())
        return pairs

    def _pair(self) -> tuple[bytes, bytes]:
        name = self._token().lower()
        self._expect(b"=")
        return name, self._quoted() if self._peek() == b'"' else self._token()

    def _token(self) -> bytes:
        match = TOKEN.match(self._text, self._at)
        assert match is not None, f"no token at {self._at} of {self._text!r}"
        self._at = match.end()
        return match[0]

    def _quoted(self) -> bytes:
        self._expect(b'"')
        text = b""
        while self._peek() != b'"':
            if self._peek() == b"\\":
                self._at += 1
            text += self._take()
        self._expect(b'"')
        return text

    def _white(self) -> None:
        while self._peek() in (b" ", b"\t"):
            self._at += 1

    def _peek(self) -> bytes:
        return self._text[self._at : self._at + 1]

    def _take(self) -> bytes:
        letter = self._peek()
        assert letter, f"{self._text!r} ends too early"
        self._at += 1
        return letter

    def _expect(self, letter: bytes) -> None:
        assert self._take() == letter


PEERS = st.ip_addresses().map(lambda address: str(address).encode()) | st.sampled_from([b"", b"fe80::1%eth0"])
HOST_NAMES = (
    st.text("abc019-._~!$&'()*+;=:[]", max_size=12)
    .map(str.encode)
    .filter(lambda host: not host or validHost(host))
)
THERE = st.lists(
    st.lists(
        st.sampled_from([b"for", b"=", b'"', b"\\", b";", b",", b" ", b"1.1.1.1", b"[::1]", b"proto=http"])
    ).map(b"".join),
    max_size=3,
)


@settings(deadline=None, max_examples=300)
@given(THERE, PEERS, HOST_NAMES, st.sampled_from([b"http", b"https"]))
@example([b'for="'], b"192.0.2.1", b"a", b"http")
@example([b'for="a, b";by=c, for=d', b"for=e"], b"192.0.2.1", b"a", b"http")
def test_setForwarded(there: list[bytes], peer: bytes, host: bytes, scheme: bytes) -> None:
    """B2.4: whatever a trusted peer sends, what goes out is an RFC 7239 list, our element the last."""
    headers = Headers.of([("A", b"1"), *(("Forwarded", value) for value in there)])
    setForwarded(headers, peer, host, scheme)
    [value] = headers.getAll("forwarded")
    told = Reader(value).elements()[-1]
    node = peer.partition(b"%")[0]
    expected = [(b"for", b"[%b]" % node if b":" in node else node or b"unknown"), (b"proto", scheme)]
    if host:
        expected.append((b"host", host))
    assert sorted(told) == sorted(expected)
    assert headers.get("A") == b"1"


def test_setForwardedAppends() -> None:
    """B2.4: what a trusted peer said stays as it was written; what nobody could read does not."""
    headers = Headers(
        [b"forwarded: for=1.1.1.1", b'Forwarded:For="[::1]:80";by=_x , for=_y', b'Forwarded: for="']
    )
    setForwarded(headers, b"192.0.2.1", b"", b"http")
    assert headers.lines == [
        b'Forwarded: for=1.1.1.1, For="[::1]:80";by=_x , for=_y, for=192.0.2.1;proto=http'
    ]
