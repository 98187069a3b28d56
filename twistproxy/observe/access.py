# -*- test-case-name: tests.observe.test_access -*-
"""
The access log: one line per exchange, written in batches.

Records are kept until there are enough of them or a second has passed, and then formatted and written in one go: in the
middle of an exchange the same formatting takes three times as long, because nothing of it is in the processor's caches.
Whatever a client sent is escaped, so that no request can forge a line.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from io import UnsupportedOperation
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import IObserver
from twistproxy.observe.lines import LineWriter, mayBlock
from twistproxy.rules.fields import REFERER, USER_AGENT

#: Lines that are written together, at most.
BATCH = 256
#: How long a line may wait, in seconds.
DELAY = 1.0

_UNSAFE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_unsafe = _UNSAFE.search
_SAFE = bytes(byte for byte in range(256) if not _UNSAFE.match(bytes((byte,))))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def escaped(value: bytes) -> bytes:
    """
    @return: C{value} fit to stand between quotes in a log line: C{\\xNN} for anything else, as Apache and nginx write
        it.
    """
    if _unsafe(value) is None:
        return value
    return _UNSAFE.sub(lambda match: b"\\x%02x" % match[0][0], value)


class CombinedFormat:
    """
    The combined format of Apache and nginx, with fields of ours behind it::

        client - - [time] "request" status bytes "referer" "user agent" id upstream tries total connect wait stage

    Times are in microseconds; C{stage} is C{-}, or C{side/stage} of a failure.
    """

    #: All that a line holds of what clients have no business to write.
    _MARKS = b'""""""\n'

    def __init__(self) -> None:
        self._second = -1
        self._stamp = b""

    def lines(self, records: Sequence[ExchangeRecord], epoch: float) -> bytes:
        """
        @param epoch: the time that their clock calls zero, in seconds since the epoch.
        @return: a line for each exchange, with its line end.
        """
        # Hardly anybody ever sends what has to be escaped, so that is looked for in all of them at once.
        text = b"".join([self._line(record, epoch) for record in records])
        if text.translate(None, _SAFE) == self._MARKS * len(records):
            return text
        return b"".join([self._line(record, epoch, escaped) for record in records])

    def _line(
        self, record: ExchangeRecord, epoch: float, escape: Callable[[bytes], bytes] | None = None
    ) -> bytes:
        """
        @param escape: makes what a client sent fit to stand between quotes; C{None} to see whether it has to.
        """
        second = int(epoch + record.ended)
        if second != self._second:
            self._second = second
            year, month, day, hour, minute, sec, _, _, _ = time.gmtime(second)
            stamp = f"{day:02}/{_MONTHS[month - 1]}/{year}:{hour:02}:{minute:02}:{sec:02} +0000"
            self._stamp = stamp.encode("ascii")
        method, target, requestID = record.method, record.target, record.requestID
        referer = agent = b""
        for kind, _, _, value, _ in record.fields:
            if kind == USER_AGENT:
                agent = value
            elif kind == REFERER:
                referer = value
        if escape is not None:
            method, target, requestID = escape(method), escape(target), escape(requestID)
            referer, agent = escape(referer), escape(agent)
        error = record.error
        started, connected, responded = record.started, record.connected, record.responded
        # microseconds, as integers: formatting a float costs four times as much
        return b'%b - - [%b] "%b %b HTTP/1.%d" %d %d "%b" "%b" %b %b %d %d %d %d %b\n' % (
            record.client.encode() or b"-",
            self._stamp,
            method,
            target,
            record.minor,
            record.status,
            record.responseBytes,
            referer or b"-",
            agent or b"-",
            requestID or b"-",
            record.upstream.encode() or b"-",
            record.tries,
            (record.ended - started) * 1e6,
            record.connectSeconds * 1e6 if connected else 0,
            (responded - (connected or record.directed or started)) * 1e6 if responded else 0,
            b"-" if error is None else f"{error.side.value}/{error.stage.value}".encode("ascii"),
        )


class JSONFormat:
    """
    One JSON object per line.  All strings are escaped by JSON itself; bytes beyond ASCII are read as Latin-1.
    """

    def lines(self, records: Sequence[ExchangeRecord], epoch: float) -> bytes:
        """
        @param epoch: the time that their clock calls zero, in seconds since the epoch.
        @return: a line for each exchange, with its line end.
        """
        return b"".join([self._line(record, epoch + record.ended) for record in records])

    def _line(self, record: ExchangeRecord, ended: float) -> bytes:
        fields: dict[str, Any] = {
            "time": round(ended, 6),
            "client": record.client,
            "peer": record.peer,
            "method": record.method.decode("latin-1"),
            "target": record.target.decode("latin-1"),
            "version": f"1.{record.minor}",
            "host": record.host.decode("latin-1"),
            "status": record.status,
            "request_bytes": record.requestBytes,
            "response_bytes": record.responseBytes,
            "referer": _text(record.field(REFERER)),
            "user_agent": _text(record.field(USER_AGENT)),
            "request_id": record.requestID.decode("latin-1"),
            "upstream": record.upstream,
            "tries": record.tries,
            "reused": record.reused,
            "tunnel": record.tunnelled,
            "total": round(record.total, 6),
            "direct": round(record.directSeconds, 6),
            "connect": round(record.connectSeconds, 6),
            "wait": round(record.waitSeconds, 6),
            "body": round(record.bodySeconds, 6),
        }
        error = record.error
        if error is not None:
            fields["error"] = {
                "side": error.side.value,
                "stage": error.stage.value,
                "sent": error.sent.value,
                "timeout": error.timeout,
                "reason": error.reason,
            }
        return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


FORMATS: dict[str, Callable[[], Any]] = {"combined": CombinedFormat, "json": JSONFormat}


@implementer(IObserver)
class AccessLog:
    """
    Writes the lines to a file or to standard output.

    @ivar writer: writes them.
    """

    _log = Logger()

    def __init__(
        self, path: str | None, format: Any, clock: IReactorTime, wallClock: Callable[[], float] = time.time
    ) -> None:
        """
        @param path: the file, appended to; C{None} for standard output.
        @param format: has C{lines(records, epoch)}.
        @param clock: measures how long a record waits; the clock of the records.
        @param wallClock: seconds since the epoch.
        @raise OSError: if the file cannot be opened.
        """
        self._path = path
        self._lines: Callable[[Sequence[ExchangeRecord], float], bytes] = format.lines
        self._clock = clock
        self._wallClock = wallClock
        self._records: list[ExchangeRecord] = []
        self._timer: Any = None
        self._failed = False
        self._fd = -1
        self.writer = LineWriter()
        self._open()

    def exchangeSettled(self, record: ExchangeRecord) -> None:
        """
        See L{IObserver.exchangeSettled<twistproxy.interfaces.IObserver>}.
        """
        records = self._records
        records.append(record)
        if len(records) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(DELAY, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """
        Write what waits.  A file that cannot be written costs its lines, said once, and never an exchange.
        """
        records, self._records = self._records, []
        if not records:
            return
        epoch = self._wallClock() - self._clock.seconds()
        try:
            text = self._lines(records, epoch)
        except Exception:
            text = b"".join([self._formatted(record, epoch) for record in records])
        try:
            self.writer.write(self._fd, text, self._mayBlock)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._failed = True
                path = self._path or "on standard output"
                self._log.warn("the access log {path} cannot be written: {error}", path=path, error=str(error))

    def _formatted(self, record: ExchangeRecord, epoch: float) -> bytes:
        """
        @return: the line of one exchange; nothing if its format fails on it, which must not cost the others theirs.
        """
        try:
            return self._lines([record], epoch)
        except Exception:
            self._log.failure("the access log's format failed on {record}", record=record)
            return b""

    def reopen(self) -> None:
        """
        Write to the file of that name from now on: for log rotation (C{kill -USR1}).
        """
        self.flush()
        if self._path is not None and self._fd >= 0:
            old = self._fd
            try:
                self._open()
            except OSError as error:
                self._log.warn("the access log {path} cannot be reopened: {error}", path=self._path, error=str(error))
            else:
                os.close(old)

    def close(self) -> None:
        """
        Write what waits, and be done.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._path is None:
            try:
                self._fd = sys.stdout.fileno()
            except UnsupportedOperation:
                # a log that has begun puts something of its own in the place of sys.stdout
                if sys.__stdout__ is None:
                    raise
                self._fd = sys.__stdout__.fileno()
        else:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        # A reader of a pipe or a terminal that stops reading must not stop the proxy.
        self._mayBlock = mayBlock(self._fd)
