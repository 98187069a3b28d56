"""
Pools: which connection a request gets, how long it waits for one, and when it is sent once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Body
from tests.support.memory import MemoryNetwork, MemoryTransport
from twistproxy.deadlines import Timeouts
from twistproxy.errors import ProxyError, Sent, Stage, Unavailable, UpstreamError, UpstreamTimeout
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import ICarrier, IDialer, IRoundTripReceiver
from twistproxy.limits import Limits
from twistproxy.message import OutboundRequest
from twistproxy.upstream.pool import IDEMPOTENT, Pool, PoolSettings
from twistproxy.upstreams import Target
from twistproxy.wire.context import ClientContext

TARGET = Target("http", "origin.test", 80)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@implementer(IRoundTripReceiver)
class Receiver:
    """
    Notes what becomes of a request.

    @ivar outcome: C{None}, a status, or an error.
    """

    def __init__(self, outbound: OutboundRequest) -> None:
        self.outbound = outbound
        self.outcome: Any = None

    def informationalReceived(self, response: Any) -> None: ...

    def responseReceived(self, response: Any) -> None:
        assert self.outcome is None
        self.outcome = response.status

    def roundTripFailed(self, error: ProxyError) -> None:
        assert self.outcome is None
        self.outcome = error


class Pooled:
    """A pool on a network in memory."""

    def __init__(self, timeouts: Timeouts | None = None, dialer: Any = None, **settings: Any) -> None:
        self.network = MemoryNetwork()
        timeouts = timeouts or Timeouts()
        context = ClientContext(self.network.wheel, Limits(), timeouts)
        ticks = self.network.wheel.ticks
        self.pool = Pool(
            TARGET,
            dialer or self.network,
            context,
            PoolSettings(**settings),
            ticks(timeouts.connect or 1e6),
            ticks(timeouts.queue or 1e6),
        )

    def begin(
        self,
        target: bytes = b"/",
        method: bytes = b"GET",
        body: Any = b"",
        run: bool = True,
        timeouts: Timeouts | None = None,
    ) -> Receiver:
        """@return: who is told what becomes of a new request."""
        outbound = OutboundRequest(
            method, target, TARGET, b"origin.test", [], body, ExchangeRecord(self.network.clock.seconds)
        )
        outbound.timeouts = timeouts
        receiver = Receiver(outbound)
        self.pool.begin(outbound, receiver)
        if run:
            self.network.run()
        return receiver

    @property
    def lines(self) -> list[MemoryTransport]:
        """The origin's ends of all connections."""
        return self.network.dialed

    def asked(self) -> list[list[bytes]]:
        """@return: the targets that each connection was asked for, since this was last called."""
        return [re.findall(rb"[A-Z-]+ (\S+) HTTP/1\.1\r\n", line.take()) for line in self.lines]


@pytest.fixture
def make() -> Iterator[Any]:
    """Makes pools, and looks afterwards that nothing is left of them."""
    made: list[Pooled] = []

    def pooled(**options: Any) -> Pooled:
        made.append(Pooled(**options))
        return made[-1]

    yield pooled
    for each in made:
        each.pool.cut()
        each.network.end()
        pool = each.pool
        assert (pool.connections, pool.idle, pool.open, list(pool.waiting)) == (0, [], set(), [])


def test_interfaces(make: Any) -> None:
    """What carries a request says how far it has come and can be aborted."""
    pooled = make(maxConnections=1)
    pooled.network.holding = True
    connecting, waiting = pooled.begin(), pooled.begin()
    assert verifyObject(ICarrier, connecting.outbound.carrier)
    assert connecting.outbound.carrier.stage is Stage.CONNECT
    assert verifyObject(ICarrier, waiting.outbound.carrier)
    assert waiting.outbound.carrier.stage is Stage.QUEUE
    pooled.network.holding = False
    pooled.network.run()
    assert verifyObject(ICarrier, connecting.outbound.carrier)
    assert connecting.outbound.carrier.stage is Stage.WAIT
    assert verifyObject(IRoundTripReceiver, waiting)


