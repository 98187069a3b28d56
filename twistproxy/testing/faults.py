# -*- test-case-name: tests.test_testing_faults -*-
"""
Faults on purpose, in a proxy that runs: for tests, and for the staging of whatever stands in front of one or
behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from twistproxy.errors import Sent, Stage, UpstreamError
from twistproxy.interfaces import IBody, IBodyConsumer, ITransport, hookOf
from twistproxy.message import OutboundRequest, Response


@implementer(ITransport)
class FaultyTransport:
    """
    Wraps a transport, and does to some of its requests what networks and upstreams do to all of them sooner
    or later.

    Each request is judged once, by a generator of random numbers of its own: the same seed and the same
    requests in the same order meet the same faults.  At most one of refusal and reset happens to a request; a
    delay goes with either.

    @ivar transport: the transport that it wraps.
    @ivar injected: how often what has happened: C{"delay"}, C{"status"}, C{"reset"}.
    """

    def __init__(
        self,
        transport: Any,
        clock: Any,
        *,
        seed: int = 0,
        delay: float = 0.0,
        delayRate: float = 1.0,
        status: int = 503,
        statusRate: float = 0.0,
        resetAt: int | None = None,
        resetRate: float = 1.0,
        only: Callable[[OutboundRequest], bool] | None = None,
    ) -> None:
        """
        @param transport: an L{ITransport<twistproxy.interfaces.ITransport>}, or a callable.
        @param clock: for the delays: the reactor, a provider of
            L{IReactorTime<twisted.internet.interfaces.IReactorTime>}.
        @param seed: of the random numbers.
        @param delay: how long a request is kept before it is sent, in seconds.
        @param delayRate: to which part of the requests that happens, 0.0 to 1.0.
        @param status: the status of refusals.
        @param statusRate: which part of the requests is answered with it, and not sent.
        @param resetAt: after how many bytes of its body a response breaks off, as if the upstream had reset
            the connection; a shorter body is left alone.  0 is behind the head; -1 is before it, and the
            request fails.  C{None} for never.
        @param resetRate: to which part of the other requests that happens.
        @param only: says whether anything may happen to a request; by default to all.
        @raise ValueError: if a rate is not between 0.0 and 1.0, or a delay is negative.
        """
        for rate in (delayRate, statusRate, resetRate):
            if not 0.0 <= rate <= 1.0:
                raise ValueError(f"a rate is a number from 0.0 to 1.0, not {rate!r}")
        if delay < 0:
            raise ValueError(f"a delay is a number of seconds, not {delay!r}")
        self.transport = transport
        self._roundTrip: Callable[[OutboundRequest], Any] = hookOf(transport, ITransport, "roundTrip")
        self._clock = clock
        self._random = Random(seed)
        self._delay = delay
        self._delayRate = delayRate
        self._status = status
        self._statusRate = statusRate
        self._resetAt = resetAt
        self._resetRate = resetRate
        self._only = only
        self.injected: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<FaultyTransport on {self.transport!r}: {dict(self.injected)}>"

    def roundTrip(self, outbound: OutboundRequest) -> Deferred[Any]:
        """
        See L{ITransport.roundTrip<twistproxy.interfaces.ITransport>}.
        """
        if self._only is not None and not self._only(outbound):
            return maybeDeferred(self._roundTrip, outbound)
        # always three, so that one knob does not change what another one does to the requests behind
        delayed, refused, reset = (self._random.random() for _ in range(3))
        fate = "status" if refused < self._statusRate else ""
        if not fate and self._resetAt is not None and reset < self._resetRate:
            fate = "reset"
        if not self._delay or delayed >= self._delayRate:
            return maybeDeferred(self._carry, outbound, fate)
        self.injected["delay"] += 1
        return deferLater(self._clock, self._delay, self._carry, outbound, fate)

    def close(self) -> None:
        """
        Close what is wrapped, if that can be closed.
        """
        if hasattr(self.transport, "close"):
            self.transport.close()

    def cut(self) -> None:
        """
        The same, at once.
        """
        if hasattr(self.transport, "cut"):
            self.transport.cut()

    def _carry(self, outbound: OutboundRequest, fate: str) -> Any:
        if fate == "status":
            self.injected["status"] += 1
            return Response(self._status, body=f"{self._status} on purpose\n")
        if fate == "reset" and self._resetAt == -1:
            self.injected["reset"] += 1
            return fail(UpstreamError("reset on purpose", Stage.WAIT, Sent.SOME))
        carried = maybeDeferred(self._roundTrip, outbound)
        return carried.addCallback(self._breakOff) if fate else carried

    def _breakOff(self, response: Response) -> Response:
        """
        Cut the body of a response off; there is none in a 101, a 204, a 304, and the answer to a HEAD.
        """
        body: Any = response.body
        resetAt = self._resetAt
        if resetAt is None or response.status == 101 or not body:
            return response
        if isinstance(body, bytes) and len(body) <= resetAt:
            return response
        response.body = _BrokenBody(body, resetAt, self._broken)
        return response

    def _broken(self) -> None:
        self.injected["reset"] += 1


@implementer(IBody, IBodyConsumer)
class _BrokenBody:
    """
    A body that breaks off.

    @ivar length: how long it would have been, in bytes.
    """

    def __init__(self, source: Any, left: int, broken: Callable[[], None]) -> None:
        """
        @param source: the whole body, L{IBody<twistproxy.interfaces.IBody>} or bytes.
        @param left: how many bytes may pass.
        @param broken: called when it breaks off.
        """
        self._source = source
        self._left = left
        self._broken = broken
        self._over = self._stopped = False
        self._consumer: Any = None
        self.length: int | None = len(source) if isinstance(source, bytes) else source.length

    def deliver(self, consumer: Any) -> None:
        self._consumer = consumer
        consumer.registerProducer(self, True)
        if not isinstance(self._source, bytes):
            self._source.deliver(self)
        elif not self._over:
            self.write(self._source)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        if not self._over:
            self._consumer.unregisterProducer()

    def write(self, data: bytes) -> None:
        if self._over:
            return
        if len(data) <= self._left:
            self._left -= len(data)
            self._consumer.write(data)
            return
        if self._left:
            self._consumer.write(data[: self._left])
        if self._stopped:
            return
        self._over = True
        self._broken()
        if not isinstance(self._source, bytes):
            self._source.stopProducing()
        self._consumer.unregisterProducer()
        self._consumer.fail(UpstreamError("reset on purpose", Stage.BODY, Sent.ALL))

    def finish(self, trailers: list[bytes]) -> None:
        if not self._over:
            self._over = True
            self._consumer.finish(trailers)

    def fail(self, error: Exception) -> None:
        if not self._over:
            self._over = True
            self._consumer.fail(error)

    def pauseProducing(self) -> None:
        if not isinstance(self._source, bytes):
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        if not isinstance(self._source, bytes):
            self._source.resumeProducing()

    def stopProducing(self) -> None:
        self._over = self._stopped = True
        if not isinstance(self._source, bytes):
            self._source.stopProducing()
