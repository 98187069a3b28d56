# -*- test-case-name: tests.rules.test_framing -*-
"""
How long a message is: RFC 9112 6.3, without its leniencies.

RFC 9112 lets a recipient repair some contradictory messages.  Two parsers that repair differently are how
requests are smuggled, so our own rule is simpler: whatever could be read in two ways is refused.
"""

from __future__ import annotations

import re

from twistproxy.errors import MalformedMessage
from twistproxy.headers import OWS

#: The largest length that fits a signed 64-bit integer, as other servers count.
MAX_LENGTH = 2**63 - 1

# Never int() on unchecked text: it takes signs, underscores, white space and other scripts' digits.
_isDigits = re.compile(rb"[0-9]{1,19}").fullmatch


def contentLength(value: bytes) -> int:
    """
    Read the value of a C{Content-Length} field.

    @param value: the value; a list of identical members collapses to one (RFC 9110 8.6).
    @return: the length in bytes.
    @raise MalformedMessage: for anything but digits, a list of different members, or more than L{MAX_LENGTH}.
    """
    if b"," in value:
        members = {member.strip(OWS) for member in value.split(b",")}
        # White space around the whole is no part of a value: alone, such a member would be refused as well.
        if len(members) != 1 or value != value.strip(OWS):
            raise MalformedMessage("Content-Length lists different lengths")
        value = members.pop()
    if _isDigits(value) is None:
        raise MalformedMessage("Content-Length is not a number")
    length = int(value)
    if length > MAX_LENGTH:
        raise MalformedMessage("Content-Length is too large")
    return length


def transferCoding(value: bytes, minor: int) -> None:
    """
    Check the value of the one C{Transfer-Encoding} field of a message.

    @param value: the value.
    @param minor: the message's minor HTTP version.
    @raise MalformedMessage: unless it is exactly C{chunked}, in HTTP/1.1.
    """
    if minor == 0:
        raise MalformedMessage("Transfer-Encoding in HTTP/1.0")
    if value.lower() != b"chunked":
        codings = [member.strip(OWS).lower() for member in value.split(b",")]
        if codings.count(b"chunked") > 1 or (b"chunked" in codings and codings[-1] != b"chunked"):
            raise MalformedMessage("chunked is not the one final transfer coding")
        raise MalformedMessage("unknown transfer coding", 501)


def hasNoBody(method: bytes, status: int) -> bool:
    """
    @return: whether a response has no body whatever its header says (RFC 9112 6.3, rules 1 and 2).
    """
    return method == b"HEAD" or status in (204, 304) or status < 200
