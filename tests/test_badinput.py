"""
Hooks and responders that do not do what their interface says: each is named in the log, its exchange ends, and nothing
is left of it.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import eventAsText
from twisted.web.server import Site
from zope.interface import implementer

from tests.support.flow import Body
from twistproxy import Response, ReverseProxy, Timeouts
from twistproxy.interfaces import (
    IResponder,
)
from twistproxy.testing import MemoryClient, MemoryNetwork, MemoryProxy
from twistproxy.web.resource import ReverseProxyResource

Logged = list[Any]


def said(events: Logged) -> str:
    """@return: what was logged, and is now expected."""
    text = "\n".join(eventAsText(event, includeTimestamp=False) for event in events)
    events.clear()
    return text


# -- responders


def test_neverAnswers(loggedErrors: Logged) -> None:
    """B9: an exchange whose responder never answers ends with its limit, and the client is told."""

    def silent(exchange: Any) -> None:
        pass

    with MemoryProxy(responder=silent, timeouts=Timeouts(exchange=5.0)) as proxy:
        client = proxy.client()
        assert client.request() is None
        proxy.advance(4.9)
        assert client.responses == []
        proxy.advance(0.5)
        assert client.response.status == 504
        assert proxy.records[0].error.timeout == "exchange"
        assert proxy.timers[0].limit == "keepAlive"


def test_neverAnswersAtAll() -> None:
    """B7.1: without a limit it is the client that ends it."""
    with MemoryProxy(responder=lambda exchange: None) as proxy:
        client = proxy.client()
        client.request()
        client.connection.sendReset()
        assert [record.status for record in proxy.records] == [499]


@pytest.mark.parametrize("later", [False, True])
def test_returnsWithoutAnswer(later: bool, loggedErrors: Logged) -> None:
    """B7.4: a responder whose coroutine ends without an answer is named; the client gets a 500."""
    gate: Deferred[None] = Deferred()

    async def forgetful(exchange: Any) -> None:
        if later:
            await gate

    with MemoryProxy(responder=forgetful) as proxy:
        client = proxy.client()
        client.request()
        gate.callback(None)
        proxy.run()
        assert client.response.status == 500
    assert "forgetful is done with <Exchange b'GET' b'/' settled>, and has not answered it" in said(loggedErrors)


@pytest.mark.parametrize("later", [False, True])
def test_coroutineFails(later: bool, loggedErrors: Logged) -> None:
    """B7.4: one whose coroutine fails is named, and the next request of the connection is served."""
    gate: Deferred[None] = Deferred()

    async def broken(exchange: Any) -> None:
        if exchange.request.path == b"/good":
            exchange.answer(Response(204))
            return
        if later:
            await gate
        raise ValueError("a bug")

    with MemoryProxy(responder=broken) as proxy:
        client = proxy.client()
        client.request()
        gate.callback(None)
        proxy.run()
        assert client.response.status == 500
        assert client.request(target="/good").status == 204
    text = said(loggedErrors)
    assert "broken failed on" in text
    assert "ValueError: a bug" in text


def test_coroutineForwards() -> None:
    """B3.1: a responder may be a coroutine, which waits and then gives the exchange to a proxy."""
    network = MemoryNetwork()
    gate: Deferred[None] = Deferred()
    inner = ReverseProxy.to("http://origin.test", reactor=network)

    async def asking(exchange: Any) -> None:
        await gate
        inner.respond(exchange)

    with MemoryProxy(network=network, responder=asking) as proxy:
        proxy.addUpstream()
        client = proxy.client()
        client.request(target="/x")
        gate.callback(None)
        proxy.run()
        assert client.response.body == b"GET /x"


def test_coroutineGoesOn() -> None:
    """B3.1: one that goes on when a proxy has the exchange is not waited for in the place of the proxy's director."""
    network = MemoryNetwork()
    directing: Deferred[None] = Deferred()
    afterwards: Deferred[None] = Deferred()

    async def direct(request: Any) -> None:
        await directing
        request.setTarget("http://origin.test")

    inner = ReverseProxy(direct, reactor=network)

    async def busy(exchange: Any) -> None:
        inner.respond(exchange)
        await afterwards

    with MemoryProxy(network=network, responder=busy) as proxy:
        proxy.addUpstream()
        client = proxy.client()
        client.request(target="/x")
        directing.callback(None)
        proxy.run()
        assert client.response.body == b"GET /x"
        afterwards.callback(None)


@pytest.mark.parametrize("cleaning", [False, True])
def test_coroutineAndClientLeaves(cleaning: bool, loggedErrors: Logged) -> None:
    """B7.1: it is cancelled when the client leaves; only what fails then is logged."""
    seen: list[str] = []

    async def waiting(exchange: Any) -> None:
        try:
            await Deferred()
        except CancelledError:
            seen.append("cancelled")
            if cleaning:
                raise ValueError("in the cleaning") from None
            raise

    with MemoryProxy(responder=waiting) as proxy:
        client = proxy.client()
        client.request()
        client.connection.sendReset()
        assert seen == ["cancelled"]
        assert [record.status for record in proxy.records] == [499]
    assert ("waiting failed on" in said(loggedErrors)) is cleaning


def test_coroutineTimesOut() -> None:
    """B9: it is cancelled when its time is up, and the client is told so."""

    async def waiting(exchange: Any) -> None:
        await Deferred()

    with MemoryProxy(responder=waiting, timeouts=Timeouts(exchange=1.0)) as proxy:
        client = proxy.client()
        client.request()
        proxy.advance(1.5)
        assert client.response.status == 504


