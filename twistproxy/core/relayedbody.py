# -*- test-case-name: tests.core.test_pump,tests.core.test_flush -*-
"""
What all bodies do alike that stand between another body and the consumer that takes it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProducer


class RelayedBody:
    """
    Tells its source what its consumer wants; what becomes of the bytes in between is up to the subclass, which sets the
    attributes.

    @ivar length: its length in bytes, if known.
    """

    __slots__ = ("_consumer", "_source", "length")

    _consumer: Any
    _source: Any
    length: int | None

    def deliver(self, consumer: Any) -> None:
        """
        See L{IBody.deliver<twistproxy.interfaces.IBody>}.
        """
        self._consumer = consumer
        self._source.deliver(self)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._consumer.registerProducer(self, True)

    def unregisterProducer(self) -> None:
        if self._consumer is not None:
            self._consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        self._source.resumeProducing()
