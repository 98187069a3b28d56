"""
The table of known fields says what the behaviours promise.
"""

from __future__ import annotations

import itertools

import pytest

from twistproxy.headers import TOKEN
from twistproxy.rules import fields
from twistproxy.rules.fields import FORWARDING, KNOWN, NOT_IN_TRAILERS, UNSTRIPPABLE

HOP_BY_HOP = [
    b"connection", b"proxy-connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings",
]  # fmt: skip

CLAIMS = [
    b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port",
    b"x-forwarded-prefix", b"x-real-ip",
]  # fmt: skip


def spellings(name: bytes) -> list[bytes]:
    """
    @return: every way to write a name that a CGI server reads alike, itself first.
    """
    parts = name.split(b"-")
    ways = itertools.product(b"-_", repeat=len(parts) - 1)
    return [
        parts[0] + b"".join(bytes([dash]) + part for dash, part in zip(way, parts[1:], strict=True))
        for way in ways
    ]


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hopByHop(name: bytes) -> None:
    """B2.2: what belongs to one connection is not among the lines that may be forwarded."""
    assert KNOWN[name][1] is False


@pytest.mark.parametrize("name", [spelling for claim in CLAIMS for spelling in spellings(claim)])
def test_claims(name: bytes) -> None:
    """B2.4: neither is what a client claims of itself, with any of its dashes written as underscores."""
    assert KNOWN[name] == (FORWARDING, False)


@pytest.mark.parametrize("name", spellings(b"x-request-id"))
def test_requestID(name: bytes) -> None:
    """B2.9: nor an id of the client's making, which a CGI server could take for the minted one."""
    assert KNOWN[name][1] is False


@pytest.mark.parametrize("name", [b"host", b"content-length"])
def test_written(name: bytes) -> None:
    """B1.1: what says where a message goes and how long it is, is always written and never copied."""
    assert KNOWN[name][1] is False


@pytest.mark.parametrize("name", [b"via", b"cdn-loop", b"expect", b"user-agent", b"referer", b"date"])
def test_lookedAtAndKept(name: bytes) -> None:
    """B2.8: what the proxy only looks at is forwarded as it came, in its place."""
    kind, kept = KNOWN[name]
    assert kind
    assert kept is True


@pytest.mark.parametrize(
    "name", [b"authorization", b"cookie", b"set-cookie", b"accept", b"x-forwarded", b"x_a"]
)
def test_unknown(name: bytes) -> None:
    """B2.8: every other field is none of the proxy's business."""
    assert name not in KNOWN


def test_names() -> None:
    """Tables are asked in lower case, so they are written so, and each entry is a name."""
    for name in itertools.chain(KNOWN, UNSTRIPPABLE, NOT_IN_TRAILERS):
        assert name == name.lower()
        assert TOKEN.fullmatch(name)


def test_everyRowHasItsReason() -> None:
    """Who wonders why a field is in the table finds out there; no field is in it twice."""
    names = [name for name, _, _, reason in fields._TABLE if reason]
    assert len(names) == len(fields._TABLE)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", [b"host", b"content-length", b"transfer-encoding", *CLAIMS])
def test_unstrippable(name: bytes) -> None:
    """B2.2: nobody can name away where a message goes, how long it is, or whom it came from."""
    assert name in UNSTRIPPABLE


@pytest.mark.parametrize(
    "name",
    [
        *HOP_BY_HOP, *CLAIMS,
        b"host", b"content-length", b"content-encoding", b"content-type", b"content-range",
        b"authorization", b"www-authenticate", b"cookie", b"set-cookie",
        b"cache-control", b"max-forwards", b"range", b"expect", b"if-match", b"if-none-match",
        b"x_forwarded_for", b"x-request-id", b"via",
    ],
)  # fmt: skip
def test_notInTrailers(name: bytes) -> None:
    """B4.6: framing, routing and authentication do not come in behind a body, RFC 9110 6.5.1."""
    assert name in NOT_IN_TRAILERS


@pytest.mark.parametrize(
    "name", [b"grpc-status", b"grpc-message", b"server-timing", b"etag", b"x-checksum", b"digest"]
)
def test_inTrailers(name: bytes) -> None:
    """B4.6: what trailers are used for passes."""
    assert name not in NOT_IN_TRAILERS
