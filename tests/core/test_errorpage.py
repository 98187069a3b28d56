"""
What the client is told of a failure.
"""

from __future__ import annotations

import json

import pytest

from tests.support.flow import request
from twistproxy.core.errorpage import errorResponse, plainResponse
from twistproxy.errors import (
    ClientError,
    HookFailed,
    ProxyError,
    Side,
    Stage,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from twistproxy.message import Response

SECRET = "10.0.0.7:8081 refused the connection"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UpstreamError(SECRET, Stage.CONNECT), b"502 Bad Gateway\n"),
        (UpstreamTimeout("responseHead", Stage.WAIT), b"504 Gateway Timeout\n"),
        (Unavailable(SECRET), b"503 Service Unavailable\n"),
        (HookFailed("director", SECRET), b"500 Internal Server Error\n"),
        (ClientError(SECRET, 413), b"413 Content Too Large\n"),
        (ProxyError(SECRET, Stage.HEAD, Side.DOWNSTREAM, status=499), b"499 Error\n"),
    ],
)
def test_text(error: ProxyError, text: bytes) -> None:
    """B7.3: a short text names the status, and nothing of what is behind the proxy."""
    response = errorResponse(error, request(), b"id-1")
    assert (response.status, response.body) == (error.status, text)
    assert response.headers.items() == [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
    ]


@pytest.mark.parametrize("accept", [b"application/json", b"text/html, Application/Problem+JSON;q=0.9"])
def test_problem(accept: bytes) -> None:
    """B7.3: who asks for JSON gets a problem of RFC 9457, with the id that the operator finds in the log."""
    inbound = request(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: " + accept)
    response = errorResponse(UpstreamError(SECRET, Stage.CONNECT), inbound, b"id-1")
    assert response.headers.get("content-type") == b"application/problem+json"
    assert json.loads(response.body) == {
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "request_id": "id-1",
    }


def test_problemWithoutID() -> None:
    """B7.3: what failed before it had an id says none."""
    inbound = request(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json")
    response = errorResponse(ClientError("no", 400), inbound, b"")
    assert json.loads(response.body) == {"type": "about:blank", "title": "Bad Request", "status": 400}


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (plainResponse(404), b"404 Not Found\n"),
        (plainResponse(503, "the application is closed"), b"503 the application is closed\n"),
    ],
    ids=["of the status", "of its own"],
)
def test_plain(response: Response, text: bytes) -> None:
    """What is answered without a failure is one line of text too."""
    assert (response.status, response.body) == (int(text[:3]), text)
    assert response.headers.items() == [(b"Content-Type", b"text/plain; charset=utf-8")]


def test_allow() -> None:
    """B1.8: a 405 says which methods there are (RFC 9110 15.5.6)."""
    response = errorResponse(ClientError("no", 405), request(), b"")
    assert response.headers.get("allow") == b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
