"""
The access log: its two formats, and how lines get into the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LoggingFile, globalLogPublisher
from zope.interface.verify import verifyObject

from tests.support.flow import request
from twistproxy.errors import Stage, UpstreamTimeout
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import IObserver
from twistproxy.message import Peer, Request
from twistproxy.observe.access import BATCH, DELAY, FORMATS, AccessLog, CombinedFormat, JSONFormat, escaped
from twistproxy.rules.fields import REFERER, USER_AGENT

NOW = 784111777.25


def settled(head: bytes | Request = b"GET /p HTTP/1.1\r\nHost: front.test", **facts: Any) -> ExchangeRecord:
    """@return: the record of an exchange that took a second and a half."""
    record = ExchangeRecord(lambda: 100.0, head if isinstance(head, Request) else request(head))
    record.status = 200
    record.requestID = b"id-1"
    record.ended = 101.5
    for name, value in facts.items():
        setattr(record, name, value)
    return record


def lineOf(format: Any, record: ExchangeRecord, ended: float) -> bytes:
    """@return: the line of one exchange that ended then."""
    line: bytes = format.lines([record], ended - record.ended)
    return line


class Lines:
    """A format for which the target is the line."""

    def lines(self, records: Sequence[ExchangeRecord], epoch: float) -> bytes:
        return b"".join(record.target + b"\n" for record in records)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What the access log complains about."""
    found: list[str] = []

    def observer(event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("twistproxy.observe"):
            found.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observer)
    yield found
    globalLogPublisher.removeObserver(observer)


# -- formats


def test_combined() -> None:
    """B10.4: the combined format with what we add to it; times in microseconds."""
    record = settled(
        b"GET /p?q HTTP/1.1\r\nHost: front.test\r\nReferer: http://r.test/\r\nUser-Agent: curl/8",
        responseBytes=5,
        upstream="origin.test:80",
        tries=2,
        directed=100.25,
        connected=100.5,
        responded=101.0,
    )
    assert lineOf(CombinedFormat(), record, NOW) == (
        b'192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] "GET /p?q HTTP/1.1" 200 5 "http://r.test/" "curl/8" '
        b"id-1 origin.test:80 2 1500000 250000 500000 -\n"
    )


def test_combinedSparse() -> None:
    """B10.4: what is not known is a dash or a zero."""
    record = settled(b"GET /p HTTP/1.0", requestID=b"", client="", status=0)
    assert lineOf(CombinedFormat(), record, NOW) == (
        b'- - - [06/Nov/1994:08:49:37 +0000] "GET /p HTTP/1.0" 0 0 "-" "-" - - 0 1500000 0 0 -\n'
    )


def test_combinedFailure() -> None:
    """B7.3: a failure says whose and where."""
    line = lineOf(CombinedFormat(), settled(error=UpstreamTimeout("connect", Stage.CONNECT)), NOW)
    assert line.endswith(b" 0 0 upstream/connect\n")


def test_stamp() -> None:
    """B10.4: the time moves on."""
    lines = CombinedFormat()
    assert b"08:49:37 +0000" in lineOf(lines, settled(), NOW)
    assert b"08:49:38 +0000" in lineOf(lines, settled(), NOW + 1)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (b"plain ~!", b"plain ~!"),
        (b'a"b', b"a\\x22b"),
        (b"a\\b", b"a\\x5cb"),
        (b"a\r\nb\x00\x7f", b"a\\x0d\\x0ab\\x00\\x7f"),
        (b"\xc3\xa4", b"\\xc3\\xa4"),
    ],
)
def test_escaped(value: bytes, line: bytes) -> None:
    """B10.4: what could end a quoted field, a line, or confuse a terminal is written as Apache and nginx write it."""
    assert escaped(value) == line


def test_injection() -> None:
    """B10.4: no request can forge a line, not even one that was refused as it stood."""
    evil = b'/"\n10.0.0.1 - - [x] "GET /forged HTTP/1.1" 200'
    inbound = Request(Peer("192.0.2.1"), b'G"\r\n', evil, 1, [], [], [])
    record = settled(inbound)
    line = lineOf(CombinedFormat(), record, NOW)
    assert line.count(b"\n") == 1
    assert line.count(b'"') == 6
    assert b'"G\\x22\\x0d\\x0a /\\x22\\x0a10.0.0.1' in line
    decoded = lineOf(JSONFormat(), record, NOW)
    assert decoded.count(b"\n") == 1
    assert json.loads(decoded)["target"] == evil.decode()


