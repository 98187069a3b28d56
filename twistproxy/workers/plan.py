# -*- test-case-name: tests.workers.test_plan -*-
"""
What a worker is told when it is started: in one variable of its environment, so that its command line is its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping
from typing import Any

import attrs

from twistproxy.workers.protocol import VERSION
from twistproxy.workers.sockets import Share

#: The variable.
VARIABLE = "TWISTPROXY_WORKER"

#: In a worker: the pipe to the supervisor, the pipe from it, and the first of the listening sockets.
TO_SUPERVISOR, FROM_SUPERVISOR, FIRST_SOCKET = 3, 4, 5


class NoWorker(Exception):
    """
    This process is no worker; the text says what to do.
    """


@attrs.frozen(kw_only=True)
class WorkerPlan:
    """
    Who a worker is, and what it has.

    @ivar slot: its slot, from 0.
    @ivar slots: how many there are.
    @ivar first: whether no other had this slot before.
    @ivar reactor: the module whose C{install} makes the reactor.
    @ivar level: the least level of log events that the supervisor wants.
    @ivar grace: how long running exchanges may take when it drains, in seconds.
    @ivar endpoints: what to listen on.
    @ivar shares: the sockets for that.
    """

    slot: int
    slots: int
    first: bool
    reactor: str
    level: str
    grace: float
    endpoints: list[str]
    shares: list[Share]

    def written(self) -> str:
        """
        @return: the variable's value.
        """
        return json.dumps({"v": VERSION, **attrs.asdict(self)}, separators=(",", ":"))

    @classmethod
    def taken(cls, environment: MutableMapping[str, str] = os.environ) -> WorkerPlan:
        """
        Read the plan and take it out of the environment: processes which this one starts are no workers.

        @raise NoWorker: if there is none.
        """
        text = environment.pop(VARIABLE, None)
        if text is None:
            raise NoWorker("this program is a worker and does not run alone; WorkerSupervisor starts it")
        data: dict[str, Any] = json.loads(text)
        version = data.pop("v", None)
        if version != VERSION:
            raise NoWorker(
                f"the supervisor speaks version {version} of the protocol, this worker {VERSION}: another release of "
                "twistproxy was installed; restart the whole"
            )
        data["shares"] = [Share(**share) for share in data["shares"]]
        return cls(**data)

    def share(self, endpoint: int, slot: int) -> Share | None:
        """
        @return: the socket of an endpoint for a slot; C{None} if that slot has none of its own.
        """
        mine = None
        for share in self.shares:
            if share.endpoint == endpoint and (share.slot == slot or (share.slot is None and slot == self.slot)):
                mine = share
        return mine
