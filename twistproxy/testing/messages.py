# -*- test-case-name: tests.test_testing -*-
"""
HTTP/1.1 as a test reads it: what was sent, whole or not, without judging it.

This shares no code with the wire of the proxy, lest a mistake there agree with itself here.  It takes a
chunked body as chunked if that is the last coding, else a Content-Length, and is no parser for anything that
an attacker could send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twistproxy.headers import Headers
from twistproxy.message import REASONS


class Message:
    """
    A request or a response, as it was read so far.

    @ivar method: a request's method; C{b""} for a response.
    @ivar target: a request's target.
    @ivar status: a response's status; 0 for a request.
    @ivar reason: a response's reason phrase.
    @ivar version: C{b"HTTP/1.1"}, as a rule.
    @ivar headers: all its fields, framing too.
    @ivar trailers: its trailers.
    @ivar complete: whether it was read to its end.
    @ivar connection: the L{MemoryTransport<twistproxy.testing.memory.MemoryTransport>} it came over, or
        C{None}.
    """

    def __init__(self, startLine: bytes, lines: list[bytes], connection: Any = None) -> None:
        first, _, rest = startLine.partition(b" ")
        second, _, third = rest.partition(b" ")
        self.method = self.target = self.reason = b""
        self.status = 0
        if first.startswith(b"HTTP/"):
            self.version, self.status, self.reason = first, int(second), third
        else:
            self.method, self.target, self.version = first, second, third
        self.headers = Headers(lines)
        self.trailers = Headers()
        self.complete = False
        self.connection = connection
        self._body = bytearray()

    @property
    def body(self) -> bytes:
        """
        What has come of the body, without chunks.
        """
        return bytes(self._body)

    def __repr__(self) -> str:
        start = f"{self.status}" if self.status else f"{self.method.decode()} {self.target.decode('latin-1')}"
        state = "" if self.complete else ", incomplete"
        return f"<Message {start}, {len(self._body)} bytes{state}>"


class MessageReader:
    """
    Reads what one side of a connection sends.

    @ivar messages: everything so far, in order; the last one perhaps incomplete.
    @ivar unread: what comes behind an upgrade: opaque bytes.
    @ivar broken: why it stopped reading, C{""} if it did not.
    """

    def __init__(self, connection: Any = None, methods: Callable[[int], bytes] | None = None) -> None:
        """
        @param connection: what it is read from, for the messages.
        @param methods: gives the method of the request that the final response with this number (from 0)
            answers; C{None} where requests are read.
        """
        self._connection = connection
        self._methods = methods
        self._finals = 0
        self._buffer = bytearray()
        self._state = self._readHead
        self._left = 0
        self.messages: list[Message] = []
        self.unread = bytearray()
        self.broken = ""

    def feed(self, data: bytes) -> None:
        """
        Read on.
        """
        self._buffer += data
        try:
            while not self.broken and self._state():
                pass
        except ValueError as error:
            self.broken = str(error)

    def ended(self) -> None:
        """
        Nothing more comes: a body that only the end ends is complete.
        """
        if self._state == self._readUntilEnd:
            self._finish()

    def upgrade(self) -> None:
        """
        What comes behind the last message is no HTTP any more.
        """
        self._state = self._readOpaque
        self.feed(b"")

    # -- states: each says whether there may be more to read

    def _line(self) -> bytes | None:
        at = self._buffer.find(b"\n")
        if at < 0:
            return None
        line = bytes(self._buffer[:at]).removesuffix(b"\r")
        del self._buffer[: at + 1]
        return line

    def _readHead(self) -> bool:
        while self._buffer.startswith((b"\r\n", b"\n")):
            self._line()
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            return False
        start, *lines = bytes(self._buffer[:at]).split(b"\r\n")
        del self._buffer[: at + 4]
        message = Message(start, lines, self._connection)
        self.messages.append(message)
        self._frame(message)
        return True

    def _frame(self, message: Message) -> None:
        """
        Find out how the body ends (RFC 9112 6.3).
        """
        codings = message.headers.get("Transfer-Encoding") or b""
        length = message.headers.get("Content-Length")
        if message.status:
            if message.status == 101:
                message.complete = True
                self._state = self._readOpaque
                return
            if message.status < 200:
                message.complete = True
                return
            method = self._methods(self._finals) if self._methods is not None else b"GET"
            self._finals += 1
            if method == b"HEAD" or message.status in (204, 304):
                message.complete = True
                return
        if codings.lower().rstrip().endswith(b"chunked"):
            self._state = self._readChunkSize
        elif length is not None:
            self._left = int(length)
            self._state = self._readLength
        elif message.status:
            self._state = self._readUntilEnd
        else:
            message.complete = True

    def _readLength(self) -> bool:
        self._takeBody()
        if self._left:
            return False
        self._finish()
        return True

    def _takeBody(self) -> None:
        piece = self._buffer[: self._left]
        self.messages[-1]._body += piece
        self._left -= len(piece)
        del self._buffer[: len(piece)]

    def _readChunkSize(self) -> bool:
        line = self._line()
        if line is None:
            return False
        self._left = int(line.partition(b";")[0], 16)
        self._state = self._readChunk if self._left else self._readTrailers
        return True

    def _readChunk(self) -> bool:
        self._takeBody()
        if self._left or len(self._buffer) < 2:
            return False
        del self._buffer[:2]
        self._state = self._readChunkSize
        return True

    def _readTrailers(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            self.messages[-1].trailers.lines.append(line)
        else:
            self._finish()
        return True

    def _readUntilEnd(self) -> bool:
        self.messages[-1]._body += self._buffer
        self._buffer.clear()
        return False

    def _readOpaque(self) -> bool:
        self.unread += self._buffer
        self._buffer.clear()
        return False

    def _finish(self) -> None:
        self.messages[-1].complete = True
        self._state = self._readHead


def httpRequest(
    method: str = "GET", target: str = "/", headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """
    @param headers: fields; C{Host} is C{front.test} unless it is among them, and a body's length is added
        unless C{headers} frame it.
    @param body: the body, as it is on the wire.
    @return: a request, as bytes.
    """
    fields = {"Host": "front.test", **(headers or {})}
    return _message(f"{method} {target} HTTP/1.1".encode("latin-1"), fields, body)


def httpResponse(status: int = 200, headers: Mapping[str, str] | None = None, body: bytes | None = b"") -> bytes:
    """
    @param headers: fields; a body's length is added unless C{headers} frame it.
    @param body: the body, as it is on the wire; C{None} to add no framing at all.
    @return: a response, as bytes.
    """
    return _message(b"HTTP/1.1 %d %b" % (status, REASONS.get(status, b"")), dict(headers or {}), body)


def _message(startLine: bytes, fields: dict[str, str], body: bytes | None) -> bytes:
    framed = {"content-length", "transfer-encoding"} & {name.lower() for name in fields}
    if body is not None and not framed:
        fields["Content-Length"] = str(len(body))
    lines = [f"{name}: {value}".encode("latin-1") for name, value in fields.items()]
    return b"\r\n".join([startLine, *lines, b"", body or b""])
