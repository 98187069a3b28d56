"""
Fixtures for the heart: proxies in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.world import World


@pytest.fixture
def makeWorld() -> Iterator[Callable[..., World]]:
    """Makes proxies in memory, and looks afterwards that nothing is left of them."""
    made: list[World] = []

    def make(**options: object) -> World:
        made.append(World(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for world in made:
        world.end()
