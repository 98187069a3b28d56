"""
Fixtures for the wire, of which nothing is left at the end of a test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.wire import Server, Upstream
from tests.support.world import World


@pytest.fixture
def server() -> Iterator[Server]:
    """A server, of which nothing is left."""
    server = Server()
    yield server
    server.network.end()
    assert server.site.exchanges == set()
    assert server.site.connections == set()


@pytest.fixture
def world() -> Iterator[World]:
    """A whole proxy, of which nothing is left."""
    world = World()
    yield world
    world.end()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An upstream, of which nothing is left."""
    upstream = Upstream()
    yield upstream
    upstream.network.end()
    for pool in upstream.transport.pools.values():
        assert (pool.connections, pool.idle, pool.open) == (0, [], set())
