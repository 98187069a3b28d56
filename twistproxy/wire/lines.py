"""
Lines of a response head that are written again and again, remembered.
"""

from __future__ import annotations

_statusLines: dict[tuple[int, bytes], bytes] = {}
_lengthLines: dict[int, bytes] = {}

#: Called with a status and its reason, and with a length: the line, or C{None} if it has to be made.
knownStatusLine = _statusLines.get
knownLengthLine = _lengthLines.get


def statusLine(status: int, reason: bytes) -> bytes:
    """
    @return: the status line of a response, without its CRLF.
    """
    line = knownStatusLine((status, reason))
    if line is None:
        line = b"HTTP/1.1 %d %b" % (status, reason)
        if len(_statusLines) < 512 and len(reason) <= 64:
            _statusLines[(status, reason)] = line
    return line


def lengthLine(length: int) -> bytes:
    """
    @return: a Content-Length line; those of small bodies are remembered.
    """
    line = knownLengthLine(length)
    if line is None:
        line = b"Content-Length: %d" % length
        if length < 65536:
            if len(_lengthLines) >= 4096:
                _lengthLines.clear()
            _lengthLines[length] = line
    return line
