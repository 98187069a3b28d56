# -*- test-case-name: tests.workers -*-
"""
Several processes that serve one set of ports, so that a proxy can use more than one core.

B{Theory of operation.}  A I{supervisor} opens the listening sockets and never accepts.  It starts I{workers}: fresh
Python interpreters, each of which is a whole proxy, and inherits the sockets.  Every worker has a I{slot}, and every
slot has a socket of its own for each TCP port (C{SO_REUSEPORT}), between which the kernel spreads connections.  As the
supervisor holds the sockets, what waits in a slot's queue waits for the slot and not for one process:

 - When a worker dies, only the connections that it had accepted are lost.  Another worker accepts for its slot until
   there is a new one.
 - In a rolling restart the new worker of a slot accepts from the same queue before the old one begins to drain.

Supervisor and worker speak over two pipes (L{twistproxy.workers.protocol}).  The end of its pipe tells a worker that
the supervisor is gone.  Counts and log events go up, orders go down.

Who has a proxy of their own runs it in this way with two programs::

    # worker.py
    from twistproxy.workers import run
    run(lambda reactor: ReverseProxy(direct, reactor=reactor))

    # in the service that supervises
    WorkerSupervisor(reactor, [sys.executable, "worker.py"], ["tcp:8080"], workers=4).startService()
"""

from __future__ import annotations

from twistproxy.workers.child import run
from twistproxy.workers.slots import RestartPolicy
from twistproxy.workers.supervisor import WorkerSupervisor

__all__ = ["RestartPolicy", "WorkerSupervisor", "run"]
