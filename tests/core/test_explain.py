"""
What an exchange tells about itself.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.flow import Bench, request, upstreamResponse
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.errors import Refused, Stage, UpstreamTimeout
from twistproxy.message import Response
from twistproxy.testing import MemoryProxy
from twistproxy.upstream.pool import PoolSettings

HEAD = (
    b"GET /p?q HTTP/1.1\r\nHost: front.test\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Forwarded-For: 10.0.0.1\r\n"
    b"X_Forwarded_Host: x\r\nAccept: */*\r\nCookie: secret=1\r\nX-Old: 1"
)


def answering(outbound: Any, receiver: Any) -> None:
    """A transport's script."""
    receiver.responseReceived(upstreamResponse())


def director(request: Any) -> None:
    """Goes somewhere, and edits three fields."""
    request.setTarget("http://origin.test/base")
    request.setXForwarded()
    request.outbound.headers.remove("X-Old")
    request.outbound.headers.set("Accept", "text/html")
    request.outbound.headers.set("X-New", "1")


def test_forwarded() -> None:
    """B9: where it went, what was removed and why, what hooks added and changed, and how it ended."""
    exchange = Bench(answering, director).start(request(HEAD))
    facts = exchange.explain().facts
    assert facts["director"] == "forwarded to origin.test:80"
    assert facts["upstream"] == {"name": "origin.test:80", "tries": 1, "reused": False}
    assert {each["name"]: each["why"] for each in facts["removed"]} == {
        "host": "written anew by the host policy; RFC 9112 3.2",
        "connection": "hop-by-hop by definition; RFC 9110 7.6.1",
        "x-hop": "named by Connection",
        "x_forwarded_host": "as Forwarded, in disguise",
        "x-old": "by a hook",
    }
    assert facts["added"] == ["via", "x-request-id", "x-forwarded-host", "x-forwarded-proto", "x-new"]
    assert facts["changed"] == ["x-forwarded-for", "accept"]
    assert facts["bytes"] == {"request": 0, "response": 5}
    assert facts["outcome"] == {
        "settled": True,
        "request": "complete",
        "response": "complete",
        "status": 200,
        "tunnel": False,
        "error": None,
    }


def test_text() -> None:
    """B9: the same as text; no values of fields are told."""
    exchange = Bench(answering, director).start(request(HEAD))
    text = str(exchange.explain()).splitlines()
    requestID = exchange.record.requestID.decode()
    assert text[:5] == [
        f"GET /p?q for front.test from 192.0.2.1 [{requestID}]",
        "  director: forwarded to origin.test:80",
        "  upstream: origin.test:80, tries: 1",
        "  sent: GET /base/p?q with Host origin.test",
        "  removed host: written anew by the host policy; RFC 9112 3.2",
    ]
    assert text[-4:] == [
        "  changed: x-forwarded-for, accept",
        "  time: none",
        "  body bytes: 0 from the client, 5 to it",
        "  outcome: settled, status 200",
    ]
    assert "secret" not in "".join(text)


def test_running() -> None:
    """It may be asked at any moment, and says how far the exchange has come."""
    bench = Bench(director=director)
    exchange = bench.start(request(HEAD))
    bench.clock.advance(1.5)
    explained = exchange.explain()
    assert explained.facts["outcome"]["settled"] is False
    assert explained.facts["seconds"]["total"] == 1.5
    assert "x-hop" in {each["name"] for each in explained.facts["removed"]}
    assert str(explained).endswith("outcome: complete/nothing, status none yet")
    exchange.clientLeft()
    assert "failed: the client left (downstream/wait" in str(exchange.explain())


def refusing(request: Any) -> None:
    """Says no."""
    raise Refused(403, "not you")


def broken(request: Any) -> None:
    """Has a bug."""
    raise ValueError("a bug")


@pytest.mark.parametrize(
    ("decide", "settings", "expected"),
    [
        (lambda request: Response(204), None, "answered with 204, nothing sent upstream"),
        (refusing, None, "refused with 403"),
        (broken, None, "failed: director broken"),
        (director, ProxySettings(maxVia=0), "did not decide: the exchange failed before"),
    ],
)
def test_decisions(decide: Any, settings: Any, expected: str, loggedErrors: Any) -> None:
    """What a director decided is told, and where nothing went upstream nothing is said to have been removed."""
    exchange = Bench(director=decide, settings=settings).start(request(HEAD + b"\r\nVia: 1.1 twistproxy"))
    assert exchange.explain().facts["director"] == expected
    loggedErrors.clear()


