# -*- test-case-name: tests.core.test_pump -*-
"""
The request's body on its way from the client to whoever takes it: counted, limited, and its end made known to the
exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProducer
from zope.interface import implementer

from twistproxy.body import BytesBody
from twistproxy.core.relayedbody import RelayedBody
from twistproxy.core.responders import nameOf
from twistproxy.core.states import Event
from twistproxy.errors import ClientError, HookFailed, Sent, Stage
from twistproxy.headers import checkLines
from twistproxy.interfaces import IBody, IBodyConsumer

if TYPE_CHECKING:
    from twistproxy.core.exchange import Exchange


@implementer(IBody, IBodyConsumer)
class RequestBody(RelayedBody):
    """
    Stands between the wire that reads a body and the consumer that takes it.
    """

    __slots__ = ("_exchange", "_limit")

    def __init__(self, source: Any, exchange: Exchange, limit: int | None) -> None:
        """
        @param source: the body as the wire reads it.
        @param exchange: whose body it is.
        @param limit: the largest size, in bytes; C{None} for no limit.
        """
        self._source = source
        self._exchange = exchange
        self._limit = limit
        self._consumer = None
        self.length = source.length

    def write(self, data: bytes) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        record = self._exchange.record
        record.requestBytes += len(data)
        if self._limit is not None and record.requestBytes > self._limit:
            # B1.10: the length was not known at the head
            self.stopProducing()
            consumer.fail(ClientError(f"a request body of more than {self._limit} bytes", 413, Stage.SEND))
            return
        consumer.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._exchange.bodyMoved(Event.BODY_ENDED)
            consumer.finish(trailers)

    def fail(self, error: Exception) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._exchange.bodyMoved(Event.BODY_BROKE)
            consumer.fail(error)

    def stopProducing(self) -> None:
        """
        Nobody wants the rest.
        """
        self._consumer = None
        self._exchange.bodyMoved(Event.BODY_DROPPED)
        self._source.stopProducing()


def directly(hook: Callable[..., Any], *arguments: Any) -> Any:
    """
    Call user code for which there is no exchange.
    """
    return hook(*arguments)


@implementer(IBody, IBodyConsumer)
class FilteredBody(RelayedBody):
    """
    A body behind a filter; its length is not known any more.

    The filter is made while the head of its message can still be changed, and writes into this object, which passes
    everything on to whoever will take the body.

    @ivar length: C{None}.
    """

    __slots__ = ("_filter", "_name", "_within")

    def __init__(self, source: Any, filterBody: Any, message: Any, within: Callable[..., Any] = directly) -> None:
        """
        @param source: C{bytes} or an L{IBody<twistproxy.interfaces.IBody>}.
        @param filterBody: see L{IBodyFilter.filterBody<twistproxy.interfaces.IBodyFilter>}.
        @param message: whose body it is.
        @param within: calls user code in the context of its exchange.
        @raise TypeError: if what C{filterBody} returns takes no body.
        """
        self._source = BytesBody(source, message.trailers) if isinstance(source, bytes) else source
        self._consumer = None
        self.length = None
        self._within = within
        self._name = f"body filter {nameOf(filterBody)}"
        self._filter = within(filterBody, self, message)
        if not (hasattr(self._filter, "write") and hasattr(self._filter, "finish")):
            raise TypeError(f"it returned {self._filter!r}, not an IBodyConsumer")

    def deliver(self, consumer: Any) -> None:
        self._consumer = consumer
        self._source.deliver(_Guarded(self._filter, self._broke, self._within))

    def _broke(self, error: Exception) -> None:
        """
        The filter itself has failed.
        """
        wrapped = HookFailed(self._name, f"{type(error).__name__}: {error}", Sent.SOME)
        wrapped.__cause__ = error
        self._source.stopProducing()
        self.fail(wrapped)

    # -- what the filter writes

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._consumer is not None:
            self._consumer.registerProducer(producer, streaming)

    def write(self, data: bytes) -> None:
        if self._consumer is not None:
            self._consumer.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        if trailers:
            checkLines(trailers)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.finish(trailers)

    def fail(self, error: Exception) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.fail(error)

    # -- from whoever takes it

    def stopProducing(self) -> None:
        self._consumer = None
        self._source.stopProducing()


@implementer(IBodyConsumer)
class _Guarded:
    """
    A user's filter.  What it raises fails the body that it makes, and nothing else (B7.4): it must not reach the
    connection that brought the bytes.
    """

    __slots__ = ("_broke", "_filter", "_within")

    def __init__(self, filter: Any, broke: Callable[[Exception], None], within: Callable[..., Any]) -> None:
        """
        @param filter: the filter's consumer.
        @param broke: called once, with what it raised.
        @param within: calls it in the context of its exchange.
        """
        self._within = within
        self._filter = filter
        self._broke = broke

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._call("registerProducer", producer, streaming)

    def unregisterProducer(self) -> None:
        self._call("unregisterProducer")

    def write(self, data: bytes) -> None:
        self._call("write", data)

    def finish(self, trailers: list[bytes]) -> None:
        self._call("finish", trailers)

    def fail(self, error: Exception) -> None:
        self._call("fail", error)

    def _call(self, method: str, *arguments: Any) -> None:
        if self._filter is None:
            return
        try:
            self._within(getattr(self._filter, method), *arguments)
        except Exception as error:
            self._filter = None
            self._broke(error)
