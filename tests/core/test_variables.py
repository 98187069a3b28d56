"""
One context per exchange, in which all of its hooks run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.core.test_pump import Upper
from tests.support.flow import Bench, Body, Downstream, request, upstreamResponse
from twistproxy.core.exchange import ExchangeContext
from twistproxy.directors import TargetDirector
from twistproxy.errors import Refused
from twistproxy.message import Response

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
target = TargetDirector("http://origin.test")


def answering(outbound: Any, receiver: Any) -> None:
    """A transport's script."""
    receiver.responseReceived(upstreamResponse())


class Seen(list[Any]):
    """Notes the tenant in each hook."""

    def sync(self, name: str) -> Any:
        """@return: a hook that answers at once."""
        return lambda *arguments: self.append((name, tenant.get()))

    def consuming(self, consumer: Any, message: Any) -> Any:
        """A filter that is a consumer."""
        seen = self

        class Noting(Upper):
            def write(self, data: bytes) -> None:
                seen.append(("write", tenant.get()))
                super().write(data)

        return Noting(consumer, message)

    async def generating(self, chunks: AsyncIterator[bytes], message: Any) -> AsyncIterator[bytes]:
        """A filter that is a generator."""
        async for chunk in chunks:
            self.append(("chunk", tenant.get()))
            yield chunk


def syncDirector(request: Any) -> None:
    """Sets the tenant from the path, at once."""
    tenant.set(request.inbound.target.decode())
    target.direct(request)


async def asyncDirector(request: Any) -> None:
    """Sets it in a coroutine."""
    await succeed(None)
    syncDirector(request)


@pytest.mark.parametrize("director", [syncDirector, asyncDirector])
def test_everyHook(director: Any) -> None:
    """What a director sets, at once or in a coroutine, is there in every later hook, and not outside."""
    seen = Seen()
    bench = Bench(
        answering, director, modifyResponse=seen.sync("modify"), responseFilters=[seen.consuming, seen.generating]
    )
    bench.context = ExchangeContext(bench.flow.respond, bench.clock.seconds, [seen.sync("observer")])
    bench.start(request(b"GET /a HTTP/1.1\r\nHost: x"))
    # the first filter adds a piece of its own
    assert seen == [("modify", "/a"), ("write", "/a"), ("chunk", "/a"), ("chunk", "/a"), ("observer", "/a")]
    assert tenant.get() == "nobody"


def test_errorHandler() -> None:
    """The error handler knows it too."""

    def refusing(request: Any) -> None:
        tenant.set("known")
        raise Refused(403)

    bench = Bench(answering, refusing, errorHandler=lambda error, exchange: Response(403, body=tenant.get()))
    bench.start()
    assert bench.downstream.told[0] == ("head", 403, 5, b"known", True)


def test_laterStepsOfACoroutine() -> None:
    """B7: a coroutine that is resumed from somewhere else goes on in its own context, and what it sets then is kept."""
    waits: list[Deferred[None]] = []
    seen: list[str] = []

    async def waiting(request: Any) -> None:
        tenant.set(request.inbound.target.decode())
        waits.append(Deferred())
        await waits[-1]
        tenant.set(tenant.get() + "+")
        target.direct(request)

    bench = Bench(answering, waiting, modifyResponse=lambda response: seen.append(tenant.get()))
    bench.start(request(b"GET /a HTTP/1.1\r\nHost: x"))
    bench.downstream = Downstream()
    bench.start(request(b"GET /b HTTP/1.1\r\nHost: x"))
    token = tenant.set("somewhere else")
    try:
        for wait in reversed(waits):
            wait.callback(None)
    finally:
        tenant.reset(token)
    assert seen == ["/b+", "/a+"]


def test_notInherited() -> None:
    """An exchange that begins while a hook of another one runs does not begin with what that one has set."""
    seen: list[str] = []

    def director(request: Any) -> None:
        seen.append(tenant.get())
        tenant.set("first")
        target.direct(request)

    bench = Bench(answering, director)

    def nested(request: Any) -> None:
        director(request)
        if len(seen) == 1:
            second = Downstream()
            bench.context.begin(second, request.inbound).start()
            assert second.told[0][1] == 200

    bench.flow.useDirector(nested)
    bench.start()
    assert seen == ["nobody", "nobody"]


def test_ofTheSite() -> None:
    """What was set when the site was made is there in its exchanges."""
    seen: list[str] = []
    token = tenant.set("site")
    try:
        bench = Bench(answering, modifyResponse=lambda response: seen.append(tenant.get()))
    finally:
        tenant.reset(token)
    bench.start()
    assert seen == ["site"]


@pytest.mark.parametrize("waits", [False, True])
def test_transport(waits: bool) -> None:
    """A transport of the user's runs in it as well."""
    seen: list[str] = []

    def roundTrip(outbound: Any) -> Any:
        seen.append(tenant.get())
        return succeed(upstreamResponse())

    async def waiting(outbound: Any) -> Any:
        await succeed(None)
        return await roundTrip(outbound)

    bench = Bench(director=syncDirector, transport=waiting if waits else roundTrip)
    bench.start(request(b"GET /a HTTP/1.1\r\nHost: x"))
    assert (seen, bench.downstream.told[0][:2]) == (["/a"], ("head", 200))


def test_hookLeadsToHook() -> None:
    """A filter that writes the end of a body leads to the observers: the same context, entered once."""
    seen = Seen()
    source = Body()
    bench = Bench(
        lambda outbound, receiver: receiver.responseReceived(upstreamResponse(body=source)),
        syncDirector,
        responseFilters=[seen.generating],
    )
    bench.context = ExchangeContext(bench.flow.respond, bench.clock.seconds, [seen.sync("observer")])
    bench.start(request(b"GET /a HTTP/1.1\r\nHost: x"))
    source.consumer.write(b"a")
    source.consumer.finish([])
    assert seen == [("chunk", "/a"), ("observer", "/a")]


def test_derivedDirector() -> None:
    """The ready-made director needs no context; one that is derived from it may set variables, which stay in its exchange."""

    class Tenants(TargetDirector):
        def direct(self, request: Any) -> None:
            tenant.set(request.inbound.target.decode())
            super().direct(request)

    seen = Seen()
    bench = Bench(answering, director=Tenants("http://origin.test"), modifyResponse=seen.sync("modify"))
    bench.start(request(b"GET /one HTTP/1.1\r\nHost: x"))
    assert (seen, tenant.get()) == ([("modify", "/one")], "nobody")
