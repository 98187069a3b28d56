# -*- test-case-name: tests.test_testing -*-
"""
A whole proxy in memory: clients, the proxy, and as many scripted upstreams as a test needs.

All of the proxy's own parts are the real ones: wires, pool, timer wheel.  Only sockets and the clock are not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack

from twistproxy.core.exchange import Exchange
from twistproxy.core.explain import Explanation
from twistproxy.core.hooks import DirectorLike, ObserverLike, ResponderLike, TransportLike
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.events import ExchangeRecord
from twistproxy.limits import Limits
from twistproxy.proxy import HookOptions, ProxySite, ReverseProxy
from twistproxy.rules.target import parseTarget
from twistproxy.testing.explanations import KEPT, explanations
from twistproxy.testing.memory import MemoryTransport
from twistproxy.testing.messages import Message, MessageReader, httpRequest
from twistproxy.testing.network import LiveTimer, MemoryNetwork
from twistproxy.testing.upstream import Answer, ScriptedUpstream, echo
from twistproxy.upstreams import Target


class MemoryClient:
    """
    A client, with one connection.

    @ivar connection: its end of the connection: faults, rates, raw bytes.
    @ivar interims: the interim responses (1xx but 101) that have come.
    @ivar responses: the other responses, in order; the last one perhaps incomplete.
    """

    def __init__(self, connection: MemoryTransport) -> None:
        """
        @param connection: of L{MemoryNetwork.connect}.
        """
        self.connection = connection
        self._sent = MessageReader(connection)
        self._got = MessageReader(connection, self._method)
        self._told = False

    def __repr__(self) -> str:
        return f"<MemoryClient {self.connection.name}, {len(self.responses)} responses>"

    def _method(self, number: int) -> bytes:
        asked = self._sent.messages
        return asked[number].method if number < len(asked) else b"GET"

    def send(self, data: bytes) -> None:
        """
        Send bytes, and let things happen.
        """
        self._sent.feed(data)
        self.connection.send(data)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Message | None:
        """
        Send a request, and let things happen.

        @param method: its method.
        @param target: its target.
        @param headers: its fields; see L{httpRequest<twistproxy.testing.messages.httpRequest>}.
        @param body: its body.
        @return: its response, if the head has come already: it grows while the rest comes.
        """
        before = len(self.responses)
        self.send(httpRequest(method, target, headers, body))
        responses = self.responses
        return responses[before] if len(responses) > before else None

    def _read(self) -> list[Message]:
        self._got.feed(self.connection.take())
        if self.connection.ended == "closed":
            self._got.ended()
        return self._got.messages

    @property
    def responses(self) -> list[Message]:
        """
        The final responses that have come.
        """
        return [message for message in self._read() if message.status == 101 or message.status >= 200]

    @property
    def interims(self) -> list[Message]:
        """
        The interim responses that have come.
        """
        return [message for message in self._read() if message.status < 200 and message.status != 101]

    @property
    def response(self) -> Message:
        """
        The latest response.

        @raise AssertionError: if there is none.
        """
        responses = self.responses
        if not responses:
            running = getattr(self.connection.protocol, "exchange", None)
            why = "" if running is None else "\n" + explanations([running])
            raise AssertionError(f"{self.connection!r} has got no response{why}")
        return responses[-1]

    @property
    def opaque(self) -> bytes:
        """
        What has come since a 101.
        """
        self._read()
        return bytes(self._got.unread)

    @property
    def broken(self) -> str:
        """
        Why what the proxy sent cannot be read; C{""} if it can.
        """
        self._read()
        return self._got.broken

    @property
    def ended(self) -> str:
        """
        How the proxy ended the connection: C{""} not at all, C{"closed"}, or C{"reset"}.
        """
        return self.connection.ended


class MemoryOptions(HookOptions, total=False):
    """
    What a L{MemoryProxy} passes on to its proxy.
    """

    transport: TransportLike | None


class MemoryProxy:
    """
    A whole proxy.

    It is a context manager that closes itself.  When a test fails inside, what ran, what was held and which
    timers lived at that moment stands below its traceback.

    @ivar network: connections and time; C{reactor=} for whatever else wants one of this package.
    @ivar clock: the clock, C{reactor=} for whatever else wants one of Twisted.
    @ivar responder: what answers, a L{ReverseProxy<twistproxy.proxy.ReverseProxy>} unless another one was
        given.
    @ivar site: the factory that serves it.
    @ivar records: of the exchanges that have settled, in that order.
    @ivar explanations: why the latest of them went as they did, up to 20.
    @ivar upstreams: all that were added.
    """

    def __init__(
        self,
        director: DirectorLike | Target | str | None = None,
        *,
        network: MemoryNetwork | None = None,
        responder: ResponderLike | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        observers: Sequence[ObserverLike] = (),
        **options: Unpack[MemoryOptions],
    ) -> None:
        """
        @param director: a director, as for L{ReverseProxy<twistproxy.proxy.ReverseProxy>}, or the address of
            an upstream; C{http://origin.test} by default.
        @param network: the network; a new one by default.
        @param responder: instead of a director, what answers: an
            L{IResponder<twistproxy.interfaces.IResponder>}, made with C{reactor=network}.
        @param timeouts: the limits of time.
        @param limits: the bounds on size.
        @param observers: L{IObserver<twistproxy.interfaces.IObserver>}s.
        @param options: the other parameters of L{ReverseProxy<twistproxy.proxy.ReverseProxy>}.
        @raise TypeError: if there is both, or options for a responder that is there already.
        """
        if responder is not None and (director is not None or options):
            raise TypeError("give a director, with options for the proxy, or a responder")
        self.network = MemoryNetwork() if network is None else network
        self.network.strict = True
        self.clock = self.network.clock
        if responder is None:
            if director is None or isinstance(director, (str, Target)):
                director = TargetDirector(director or "http://origin.test")
            responder = ReverseProxy(director, reactor=self.network, timeouts=timeouts, limits=limits, **options)
        self.responder = responder
        self.records: list[ExchangeRecord] = []
        self.explanations: deque[Explanation] = deque(maxlen=KEPT)
        self.upstreams: list[ScriptedUpstream] = []
        self.site = ProxySite(
            responder,
            reactor=self.network,
            limits=limits,
            timeouts=timeouts,
            observers=[self._settled, *observers],
        )

    def __repr__(self) -> str:
        return f"<MemoryProxy at {self.clock.seconds():g} s, {len(self.exchanges)} exchanges run>"

    def _settled(self, record: ExchangeRecord) -> None:
        self.records.append(record)
        self.explanations += [exchange.explain() for exchange in self.exchanges if exchange.record is record]

    # -- who takes part

    def addUpstream(self, address: Target | str = "http://origin.test", answer: Answer = echo) -> ScriptedUpstream:
        """
        Let an upstream listen.  Connections to addresses without one are refused.

        @param address: where, as operators write it.
        @param answer: its answer to every request.
        @raise ValueError: if there is one already, or the address is malformed.
        """
        target = parseTarget(address) if isinstance(address, str) else address
        if target.key in self.network.listening:
            raise ValueError(f"an upstream listens on {target.name} already")
        upstream = ScriptedUpstream(self.network, target.name, answer)
        self.network.listening[target.key] = upstream
        self.upstreams.append(upstream)
        return upstream

    def client(self) -> MemoryClient:
        """
        @return: a new client, connected.
        """
        return MemoryClient(self.network.connect(self.site))

    # -- what happens

    def run(self) -> None:
        """
        Let things happen until nothing happens any more.  Needed only after what does not do so itself, such as
        L{MemoryTransport.queue<twistproxy.testing.memory.MemoryTransport.queue>}, or a Deferred that the test
        fires.
        """
        self.network.run()

    def advance(self, seconds: float) -> None:
        """
        Let time pass, a tenth of a second at a time, and things happen.
        """
        self.network.advance(seconds)

    # -- what is there to see

    @property
    def exchanges(self) -> set[Exchange]:
        """
        The exchanges that run.
        """
        return self.site.exchanges

    @property
    def timers(self) -> list[LiveTimer]:
        """
        The deadlines that live, the next one first.
        """
        return self.network.timers

    @property
    def bufferedBytes(self) -> int:
        """
        How many bytes the proxy holds at its connections; see L{MemoryNetwork.bufferedBytes
        <twistproxy.testing.network.MemoryNetwork.bufferedBytes>}.
        """
        return self.network.bufferedBytes

    def describe(self) -> str:
        """
        @return: what runs, is held, and lives now, for people.
        """
        lines = [f"{self.clock.seconds():g} s have passed; {self.bufferedBytes} bytes are buffered"]
        lines += [repr(upstream) for upstream in self.upstreams]
        lines += [repr(exchange) for exchange in self.exchanges]
        for record in self.records:
            request = f"{record.method.decode('latin-1')} {record.target.decode('latin-1')}"
            failed = f" ({record.error!r})" if record.error is not None else ""
            lines.append(f"settled: {request} {record.status} by {record.upstream or 'the proxy'}{failed}")
        lines += [repr(connection) for connection in self.network.transports if not connection.lost]
        lines += [f"{timer.limit or 'a timer'} in {timer.seconds:.1f} s: {timer.owner!r}" for timer in self.timers]
        if self.exchanges:
            lines.append(explanations(self.exchanges))
        lines += [str(explanation) for explanation in [*self.explanations][-5:]]
        return "\n".join(lines)

    # -- the end

    def close(self) -> None:
        """
        End everything, and check that nothing is left of it: no connection, exchange, timer, or place in a
        pool.

        @raise AssertionError: if something is.
        """
        self._stop()
        self.network.end()
        left: list[Any] = [*self.exchanges, *self.site.connections]
        transport = getattr(self.responder, "transport", None)
        while transport is not None:
            pools = getattr(transport, "pools", {}).values()
            left += [pool for pool in pools if pool.connections or pool.waiting]
            # a transport may wrap another
            transport = getattr(transport, "transport", None)
        if left:
            raise AssertionError(f"left behind: {left}")

    def _stop(self) -> None:
        for upstream in self.upstreams:
            upstream.close()

    def __enter__(self) -> MemoryProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        error.add_note(self.describe())
        # what is left behind now says more about the failed test than about the proxy
        self._stop()
        for connection in self.network.transports:
            if not connection.lost:
                connection.cut()
        self.network.run()
