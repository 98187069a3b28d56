import sys
from pathlib import Path

from twisted.internet import reactor

from twistproxy.workers import WorkerSupervisor

reasons = []


def gaveUp(reason):
    reasons.append(reason)
    reactor.stop()


supervisor = WorkerSupervisor(
    reactor,
    [sys.executable, str(Path(__file__).with_name("worker.py"))],
    ["tcp:8080"],
    workers=2,
    gaveUp=gaveUp,
)
supervisor.startService()
supervisor.started.addCallback(lambda _: print("two workers are ready"))
reactor.addSystemEventTrigger("before", "shutdown", supervisor.stopService)
reactor.run()
sys.exit(reasons[0] if reasons else 0)
