"""
Composition: chains of directors, and routers.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Downstream, Transport, request, upstreamResponse
from twistproxy import ReverseProxy
from twistproxy.core.exchange import ExchangeContext
from twistproxy.directors import TargetDirector
from twistproxy.errors import ClientError
from twistproxy.interfaces import IDirector, IResponder
from twistproxy.message import Request, Response
from twistproxy.routes import Route, Router, chain, comparable, hostOf
from twistproxy.testing import MemoryProxy
from twistproxy.upstreams import Target

target = TargetDirector("http://origin.test")


def asking(path: str = "/", host: str = "front.test", method: str = "GET", fields: tuple[str, ...] = ()) -> Request:
    """@return: a request."""
    lines = "".join(f"\r\n{line}" for line in fields)
    return request(f"{method} {path} HTTP/1.1\r\nHost: {host}{lines}".encode())


# -- chains


def mark(name: str, answer: Any = None, log: list[str] | None = None) -> Any:
    """@return: a director that notes that it was asked."""

    def direct(request: Any) -> Any:
        if log is not None:
            log.append(name)
        request.outbound.headers.add("X-Mark", name)
        return answer() if callable(answer) else answer

    return direct


def test_chain() -> None:
    """B3.1: each director sees what those before it made of the request; a provider is one as well as a callable."""
    bench = Bench(director=chain(mark("a"), target, mark("b")))
    bench.start()
    outbound = bench.transport.begun[0][0]
    assert outbound.headers.getAll("X-Mark") == [b"a", b"b"]
    assert outbound.upstream.name == "origin.test:80"
    assert verifyObject(IDirector, chain())


@pytest.mark.parametrize("wait", [lambda answer: answer, succeed])
def test_chainEnds(wait: Any) -> None:
    """B3.1: the first that answers is the last, whether it waits or not."""
    log: list[str] = []
    director = chain(
        mark("a", lambda: wait(None), log), mark("b", lambda: wait(Response(204)), log), mark("c", None, log)
    )
    bench = Bench(director=director)
    bench.start()
    assert (log, bench.downstream.told[0][:2], bench.transport.begun) == (["a", "b"], ("head", 204), [])


def test_chainWaits() -> None:
    """B3.1: those behind one that waits are asked when it is done; it is cancelled when the client leaves."""
    log: list[str] = []
    waits: list[Deferred[None]] = []

    async def slow(request: Any) -> None:
        waits.append(Deferred())
        await waits[-1]

    bench = Bench(director=chain(slow, mark("b", None, log), slow, target))
    bench.start()
    waits[0].callback(None)
    assert (log, len(bench.transport.begun)) == (["b"], 0)
    waits[1].callback(None)
    assert len(bench.transport.begun) == 1
    cancelled = Bench(director=chain(slow, mark("never", None, log)))
    cancelled.start().clientLeft()
    assert (log, cancelled.records[0].status) == (["b"], 499)


def test_chainOfNothing() -> None:
    """What is no director is an error at the start."""
    with pytest.raises(TypeError, match="IDirector"):
        chain(target, "http://origin.test")


# -- what is compared


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/b", b"/a/b"),
        (b"*", b"*"),
        (b"/%61/b", b"/a/b"),
        (b"/a%2Fb", b"/a%2Fb"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"//a///b/", b"/a/b/"),
        (b"/a/../b", b"/b"),
        (b"/a/%2e%2E/b", b"/b"),
        (b"/a/./b/.", b"/a/b/"),
        (b"/../../a", b"/a"),
        (b"/%zz", b"/%zz"),
        (b"/.hidden", b"/.hidden"),
        (b"/..", b"/"),
    ],
)
def test_comparable(path: bytes, expected: bytes) -> None:
    """RFC 3986 6.2.2: spellings of one path are one path."""
    assert comparable(path) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("A.test", b"a.test"),
        ("a.test:80", b"a.test"),
        ("a.test.", b"a.test"),
        ("[::1]:80", b"[::1]"),
        ("[::1]", b"[::1]"),
    ],
)
def test_host(host: str, expected: bytes) -> None:
    """Hosts are compared without letter case, port and final dot."""
    assert hostOf(asking(host=host)) == expected


# -- the look-up

HOSTS = [None, "a.test", "b.a.test", "*.a.test", "*.b.a.test", "*.test"]
PREFIXES = ["", "/", "/x", "/x/", "/x/y", "/xy", "/x/y/z"]
METHODS = [None, "GET", ("POST", "PUT")]
FIELDS: list[dict[str, str | None]] = [{}, {"X-A": None}, {"x-a": "1"}, {"X-A": "1", "X-B": None}]
routes = st.tuples(*map(st.sampled_from, (HOSTS, PREFIXES, METHODS, FIELDS)))
segments = st.sampled_from(["x", "y", "z", "xy", "", ".", "..", "%78", "%2e", "q"])
requests = st.builds(
    asking,
    path=st.lists(segments, max_size=5).map(lambda found: "/" + "/".join(found)),
    host=st.sampled_from(["a.test", "A.Test:80", "b.a.test", "c.b.a.test.", "xa.test", "test", "z.test", "else"]),
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    fields=st.lists(st.sampled_from(["X-A: 1", "x-a: 2", "X-B: 1"]), max_size=3).map(tuple),
)


def naive(table: list[Any], asked: Request) -> int | None:
    """
    The rules, one after another, on every route.

    @return: the number of the best route.
    """
    host = asked.host.decode().lower().split(":")[0].rstrip(".")
    path: list[bytes] = []
    for segment in unquote_to_bytes(asked.path).split(b"/"):
        if segment == b"..":
            path = path[:-1]
        elif segment not in (b"", b"."):
            path.append(segment)
    best: tuple[Any, int] | None = None
    for number, (wantedHost, prefix, methods, fields) in enumerate(table):
        if wantedHost is None:
            hostRank: tuple[int, int] = (0, 0)
        elif wantedHost.startswith("*"):
            if not host.endswith(wantedHost[1:]):
                continue
            hostRank = (1, len(wantedHost))
        elif wantedHost == host:
            hostRank = (2, 0)
        else:
            continue
        wanted = [part.encode() for part in prefix.split("/") if part]
        if path[: len(wanted)] != wanted:
            continue
        allowed = (methods,) if isinstance(methods, str) else methods
        if allowed is not None and asked.method.decode() not in allowed:
            continue
        there = [(name.lower(), value) for name, value in asked.headers.items()]
        if not all(
            any(known == name.lower().encode() and (value is None or found == value.encode()) for known, found in there)
            for name, value in fields.items()
        ):
            continue
        rank = (hostRank, len(wanted), allowed is not None, len(fields), -number)
        if best is None or rank > best[0]:
            best = (rank, number)
    return None if best is None else best[1]


@given(table=st.lists(routes, max_size=8), asked=requests)
def test_bestRoute(table: list[Any], asked: Request) -> None:
    """The router finds what trying every route in turn finds."""
    router = Router()
    branches = [TargetDirector("http://o.test") for _ in table]
    for branch, (host, prefix, method, fields) in zip(branches, table, strict=True):
        router.add(branch, host=host, path=prefix, method=method, headers=fields)
    route = router.match(asked)
    number = None if route is None else branches.index(route.branch)
    assert number == naive(table, asked)


def test_longestWins() -> None:
    """Whole segments count, and the longest prefix wins in whatever order routes were added."""
    router = Router().add(Response(201)).add(Response(202), path="/api/v1").add(Response(203), path="/api")
    found = [router.match(asking(path)).branch.status for path in ("/", "/apix", "/api", "/api/v", "/api/v1/x")]  # type: ignore[union-attr]
    assert found == [201, 201, 203, 203, 202]


@pytest.mark.parametrize("mode", ["responder", "director"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/x", 403),
        ("/x/%2e%2e/admin", 403),
        # an upstream may unescape slashes, take one sort for the other, or leave parameters of segments out
        ("/admin%2Fx", 400),
        ("/x/..%2fadmin", 400),
        ("/%2fadmin", 400),
        ("/admin%5cx", 400),
        ("/admin\\x", 400),
        ("/admin;a=b/x", 400),
        # whatever they make of these, the route is the same
        ("/api/group%2Fproject;v=1", 201),
        ("/files/..;a%2fb", 200),
        ("/admin/..%2fx", 400),
        # who writes a route with an escaped slash knows about them
        ("/escaped%2Fslash/x", 202),
    ],
)
def test_readDifferently(mode: str, path: str, status: int) -> None:
    """No spelling gets a request past a route: one that upstreams may take for the path of another is refused."""
    router = Router()
    router.add(Response(200))
    router.add(Response(403), path="/admin")
    router.add(Response(201), path="/api")
    router.add(Response(202), path="/escaped%2fslash")
    responder = {"responder": router, "director": ReverseProxy(router)}[mode]
    with MemoryProxy(responder=responder) as proxy:
        client = proxy.client()
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.response.status == status


def test_hugePath() -> None:
    """A path of tens of thousands of segments is looked at only as deep as there are routes."""
    router = Router().add(target, path="/a/b")
    assert router._prefixes(b"/a/b" + b"/c" * 30000) == [b"/a/b", b"/a", b""]


def test_clientsAsterisk() -> None:
    """A client that sends a wildcard as its host gets no route by that."""
    router = Router().add(target, host="*.a.test")
    asked = asking()
    asked.host = b"*.a.test"
    assert router.match(asked) is not None  # it is a name below a.test
    asked.host = b"*.test"
    assert Router().add(target, host="*.test").match(asked) is not None
    asked.host = b"*"
    assert Router().add(target, host="*.test").match(asked) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "a.test:80"},
        {"host": "http://a.test"},
        {"host": "*"},
        {"host": ""},
        {"path": "api"},
        {"path": "/api?x"},
        {"method": "GET POST"},
        {"headers": {"X A": None}},
    ],
)
def test_wrongConditions(wrong: Any) -> None:
    """A condition that can never be met is an error at the start."""
    with pytest.raises(ValueError, match="no "):
        Router().add(target, **wrong)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"balance": "nonsense"}, ValueError),
        ({"balance": 3}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": "2"}, TypeError),
        ({"breaker": "on"}, TypeError),
    ],
)
def test_wrongPolicies(options: Any, error: type[Exception]) -> None:
    """So is a policy that there is not."""
    with pytest.raises(error):
        Router(**options)


def test_wrongBranch() -> None:
    """So is a branch that cannot serve anything."""
    with pytest.raises(TypeError, match="IDirector"):
        Router().add(3)
    with pytest.raises(ValueError, match="target"):
        Router().add("example.org")


def test_repr() -> None:
    """A route says what it is for."""
    assert repr(Route(None, "a.test", "/x/", "GET", {})) == "<Route b'a.test' b'/x' [b'GET'] []>"


# -- serving


@implementer(IResponder)
class Answering:
    """A responder of one's own."""

    def respond(self, exchange: Any) -> None:
        exchange.answer(Response(299))