def test_notDecidedYet() -> None:
    """A director that waits has not decided."""

    async def waiting(request: Any) -> None:
        from twisted.internet.defer import Deferred

        await Deferred()

    exchange = Bench(director=waiting).start(request(HEAD))
    assert exchange.explain().facts["director"] == "has not decided yet"
    assert exchange.explain().facts["sent"] is None
    exchange.clientLeft()


@pytest.mark.parametrize("running", [True, False])
def test_otherQuery(running: bool) -> None:
    """A query that is not the client's may hold a key of the operator's, and is not told."""
    bench = Bench(director=lambda asked: asked.setTarget("http://origin.test/base?key=hidden"))
    exchange = bench.start(request(HEAD))
    if not running:
        exchange.clientLeft()
    assert exchange.explain()["sent"] == {"method": "GET", "target": "/base/p?...", "host": "origin.test"}


def test_visible() -> None:
    """What a client sent cannot break a line of the text, or steer the terminal that shows it."""
    made = request(b"GET /\x9b2J\x85x HTTP/1.1\r\nHost: front.test")
    exchange = Bench(answering).start(made)
    assert str(exchange.explain()).splitlines()[0].startswith("GET /\\x9b2J\\x85x for front.test")


def test_timers() -> None:
    """B9: the limits of time that run are told, the next one first; none run when it is over."""
    bench = Bench(timeouts=Timeouts(exchange=20.0))
    exchange = bench.start(request(HEAD))
    assert [(each["limit"], each["side"]) for each in exchange.explain()["timers"]] == [("exchange", "exchange")]
    assert exchange.explain()["timers"][0]["seconds"] == pytest.approx(20.1)
    assert "  timers: exchange in 20.1 s" in str(exchange.explain()).splitlines()
    bench.clock.pump([0.1] * 50)
    assert exchange.explain()["timers"][0]["seconds"] == pytest.approx(15.1, abs=0.2)
    exchange.clientLeft()
    assert exchange.explain()["timers"] == []


def test_timersOfWires() -> None:
    """B9: those of connections are among them: in the line, connecting, waiting for a response, in its body."""

    def limits() -> list[Any]:
        (exchange,) = proxy.exchanges
        return [(each["side"], each["limit"]) for each in exchange.explain()["timers"]]

    options = {"pool": PoolSettings(maxConnections=1), "timeouts": Timeouts(exchange=None)}
    with MemoryProxy(**options) as proxy:
        upstream = proxy.addUpstream(answer=None)
        upstream.holding = True
        client = proxy.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert limits() == [("upstream", "connect")]
        upstream.holding = False
        proxy.run()
        assert limits() == [("upstream", "responseHead")]
        upstream.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        assert limits() == [("upstream", "responseBody")]
        upstream.connection.send(b"b")
        assert client.response.body == b"ab"
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        assert limits() == [("downstream", "requestBody")]
        client.connection.sendReset()


def test_timeout() -> None:
    """B7.3: the limit that ran out is named; all of it is fit for JSON."""
    bench = Bench(lambda outbound, receiver: receiver.roundTripFailed(UpstreamTimeout("responseHead", Stage.WAIT)))
    explained = bench.start(request(HEAD)).explain()
    assert json.loads(json.dumps(explained.facts)) == explained.facts
    assert explained.facts["outcome"]["error"]["timeout"] == "responseHead"
    assert "upstream/wait, nothing sent, limit 'responseHead'" in str(explained)


def test_inAHook() -> None:
    """A hook may ask, an error handler above all."""
    bench = Bench(
        lambda outbound, receiver: receiver.roundTripFailed(UpstreamTimeout("connect", Stage.CONNECT)),
        errorHandler=lambda error, exchange: Response(504, body=str(exchange.explain())),
    )
    bench.start(request(HEAD))
    assert b"limit 'connect'" in bench.downstream.told[0][3]
