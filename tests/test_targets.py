"""
What users write as targets, and what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.task import Clock
from twisted.web.server import Site

from tests.upstream.conftest import Page
from twistproxy import ProxySite, ReverseProxy, ReverseProxyResource, Router, Target, TargetDirector
from twistproxy.rules.target import parseTarget
from twistproxy.targets import EndpointTarget, targetOf


def test_targetsAreKept() -> None:
    """A target is given back as it is."""
    target = Target("http", "app", 80)
    assert targetOf(target) is target


@pytest.mark.parametrize("text", ["localhost:8081", "unix:/run/app.sock:/base", "https://example.org/x", ":8081"])
def test_addresses(text: str) -> None:
    """B8.5: addresses mean what they have always meant, C{unix:} among them."""
    assert targetOf(text) == parseTarget(text)


@pytest.mark.parametrize(
    ("description", "scheme", "authority"),
    [
        ("tcp:host=127.0.0.1:port=8081", "http", b"127.0.0.1:8081"),
        ("tcp:example.org:80", "http", b"example.org"),
        (r"tcp:host=\:\:1:port=8081", "http", b"[::1]:8081"),
        ("tcp:example.org:port=81:timeout=3", "http", b"example.org:81"),
        ("unix:/run/app.sock", "http", b"localhost"),
        ("unix:path=/run/app.sock", "http", b"localhost"),
    ],
)
def test_endpointStrings(description: str, scheme: str, authority: bytes) -> None:
    """B8.5: C{endpoint:} and any description of a client endpoint; Host is what it leads to, where that shows."""
    text = f"endpoint:{description}"
    target = targetOf(text, Clock())
    assert isinstance(target, EndpointTarget)
    assert type(target.endpoint) is (UNIXClientEndpoint if description[:1] == "u" else TCP4ClientEndpoint)
    assert (target.scheme, target.authority, target.name) == (scheme, authority, text)


def test_endpointWithTLS(warmReactor: Any) -> None:
    """An endpoint that speaks TLS leads to C{https}, whose port goes without saying."""
    target = targetOf("endpoint:tls:example.org:443", warmReactor)
    assert (target.scheme, target.authority) == ("https", b"example.org")


def test_names() -> None:
    """A name is one word of visible characters, whatever the description has in it: it stands in the access log."""
    assert targetOf('endpoint:unix:/run/my "app"\n.sock', Clock()).name == "endpoint:unix:/run/my%20%22app%22%0A.sock"


def test_endpointObjects() -> None:
    """An endpoint is a target of its own."""
    endpoint = UNIXClientEndpoint(Clock(), "/run/app.sock")
    target = targetOf(endpoint)
    assert isinstance(target, EndpointTarget)
    assert (target.endpoint, target.name) == (endpoint, "endpoint:UNIXClientEndpoint")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("endpoint:", "Unknown endpoint type: ''"),
        ("endpoint:nope:x", "Unknown endpoint type: 'nope'"),
        ("endpoint:tcp:localhost", "malformed"),
        ("endpoint:tcp:localhost:http", "invalid literal"),
        ("endpoint:tcp:host=a:port=1:colour=red", "malformed"),
        ("endpoint:8081", "ambiguous; write http://endpoint:8081"),
        ("exec:8081/base", "ambiguous; write http://exec:8081/base"),
    ],
)
def test_badStrings(text: str, reason: str) -> None:
    """What is wrong is said in one line that says what to write."""
    with pytest.raises(ValueError, match="write ") as caught:
        targetOf(text, Clock())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_notForEveryRequest() -> None:
    """A director cannot have an endpoint made anew for every request: it is told how to make it once."""
    with pytest.raises(ValueError, match="targetOf"):
        parseTarget("endpoint:tcp:host=127.0.0.1:port=8081")
    with pytest.raises(TypeError, match="targetOf"):
        parseTarget(Page(b""))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, 8081, object()])
def test_noTarget(given: Any) -> None:
    """What is no target is refused at once."""
    with pytest.raises(TypeError, match="is no target"):
        targetOf(given)


@pytest.fixture
def page(warmReactor: Any) -> Iterator[str]:
    """The description of an endpoint behind which there is a page."""
    site = Site(Page(b"the page"), reactor=warmReactor)
    site.noisy = False  # type: ignore[attr-defined]
    port = warmReactor.listenTCP(0, site, interface="127.0.0.1")
    yield f"endpoint:tcp:host=127.0.0.1:port={port.getHost().port}"
    pytest_twisted.blockon(maybeDeferred(port.stopListening))


def routed(text: str) -> Any:
    """A router with one branch."""
    return Router().add(text)


def directed(text: str) -> Any:
    """A director that has made its target once."""
    target = targetOf(text)
    return ReverseProxy(lambda request: request.setTarget(target))


def mounted(text: str) -> Any:
    """A resource in a site of its own."""
    return ReverseProxyResource.to(text)


WAYS: list[Callable[[str], Any]] = [
    ReverseProxy.to,
    lambda text: ReverseProxy(TargetDirector([text, text])),
    routed,
    directed,
    mounted,
]


@pytest.mark.parametrize("way", WAYS, ids=["to", "TargetDirector", "Router", "setTarget", "Resource"])
@pytest_twisted.ensureDeferred
async def test_everyWay(warmReactor: Any, page: str, way: Callable[[str], Any]) -> None:
    """Wherever a target is named, an endpoint can be: for a proxy, a director, a branch and a resource."""
    import treq

    proxy = way(page)
    site = Site(proxy, reactor=warmReactor) if isinstance(proxy, ReverseProxyResource) else ProxySite(proxy)
    site.noisy = False
    port = warmReactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        response = await treq.get(f"http://127.0.0.1:{port.getHost().port}/", persistent=False)
        assert await response.content() == b"the page"
    finally:
        await maybeDeferred(port.stopListening)
        closing = proxy.close()
        if isinstance(closing, Deferred):
            await closing
