"""
The contracts: every class that says it keeps one has its methods, with their arguments.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import Attribute, implementedBy
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyClass

import twistproxy
from twistproxy import interfaces

#: Without a class of ours that provides them: their providers are the users', or the tests'.
USERS = {"IResponseModifier", "IErrorHandler", "IBodyFilter"}


def ours() -> list[tuple[type, InterfaceClass]]:
    """@return: every class of the package with every interface that it says it implements."""
    found = []
    for module in pkgutil.walk_packages(twistproxy.__path__, "twistproxy."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                found += [(value, interface) for interface in implementedBy(value)]
    return found


PAIRS = ours()


@pytest.mark.parametrize(("cls", "interface"), PAIRS, ids=[f"{cls.__name__}-{each.__name__}" for cls, each in PAIRS])
def test_kept(cls: type, interface: InterfaceClass) -> None:
    """The methods are there and take what they must; attributes are looked at where there are objects."""
    assert verifyClass(interface, cls, tentative=True)


def declared() -> set[tuple[str, str]]:
    """@return: module and name of every class below an C{@implementer}, as the source has it."""
    found = set()
    for path in Path(twistproxy.__path__[0]).rglob("*.py"):
        module = ".".join(path.relative_to(Path(twistproxy.__path__[0]).parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("implementer" in ast.unparse(each) for each in node.decorator_list):
                found.add((module.removesuffix(".__init__"), node.name))
    return found


def test_noneForgotten() -> None:
    """Every class of the source that says it implements something is among those looked at, wherever it stands."""
    looked = {(cls.__module__, cls.__name__) for cls, _ in PAIRS}
    assert len(declared()) > 40
    assert declared() - looked == set()


ATTRIBUTES = [
    (cls, name)
    for cls, interface in PAIRS
    for name in interface.names(all=True)
    if interface.__module__ == interfaces.__name__ and type(interface[name]) is Attribute
]


@pytest.mark.parametrize(("cls", "name"), ATTRIBUTES, ids=[f"{cls.__name__}-{name}" for cls, name in ATTRIBUTES])
def test_attributes(cls: type, name: str) -> None:
    """The attributes are there, too: in the class, or set by it."""
    sets = any(f"self.{name}" in inspect.getsource(base) for base in cls.__mro__ if base.__module__ == cls.__module__)
    assert sets or hasattr(cls, name)


def test_everyInterface() -> None:
    """Each of our interfaces is implemented by something of ours, or is for users to implement."""
    names = {
        name
        for name, value in vars(interfaces).items()
        if type(value) is InterfaceClass and value.__module__ == interfaces.__name__
    }
    implemented = {interface.__name__ for _, each in PAIRS for interface in each.__iro__}
    assert names - implemented == USERS


@pytest.mark.parametrize(
    ("interface", "base"), [(interfaces.IBodyConsumer, IConsumer), (interfaces.IBody, IPushProducer)]
)
def test_twisted(interface: Any, base: Any) -> None:
    """A body is a Twisted producer, and what takes one a Twisted consumer."""
    assert interface.isOrExtends(base)
