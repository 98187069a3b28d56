"""
A C{ProxySite} in memory whose requests wait until a test answers them.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent
from twisted.web.server import NOT_DONE_YET

from tests.web.trees import Leaf
from twistproxy.testing import MemoryClient, MemoryProxy

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Held:
    """
    A site whose requests wait until the test answers them.

    @ivar requests: the requests.
    @ivar told: what their C{notifyFinish} has told.
    """

    def __init__(self, render: Any = None, **options: Any) -> None:
        self.requests: list[Any] = []
        self.told: list[Any] = []
        self.render = render
        self.proxy = MemoryProxy(responder=Leaf(self._render), **options)

    def _render(self, request: Any) -> Any:
        self.requests.append(request)
        request.notifyFinish().addBoth(self.told.append)
        return NOT_DONE_YET if self.render is None else self.render(request)

    def client(self, data: bytes = b"") -> MemoryClient:
        """@return: a client, that has sent something."""
        client = self.proxy.client()
        if data:
            client.send(data)
        return client

    def turn(self) -> None:
        """Let the reactor have a turn."""
        self.proxy.clock.advance(0)
        self.proxy.run()

    @property
    def reasons(self) -> list[type[Exception] | None]:
        """What C{notifyFinish} told, by its type."""
        return [None if told is None else told.type for told in self.told]

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *error: Any) -> None:
        self.proxy.__exit__(*error)


def failed(logged: list[LogEvent]) -> int:
    """@return: how many errors were logged since somebody asked."""
    count = len(logged)
    logged.clear()
    return count


class Flood:
    """A push producer that counts how often it is paused and resumed."""

    def __init__(self, request: Any) -> None:
        self.request, self.paused, self.resumed, self.stopped = request, 0, 0, 0

    def pauseProducing(self) -> None:
        """Stop."""
        self.paused += 1

    def resumeProducing(self) -> None:
        """Go on."""
        self.resumed += 1

    def stopProducing(self) -> None:
        """Never again."""
        self.stopped += 1
