"""
Story: 300 MB each way, past a reader that stops in the middle.  The proxy holds next to nothing of it.

The proxy is a process of its own here, and the most memory that this process has ever had is what counts.
"""

from __future__ import annotations

import re
import socket
import threading
from typing import Any

import pytest_twisted

from tests.support.volume import BLOCK, Receiving, Worker, blocking, digestOf, sendBlocks

BLOCKS = 300
SIZE = BLOCKS * len(BLOCK)
#: Where the reader stops.
PAUSE = 50 * len(BLOCK)
#: Two directions with a high-water mark of 256 KiB, reads of 32 KiB (64 KiB stock), and what the allocator makes of it.
GROWTH = 4 << 20
#: What the kernel may hold of a stream on three connections, in its socket buffers.
KERNEL = 48 << 20


async def exchange(
    number: int, origin: socket.socket, upload: bool, blocks: int, pause: int
) -> tuple[str, int]:
    """
    One large body, in either direction, past a reader that stops.

    @param number: the proxy's port.
    @param pause: after how many bytes the reader stops until the sender is stuck.
    @return: the digest at the other end, and how far ahead of the reader the sender got.
    """
    go = threading.Event()
    digests: list[str] = []
    size = blocks * len(BLOCK)
    client = blocking(number)
    framing = f"Content-Length: {size}\r\n" if upload else ""
    client.sendall(f"{'PUT' if upload else 'GET'} / HTTP/1.1\r\nHost: a\r\n{framing}\r\n".encode())
    upstream = acceptRequest(origin)
    source, target = (client, upstream) if upload else (upstream, client)

    def receive(worker: Worker) -> None:
        receiving = Receiving(target)
        head = receiving.head()
        found = re.search(rb"(?i)content-length: (\d+)", head)
        digests.append(receiving.body(int(found[1]) if found else None, worker, pause, go))
        receiving.close()

    def send(worker: Worker) -> None:
        if not upload:
            upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sendBlocks(source, blocks, not upload, worker)

    try:
        receiver, sender = Worker(receive), Worker(send)
        ahead = await sender.stuck() - receiver.moved if pause < size else 0
        go.set()
        await sender.done()
        await receiver.done()
        if upload:
            upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 204 ")
    finally:
        go.set()
        client.close()
        upstream.close()
    return digests[0], ahead


def acceptRequest(origin: socket.socket) -> socket.socket:
    """
    @return: the next connection that brings a request, which the one that the command makes at its start does not.
    """
    while True:
        connection = blocking(sock=origin.accept()[0])
        try:
            if connection.recv(1, socket.MSG_PEEK):
                return connection
        except ConnectionError:
            pass
        connection.close()


async def story(command: Any, upload: bool) -> None:
    """Warm up, then the whole, and look at the memory."""
    expected = digestOf(BLOCKS)
    with socket.create_server(("127.0.0.1", 0)) as origin:
        proxy = await command("--target", f"http://127.0.0.1:{origin.getsockname()[1]}").started()
        await exchange(proxy.number, origin, upload, 10, 10 * len(BLOCK))
        before = proxy.peak()
        digest, ahead = await exchange(proxy.number, origin, upload, BLOCKS, PAUSE)
        assert digest == expected
        assert 0 < ahead < KERNEL
        assert proxy.peak() - before < GROWTH


@pytest_twisted.ensureDeferred
async def test_uploadPastAnUpstreamThatStops(command: Any) -> None:
    """B4.2: 300 MB to an upstream that stops reading for a while, with a length."""
    await story(command, upload=True)


@pytest_twisted.ensureDeferred
async def test_downloadPastAClientThatStops(command: Any) -> None:
    """B5.4: 300 MB to a client that stops reading for a while, in chunks."""
    await story(command, upload=False)
