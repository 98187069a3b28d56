"""
The works: what a proxy is asked to do while it is measured.

Small exchanges are driven by wrk for a second at a time. Bodies of 100 MB are moved by curl, a fixed number
of them: wrk does not count the transfer that its time cuts off, which would be a tenth of all. WebSocket messages are
driven by a program of ours, and idle connections are held by this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LUA = Path(__file__).parent / "lua"

SMALL_ANSWER = "hello, world\n"
KIB4 = 4_096
KIB16 = 16_384
KIB64 = 65_536
MB = 1_000_000
HUGE = 100 * MB

# The files that the origin serves: name and size in bytes.
FILES = {"16k": KIB16, "64k": KIB64, "1m": MB, "100m": HUGE}

# The answer to a WebSocket handshake has no body.
NO_BODY = 0

# What a browser sends for a page, about 750 bytes.
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://www.example.org/some/where?x=1",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; csrftoken=abcdefghijklmnopqrstuvwxyz",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0, i",
    "Upgrade-Insecure-Requests: 1",
    "Connection: keep-alive",
)


# What costs are counted for, and how cost and rate are called in tables.
UNITS = {
    "request": ("CPU us/request", "requests/s"),
    "message": ("CPU us/message", "messages/s"),
    "gigabyte": ("CPU ms/GB", "MB/s"),
    "connection": ("bytes/connection", "opened/s"),
}


@dataclass(frozen=True)
class Check:
    """
    One request whose answer shows that a proxy does what a work is about.

    @ivar path: its target.
    @ivar answer: the length of the right answer, in bytes.
    @ivar upload: the length of the request body, in bytes.
    """

    path: str
    answer: int
    upload: int = 0


@dataclass(frozen=True)
class Work:
    """
    One sort of load.

    @ivar name: short, for the command line.
    @ivar title: for the heading of its table.
    @ivar path: the target of the requests.
    @ivar answer: the length of the right answer, in bytes.
    @ivar connections: how many at once.
    @ivar unit: what costs are counted for, one of L{UNITS}: requests by wrk, gigabytes by curl, one body after the
        other, WebSocket messages, or connections that do nothing.
    @ivar headers: request headers beside Host, as lines.
    @ivar script: the Lua script that makes wrk's requests, if any.
    @ivar upload: the length of the request body, in bytes.
    @ivar transfers: for curl: the number of bodies in a slice.
    @ivar idle: how many connections are held open beside, each of which has asked once.
    @ivar also: what else its requests ask for.
    """

    name: str
    title: str
    path: str
    answer: int
    connections: int = 32
    unit: Literal["request", "message", "gigabyte", "connection"] = "request"
    headers: tuple[str, ...] = ()
    script: str | None = None
    upload: int = 0
    transfers: int = 8
    idle: int = 0
    also: tuple[Check, ...] = ()

    @property
    def origin(self) -> Literal["static", "sink"]:
        """
        Which origin it needs: the one with the files, or the one that takes uploads and echoes messages.
        """
        return "sink" if self.upload or self.unit == "message" else "static"

    @property
    def checks(self) -> Sequence[Check]:
        """
        What a proxy must answer rightly before it is measured.
        """
        return (Check(self.path, self.answer, self.upload), *self.also)

    def command(self, port: int, files: Path, prefix: str = "") -> Sequence[str]:
        """
        Make the command that puts the load of one slice on a proxy, by wrk or curl.

        @param port: where the proxy listens.
        @param files: the directory with a file to upload, C{100m}.
        @param prefix: what the proxy wants before each path.
        """
        url = f"http://127.0.0.1:{port}{prefix}{self.path}"
        if self.unit == "gigabyte":
            one = ["--upload-file", str(files / "100m")] if self.upload else []
            # Without "Expect:" curl would ask first and wait for the 100.
            return [
                *("curl", "--silent", "--show-error", "--header", "Expect:"),
                *("--write-out", "%{http_code} %{size_download} %{size_upload} %{time_total} %{exitcode}\\n"),
                *([*one, "--output", "/dev/null", url] * self.transfers),
            ]
        headers = [word for line in self.headers for word in ("-H", line)]
        script = ["-s", str(LUA / self.script)] if self.script else []
        return ["wrk", "-t1", f"-c{self.connections}", "-d1s", "--latency", *script, *headers, url]


WORKS = (
    Work("small", "Small GET, Host only, 32 connections", "/small", len(SMALL_ANSWER)),
    Work(
        "browser",
        "Small GET, twelve browser headers, 32 connections",
        "/small",
        len(SMALL_ANSWER),
        headers=BROWSER,
    ),
    Work(
        "changing",
        "Small GET, twelve headers, all values new in every request",
        "/small",
        len(SMALL_ANSWER),
        headers=BROWSER,
        script="varying.lua",
    ),
    Work("single", "Small GET, one connection", "/small", len(SMALL_ANSWER), connections=1),
    Work("busy256", "Small GET, 256 connections", "/small", len(SMALL_ANSWER), connections=256),
    Work(
        "crowd",
        "Small GET, 5,000 connections of which 256 are busy",
        "/small",
        len(SMALL_ANSWER),
        connections=256,
        idle=4744,
    ),
    Work(
        "mix",
        "Mix: 70 % small GET, 20 % 16 KiB, 8 % POST 4 KiB, 2 % 1 MB",
        "/small",
        len(SMALL_ANSWER),
        script="mix.lua",
        also=(Check("/16k", KIB16), Check("/1m", MB), Check("/post", len("4096\n"), KIB4)),
    ),
    Work("64k", "GET of 64 KiB, 32 connections", "/64k", KIB64),
    Work("1m", "GET of 1 MB, 4 connections", "/1m", MB, connections=4),
    Work("download", "GET of 100 MB, one after the other", "/100m", HUGE, connections=1, unit="gigabyte"),
    Work(
        "post",
        "POST of 1 MB, 4 connections",
        "/",
        len("1000000\n"),
        connections=4,
        script="post.lua",
        upload=MB,
    ),
    Work(
        "upload",
        "Upload of 100 MB, one after the other",
        "/",
        len("100000000\n"),
        connections=1,
        unit="gigabyte",
        upload=HUGE,
    ),
    Work(
        "websocket",
        "WebSocket echo of 64 bytes, there and back, 1,000 tunnels",
        "/echo",
        NO_BODY,
        connections=1000,
        unit="message",
    ),
    Work(
        "idle",
        "Memory of 5,000 idle connections that have asked once",
        "/small",
        len(SMALL_ANSWER),
        unit="connection",
        idle=5000,
    ),
)

QUICK = ("small", "browser", "changing", "download")
# Those of proxies mounted in twisted.web.
RESOURCE_WORKS = ("small", "download", "upload")
