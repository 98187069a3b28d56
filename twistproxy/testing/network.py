# -*- test-case-name: tests.test_testing -*-
"""
A network in memory, under a C{task.Clock}.

It takes the place of a reactor wherever this package asks for one: C{ReverseProxy(direct, reactor=network)}.
What the proxy dials leads to the test, and time passes when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from twistproxy.deadlines import Timed, Timeouts
from twistproxy.errors import Stage, UpstreamError
from twistproxy.interfaces import IDialer
from twistproxy.net.network import Network
from twistproxy.net.tls import TLSSettings
from twistproxy.net.wheel import TICK
from twistproxy.testing.memory import MemoryTransport
from twistproxy.upstreams import Target


class IListening(Protocol):
    """
    What stands at a target's address (structural type).

    @ivar refusing: whether connections are refused.
    @ivar holding: whether connections neither stand nor fail, as behind a firewall that drops packets.
    """

    refusing: bool
    holding: bool

    def accepted(self, connection: MemoryTransport) -> None:
        """
        Called with each connection that stands.
        """


@attrs.frozen
class LiveTimer:
    """
    A deadline that has not passed.

    @ivar limit: the limit's name in L{Timeouts<twistproxy.deadlines.Timeouts>}; C{"discard"} for the one of
        L{Limits<twistproxy.limits.Limits>}; C{""} if it cannot be told.
    @ivar seconds: how long it has to go, to a tenth of a second.
    @ivar owner: what would time out: a connection, as a rule.
    """

    limit: str
    seconds: float
    owner: Timed = attrs.field(repr=False)


@implementer(IDialer)
class MemoryNetwork(Network):
    """
    All connections of a test, and time.

    @ivar clock: the clock; hooks that take a reactor for their own timers get this.
    @ivar wheel: a timer wheel on it.
    @ivar transports: every connection there ever was.
    @ivar dialed: those that the proxy made.
    @ivar listening: what stands at a target's address, by L{Target.key<twistproxy.upstreams.Target>}.
    @ivar strict: whether a target without anything at its address refuses connections; otherwise they stand,
        and the test finds them in C{dialed}.
    @ivar refusing: whether all connections are refused.
    @ivar holding: whether all connections neither stand nor fail.
    @ivar watching: called again and again while things happen; say whether they did anything.
    """

    clock: Clock

    def __init__(self, strict: bool = False) -> None:
        self.clock = Clock()
        super().__init__(self.clock, hub=False)
        self.transports: list[MemoryTransport] = []
        self.dialed: list[MemoryTransport] = []
        self.listening: dict[Any, IListening] = {}
        self.strict = strict
        self.refusing = False
        self.holding = False
        self.watching: list[Callable[[], bool]] = []
        self._dialing: list[tuple[Deferred[None], Any, Any]] = []
        self._clients = 0

    def __repr__(self) -> str:
        alive = sum(not transport.lost for transport in self.transports)
        return f"<MemoryNetwork at {self.clock.seconds():g} s, {alive} connections>"

    # -- connections

    def connect(self, factory: Any) -> MemoryTransport:
        """
        Connect to a server, as a client.

        @param factory: a L{ProxySite<twistproxy.proxy.ProxySite>}, or any other factory of Twisted protocols.
        @return: the connection; the test has the client's end.
        """
        address = IPv4Address("TCP", "192.0.2.1", 40000 + len(self.transports))
        name = f"client {self._clients}"
        self._clients += 1
        return self._join(factory.buildProtocol(address), name)

    def _join(self, protocol: Any, name: str = "", target: Target | None = None) -> MemoryTransport:
        transport = MemoryTransport(self, protocol, 40000 + len(self.transports), name, target)
        self.transports.append(transport)
        protocol.makeConnection(transport)
        return transport

    def dial(self, target: Any, protocol: Any, handshaking: Any = None) -> Deferred[None]:
        """
        See L{IDialer.dial<twistproxy.interfaces.IDialer>}; connected when things happen next.  TLS is not
        spoken, whatever the target's scheme: bytes are as they are behind the handshake.
        """
        dialing: Deferred[None] = Deferred(lambda d: d.errback(UpstreamError("given up", Stage.CONNECT)))
        self._dialing.append((dialing, target, protocol))
        return dialing

    def dialer(self, timeouts: Timeouts, tls: TLSSettings | None = None) -> Any:
        """
        @return: this network.  What it is given limits real sockets only; the pool limits the time to connect.
        """
        return self

    def _connectOne(self) -> bool:
        """
        Let one connection that the proxy makes stand or fail.

        @return: whether any did.
        """
        for at, (dialing, target, protocol) in enumerate(self._dialing):
            listening = self.listening.get(getattr(target, "key", None))
            if not dialing.called and (self.holding or (listening is not None and listening.holding)):
                continue
            del self._dialing[at]
            name = getattr(target, "name", "")
            if dialing.called:
                dialing.addErrback(lambda failure: failure.trap(CancelledError, UpstreamError) and None)
            elif self.refusing or (listening is not None and listening.refusing):
                dialing.errback(UpstreamError("refused", Stage.CONNECT))
            elif listening is None and self.strict:
                dialing.errback(UpstreamError(f"nothing listens on {name} in this test", Stage.CONNECT))
            else:
                connection = self._join(protocol, name, target)
                self.dialed.append(connection)
                if listening is not None:
                    listening.accepted(connection)
                dialing.callback(None)
            return True
        return False

    # -- what happens

    def run(self) -> None:
        """
        Let things happen until nothing happens any more.
        """
        busy = True
        while busy:
            busy = False
            while self._connectOne():
                busy = True
            for transport in list(self.transports):
                if transport.step():
                    busy = True
            for watcher in self.watching:
                if watcher():
                    busy = True

    def advance(self, seconds: float) -> None:
        """
        Let time pass, a tenth of a second at a time, and things happen.

        @param seconds: how much.
        """
        end = self.clock.seconds() + seconds
        self.run()
        while self.clock.seconds() < end - 1e-6:
            self.clock.advance(min(TICK, end - self.clock.seconds()))
            self.run()

    # -- what is there to see

    @property
    def timers(self) -> list[LiveTimer]:
        """
        Every deadline on the wheel that has not passed, the next one first.
        """
        alive = [LiveTimer(timed.limitName, seconds, timed) for timed, seconds in self.wheel.scheduled()]
        return sorted(alive, key=lambda timer: timer.seconds)

    @property
    def bufferedBytes(self) -> int:
        """
        How many bytes the proxy holds at its connections: what was written and not taken by the peer, and
        what was read and is still to be parsed or to be taken by the other side.
        """
        held = sum(getattr(each.protocol, "bufferedBytes", 0) for each in self.transports)
        return held + sum(each.unsentBytes for each in self.transports)

    def end(self) -> None:
        """
        Reset every connection, and check that nothing is left of them.

        @raise AssertionError: if a connection or a timer is.
        """
        for transport in self.transports:
            if not transport.lost:
                transport.cut()
        self.run()
        left = [transport for transport in self.transports if not transport.lost]
        if left:
            raise AssertionError(f"connections were left behind: {left}")
        calls = self.clock.getDelayedCalls()
        if calls:
            raise AssertionError(f"timers were left behind: {[str(call) for call in calls]}, {self.timers}")
