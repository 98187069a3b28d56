"""Log to twisted.logger, as JSON: an event with fields for each exchange."""

import sys

from twisted.logger import Logger, jsonFileLogObserver

from twistproxy import ProxySite, ReverseProxy


def makeSite(reactor, origin="http://localhost:3000", output=sys.stdout):
    log = Logger(namespace="access", observer=jsonFileLogObserver(output, recordSeparator=""))

    def settled(record):
        log.info(
            "{method} {target} {status}",
            method=record.method.decode("latin-1"),
            target=record.target.decode("latin-1"),
            status=record.status,
            bytes=record.responseBytes,
            seconds=round(record.total, 6),
            upstream=record.upstream,
            requestID=record.requestID.decode("latin-1"),
            error=None if record.error is None else record.error.reason,
        )

    return ProxySite(ReverseProxy.to(origin, reactor=reactor), reactor=reactor, observers=[settled])
