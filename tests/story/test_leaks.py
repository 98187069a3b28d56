"""
Story: 20,000 exchanges, half of which somebody breaks off, leave the process as they found it.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from types import FrameType, FunctionType, GeneratorType
from typing import Any

import pytest_twisted

from tests.support import chaos
from tests.support.peers import Message
from tests.support.programs import run
from twistproxy.events import ExchangeRecord

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


@pytest_twisted.ensureDeferred
async def test_twentyThousandExchanges(serve: Any) -> None:
    """B3.6, B7.1: every exchange settles once, and nothing of it stays: no memory, no descriptor, no exchange."""
    told: Counter[str] = Counter()

    def observe(record: ExchangeRecord) -> None:
        told[
            "whole" if record.error is None else f"{record.error.side.value}/{record.error.stage.value}"
        ] += 1

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        served = serve(f"http://127.0.0.1:{listening.getsockname()[1]}", observer=observe)

        async def play(seed: int, count: int) -> None:
            # a copy, since the program closes its origin in the end
            descriptor = os.dup(listening.fileno())
            os.set_inheritable(descriptor, True)
            try:
                arguments = (str(served.number), str(descriptor), str(seed), str(count))
                ended = await run(sys.executable, chaos.__file__, *arguments, descriptors=(descriptor,))
            finally:
                os.close(descriptor)
            assert ended.status == 0, ended.errors.decode()
            await served.calm()

        await play(1, WARM)
        warm, before = sum(told.values()), Census()
        await play(2, EXCHANGES)
        after = Census()
    assert (
        sum(told.values()) - warm > EXCHANGES * 0.7
    )  # those that were left before their head was complete are none
    assert {"whole", "downstream/send", "downstream/body", "downstream/tunnel", "upstream/body"} <= set(told)
    assert served.site.exchanges == set()
    assert after.descriptors <= before.descriptors
    assert after.blocks - before.blocks < BLOCKS
    assert after.resident - before.resident < RESIDENT


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
async def test_noCyclicGarbage(serve: Any, webServer: Any, origin: Any) -> None:
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
