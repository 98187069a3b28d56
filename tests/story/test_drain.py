"""
Story: the command goes down, and nobody notices but those who come later.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import until
from tests.support.peers import Client, Message


class Held:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Message]] = []

    def __call__(self, request: Message) -> Any:
        if request.target == b"/now":
            return 200, [], b"now"
        answer: Deferred[Any] = Deferred()
        self.waiting.append((answer, request))
        return answer

    def release(self) -> None:
        """Answer everything that waits."""
        waiting, self.waiting = self.waiting, []
        for answer, request in waiting:
            answer.callback((200, [], request.target + request.body))


def refuses(number: int) -> bool:
    """
    @return: whether nobody listens on a port any more.
    """
    try:
        socket.create_connection(("127.0.0.1", number)).close()
    except ConnectionError:
        return True
    return False


def clients(number: int, count: int) -> list[Client]:
    """
    @return: so many connected clients.
    """
    return [Client.connect(number) for _ in range(count)]  # type: ignore[misc]


@pytest_twisted.ensureDeferred
async def test_fiftyRunningExchanges(command: Any, webServer: Any) -> None:
    """B10.2: SIGTERM in the middle of 50 exchanges loses none of them; exit status 0, and a goodbye that counts them."""
    held = Held()
    origin = webServer(held)
    proxy = await command("--target", origin.target).started()
    everybody = clients(proxy.number, 50)
    try:
        for number, client in enumerate(everybody):
            if number % 2:
                await client.ask("GET", f"/{number}")
            else:
                # an upload, the rest of which comes after the signal
                await client.ask("POST", f"/{number}", ("Content-Length: 20000",))
                await client.send(b"x" * 10000)
        await until(lambda: len(held.waiting) == 25, "25 requests upstream")
        proxy.signal(signal.SIGTERM)
        await until(lambda: b"draining" in proxy.output, "the beginning of the draining")
        await until(lambda: refuses(proxy.number), "the end of listening")
        for client in everybody[::2]:
            await client.send(b"x" * 10000)
        await until(lambda: len(held.waiting) == 50, "50 requests upstream")
        held.release()
        for number, client in enumerate(everybody):
            response = await client.response()
            body = b"" if number % 2 else b"x" * 20000
            assert (response.status, response[b"connection"]) == (200, b"close")
            assert response.body == b"/%d" % number + body
            assert await client.ending() == "closed"
    finally:
        for client in everybody:
            client.close()
    assert await proxy.status() == 0
    assert re.search(rb"twistproxy has stopped: 50 exchanges, 0 failed, 0 cut off", proxy.output)
    assert len(re.findall(rb'" 200 \d+ "', proxy.output)) == 50
    assert b"Traceback" not in proxy.output


@pytest_twisted.ensureDeferred
async def test_secondSignalCuts(command: Any, webServer: Any) -> None:
    """B10.2: a second signal cuts what still runs; the exit status is 0 all the same."""
    origin = webServer(Held())
    proxy = await command("--target", origin.target).started()
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        await client.ask("GET", "/held")
        await until(lambda: origin.requests == 1, "the request upstream")
        proxy.signal(signal.SIGTERM)
        await until(lambda: b"draining" in proxy.output, "the beginning of the draining")
        assert not proxy.ended
        proxy.signal(signal.SIGTERM)
        assert await client.ending() in ("closed", "reset")
        assert await proxy.status() == 0
    assert b"1 failed, 1 cut off" in proxy.output
    await until(lambda: origin.abandoned == 1, "the upstream's notice")
    assert b"Traceback" not in proxy.output


@pytest_twisted.ensureDeferred
async def test_graceRunsOut(command: Any, webServer: Any) -> None:
    """B10.2: so does the end of the grace."""
    origin = webServer(Held())
    proxy = await command("--target", origin.target, "--grace", "0.2").started()
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        await client.ask("GET", "/held")
        await until(lambda: origin.requests == 1, "the request upstream")
        proxy.signal(signal.SIGTERM)
        assert await client.ending() in ("closed", "reset")
    assert await proxy.status() == 0
    assert b"1 cut off" in proxy.output


@pytest_twisted.ensureDeferred
async def test_idleConnectionsClose(command: Any, webServer: Any) -> None:
    """B10.2: kept connections without a request close at once, on either side, and the process need not wait for them."""
    origin = webServer(Held())
    proxy = await command("--target", origin.target).started()
    idle = clients(proxy.number, 5)
    try:
        for client in idle:
            assert (await client.get("/now")).body == b"now"
        proxy.signal(signal.SIGTERM)
        for client in idle:
            assert await client.ending() == "closed"
        assert await proxy.status() == 0
    finally:
        for client in idle:
            client.close()
    await until(lambda: not origin.open, "the end of the upstream connections")


@pytest_twisted.ensureDeferred
async def test_connectionThatNeverAsked(command: Any, webServer: Any) -> None:
    """B10.2: one that brings no request, as browsers make them in advance, is not waited for till the end of the grace."""
    proxy = await command("--target", webServer(Held()).target, "--limit", "request-head=0.3").started()
    with Client.connect(proxy.number) as silent, Client.connect(proxy.number) as asked:
        assert isinstance(asked, Client)
        assert isinstance(silent, Client)
        assert (await asked.get("/now")).status == 200  # by now the one before it is accepted, too
        await asked.ask("GET", "/held")
        proxy.signal(signal.SIGTERM)
        assert await silent.ending() == "closed"
        assert not proxy.ended
    assert await proxy.status() == 0
    assert b"0 cut off" in proxy.output


@pytest.mark.parametrize("networkKind", ["hub"])
@pytest_twisted.ensureDeferred
async def test_acceptedJustBeforeTheSignal(command: Any, webServer: Any) -> None:
    """B10.2: clients whose connection the kernel had completed before the signal get their response."""
    # The hub's promise only: a stock port closes without accepting what waits, and the kernel resets it.
    origin = webServer(Held())
    proxy = await command("--target", origin.target).started()
    # It cannot accept any of them before it sees the signal.
    proxy.signal(signal.SIGSTOP)
    early = clients(proxy.number, 40)
    late = clients(proxy.number, 5)
    try:
        for client in early:
            await client.ask("GET", "/now")
        proxy.signal(signal.SIGTERM)
        proxy.signal(signal.SIGCONT)
        await until(lambda: refuses(proxy.number), "the end of listening")
        for client in early:
            response = await client.response()
            assert (response.status, response[b"connection"], response.body) == (200, b"close", b"now")
        # These were connected before the signal, and ask only now.
        for client in late:
            response = await client.get("/now")
            assert (response.status, response.body) == (200, b"now")
        assert await proxy.status() == 0
    finally:
        for client in (*early, *late):
            client.close()
    assert b"45 exchanges, 0 failed, 0 cut off" in proxy.output


@pytest_twisted.ensureDeferred
async def test_interruptDrainsToo(command: Any, webServer: Any) -> None:
    """B10.2: Ctrl-C is as good as SIGTERM."""
    origin = webServer(Held())
    proxy = await command("--target", origin.target).started()
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        await client.ask("GET", "/held")
        await until(lambda: origin.requests == 1, "the request upstream")
        proxy.signal(signal.SIGINT)
        await until(lambda: b"draining" in proxy.output, "the beginning of the draining")
        origin.answer.release()
        assert (await client.response()).status == 200
    assert await proxy.status() == 0
    assert b"1 exchanges, 0 failed, 0 cut off" in proxy.output


@pytest_twisted.ensureDeferred
async def test_tunnelIsCutAtTheEndOfTheGrace(command: Any, origin: Any) -> None:
    """B10.2: a tunnel runs on while the command drains, as any exchange does."""
    proxy = await command("--target", origin.target, "--grace", "0.5").started()
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        await client.ask("GET", "/", ("Connection: Upgrade", "Upgrade: any"))
        upstream = await origin.acceptRequest()
        await upstream.head()
        await upstream.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"
        )
        await client.head()
        proxy.signal(signal.SIGTERM)
        await until(lambda: b"draining" in proxy.output, "the beginning of the draining")
        await client.send(b"ping")
        assert await upstream.exactly(4) == b"ping"
        assert await client.ending() == "reset"
        assert await upstream.ending() == "reset"
    assert await proxy.status() == 0


@pytest_twisted.ensureDeferred
async def test_reopensItsLog(command: Any, webServer: Any, tmp_path: Path) -> None:
    """B10.4: after SIGUSR1 the access log goes on in a new file, and no line is lost."""
    origin = webServer(Held())
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    proxy = await command("--target", origin.target, "--access-log", str(log)).started()
    with Client.connect(proxy.number) as client:
        assert isinstance(client, Client)
        for number in range(10):
            await client.get("/now")
            if number == 4:
                os.rename(log, old)
                proxy.signal(signal.SIGUSR1)
                await until(lambda: b"access log reopened" in proxy.output, "the reopening")
    proxy.signal(signal.SIGTERM)
    assert await proxy.status() == 0
    assert [len(path.read_bytes().splitlines()) for path in (old, log)] == [5, 5]
    assert all(b'"GET /now HTTP/1.1" 200 3 ' in line for line in log.read_bytes().splitlines())
