"""
What the load generators report, and whether a proxy's answer is right at all.
"""

from __future__ import annotations

import http.client
import re
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import beside
from benchmarks.works import Check, Work

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_CHUNK = b"x" * 65_536
# A slice takes one second by wrk; curl's may take long through a slow proxy.
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Load:
    """
    What one slice of load achieved.

    @ivar requests: the answers received.
    @ivar bytes: the bytes of the bodies moved; 0 where only requests are counted.
    @ivar seconds: how long that took.
    @ivar p50: median latency, in milliseconds.
    @ivar p99: 99th percentile of the latency, in milliseconds; C{None} if there were too few requests for
        one.
    @ivar errors: failed requests, answers with a wrong status, broken connections.
    """

    requests: int
    bytes: int
    seconds: float
    p50: float
    p99: float | None
    errors: int


class WrongAnswer(Exception):
    """
    A proxy answered, but not with what the origin sent; or a load generator did not finish.
    """


@contextmanager
def ready(work: Work, port: int, files: Path, prefix: str = "") -> Iterator[Callable[[], Load]]:
    """
    Prepare a slice: what the load is put on beside must stand before the proxy's time is taken.

    @param prefix: what the proxy wants before each path.
    @return: a context manager of what puts the load on and gives the result; it raises L{WrongAnswer} if there is
        none.
    @raise WrongAnswer: if it cannot be prepared.
    """
    try:
        with ExitStack() as stack:
            held = stack.enter_context(beside.Held(port, prefix + work.path, work.idle)) if work.idle else None
            if work.unit == "message":
                tunnels = stack.enter_context(beside.Tunnels(port, prefix + work.path, work.connections))
                yield lambda: parseTunnels(tunnels.play(1000))
            else:
                yield partial(_put, work, port, files, prefix, held)
    except beside.Broken as error:
        raise WrongAnswer(str(error)) from None


def _put(work: Work, port: int, files: Path, prefix: str, held: beside.Held | None) -> Load:
    try:
        result = subprocess.run(
            work.command(port, files, prefix), capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise WrongAnswer(f"no end of a slice after {_TIMEOUT:g} s") from None
    parse = parseCurl if work.unit == "gigabyte" else parseWrk
    try:
        load = parse(result.stdout)
    except ValueError:
        raise WrongAnswer(_lastLine(result.stderr) or _lastLine(result.stdout) or "no output") from None
    if held is not None and (gone := held.gone()):
        raise WrongAnswer(f"{gone} of {work.idle} idle connections were closed")
    return load


def parseTunnels(text: str) -> Load:
    """
    Read what our program of tunnels reports of one slice.

    @raise WrongAnswer: if nothing came back.
    """
    words = text.split()
    if len(words) != 5 or not int(words[0]):
        raise WrongAnswer(f"no message came back: {text.strip() or 'no output'}")
    return Load(int(words[0]), 0, float(words[1]), float(words[2]) / 1000, float(words[3]) / 1000, int(words[4]))


def parseWrk(text: str) -> Load:
    """
    Read the report of C{wrk --latency}.

    @raise ValueError: if it is not one, or if nothing was answered.
    """
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", text)
    quantiles = {
        quantile: float(number) * _MILLISECONDS[unit]
        for quantile, number, unit in re.findall(r"^\s*(50|99)%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    }
    if total is None or "50" not in quantiles or int(total[1]) == 0:
        raise ValueError(text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = sum(int(number) for match in (bad, broken) if match for number in match.groups())
    seconds = float(total[2]) * _MILLISECONDS[total[3]] / 1000
    return Load(int(total[1]), 0, seconds, quantiles["50"], quantiles.get("99"), errors)


def parseCurl(text: str) -> Load:
    """
    Read the lines that L{Work.command} lets curl write, one for each transfer.

    @raise ValueError: if there are none, or if nothing was moved.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    times = [float(row[3]) for row in rows]
    moved = sum(int(row[1]) + int(row[2]) for row in rows)
    if not moved or not sum(times):
        raise ValueError(text)
    errors = sum(row[0] != "200" or row[4] != "0" for row in rows)
    return Load(len(rows), moved, sum(times), statistics.median(times) * 1000, None, errors)


def check(work: Work, port: int, prefix: str = "") -> None:
    """
    Ask a proxy once for each sort of thing, and see that the answer is what the origin sends.

    @param prefix: what the proxy wants before each path.
    @raise WrongAnswer: if it is not.
    """
    if work.unit == "message":
        try:
            with beside.Tunnels(port, prefix + work.path, 1) as tunnels:
                if parseTunnels(tunnels.play(1)).errors:
                    raise WrongAnswer("the tunnel broke")
        except beside.Broken as error:
            raise WrongAnswer(str(error)) from None
        return
    headers = dict(line.split(": ", 1) for line in work.headers)
    for each in work.checks:
        _ask(each, port, prefix, headers.copy())


def _ask(asked: Check, port: int, prefix: str, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
    path = prefix + asked.path
    try:
        if asked.upload:
            headers["Content-Length"] = str(asked.upload)
            connection.request("POST", path, body=_pieces(asked.upload), headers=headers)
        else:
            connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        text, length = b"", 0
        while piece := response.read(1 << 20):
            text, length = text or piece, length + len(piece)
    except (OSError, http.client.HTTPException) as error:
        raise WrongAnswer(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise WrongAnswer(f"status {response.status}")
    if length != asked.answer:
        raise WrongAnswer(f"{length} bytes instead of {asked.answer}")
    if asked.upload and text != b"%d\n" % asked.upload:
        raise WrongAnswer(f"{text.decode(errors='replace').strip()} bytes arrived instead of {asked.upload}")


def _pieces(length: int) -> Iterator[bytes]:
    while length > 0:
        yield _CHUNK[:length]
        length -= len(_CHUNK)


def _lastLine(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
