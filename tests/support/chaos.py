"""
Clients and an origin that break off wherever they like, as a program of its own::

    python -m tests.support.chaos PORT DESCRIPTOR SEED COUNT [CERTIFICATE KEY]

C{PORT} is the proxy's, C{DESCRIPTOR} the origin's listening socket, which speaks TLS if it is given a certificate.  Everything that is random is drawn by the client from one
seed and told to the origin in the request's target: the size of the response, its framing, and after how many bytes to break off.
What neither side breaks off must be right.  Ends with status 0 and a line of counts.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import sys
from collections import Counter

CLIENTS = 20
SIZES = (0, 10, 3000, 40_000, 200_000)
FILL = bytes(200_000)


def breakOff(writer: asyncio.StreamWriter, reset: bool) -> None:
    """End a connection now, with a reset or with an end of file."""
    if reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def readBody(reader: asyncio.StreamReader, head: bytes) -> int:
    """
    @return: the length of the body behind C{head}.
    """
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        size = 0
        while chunk := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(chunk + 2)
            size += chunk
        await reader.readexactly(2)
        return size
    if b"content-length: " not in lower:
        return 0
    size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(size)
    return size


def framed(start: bytes, size: int, chunked: bool) -> bytes:
    """
    @return: a message.
    """
    if not chunked:
        return b"%bContent-Length: %d\r\n\r\n" % (start, size) + FILL[:size]
    chunks = [
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (FILL[: size // 2], FILL[: size - size // 2])
        if piece
    ]
    return start + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"


async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do what the target says: C{/size/chunked/cut/early}."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"Upgrade: any" in head:
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"
                )
                while piece := await reader.read(65536):
                    writer.write(piece)
                    await writer.drain()
                break
            size, chunked, cut, early = map(int, head.split(b" ")[1][1:].split(b"/"))
            # whoever closes says so, or a request that was on its way already would be lost through no fault of the proxy
            close = b"Connection: close\r\n" if early or cut >= 0 else b""
            response = framed(b"HTTP/1.1 200 OK\r\n" + close, size, bool(chunked))
            if not early:
                await readBody(reader, head)
            if cut >= 0:
                writer.write(response[:cut])
                breakOff(writer, bool(cut % 2))
                return
            half = len(response) // 2 + 30
            writer.write(response[:half])
            await asyncio.sleep(0.001)  # so that whoever leaves meets a response under way
            writer.write(response[half:])
            await writer.drain()
            if early:
                break
    except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
        pass
    writer.close()


class Chaos:
    """All the clients."""

    def __init__(self, number: int, seed: int, count: int) -> None:
        self._number = number
        self._random = random.Random(seed)
        self._left = count
        self.counts: Counter[str] = Counter()

    async def client(self) -> None:
        """Ask one thing after the other, over one connection as long as it lasts."""
        reader = writer = None
        while self._left > 0:
            self._left -= 1
            if writer is None or writer.is_closing():
                reader, writer = await asyncio.open_connection("127.0.0.1", self._number)
            assert reader is not None
            if self._random.random() < 0.05:
                await self.tunnel(reader, writer)
                writer = None
            elif not await self.exchange(reader, writer):
                breakOff(writer, self._random.random() < 0.5)
                writer = None
        if writer is not None:
            writer.close()

    async def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An upgrade, some bytes, and an end of any kind."""
        self.counts["tunnels"] += 1
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nearly")
        if self._random.random() < 0.8:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(FILL[: self._random.choice(SIZES)])
            await reader.readexactly(5)
            if self._random.random() < 0.5:
                writer.write_eof()
                await reader.read()
        breakOff(writer, self._random.random() < 0.5)

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """
        One request, broken off or not.

        @return: whether the connection can be used again.
        """
        rand = self._random
        upload, download = rand.choice((0, *SIZES)), rand.choice(SIZES)
        cut = rand.randrange(download + 60) if rand.random() < 0.1 else -1
        early = upload and rand.random() < 0.1
        target = b"/%d/%d/%d/%d" % (download, rand.random() < 0.5, cut, bool(early))
        start = b"%b %b HTTP/1.1\r\nHost: a\r\n" % (b"PUT" if upload else b"GET", target)
        request = framed(start, upload, rand.random() < 0.5) if upload else start + b"\r\n"
        leave = rand.random()
        if leave < 0.25:
            writer.write(request[: rand.randrange(len(request))])
            await asyncio.sleep(0)
            self.counts["left while asking"] += 1
            return False
        writer.write(request)
        if leave < 0.5:
            # less than what comes in any case, or it would wait for ever
            wanted = rand.randrange(60 if cut >= 0 or early else download + 60)
            while wanted > 0 and (piece := await self.read(reader, wanted)):
                wanted -= len(piece)
            self.counts["left while reading"] += 1
            return False
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = await readBody(reader, head)
        except (asyncio.IncompleteReadError, OSError):
            if cut < 0 and not early:
                raise
            self.counts["broken off"] += 1
            return False
        if head.startswith(b"HTTP/1.1 200 ") and size == download:
            self.counts["complete"] += 1
        elif cut >= 0 or early:
            self.counts["refused"] += 1
        else:
            raise AssertionError(f"{request[:100]!r} was answered with {head!r} and {size} bytes")
        return not early and b"connection: close" not in head.lower()

    async def read(self, reader: asyncio.StreamReader, size: int) -> bytes:
        """
        @return: up to so many bytes, none when there is nothing more to come.
        """
        try:
            return await reader.read(size)
        except OSError:
            return b""


async def main(number: int, descriptor: int, seed: int, count: int, context: ssl.SSLContext | None) -> None:
    """Play it all."""
    server = await asyncio.start_server(origin, sock=socket.socket(fileno=descriptor), ssl=context)
    chaos = Chaos(number, seed, count)
    await asyncio.gather(*(chaos.client() for _ in range(CLIENTS)))
    print(dict(chaos.counts))
    server.close()


if __name__ == "__main__":
    tls = None
    if sys.argv[5:]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*sys.argv[5:])
    asyncio.run(main(*map(int, sys.argv[1:5]), tls))
