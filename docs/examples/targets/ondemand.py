"""
A program that is started by the first request, and ended when nobody has used it for five minutes.
"""

import sys

from twisted.internet import reactor

from twistproxy import ProxySite, ReverseProxy
from twistproxy.targets import ProcessTarget, Supervision

program = ProcessTarget(
    [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"],
    cwd="public",
    supervision=Supervision(idle=300),
)

ProxySite(ReverseProxy.to(program)).listen("tcp:8080")
reactor.run()
