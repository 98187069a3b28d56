# -*- test-case-name: tests.core.test_generated -*-
"""
Body filters that are asynchronous generators::

    async def shout(chunks, message):
        async for chunk in chunks:
            yield chunk.upper()

Such a filter reads like a loop, and may await whatever it likes.  Backpressure goes both ways: while the taker does not
keep up the generator is not resumed behind its C{yield}, and while the generator does not ask for more the source is
paused.  It begins before the head of its message is sent, up to its first C{async for}, so it can still change that.

Nothing of this costs anything where no filter is a generator.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistproxy.body import BytesBody
from twistproxy.core.pump import directly
from twistproxy.core.variables import startCoroutine
from twistproxy.errors import HookFailed, Sent
from twistproxy.interfaces import IBody, IBodyConsumer

#: What may wait for a generator, in bytes, before its source is paused.
HIGH_WATER = 64 * 1024


def isGenerator(filterBody: Any) -> bool:
    """
    @return: whether this filter is to be called with chunks instead of a consumer.
    """
    return inspect.isasyncgenfunction(filterBody) or inspect.isasyncgenfunction(type(filterBody).__call__)


@implementer(IBody, IBodyConsumer)
class GeneratedBody:
    """
    A body as a generator makes it out of another; its length is not known any more.

    If the source breaks off, so does this body, at once, whatever the generator makes of the exception that it sees.
    If the taker gives up, the generator is cancelled like any coroutine: L{CancelledError
    <twisted.internet.defer.CancelledError>} where it awaits, C{GeneratorExit} where it yields.

    @ivar length: C{None}.
    """

    _log = Logger()

    def __init__(self, source: Any, filterBody: Any, message: Any, within: Callable[..., Any] = directly) -> None:
        """
        @param source: C{bytes} or an L{IBody<twistproxy.interfaces.IBody>}.
        @param filterBody: called with the chunks, an asynchronous iterator of C{bytes}, and the message.
        @param message: whose body it is.
        @param within: calls user code in the context of its exchange.
        @raise Exception: what the generator raises before it has asked for the first chunk.
        """
        self.length: int | None = None
        self._source = BytesBody(source, message.trailers) if isinstance(source, bytes) else source
        self._name = getattr(filterBody, "__qualname__", None) or type(filterBody).__qualname__
        self._consumer: Any = None
        self._chunks = _Chunks(self._source)
        # nothing may be written before there is a taker
        self._paused = True
        self._resumed: Deferred[None] | None = None
        self._over = False
        self._early: HookFailed | None = None
        generator = within(filterBody, self._chunks, message)
        self._within = within
        self._executing = self._cancelled = False
        self._driving = startCoroutine(self._drive(generator), self._step)
        self._driving.addErrback(self._broke)
        self._raiseEarly()

    def _raiseEarly(self) -> None:
        if self._early is not None and self._early.__cause__ is not None:
            raise self._early.__cause__

    # -- the generator

    async def _drive(self, generator: Any) -> None:
        """
        Run the generator to its end, as fast as its taker goes.
        """
        try:
            async for piece in generator:
                if not isinstance(piece, (bytes, bytearray, memoryview)):
                    raise TypeError(f"a body filter yields bytes, not {type(piece).__name__}")
                if not await self._mayWrite():
                    break
                if piece:
                    self._consumer.write(bytes(piece))
                if not await self._mayWrite():
                    break
        finally:
            await generator.aclose()
        await self._mayWrite()
        self._finish()

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """
        Run the driver from one wait to the next, in the context of the exchange.
        """
        self._executing = True
        try:
            awaited = self._within(step, *arguments)
        finally:
            self._executing = False
        if self._cancelled and isinstance(awaited, Deferred):
            # cancelled by what it did itself, when there was nothing yet that could have been cancelled
            self._cancelled = False
            awaited.cancel()
        return awaited

    async def _mayWrite(self) -> bool:
        """
        Wait until the taker wants more.

        @return: whether there still is one.
        """
        while self._paused and not self._over:
            self._resumed = Deferred()
            await self._resumed
        return not self._over

    def _finish(self) -> None:
        if self._over:
            return
        trailers, complete = self._chunks.trailers, self._chunks.ended
        consumer = self._end()
        if not complete:
            # the filter has seen enough
            self._source.stopProducing()
        consumer.unregisterProducer()
        consumer.finish(trailers)

    def _broke(self, failure: Failure) -> None:
        """
        The generator has raised.
        """
        if self._over:
            if failure.check(CancelledError) is None and failure.value is not self._chunks.error:
                self._log.failure("the body filter {name} failed as it was ended", failure, name=self._name)
            return
        error = HookFailed(f"body filter {self._name}", f"{type(failure.value).__name__}: {failure.value}", Sent.SOME)
        error.__cause__ = failure.value
        self._chunks.end()
        if self._consumer is None:
            self._early = error
            self._over = True
            return
        consumer = self._end()
        self._source.stopProducing()
        consumer.unregisterProducer()
        consumer.fail(error)

    def _end(self) -> Any:
        """
        @return: the consumer, for the last time.
        """
        self._over = True
        consumer, self._consumer = self._consumer, None
        return consumer

    def _cancel(self) -> None:
        """
        End the generator, wherever it is.
        """
        self._chunks.end()
        if self._executing:
            self._cancelled = True
        else:
            self._driving.cancel()

    # -- IBody

    def deliver(self, consumer: Any) -> None:
        self._consumer = consumer
        early = self._early
        if early is not None:
            # it broke off while its message waited in a line
            consumer.registerProducer(self, True)
            self._consumer = None
            self._source.stopProducing()
            consumer.unregisterProducer()
            consumer.fail(early)
            return
        self._source.deliver(self)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        if not self._over:
            self._end()
            self._source.stopProducing()
            self._cancel()

    def abandon(self) -> None:
        """
        Its exchange is over: end the generator, if it has not ended, and leave the source to whoever has that.
        """
        if not self._over:
            self._end()
            self._cancel()

    # -- IBodyConsumer, for the source

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._chunks.producer = producer
        if self._consumer is not None:
            self._consumer.registerProducer(self, True)
            self.resumeProducing()

    def unregisterProducer(self) -> None:
        self._chunks.producer = None

    def write(self, data: bytes) -> None:
        if not self._over:
            self._chunks.put(data)

    def finish(self, trailers: list[bytes]) -> None:
        if not self._over:
            self._chunks.finish(trailers)

    def fail(self, error: Exception) -> None:
        if self._over:
            return
        consumer = self._end()
        consumer.unregisterProducer()
        consumer.fail(error)
        if not self._chunks.fail(error):
            self._cancel()


class _Chunks(AsyncIterator[bytes]):
    """
    What a generator iterates over.

    @ivar trailers: what came behind the body.
    @ivar ended: whether all of it has come.
    @ivar error: what it broke off with, or C{None}.
    @ivar producer: who is paused while too much waits here.
    """

    def __init__(self, source: Any) -> None:
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._pausing = False
        self._wanted: Deferred[None] | None = None
        self._closed = False
        self.trailers: list[bytes] = []
        self.ended = False
        self.error: Exception | None = None
        self.producer: Any = None

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self.error is not None:
                raise self.error
            if self.ended or self._closed:
                raise StopAsyncIteration
            if self._pausing:
                # which may bring something before it returns
                self._relieve()
                continue
            self._wanted = Deferred()
            await self._wanted
        chunk = self._waiting.popleft()
        self._size -= len(chunk)
        return chunk

    def _relieve(self) -> None:
        self._pausing = False
        if self.producer is not None:
            self.producer.resumeProducing()

    def put(self, data: bytes) -> None:
        """
        A piece has come.
        """
        self._waiting.append(data)
        self._size += len(data)
        self._wake()
        if self._size > HIGH_WATER and not self._pausing and self.producer is not None:
            self._pausing = True
            self.producer.pauseProducing()

    def finish(self, trailers: list[bytes]) -> None:
        """
        That was all.
        """
        self.trailers = trailers
        self.ended = True
        self._wake()

    def fail(self, error: Exception) -> bool:
        """
        It broke off.

        @return: whether somebody waited for more and was told so.
        """
        waited = self._wanted is not None
        self.error = error
        self.end()
        self._wake()
        return waited

    def end(self) -> None:
        """
        Nobody wants what is left.
        """
        self._waiting.clear()
        self._size = 0
        self._closed = True
        self.producer = None

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.callback(None)
