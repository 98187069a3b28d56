"""
What stories need: a network of either kind, and actors that leave the stage when it is over.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.support.command import Command
from tests.support.peers import Message, Origin, shortFolder
from tests.support.proxies import Served
from tests.support.webserver import WebServer
from twistproxy.net.network import Network


@pytest.fixture(params=["hub", "stock"])
def networkKind(request: pytest.FixtureRequest) -> str:
    """Which transports: ours or Twisted's."""
    kind: str = request.param
    return kind


@pytest.fixture
def network(networkKind: str, warmReactor: Any) -> Network:
    """Sockets on the hub, and Twisted's own."""
    return Network(warmReactor, hub=networkKind == "hub")


@pytest.fixture
def serve(network: Network) -> Iterator[Callable[..., Served]]:
    """Starts proxies in this process."""
    running: list[Served] = []

    def start(director: Any, **options: Any) -> Served:
        running.append(Served(network, director, **options))
        return running[-1]

    yield start
    for served in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


@pytest.fixture
def makeOrigin() -> Iterator[Callable[..., Origin]]:
    """Makes origins whose part the test plays."""
    made: list[Origin] = []

    def make(**options: Any) -> Origin:
        made.append(Origin(**options))
        return made[-1]

    yield make
    for origin in made:
        origin.close()


@pytest.fixture
def origin(makeOrigin: Callable[..., Origin]) -> Origin:
    """An origin whose part the test plays."""
    return makeOrigin()


@pytest.fixture
def command(tmp_path: Path, networkKind: str) -> Iterator[Callable[..., Command]]:
    """Starts the command, with the transports of C{networkKind}; the test awaits its C{started()}."""
    running: list[Command] = []

    def start(*arguments: str, **options: Any) -> Command:
        folder = tmp_path / f"command{len(running)}"
        folder.mkdir()
        if networkKind == "stock":
            arguments = ("--stock-transports", *arguments)
        running.append(Command(folder, *arguments, **options))
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.fixture
def socketFolder() -> Iterator[str]:
    """A folder with a name short enough for UNIX sockets."""
    folder = shortFolder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def webServer(warmReactor: Any) -> Iterator[Callable[..., WebServer]]:
    """Starts origins that answer by themselves."""
    running: list[WebServer] = []

    def start(answer: Callable[[Message], Any], number: int = 0) -> WebServer:
        running.append(WebServer(warmReactor, answer, number))
        return running[-1]

    yield start
    for server in running:
        pytest_twisted.blockon(Deferred.fromCoroutine(server.close()))