def test_idempotent() -> None:
    """B8.3: RFC 9110 9.2.2."""
    assert {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"} == IDEMPOTENT


def test_reuse(make: Any) -> None:
    """B8.2: the connection that went idle last is used first."""
    pooled = make()
    for _ in range(3):
        pooled.begin()
    for line in (pooled.lines[1], pooled.lines[2], pooled.lines[0]):
        line.send(OK)
    pooled.asked()
    assert len(pooled.pool.idle) == 3
    receivers = [pooled.begin(b"/%d" % number) for number in range(2)]
    assert pooled.asked() == [[b"/0"], [], [b"/1"]]
    assert [receiver.outbound.record.reused for receiver in receivers] == [True, True]
    assert len(pooled.lines) == 3


def test_maxIdle(make: Any) -> None:
    """B8.2: at most so many stay idle; a surplus one is closed."""
    pooled = make(maxIdle=2)
    for _ in range(3):
        pooled.begin()
    for line in pooled.lines:
        line.send(OK)
    assert (len(pooled.pool.idle), pooled.pool.connections) == (2, 2)
    assert [line.ended for line in pooled.lines] == ["", "", "reset"]


def test_defaults() -> None:
    """B8.2: 256 idle per target, no cap; 55 seconds idle."""
    assert (PoolSettings().maxIdle, PoolSettings().maxConnections) == (256, None)
    assert Timeouts().upstreamIdle == 55.0


def test_idleTime(make: Any) -> None:
    """B8.2: an idle connection is closed after 55 seconds, and not before."""
    pooled = make()
    pooled.begin()
    pooled.lines[0].send(OK)
    pooled.network.advance(54.5)
    assert (pooled.lines[0].ended, len(pooled.pool.idle)) == ("", 1)
    pooled.network.advance(1.0)
    assert (pooled.lines[0].ended, pooled.pool.idle, pooled.pool.connections) == ("closed", [], 0)


@pytest.mark.parametrize("how", ["sendEOF", "sendReset", "408"])
def test_idleLost(make: Any, how: str) -> None:
    """B5.8: an idle connection that ends, or says something, is discarded at once."""
    pooled = make()
    pooled.begin()
    line = pooled.lines[0]
    line.send(OK)
    if how == "408":
        line.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    else:
        getattr(line, how)()
    assert (pooled.pool.idle, pooled.pool.connections) == ([], 0)
    assert pooled.begin().outcome is None
    assert len(pooled.lines) == 2


def test_notKept(make: Any) -> None:
    """B8.2: nor is one reused that the upstream is going to close."""
    pooled = make()
    assert pooled.begin().outcome is None
    pooled.lines[0].send(CLOSING)
    assert (pooled.pool.idle, pooled.pool.connections) == ([], 0)


def test_surplusBytes(make: Any) -> None:
    """B5.8: nor one behind whose response there are more bytes: they could become part of another."""
    pooled = make()
    receiver = pooled.begin()
    pooled.lines[0].send(OK + b"HTTP/1.1 200 OK\r\n")
    assert (receiver.outcome, pooled.pool.idle, pooled.lines[0].ended) == (200, [], "closed")


# -- the cap and the line


def test_line(make: Any) -> None:
    """B8.2: with a cap requests wait in line, and are served in the order in which they came."""
    pooled = make(maxConnections=2)
    receivers = [pooled.begin(b"/%d" % number) for number in range(5)]
    assert (len(pooled.lines), len(pooled.pool.waiting)) == (2, 3)
    assert pooled.asked() == [[b"/0"], [b"/1"]]
    pooled.lines[1].send(OK)
    assert pooled.asked() == [[], [b"/2"]]
    pooled.lines[0].send(OK)
    assert pooled.asked() == [[b"/3"], []]
    pooled.lines[0].send(OK)
    assert pooled.asked() == [[b"/4"], []]
    assert [receiver.outcome for receiver in receivers] == [200, 200, None, 200, None]


def test_lineAndLoss(make: Any) -> None:
    """B8.2: a connection that is lost makes room for a new one for the next in line."""
    pooled = make(maxConnections=1)
    first, second = pooled.begin(b"/0"), pooled.begin(b"/1")
    pooled.lines[0].send(CLOSING)
    assert first.outcome == 200
    assert pooled.asked() == [[b"/0"], [b"/1"]]
    pooled.lines[1].sendReset()
    assert type(second.outcome) is UpstreamError
    assert pooled.pool.connections == 0


def test_lineFull(make: Any) -> None:
    """B8.2: a full line refuses with 503."""
    pooled = make(maxConnections=1, maxWaiting=1)
    pooled.begin()
    pooled.begin()
    error = pooled.begin().outcome
    assert (type(error), error.status, error.stage, error.sent) == (Unavailable, 503, Stage.QUEUE, Sent.NOTHING)


@pytest.mark.parametrize("own", [False, True])
def test_lineTime(make: Any, own: bool) -> None:
    """B8.2: who waits too long in line gets 503; a request may have a limit of its own."""
    pooled = make(maxConnections=1, timeouts=Timeouts(queue=30.0 if own else 2.0, responseHead=None))
    pooled.begin()
    waiting = pooled.begin(timeouts=Timeouts(queue=2.0, responseHead=None) if own else None)
    pooled.network.advance(1.9)
    assert waiting.outcome is None
    pooled.network.advance(0.4)
    error = waiting.outcome
    assert (type(error), error.status, error.timeout, error.stage) == (Unavailable, 503, "queue", Stage.QUEUE)
    assert (list(pooled.pool.waiting), waiting.outbound.carrier) == ([], None)


def test_leavesLine(make: Any) -> None:
    """B7.1: who leaves the line is not served, and those behind move up."""
    pooled = make(maxConnections=1)
    pooled.begin(b"/0")
    leaving, staying = pooled.begin(b"/1"), pooled.begin(b"/2")
    pooled.asked()
    leaving.outbound.carrier.abort()
    pooled.lines[0].send(OK)
    assert pooled.asked() == [[b"/2"]]
    assert (leaving.outcome, staying.outbound.record.connected) == (None, 0.0)


def test_lineRecordsItsTime(make: Any) -> None:
    """B7.3: the time in line is known."""
    pooled = make(maxConnections=1)
    pooled.begin()
    waiting = pooled.begin()
    pooled.network.advance(2.0)
    pooled.lines[0].send(OK)
    assert 1.9 < waiting.outbound.record.connectSeconds < 2.1


def test_longLine(make: Any) -> None:
    """B8.2: a long line in front of an upstream that refuses at once fails one by one, and not by a deep stack."""

    @implementer(IDialer)
    class Refusing:
        def dial(self, target: Any, protocol: Any, handshaking: Any = None) -> Deferred[None]:
            return dialed.pop() if dialed else fail(UpstreamError("refused", Stage.CONNECT))

    assert verifyObject(IDialer, Refusing())
    dialed: list[Deferred[None]] = [Deferred()]
    first = dialed[0]
    pooled = make(maxConnections=1, dialer=Refusing())
    receivers = [pooled.begin() for _ in range(1000)]
    first.errback(UpstreamError("refused", Stage.CONNECT))
    assert {type(receiver.outcome) for receiver in receivers} == {UpstreamError}
    assert pooled.pool.connections == 0


# -- connecting


def test_refused(make: Any) -> None:
    """B7.2: a connection that fails says that nothing was sent."""
    pooled = make()
    pooled.network.refusing = True
    receiver = pooled.begin()
    assert (type(receiver.outcome), receiver.outcome.stage, receiver.outcome.sent) == (
        UpstreamError,
        Stage.CONNECT,
        Sent.NOTHING,
    )
    assert (pooled.pool.connections, receiver.outbound.carrier) == (0, None)


@pytest.mark.parametrize("own", [False, True])
def test_connectTime(make: Any, own: bool) -> None:
    """B9: a connection that does not stand within the limit: 504; a request may have a limit of its own."""
    pooled = make(timeouts=Timeouts(connect=30.0 if own else 5.0))
    pooled.network.holding = True
    receiver = pooled.begin(timeouts=Timeouts(connect=5.0) if own else None)
    pooled.network.advance(4.9)
    assert receiver.outcome is None
    pooled.network.advance(0.4)
    error = receiver.outcome
    assert (type(error), error.status, error.timeout, error.stage) == (UpstreamTimeout, 504, "connect", Stage.CONNECT)
    assert pooled.pool.connections == 0
    pooled.network.holding = False
    pooled.network.run()
    assert pooled.lines == []


def test_leavesConnecting(make: Any) -> None:
    """B7.1: an attempt that nobody waits for any more is given up."""
    pooled = make()
    pooled.network.holding = True
    receiver = pooled.begin()
    receiver.outbound.carrier.abort()
    pooled.network.holding = False
    pooled.network.run()
    assert (receiver.outcome, pooled.lines, pooled.pool.connections) == (None, [], 0)
    assert pooled.network.clock.getDelayedCalls() == []


def test_connectsAllTheSame(make: Any) -> None:
    """B7.1: and if it succeeds all the same its connection is closed."""
    pooled = make()

    @implementer(IDialer)
    class Stubborn:
        def dial(self, target: Any, protocol: Any, handshaking: Any = None) -> Deferred[None]:
            def connect(deferred: Any) -> None:
                pooled.network.dialed.append(pooled.network._join(protocol))
                deferred.callback(None)

            return Deferred(connect)

    pooled.pool._dialer = Stubborn()
    receiver = pooled.begin()
    receiver.outbound.carrier.abort()
    pooled.network.run()
    assert (receiver.outcome, pooled.pool.connections, pooled.lines[0].ended) == (None, 0, "reset")


def test_dialerRaises(make: Any) -> None:
    """B7.4: a dialer that raises costs one request, and no place in the pool."""

    @implementer(IDialer)
    class Broken:
        def dial(self, target: Any, protocol: Any, handshaking: Any = None) -> Any:
            raise ValueError("broken dialer")

    pooled = make(dialer=Broken(), maxConnections=1)
    receiver = pooled.begin()
    assert (type(receiver.outcome), type(receiver.outcome.__cause__)) == (UpstreamError, ValueError)
    assert (pooled.pool.connections, pooled.network.clock.getDelayedCalls()) == (0, [])


# -- once more (B8.3)


def reused(make: Any, **options: Any) -> Pooled:
    """@return: a pool with one idle connection."""
    pooled: Pooled = make(**options)
    pooled.begin()
    pooled.lines[0].send(OK)
    pooled.asked()
    assert len(pooled.pool.idle) == 1
    return pooled


@pytest.mark.parametrize("method", sorted(IDEMPOTENT))
@pytest.mark.parametrize("how", ["sendEOF", "sendReset"])
def test_replay(make: Any, method: bytes, how: str) -> None:
    """B8.3: a kept connection that dies before a response byte: an idempotent request is sent once more, on a fresh one."""
    pooled = reused(make)
    receiver = pooled.begin(b"/again", method, b"body" if method == b"PUT" else b"")
    getattr(pooled.lines[0], how)()
    assert receiver.outcome is None
    assert pooled.asked() == [[b"/again"], [b"/again"]]
    pooled.lines[1].send(OK)
    assert (receiver.outcome, receiver.outbound.record.tries, receiver.outbound.record.reused) == (200, 2, False)


def test_replayOnFreshOne(make: Any) -> None:
    """B8.3: not on another kept one, which may be as dead."""
    pooled = make()
    pooled.begin()
    pooled.begin()
    for line in pooled.lines:
        line.send(OK)
    pooled.begin(b"/again")
    pooled.lines[1].sendReset()
    assert len(pooled.lines) == 3
    assert (len(pooled.pool.idle), pooled.asked()[2]) == (1, [b"/again"])


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"X-OWN"])
def test_noReplay(make: Any, method: bytes) -> None:
    """B8.3: what is not idempotent is never sent twice."""
    pooled = reused(make)
    receiver = pooled.begin(b"/once", method)
    pooled.lines[0].sendReset()
    assert (type(receiver.outcome), receiver.outcome.sent) == (UpstreamError, Sent.ALL)
    assert len(pooled.lines) == 1


