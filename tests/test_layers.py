"""
The house has five floors, and imports go downwards only.

C{FLOORS} is the one place that says which module lives where.  The rest of this file reads every module of
the package with C{ast}, so an import inside a function or under C{TYPE_CHECKING} counts like any other, and
nothing has to be importable for the test to judge it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import twistproxy

PACKAGE = Path(twistproxy.__file__).parent

# Each floor is a set of units: a module beside __init__.py or a whole sub-package.
FLOORS: dict[int, set[str]] = {
    # vocabulary: what everything else speaks in
    0: {
        "interfaces",
        "errors",
        "headers",
        "message",
        "body",
        "deadlines",
        "limits",
        "events",
        "upstreams",
        "roundtrip",
        "globalreactor",
    },
    # rules: pure functions
    1: {"rules"},
    # the flow, the wire formats, the policies, what operators see
    2: {"core", "wire", "policy", "observe"},
    # edges: where sockets, pools, servers and sites are
    3: {"net", "upstream", "server", "web", "admin"},
    # composition: what puts the parts together
    4: {
        "proxy",
        "agents",
        "targets",
        "resources",
        "directors",
        "delivery",
        "routes",
        "config",
        "build",
        "service",
        "signals",
        "demo",
        "workers",
        "options",
        "tap",
        "testing",
    },
}

# Units of these floors never import each other; elsewhere a floor is one body.
FLOORS_OF_STRANGERS = {2, 3}

# twistproxy/__init__.py itself: it may import everything, and nothing inside imports from it.
FACADE = ""
FACADE_FLOOR = 5

# What rules may not even know of: they are called with values and return values.
NOT_PURE = {"asyncio", "os", "select", "socket", "ssl", "subprocess", "threading", "time", "twisted"}


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands, and the dotted names that it may mean."""

    line: int
    names: tuple[str, ...]


def unitOf(module: str) -> str:
    """
    @param module: a dotted name below the package, such as C{"twistproxy.core.proxy"}.
    @return: the unit it belongs to, such as C{"core"}; the facade for the package itself.
    """
    return module.split(".")[1] if "." in module else FACADE


def floorOf(unit: str) -> int | None:
    """
    @return: the floor of a unit, C{None} for a unit that nobody has placed.
    """
    if unit == FACADE:
        return FACADE_FLOOR
    return next((floor for floor, units in FLOORS.items() if unit in units), None)


def moduleName(path: Path) -> str:
    """
    @param path: a Python file of the package.
    @return: its dotted name; a package's is that of its folder.
    """
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def importsOf(module: str, source: str, isPackage: bool = False) -> Iterator[Import]:
    """
    Every import statement of a module, wherever it stands, relative ones resolved.

    C{from a.b import c} may mean the module C{a.b.c} or the name C{c} in C{a.b}.  Both have the same unit,
    except directly below the package, where C{c} is taken for a module.
    """
    parts = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield Import(node.lineno, tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            kept = len(parts) - node.level + (1 if isPackage else 0)
            base = ".".join([*(parts[:kept] if node.level else []), *([node.module] if node.module else [])])
            if base == "twistproxy":
                yield Import(node.lineno, tuple(f"twistproxy.{alias.name}" for alias in node.names))
            else:
                yield Import(node.lineno, (base,))


def offences(module: str, source: str, isPackage: bool = False) -> list[str]:
    """
    Everything in a module that breaks the rules of the house.

    @return: one sentence each.
    """
    unit, found = unitOf(module), []
    floor = floorOf(unit)
    if floor is None:
        return [f"{module}: no floor is assigned to {unit!r}; add it to FLOORS in tests/test_layers.py"]
    for statement in importsOf(module, source, isPackage):
        for name in statement.names:
            where = f"{module}:{statement.line} imports {name}"
            if floor == 1 and name.split(".")[0] in NOT_PURE:
                found.append(f"{where}: rules are pure functions")
            if name.split(".")[0] != "twistproxy":
                continue
            target = unitOf(name)
            if target == unit:
                continue
            below = floorOf(target)
            if below is None or target == FACADE:
                found.append(f"{where}: not a module of the package")
            elif below > floor:
                found.append(f"{where}: upwards, from floor {floor} to floor {below}")
            elif below == floor and floor in FLOORS_OF_STRANGERS:
                found.append(f"{where}: {unit} and {target} stand side by side on floor {floor}")
    return found + reactorImports(module, source)


def reactorImports(module: str, source: str) -> list[str]:
    """
    Imports of the global reactor which run when the module is imported.

    @return: one sentence each.
    """
    found: list[str] = []
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            pending.extend(ast.iter_child_nodes(node))
            continue
        if any(f"{name}.".startswith("twisted.internet.reactor.") for name in names):
            found.append(f"{module}:{node.lineno} imports the reactor at module level; make it a parameter")
    return found


_testsNamed = re.compile(r"tests\.[\w.]+").findall

SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=moduleName)
def test_importsGoDownwards(path: Path) -> None:
    """Every module has a floor, imports from below only, and leaves the choice of the reactor to its user."""
    module = moduleName(path)
    assert offences(module, path.read_text(), isPackage=path.name == "__init__.py") == []


