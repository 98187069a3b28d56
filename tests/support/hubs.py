"""
A hub that takes its turn when the test says so, and what the other ends of its sockets get.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.task import Clock


class Turns(Clock):
    """A reactor that watches no descriptor: the test calls the hub in its place."""

    def addReader(self, reader: Any) -> None:
        pass

    def removeReader(self, reader: Any) -> None:
        pass


def arrived(peer: socket.socket) -> bytes:
    """@return: what a peer that does not block has got by now; C{b"EOF"} behind it if that is all."""
    got = b""
    while True:
        try:
            data = peer.recv(1 << 20)
        except BlockingIOError:
            return got
        if not data:
            return got + b"EOF"
        got += data
