"""
A hook's coroutine that an exchange waits for: when its steps run, and what becomes of it when nobody waits any more.
"""

from __future__ import annotations

import asyncio
import gc
from contextvars import copy_context
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from tests.support.flow import Bench, Body, Carrier, request, upstreamResponse
from twistproxy.core.driven import Driven
from twistproxy.directors import TargetDirector
from twistproxy.message import Response

target = TargetDirector("http://origin.test")


class Told(list[Any]):
    """What a coroutine ended with."""

    def ended(self, result: Any) -> None:
        self.append(result.type if isinstance(result, Failure) else result)


def drive(coroutine: Any) -> tuple[Driven, Told]:
    """@return: a coroutine that has begun, and what it ends with."""
    told = Told()
    driven = Driven(coroutine, lambda hook, *arguments: hook(*arguments), copy_context(), told.ended)
    driven.start()
    return driven, told


def test_atOnce() -> None:
    """One that never waits has ended when it has begun."""

    async def hook() -> str:
        return "done"

    assert drive(hook())[1] == ["done"]


@pytest.mark.parametrize("value", [None, 7, "text"])
def test_waits(value: Any) -> None:
    """One that waits gets what it waits for, and ends once."""
    wait: Deferred[Any] = Deferred()

    async def hook() -> Any:
        return (await wait, await succeed("had already"))

    _, told = drive(hook())
    assert told == []
    wait.callback(value)
    assert told == [(value, "had already")]


def test_raises() -> None:
    """What it raises, at once or later, is what it ends with."""
    wait: Deferred[None] = Deferred()

    async def hook(first: Any) -> None:
        if first is not None:
            await first
        raise KeyError("a bug")

    assert drive(hook(None))[1] == [KeyError]
    _, told = drive(hook(wait))
    wait.callback(None)
    assert told == [KeyError]


def test_failures() -> None:
    """A failure of what it waits for is an exception in it, which it may handle; it is not reported as forgotten."""
    wait: Deferred[None] = Deferred()

    async def hook(awaited: Any) -> str:
        try:
            await awaited
        except KeyError as error:
            return f"had {error}"
        return "nothing"

    _, told = drive(hook(wait))
    wait.errback(KeyError("it"))
    assert told == ["had 'it'"]
    assert drive(hook(fail(KeyError("that"))))[1] == ["had 'that'"]
    _, told = drive(hook(awaited := Deferred()))
    awaited.errback(ValueError("other"))
    assert told == [ValueError]
    del wait, awaited
    gc.collect()


def test_manyWaits() -> None:
    """Ten thousand waits that are over already are no recursion."""

    async def hook() -> int:
        return sum([await succeed(1) for _ in range(10_000)])

    assert drive(hook())[1] == [10_000]


def test_cancel() -> None:
    """To cancel it cancels what it waits for; it sees that, and may take its time to finish."""
    seen: list[str] = []
    wait: Deferred[None] = Deferred(lambda deferred: seen.append("cancelled"))
    cleaning: Deferred[None] = Deferred()

    async def hook() -> str:
        try:
            await wait
        except CancelledError:
            await cleaning
            return "cleaned"
        return "never"

    driven, told = drive(hook())
    driven.cancel()
    assert (seen, told) == (["cancelled"], [])
    cleaning.callback(None)
    assert told == ["cleaned"]
    driven.cancel()
    assert told == ["cleaned"]


def test_cancelTwice() -> None:
    """One that waits for something else by then is cancelled there, too."""

    async def hook() -> None:
        try:
            await Deferred()
        finally:
            await Deferred()

    driven, told = drive(hook())
    driven.cancel()
    assert told == []
    driven.cancel()
    assert told == [CancelledError]


def test_strangers() -> None:
    """What is no Deferred, nor waits for one, is told so in the coroutine, and does not hang."""
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()

        async def hook() -> None:
            await future

        assert drive(hook())[1] == [RuntimeError]
    finally:
        loop.close()


def test_clientLeaves() -> None:
    """B5: a client that leaves cancels a director that waits; what that raises then is nobody's business any more."""
    seen: list[type] = []

    async def director(asked: Any) -> None:
        try:
            await Deferred()
        except CancelledError as error:
            seen.append(type(error))
            raise ValueError("on the way out") from None

    bench = Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()), director)
    exchange = bench.start(request(b"GET / HTTP/1.1\r\nHost: x"))
    exchange.clientLeft()
    assert seen == [CancelledError]
    assert exchange.settled
    assert exchange.record.status == 499


def test_twoHooks() -> None:
    """A coroutine that another hook of the same exchange resumes goes on, in a context with the same variables."""
    wait: Deferred[None] = Deferred()

    async def director(asked: Any) -> None:
        await wait
        target.direct(asked)

    bench = Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()), director)
    exchange = bench.start(request(b"GET / HTTP/1.1\r\nHost: x"))
    exchange.within(wait.callback, None)
    assert exchange.settled
    assert bench.downstream.told[0][1] == 200


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", ["own", "upstream"])
def test_answersTooLate(kind: str, later: bool) -> None:
    """B7.1: what a hook returns although it was cancelled is given up: its body is stopped, its connection closed."""
    wait, more, body, connection = Deferred[None](), Deferred[None](), Body(), Carrier()

    async def director(_: Any) -> Any:
        try:
            await wait
        except CancelledError:
            if later:
                await more
        if kind == "own":
            return Response(200, {}, body)
        response = upstreamResponse(200)
        response.connection = connection
        return response

    bench = Bench(director=director)
    bench.start(request()).clientLeft()
    more.callback(None)
    assert (body.told, connection.aborted) == ((["stop"], 0) if kind == "own" else ([], 1))
    assert [record.status for record in bench.records] == [499]
