"""
Which member of a cluster gets a request.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Transport, request, upstreamResponse
from twistproxy import TargetDirector
from twistproxy.errors import Sent, Side, Stage, UpstreamError
from twistproxy.interfaces import IBalancer, ICallbackTransport, ITransport
from twistproxy.policy.balance import BALANCERS, BalancingTransport, LeastRequests, RandomOfTwo, RoundRobin, elsewhere
from twistproxy.rules.target import parseTarget
from twistproxy.testing import MemoryProxy, httpResponse
from twistproxy.upstreams import Cluster, Member

ANY: Any = None


def members(*active: int) -> list[Member]:
    """@return: members with so many requests under way, picked in this order before."""
    made = [Member(parseTarget(f":{number + 1}")) for number in range(len(active))]
    for turn, (member, number) in enumerate(zip(made, active, strict=True)):
        member.active, member.turn = number, turn
    return made


@pytest.mark.parametrize("make", BALANCERS.values(), ids=list(BALANCERS))
def test_interface(make: Callable[[], Any]) -> None:
    """Each is a balancer."""
    assert verifyObject(IBalancer, make())


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), max_size=30))
def test_roundRobin(rounds: list[list[bool]]) -> None:
    """It is the turn of who was picked longest ago, whoever was left out meanwhile."""
    group, balancer, turn = members(0, 0, 0, 0, 0), RoundRobin(), 10
    for present in rounds:
        candidates = [member for member, here in zip(group, present, strict=True) if here]
        if candidates:
            picked = balancer.pick(candidates, ANY)
            assert picked.turn == min(member.turn for member in candidates)
            picked.turn = turn = turn + 1


def test_roundRobinIsEven() -> None:
    """Members that are always there get the same."""
    group, balancer = members(0, 0, 0), RoundRobin()
    found: Counter[str] = Counter()
    for turn in range(10, 40):
        picked = balancer.pick(group, ANY)
        picked.turn = turn
        found[picked.target.name] += 1
    assert set(found.values()) == {10}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=2, max_size=8))
def test_leastRequests(loads: list[tuple[int, int]]) -> None:
    """It is who has the fewest under way, and among those who was picked longest ago."""
    group = members(*(active for active, _ in loads))
    for member, (_, turn) in zip(group, loads, strict=True):
        member.turn = turn
    picked = LeastRequests().pick(group, ANY)
    assert (picked.active, picked.turn) == min(loads)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.integers())
def test_randomOfTwo(active: list[int], seed: int) -> None:
    """Two different ones are drawn; the one with fewer requests is picked."""
    group = members(*active)
    drawn = Random(seed)
    numbers = [drawn.random(), drawn.random()]
    given = iter(numbers)
    picked = RandomOfTwo(lambda: next(given)).pick(group, ANY)
    first = int(numbers[0] * len(group))
    rest = [number for number in range(len(group)) if number != first]
    second = rest[int(numbers[1] * len(rest))]
    assert picked in (group[first], group[second])
    assert picked.active == min(group[first].active, group[second].active)


def test_randomOfTwoDrawsAll() -> None:
    """Every member has its chance, also with the generator that it brings itself."""
    group = members(0, 0, 0, 0)
    assert {RandomOfTwo().pick(group, ANY).target.name for _ in range(400)} == {each.target.name for each in group}


@pytest.mark.parametrize("make", BALANCERS.values(), ids=list(BALANCERS))
def test_onlyCandidate(make: Callable[[], Any]) -> None:
    """One that a balancer of one's own asks, of what it has left over, picks of one as well as of many."""
    [only] = members(3)
    assert make().pick([only], ANY) is only


def test_elsewhere() -> None:
    """Who did not do is left out, whatever its base path is: it is the same server."""
    group = Cluster([parseTarget("http://a/x"), parseTarget("http://a/y"), parseTarget("http://b")]).members
    assert [member.target.name for member in elsewhere(group, [group[0].target])] == ["b:80"]


# -- the transport


class Balanced:
    """A flow whose transport balances over scripted connections."""

    def __init__(self, *targets: str, balancer: Any = None, **options: Any) -> None:
        self.cluster = Cluster(map(parseTarget, targets or ("http://a.test", "http://b.test")))
        self.below = Transport()
        self.transport = BalancingTransport(self.below, balancer)
        self.bench = Bench(director=TargetDirector(self.cluster, **options), transport=self.transport)

    def ask(self, head: bytes = b"GET /p?q HTTP/1.1\r\nHost: front.test") -> Any:
        """@return: the request as it went on."""
        self.bench.start(request(head))
        return self.below.begun[-1][0]

    @property
    def active(self) -> list[int]:
        """How many requests each member has under way."""
        return [member.active for member in self.cluster.members]