@pytest.mark.parametrize("field", [b"User-Agent", b"Referer"])
def test_fieldInjection(field: bytes) -> None:
    """B10.4: nor any header field."""
    record = settled(b"GET / HTTP/1.1\r\nHost: x\r\n" + field + b': a" "b\x85')
    line = lineOf(CombinedFormat(), record, NOW)
    assert line.count(b'"') == 6
    assert b'a\\x22 \\x22b\\x85"' in line


@pytest.mark.parametrize("evil", [b'"', b"\\", b"\n", b"\r", b"\x00", b"\x7f", b"\xff", b'""""""\n'])
@pytest.mark.parametrize("fact", ["method", "target", "requestID", "agent", "referer"])
def test_oneInABatch(fact: str, evil: bytes) -> None:
    """B10.4: what has to be escaped is, wherever it stands in a batch, and the lines around it are as they were."""

    def linesWith(value: bytes) -> bytes:
        record = settled()
        if fact in ("agent", "referer"):
            record.fields = [*record.fields, (USER_AGENT if fact == "agent" else REFERER, True, b"", value, None)]
        else:
            setattr(record, fact, value)
        return CombinedFormat().lines([settled(), record, settled()], NOW)

    assert linesWith(evil) == linesWith(b"EVIL").replace(b"EVIL", escaped(evil))


def test_onlyField() -> None:
    """B10.4: a request of HTTP/1.0 need not have a Host, and a program that sends none still has a name."""
    record = settled(b"GET /p HTTP/1.0\r\nUser-Agent: curl/8")
    assert b' "-" "curl/8" ' in lineOf(CombinedFormat(), record, NOW)


def test_json() -> None:
    """B10.4: everything that is known, one object per line."""
    record = settled(
        b"GET /\xe4 HTTP/1.1\r\nHost: front.test\r\nUser-Agent: \xff",
        upstream="origin.test:80",
        tries=1,
        reused=True,
        requestBytes=3,
        responseBytes=5,
        responded=101.0,
        client="198.51.100.9",
    )
    line = lineOf(JSONFormat(), record, NOW)
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "time": NOW,
        "client": "198.51.100.9",
        "peer": "192.0.2.1",
        "method": "GET",
        "target": "/\xe4",
        "version": "1.1",
        "host": "front.test",
        "status": 200,
        "request_bytes": 3,
        "response_bytes": 5,
        "referer": None,
        "user_agent": "\xff",
        "request_id": "id-1",
        "upstream": "origin.test:80",
        "tries": 1,
        "reused": True,
        "tunnel": False,
        "total": 1.5,
        "direct": 0.0,
        "connect": 0.0,
        "wait": 1.0,
        "body": 0.5,
    }


def test_jsonFailure() -> None:
    """B7.3: a failure says all that there is to say."""
    line = lineOf(JSONFormat(), settled(error=UpstreamTimeout("connect", Stage.CONNECT)), NOW)
    assert json.loads(line)["error"] == {
        "side": "upstream",
        "stage": "connect",
        "sent": "nothing",
        "timeout": "connect",
        "reason": "the upstream took longer than the limit 'connect'",
    }


def test_formats() -> None:
    """B10.4: the names that the command knows them by."""
    assert {"combined": CombinedFormat, "json": JSONFormat} == FORMATS


# -- the file


def test_batches(tmp_path: Path) -> None:
    """B10.4: lines are written when there are enough of them, or when a second has passed."""
    clock = Clock()
    path = tmp_path / "access.log"
    log = AccessLog(str(path), Lines(), clock)
    assert verifyObject(IObserver, log)
    for _ in range(BATCH - 1):
        log.exchangeSettled(settled())
    assert path.read_bytes() == b""
    log.exchangeSettled(settled())
    assert path.read_bytes() == b"/p\n" * BATCH
    clock.advance(DELAY)
    log.exchangeSettled(settled())
    clock.advance(DELAY - 0.1)
    assert path.read_bytes() == b"/p\n" * BATCH
    clock.advance(0.1)
    assert path.read_bytes() == b"/p\n" * (BATCH + 1)
    log.close()


