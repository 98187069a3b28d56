# -*- test-case-name: tests.wire.test_fieldlines -*-
"""
The field lines of a head or of a trailer section: split, validated, classified.

Values differ from message to message, names hardly ever: a browser sends the same fields in the same order all day.  So
all values are checked in one go, whatever they are, and what the names amount to is looked up for all of them together,
as a L{Layout}.  No value is remembered but those that say how long a message is, whose it is and what becomes of its
connection; none of these is a secret.

Our rule is simpler than RFC 9112's (5): a line ends in CRLF and nothing else, a name is a token followed at once by a
colon, and there is no line folding.
"""

from __future__ import annotations

import re
from typing import Any

from twistproxy.errors import MalformedMessage
from twistproxy.headers import NOT_IN_VALUE, OWS, TOKEN
from twistproxy.message import Field
from twistproxy.rules.fields import CONNECTION, CONTENT_LENGTH, HOST, KNOWN
from twistproxy.rules.framing import contentLength
from twistproxy.rules.hopbyhop import connectionOptions
from twistproxy.rules.validity import validHost

# Options of Connection, as bits.
CLOSE, KEEP_ALIVE, UPGRADING = 1, 2, 4
_OPTION_BITS = {b"close": CLOSE, b"keep-alive": KEEP_ALIVE, b"upgrade": UPGRADING}

#: What is remembered, so that nobody can make it grow: layouts and how long the names in one may be together, lines
#: with a meaning and how long one may be.  The last are few, as a Connection that names eighty fields takes 12 KB:
#: whoever does his worst fills some 20 MB with both.
_MAX_LAYOUTS, _MAX_LAYOUT = 1024, 2048
_MAX_LINES, _MAX_LINE = 1024, 256

_EOL = b"\r\n"
_VALUE_BYTES = bytes(byte for byte in range(256) if not NOT_IN_VALUE.match(bytes((byte,))))
# Where a line lacks its colon, this takes the next line, too, for a part of the name, which is no token then.  It never
# looks at a byte twice, whatever is there.
_namesIn = re.compile(rb"\n([^:]*+)").findall
_isToken = TOKEN.fullmatch
_hasControl = NOT_IN_VALUE.search

#: What the rules know of a field: its kind, whether it is kept, its lower-case name.
_Known = tuple[int, bool, bytes]
_known: dict[bytes, _Known] = {lower: (kind, kept, lower) for lower, (kind, kept) in KNOWN.items()}
_meant: dict[bytes, Field] = {}


class Layout:
    """
    What a sequence of field names amounts to.

    @ivar dropped: where the lines stand that are not forwarded, the last one first.
    @ivar noticed: for each line that some rule looks at where it stands, where in it the value begins, and what is
        known of its field.
    """

    __slots__ = ("dropped", "noticed")

    def __init__(self, names: list[bytes]) -> None:
        """
        @param names: they are tokens.
        """
        dropped = []
        noticed = []
        for index, name in enumerate(names):
            known = _known.get(name.lower())
            if known is not None:
                noticed.append((index, len(name) + 1, known))
                if not known[1]:
                    dropped.append(index)
        self.dropped = dropped[::-1]
        self.noticed = noticed


_layouts: dict[bytes, Layout] = {}


def fieldLines(section: bytes, most: int) -> tuple[list[bytes], list[bytes], list[Field]]:
    """
    Take a section of field lines apart.

    @param section: the lines, without the CRLF of the last one; C{b""} for none.
    @param most: the largest number of lines.
    @return: the lines; those that may be forwarded, in a list of its own; and the fields that some rule looks at.
    @raise MalformedMessage: with 431 if there are too many, with 400 if one is invalid.
    """
    if not section:
        return [], [], []
    lines = section.split(_EOL)
    count = len(lines)
    if count > most:
        raise MalformedMessage(f"more than {most} header fields", 431)
    names = _namesIn(b"\n" + section)
    # No control character but the CRs and LFs between the lines, and for each line a name.
    if (
        section.translate(None, _VALUE_BYTES) != _EOL * (count - 1)
        or len(names) != count
        or b":" not in lines[-1]
    ):
        raise MalformedMessage(_fault(lines))
    together = b":".join(names)
    layout = _layouts.get(together)
    if layout is None:
        if not all(map(_isToken, names)):
            raise MalformedMessage(_fault(lines))
        layout = Layout(names)
        if len(together) <= _MAX_LAYOUT:
            if len(_layouts) >= _MAX_LAYOUTS:
                _layouts.clear()
            _layouts[together] = layout
    forward = lines.copy()
    for index in layout.dropped:
        del forward[index]
    fields = []
    for index, start, known in layout.noticed:
        line = lines[index]
        if known[0] in _WITH_MEANING:
            fields.append(_meant.get(line) or _interpreted(line, start, known))
        else:
            kind, kept, lower = known
            fields.append((kind, kept, lower, line[start:].strip(OWS), None))
    return lines, forward, fields


def _interpreted(line: bytes, start: int, known: _Known) -> Field:
    """
    Parse the value of a field that decides about framing, persistence or the host: once per line that is remembered,
    not once per message.

    @raise MalformedMessage: if it is invalid, whoever sent it.
    """
    kind, kept, lower = known
    value = line[start:].strip(OWS)
    field = (kind, kept, lower, value, _WITH_MEANING[kind](value))
    if len(line) <= _MAX_LINE:
        if len(_meant) >= _MAX_LINES:
            _meant.clear()
        _meant[line] = field
    return field


def _connection(value: bytes) -> tuple[int, frozenset[bytes]]:
    """
    @return: the options of a Connection field that mean something to us, as bits, and the names of fields in it.
    """
    options, names = connectionOptions(value)
    return sum(bit for option, bit in _OPTION_BITS.items() if option in options), names


_WITH_MEANING: dict[int, Any] = {CONTENT_LENGTH: contentLength, CONNECTION: _connection, HOST: validHost}


def _fault(lines: list[bytes]) -> str:
    """
    @return: what is wrong with the first bad one of these lines, in words.
    """
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _isToken(name) is None:
            if line[:1] in (b" ", b"\t"):
                return "a folded header line"
            return "a header name that is no token" if colon else "a header line without a colon"
        if _hasControl(value):
            return "a control character in a header value"
    return "a malformed header line"
