# -*- test-case-name: tests.rules.test_hopbyhop -*-
"""
What belongs to one connection only, and so ends at the proxy (RFC 9110 7.6.1; B2.2).

The fields with a fixed name are taken out while a head is read (L{twistproxy.rules.fields}); what is left for
here are those that a C{Connection} field names.
"""

from __future__ import annotations

from twistproxy.headers import OWS, lineName, membersOf
from twistproxy.rules.fields import UNSTRIPPABLE

#: Options of Connection that name no field.
_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))


def connectionOptions(value: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """
    Read one C{Connection} field.

    @param value: its value.
    @return: the options in it (C{close}, C{keep-alive}, C{upgrade}), and the lower-case names of the fields
        that it takes out. Fields that say where a message goes or how long it is cannot be named away.
    """
    members = frozenset(membersOf(value))
    return members & _OPTIONS, members - _OPTIONS - UNSTRIPPABLE


def withoutNamed(lines: list[bytes], names: set[bytes] | frozenset[bytes]) -> list[bytes]:
    """
    @return: C{lines} without those of the fields in C{names} (lower case).
    """
    return [line for line in lines if lineName(line) not in names]


def withoutH2C(upgrade: bytes) -> bytes | None:
    """
    Take C{h2c} out of the protocols of an C{Upgrade} field: it would tunnel HTTP/2 past every rule of the
    proxy (B6.2).

    @return: the rest of the list, or C{None} if nothing is left of it.
    """
    if b"h2c" not in upgrade.lower():
        return upgrade
    rest = [part for member in upgrade.split(b",") if (part := member.strip(OWS)) and part.lower() != b"h2c"]
    return b", ".join(rest) or None


def upgradeAccepted(asked: bytes | None, answered: bytes | None) -> bool:
    """
    @param asked: the value of the request's Upgrade, or C{None} if it had none.
    @param answered: the value of the Upgrade of a 101.
    @return: whether the answer switches to a protocol that was asked for, letter case aside (RFC 9110 7.8;
        B6.2).
    """
    if asked is None or answered is None:
        return False
    return membersOf(answered) != [] and set(membersOf(answered)) <= set(membersOf(asked))