def test_wallClock(tmp_path: Path) -> None:
    """B10.4: a line says when its exchange ended, whenever it is written."""
    clock = Clock()
    clock.advance(101.5)
    path = tmp_path / "access.log"
    log = AccessLog(str(path), CombinedFormat(), clock, lambda: NOW + clock.seconds() - 101.5)
    log.exchangeSettled(settled())
    clock.advance(DELAY)
    log.close()
    assert b"[06/Nov/1994:08:49:37 +0000]" in path.read_bytes()


def test_close(tmp_path: Path) -> None:
    """B10.4: nothing is lost at the end, and no timer left behind; closing twice does no harm."""
    clock = Clock()
    path = tmp_path / "access.log"
    path.write_bytes(b"before\n")
    log = AccessLog(str(path), Lines(), clock)
    log.exchangeSettled(settled())
    log.close()
    log.close()
    log.reopen()
    assert path.read_bytes() == b"before\n/p\n"
    assert clock.getDelayedCalls() == []


def test_reopen(tmp_path: Path) -> None:
    """B10.4: after a rotation lines go to the new file, and what waited went to the old one."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(str(path), Lines(), Clock())
    log.exchangeSettled(settled())
    path.rename(old)
    log.reopen()
    log.exchangeSettled(settled(b"GET /new HTTP/1.1\r\nHost: x"))
    log.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"/p\n", b"/new\n")


def test_reopenFails(tmp_path: Path, warnings: list[str]) -> None:
    """B10.4: if the new file cannot be opened the old one is written on, and that is said."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    log = AccessLog(str(path), Lines(), Clock())
    folder.rename(tmp_path / "moved")
    log.reopen()
    log.exchangeSettled(settled())
    log.close()
    assert (tmp_path / "moved" / "access.log").read_bytes() == b"/p\n"
    assert len(warnings) == 1
    assert "cannot be reopened" in warnings[0]


def test_cannotOpen(tmp_path: Path) -> None:
    """B10.3: a file that cannot be opened is an error at the start."""
    with pytest.raises(FileNotFoundError):
        AccessLog(str(tmp_path / "missing" / "access.log"), Lines(), Clock())


def test_cannotWrite(warnings: list[str]) -> None:
    """B10.4: a full disk costs lines and no exchange; it is said once, and again when it happens again."""
    clock = Clock()
    log = AccessLog("/dev/full", Lines(), clock)
    for _ in range(3):
        log.exchangeSettled(settled())
        clock.advance(DELAY)
    assert len(warnings) == 1
    assert "/dev/full cannot be written" in warnings[0]
    full, log._fd = log._fd, os.open("/dev/null", os.O_WRONLY)
    log.exchangeSettled(settled())
    clock.advance(DELAY)
    os.close(log._fd)
    log._fd = full
    log.exchangeSettled(settled())
    clock.advance(DELAY)
    assert len(warnings) == 2
    log.close()


def test_standardOutput(capfd: pytest.CaptureFixture[str]) -> None:
    """B10.4: standard output is the default, which is not closed or reopened."""
    log = AccessLog(None, Lines(), Clock())
    log.exchangeSettled(settled())
    log.reopen()
    log.exchangeSettled(settled())
    log.close()
    os.write(1, b"still open\n")
    assert capfd.readouterr().out == "/p\n/p\nstill open\n"


def test_standardOutputBehindALog(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """B10.4: standard output is what it was before C{twisted.logger}, once it began, took its place for C{print}."""
    monkeypatch.setattr(sys, "stdout", LoggingFile(Logger(observer=lambda event: None)))
    log = AccessLog(None, Lines(), Clock())
    log.exchangeSettled(settled())
    log.close()
    assert capfd.readouterr().out == "/p\n"


def test_readerThatStops() -> None:
    """B7.4: whoever does not read what is written to it costs log lines, and never an exchange."""
    reader, writer = os.pipe()
    try:
        log = AccessLog(f"/dev/fd/{writer}", CombinedFormat(), Clock())
        for _ in range(40):
            for _ in range(100):
                log.exchangeSettled(settled())
            log.flush()
        written = 0
        os.set_blocking(reader, False)
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(reader, 65536):
                written += len(piece)
        assert 32768 <= written <= 65536
        log.exchangeSettled(settled())
        log.flush()
        assert os.read(reader, 65536).endswith(b"\n")
        log.close()
    finally:
        os.close(reader)
        os.close(writer)
