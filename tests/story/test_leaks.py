"""
Story: 20,000 exchanges, half of which somebody breaks off, leave the process as they found it.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
from collections import Counter
from pathlib import Path
from types import FrameType, FunctionType, GeneratorType
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from tests.support import chaos
from tests.support.certificates import Authority
from tests.support.peers import Message
from tests.support.programs import run
from tests.support.proxies import Served
from twistproxy.core.settings import ProxySettings
from twistproxy.directors import TargetDirector
from twistproxy.events import ExchangeRecord
from twistproxy.net.tls import TLSSettings
from twistproxy.upstream.pool import PoolSettings

WARM, EXCHANGES = 3000, 20_000
#: Caches that are bounded but not full yet, and what the allocator keeps for later.
RESIDENT = 4 << 20
BLOCKS = 2000


class Census:
    """What the process holds."""

    def __init__(self) -> None:
        gc.collect()
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        self.blocks = sys.getallocatedblocks()


async def play(served: Served, listening: socket.socket, seed: int, count: int, *files: object) -> None:
    """
    Let chaos reign for a while, then wait for calm.

    @param listening: the origin's socket.
    @param files: its certificate and key, if it speaks TLS.
    """
    # a copy, since the program closes its origin in the end
    descriptor = os.dup(listening.fileno())
    try:
        arguments = map(str, (served.number, descriptor, seed, count, *files))
        ended = await run(sys.executable, chaos.__file__, *arguments, descriptors=(descriptor,))
    finally:
        os.close(descriptor)
    assert ended.status == 0, ended.errors.decode()
    await served.calm()


class Tally(Counter[str]):
    """Counts the exchanges that have settled, by what became of them."""

    def __call__(self, record: ExchangeRecord) -> None:
        self[
            "whole" if record.error is None else f"{record.error.side.value}/{record.error.stage.value}"
        ] += 1


@pytest_twisted.ensureDeferred
async def test_twentyThousandExchanges(unwitnessed: None, serve: Any) -> None:
    """B3.6, B7.1: every exchange settles once, and nothing of it stays: no memory, no descriptor, no exchange."""
    tally = Tally()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        served = serve(f"http://127.0.0.1:{listening.getsockname()[1]}", observer=tally)
        await play(served, listening, 1, WARM)
        warm, before = sum(tally.values()), Census()
        await play(served, listening, 2, EXCHANGES)
        after = Census()
    assert (
        sum(tally.values()) - warm > EXCHANGES * 0.7
    )  # those that were left before their head was complete are none
    assert {"whole", "downstream/send", "downstream/body", "downstream/tunnel", "upstream/body"} <= set(tally)
    assert served.site.exchanges == set()
    assert after.descriptors <= before.descriptors
    assert after.blocks - before.blocks < BLOCKS
    assert after.resident - before.resident < RESIDENT


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest_twisted.ensureDeferred
async def test_everythingWaits(unwitnessed: None, serve: Any, warmReactor: Any, tmp_path: Path, scheme: str) -> None:
    """B3, B7.1: the same where hooks wait in every way, filters are at work, and connections are few; also over TLS."""
    tally, drawn = Tally(), random.Random(3)
    files: tuple[object, ...] = ()
    options: dict[str, Any] = {}
    if scheme == "https":
        authority = Authority(tmp_path)
        files = authority.certificate("chaos", "IP:127.0.0.1")
        options["tls"] = TLSSettings(caFile=str(authority.file))

    def waiting(result: Any = None) -> Any:
        """Wait in one of the ways in which a hook can."""

        async def coroutine() -> None:
            await deferLater(warmReactor, drawn.choice((0, 0.001, 0.005)))

        return drawn.choice((lambda: None, lambda: deferLater(warmReactor, 0.001), coroutine))()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        director = TargetDirector(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}")

        def direct(request: Any) -> Any:
            director.direct(request)
            return waiting()

        served = serve(
            direct,
            observer=tally,
            modifyResponse=waiting,
            requestFilters=[lambda consumer, message: consumer],
            responseFilters=[lambda consumer, message: consumer],
            pool=PoolSettings(maxConnections=5),
            settings=ProxySettings(flushInterval=0.001),
            **options,
        )
        await play(served, listening, 3, 2000, *files)
    assert {"whole", "downstream/direct", "downstream/send", "downstream/queue", "upstream/body"} <= set(
        tally
    )


def ours(garbage: list[Any]) -> Counter[str]:
    """
    @return: what of some garbage the proxy has made, by its kind.
    """
    found: Counter[str] = Counter()
    for item in garbage:
        if isinstance(item, GeneratorType):
            name = item.gi_code.co_filename
        elif isinstance(item, FrameType):
            name = item.f_code.co_filename
        elif isinstance(item, FunctionType):
            name = item.__code__.co_filename
        else:
            name = type(item).__module__.replace(".", os.sep)
        if f"twistproxy{os.sep}" in name:
            found[f"{type(item).__name__} {getattr(item, '__qualname__', '')}"] += 1
    return found


@pytest_twisted.ensureDeferred
async def test_noCyclicGarbage(unwitnessed: None, serve: Any, webServer: Any, origin: Any) -> None:
    """B7.4: an exchange and its connections go away by themselves, without the garbage collector; so does a tunnel."""

    def answer(request: Message) -> Any:
        return 200, [], request.body * 1000

    served = serve(webServer(answer).target)
    tunnelling = serve(origin.target)

    async def play(count: int) -> None:
        client = served.client()
        for number in range(count):
            await client.ask("POST", f"/{number}", (), b"x" * (number % 100))
            await client.response()
        client.close()
        for _ in range(count // 10):
            client = served.client()
            await client.ask("POST", "/broken", ("Content-Length: 10",))
            await client.send(b"half")
            await client.ask("GET", "/never")
            client.reset()
            client = tunnelling.client()
            await client.ask("GET", "/", ("Connection: Upgrade", "Upgrade: any"))
            upstream = await origin.accept()
            await upstream.head()
            await upstream.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"
            )
            await client.head()
            client.close()
            await upstream.ending()
            upstream.close()
        await served.calm()
        await tunnelling.calm()

    await play(10)
    gc.collect()
    gc.disable()
    try:
        await play(300)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = ours(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    # The connector and the factory of Twisted's endpoints hold each other: two small objects per upstream connection.
    for endpoints in ("TCPConnector ", "_OneProtocol "):
        found.pop(endpoints, None)
    assert dict(found) == {}