def test_transport() -> None:
    """It is both kinds of transport."""
    assert verifyObject(ICallbackTransport, Balanced().transport)
    assert verifyObject(ITransport, Balanced().transport)


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        ({}, [b"a.test", b"b.test:81"]),
        ({"preserveHost": True}, [b"front.test"] * 2),
        ({"fixedHost": b"fixed.test"}, [b"fixed.test"] * 2),
    ],
)
def test_hostAndPath(options: Any, hosts: list[bytes]) -> None:
    """B2.6: Host is as the director has decided it, and each member's base path stands before the path."""
    balanced = Balanced("http://a.test/one/?k=1", "http://b.test:81", **options)
    went = [balanced.ask() for _ in range(2)]
    assert [each.host for each in went] == hosts
    assert [each.target for each in went] == [b"/one/p?k=1&q", b"/p?q"]
    assert [each.upstream.name for each in went] == ["a.test:80", "b.test:81"]
    assert [each.record.upstream for each in went] == ["a.test:80", "b.test:81"]


def test_clientsHost() -> None:
    """B2.6: a Host that a client sent is kept if it is to be kept, even where it reads like a cluster's own."""
    assert Balanced(preserveHost=True).ask(b"GET / HTTP/1.1\r\nHost: cluster").host == b"cluster"


def test_hostWithoutClients() -> None:
    """B2.6: a client without a Host, HTTP/1.0, leaves it to the member even where its own would be kept."""
    assert Balanced(preserveHost=True).ask(b"GET / HTTP/1.0").host == b"a.test"


@pytest.mark.parametrize(("targets", "status"), [(["http://a/x", "http://b"], 400), (["http://a", "http://b"], 0)])
def test_fence(targets: list[str], status: int) -> None:
    """B2.6: no request climbs out of a member's base path, whichever member it will be."""
    balanced = Balanced(*targets)
    balanced.bench.start(request(b"GET /../y HTTP/1.1\r\nHost: front.test"))
    assert [record.status for record in balanced.bench.records] == [status] * bool(status)
    assert len(balanced.below.begun) == (not status)


def test_turns() -> None:
    """A further try takes nobody's turn: otherwise it would always be the turn of the one that fails."""
    with MemoryProxy(Cluster(map(parseTarget, ("http://a", "http://b"))), balance="round-robin", retries=1) as proxy:
        bad, good = proxy.addUpstream("http://a"), proxy.addUpstream("http://b")
        bad.onConnection = lambda connection: connection.outgoing.closeAt(0)
        for _ in range(8):
            assert proxy.client().request().status == 200  # type: ignore[union-attr]
        assert (len(bad.requests), len(good.requests)) == (4, 8)


def test_others() -> None:
    """A request for a plain target passes as it is."""
    balanced = Balanced()
    balanced.bench.flow.useDirector(TargetDirector("http://other.test/x"))
    assert (balanced.ask().upstream.name, balanced.ask().target) == ("other.test:80", b"/x/p?q")


def test_failedOnes() -> None:
    """A member that the request has failed at is no candidate while there are others."""
    balanced = Balanced(balancer=lambda candidates, outbound: candidates[0])
    first, second = balanced.cluster.members

    def failed(asked: Any) -> None:
        asked.outbound.failed = gone.pop(0)
        asked.setTarget(balanced.cluster)

    gone = [[first.target], [second.target], [first.target, second.target]]
    balanced.bench.flow.useDirector(failed)
    assert [balanced.ask().upstream.name for _ in range(3)] == ["b.test:80", "a.test:80", "a.test:80"]


def _cancelled(*arguments: Any) -> Any:
    raise CancelledError


@pytest.mark.parametrize(
    "pick",
    [
        lambda candidates, outbound: None,
        lambda candidates, outbound: 1 // 0,
        lambda candidates, outbound: candidates[0].target,
        lambda candidates, outbound: outbound,
        _cancelled,
    ],
)
def test_badBalancer(pick: Any, loggedErrors: Any) -> None:
    """B7.4: a balancer that raises, or picks nothing, costs its exchange a 500, and nothing is sent."""
    balanced = Balanced(balancer=pick)
    balanced.bench.start(request())
    [record] = balanced.bench.records
    assert (record.status, record.tries, record.error.side) == (500, 0, Side.INTERNAL)
    assert "balancer function" in record.error.reason
    assert balanced.below.begun == []
    loggedErrors.clear()


