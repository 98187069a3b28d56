# -*- test-case-name: tests.wire.test_chunked -*-
"""
The chunked transfer coding, read strictly (RFC 9112 7.1; B1.6).

A chunk is a size of hexadecimal digits, perhaps extensions, CRLF, that many bytes, CRLF.  No sign, no C{0x}, no white
space around the size, no lone LF, at most sixteen digits; what differs is an error, because there are servers that read
it differently. Extensions are dropped, as RFC 9112 7.1.1 allows, and bounded.
"""

from __future__ import annotations

import re

from twistproxy.errors import MalformedMessage
from twistproxy.rules.framing import MAX_LENGTH
from twistproxy.wire.h1head import headFault, parseTrailers

#: In all of a message; nobody uses them but attackers (the bound is Go's and h11's order of magnitude).
MAX_EXTENSIONS = 4096

_sizeLine = re.compile(rb"([0-9a-fA-F]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_isSizeStart = re.compile(rb"[0-9a-fA-F]{1,16}(?:;[\t\x20-\x7e\x80-\xff]*)?\r?").fullmatch

_SIZE, _DATA, _BEHIND, _TRAILERS, _DONE = range(5)


class ChunkedReader:
    """
    Decodes one chunked body.

    @ivar done: whether the last byte of the body, trailers included, has been read.
    @ivar rest: what came behind it.
    @ivar trailers: its trailer lines, forbidden ones dropped.
    """

    __slots__ = (
        "_extensions", "_held", "_left", "_maxFields", "_maxTrailers", "_seen", "_state", "done", "rest",
        "trailers",
    )  # fmt: skip

    def __init__(self, maxTrailers: int, maxFields: int) -> None:
        """
        @param maxTrailers: the largest size of the trailer section, in bytes.
        @param maxFields: the largest number of trailer fields.
        """
        self._state = _SIZE
        self._left = 0
        self._held = b""
        self._extensions = 0
        self._seen = 0
        self._maxTrailers = maxTrailers
        self._maxFields = maxFields
        self.done = False
        self.rest = b""
        self.trailers: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """
        Decode the next piece.

        @param data: what was read.
        @return: the payload in it.
        @raise MalformedMessage: if this is no chunked body.
        """
        if self._state == _DATA and len(data) < self._left:
            # the common case of a large chunk: all of it is payload
            self._left -= len(data)
            return data
        if self._held:
            data = self._held + data
            self._held = b""
        pieces: list[bytes] = []
        at = 0
        while not self.done:
            state = self._state
            if state == _DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = _BEHIND
            elif state == _BEHIND:
                ending = data[at : at + 2]
                if ending == b"\r\n":
                    at += 2
                    self._state = _SIZE
                elif ending in (b"", b"\r"):
                    self._held = ending
                    break
                else:
                    raise MalformedMessage("no CRLF behind a chunk")
            elif state == _SIZE:
                end = self._size(data, at)
                if end < 0:
                    break
                at = end
            else:
                end = self._trailers(data, at)
                if end < 0:
                    break
                at = end
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _size(self, data: bytes, at: int) -> int:
        """
        Read a chunk's size line.

        @return: where the chunk begins, or -1 if the line is incomplete.
        """
        end = data.find(b"\r\n", at)
        if end < 0:
            self._held = held = data[at:]
            if held and _isSizeStart(held) is None:
                raise MalformedMessage("a malformed chunk size")
            if self._extensions + len(held) > MAX_EXTENSIONS + 18:
                raise MalformedMessage("chunk extensions too long")
            return -1
        match = _sizeLine(data, at, end)
        if match is None:
            raise MalformedMessage("a malformed chunk size")
        if match[2] is not None:
            self._extensions += len(match[2])
            if self._extensions > MAX_EXTENSIONS:
                raise MalformedMessage("chunk extensions too long")
        self._left = int(match[1], 16)
        if self._left > MAX_LENGTH:
            raise MalformedMessage("a chunk size too large")
        self._state = _DATA if self._left else _TRAILERS
        return end + 2

    def _trailers(self, data: bytes, at: int) -> int:
        """
        Read the trailer section.

        @return: where the body ends, or -1 if the section is incomplete.
        """
        if data.startswith(b"\r\n", at):
            end = at
        else:
            # what was looked at when it came is not looked at again, however small the pieces are
            end = data.find(b"\r\n\r\n", at + max(0, self._seen - 3))
        if (end if end >= 0 else len(data)) - at > self._maxTrailers:
            raise MalformedMessage("trailers too long", 431)
        if end < 0:
            self._held = held = data[at:]
            if headFault(held, max(0, self._seen - 1)) is not None:
                raise MalformedMessage("a trailer line that ends without CR")
            self._seen = len(held)
            return -1
        self.trailers = parseTrailers(data[at:end], self._maxFields)
        self._state = _DONE
        self.done = True
        return end + (2 if end == at else 4)
