"""
What a proxy needs of a reactor.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.task import Clock

from twistproxy.deadlines import Timeouts
from twistproxy.interfaces import IDialer
from twistproxy.net.network import Network
from twistproxy.net.reactor import HubReactor
from twistproxy.net.tls import TLSSettings


def test_hub(warmReactor: Any) -> None:
    """Where there can be a hub it is used, one for everything in the reactor."""
    one, two = Network(warmReactor), Network(warmReactor)
    assert isinstance(one.reactor, HubReactor)
    assert one.reactor is two.reactor


def test_stock(warmReactor: Any) -> None:
    """Otherwise, or if it is not wanted, it is the reactor itself."""
    clock = Clock()
    assert Network(warmReactor, hub=False).reactor is warmReactor
    assert Network(clock).reactor is clock


def test_of(warmReactor: Any) -> None:
    """What shares a reactor shares its network."""
    assert Network.of(warmReactor) is Network.of(warmReactor)
    assert Network.of(Clock()) is not Network.of(Clock())


def test_ofIsNotForEver() -> None:
    """A reactor that nobody uses any more is not kept by its network."""
    clock = Clock()
    Network.of(clock)
    gone = weakref.ref(clock)
    del clock
    gc.collect()
    assert gone() is None


def test_dialer() -> None:
    """Connections are made with the limits and settings given."""
    settings = TLSSettings(serverName="other.test")
    dialer = Network(Clock()).dialer(Timeouts(connect=1.0, tlsHandshake=2.0), settings)
    assert IDialer.providedBy(dialer)
    assert (dialer._timeout, dialer._handshakeTimeout, dialer._tls) == (1.0, 2.0, settings)