def served(router: Router, asked: Request) -> Downstream:
    """@return: what a client gets from a router as its site's responder."""
    downstream = Downstream()
    ExchangeContext(router.respond, lambda: 0.0).begin(downstream, asked).start()
    return downstream


def test_branches() -> None:
    """B3.1: a branch is a responder, a director, a callable, a target, or a response; requests of directors share a transport."""
    transport = Transport(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()))
    router = Router(transport, reactor=MemoryReactorClock())
    router.add(Answering(), path="/responder").add(Response(204), path="/response")
    router.add("http://one.test", path="/text").add(Target("http", "two.test", 80), path="/target")
    router.add(lambda request: request.setTarget("http://three.test"), path="/callable")
    paths = ("/responder", "/response", "/text", "/target", "/callable", "/nowhere")
    told = [served(router, asking(path)).told[0][1] for path in paths]
    assert told == [299, 204, 200, 200, 200, 404]
    assert [outbound.upstream.host for outbound, _ in transport.begun] == ["one.test", "two.test", "three.test"]
    assert verifyObject(IResponder, router)
    assert verifyObject(IDirector, router)


def test_nested() -> None:
    """A router is a branch of another one."""
    inner = Router(reactor=MemoryReactorClock()).add(Response(202), path="/a/b")
    outer = Router(reactor=MemoryReactorClock()).add(inner, path="/a").add(Response(203))
    assert [served(outer, asking(path)).told[0][1] for path in ("/a/b", "/a", "/c")] == [202, 404, 203]


