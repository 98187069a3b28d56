# -*- test-case-name: tests.wire.test_h1head -*-
"""
HTTP/1.1 heads: what they mean for their message and its connection.

The hot path of a proxy is reading heads that look like the last ones of their connection, so each is compared with its
predecessor first.  Those that differ are taken apart in L{twistproxy.wire.fieldlines}.
"""

from __future__ import annotations

import re
from typing import Any

from twistproxy.errors import MalformedMessage
from twistproxy.headers import TOKEN, lineName, membersOf
from twistproxy.message import Field, Peer, Request, UpstreamResponse
from twistproxy.rules.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    EXPECT,
    FORWARDING,
    HOST,
    KNOWN,
    NOT_IN_TRAILERS,
    REQUEST_ID,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
)
from twistproxy.rules.framing import hasNoBody, transferCoding
from twistproxy.rules.hopbyhop import withoutH2C, withoutNamed
from twistproxy.rules.validity import originForm, requestLine, validUpgrade
from twistproxy.wire.connection import BLANK
from twistproxy.wire.fieldlines import CLOSE, KEEP_ALIVE, UPGRADING, fieldLines

#: The largest header block that a connection keeps for comparison.
_MAX_BLOCK = 4096
_SLASH = 0x2F
_statuses: dict[bytes, tuple[int, bytes, int]] = {}

_isToken = TOKEN.fullmatch
_statusLine = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?").fullmatch
_setsCookie = re.compile(rb"\r\nset-cookie2?:", re.IGNORECASE).search
_bareLF = re.compile(rb"(?<!\r)\n").search
NO_NAMES: frozenset[bytes] = frozenset()


def headFault(head: bytes, start: int) -> str | None:
    """
    Look at an incomplete head for what can never become a good one, so that the sender hears of it now and not when
    time runs out.

    @param head: what has come.
    @param start: where the part begins that was not looked at yet.
    """
    if _bareLF(head, start):
        return "a line that ends without CR"
    return None


class RequestParser:
    """
    Parses the request heads of one connection.

    Clients repeat themselves: header lines that were the same twice are kept with what they mean, and a head that is
    the same to the byte, or the same but for the request line, means the same.  They go with the connection and are
    never compared with anybody else's.

    @ivar whole: a request without a body, to its last byte, which L{again} can be asked for; C{b""} if there is none.
    """

    __slots__ = ("_block", "_head", "_last", "_maxFields", "whole")

    def __init__(self, maxFields: int) -> None:
        """
        @param maxFields: the largest number of header fields.
        """
        self._maxFields = maxFields
        self.whole = self._head = self._block = b""
        self._last: Request | None = None

    def again(self, peer: Peer) -> Request:
        """
        @return: what L{whole} is, which has come once more.
        """
        last = self._last
        assert last is not None
        return Request(peer, last.method, last.target, last.minor, last.lines, last.forward, last.fields, last)

    def parse(self, head: bytes, peer: Peer) -> Request:
        """
        Parse a request head.

        @param head: request line and header lines, without the empty line at the end.
        @param peer: who sent it.
        @return: the request; its C{fault} is not set, its body not yet known.
        @raise MalformedMessage: if it must be refused.
        """
        last = self._last
        if last is not None and head == self._head:
            return self.again(peer)
        line, _, block = head.partition(b"\r\n")
        method, target, minor = requestLine(line)
        authority = None
        if target[0] != _SLASH and method != b"CONNECT":
            target, authority = originForm(method, target)
        again = block == self._block
        if again and last is not None and minor == last.minor:
            request = Request(peer, method, target, minor, last.lines, last.forward, last.fields, last)
        else:
            lines, forward, fields = fieldLines(block, self._maxFields)
            request = Request(peer, method, target, minor, lines, forward, fields)
            _interpret(request, fields)
            if minor and not request.host:
                # RFC 9112 3.2: with a target in absolute form, too
                raise MalformedMessage("no Host")
            self._last = None
            self.whole = self._head = b""
            if authority is None and again:
                if request.length == 0:
                    self.whole = head + BLANK
                else:
                    self._head = head
                # another object, for what is kept with the connection must not keep a body with it
                self._last = Request(peer, method, target, minor, lines, request.forward, request.fields, request)
            elif len(block) <= _MAX_BLOCK:
                self._block = block
        if authority is not None:
            request.host = authority
        return request