def test_replayOfWhatWasNotSent(make: Any) -> None:
    """B8.3: if nothing of it was sent, any method may go once more."""
    pooled = make()
    receiver = pooled.begin(b"/0")
    pooled.lines[0].send(OK)
    receiver.outbound.method = b"POST"
    receiver.outcome = None
    assert pooled.pool.replay(receiver.outbound, receiver, UpstreamError("x", Stage.SEND, Sent.SOME)) is False
    assert pooled.pool.replay(receiver.outbound, receiver, UpstreamError("x", Stage.SEND, Sent.NOTHING)) is True
    assert pooled.pool.replay(receiver.outbound, receiver, UpstreamError("x", Stage.SEND, Sent.NOTHING)) is False
    receiver.outbound.carrier.abort()


def test_noReplayOfStreams(make: Any) -> None:
    """B8.3: nor is a body that streams: its beginning is gone."""
    pooled = reused(make)
    body = Body(10)
    receiver = pooled.begin(b"/once", b"PUT", body)
    pooled.lines[0].sendReset()
    assert (type(receiver.outcome), receiver.outcome.sent) == (UpstreamError, Sent.SOME)
    assert (len(pooled.lines), body.told) == (1, ["stop"])


def test_noReplayOfReplays(make: Any) -> None:
    """B8.3: nor is anything sent a third time."""
    pooled = reused(make)
    receiver = pooled.begin(b"/again")
    pooled.lines[0].sendReset()
    pooled.lines[1].sendReset()
    assert type(receiver.outcome) is UpstreamError
    assert len(pooled.lines) == 2


