"""
Twistproxy with a director that is a coroutine and waits for one turn of the reactor, as one that asks a database
would wait at least. Access log, counters, request id, Via, X-Forwarded-* and timeouts as in C{twist revproxy}.

Usage: twistproxyasync.py PORT ORIGINPORT LOG
"""

import gc
import sys

from twisted.internet import reactor
from twisted.internet.task import deferLater

from twistproxy import Limits, ProxyRequest, ReverseProxy, Timeouts
from twistproxy.net.network import Network
from twistproxy.observe.access import AccessLog, CombinedFormat
from twistproxy.service import ProxyService, ServiceParts

if __name__ == "__main__":
    port, originPort, log = sys.argv[1:]
    target = f"http://127.0.0.1:{originPort}"

    async def direct(request: ProxyRequest) -> None:
        """
        Wait a turn, and forward.
        """
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        request.setTarget(target)
        request.setXForwarded()

    network = Network.of(reactor)
    service = ProxyService(
        ServiceParts(
            network=network,
            proxy=ReverseProxy(direct, reactor=network),
            targets=(),
            listen=[f"tcp:{port}:interface=127.0.0.1"],
            timeouts=Timeouts(),
            limits=Limits(),
            access=AccessLog(log, CombinedFormat(), reactor),  # type: ignore[arg-type]
        )
    )
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()
    reactor.run()  # type: ignore[attr-defined]
