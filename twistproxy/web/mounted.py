# -*- test-case-name: tests.web.test_tree -*-
"""
Resources that take an exchange as it is.

Under a L{ProxySite<twistproxy.proxy.ProxySite>} such a resource is given the exchange of our own wire when the head of
a request is here: no C{twisted.web.server.Request} stands between it and the connection, so its bodies stream both
ways, with interim responses, trailers and upgrades.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import Interface


class IExchangeResource(Interface):
    """
    Marks a resource that takes exchanges.
    """

    def enter(exchange: Any, prepath: Sequence[bytes]) -> Any:
        """
        Take over C{exchange}: it will be answered, or aborted, exactly once.  Returns at once.

        @type exchange: L{Exchange<twistproxy.core.exchange.Exchange>}
        @param prepath: the segments of the request's path that led here.
        @return: as from L{IResponder.respond<twistproxy.interfaces.IResponder>}.
        """
