"""
Every recipe of the cookbook is a file, and every file does what its recipe says.
"""

from __future__ import annotations

import io
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.net.peers import until
from tests.support.certificates import selfSigned as selfSignedCertificate
from tests.support.examples import moduleAt
from tests.support.peers import Client, Message, Origin
from tests.support.webserver import WebServer

DOCS = Path(__file__).parent.parent / "docs"
RECIPES = DOCS / "examples" / "cookbook"


def recipe(name: str) -> ModuleType:
    """@return: a recipe's file, as a module."""
    return moduleAt(RECIPES / f"{name}.py")


class Kitchen:
    """
    Sites of recipes, origins behind them, and clients.

    @ivar received: what the origins were sent.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.received: list[Message] = []
        self._sites: list[tuple[Any, Any]] = []
        self._servers: list[WebServer] = []
        self._clients: list[Client] = []

    def origin(self, body: bytes = b"hello", status: int = 200, fields: tuple[tuple[str, str], ...] = ()) -> str:
        """@return: the address of an origin that answers like this."""

        def answer(request: Message) -> Any:
            self.received.append(request)
            return status, list(fields), b"" if request.method == b"HEAD" else body

        self._servers.append(WebServer(self.reactor, answer))
        return self._servers[-1].target

    def cook(self, name: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """
        Listen with the site of a recipe.

        @return: a function that sends it one request and gives a Deferred of the response.
        """
        site = recipe(name).makeSite(self.reactor, *arguments, **options)
        port = site.network.reactor.listenTCP(0, site, interface="127.0.0.1")
        self._sites.append((site, port))

        async def ask(target: str = "/", *fields: str, method: str = "GET", body: bytes | None = None) -> Message:
            client = Client.connect(port.getHost().port)
            assert isinstance(client, Client)
            self._clients.append(client)
            await client.ask(method, target, fields, body)
            return await client.response(method)

        return ask

    async def close(self) -> None:
        """Leave nothing behind."""
        for client in self._clients:
            client.close()
        for site, port in self._sites:
            await port.stopListening()
            site.responder.close()
            await until(lambda site=site: not site.connections)
        for server in self._servers:
            await server.close()


@pytest.fixture
def kitchen(warmReactor: Any) -> Iterator[Kitchen]:
    """Where recipes are tried out."""
    made = Kitchen(warmReactor)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


def test_allAreShown() -> None:
    """Every recipe is shown in the guide, and has a test here."""
    files = sorted(path.stem for path in RECIPES.glob("*.py"))
    shown = re.findall(r"literalinclude:: examples/cookbook/(\w+)\.py", (DOCS / "cookbook.rst").read_text())
    assert sorted(shown) == files
    tested = set(re.findall(r'(?:cook|recipe)\(\s*"(\w+)"', Path(__file__).read_text()))
    assert sorted(tested) == files


@pytest_twisted.ensureDeferred
async def test_cancel(kitchen: Kitchen) -> None:
    """B3.1: what a director refuses is never sent upstream, and its reason stays in the log."""
    ask = kitchen.cook("cancel", kitchen.origin())
    assert (await ask("/admin/users")).status == 403
    assert kitchen.received == []
    response = await ask("/public")
    assert (response.status, response.body) == (200, b"hello")


@pytest_twisted.ensureDeferred
async def test_ownResponse(kitchen: Kitchen) -> None:
    """B3.1: a director's own response is sent, nothing goes upstream."""
    ask = kitchen.cook("ownresponse", kitchen.origin())
    response = await ask("/old")
    assert (response.status, response[b"location"], response.body) == (301, b"/new", b"It has moved to /new\n")
    assert kitchen.received == []
    assert (await ask("/new")).status == 200


@pytest_twisted.ensureDeferred
async def test_badGateway(kitchen: Kitchen) -> None:
    """B3.4: an upstream that cannot be reached is explained, with the request's id."""
    closed = Origin()
    closed.close()
    response = await kitchen.cook("badgateway", closed.target)("/")
    assert (response.status, response[b"retry-after"]) == (502, b"5")
    assert re.fullmatch(
        rb"The application is not available: it cannot be reached\.\nAsk us about [0-9a-f]+\.\n", response.body
    )
    plain = await kitchen.cook("badgateway", kitchen.origin())("/", method="TRACE")
    assert (plain.status, plain[b"retry-after"]) == (405, None)


@pytest_twisted.ensureDeferred
async def test_preserveHost(kitchen: Kitchen) -> None:
    """B2.6: the origin sees the client's Host."""
    await kitchen.cook("preservehost", kitchen.origin())("/")
    assert kitchen.received[0][b"host"] == b"story.test"


class Secure(BaseHTTPRequestHandler):
    """Answers anything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"secure")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def selfSigned(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address and the certificate of an origin that vouches for itself."""
    certificate, key = selfSignedCertificate(tmp_path, "localhost", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), Secure) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", str(certificate)
        server.shutdown()
        thread.join()


