"""
The public transport that fails on purpose.
"""

from __future__ import annotations

from typing import Any

import pytest

from twistproxy import Response, ReverseProxy
from twistproxy.errors import Stage, UpstreamError
from twistproxy.testing import (
    FaultyTransport,
    MemoryClient,
    MemoryNetwork,
    MemoryProxy,
    ScriptedUpstream,
    httpRequest,
    httpResponse,
)

BODY = bytes(range(256)) * 40


def faulty(answer: Any = None, **faults: Any) -> tuple[MemoryProxy, FaultyTransport, ScriptedUpstream, MemoryClient]:
    """@return: a proxy whose transport fails on purpose."""
    network = MemoryNetwork()

    def direct(request: Any) -> None:
        request.setTarget("http://origin.test")

    plain = ReverseProxy(direct, reactor=network)
    transport = FaultyTransport(plain.transport, network.clock, **faults)
    proxy = MemoryProxy(network=network, responder=ReverseProxy(direct, transport, reactor=network))
    return proxy, transport, proxy.addUpstream(answer=answer or httpResponse(200, {}, BODY)), proxy.client()


def test_noFault() -> None:
    """Without a fault it is not there."""
    proxy, transport, _, client = faulty()
    with proxy:
        assert client.request("POST", body=BODY).body == BODY  # type: ignore[union-attr]
        assert transport.injected == {}


def test_faultyDelay() -> None:
    """A delayed request is sent later; a client that leaves meanwhile ends it."""
    proxy, transport, upstream, client = faulty(delay=2.0)
    with proxy:
        client.request()
        proxy.advance(1.9)
        assert upstream.requests == []
        proxy.advance(0.2)
        assert client.response.body == BODY
        client.request()
        client.connection.sendReset()
        proxy.advance(10)
        assert (len(upstream.requests), transport.injected) == (1, {"delay": 2})


def test_faultyStatus() -> None:
    """A part of the requests is refused, by a seed: the same ones every time, and not sent."""
    runs = []
    for seed in (1, 1, 2):
        proxy, transport, upstream, client = faulty(statusRate=0.3, seed=seed)
        with proxy:
            got = [client.request("POST", body=b"x" * 10).status for _ in range(100)]  # type: ignore[union-attr]
            assert (got.count(503), len(upstream.requests)) == (transport.injected["status"], got.count(200))
            assert 15 < got.count(503) < 45
            runs.append(got)
    assert (runs[0] == runs[1], runs[0] == runs[2]) == (True, False)


def test_faultyStatusBeforeTheBody() -> None:
    """B4.4: a refused upload is answered although its body is still to come, and the connection lives on."""
    proxy, _, _, client = faulty(statusRate=1.0, status=429)
    with proxy:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        assert client.response.status == 429
        client.send(b"67890" + httpRequest())
        assert [each.status for each in client.responses] == [429, 429]


