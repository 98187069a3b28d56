"""
The contracts: every class that says it keeps one has its methods, with their arguments.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementedBy
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
