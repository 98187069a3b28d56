"""
Lets the API reference link into Twisted's without a network.

pydoctor checks every link, and knows what other projects offer from an inventory that it would have to
download.  What our docstrings can mean is in our own sources, though: every dotted name of Twisted that is
written or imported there.  This looks each one up in the installed Twisted and writes the inventory of those
that exist, so a link to something which does not exist is still found.

    python docs/inventory.py FILE
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from twisted.python.reflect import namedAny
from zope.interface.interface import InterfaceClass

PACKAGE = Path(__file__).parent.parent / "twistproxy"
DOTTED = re.compile(r"\btwisted(?:\.\w+)+")


def namesIn(source: str) -> Iterator[str]:
    """
    @param source: the text of a module.
    @return: what it may call a part of Twisted.
    """
    yield from DOTTED.findall(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and DOTTED.fullmatch(node.module):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def entry(name: str) -> str | None:
    """
    @param name: a dotted name.
    @return: its line in the inventory, or C{None} if there is no such thing.
    """
    owner, _, member = name.rpartition(".")
    try:
        found = namedAny(name)
    except ImportError:
        return None
    except AttributeError:
        # the methods of an interface are no attributes of it
        if entry(owner) is None or not isinstance(interface := namedAny(owner), InterfaceClass):
            return None
        return f"{name} py:method 1 {owner}.html#{member} -" if member in interface else None
    if isinstance(found, ModuleType):
        return f"{name} py:module 1 {name}.html -"
    if inspect.isclass(found) or isinstance(found, InterfaceClass):
        return f"{name} py:class 1 {name}.html -"
    if inspect.isclass(namedAny(owner)):
        return f"{name} py:method 1 {owner}.html#{member} -"
    return f"{name} py:function 1 {owner}.html#{member} -"


def main(path: Path) -> None:
    """
    @param path: the file to write.
    """
    names = {name for source in PACKAGE.rglob("*.py") for name in namesIn(source.read_text())}
    lines = [line for line in map(entry, sorted(names)) if line is not None]
    head = "# Sphinx inventory version 2\n# Project: Twisted\n# Version: any\n# zlib follows\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress("".join(f"{line}\n" for line in lines).encode()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
