"""
Story: curl in front of the proxy, nginx behind it, and neither knows of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import until
from tests.support.nginx import Nginx
from tests.support.peers import Message
from tests.support.programs import Ended, program, run
from twistproxy.errors import ClientLeft

DATA = hashlib.shake_128(b"file").digest(3_000_000)

SERVER = """
location /files/ { alias FOLDER/files/; chunked_transfer_encoding on; }
location /upload/ { alias FOLDER/files/; dav_methods PUT DELETE; }
location /zip/ { alias FOLDER/files/; gzip on; gzip_types *; gzip_proxied any; }
location /moved { return 302 /files/text; }
location /nothing { return 204; }
location /echo { return 200 "$request_method $http_x_forwarded_for $http_host $server_protocol"; }
"""


async def curl(*arguments: str, given: bytes = b"") -> Ended:
    """
    Run curl.

    @param given: its standard input.
    """
    return await run(program("curl"), "--silent", "--show-error", "--noproxy", "*", *arguments, given=given)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """An nginx with some files; the test starts it."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    origin = Nginx(folder, SERVER.replace("{", "{{").replace("}", "}}").replace("FOLDER", str(folder)))
    (origin.files / "large").write_bytes(DATA)
    (origin.files / "text").write_text("text\n" * 2000)
    (origin.files / "empty").write_bytes(b"")
    yield origin
    origin.stop()


@pytest_twisted.ensureDeferred
async def test_files(serve: Any, nginx: Nginx, tmp_path: Path) -> None:
    """B5: files come as they are: large, empty, parts of one, not modified, compressed, none."""
    await nginx.start()
    served = serve(f"http://127.0.0.1:{nginx.number}")
    url = f"http://127.0.0.1:{served.number}"
    ended = await curl(f"{url}/files/large")
    assert (ended.status, ended.output) == (0, DATA)
    ended = await curl("--http1.0", f"{url}/files/large")
    assert (ended.status, ended.output) == (0, DATA)
    ended = await curl("-w", "%{http_code} %{size_download}", f"{url}/files/empty")
    assert (ended.status, ended.output) == (0, b"200 0")
    ended = await curl("-r", "1000-1999", "-w", "%{http_code}", f"{url}/files/large")
    assert (ended.status, ended.output) == (0, DATA[1000:2000] + b"206")
    old = ("-z", str(nginx.files / "large"))
    ended = await curl(*old, "-w", "%{http_code}", f"{url}/files/large")
    assert (ended.status, ended.output) == (0, b"304")
    ended = await curl("--compressed", "-D", str(tmp_path / "head"), f"{url}/zip/text")
    assert (ended.status, ended.output) == (0, b"text\n" * 2000)
    head = (tmp_path / "head").read_bytes().lower()
    assert b"content-encoding: gzip" in head
    assert b"transfer-encoding: chunked" in head
    ended = await curl("-w", "%{http_code}", "-o", "/dev/null", f"{url}/files/none")
    assert (ended.status, ended.output) == (0, b"404")
    ended = await curl("-w", "%{http_code}", f"{url}/nothing")
    assert (ended.status, ended.output) == (0, b"204")
    assert [record.error for record in await served.settled(8)] == [None] * 8
    await served.calm()


@pytest_twisted.ensureDeferred
async def test_headAndOthers(serve: Any, nginx: Nginx) -> None:
    """B5.3, B2.4: HEAD, a redirect, OPTIONS, and what the upstream is told of the client."""
    await nginx.start()
    served = serve(f"http://127.0.0.1:{nginx.number}")
    url = f"http://127.0.0.1:{served.number}"
    ended = await curl("--head", f"{url}/files/large", f"{url}/files/text")
    assert ended.status == 0
    assert b"Content-Length: 3000000\r\n" in ended.output
    assert b"Content-Length: 10000\r\n" in ended.output
    ended = await curl("--location", f"{url}/moved")
    # nginx makes an absolute Location of the Host it was asked for, which is its own
    assert (ended.status, ended.output) == (0, b"text\n" * 2000)
    ended = await curl("-H", "X-Forwarded-For: 6.6.6.6", f"{url}/echo")
    assert (ended.status, ended.output) == (0, f"GET 127.0.0.1 127.0.0.1:{nginx.number} HTTP/1.1".encode())
    ended = await curl("--http1.0", "-X", "OPTIONS", f"{url}/echo")
    assert ended.output.startswith(b"OPTIONS ")
    ended = await curl("-w", "%{http_code}", "-o", "/dev/null", "-X", "TRACE", f"{url}/echo")
    assert (ended.status, ended.output) == (0, b"405")


