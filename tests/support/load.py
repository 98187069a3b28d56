"""
A steady load from threads, which counts as a real client would.

Requests are GETs.  On a kept connection that the other side has closed or reset before a single byte of the response, a
real client sends such a request once more on a fresh connection; this one does too, and counts it as C{again}.  Whatever
goes wrong on a fresh connection, or in the middle of a response, is a failure.
"""

from __future__ import annotations

import threading
import time
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from types import TracebackType


class Load:
    """
    Clients that ask all the time.

    @ivar done: how many requests were answered with 200 and a whole body.
    @ivar again: how many were sent once more.
    @ivar failures: what went wrong otherwise.
    """

    def __init__(self, number: int, kept: int = 6, fresh: int = 3, path: str = "/") -> None:
        """
        @param number: the port.
        @param kept: how many clients keep their connection.
        @param fresh: how many use a new one for each request.
        @param path: what they ask for.
        """
        self.done = 0
        self.again = 0
        self.failures: list[str] = []
        self._number = number
        self._path = path
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(each < kept,), daemon=True) for each in range(kept + fresh)
        ]

    def __enter__(self) -> Load:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End, with the requests that run."""
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self, keep: bool) -> None:
        connection: HTTPConnection | None = None
        while not self._over.is_set():
            used = connection is not None
            if connection is None:
                connection = HTTPConnection("127.0.0.1", self._number, timeout=15)
            outcome, open = self._ask(connection, keep, used)
            with self._lock:
                if outcome is None:
                    self.done += 1
                elif outcome == "again":
                    self.again += 1
                else:
                    self.failures.append(outcome)
            if not open:
                connection.close()
                connection = None
            time.sleep(0.002)
        if connection is not None:
            connection.close()

    def _ask(self, connection: HTTPConnection, keep: bool, used: bool) -> tuple[str | None, bool]:
        """@return: what went wrong, if anything, and whether the connection can be used further."""
        try:
            connection.request("GET", self._path, headers={} if keep else {"Connection": "close"})
            response = connection.getresponse()
        except (RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            return ("again" if used else f"fresh: {error!r}"), False
        except (OSError, HTTPException) as error:
            return repr(error), False
        try:
            response.read()
        except (OSError, HTTPException) as error:
            return f"in the body: {error!r}", False
        if response.status != 200:
            return f"status {response.status}", False
        return None, keep and not response.will_close