def test_noReplayOnFresh(make: Any) -> None:
    """B8.3: a fresh connection that dies has been told, and says something about the upstream."""
    pooled = make()
    receiver = pooled.begin()
    pooled.lines[0].sendReset()
    assert type(receiver.outcome) is UpstreamError
    assert len(pooled.lines) == 1


def test_noReplayBehindBytes(make: Any) -> None:
    """B8.3: once a byte of a response has come there is no second try."""
    pooled = reused(make)
    receiver = pooled.begin()
    pooled.lines[0].send(b"HTTP/1.1 2")
    pooled.lines[0].sendReset()
    assert type(receiver.outcome) is UpstreamError
    assert len(pooled.lines) == 1


def test_noReplayBehindInterims(make: Any) -> None:
    """B8.3: nor once an interim response has."""
    pooled = reused(make)
    receiver = pooled.begin()
    pooled.lines[0].send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    pooled.lines[0].sendReset()
    assert type(receiver.outcome) is UpstreamError
    assert len(pooled.lines) == 1


def test_replayKeepsTheCap(make: Any) -> None:
    """B8.2: a second try does not exceed the cap: the place goes to who waits, and the next one to the second try."""
    pooled = reused(make, maxConnections=1)
    again, waiting = pooled.begin(b"/again"), pooled.begin(b"/waiting")
    last = pooled.begin(b"/last")
    pooled.lines[0].sendReset()
    assert pooled.pool.connections == 1
    assert pooled.asked()[1] == [b"/waiting"]
    pooled.lines[1].send(OK)
    assert pooled.asked()[1] == [b"/again"]
    pooled.lines[1].send(OK)
    assert (again.outcome, waiting.outcome, last.outcome) == (200, 200, None)


