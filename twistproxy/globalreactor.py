# -*- test-case-name: tests.net.test_network -*-
"""
The reactor that is meant where none is given.
"""

from __future__ import annotations

from typing import Any


def reactorOf(reactor: Any) -> Any:
    """
    @return: C{reactor}, or the global one for C{None}; looked for no earlier than this, as everywhere in Twisted.
    """
    if reactor is None:
        from twisted.internet import reactor
    return reactor