@pytest.mark.parametrize("bad", [lambda candidates, outbound: outbound, _cancelled])
def test_badBalancerLater(bad: Any, loggedErrors: Any) -> None:
    """B7.4: one that goes wrong in a further try, when no flow waits above it, costs its exchange a 500 as well."""
    names = [f"http://{name}.test" for name in "abc"]
    picks = iter([lambda candidates, outbound: candidates[0], bad])
    options: Any = {"balance": lambda *arguments: next(picks)(*arguments), "retries": 1}
    with MemoryProxy(TargetDirector(names, balanced=True), **options) as proxy:
        assert proxy.client().request().status == 500  # type: ignore[union-attr]
        assert proxy.exchanges == set()
    loggedErrors.clear()


def test_noBalancer() -> None:
    """What is no balancer is an error at once."""
    with pytest.raises(TypeError, match="IBalancer"):
        BalancingTransport(Transport(), "round-robin")


def test_clusterWithoutBalancing() -> None:
    """A cluster that nobody picks from is an error that says what is missing, and nothing is dialed."""
    with MemoryProxy(Cluster([parseTarget("http://a.test")])) as proxy:
        assert proxy.client().request().status == 500  # type: ignore[union-attr]
        assert proxy.network.dialed == []
        assert "BalancingTransport" in str(proxy.records[0].error)


def test_oneMember() -> None:
    """A cluster of one needs no balancer to pick."""
    balanced = Balanced("http://only.test", balancer=lambda candidates, outbound: 1 // 0)
    assert balanced.ask().upstream.name == "only.test:80"


# -- what is under way


def test_underWay() -> None:
    """A request is under way until its exchange has ended, however it ends."""
    balanced = Balanced(balancer=LeastRequests())
    for _ in range(4):
        balanced.ask()
    assert balanced.active == [2, 2]
    (_, answered), (_, failed), (_, left), (_, streamed) = balanced.below.begun
    answered.responseReceived(upstreamResponse())
    assert balanced.active == [1, 2]
    failed.roundTripFailed(UpstreamError("no", Stage.CONNECT, Sent.NOTHING))
    assert balanced.active == [1, 1]
    left.clientLeft()
    assert balanced.active == [0, 1]
    streamed.cutOff()
    assert balanced.active == [0, 0]


@pytest.mark.parametrize("balancer", [LeastRequests(), RandomOfTwo(cycle([0.0, 0.9]).__next__)])
def test_underWayWhileStreaming(balancer: Any) -> None:
    """A download counts until its last byte, and an idle tunnel until it is closed."""
    cluster = Cluster([parseTarget("http://a.test"), parseTarget("http://b.test")])
    with MemoryProxy(cluster, balance=balancer) as proxy:
        streaming = proxy.addUpstream("http://a.test", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        switching = httpResponse(101, {"Connection": "Upgrade", "Upgrade": "any"})
        tunnelled = proxy.addUpstream("http://b.test", switching)
        download, tunnel = proxy.client(), proxy.client()
        download.request()
        tunnel.request(headers={"Connection": "Upgrade", "Upgrade": "any"})
        assert [member.active for member in cluster.members] == [1, 1]
        streaming.connection.send(b"world")
        assert [member.active for member in cluster.members] == [0, 1]
        tunnel.connection.send(b"bytes")
        tunnelled.connection.send(b"back")
        assert tunnel.opaque == b"back"
        tunnel.connection.sendEOF()
        tunnelled.connection.sendEOF()
        assert [member.active for member in cluster.members] == [0, 0]


def test_underWayWithoutExchange() -> None:
    """Used without a proxy, a request counts as long as anybody waits for it or reads its body."""
    balanced = Balanced(balancer=LeastRequests())
    outbound = balanced.ask()
    balanced.below.begun.clear()
    outbound.upstream, outbound.held = balanced.cluster, None
    asking = balanced.transport.roundTrip(outbound)
    assert sum(balanced.active) == 1
    asking.addErrback(lambda failure: None)
    asking.cancel()
    assert balanced.below.carrier.aborted == 1
    assert sum(balanced.active) == 0
    outbound.upstream = balanced.cluster
    asking = balanced.transport.roundTrip(outbound)
    balanced.below.begun[-1][1].responseReceived(upstreamResponse())
    assert sum(balanced.active) == 1
    balanced.below.begun.clear()
    del asking
    assert sum(balanced.active) == 0


def test_notCounted() -> None:
    """Where the balancer does not ask for it, nothing is counted."""
    balanced = Balanced()
    balanced.ask()
    assert balanced.active == [0, 0]
