"""
Responders that wait, behind whatever may stand before a responder: they are waited for as if nothing did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import eventAsText
from twisted.web.resource import Resource
from twisted.web.util import DeferredResource
from zope.interface import implementer

from tests.web.trees import Leaf
from twistproxy import Explained, Response, Router, Timeouts
from twistproxy.interfaces import IResponder
from twistproxy.testing import MemoryProxy
from twistproxy.web.resource import ReverseProxyResource

#: Where every wrapping serves its responder.
PATH = "/a/b"


@implementer(IResponder)
class Waiting:
    """
    Waits for C{gate}, and then does what it was made for.

    @ivar gate: fires when the test says so.
    @ivar cancelled: how often the wait was cancelled.
    """

    def __init__(self, then: Callable[[Any], None]) -> None:
        self.gate: Deferred[None] = Deferred()
        self.cancelled = 0
        self._then = then

    async def respond(self, exchange: Any) -> None:
        """Wait, then go on."""
        try:
            await self.gate
        except CancelledError:
            self.cancelled += 1
            raise
        self._then(exchange)


class Dynamic(Resource):
    """Looks its children up."""

    def __init__(self, child: Any) -> None:
        super().__init__()
        self.child = child

    def getChild(self, path: bytes, request: Any) -> Any:
        """The child, whatever the name."""
        return self.child


class Deferring(Dynamic):
    """
    Looks them up elsewhere.

    @ivar found: fires when a child was found.
    """

    def __init__(self, child: Any, found: Deferred[None] | None = None) -> None:
        super().__init__(child)
        self.found = found or succeed(None)

    def getChild(self, path: bytes, request: Any) -> Any:
        """What stands for the child until it is found."""
        return DeferredResource(self.found.addCallback(lambda _: self.child))


def mounted(responder: Any) -> Any:
    """@return: a resource that gives its exchanges to C{responder}."""
    return ReverseProxyResource(responder, lambda: 0.0)


def below(child: Any) -> Any:
    """@return: a root that has C{child} at C{/a}, and that is found without asking anybody."""
    root = Resource()
    root.putChild(b"a", child)
    return root


class Lazily:
    """
    A responder that returns what another one returned, as a Deferred.
    """

    def __init__(self, responder: Any) -> None:
        self._responder = responder

    def __call__(self, exchange: Any) -> Any:
        """Begin."""
        return Deferred.fromCoroutine(self._responder.respond(exchange))


WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda responder: responder,
    "a Deferred": Lazily,
    "explained": Explained,
    "explained Deferred": lambda responder: Explained(Lazily(responder)),
    "branch": lambda responder: Router().add(responder, path="/a"),
    "stripped branch": lambda responder: Router().add(responder, path="/a", stripPrefix=True),
    "resource": mounted,
    "deep resource": lambda responder: below(mounted(responder)),
    "resource of a Deferred": lambda responder: below(mounted(Lazily(responder))),
    "dynamic resource": lambda responder: Dynamic(mounted(responder)),
    "deferred resource": lambda responder: Deferring(mounted(responder)),
    "rendered resource": lambda responder: below(Leaf(lambda request: mounted(responder).render(request))),
    "several": lambda responder: Dynamic(mounted(Explained(Router().add(responder)))),
}

wrapped = pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)


def said(events: list[Any]) -> str:
    """@return: what was logged, and is now expected."""
    text = "\n".join(eventAsText(event, includeTimestamp=False) for event in events)
    events.clear()
    return text


def forget(exchange: Any) -> None:
    """Do not answer."""


def fail(exchange: Any) -> None:
    """Have a bug."""
    raise ValueError("a bug")


def answer(exchange: Any) -> None:
    """Answer."""
    exchange.answer(Response(200, body=b"late"))


def play(proxy: MemoryProxy, responder: Waiting, later: bool) -> Any:
    """@return: the client of one request, whose responder goes on before or behind what it waits for."""
    if not later:
        responder.gate.callback(None)
    client = proxy.client()
    client.request(target=PATH)
    if later:
        assert client.responses == []
        responder.gate.callback(None)
        proxy.run()
    return client


@wrapped
def test_answers(wrap: Callable[[Any], Any]) -> None:
    """B3.1: the client gets what the responder answers in the end, and the connection goes on."""
    responder = Waiting(answer)
    with MemoryProxy(responder=wrap(responder)) as proxy:
        client = proxy.client()
        assert client.request(target=PATH) is None
        responder.gate.callback(None)
        proxy.run()
        assert client.response.body == b"late"
        responder.gate = Deferred()
        client.request(target=PATH)
        responder.gate.callback(None)
        proxy.run()
        assert [response.body for response in client.responses] == [b"late", b"late"]


@pytest.mark.parametrize("later", [False, True])
@wrapped
def test_endsWithoutAnswer(wrap: Callable[[Any], Any], later: bool, loggedErrors: list[Any]) -> None:
    """B7.4: one that ends without an answer is noticed, and the client gets a 500."""
    responder = Waiting(forget)
    with MemoryProxy(responder=wrap(responder)) as proxy:
        client = play(proxy, responder, later)
        assert client.response.status == 500
        assert [record.status for record in proxy.records] == [500]
    assert "has not answered it" in said(loggedErrors)


@pytest.mark.parametrize("later", [False, True])
@wrapped
def test_fails(wrap: Callable[[Any], Any], later: bool, loggedErrors: list[Any]) -> None:
    """B7.4: one that fails is told of in the log, once, and the client gets a 500."""
    responder = Waiting(fail)
    with MemoryProxy(responder=wrap(responder)) as proxy:
        client = play(proxy, responder, later)
        assert client.response.status == 500
    assert said(loggedErrors).count("ValueError: a bug") == 1


@wrapped
def test_clientLeaves(wrap: Callable[[Any], Any]) -> None:
    """B7.1: one that waits is cancelled, once, when its client leaves; that is nobody's fault."""
    responder = Waiting(answer)
    with MemoryProxy(responder=wrap(responder)) as proxy:
        client = proxy.client()
        client.request(target=PATH)
        client.connection.sendReset()
        assert responder.cancelled == 1
        assert [record.status for record in proxy.records] == [499]