@implementer(IResponder)
class Twice:
    """Answers twice."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    def respond(self, exchange: Any) -> None:
        for answer in self.answers:
            exchange.answer(answer)


def test_answersTwice(loggedErrors: Logged) -> None:
    """B3.6: the first answer counts; the second is dropped, its body stopped, and the responder named."""
    second = Body()
    with MemoryProxy(responder=Twice(Response(200, body=b"first"), Response(200, body=second))) as proxy:
        client = proxy.client()
        assert client.request().body == b"first"
        assert client.request().body == b"first"
        assert [record.status for record in proxy.records] == [200, 200]
    assert second.told == ["stop", "stop"]
    assert "Twice.respond answers <Exchange b'GET' b'/' settled>, which is answered already, with <Response" in said(
        loggedErrors
    )


def test_answersTwiceWhileStreaming(loggedErrors: Logged) -> None:
    """B3.6: also while the first is on its way, which is no worse for it."""
    first = Body()
    with MemoryProxy(responder=Twice(Response(200, body=first), Response(200, body=b"second"))) as proxy:
        client = proxy.client()
        client.request()
        first.consumer.write(b"all of ")
        first.consumer.write(b"it")
        first.consumer.unregisterProducer()
        first.consumer.finish([])
        proxy.run()
        assert client.response.body == b"all of it"
        assert client.response.complete
    assert "Twice.respond answers" in said(loggedErrors)


@pytest.mark.parametrize("after", ["answer", "respond"])
def test_forwardsAndAnswers(after: str, loggedErrors: Logged) -> None:
    """B3.6: neither can what a proxy carries be answered, nor can it be carried twice."""
    network = MemoryNetwork()
    inner = ReverseProxy.to("http://origin.test", reactor=network)

    def both(exchange: Any) -> None:
        inner.respond(exchange)
        if after == "answer":
            exchange.answer(Response(200, body=b"mine"))
        else:
            inner.respond(exchange)

    with MemoryProxy(network=network, responder=both) as proxy:
        upstream = proxy.addUpstream()
        assert proxy.client().request().body == b"GET /"
        assert len(upstream.requests) == 1
    assert "both" in said(loggedErrors)


@pytest.mark.parametrize("how", ["answer", "respond"])
def test_afterTheClientLeft(how: str) -> None:
    """B7.1: what comes after the client left does no harm, leaves nothing, and is nobody's fault."""
    network = MemoryNetwork()
    inner = ReverseProxy.to("http://origin.test", reactor=network, timeouts=Timeouts(exchange=9.0))
    kept: list[Any] = []
    body = Body()
    with MemoryProxy(network=network, responder=kept.append) as proxy:
        upstream = proxy.addUpstream()
        client = proxy.client()
        client.request()
        client.connection.sendReset()
        if how == "answer":
            kept[0].answer(Response(200, body=body))
            kept[0].write(b"more")
            kept[0].finish([])
            assert body.told == ["stop"]
        else:
            inner.respond(kept[0])
            proxy.run()
            assert upstream.requests == []
        assert proxy.timers == []


def test_writesAfterTheClientLeft() -> None:
    """B7.1: a body is stopped when its client leaves, and what it writes all the same goes nowhere."""
    body = Body()
    with MemoryProxy(responder=Twice(Response(200, body=body))) as proxy:
        client = proxy.client()
        client.request()
        body.consumer.write(b"a")
        client.connection.sendReset()
        assert body.told[-1] == "stop"
        body.consumer.write(b"b")
        body.consumer.finish([])
        body.consumer.fail(ValueError("late"))
        assert proxy.records[0].responseBytes == 1


class NoBody:
    """Nothing that could be sent."""


@pytest.mark.parametrize("answer", ["text", None, 200, Response(200, body=NoBody()), {}, Response(102)])
def test_answersNonsense(answer: Any, loggedErrors: Logged) -> None:
    """B7.4: what is no response, or no final one, is not sent: 500, and the responder is named."""
    with MemoryProxy(responder=Twice(answer)) as proxy:
        assert proxy.client().request().status == 500
    assert "the responder Twice.respond answers <Exchange b'GET' b'/' settled> with nonsense" in said(loggedErrors)


def test_answersNonsenseLater(loggedErrors: Logged) -> None:
    """B7.4: the same when it answers outside of any call of ours."""
    kept: list[Any] = []
    with MemoryProxy(responder=kept.append) as proxy:
        client = proxy.client()
        client.request()
        kept[0].answer("text")
        proxy.run()
        assert client.response.status == 500
    assert "append answers" in said(loggedErrors)


def test_raises(loggedErrors: Logged) -> None:
    """B7.4: a responder that raises is named."""

    def broken(exchange: Any) -> None:
        raise ValueError("a bug")

    with MemoryProxy(responder=broken) as proxy:
        assert proxy.client().request().status == 500
    assert "the responder test_raises.<locals>.broken failed on" in said(loggedErrors)


def test_closedResource() -> None:
    """B10.2: a resource that is cut off ends also those exchanges that its responder has not answered yet."""
    network = MemoryNetwork()
    resource = ReverseProxyResource(lambda exchange: None, network.clock.seconds)
    client = MemoryClient(network.connect(Site(resource, reactor=network.clock)))
    client.request()
    closed = resource.close(cut=True)
    network.run()
    assert client.response.status == 503
    assert closed.called
    network.end()
