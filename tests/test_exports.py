"""
The public names: nobody adds or loses one by mistake.
"""

from __future__ import annotations

import inspect

import pytest

import twistproxy

NAMES = [
    "Explained",
    "Headers",
    "Limits",
    "PoolSettings",
    "ProxyError",
    "ProxyRequest",
    "ProxySettings",
    "ProxySite",
    "Refused",
    "Response",
    "ReverseProxy",
    "ReverseProxyResource",
    "Router",
    "StreamingRequest",
    "TLSSettings",
    "Target",
    "TargetDirector",
    "Timeouts",
    "chain",
]


def test_names() -> None:
    """What C{from twistproxy import *} gives."""
    assert sorted(twistproxy.__all__) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_documented(name: str) -> None:
    """Each is there, and says what it is for."""
    assert inspect.getdoc(getattr(twistproxy, name))


def test_nothingElse() -> None:
    """What else is public in the package is a module of it."""
    others = {name for name in vars(twistproxy) if not name.startswith("_")} - set(NAMES)
    assert {name for name in others if not inspect.ismodule(getattr(twistproxy, name))} == set()