def parseRequest(head: bytes, peer: Peer, maxFields: int) -> Request:
    """
    Parse one request head; see L{RequestParser.parse}.
    """
    return RequestParser(maxFields).parse(head, peer)


def _interpret(request: Request, fields: list[Field]) -> None:
    """
    Draw from the classified fields what the request means for its connection: host, framing, persistence, upgrade.
    """
    minor = request.minor
    host: bytes | None = None
    length: int | None = None
    chunked = False
    options = 0
    named: frozenset[bytes] = NO_NAMES
    upgrade: bytes | None = None
    trailers: list[bytes] = []
    kinds = 0
    for kind, _, _, value, meaning in fields:
        kinds |= 1 << kind
        if kind == HOST:
            if host is not None:
                raise MalformedMessage("two Host fields")
            if not meaning:
                raise MalformedMessage("an invalid Host")
            host = value
        elif kind == CONNECTION:
            options |= meaning[0]
            if meaning[1]:
                named |= meaning[1]
        elif kind == CONTENT_LENGTH:
            length = _sameLength(length, meaning)
        elif kind == TRANSFER_ENCODING:
            if chunked:
                raise MalformedMessage("two Transfer-Encoding fields")
            transferCoding(value, minor)
            chunked = True
        elif kind == TRAILER:
            announced = announcement(value)
            if announced is not None:
                trailers.append(announced)
        elif kind == UPGRADE:
            upgrade = value if upgrade is None else upgrade + b", " + value
        elif kind == EXPECT and not minor:
            # RFC 9110 10.1.1: to be ignored in HTTP/1.0; forwarded in 1.1 it would ask for a 100.
            named |= {b"expect"}
    if chunked and length is not None:
        raise MalformedMessage("Content-Length together with Transfer-Encoding")
    request.kinds = kinds
    request.host = host or b""
    request.length = None if chunked else (length or 0)
    request.keepAlive = not options & CLOSE and (minor == 1 or options & KEEP_ALIVE != 0)
    if upgrade is not None and minor and options & UPGRADING:
        if not validUpgrade(upgrade):
            raise MalformedMessage("an Upgrade field with unprintable characters")
        request.upgrade = withoutH2C(upgrade)
    if trailers and chunked:
        # without chunks there is no place for trailers
        request.forward += trailers
    if named:
        request.forward = withoutNamed(request.forward, named)
        # so that rules which look at the fields do not see them either
        request.fields = [field for field in fields if field[2] not in named]


def _sameLength(known: int | None, length: int) -> int:
    if known is not None and known != length:
        raise MalformedMessage("two different Content-Length fields")
    return length


def parseStatusLine(line: bytes) -> tuple[int, bytes, int]:
    """
    @param line: a status line without its CRLF.
    @return: status, reason phrase, minor version.
    @raise MalformedMessage: if it is malformed, or not of HTTP/1.
    """
    known = _statuses.get(line)
    if known is None:
        match = _statusLine(line)
        if match is None:
            raise MalformedMessage("a malformed status line")
        known = (int(match[2]), match[3] or b"", 0 if match[1] == b"0" else 1)
        if len(line) <= 64 and len(_statuses) < 512:
            _statuses[line] = known
    return known


