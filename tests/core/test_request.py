"""
What a director is given, and the moves that most directors make.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.flow import Bench, request
from twistproxy.core.draft import draftOutbound
from twistproxy.core.request import ProxyRequest
from twistproxy.core.settings import ProxySettings
from twistproxy.errors import ClientError
from twistproxy.events import ExchangeRecord
from twistproxy.rules.forwarded import networks
from twistproxy.upstreams import Target

PLAIN = ProxySettings(via=None)


def drafted(head: bytes, settings: ProxySettings = PLAIN, peer: str = "192.0.2.1") -> ProxyRequest:
    """@return: what a director would be given."""
    inbound = request(head, peer=peer)
    record = ExchangeRecord(lambda: 0.0, inbound)
    exchange: Any = None
    return ProxyRequest(inbound, draftOutbound(inbound, settings, record), exchange, bool(settings.trustedProxies))


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    """@return: a request head."""
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: front.test", *lines))


@pytest.mark.parametrize(
    ("target", "asked", "sent"),
    [
        ("http://o.test", b"/a?b", b"/a?b"),
        ("http://o.test/", b"/a", b"/a"),
        ("http://o.test/base", b"/a", b"/base/a"),
        ("http://o.test/base/", b"/a", b"/base/a"),
        ("http://o.test/base", b"/", b"/base/"),
        ("http://o.test/base", b"//a%2Fb", b"/base//a%2Fb"),
        ("http://o.test/base?k=1", b"/a?x=2", b"/base/a?k=1&x=2"),
        ("http://o.test/base?k=1", b"/a", b"/base/a?k=1"),
        ("http://o.test/base", b"/a?", b"/base/a?"),
        ("http://o.test", b"/a?", b"/a?"),
    ],
)
def test_setTarget(target: str, asked: bytes, sent: bytes) -> None:
    """B2.6: paths are joined with exactly one slash, queries with &; nothing is decoded, and a bare ? stays."""
    given = drafted(get(asked))
    given.setTarget(target)
    assert (given.outbound.target, given.outbound.host) == (sent, b"o.test")


@pytest.mark.parametrize("climbing", [b"/../x", b"/a/%2e%2E/../x", b"/..%2fx", b"/.%2e;p/x"])
def test_fence(climbing: bytes) -> None:
    """B2.6: a base path is a fence; what would climb out of it is the client's fault."""
    given = drafted(get(climbing))
    with pytest.raises(ClientError) as caught:
        given.setTarget("http://o.test/base")
    assert caught.value.status == 400


@pytest.mark.parametrize("target", ["http://o.test", "http://o.test/"])
def test_noFence(target: str) -> None:
    """B2.6: without a base path there is nothing to climb out of, and the knob takes the fence down."""
    given = drafted(get(b"/../x"))
    given.setTarget(target)
    assert given.outbound.target == b"/../x"
    given.setTarget("http://o.test/base", fence=False)
    assert given.outbound.target == b"/base/../x"


def test_hostPolicy() -> None:
    """B2.6: the target's Host by default, or the client's if asked for and there is one."""
    given = drafted(get())
    given.setTarget("http://o.test:8081")
    assert given.outbound.host == b"o.test:8081"
    kept = drafted(get())
    kept.setTarget("http://o.test:8081", preserveHost=True)
    assert kept.outbound.host == b"front.test"
    none = drafted(b"GET / HTTP/1.0")
    none.setTarget("http://o.test:8081", preserveHost=True)
    assert none.outbound.host == b"o.test:8081"


def test_targets() -> None:
    """A target may be given ready-made; what is none is a bug of the director's."""
    given = drafted(get())
    target = Target("https", "o.test", 443)
    given.setTarget(target)
    assert given.outbound.upstream is target
    with pytest.raises(ValueError, match="ambiguous"):
        given.setTarget("o.test")


def forwardedFields(given: ProxyRequest) -> list[tuple[bytes, bytes]]:
    """@return: the forwarding fields of a draft."""
    return [item for item in given.outbound.headers.items() if b"orwarded" in item[0]]


