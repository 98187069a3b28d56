"""
Explanations in the log, and for a trusted client that asks, with the response.
"""

from __future__ import annotations

import gc
import json
import runpy
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogEvent, eventAsText, globalLogPublisher

from tests.support.peers import Client
from twistproxy import Explained, Response, ReverseProxy, Router
from twistproxy.core.explained import LONGEST_LINE, MOST_LINES
from twistproxy.errors import Refused
from twistproxy.testing import MemoryNetwork, MemoryProxy, httpResponse

ASK = {"X-Proxy-Explain": "1"}
PEER = "192.0.2.1"


@pytest.fixture
def told() -> Iterator[list[LogEvent]]:
    """Every event with an explanation."""
    events: list[LogEvent] = []

    def observer(event: LogEvent) -> None:
        if "explanation" in event:
            events.append(event)

    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def explained(director: Any = None, **options: Any) -> MemoryProxy:
    """@return: a proxy whose exchanges are explained."""
    network = MemoryNetwork()
    proxy = ReverseProxy.to("http://origin.test/base", reactor=network)
    if director is not None:
        proxy.useDirector(director)
    return MemoryProxy(network=network, responder=Explained(proxy, **options))


def answers(message: Any) -> list[str]:
    """@return: the explanation in a response, line by line."""
    return [value.decode() for value in message.headers.getAll("X-Proxy-Explain")]


def test_log(told: list[LogEvent]) -> None:
    """Every exchange is explained once, when it is over: as text, and as data for logs that are read by programs."""
    with explained() as proxy:
        proxy.addUpstream()
        client = proxy.client()
        response = client.request(target="/p", headers={"Cookie": "secret=1", "Authorization": "hidden"})
        (event,) = told
        text = eventAsText(event, includeTimestamp=False)
        assert "GET /p for " in text
        assert "\n  upstream: origin.test:80, tries: 1\n  sent: GET /base/p with Host origin.test\n" in text
        assert text.endswith("\n  outcome: settled, status 200")
        assert "secret" not in text and "hidden" not in text
        assert json.loads(json.dumps(event["explanation"]))["outcome"]["status"] == 200
        assert answers(response) == []
        client.request()
        assert len(told) == 2


def test_asked(told: list[LogEvent]) -> None:
    """A trusted client that asks gets what is known when the head is sent; the log tells the rest under the same id."""
    with explained(always=False, trusted=[PEER]) as proxy:
        upstream = proxy.addUpstream()
        client = proxy.client()
        response = client.request(target="/p", headers={**ASK, "Cookie": "secret=1", "TE": "trailers"})
        lines = answers(response)
        assert lines[1:4] == [
            "director: forwarded to origin.test:80",
            "upstream: origin.test:80, tries: 1",
            "sent: GET /base/p with Host origin.test",
        ]
        assert "removed te: hop-by-hop; 'trailers' is put back; RFC 9110 10.1.4" in lines
        assert lines[-1] == "outcome: complete/complete, status 200"
        assert not any("secret" in line for line in lines)
        assert response.headers.getAll("Cache-Control") == [b"no-store"]
        requestID = told[0]["explanation"]["request"]["id"]
        assert lines[0] == f"GET /p for front.test from {PEER} [{requestID}]"
        assert upstream.request.headers.get("X-Proxy-Explain") is None
        assert answers(client.request()) == []
        assert len(told) == 1


@pytest.mark.parametrize(
    ("trusted", "headers"),
    [
        ([], ASK),
        (["10.0.0.0/8"], ASK),
        ([PEER], {}),
        ([PEER], {"X-Proxy-Explain": "0"}),
        ([PEER], {"X-Proxy-Explain": ""}),
        ([PEER], {**ASK, "X-Forwarded-For": "198.51.100.7"}),
        ([PEER], {**ASK, "X-Forwarded-For": f"198.51.100.7, {PEER}"}),
        ([PEER], {**ASK, "X-Forwarded-For": "unknown"}),
        ([PEER], {**ASK, "X-Forwarded-For": ""}),
        ([PEER], {**ASK, "Forwarded": "for=198.51.100.7"}),
        ([PEER], {**ASK, "Via": "1.1 front"}),
    ],
)
def test_notAnswered(trusted: list[str], headers: dict[str, str], told: list[LogEvent]) -> None:
    """
    Whoever is not trusted is not answered, and neither is one for whom a trusted proxy passes the question on; in any
    case no upstream sees it.
    """
    with explained(always=False, trusted=trusted) as proxy:
        upstream = proxy.addUpstream()
        response = proxy.client().request(headers=headers)
        assert (response.status, answers(response), told) == (200, [], [])
        assert upstream.request.headers.get("X-Proxy-Explain") is None


def test_throughTrusted() -> None:
    """A trusted client behind a trusted proxy is answered."""
    with explained(always=False, trusted=[PEER, "10.0.0.0/8"]) as proxy:
        proxy.addUpstream()
        headers = {**ASK, "X-Forwarded-For": "10.1.2.3", "Via": "1.1 front"}
        assert answers(proxy.client().request(headers=headers))[1] == "director: forwarded to origin.test:80"