class _ResponseBlock:
    """
    What a response head means, whatever request it answers.
    """

    __slots__ = ("chunked", "dated", "keepAlive", "length", "lines", "minor", "raw", "reason", "status", "upgrade")

    def __init__(self, raw: bytes, maxFields: int) -> None:
        line, _, block = raw.partition(b"\r\n")
        self.raw = raw
        self.status, self.reason, self.minor = parseStatusLine(line)
        lines, self.lines, fields = fieldLines(block, maxFields)
        self.upgrade: bytes | None = None
        self.dated = False
        length: int | None = None
        chunked = False
        options = 0
        names: frozenset[bytes] = NO_NAMES
        trailers: list[bytes] = []
        passing = False
        for kind, _, _, value, meaning in fields:
            if kind == DATE:
                self.dated = True
            elif kind == CONTENT_LENGTH:
                length = _sameLength(length, meaning)
            elif kind == CONNECTION:
                options |= meaning[0]
                if meaning[1]:
                    names |= meaning[1]
            elif kind == TRANSFER_ENCODING:
                if chunked:
                    raise MalformedMessage("two Transfer-Encoding fields")
                transferCoding(value, self.minor)
                chunked = True
            elif kind == TRAILER:
                announced = announcement(value)
                if announced is not None:
                    trailers.append(announced)
            elif kind == UPGRADE:
                self.upgrade = value
            elif kind in _PASS_IN_RESPONSES:
                passing = True
        if chunked and length is not None:
            raise MalformedMessage("Content-Length together with Transfer-Encoding")
        if passing:
            self.lines = [line for line in lines if lineName(line) not in _NOT_IN_RESPONSES]
        if names:
            self.lines = withoutNamed(self.lines, names)
        if trailers and chunked:
            self.lines += trailers
        self.length = length
        self.chunked = chunked
        self.keepAlive = not options & CLOSE and (self.minor == 1 or options & KEEP_ALIVE != 0)


class ResponseParser:
    """
    Parses the response heads of one connection.

    As with requests, a head that is the same to the byte as the last one means the same; one that sets a cookie is not
    kept.
    """

    __slots__ = ("_last", "_maxFields")

    def __init__(self, maxFields: int) -> None:
        """
        @param maxFields: the largest number of header fields.
        """
        self._maxFields = maxFields
        self._last: _ResponseBlock | None = None

    def parse(self, head: bytes, method: bytes, connection: Any) -> UpstreamResponse:
        """
        Parse a response head.

        @param head: status line and header lines, without the empty line at the end.
        @param method: the method of the request it answers.
        @param connection: what it came over.
        @return: the response, with C{length}, C{chunked} and C{keepAlive} as far as they can be known from the head.
        @raise MalformedMessage: if it cannot be forwarded faithfully.
        """
        block = self._last
        if block is None or block.raw != head:
            block = _ResponseBlock(head, self._maxFields)
            self._last = block if len(head) <= _MAX_BLOCK and not _setsCookie(head) else None
        status = block.status
        response = UpstreamResponse(status, block.reason, block.minor, block.lines, connection)
        response.dated = block.dated
        response.upgrade = block.upgrade
        if (status != 200 or method == b"HEAD") and hasNoBody(method, status):
            if status >= 200 and status != 204:
                response.contentLength = block.length
            response.length = 0
            response.keepAlive = block.keepAlive
        else:
            response.length = block.length
            response.chunked = block.chunked
            # Only a length that is known from the head leaves the connection at a known place.
            response.keepAlive = block.keepAlive and (block.chunked or block.length is not None)
        return response


def parseResponse(head: bytes, method: bytes, connection: Any, maxFields: int) -> UpstreamResponse:
    """
    Parse one response head; see L{ResponseParser.parse}.
    """
    return ResponseParser(maxFields).parse(head, method, connection)


# What a client may claim about itself is taken out of requests; in a response the same names are the upstream's own.
_PASS_IN_RESPONSES = frozenset((FORWARDING, REQUEST_ID))
_NOT_IN_RESPONSES = frozenset(
    name for name, (kind, kept) in KNOWN.items() if not kept and kind not in _PASS_IN_RESPONSES
)


def announcement(value: bytes) -> bytes | None:
    """
    Rebuild a C{Trailer} field (RFC 9110 6.6.2; B5.7).

    @param value: its value, as received.
    @return: the line that announces those of the fields that will be forwarded, or C{None} if none will.
    """
    names = [name for name in membersOf(value) if _isToken(name) is not None and name not in NOT_IN_TRAILERS]
    return b"Trailer: " + b", ".join(names) if names else None


def parseTrailers(block: bytes, maxFields: int) -> list[bytes]:
    """
    Parse the trailer section of a chunked message.

    @param block: its lines, without the empty line at the end.
    @return: the lines that may be forwarded: forbidden ones (RFC 9110 6.5.1) are dropped.
    @raise MalformedMessage: if one is invalid, or there are too many.
    """
    lines, _, _ = fieldLines(block, maxFields)
    return [line for line in lines if lineName(line) not in NOT_IN_TRAILERS]
