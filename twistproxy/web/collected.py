# -*- test-case-name: tests.web.test_siterequest -*-
"""
Request bodies for resources of C{twisted.web}: collected with a bound, or streamed to those that say they can.

Nothing is asked of a client before its resource is known, and no C{100 Continue} sent before it is known that the body
is not too large.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from twistproxy.core.exchange import Exchange
from twistproxy.core.pump import RequestBody
from twistproxy.errors import ClientError, HookFailed, ProxyError, Stage
from twistproxy.interfaces import IBodyConsumer
from twistproxy.message import REASONS, Response
from twistproxy.rules.fields import EXPECT


def expectations(exchange: Exchange) -> list[bytes]:
    """
    @return: the values of Expect.
    """
    return [field[3] for field in exchange.request.fields if field[0] == EXPECT]


def welcome(exchange: Exchange) -> None:
    """
    Send the C{100 Continue} that a client may wait for.
    """
    if any(value.lower() == b"100-continue" for value in expectations(exchange)):
        exchange.informationalReceived(Response(100, None, b"", REASONS[100]))


def _tooLarge(limit: int) -> ClientError:
    return ClientError(f"a request body of more than {limit} bytes", 413, Stage.SEND)


@implementer(IBodyConsumer)
class CollectedContent:
    """
    Collects the body of a request where the request wants it, and has it rendered then.
    """

    _log = Logger()

    def __init__(self, channel: Any, limit: int | None) -> None:
        """
        @param channel: the L{ExchangeChannel<twistproxy.web.sitechannel.ExchangeChannel>}.
        @param limit: the largest size, in bytes.
        """
        self._channel = channel
        self._limit = limit
        self._body: Any = None

    def begin(self) -> None:
        """
        Collect.  Ends in C{render} of the channel, or in a refusal.
        """
        channel, limit = self._channel, self._limit
        channel.collected = True
        exchange: Exchange = channel.exchange
        body: Any = exchange.request.body
        whole = type(body) is bytes
        length = len(body) if whole else body.length
        if limit is not None and length is not None and length > limit:
            channel.refuse(_tooLarge(limit))
            return
        if whole:
            exchange.record.requestBytes = length
            if self._take(channel.request.gotLength, length) and (not body or self._took(body)):
                channel.render()
        elif self._take(channel.request.gotLength, length):
            welcome(exchange)
            self._body = RequestBody(body, exchange, limit)
            self._body.deliver(self)

    def _took(self, data: bytes) -> bool:
        return self._take(self._channel.request.handleContentChunk, data)

    def _take(self, take: Any, argument: Any) -> bool:
        """
        @return: whether the request could take that; a disk may be full.
        """
        try:
            take(argument)
        except Exception as error:
            self._log.failure("the body of {exchange} cannot be kept", exchange=self._channel.exchange)
            self.fail(HookFailed("request body", f"{type(error).__name__}: {error}"))
            return False
        return True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self._channel.over and not self._took(data):
            self._body.stopProducing()

    def finish(self, trailers: list[bytes]) -> None:
        if not self._channel.over:
            self._channel.render()

    def fail(self, error: Exception) -> None:
        if not self._channel.over:
            assert isinstance(error, ProxyError)
            self._channel.refuse(error)


class WelcomedBody(RequestBody):
    """
    A body that its client is asked for when somebody takes it.
    """

    __slots__ = ()

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        welcome(self._exchange)
        super().deliver(consumer)


def streamedBody(channel: Any) -> tuple[Any, list[bytes]]:
    """
    @param channel: the L{ExchangeChannel<twistproxy.web.sitechannel.ExchangeChannel>}.
    @return: the body of a request that is rendered at its head, and what its client expects; C{None} if the body is all
        here.
    """
    exchange = channel.exchange
    if type(exchange.request.body) is bytes:
        return None, []
    return WelcomedBody(exchange.request.body, exchange, None), expectations(exchange)
