"""Normalize addresses as operators write them."""

from twistproxy import ProxySite, ReverseProxy, TargetDirector
from twistproxy.rules.target import parseTarget


def readTargets(text):
    """One target to a line: localhost:3000, :3000, http://host/base, unix:/run/app.sock; # begins a comment."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    targets = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                targets.append(parseTarget(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return list(dict.fromkeys(targets))  # two spellings of one target are one target


def makeSite(reactor, text="localhost:3000  # the application"):
    return ProxySite(ReverseProxy(TargetDirector(readTargets(text)), reactor=reactor), reactor=reactor)
