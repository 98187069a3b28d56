"""
What upstreams should not send, and do: tables of it.
"""

from __future__ import annotations

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A response head."""
    return b"\r\n".join((status, *lines, b"", b""))


#: Heads that cannot be read in one way only: 502.
HEADS: dict[str, bytes] = {
    "garbage": b"\x00\xffgarbage\r\n\r\n",
    "HTML": b"<html><body>Hello</body></html>\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x16",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "ICY": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "empty line first": b"\r\n" + head(b"Content-Length: 0"),
    "header line first": b"Content-Length: 0\r\n\r\n",
    "space first": b" " + head(b"Content-Length: 0"),
    "HTTP/2.0": head(b"Content-Length: 0", status=b"HTTP/2.0 200 OK"),
    "lower-case version": head(b"Content-Length: 0", status=b"http/1.1 200 OK"),
    "no minor version": head(b"Content-Length: 0", status=b"HTTP/1 200 OK"),
    "two-digit status": head(b"Content-Length: 0", status=b"HTTP/1.1 20 OK"),
    "four-digit status": head(b"Content-Length: 0", status=b"HTTP/1.1 2000 OK"),
    "status 099": head(b"Content-Length: 0", status=b"HTTP/1.1 099 OK"),
    "status 600": head(b"Content-Length: 0", status=b"HTTP/1.1 600 OK"),
    "no status": head(b"Content-Length: 0", status=b"HTTP/1.1"),
    "no space before the reason": head(b"Content-Length: 0", status=b"HTTP/1.1 200OK"),
    "two spaces before the status": head(b"Content-Length: 0", status=b"HTTP/1.1  200 OK"),
    "status of other digits": head(b"Content-Length: 0", status="HTTP/1.1 \u0662\u0660\u0660 OK".encode()),
    "NUL in the reason": head(b"Content-Length: 0", status=b"HTTP/1.1 200 O\x00K"),
    "CR in the reason": head(b"Content-Length: 0", status=b"HTTP/1.1 200 OK\rX: y"),
    "LF in the reason": head(b"Content-Length: 0", status=b"HTTP/1.1 200 OK\nX: y"),
    "escape in the reason": head(b"Content-Length: 0", status=b"HTTP/1.1 200 \x1b[2J"),
    "bare LFs": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "LF at the end": OK + b"Content-Length: 0\r\n\n",
    "two lengths": head(b"Content-Length: 5", b"Content-Length: 6") + b"hello!",
    "list of lengths": head(b"Content-Length: 5, 6") + b"hello!",
    "negative length": head(b"Content-Length: -5") + b"hello",
    "length with plus": head(b"Content-Length: +5") + b"hello",
    "empty length": head(b"Content-Length:") + b"hello",
    "length 2^63": head(b"Content-Length: 9223372036854775808") + b"hello",
    "length and chunks": head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunks and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n",
    "unknown coding": head(b"Transfer-Encoding: gzip") + b"hello",
    "identity": head(b"Transfer-Encoding: identity", b"Content-Length: 5") + b"hello",
    "gzip, chunked": head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "chunked twice": head(*[b"Transfer-Encoding: chunked"] * 2) + b"0\r\n\r\n",
    "chunks in HTTP/1.0": head(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK") + b"0\r\n\r\n",
    "folded line": head(b"X: y", b" z", b"Content-Length: 0"),
    "fold behind the status": head(b" X: y", b"Content-Length: 0"),
    "no colon": head(b"X", b"Content-Length: 0"),
    "no name": head(b": y", b"Content-Length: 0"),
    "space before the colon": head(b"X : y", b"Content-Length: 0"),
    "space before Content-Length's colon": head(b"Content-Length : 0"),
    "NUL in a value": head(b"X: y\x00", b"Content-Length: 0"),
    "CR in a value": head(b"X: y\rSet-Cookie: a", b"Content-Length: 0"),
    "LF in a value": head(b"X: y\nSet-Cookie: a", b"Content-Length: 0"),
    "head too large": head(b"X: " + b"y" * 65536, b"Content-Length: 0"),
    "head without end": head(b"X: " + b"y" * 66000)[:-4],
    "201 fields": head(*[b"X-%d: y" % n for n in range(200)], b"Content-Length: 0"),
    "17 interims": head(status=b"HTTP/1.1 103 Early Hints") * 17 + head(b"Content-Length: 0"),
    "broken interim": head(b"X : y", status=b"HTTP/1.1 103 Early Hints") + head(b"Content-Length: 0"),
    "bare 101": head(status=b"HTTP/1.1 101 Switching Protocols"),
    "101 not asked for": head(
        b"Connection: Upgrade", b"Upgrade: websocket", status=b"HTTP/1.1 101 Switching Protocols"
    ),
}

#: Bodies behind a head that announces chunks.
CHUNKS: dict[str, bytes] = {
    "size with plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "space behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "17 digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "LF behind the size": b"5\nhello\n0\n\n",
    "data too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "bad size of the second": b"5\r\nhello\r\nx\r\n\r\n",
    "extension without end": b"5;" + b"a" * 5000,
    "trailer without colon": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    "trailers too large": b"5\r\nhello\r\n0\r\nX: " + b"y" * 66000,
    "201 trailers": b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 201 + b"\r\n",
}

#: What came before the end of the connection, and how it then ended.
ENDINGS: dict[str, tuple[bytes, str]] = {
    "closed at once": (b"", "EOF"),
    "reset at once": (b"", "reset"),
    "closed in the status line": (b"HTTP/1.1 20", "EOF"),
    "closed in the head": (OK + b"Content-Length: 5\r\n", "EOF"),
    "reset in the head": (OK + b"Content-Length: 5\r\n", "reset"),
    "interim and closed": (head(status=b"HTTP/1.1 103 Early Hints"), "EOF"),
    "interim and reset": (head(status=b"HTTP/1.1 100 Continue"), "reset"),
}

#: The same, behind the final head.
BREAKS: dict[str, tuple[bytes, str]] = {
    "closed short of the length": (head(b"Content-Length: 5") + b"hell", "EOF"),
    "closed before the body": (head(b"Content-Length: 5"), "EOF"),
    "reset short of the length": (head(b"Content-Length: 5") + b"hell", "reset"),
    "closed before the first chunk": (CHUNKED, "EOF"),
    "closed in a chunk": (CHUNKED + b"5\r\nhel", "EOF"),
    "closed between chunks": (CHUNKED + b"5\r\nhello\r\n", "EOF"),
    "closed in the last chunk": (CHUNKED + b"5\r\nhello\r\n0\r\n", "EOF"),
    "closed in the trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n", "EOF"),
    "reset between chunks": (CHUNKED + b"5\r\nhello\r\n", "reset"),
    "reset of what only the end ends": (OK + b"\r\nhello", "reset"),
}