def test_setXForwarded() -> None:
    """B2.4: For, Host and Proto say who asked, for what and how; what the client claimed is gone."""
    given = drafted(get(b"/", b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: https"))
    given.setXForwarded()
    assert forwardedFields(given) == [
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Host", b"front.test"),
        (b"X-Forwarded-Proto", b"http"),
    ]


def test_setXForwardedTwice() -> None:
    """B2.4: a director that calls it twice says it twice as often as it should, but breaks nothing else."""
    given = drafted(get())
    given.setXForwarded()
    given.setXForwarded()
    assert forwardedFields(given) == [
        (b"X-Forwarded-For", b"192.0.2.1, 192.0.2.1"),
        (b"X-Forwarded-Host", b"front.test"),
        (b"X-Forwarded-Proto", b"http"),
    ]


def test_setXForwardedBehindEdits() -> None:
    """B2.4: what a director set itself is appended to, or replaced."""
    given = drafted(get())
    given.outbound.headers.set("X-Forwarded-For", "198.51.100.9")
    given.outbound.headers.set("X-Forwarded-Proto", "gopher")
    given.setXForwarded()
    assert forwardedFields(given) == [
        (b"X-Forwarded-For", b"198.51.100.9, 192.0.2.1"),
        (b"X-Forwarded-Host", b"front.test"),
        (b"X-Forwarded-Proto", b"http"),
    ]


def test_setXForwardedTrusted() -> None:
    """B2.4: a trusted peer's word is appended to."""
    settings = ProxySettings(trustedProxies=networks(["192.0.2.0/24"]))
    given = drafted(get(b"/", b"X-Forwarded-For: 198.51.100.9"), settings)
    given.setXForwarded()
    assert given.outbound.headers.getAll("x-forwarded-for") == [b"198.51.100.9, 192.0.2.1"]


@pytest.mark.parametrize("peer", ["192.0.2.1", "203.0.113.1"])
def test_setXForwardedBehindTLS(peer: str) -> None:
    """B2.4: what the client spoke to is known to the trusted peer that it spoke to, and to nobody else."""
    settings = ProxySettings(trustedProxies=networks(["192.0.2.0/24"]))
    given = drafted(get(b"/", b"X-Forwarded-Host: public.test", b"X-Forwarded-Proto: https"), settings, peer=peer)
    given.setXForwarded()
    trusted = peer == "192.0.2.1"
    assert forwardedFields(given) == [
        (b"X-Forwarded-For", peer.encode()),
        (b"X-Forwarded-Host", b"public.test" if trusted else b"front.test"),
        (b"X-Forwarded-Proto", b"https" if trusted else b"http"),
    ]


@pytest.mark.parametrize("edited", [False, True])
def test_zone(edited: bool) -> None:
    """B2.4: the zone of a link-local peer means something on this machine only, and stays here."""
    given = drafted(get(), peer="fe80::1%eth0")
    if edited:
        given.outbound.headers.set("X-Other", "1")
    given.setXForwarded()
    assert given.outbound.headers.get("x-forwarded-for") == b"fe80::1"


def test_unixPeer() -> None:
    """B2.4: a peer behind a UNIX socket has no address to tell."""
    given = drafted(get(), peer="")
    given.setXForwarded()
    assert [name for name, _ in forwardedFields(given)] == [b"X-Forwarded-Host", b"X-Forwarded-Proto"]


def test_withoutHost() -> None:
    """B2.4: nor has an HTTP/1.0 client always a host to ask for."""
    given = drafted(b"GET / HTTP/1.0")
    given.setXForwarded()
    assert [name for name, _ in forwardedFields(given)] == [b"X-Forwarded-For", b"X-Forwarded-Proto"]


def test_setForwarded() -> None:
    """B2.4: RFC 7239, with IPv6 quoted and in brackets."""
    given = drafted(get(b"/", b"Forwarded: for=10.0.0.1"), peer="2001:db8::1")
    given.setForwarded()
    assert forwardedFields(given) == [(b"Forwarded", b'for="[2001:db8::1]";host=front.test;proto=http')]


def test_omitted() -> None:
    """B2.4: setting a field to None leaves it out."""
    given = drafted(get())
    given.setXForwarded()
    given.outbound.headers.set("X-Forwarded-For", None)
    assert [name for name, _ in forwardedFields(given)] == [b"X-Forwarded-Host", b"X-Forwarded-Proto"]


def test_exchange() -> None:
    """A director can tell whose request it has."""
    seen: list[Any] = []

    def director(given: ProxyRequest) -> None:
        seen.append(given.exchange)
        given.setTarget("http://o.test")

    exchange = Bench(director=director).start()
    assert seen == [exchange]
    exchange.clientLeft()


def test_sameStringSameTarget() -> None:
    """A director that names its targets by strings does not make a new target, and so a new key to look up, for each request."""
    targets = []
    for _ in range(2):
        proxied = drafted(get())
        proxied.setTarget("http://origin.example:81/base")
        targets.append(proxied.outbound.upstream)
    assert targets[0] is targets[1]