@pytest.mark.parametrize("then", [forget, fail, None])
def test_foundLate(then: Callable[[Any], None] | None, loggedErrors: list[Any]) -> None:
    """B7.1, B7.4: all of that also behind a look-up that had to be waited for itself."""
    found: Deferred[None] = Deferred()
    responder = Waiting(then or answer)
    with MemoryProxy(responder=Deferring(mounted(responder), found)) as proxy:
        client = proxy.client()
        client.request(target=PATH)
        found.callback(None)
        proxy.run()
        assert proxy.records == []
        if then is None:
            client.connection.sendReset()
        else:
            responder.gate.callback(None)
            proxy.run()
        assert responder.cancelled == (then is None)
        assert [record.status for record in proxy.records] == [499 if then is None else 500]
    assert ("Waiting.respond" in said(loggedErrors)) is (then is not None)


@wrapped
def test_timesOut(wrap: Callable[[Any], Any]) -> None:
    """B9: one that waits is cancelled, once, when its time is up, and the client is told so."""
    responder = Waiting(answer)
    with MemoryProxy(responder=wrap(responder), timeouts=Timeouts(exchange=1.0)) as proxy:
        client = proxy.client()
        client.request(target=PATH)
        proxy.advance(1.5)
        assert responder.cancelled == 1
        assert client.response.status == 504


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        ("explained", "Waiting.respond"),
        ("explained Deferred", "Explained.respond"),
        ("stripped branch", "Waiting.respond"),
        ("dynamic resource", "Waiting.respond"),
        ("several", "Waiting.respond"),
    ],
)
def test_named(wrap: str, name: str, loggedErrors: list[Any]) -> None:
    """B7.4: the log names a coroutine by its own name; of a Deferred it is only known where it came out."""
    responder = Waiting(forget)
    responder.gate.callback(None)
    with MemoryProxy(responder=WRAPPINGS[wrap](responder)) as proxy:
        proxy.client().request(target=PATH)
    assert f"the responder {name} is done with <Exchange b'GET'" in said(loggedErrors)


def test_raises(loggedErrors: list[Any]) -> None:
    """B7.4: what fails at once behind a look-up is named by the resource that it was found at."""
    with MemoryProxy(responder=Dynamic(mounted(fail))) as proxy:
        assert proxy.client().request(target=PATH).status == 500
    assert "the responder ReverseProxyResource.enter failed on <Exchange b'GET'" in said(loggedErrors)
