"""
The examples of the page on policies, each of which does what the page says.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.examples import moduleAt
from twistproxy.testing import MemoryNetwork, MemoryProxy, httpResponse

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples" / "policies"


def example(name: str) -> ModuleType:
    """@return: an example's file, as a module."""
    return moduleAt(EXAMPLES / f"{name}.py")


def served(name: str) -> MemoryProxy:
    """@return: a proxy that serves as an example's site does."""
    network = MemoryNetwork(strict=True)
    return MemoryProxy(responder=example(name).makeSite(network).responder, network=network)


def test_allShown() -> None:
    """Every example is shown, and run below."""
    shown = re.findall(r"literalinclude:: examples/policies/(\w+)\.py", (DOCS / "policies.rst").read_text())
    assert sorted(shown) == sorted(path.stem for path in EXAMPLES.glob("*.py")) == ["cluster", "policy", "several"]


def test_several() -> None:
    """What one says 503 to is served by the other, and after three connections that fail one is left alone."""
    with served("several") as proxy:
        first = proxy.addUpstream("http://localhost:3000", httpResponse(503))
        proxy.addUpstream("http://localhost:3001")
        client = proxy.client()
        assert [client.request().status for _ in range(4)] == [200] * 4  # type: ignore[union-attr]
        first.refusing = True
        for connection in first.connections:
            connection.sendReset()
        for _ in range(12):
            assert client.request("POST").status == 200  # type: ignore[union-attr]
        assert sum(bool(record.retried) for record in proxy.records[4:]) == 3


def test_cluster() -> None:
    """Users stay where they are, unless that member fails."""

    def ask(user: str) -> Any:
        response = proxy.client().request("GET", "/api/x", {"X-User": user})
        assert response is not None and response.status == 200
        return response.body

    with served("cluster") as proxy:
        proxy.addUpstream("http://localhost:3000")
        members = [proxy.addUpstream(f"http://localhost:{port}") for port in (4000, 4001)]
        users = [f"user{number}" for number in range(20)]
        homes = [ask(user) for user in users]
        assert set(homes) == {b"GET /api/x", b"GET /v2/api/x"}
        assert [ask(user) for user in users] == homes
        members[0].refusing = True
        for connection in members[0].connections:
            connection.sendReset()
        assert {ask(user) for user in users} == {b"GET /v2/api/x"}
        assert proxy.client().request().body == b"GET /"  # type: ignore[union-attr]


def test_policy() -> None:
    """A POST that the application would know again is tried again; others are not."""
    with served("policy") as proxy:
        upstream = proxy.addUpstream("http://localhost:3000")
        for key, status, tries in (({"Idempotency-Key": "1"}, 200, 2), ({}, 502, 1)):
            made: list[Any] = []

            def first(connection: Any, made: list[Any] = made) -> None:
                made.append(connection)
                if len(made) == 1:
                    connection.outgoing.closeAt(0)

            upstream.onConnection = first
            for connection in upstream.connections:
                connection.sendReset()
            response = proxy.client().request("POST", "/", key, b"x")
            assert response is not None
            assert (response.status, proxy.records[-1].tries) == (status, tries)
