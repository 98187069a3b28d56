"""
A server of WebSockets that echoes: the package C{websockets}, which whoever imports this has to have.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from websockets.sync.server import Server, ServerConnection, serve

from tests.support.volume import Worker


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        if message == "close":
            connection.close(1001, "as you like")
        elif message == "die":
            connection.socket.close()
        else:
            connection.send(message)


def _refuse(connection: ServerConnection, request: Any) -> Any:
    return connection.respond(403, "not you\n") if request.path == "/refused" else None


@contextmanager
def echoServer() -> Iterator[Server]:
    """
    A server in threads, which sends back whatever comes, closes when it is told C{close}, falls silent when it is told
    C{die}, and refuses C{/refused}.
    """
    server = serve(_echo, "127.0.0.1", 0, max_size=None, process_request=_refuse)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        # It waits for the end of its connections, which the proxy in this thread may still have to tell it.
        pytest_twisted.blockon(Deferred.fromCoroutine(Worker(lambda _: server.shutdown()).done()))
        thread.join()
