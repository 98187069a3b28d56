# -*- test-case-name: tests.test_testing_explanations -*-
"""
A plugin for pytest: a test that fails shows why its exchanges went as they did.

In C{conftest.py}::

    pytest_plugins = ["twistproxy.testing.pytestplugin"]

It holds the last exchanges of a test until that has ended.  A test that looks whether they are freed asks for the
fixture C{unwitnessed}.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from twistproxy.testing.explanations import ExchangeWitness

_KEY = pytest.StashKey[ExchangeWitness]()
_TOLD = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """
    Watch before anybody can make a site.
    """
    witness = config.stash[_KEY] = ExchangeWitness()
    witness.install()


def pytest_unconfigure(config: pytest.Config) -> None:
    """
    Leave the process as it was found.
    """
    if _KEY in config.stash:
        config.stash[_KEY].uninstall()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """
    No test is told of another one's exchanges.
    """
    witness = item.config.stash[_KEY]
    witness.forget()
    try:
        return (yield)
    finally:
        witness.forget()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """
    Tell of the exchanges in the report of a failure.  What they tell is written down when the test ends, and they are
    let go before fixtures look for what it has left behind.
    """
    report = yield
    witness = item.config.stash[_KEY]
    if witness.begun:
        item.stash[_TOLD] = str(witness)
        witness.forget()
    if report.failed and _TOLD in item.stash:
        report.sections.append(("exchanges of twistproxy", item.stash[_TOLD]))
    return report


@pytest.fixture
def unwitnessed(pytestconfig: pytest.Config) -> Iterator[None]:
    """
    Keep no exchange of this test.
    """
    witness = pytestconfig.stash[_KEY]
    witness.watching = False
    try:
        yield
    finally:
        witness.watching = True