@pytest.mark.parametrize("path", SOURCES, ids=moduleName)
def test_namesItsTests(path: Path) -> None:
    """The tests that a module names in its first line are there."""
    named = _testsNamed(path.read_text().partition("\n")[0])
    places = [Path(__file__).parent.parent.joinpath(*name.split(".")) for name in named]
    assert [str(place) for place in places if not (place.is_dir() or place.with_suffix(".py").is_file())] == []


@pytest.mark.parametrize("path", SOURCES, ids=moduleName)
def test_filesAreShort(path: Path) -> None:
    """Nobody has to read more than 600 lines to know a file."""
    assert len(path.read_text().splitlines()) <= 600


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("twistproxy.errors", "import twistproxy.core.proxy", "upwards, from floor 0 to floor 2"),
        ("twistproxy.rules.target", "from twistproxy.core import proxy", "upwards, from floor 1 to floor 2"),
        ("twistproxy.rules.target", "from ..wire.h1head import parse", "upwards, from floor 1 to floor 2"),
        ("twistproxy.core.proxy", "from twistproxy import net", "upwards, from floor 2 to floor 3"),
        ("twistproxy.core.proxy", "from ..wire import h1head", "core and wire stand side by side on floor 2"),
        ("twistproxy.web.resource", "from ..net.hub import Hub", "web and net stand side by side on floor 3"),
        ("twistproxy.core.proxy", "def f():\n    import twistproxy.tap", "upwards, from floor 2 to floor 4"),
        (
            "twistproxy.body",
            "if TYPE_CHECKING:\n    from .core.exchange import Exchange",
            "upwards, from floor 0 to floor 2",
        ),
        ("twistproxy.tap", "from twistproxy import ReverseProxy", "not a module of the package"),
        ("twistproxy.tap", "import twistproxy", "not a module of the package"),
        ("twistproxy.attic", "", "add it to FLOORS in tests/test_layers.py"),
        ("twistproxy.rules.target", "from twisted.internet import defer", "rules are pure functions"),
        ("twistproxy.tap", "from twisted.internet import reactor", "imports the reactor at module level"),
        ("twistproxy.tap", "import twisted.internet.reactor as r", "imports the reactor at module level"),
        ("twistproxy.tap", "from twisted.internet.reactor import run", "imports the reactor at module level"),
        (
            "twistproxy.tap",
            "try:\n    from twisted.internet import reactor\nexcept ImportError:\n    pass",
            "imports the reactor at module level",
        ),
    ],
)
def test_offenceIsNamed(module: str, source: str, complaint: str) -> None:
    """The test above can fail: each way to break the rules is found, once, and named."""
    found = offences(module, source)
    assert [complaint in sentence for sentence in found] == [True]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("twistproxy.core.proxy", "from ..rules import hopbyhop\nfrom . import exchange\nimport attrs"),
        ("twistproxy.message", "from .headers import Headers"),
        ("twistproxy.tap", "from twistproxy import build, service\nfrom twistproxy.net.hub import Hub"),
        ("twistproxy.build", "def f():\n    from twisted.internet import reactor\n    return reactor"),
        ("twistproxy", "from twistproxy.core.proxy import ReverseProxy"),
        ("twistproxy.core.proxy", "from twisted.internet.interfaces import IReactorTime"),
    ],
)
def test_whatIsAllowed(module: str, source: str) -> None:
    """Imports from below, from the same unit and from elsewhere are nobody's business."""
    assert offences(module, source, isPackage=module == "twistproxy") == []


def test_relativeImportOfAPackage() -> None:
    """In an C{__init__.py} one dot means the package itself, not its parent."""
    assert offences("twistproxy.core", "from .exchange import Exchange", isPackage=True) == []
    assert len(offences("twistproxy.core", "from ..net import hub", isPackage=True)) == 1
