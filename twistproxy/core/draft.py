# -*- test-case-name: tests.core.test_draft -*-
"""
Steps 1, 2 and 10: what is refused, and the heads that go on.

The outbound head is drafted before any hook sees it, so that what a hook sets is never taken out again by what a client
named in C{Connection} (B2.2), and what a client claims about itself never reaches an upstream that believes it (B2.4).
"""

from __future__ import annotations

import os
import re
from itertools import count, islice
from time import gmtime
from typing import Any, cast

from twistproxy.core.settings import ProxySettings
from twistproxy.errors import ClientError, LoopDetected
from twistproxy.events import ExchangeRecord
from twistproxy.headers import NOT_IN_VALUE, TOKEN, checkLines, lineName, membersOf
from twistproxy.message import OutboundRequest, Request, Response, UpstreamResponse
from twistproxy.rules.fields import (
    CDN_LOOP,
    CONNECTION,
    CONTENT_LENGTH,
    FORWARDING,
    HOP,
    HOST,
    KNOWN,
    REQUEST_ID,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VIA,
)
from twistproxy.rules.forwarded import clientAddress, isTrusted
from twistproxy.rules.target import cleanTarget, pathFault
from twistproxy.rules.validity import validHost, validUpgrade

# Made many at a time, which costs a fraction of formatting each in the middle of its exchange.
_ids: list[tuple[bytes, bytes]] = []
_idPrefix = b"X-Request-ID: "
_idFormat = os.urandom(6).hex().encode("ascii") + b"%08x"
_idCount = count(1)

#: The kinds of fields that drafting looks at, as bits.
_LOOKED_AT = 1 << VIA | 1 << TE | 1 << REQUEST_ID | 1 << CDN_LOOP

_isToken = TOKEN.fullmatch
_isID = re.compile(rb"[\x21-\x7e]{1,256}").fullmatch
_isTarget = re.compile(rb"[\x21\x22\x24-\x7e\x80-\xff]+").fullmatch
_NOT_A_DIRECTORS = tuple(
    name
    for name, (kind, _) in KNOWN.items()
    if kind in (HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, UPGRADE, TE, HOP)
)

_OF_BODIES = ("pauseProducing", "resumeProducing", "stopProducing")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _moreIDs() -> tuple[bytes, bytes]:
    """
    @return: the next request id, and its line; those after it lie ready.
    """
    ids = [_idFormat % number for number in islice(_idCount, 256)][::-1]
    _ids.extend([(requestID, _idPrefix + requestID) for requestID in ids])
    return _ids.pop()


def identify(request: Request, settings: ProxySettings, record: ExchangeRecord) -> None:
    """
    Find out of a request that is refused undrafted what the log tells of every request (B2.5, B7.3).

    @param record: told the client's address, and an id for the request.
    """
    resolveClient(request, settings, record)
    if not record.requestID:
        record.requestID, _ = _ids.pop() if _ids else _moreIDs()


def resolveClient(request: Request, settings: ProxySettings, record: ExchangeRecord) -> None:
    """
    Find out who the client is, should the peer be a trusted proxy (B2.5).

    @param record: told the client's address.
    """
    host = request.peer.host
    claims = [value for _, _, name, value, _ in request.fields if name == b"x-forwarded-for"]
    record.client = clientAddress(host, claims, settings.trustedProxies)


#: Methods that may have to be refused.
UNUSUAL = frozenset((b"CONNECT", b"TRACE"))


def refuse(request: Request, settings: ProxySettings) -> None:
    """
    Refuse what cannot, or must not, be forwarded (B1).

    @raise ProxyError: if so.
    """
    if request.fault is not None:
        raise request.fault
    method = request.method
    if method == b"CONNECT":
        raise ClientError("CONNECT asks for a forward proxy, which this is not", 405)
    if method == b"TRACE" and not settings.allowTrace:
        raise ClientError("TRACE is not allowed", 405)
    if settings.maxRequestBody is not None:
        length = len(request.body) if type(request.body) is bytes else request.length
        if length is not None and length > settings.maxRequestBody:
            raise ClientError(f"a request body of more than {settings.maxRequestBody} bytes", 413)
    if settings.strictPaths:
        fault = pathFault(request.target)
        if fault is not None:
            raise ClientError(fault)


