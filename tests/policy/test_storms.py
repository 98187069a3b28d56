"""
Whatever several upstreams do wrong, in whatever order: the promises hold.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twistproxy import Limits, Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.policy.breaker import BreakerSettings
from twistproxy.policy.retry import Retries
from twistproxy.rules.methods import IDEMPOTENT
from twistproxy.testing import MemoryProxy, echo, httpResponse

NAMES = ("http://a.test", "http://b.test/base", "http://c.test")
OK = httpResponse(200, {"Content-Length": "5"}, b"hello")

#: What an upstream does with a connection.
FAULTS = ("none", "refuse", "close", "reset", "reset in the head", "reset in the body", "busy", "silence", "hold")
METHODS = ("GET", "POST", "PUT", "PATCH")

#: One step: what each upstream does from now on, a request, whether its body streams, and how the client behaves.
STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(FAULTS), min_size=3, max_size=3),
        st.sampled_from(METHODS),
        st.booleans(),
        st.sampled_from(["waits", "leaves at once", "leaves later"]),
        st.sampled_from([0.0, 0.3, 1.5]),
    ),
    min_size=1,
    max_size=12,
)


class Storm:
    """
    Three upstreams that can do everything wrong.

    @ivar asked: the requests, by their targets: method and client.
    """

    def __init__(self, balance: str) -> None:
        director = TargetDirector(NAMES, balanced=True)
        self.proxy = MemoryProxy(
            director,
            balance=balance,
            retries=Retries(most=3, statuses=(503,), pause=0.1),
            breaker=BreakerSettings(failures=2, statuses=(503,), pause=0.5, longest=2.0),
            timeouts=Timeouts(responseHead=5.0, connect=2.0),
            limits=Limits(),
        )
        self.cluster: Any = director._only
        self.upstreams = [self.proxy.addUpstream(name.removesuffix("/base"), self._answer) for name in NAMES]
        self.fault = dict.fromkeys((upstream._name for upstream in self.upstreams), "none")
        self.asked: dict[bytes, tuple[str, Any]] = {}
        for upstream in self.upstreams:
            upstream.onConnection = self._connected

    def _connected(self, connection: Any) -> None:
        fault = self.fault[connection.name]
        if fault == "close":
            connection.outgoing.closeAt(0)
        elif fault == "reset":
            connection.outgoing.resetAt(0)
        elif fault == "reset in the head":
            connection.outgoing.resetAt(10)
        elif fault == "reset in the body":
            connection.outgoing.resetAt(len(OK) - 2)

    def _answer(self, message: Any) -> bytes | None:
        fault = self.fault[message.connection.name]
        if fault == "silence":
            return None
        if fault == "busy":
            return httpResponse(503, {"Content-Length": "4"}, b"busy")
        return OK if fault.startswith("reset in") else echo(message)

    def step(self, faults: Any, method: str, streams: bool, behavior: str, pause: float) -> None:
        """Let something happen."""
        for upstream, fault in zip(self.upstreams, faults, strict=True):
            self.fault[upstream._name] = fault
            upstream.refusing, upstream.holding = fault == "refuse", fault == "hold"
        target = b"/%d" % len(self.asked)
        client = self.proxy.client()
        self.asked[target] = (method, client)
        length = 0 if method == "GET" else 6
        head = f"{method} {target.decode()} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
        if length and streams:
            client.send(head + b"abc")
            if behavior == "leaves at once":
                client.connection.sendReset()
            else:
                client.send(b"def")
        else:
            client.send(head + b"abcdef"[:length])
        if behavior != "waits":
            client.connection.sendReset()
        self.proxy.advance(pause)

    def delivered(self) -> Counter[bytes]:
        """@return: how often each request has reached an upstream, whole or not."""
        return Counter(
            b"/" + message.target.rpartition(b"/")[2] for upstream in self.upstreams for message in upstream.requests
        )


@given(st.sampled_from(["round-robin", "least-requests", "random"]), STEPS)
@settings(max_examples=100, deadline=None)
def test_promises(balance: str, steps: Any) -> None:
    """
    Every client that waits is answered, once; what is not idempotent reaches an upstream at most once; nothing reaches more
    than the tries that there may be; counts, timers and connections are as before when all is over.
    """
    storm = Storm(balance)
    with storm.proxy as proxy:
        for step in steps:
            storm.step(*step)
        proxy.advance(40.0)
        assert proxy.exchanges == set()
        assert len(proxy.records) == len(steps)
        for (method, client), (*_, behavior, _) in zip(storm.asked.values(), steps, strict=True):
            if behavior == "waits":
                assert [response.status for response in client.responses] in ([200], [502], [503], [504]), method
        for target, times in storm.delivered().items():
            method, _ = storm.asked[target]
            # each try may be replaced once, on a kept connection that had died
            assert times <= (8 if method.encode() in IDEMPOTENT else 1)
        assert [member.active for member in storm.cluster.members] == [0, 0, 0]
        assert [timer.limit for timer in proxy.timers if timer.limit == ""] == []
    assert proxy.clock.getDelayedCalls() == []


@given(st.sampled_from(METHODS), st.sampled_from(["refuse", "close", "reset", "reset in the head", "busy"]))
@settings(max_examples=40, deadline=None)
def test_oneIsWell(method: str, fault: str) -> None:
    """With one upstream that is well, who may be served is served."""
    storm = Storm("round-robin")
    with storm.proxy as proxy:
        for _ in range(6):
            storm.step([fault, "none", fault], method, False, "waits", 0.0)
        proxy.advance(5.0)
        statuses = [client.response.status for _, client in storm.asked.values()]
        if fault == "refuse" or method.encode() in IDEMPOTENT:
            assert statuses == [200] * 6
