"""
Lines of a response head that are written again and again, remembered.
"""

from __future__ import annotations

STATUS_LINES: dict[tuple[int, bytes], bytes] = {}
LENGTH_LINES: dict[int, bytes] = {}


def statusLine(status: int, reason: bytes) -> bytes:
    """
    @return: the status line of a response, without its CRLF.
    """
    line = STATUS_LINES.get((status, reason))
    if line is None:
        line = b"HTTP/1.1 %d %b" % (status, reason)
        if len(STATUS_LINES) < 512 and len(reason) <= 64:
            STATUS_LINES[(status, reason)] = line
    return line


def lengthLine(length: int) -> bytes:
    """
    @return: a Content-Length line; those of small bodies are remembered.
    """
    line = LENGTH_LINES.get(length)
    if line is None:
        line = b"Content-Length: %d" % length
        if length < 65536:
            if len(LENGTH_LINES) >= 4096:
                LENGTH_LINES.clear()
            LENGTH_LINES[length] = line
    return line