def draftOutbound(request: Request, settings: ProxySettings, record: ExchangeRecord) -> OutboundRequest:
    """
    Draft the request that goes upstream; where it goes is not known yet.

    @param request: what the client sent.
    @param record: told the client's address and the request's id.
    @raise LoopDetected: if the request has been here before, too often.
    """
    lines = request.forward.copy()
    requestID = None
    trusted = False
    if settings.trustedProxies and isTrusted(request.peer.host, settings.trustedProxies):
        trusted = True
        lines = _withClaims(request)
        resolveClient(request, settings, record)
    trailers = False
    if request.kinds & _LOOKED_AT:
        passes = 0
        for kind, _, _, value, _ in request.fields:
            if kind == VIA and settings.via is not None:
                passes += _passes(value, settings.via)
            elif kind == TE:
                trailers = trailers or b"trailers" in membersOf(value)
            elif kind == REQUEST_ID and trusted and requestID is None:
                # one that would not stay one word in the log is none
                requestID = value if _isID(value) else None
            elif kind == CDN_LOOP and settings.cdnLoop is not None:
                passes += membersOf(value).count(settings.cdnLoop.lower().encode("ascii"))
        if passes > settings.maxVia:
            raise LoopDetected(passes)
    if settings.viaLines is not None:
        lines.append(settings.viaLines[request.minor and 1])
    if settings.cdnLoop is not None:
        lines.append(b"CDN-Loop: " + settings.cdnLoop.encode("ascii"))
    if requestID is None:
        requestID, line = _ids.pop() if _ids else _moreIDs()
    else:
        line = _idPrefix + requestID
    record.requestID = requestID
    lines.append(line)
    target = request.target
    if b"?" in target and not settings.rawQuery:
        target = cleanTarget(target)
    outbound = OutboundRequest(request.method, target, None, request.host, lines, request.body, record)
    if request.upgrade is not None:
        outbound.upgrade = request.upgrade
    if trailers:
        outbound.acceptsTrailers = True
    if request.length is None:
        outbound.chunked = type(request.body) is bytes
        outbound.trailers = request.trailers
    return outbound


def completeOutbound(outbound: OutboundRequest, request: Request) -> None:
    """
    Look at what a director has made of the head: framing and hop-by-hop fields are not its business, and Host is an
    attribute.

    @param outbound: the draft in the director's hands.
    @param request: what it was made of.
    @raise ValueError: if it named no upstream, or a method, target or host that would break the head.
    """
    if outbound.upstream is None:
        raise ValueError("it returned None without having called request.setTarget()")
    if outbound.view is not None and outbound.view.edited:
        headers = outbound.headers
        host = headers.get(b"host")
        if host is not None:
            outbound.host = host
        headers.removeAll(_NOT_A_DIRECTORS)
    # What is still the very object that came from the wire, or from a target, was validated there.
    if outbound.method is not request.method and _isToken(outbound.method) is None:
        raise ValueError(f"the method {outbound.method!r} is no token")
    if outbound.target is not request.target and _isTarget(outbound.target) is None:
        raise ValueError(f"the target {outbound.target!r} has a character in it that must not stand there")
    if outbound.host is not outbound.upstream.authority and not validHost(outbound.host):
        raise ValueError(f"the host {outbound.host!r} is invalid")
    if outbound.upgrade is not request.upgrade and outbound.upgrade is not None and not validUpgrade(outbound.upgrade):
        raise ValueError(f"{outbound.upgrade!r} names no protocols to upgrade to")
    if outbound.trailers and outbound.trailers is not request.trailers:
        checkLines(outbound.trailers)
    if type(outbound.body) is not bytes:
        _checkBody(outbound.body)


