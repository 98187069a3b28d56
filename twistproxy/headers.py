# -*- test-case-name: tests.test_headers -*-
"""
Header fields as they travel: raw lines in the order and letter case in which they came.

A proxy forwards most lines untouched, so a line is kept as bytes and taken apart only when somebody asks.
Lines that came from a peer were validated by the wire before they got here; what user code sets is validated
on the way in, so that no hook can smuggle a line break into a head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from twisted.web.http_headers import Headers as TwistedHeaders

#: RFC 9110 5.6.2
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: RFC 9110 5.5: no control characters but the tab; obs-text (0x80 to 0xff) passes as it is.
NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: RFC 9110 5.6.3; never C{strip()} without an argument, which eats vertical tabs and form feeds.
OWS = b" \t"

_isToken = TOKEN.fullmatch
_hasControl = NOT_IN_VALUE.search


def fieldLine(name: bytes | str, value: bytes | str) -> bytes:
    """
    Make one header line of a name and a value that user code gave.

    @param name: the field's name.
    @param value: its value; C{str} is encoded as UTF-8.
    @return: the line, without its CRLF.
    @raise ValueError: if the name is no token, or the value has a control character (a line break above all)
        in it.
    @raise TypeError: if either is anything else, such as a number.
    """
    # Not bytes(value): bytes(3) is three NULs and bytes(0) an empty value.
    name = name.encode("ascii") if isinstance(name, str) else memoryview(name).tobytes()
    value = value.encode("utf-8") if isinstance(value, str) else memoryview(value).tobytes()
    if _isToken(name) is None:
        raise ValueError(f"{name!r} is no header field name")
    value = value.strip(OWS)
    if _hasControl(value):
        raise ValueError(f"the value of {name!r} has a control character in it")
    return b"%b: %b" % (name, value)


def checkLines(lines: Iterable[bytes]) -> None:
    """
    Look at raw lines that user code gave, such as trailers.

    @param lines: header lines without CRLF.
    @raise ValueError: as L{fieldLine}.
    @raise TypeError: if one is not C{bytes}.
    """
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(f"{line!r} is no header line")
        fieldLine(name, value)


def _lower(name: bytes | str) -> bytes:
    return (name.encode("ascii") if isinstance(name, str) else name).lower()


def lineName(line: bytes) -> bytes:
    """
    @return: the lower-case name of a raw header line.
    """
    return line.partition(b":")[0].lower()


def membersOf(value: bytes) -> list[bytes]:
    """
    Split a comma-separated list, empty members dropped (RFC 9110 5.6.1.2).

    @return: the members in lower case, without surrounding white space.
    """
    return [member for part in value.split(b",") if (member := part.strip(OWS).lower())]


class Headers:
    """
    An ordered multidict over raw header lines.  Names are compared without letter case and may be given as
    C{bytes} or (ASCII) C{str}; values come out as C{bytes}.

    @ivar lines: the raw lines, without CRLF, in order.
    @ivar edited: whether a method of this object has changed them since they came from the wire.
    """

    __slots__ = ("_items", "edited", "lines")

    def __init__(self, lines: list[bytes] | None = None) -> None:
        self.lines: list[bytes] = [] if lines is None else lines
        self.edited = False
        self._items: list[tuple[bytes, bytes]] | None = None

    @classmethod
    def of(cls, pairs: Iterable[tuple[bytes | str, bytes | str]]) -> Headers:
        """
        @param pairs: names and values.
        @raise ValueError: as L{fieldLine}.
        """
        return cls([fieldLine(name, value) for name, value in pairs])

    def items(self) -> list[tuple[bytes, bytes]]:
        """
        @return: names (as received) and values, in order.
        """
        items = self._items
        # a message may have appended to the list, which it shares
        if items is None or len(items) != len(self.lines):
            items = self._items = [
                (name, value.strip(OWS)) for name, _, value in (line.partition(b":") for line in self.lines)
            ]
        return items

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.items())

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, (bytes, str)) and self.get(name) is not None

    def __eq__(self, other: object) -> bool:
        """
        Two are equal if they hold the same fields in the same order; letter case and padding do not count.
        """
        if not isinstance(other, Headers):
            return NotImplemented
        mine = [(name.lower(), value) for name, value in self.items()]
        return mine == [(name.lower(), value) for name, value in other.items()]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    def get(self, name: bytes | str) -> bytes | None:
        """
        @return: the first value of C{name}, or C{None}.
        """
        wanted = _lower(name)
        for key, value in self.items():
            if key.lower() == wanted:
                return value
        return None

    def getAll(self, name: bytes | str) -> list[bytes]:
        """
        @return: every value of C{name}, in order.
        """
        wanted = _lower(name)
        return [value for key, value in self.items() if key.lower() == wanted]

    def set(self, name: bytes | str, value: bytes | str | None) -> None:
        """
        Replace every line of C{name} by one, in the place of the first; C{None} removes them.

        @raise ValueError: as L{fieldLine}.
        """
        line = None if value is None else fieldLine(name, value)
        wanted = _lower(name)
        lines = []
        for old in self.lines:
            if lineName(old) != wanted:
                lines.append(old)
            elif line is not None:
                lines.append(line)
                line = None
        if line is not None:
            lines.append(line)
        self.replaceLines(lines)

    def add(self, name: bytes | str, value: bytes | str) -> None:
        """
        Append a line.

        @raise ValueError: as L{fieldLine}.
        """
        self.replaceLines([*self.lines, fieldLine(name, value)])

    def remove(self, name: bytes | str) -> None:
        """
        Remove every line of C{name}; nothing happens if there is none.
        """
        self.removeAll((name,))

    def removeAll(self, names: Iterable[bytes | str]) -> None:
        """
        Remove every line of any of C{names}.
        """
        unwanted = {_lower(name) for name in names}
        self.replaceLines([line for line in self.lines if lineName(line) not in unwanted])

    def copy(self) -> Headers:
        """
        @return: headers of their own with the same lines.
        """
        return Headers(self.lines.copy())

    def toTwisted(self) -> TwistedHeaders:
        """
        @return: the same fields as a new L{twisted.web.http_headers.Headers}.
        """
        headers = TwistedHeaders()
        for name, value in self.items():
            headers.addRawHeader(name, value)
        return headers

    def replaceLines(self, lines: list[bytes]) -> None:
        """
        Set the lines themselves; for rules, which know what they write.

        @param lines: valid header lines without CRLF.
        """
        # in place: a message and its headers hold the same list
        self.lines[:] = lines
        self.edited = True
        self._items = None