# -- the end


def test_close(make: Any) -> None:
    """B10.2: closing closes idle connections now and the others when they are free; who waits is still served."""
    pooled = make(maxConnections=2)
    receivers = [pooled.begin() for _ in range(3)]
    pooled.lines[0].send(OK)
    pooled.pool.close()
    pooled.network.run()
    assert [line.ended for line in pooled.lines] == ["", ""]
    pooled.lines[1].send(OK)
    pooled.lines[0].send(OK)
    assert [receiver.outcome for receiver in receivers] == [200, 200, 200]
    assert ([line.ended for line in pooled.lines], pooled.pool.connections) == (["reset", "reset"], 0)
    error = pooled.begin().outcome
    assert (type(error), error.status) == (Unavailable, 503)


def test_closeIdle(make: Any) -> None:
    """B10.2: idle ones go at once."""
    pooled = reused(make)
    pooled.pool.close()
    pooled.network.run()
    assert (pooled.pool.connections, pooled.lines[0].ended) == (0, "reset")


def test_cut(make: Any) -> None:
    """B3.6: cutting ends everything now, and tells everybody who waits for it: at work, connecting, in line."""
    pooled = make(maxConnections=2)
    working = pooled.begin()
    pooled.network.holding = True
    connecting, waiting = pooled.begin(run=False), pooled.begin(run=False)
    pooled.pool.cut()
    pooled.network.holding = False
    pooled.network.run()
    assert [type(each.outcome) for each in (working, connecting, waiting)] == [UpstreamError, Unavailable, Unavailable]
    assert (pooled.pool.connections, len(pooled.lines), pooled.lines[0].ended) == (0, 1, "reset")


def test_repr(make: Any) -> None:
    """What a pool is about can be seen in a debugger."""
    pooled = make(maxConnections=1)
    pooled.begin()
    pooled.begin()
    assert repr(pooled.pool) == "<Pool origin.test:80: 0 idle of 1, 1 waiting>"


def test_bench() -> None:
    """A pool's failure is answered by the flow in front of it."""
    bench = Bench(lambda outbound, receiver: receiver.roundTripFailed(Unavailable("full")))
    bench.start()
    assert bench.records[0].status == 503
