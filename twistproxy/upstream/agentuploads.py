# -*- test-case-name: tests.upstream.test_agent,tests.upstream.test_agenttransport -*-
"""
Request bodies between the proxy's L{IBody<twistproxy.interfaces.IBody>} and Twisted's L{IBodyProducer
<twisted.web.iweb.IBodyProducer>}, in both directions.

Both are push producers with a single owner, so nothing is held here: a pause on one side is a pause on the other.  What
differs is how the end is told: C{finish} and C{fail} here, a Deferred there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from twistproxy.body import BytesBody
from twistproxy.interfaces import IBody, IBodyConsumer


@implementer(IBody)
class ProducedBody:
    """
    A request body that an L{IBodyProducer<twisted.web.iweb.IBodyProducer>} makes.

    @ivar length: its length in bytes, C{None} if the producer does not know.
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._consumer: Any = None
        self._started = self._paused = False
        self.length: int | None = None if producer.length is UNKNOWN_LENGTH else producer.length

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        self._consumer = consumer
        consumer.registerProducer(self, True)
        finished = self._producer.startProducing(self)
        self._started = True
        finished.addCallbacks(self._finished, self._failed)
        # Not before: a producer that has not started cannot be paused (FileBodyProducer raises).
        if self._paused and self._consumer is not None:
            self._producer.pauseProducing()

    def write(self, data: bytes) -> None:
        """
        A piece; what a producer writes behind its end, or after it was stopped, is dropped.
        """
        if self._consumer is not None:
            self._consumer.write(bytes(data))

    def _finished(self, _: object) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.unregisterProducer()
            consumer.finish([])

    def _failed(self, failure: Failure) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.unregisterProducer()
            consumer.fail(failure.value)

    def pauseProducing(self) -> None:
        self._paused = True
        if self._started and self._consumer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._started and self._consumer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._producer.stopProducing()


class TrailersLost(Exception):
    """
    A request body ended with trailers, for which an agent has no place.
    """


@implementer(IBodyProducer, IBodyConsumer)
class Upload:
    """
    A request body for an agent.

    @ivar length: as L{IBodyProducer<twisted.web.iweb.IBodyProducer>} has it.
    @ivar error: what the body has failed with, which an agent would only tell wrapped up.
    """

    length: Any

    def __init__(self, body: Any, onStart: Callable[[], Any] | None = None) -> None:
        """
        @param body: C{bytes}, or an L{IBody<twistproxy.interfaces.IBody>}.
        @param onStart: called when the agent asks for the body.
        """
        self._onStart = onStart
        self._body: Any = BytesBody(body) if isinstance(body, bytes) else body
        self._consumer: Any = None
        self._producer: Any = None
        self._done: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self.length = UNKNOWN_LENGTH if self._body.length is None else self._body.length
        self.error: Exception | None = None

    # -- IBodyProducer

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """
        See L{IBodyProducer.startProducing<twisted.web.iweb.IBodyProducer>}.
        """
        self._consumer = consumer
        if self._onStart is not None:
            self._onStart()
        self._body.deliver(self)
        return self._done

    def pauseProducing(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self._consumer = self._producer = None
        body, self._body = self._body, None
        if body is not None:
            body.stopProducing()

    # -- IBodyConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        # An agent that has its response early stops the producer, and takes one more write for a mistake.
        if self._consumer is not None:
            self._consumer.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        if trailers:
            self.fail(TrailersLost(f"{len(trailers)} trailers, which an agent cannot send"))
        elif self._consumer is not None:
            self._consumer = self._body = self._producer = None
            self._done.callback(None)

    def fail(self, error: Exception) -> None:
        self.error = error
        if self._consumer is not None:
            self._consumer = self._body = self._producer = None
            self._done.errback(error)
