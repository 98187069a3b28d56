# -*- test-case-name: tests.web.test_traversal -*-
"""
The body of a stock request, collected although it was about to be streamed.

What needs a body may stand behind something that does not: a form behind a guard.  When it is found, the body is read
into C{request.content}, and C{twisted.web}'s own way of taking a request up, which parses forms, is gone once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProducer
from zope.interface import implementer

from twistproxy.interfaces import IBodyConsumer


@implementer(IBodyConsumer)
class Collector:
    """
    Takes a body for one request.
    """

    def __init__(self, request: Any, received: Callable[[bytes, bytes, bytes], None]) -> None:
        """
        @param request: the request; its C{content} is where the body goes.
        @param received: the stock C{requestReceived}, which calls C{request.process()} at its end.
        """
        self._request = request
        self._received = received
        self._waiting: list[Deferred[Any]] = []
        self._complete = False

    def wait(self) -> Deferred[Any]:
        """
        @return: a Deferred that fires with the request when the body is complete.
        """
        if self._complete:
            return succeed(self._request)
        waiting: Deferred[Any] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def tell(self, request: Any) -> None:
        """
        The request is as a stock one is when it is processed.
        """
        self._complete = True
        request.streamedBody = None
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(request)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self._request.content.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        request = self._request
        self._received(request.method, request.uri, request.clientproto)

    def fail(self, error: Exception) -> None:
        """
        The client has left, which C{notifyFinish} tells; or its trailers are malformed.
        """
        self._waiting = []
        if not self._request._disconnected:
            self._request.channel._respondToBadRequestAndDisconnect()