def test_asDirector() -> None:
    """A router of directors is one."""
    router = Router().add(Response(202), path="/a").add(target, path="/b").add(lambda request: Response(203), path="/c")
    bench = Bench(director=chain(mark("first"), router))
    for path in ("/a", "/b", "/c", "/d"):
        bench.start(asking(path))
    statuses = [each[1] for each in bench.downstream.told if each[0] == "head"]
    assert (statuses, len(bench.transport.begun)) == ([202, 203, 404], 1)


def test_responderInADirector(loggedErrors: Any) -> None:
    """B3.7: a responder cannot be a director, and the error says what to do instead."""
    bench = Bench(director=Router().add(Answering()))
    bench.start()
    assert bench.downstream.told[0][:2] == ("head", 500)
    assert "give the router itself to the site" in loggedErrors[0]["reason"]
    loggedErrors.clear()


def test_refusesFirst() -> None:
    """B1: what the wire has found fault with is refused, whatever branch it would have gone to."""
    asked = asking("/responder")
    asked.fault = ClientError("bad")
    router = Router(Transport(), reactor=MemoryReactorClock()).add(Answering())
    assert served(router, asked).told[0][1] == 400


def test_close() -> None:
    """Closing closes the transport, if there is one."""
    Router().close()
    router = Router(reactor=MemoryReactorClock()).add("http://one.test")
    served(router, asking("/", method="TRACE"))
    router.close()
    assert router._transport.pool.transport._closed is True
