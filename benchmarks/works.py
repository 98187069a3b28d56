"""
The works: what a proxy is asked to do while it is measured.

Small exchanges are driven by wrk for a second at a time. Bodies of 100 MB are moved by curl, a fixed number
of them: wrk does not count the transfer that its time cuts off, which would be a tenth of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LUA = Path(__file__).parent / "lua"

SMALL_ANSWER = "hello, world\n"
KIB64 = 65_536
MB = 1_000_000
HUGE = 100 * MB

# The files that the origin serves: name and size in bytes.
FILES = {"64k": KIB64, "100m": HUGE}

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


@dataclass(frozen=True)
class Work:
    """
    One sort of load.

    @ivar name: short, for the command line.
    @ivar title: for the heading of its table.
    @ivar path: the target of the requests.
    @ivar answer: the length of the right answer, in bytes.
    @ivar connections: how many at once; 0 means that curl moves one body after the other.
    @ivar headers: request headers beside Host, as lines.
    @ivar script: the Lua script that makes wrk's requests, if any.
    @ivar upload: the length of the request body, in bytes.
    @ivar transfers: for curl: the number of bodies in a slice.
    """

    name: str
    title: str
    path: str
    answer: int
    connections: int = 32
    headers: tuple[str, ...] = ()
    script: str | None = None
    upload: int = 0
    transfers: int = 3

    @property
    def origin(self) -> Literal["static", "sink"]:
        """
        Which origin it needs: the one with the files, or the one that takes uploads.
        """
        return "sink" if self.upload else "static"

    @property
    def perGigabyte(self) -> bool:
        """
        Whether the cost is counted in CPU milliseconds per gigabyte instead of microseconds per request.
        """
        return self.connections == 0

    def command(self, port: int, files: Path) -> Sequence[str]:
        """
        Make the command that puts the load of one slice on a proxy.

        @param port: where the proxy listens.
        @param files: the directory with a file to upload, C{100m}.
        """
        url = f"http://127.0.0.1:{port}{self.path}"
        if self.perGigabyte:
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
        "The same, with a new target and new values in every request",
        "/small",
        len(SMALL_ANSWER),
        headers=BROWSER,
        script="varying.lua",
    ),
    Work("single", "Small GET, one connection", "/small", len(SMALL_ANSWER), connections=1),
    Work("64k", "GET of 64 KiB, 32 connections", "/64k", KIB64),
    Work("download", "GET of 100 MB, one after the other", "/100m", HUGE, connections=0),
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
        "upload", "Upload of 100 MB, one after the other", "/", len("100000000\n"), connections=0, upload=HUGE
    ),
)

QUICK = ("small", "browser", "changing", "download")
