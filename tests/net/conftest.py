"""
Fixtures for the transport layer: most promises are made by ours and by Twisted's own transports alike, and
are tested on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import Ports
from twistproxy.net.reactor import HubReactor


def _ports(reactor: Any) -> Iterator[Ports]:
    ports = Ports(reactor)
    yield ports
    pytest_twisted.blockon(Deferred.fromCoroutine(ports.close()))


@pytest.fixture
def hubReactor() -> HubReactor:
    """A facade with a hub of its own."""
    from twisted.internet import reactor

    return HubReactor(reactor)


@pytest.fixture(params=["hub", "stock"])
def anyReactor(request: pytest.FixtureRequest) -> Any:
    """A reactor whose transports are ours, and one whose are Twisted's."""
    from twisted.internet import reactor

    return HubReactor(reactor) if request.param == "hub" else reactor


@pytest.fixture
def ports(hubReactor: HubReactor) -> Iterator[Ports]:
    """Listens on a hub."""
    yield from _ports(hubReactor)


@pytest.fixture
def anyPorts(anyReactor: Any) -> Iterator[Ports]:
    """Listens on a hub, or on the reactor."""
    yield from _ports(anyReactor)