@pytest_twisted.ensureDeferred
async def test_selfSigned(kitchen: Kitchen, selfSigned: tuple[str, str]) -> None:
    """B8.3: the one certificate that was named is trusted."""
    origin, certificate = selfSigned
    response = await kitchen.cook("selfsigned", origin, certificate)("/")
    assert (response.status, response.body) == (200, b"secure")


@pytest_twisted.ensureDeferred
async def test_database(kitchen: Kitchen) -> None:
    """B3.1: a director waits for a look-up."""
    known = kitchen.cook("database", {"story.test": kitchen.origin(b"tenant")})
    assert (await known("/")).body == b"tenant"
    unknown = kitchen.cook("database", {})
    assert (await unknown("/")).status == 404


@pytest_twisted.ensureDeferred
async def test_refuse(kitchen: Kitchen) -> None:
    """B3.4: the client reads the reason of a refusal, and of nothing else."""
    ask = kitchen.cook("refuse", kitchen.origin())
    response = await ask("/?" + "x" * 101)
    assert response.status == 414
    assert json.loads(response.body) == {"status": 414, "reason": "a query may have 100 characters"}
    assert (await ask("/?x")).status == 200
    assert (await ask("/", method="TRACE"))[b"content-type"] != b"application/json"


@pytest_twisted.ensureDeferred
async def test_answer(kitchen: Kitchen) -> None:
    """B3.1: branches of a router answer themselves; the rest goes upstream."""
    ask = kitchen.cook("answer", kitchen.origin())
    assert (await ask("/robots.txt")).body == b"User-agent: *\nDisallow: /\n"
    assert (await ask("/alive")).status == 204
    assert kitchen.received == []
    assert (await ask("/alive", method="POST", body=b"")).body == b"hello"
    assert (await ask("/page")).body == b"hello"


@pytest_twisted.ensureDeferred
async def test_prefix(kitchen: Kitchen) -> None:
    """B2.6: an application below a prefix sees its own paths, and its redirects lead back to the public ones."""
    app = kitchen.origin(status=302, fields=(("Location", "/users/1"),))
    ask = kitchen.cook("prefix", app, kitchen.origin(b"other"))
    redirect = await ask("/app/users")
    assert redirect[b"location"] == b"/app/users/1"
    assert (await ask("/page")).body == b"other"
    assert [each.target for each in kitchen.received] == [b"/users", b"/page"]
    assert kitchen.received[0][b"x-forwarded-prefix"] == b"/app"


@pytest_twisted.ensureDeferred
async def test_token(kitchen: Kitchen) -> None:
    """B2.2: the upstream gets the proxy's token and never the client's, whatever the client names in Connection."""
    ask = kitchen.cook("injecttoken", kitchen.origin(), token="t1")
    await ask("/", "Authorization: Bearer forged", "Connection: Authorization")
    assert [value for name, value in kitchen.received[0].fields if name == b"authorization"] == [b"Bearer t1"]


@pytest_twisted.ensureDeferred
async def test_stripSecret(kitchen: Kitchen) -> None:
    """B3.3: fields and secret are gone, the rest of the body is as it was."""
    origin = kitchen.origin(b"the password is hunter2, hunter", fields=(("X-Debug", "hunter2"), ("X-Kept", "1")))
    response = await kitchen.cook("stripsecret", origin)("/", "Accept-Encoding: gzip")
    assert response.body == b"the password is *******, hunter"
    assert (response[b"x-debug"], response[b"x-kept"]) == (None, b"1")
    assert kitchen.received[0][b"accept-encoding"] is None


@pytest.mark.parametrize("cut", range(1, 31))
def test_stripSecretInPieces(cut: int) -> None:
    """B3.3: wherever chunks cut a secret in two, it is found."""
    from tests.support.flow import Body, Taker, upstreamResponse
    from twistproxy.core.generated import GeneratedBody

    site = recipe("stripsecret").makeSite(None)
    [(_, strip)] = site.responder._responseFilters
    source, taker = Body(), Taker()
    GeneratedBody(source, strip, upstreamResponse()).deliver(taker)
    text = b"the password is hunter2, hunter"
    source.consumer.write(text[:cut])
    source.consumer.write(text[cut:])
    source.consumer.finish([])
    assert b"".join(taker.told[:-1]) == b"the password is *******, hunter"