def _withClaims(request: Request) -> list[bytes]:
    """
    @return: the lines to forward for a trusted peer: what it says about its client stays, in its place.
    """
    # Who is trusted speaks for X-Forwarded-For, and not for X_Forwarded_For, which it may have let through from
    # anybody.
    claims = {name for kind, _, name, _, _ in request.fields if kind == FORWARDING and b"_" not in name}
    if not claims:
        return request.forward.copy()
    forward = set(request.forward)
    lines = [line for line in request.lines if line in forward or lineName(line) in claims]
    # what the parser has rebuilt is not among the lines as received
    return lines + [line for line in request.forward if line not in request.lines]


def _passes(via: bytes, name: str) -> int:
    """
    @return: how many members of a Via field name this proxy.
    """
    wanted = name.lower().encode("ascii")
    return sum(1 for member in membersOf(via) if member.split()[1:2] == [wanted])


_dates: dict[int, bytes] = {}


def dateLine(now: float) -> bytes:
    """
    @param now: seconds since the epoch.
    @return: a Date header line (RFC 9110 5.6.7).
    """
    second = int(now)
    line = _dates.get(second)
    if line is None:
        year, month, day, hour, minute, sec, weekday, _, _ = gmtime(second)
        text = f"Date: {_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{sec:02} GMT"
        line = text.encode("ascii")
        _dates.clear()
        _dates[second] = line
    return line


def _checkBody(body: Any) -> None:
    """
    @raise TypeError: if that is no body, or only half of one.
    """
    if type(body) is bytes:
        return
    if not (hasattr(body, "deliver") and hasattr(body, "length")):
        raise TypeError(f"a body is bytes or an IBody, not {type(body).__name__}")
    for method in _OF_BODIES:
        if not hasattr(body, method):
            raise TypeError(f"a body is an IBody, and {type(body).__name__} has no {method}()")


def checkResponse(response: Any, least: int = 200) -> None:
    """
    Look at what a hook has made of a response, before any of it is sent.

    @param least: the lowest status that it may have.
    @raise TypeError: if it is no response.
    @raise ValueError: if its status is not a final one, or its reason phrase, its trailers or its protocol would break
        the message.
    """
    if not isinstance(response, Response):
        raise TypeError(f"it returned {response!r}, not a Response or None")
    status: Any = response.status
    if not (isinstance(status, int) and (200 <= status <= 599 or status == least)):
        raise ValueError(f"the status of a response is a number from 200 to 599, not {status!r}")
    if NOT_IN_VALUE.search(response.reason):
        raise ValueError(f"the reason phrase {response.reason!r} has a control character in it")
    if response.trailers:
        checkLines(response.trailers)
    upgrade = getattr(response, "upgrade", None)
    if status == 101 and upgrade is not None and not validUpgrade(upgrade):
        raise ValueError(f"{upgrade!r} names no protocol to switch to")
    length = response.contentLength
    if length is not None and (type(length) is not int or length < 0):
        raise ValueError(f"contentLength is a number of bytes or None, not {length!r}")
    _checkBody(response.body)


def answerOf(response: Any) -> Response:
    """
    @param response: what a hook returned to be sent.
    @return: the same, to be completed: a hook may return one and the same object every time.
    @raise TypeError: as L{checkResponse}.
    @raise ValueError: as L{checkResponse}.
    """
    checkResponse(response)
    if type(response) is not Response:
        return cast(Response, response)
    answer = Response(response.status, response.headers.copy(), response.body, response.reason)
    answer.trailers = response.trailers
    answer.contentLength = response.contentLength
    answer.chunked = response.chunked
    return answer


def draftResponse(response: Response, now: float) -> None:
    """
    Complete the head that goes to the client.  Hop-by-hop fields of an upstream are gone already; user code has no
    business setting them, nor framing, which is recomputed from the body.  A missing Date is added (RFC 9110 6.6.1).

    @param now: seconds since the epoch.
    """
    if response.edited or not isinstance(response, UpstreamResponse):
        headers = response.headers
        headers.removeAll(_NOT_A_DIRECTORS)
        response.dated = b"date" in headers
    if not response.dated and response.status != 101:
        response.ownLines().append(dateLine(now))
        response.dated = True