CHUNKED = httpResponse(200, {"Transfer-Encoding": "chunked"}, b"2800\r\n" + BODY + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("streamed", ["all", "split", "chunked"])
@pytest.mark.parametrize("byte", [0, 100, len(BODY) - 1])
def test_faultyReset(streamed: str, byte: int) -> None:
    """B5.5: a response breaks off at the byte that was asked for, however it is framed, and the upstream's with it."""
    whole = httpResponse(200, {}, BODY)
    answer = {"all": whole, "split": whole[:5000], "chunked": CHUNKED}[streamed]
    proxy, transport, upstream, client = faulty(answer, resetAt=byte)
    with proxy:
        client.request()
        if streamed == "split":
            upstream.connection.send(whole[5000:])
        assert (client.response.body, client.response.complete, client.ended) == (BODY[:byte], False, "closed")
        assert transport.injected == {"reset": 1}
        assert str(proxy.records[0].error) == "reset on purpose"


def test_faultyResetIsTooLate() -> None:
    """A body that is shorter than that is left alone."""
    for answer in (None, CHUNKED):
        proxy, transport, _, client = faulty(answer, resetAt=len(BODY))
        with proxy:
            assert client.request().body == BODY  # type: ignore[union-attr]
            assert (client.response.complete, transport.injected) == (True, {})


def test_faultyResetBeforeTheHead() -> None:
    """B7.2: before the head it is a failure as of an upstream."""
    proxy, _, upstream, client = faulty(resetAt=-1, resetRate=0.5, seed=3)
    with proxy:
        got = [client.request().status for _ in range(40)]  # type: ignore[union-attr]
        assert set(got) == {200, 502}
        assert len(upstream.requests) == got.count(200)


def test_faultyOnly() -> None:
    """What must not fail does not."""
    proxy, _, _, client = faulty(statusRate=1.0, only=lambda outbound: outbound.target != b"/pay")
    with proxy:
        assert [client.request("GET", target).status for target in ("/", "/pay")] == [503, 200]  # type: ignore[union-attr]


def test_faultyTunnel() -> None:
    """A tunnel is left alone."""
    proxy, _, _, client = faulty(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nwelcome", resetAt=0
    )
    with proxy:
        client.request(headers={"Connection": "Upgrade", "Upgrade": "any"})
        assert client.opaque == b"welcome"


def test_faultyCloses() -> None:
    """It is closed with what it wraps; what cannot be closed need not be."""
    proxy, transport, upstream, client = faulty()
    with proxy:
        client.request()
        transport.close()
        proxy.run()
        assert upstream.connection.lost
        transport.cut()
    callable_ = FaultyTransport(lambda outbound: Response(200), proxy.clock)
    callable_.close()
    callable_.cut()


@pytest.mark.parametrize("wrong", [{"delayRate": 2}, {"statusRate": -0.1}, {"resetRate": 1.1}, {"delay": -1}])
def test_faultyWrong(wrong: dict[str, Any]) -> None:
    """What cannot be meant is refused when it is said."""
    with pytest.raises(ValueError, match="is a number"):
        FaultyTransport(lambda outbound: None, None, **wrong)
    with pytest.raises(TypeError, match="ITransport"):
        FaultyTransport(None, None)


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_faultyCoroutine(delay: float) -> None:
    """What is wrapped may be a coroutine function, and its failures come out as they are."""
    network = MemoryNetwork()

    async def carry(outbound: Any) -> Response:
        if outbound.target == b"/bad":
            raise UpstreamError("mine", Stage.WAIT)
        return Response(200, body=b"mine")

    transport = FaultyTransport(carry, network.clock, delay=delay, resetAt=2)
    responder = ReverseProxy(lambda request: request.setTarget("http://origin.test"), transport, reactor=network)
    with MemoryProxy(network=network, responder=responder) as proxy:
        client, other = proxy.client(), proxy.client()
        client.request()
        other.request("GET", "/bad")
        proxy.advance(1.1)
        assert (client.response.body, client.ended, other.response.status) == (b"mi", "closed", 502)
        assert sorted(str(record.error) for record in proxy.records) == ["mine", "reset on purpose"]


def test_faultyResetInAnUpload() -> None:
    """B7.2: a request may fail while its body is still coming."""
    proxy, _, upstream, client = faulty(resetAt=-1)
    with proxy:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        assert client.response.status == 502
        client.send(b"67890")
        assert upstream.requests == []


def test_faultyBodyIsGivenUp() -> None:
    """B7.1: a client that leaves before the byte ends the upstream's response; nothing is counted."""
    proxy, transport, upstream, client = faulty(httpResponse(200, {}, BODY)[:2000], resetAt=5000)
    with proxy:
        client.request()
        client.connection.sendReset()
        assert (upstream.connection.ended, transport.injected) == ("reset", {})


def test_faultyBackpressure() -> None:
    """B5.4: a client that stops reading stops the upstream through it."""
    proxy, _, upstream, client = faulty(httpResponse(200, {"Content-Length": "10000000"}), resetAt=9_000_000)
    with proxy:
        client.connection.taking = False
        client.request()
        upstream.connection.queue(*[b"x" * 20_000] * 500)
        proxy.run()
        assert (upstream.connection.reading, proxy.bufferedBytes < 400_000) == (False, True)
        client.connection.taking = True
        proxy.run()
        assert (len(client.response.body), client.ended) == (9_000_000, "closed")
