import sys
from pathlib import Path

from twisted.internet import reactor

from twistproxy.workers import WorkerSupervisor

supervisor = WorkerSupervisor(
    reactor,
    [sys.executable, str(Path(__file__).with_name("worker.py"))],
    ["tcp:8080"],
    workers=2,
    gaveUp=lambda reason: sys.stderr.write(f"{reason}\n"),
)
supervisor.startService()
supervisor.started.addCallback(lambda _: print("two workers are ready"))
reactor.addSystemEventTrigger("before", "shutdown", supervisor.stopService)
reactor.run()
