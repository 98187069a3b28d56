"""
The settings: what cannot be meant is refused when it is set.
"""

from __future__ import annotations

import attrs
import pytest

from twistproxy.core.settings import ProxySettings


@pytest.mark.parametrize("name", ["", "two words", "line\r\nbreak", "\xfc", "comma,"])
def test_viaIsToken(name: str) -> None:
    """B2.8: a name for Via that would break the field is refused at once, not at the first request."""
    with pytest.raises(ValueError, match="Via"):
        ProxySettings(via=name)


@pytest.mark.parametrize("name", ["", "two words", "line\r\nbreak", "\xfc", "comma,"])
def test_cdnLoopIsToken(name: str) -> None:
    """B2.10: and so is one for CDN-Loop."""
    with pytest.raises(ValueError, match="CDN-Loop"):
        ProxySettings(cdnLoop=name)


def test_cdnLoopMayBeAHost() -> None:
    """B2.10: RFC 8586 has a host name there, perhaps with a port."""
    assert ProxySettings(cdnLoop="cdn.example.org:8080").cdnLoop == "cdn.example.org:8080"


def test_snapshot() -> None:
    """The settings do not change under a running exchange."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ProxySettings().via = "other"  # type: ignore[misc]
