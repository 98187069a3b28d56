"""
Both ends of a story, played by the test itself over bare sockets: L{Client} downstream, L{Origin} upstream.

Nothing of the proxy is used here, so that it cannot agree with itself about a mistake: messages are read by h11, or byte by
byte by the test.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from dataclasses import dataclass, field

import h11

from tests.net.peers import RawPeer, until

_PIECE = 65536


@dataclass
class Message:
    """
    A message as h11 read it.

    @ivar fields: name in lower case and value, in order.
    @ivar interims: heads of the interim responses before it, as status and fields.
    """

    status: int = 0
    method: bytes = b""
    target: bytes = b""
    reason: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    interims: list[tuple[int, list[tuple[bytes, bytes]]]] = field(default_factory=list)

    def __getitem__(self, name: bytes) -> bytes | None:
        """The first value of a field, or C{None}."""
        return next((value for known, value in self.fields if known == name), None)


class Line(RawPeer):
    """A connection that is read message by message, or byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.buffer = b""

    async def fill(self) -> bool:
        """
        Wait for more bytes.

        @return: C{False} at the end of the stream.  A reset raises.
        """
        [piece] = await until(lambda: self._receive(_PIECE), f"bytes behind {self.buffer[-200:]!r}")
        self.buffer += piece
        return bool(piece)

    async def upTo(self, mark: bytes) -> bytes:
        """
        @return: everything up to and including C{mark}.
        """
        while mark not in self.buffer:
            assert await self.fill(), f"the stream ended behind {self.buffer!r}, before {mark!r}"
        end = self.buffer.index(mark) + len(mark)
        found, self.buffer = self.buffer[:end], self.buffer[end:]
        return found

    async def head(self) -> bytes:
        """
        @return: a message's head with its empty line.
        """
        return await self.upTo(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        """
        @return: so many bytes.
        """
        while len(self.buffer) < size:
            assert await self.fill(), f"the stream ended behind {len(self.buffer)} of {size} bytes"
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    async def chunk(self) -> bytes:
        """
        @return: the payload of one chunk.
        """
        size = int(await self.upTo(b"\r\n"), 16)
        return (await self.exactly(size + 2))[:-2]

    async def ending(self) -> str:
        """
        Wait for the end of the connection, dropping what comes before it.

        @return: C{"closed"} or C{"reset"}.
        """
        try:
            while await self.fill():
                self.buffer = b""
        except ConnectionError:
            return "reset"
        return "closed"

    async def _message(self, parser: h11.Connection) -> Message:
        message = Message()
        if self.buffer:
            parser.receive_data(self.buffer)
            self.buffer = b""
        body = bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                more = await self.fill()
                if more or parser.their_state is not h11.DONE:
                    parser.receive_data(self.buffer)  # nothing means the end of the stream
                self.buffer = b""
            elif isinstance(event, h11.InformationalResponse):
                message.interims.append((event.status_code, list(event.headers)))
                if event.status_code == 101:
                    message.status, message.fields = 101, list(event.headers)
                    break
            elif isinstance(event, h11.Request):
                message.method, message.target, message.fields = (
                    event.method,
                    event.target,
                    list(event.headers),
                )
            elif isinstance(event, h11.Response):
                message.status, message.reason, message.fields = (
                    event.status_code,
                    event.reason,
                    list(event.headers),
                )
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                message.trailers = list(event.headers)
                break
            else:
                raise AssertionError(f"the connection ended in a message: {event!r}")
        self.buffer = parser.trailing_data[0]
        message.body = bytes(body)
        return message


class Client(Line):
    """A client."""

    async def ask(
        self, method: str = "GET", target: str = "/", fields: tuple[str, ...] = (), body: bytes | None = None
    ) -> None:
        """Send a request."""
        lines = [f"{method} {target} HTTP/1.1", "Host: story.test", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join((*lines, "", "")).encode() + (body or b""))

    async def response(self, method: str = "GET") -> Message:
        """
        @param method: that of the request, which decides whether a body follows.
        @return: the next response.
        """
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 17)
        parser.send(
            h11.Request(method=method, target="/", headers=[("Host", "story.test"), ("Upgrade", "any")])
        )
        parser.send(h11.EndOfMessage())
        return await self._message(parser)

    async def get(self, target: str = "/") -> Message:
        """
        @return: the response to a GET.
        """
        await self.ask("GET", target)
        return await self.response()


class OriginConnection(Line):
    """One connection of the proxy to an origin."""

    async def request(self) -> Message:
        """
        @return: the next request, body and all.
        """
        return await self._message(h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17))

    async def answer(self, body: bytes = b"", status: str = "200 OK", fields: tuple[str, ...] = ()) -> None:
        """Send a response of known length."""
        lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", "")
        await self.send("\r\n".join(lines).encode() + body)


class Origin:
    """
    An upstream whose part the test plays.  It accepts when the test does.

    @ivar target: its address, as the proxy takes it.
    """

    def __init__(self, path: str | None = None, backlog: int = 128, receiveBuffer: int | None = None) -> None:
        """
        @param path: of a UNIX socket, instead of TCP.
        @param backlog: connections that the kernel completes although nobody accepts.
        @param receiveBuffer: how much the kernel may hold of what is sent to it, in bytes.
        """
        self._path = path
        self.socket = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        if receiveBuffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiveBuffer)
        self.socket.bind(("127.0.0.1", 0) if path is None else path)
        self.socket.listen(backlog)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1] if path is None else 0
        self.target = f"http://127.0.0.1:{self.port}" if path is None else f"unix:{path}"
        self.accepted: list[OriginConnection] = []

    def pending(self) -> list[OriginConnection]:
        """
        @return: the next connection, if there is one.
        """
        try:
            connection = OriginConnection(self.socket.accept()[0])
        except BlockingIOError:
            return []
        self.accepted.append(connection)
        return [connection]

    async def accept(self) -> OriginConnection:
        """
        @return: the next connection.
        """
        [connection] = await until(self.pending, "a connection to the origin")
        return connection

    async def acceptRequest(self) -> OriginConnection:
        """
        @return: the next connection that brings a request.  The one that the command makes when it starts does not: it
            only looks whether somebody is there.
        """
        while True:
            connection = await self.accept()
            try:
                if await connection.fill():
                    return connection
            except ConnectionError:
                pass
            connection.close()

    def close(self) -> None:
        """Close everything."""
        self.socket.close()
        for connection in self.accepted:
            connection.close()
        if self._path is not None and os.path.exists(self._path):
            os.unlink(self._path)


def fullListener() -> tuple[socket.socket, list[socket.socket]]:
    """
    @return: a listening socket to which no connection can be completed, because its backlog is full, and what fills it.
    """
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    fillers = []
    # Linux completes one more than the backlog; the next one stays in SYN_SENT.
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listening.getsockname())
        fillers.append(filler)
    return listening, fillers


def shortFolder() -> str:
    """
    @return: a new folder whose name is short enough for a UNIX socket in it.
    """
    return tempfile.mkdtemp(prefix="story")


def statusOf(head: bytes) -> int:
    """
    @return: the status in a response head.
    """
    match = re.match(rb"HTTP/1\.1 (\d{3})[ \r]", head)
    assert match is not None, head
    return int(match[1])