@pytest_twisted.ensureDeferred
async def test_uploads(serve: Any, nginx: Nginx, tmp_path: Path) -> None:
    """B4.1, B4.3: uploads with a length, with Expect, and without a length, arrive whole."""
    await nginx.start()
    served = serve(f"http://127.0.0.1:{nginx.number}")
    url = f"http://127.0.0.1:{served.number}"
    file = tmp_path / "file"
    file.write_bytes(DATA)
    for name, arguments, given in (
        ("length", ("-T", str(file)), b""),
        ("expect", ("-T", str(file), "-H", "Expect: 100-continue"), b""),
        ("chunked", ("-T", "-"), DATA),
        ("old", ("--http1.0", "-T", str(file)), b""),
    ):
        ended = await curl(*arguments, "-w", "%{http_code}", f"{url}/upload/{name}", given=given)
        assert (ended.status, ended.output, ended.errors) == (0, b"201", b"")
        assert (nginx.files / name).read_bytes() == DATA
    ended = await curl("-X", "DELETE", "-w", "%{http_code}", f"{url}/upload/length")
    assert (ended.status, ended.output) == (0, b"204")
    assert [record.error for record in await served.settled(5)] == [None] * 5


@pytest_twisted.ensureDeferred
async def test_forms(serve: Any, webServer: Any, tmp_path: Path) -> None:
    """B4: what curl posts arrives byte for byte, small and large."""
    received: list[Message] = []

    def answer(request: Message) -> Any:
        received.append(request)
        return 200, [], b"%d" % len(request.body)

    served = serve(webServer(answer).target)
    url = f"http://127.0.0.1:{served.number}/form"
    ended = await curl("-d", "a=1&b=2", url)
    assert (ended.status, ended.output) == (0, b"7")
    assert (received[0].method, received[0].body) == (b"POST", b"a=1&b=2")
    file = tmp_path / "file"
    file.write_bytes(DATA)
    # larger than a megabyte, so that curl expects a 100, waits a second for it, and sends all the same
    ended = await curl("--data-binary", f"@{file}", "--expect100-timeout", "0.1", url)
    assert (ended.status, ended.output) == (0, b"3000000")
    assert received[1].body == DATA
    ended = await curl("-F", f"file=@{file}", "-H", "Expect:", url)
    assert ended.status == 0
    assert DATA in received[2].body


@pytest_twisted.ensureDeferred
async def test_curlLosesPatience(serve: Any, origin: Any) -> None:
    """B7.1: when curl's own time is up it leaves, and the upstream's connection with it."""
    served = serve(origin.target)
    running = Deferred.fromCoroutine(curl("--max-time", "0.3", f"http://127.0.0.1:{served.number}/"))
    upstream = await origin.accept()
    await upstream.request()
    assert await upstream.ending() == "reset"
    assert (await running).status == 28
    [record] = await served.settled()
    assert isinstance(record.error, ClientLeft)
    assert record.status == 499


@pytest_twisted.ensureDeferred
async def test_keepAliveAndRestart(serve: Any, nginx: Nginx) -> None:
    """B8.2, B8.3: nginx closes a connection after 100 requests, or is restarted, and no request is lost over it."""
    await nginx.start()
    served = serve(f"http://127.0.0.1:{nginx.number}")
    url = f"http://127.0.0.1:{served.number}/echo?[1-250]"
    ended = await curl("-w", "\n%{http_code} %{num_connects}\n", url)
    assert ended.status == 0
    lines = ended.output.splitlines()[1::2]
    assert lines == [b"200 1"] + [b"200 0"] * 249
    nginx.stop()
    await until(lambda: not any(pool.idle for pool in served.pools), "the end of the kept connections")
    ended = await curl("-w", "%{http_code}", "-o", "/dev/null", f"http://127.0.0.1:{served.number}/echo")
    assert ended.output == b"502"
    await nginx.start()
    ended = await curl("-w", "%{http_code}", "-o", "/dev/null", f"http://127.0.0.1:{served.number}/echo")
    assert ended.output == b"200"
