# -*- test-case-name: tests.core.test_errorpage -*-
"""
What the client is told of a failure: the status in words, and nothing of what is behind the proxy (B7.3).
"""

from __future__ import annotations

import json

from twistproxy.errors import ProxyError
from twistproxy.headers import Headers
from twistproxy.message import REASONS, Request, Response

_PLAIN = b"Content-Type: text/plain; charset=utf-8"

#: RFC 9110 15.5.6 wants a 405 to say what is allowed.
_ALLOW = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def plainResponse(status: int, phrase: str | None = None) -> Response:
    """
    @param phrase: what is told behind the status; its reason phrase by default.
    @return: a response of one line of text.
    """
    return Response(status, Headers([_PLAIN]), _line(status, _phraseOf(status) if phrase is None else phrase))


def errorResponse(error: ProxyError, request: Request, requestID: bytes) -> Response:
    """
    @param error: what happened; only its status is told.
    @param request: the request; it decides between text and JSON (RFC 9457).
    @param requestID: the id under which the operator finds it in the log.
    @return: the default response.
    """
    status = error.status
    phrase = _phraseOf(status)
    accept = (request.headers.get(b"accept") or b"").lower()
    if b"application/problem+json" in accept or b"application/json" in accept:
        problem = {"type": "about:blank", "title": phrase, "status": status}
        if requestID:
            problem["request_id"] = requestID.decode("latin-1")
        body = json.dumps(problem).encode("utf-8") + b"\n"
        lines = [b"Content-Type: application/problem+json"]
    else:
        body = _line(status, phrase)
        lines = [_PLAIN]
    if status == 405:
        lines.append(_ALLOW)
    lines.append(b"Cache-Control: no-store")
    return Response(status, Headers(lines), body)


def _phraseOf(status: int) -> str:
    return REASONS.get(status, b"Error").decode("ascii")


def _line(status: int, phrase: str) -> bytes:
    return f"{status} {phrase}\n".encode()