def test_noUpstreamAnswers() -> None:
    """An upstream cannot pretend to explain: its fields of that name do not pass."""
    with explained(always=False) as proxy:
        proxy.addUpstream(answer=httpResponse(200, {"X-Proxy-Explain": "forged", "Content-Length": "0"}))
        assert answers(proxy.client().request()) == []


def refusing(request: Any) -> None:
    """Says no."""
    raise Refused(403, "not \x9b2J\r\nX-Forged: 1 " + "x" * 500)


def test_bounded() -> None:
    """What is told in a head is bounded in length and number of lines, and none of it is more than one line."""

    def director(request: Any) -> None:
        request.setTarget("http://origin.test")

    many = {f"X-Forwarded-{number}": "1" for number in range(40)}
    named = {"Connection": ", ".join(many), **many, **ASK}
    with explained(director, always=False, trusted=[PEER]) as proxy:
        proxy.addUpstream()
        lines = answers(proxy.client().request(headers=named))
        assert len(lines) == MOST_LINES
        assert lines[-1].endswith("lines more in the log")
    with explained(refusing, always=False, trusted=[PEER]) as proxy:
        response = proxy.client().request(headers=ASK)
        assert response.status == 403
        assert answers(response)[-1].startswith("failed: not \\x9b2J\\x0d\\x0aX-Forged")
        assert max(map(len, answers(response))) == LONGEST_LINE
        assert response.headers.get("X-Forged") is None


def test_sharedResponse() -> None:
    """A response that a responder sends again and again does not collect what was told."""
    shared = Response(200, body=b"me")
    with MemoryProxy(responder=Explained(lambda exchange: exchange.answer(shared), trusted=[PEER])) as proxy:
        client = proxy.client()
        assert [len(answers(client.request(headers=ASK))) for _ in range(2)] == [5, 5]
        assert answers(client.request()) == []


def test_upgrade() -> None:
    """A 101 is explained too, and its tunnel works."""
    with explained(always=False, trusted=[PEER]) as proxy:
        upstream = proxy.addUpstream(answer=None)
        client = proxy.client()
        client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nX-Proxy-Explain: 1\r\n\r\n"
        )
        upstream.connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello")
        assert "director: forwarded to origin.test:80" in answers(client.response)
        assert client.opaque == b"hello"
        client.connection.sendEOF()
        upstream.connection.sendEOF()


def test_clientLeaves(told: list[LogEvent]) -> None:
    """An exchange that nobody waits for any more is explained as well, once."""
    with explained() as proxy:
        proxy.addUpstream(answer=None)
        client = proxy.client()
        client.request()
        client.connection.sendReset()
        assert [event["explanation"]["outcome"]["status"] for event in told] == [499]


def test_streamed(told: list[LogEvent]) -> None:
    """A body that streams passes as ever, and a client that does not keep up pauses it."""
    with explained() as proxy:
        upstream = proxy.addUpstream(answer=None)
        client = proxy.client()
        client.request()
        client.connection.taking = False
        upstream.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(1000000))
        assert upstream.connection.reading is False
        client.connection.taking = True
        proxy.run()
        upstream.connection.send(bytes(1000000))
        proxy.run()
        assert len(client.response.body) == 2000000
        assert told[0]["explanation"]["bytes"]["response"] == 2000000


def test_wrongTrusted() -> None:
    """What is no address is refused where it is said."""
    with pytest.raises(ValueError, match="no IP address or network"):
        Explained(lambda exchange: None, trusted=["operators"])


@pytest_twisted.ensureDeferred
async def test_example() -> None:
    """The example of the guide explains to a client on this machine."""
    example = Path(__file__).parents[2] / "docs" / "examples" / "explained.py"
    site = runpy.run_path(str(example))["site"]
    site.responder.responder.useDirector(lambda request: Response(200, body=b"me"))
    port = await site.listen("tcp:0:interface=127.0.0.1")
    client = Client(socket.create_connection(("127.0.0.1", port.getHost().port)))
    try:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Proxy-Explain: 1\r\n\r\n")
        head = await client.upTo(b"\r\n\r\n")
        assert b"\r\nX-Proxy-Explain: director: answered with 200, nothing sent upstream\r\n" in head
    finally:
        client.close()
        await port.stopListening()
        await site.drain()


@pytest.mark.parametrize("path", ["/api/x", "/other"])
def test_noGarbage(unwitnessed: None, path: str) -> None:
    """DESIGN 5: an exchange that was explained, mapped back, or both, leaves nothing to the collector."""
    network = MemoryNetwork()
    router = Router(reactor=network).add("http://origin.test", path="/api", stripPrefix=True).add("http://origin.test")
    seen: list[Any] = []

    def respond(exchange: Any) -> None:
        seen.append(weakref.ref(exchange))
        router.respond(exchange)

    with MemoryProxy(network=network, responder=Explained(respond, trusted=[PEER])) as proxy:
        proxy.addUpstream()
        client = proxy.client()
        gc.collect()
        gc.disable()
        try:
            assert answers(client.request(target=path, headers=ASK)) != []
            assert [each() for each in seen] == [None]
        finally:
            gc.enable()
