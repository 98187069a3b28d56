"""
ASGI applications as upstreams.  Their tests need the asyncio reactor, and so a process of their own: they stand in
C{asgicases.py}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import twistproxy
from tests.support.programs import python
from twistproxy.targets import ASGITarget

ROOT = Path(twistproxy.__file__).parent.parent
CASES = Path(__file__).with_name("asgicases.py")


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Does nothing."""


def test_otherReactor() -> None:
    """Under another reactor there is one error, when the target is made, that says what to do."""
    with pytest.raises(RuntimeError, match="start with 'twist --reactor=asyncio'"):
        ASGITarget(application)


def test_noApplication() -> None:
    """What cannot be called is refused at once."""
    with pytest.raises(TypeError, match="is no ASGI application"):
        ASGITarget("module:app")  # type: ignore[arg-type]


def test_cases() -> None:
    """All that C{asgicases.py} promises, under the asyncio reactor."""
    arguments = ["-m", "pytest", "-q", "--reactor=asyncio", "-p", "no:cacheprovider", str(CASES)]
    done = python(*arguments, folder=ROOT, seconds=170)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    assert " passed" in done.stdout


REACTOR_STOPS = """
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twistproxy.agents import ProxyAgent
from twistproxy.targets import ASGITarget
from twistproxy.events import ExchangeRecord
from twistproxy.headers import Headers
from twistproxy.message import OutboundRequest

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})

target = ASGITarget(application)
request = OutboundRequest(b"GET", b"/", target, b"x", Headers(), b"", ExchangeRecord(reactor.seconds))

def answered(response):
    print(response.body.decode())
    reactor.stop()

ProxyAgent(reactor).roundTrip(request).addCallback(answered)
reactor.run()
"""


def test_reactorStops(tmp_path: Path) -> None:
    """A reactor that stops tells the application, even if nobody has closed the target."""
    done = python("-c", REACTOR_STOPS, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("lifespan.startup\nhello\nlifespan.shutdown\n", "")
