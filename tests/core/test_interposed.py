"""
What stands between an exchange and its client.
"""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from tests.support.flow import Bench, Downstream, request, upstreamResponse
from twistproxy.core.exchange import Exchange
from twistproxy.core.interposed import InterposedDownstream, beneath, interpose
from twistproxy.interfaces import IDownstream
from twistproxy.message import Response


class Failing(InterposedDownstream):
    """Fails at the end."""

    def ended(self) -> None:
        raise ValueError("a bug")


def test_transparent() -> None:
    """It passes on whatever it is told, and the head as the object that it is."""
    wire = Downstream()
    between = InterposedDownstream(wire)
    assert verifyObject(IDownstream, between)
    assert beneath(InterposedDownstream(between)) is wire
    between.sendInformational(103, b"", [])
    between.sendHead(Response(200), 3, b"a", False)
    between.write(b"b")
    between.setProducer(wire)
    between.finish([])
    between.abort()
    assert wire.producer is wire
    between.exchangeEnded()
    assert wire.told == [("interim", 103), ("head", 200, 3, b"a", False), b"b", ("finish", []), "abort", "ended"]


class Heads(Downstream):
    """Keeps the heads that it is given, a 101 too."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[Response] = []

    def sendHead(self, response: Response, length: int | None, content: bytes, end: bool) -> None:
        """Keep it."""
        self.heads.append(response)

    def switchProtocols(self, response: Response) -> None:
        """Keep it."""
        self.heads.append(response)


class Adding(InterposedDownstream):
    """Adds a header line."""

    def linesOf(self, response: Response) -> list[bytes]:
        return [*response.lines, b"A: b"]


@pytest.mark.parametrize(("between", "lines"), [(InterposedDownstream, []), (Adding, [b"A: b"])])
@pytest.mark.parametrize("switching", [False, True])
def test_heads(between: type[InterposedDownstream], lines: list[bytes], switching: bool) -> None:
    """A head that gets other lines is copied, and its owner's stays as it was; any other is passed on as it is."""
    wire = Heads()
    response = Response(101 if switching else 200)
    if switching:
        between(wire).switchProtocols(response)
    else:
        between(wire).sendHead(response, 0, b"", True)
    assert [head.lines for head in wire.heads] == [lines]
    assert (wire.heads[0] is response, response.lines) == (not lines, [])


def test_failsAtTheEnd(loggedErrors: list[object]) -> None:
    """B3.6: the next request of the connection is served although what was interposed fails."""
    bench = Bench(lambda outbound, receiver: receiver.responseReceived(upstreamResponse()))
    exchange: Exchange = bench.context.begin(bench.downstream, request())
    interpose(exchange, Failing)
    exchange.start()
    assert bench.downstream.told[-1] == "ended"
    assert len(loggedErrors) == 1
    loggedErrors.clear()