@pytest_twisted.ensureDeferred
async def test_rewriteHTML(kitchen: Kitchen) -> None:
    """B3.3: a page gets its banner, and loses what was said of it as it was; anything else is left alone."""
    page = kitchen.origin(
        b'<html><body class="x">hi</body></html>', fields=(("Content-Type", "text/html"), ("ETag", '"1"'))
    )
    response = await kitchen.cook("rewritehtml", page)("/")
    assert response.body == b'<html><body class="x"><p>A test system</p>hi</body></html>'
    assert response[b"etag"] is None
    text = kitchen.origin(b"<body>", fields=(("Content-Type", "text/plain"), ("ETag", '"1"')))
    response = await kitchen.cook("rewritehtml", text)("/")
    assert (response.body, response[b"etag"]) == (b"<body>", b'"1"')


@pytest_twisted.ensureDeferred
async def test_retry(kitchen: Kitchen) -> None:
    """B6: what one host could not take goes to the other."""
    closed = Origin()
    closed.close()
    ask = kitchen.cook("retry", closed.target, kitchen.origin(b"other"))
    assert (await ask("/x")).body == b"other"
    assert kitchen.received[0].target == b"/x"
    alive = kitchen.cook("retry", kitchen.origin(b"first"), closed.target)
    assert (await alive("/x")).body == b"first"


@pytest_twisted.ensureDeferred
async def test_cors(kitchen: Kitchen) -> None:
    """A preflight is answered here, for the one origin; answers are marked for it."""
    ask = kitchen.cook("cors", kitchen.origin())
    preflight = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: X-A")
    response = await ask("/", "Origin: https://app.example.com", *preflight, method="OPTIONS")
    assert (response.status, response[b"access-control-allow-headers"]) == (204, b"X-A")
    assert (await ask("/", "Origin: https://evil.example", *preflight, method="OPTIONS")).status == 403
    assert kitchen.received == []
    response = await ask("/", "Origin: https://app.example.com")
    assert (response.body, response[b"access-control-allow-origin"]) == (b"hello", b"https://app.example.com")


@pytest_twisted.ensureDeferred
async def test_addresses(kitchen: Kitchen) -> None:
    """B8.5: two spellings of one target are one, and a mistake is told with its line."""
    port = kitchen.origin().rpartition(":")[2]
    text = f"# ours\n\n{port}\nhttp://127.0.0.1:{port}  # the same\n"
    assert len(recipe("addresses").readTargets(text)) == 1
    assert (await kitchen.cook("addresses", text)("/")).body == b"hello"
    with pytest.raises(ValueError, match=r"line 2: the target 'example\.org' is ambiguous"):
        recipe("addresses").readTargets("localhost:80\nexample.org")


@pytest_twisted.ensureDeferred
async def test_loops(kitchen: Kitchen) -> None:
    """B2.10: a request that has been here is answered with 508; one through another proxy is not."""
    ask = kitchen.cook("loops", kitchen.origin())
    assert (await ask("/", "Via: 1.1 edge-1")).status == 508
    assert (await ask("/", "CDN-Loop: edge-1")).status == 508
    assert kitchen.received == []
    assert (await ask("/", "Via: 1.1 edge-2")).status == 200
    assert kitchen.received[0][b"cdn-loop"] == b"edge-1"


@pytest_twisted.ensureDeferred
async def test_abTest(kitchen: Kitchen) -> None:
    """A client without a cookie gets a side and a cookie; one with a cookie keeps its side."""
    draws = [0.05, 0.5]
    targets = {"a": kitchen.origin(b"A"), "b": kitchen.origin(b"B")}
    ask = kitchen.cook("abtest", targets, draw=lambda: draws.pop(0))
    cookie = b"side=%b; Path=/; HttpOnly; SameSite=Lax"
    first, second = await ask("/"), await ask("/", "Cookie: side=c")
    assert (first.body, first[b"set-cookie"]) == (b"B", cookie % b"b")
    assert (second.body, second[b"set-cookie"]) == (b"A", cookie % b"a")
    third = await ask("/", "Cookie: x=1; side=b")
    assert (third.body, third[b"set-cookie"]) == (b"B", None)


@pytest_twisted.ensureDeferred
async def test_accessLog(kitchen: Kitchen, capfd: pytest.CaptureFixture[str]) -> None:
    """B9: one line for each exchange, on standard output."""
    written = ""

    def complete() -> bool:
        nonlocal written
        written += capfd.readouterr().out
        return "\n" in written

    await kitchen.cook("accesslog", kitchen.origin())("/x")
    await until(complete)
    [line] = written.splitlines()
    assert '"GET /x HTTP/1.1" 200 5 ' in line


@pytest_twisted.ensureDeferred
async def test_jsonLog(kitchen: Kitchen) -> None:
    """B9: one line of JSON for each exchange, with its fields."""
    output = io.StringIO()
    await kitchen.cook("jsonlog", kitchen.origin(), output)("/x")
    await until(output.getvalue)
    [line] = output.getvalue().splitlines()
    event = json.loads(line)
    assert (event["method"], event["target"], event["status"], event["bytes"]) == ("GET", "/x", 200, 5)
    assert (event["log_namespace"], event["error"]) == ("access", None)
