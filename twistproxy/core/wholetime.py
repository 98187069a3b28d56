"""
The limit on an exchange as a whole (B9).
"""

from __future__ import annotations

from collections.abc import Callable

from twistproxy.deadlines import IWheelLike, Timed
from twistproxy.errors import ProxyError, Sent, Stage, UpstreamTimeout


class WholeTime(Timed):
    """
    Breaks an exchange when its time is up.
    """

    limitName = "exchange"

    __slots__ = ("_broken", "_sent", "_stage", "_wheel")

    def __init__(
        self,
        broken: Callable[[ProxyError], None],
        stage: Callable[[], Stage],
        sent: Callable[[], Sent],
        wheel: IWheelLike,
    ) -> None:
        """
        @param broken: told of it.
        @param stage: says how far the exchange has come.
        @param sent: says what of its request was sent.
        @param wheel: where this is scheduled.
        """
        super().__init__()
        self._broken = broken
        self._stage = stage
        self._sent = sent
        self._wheel = wheel

    @property
    def wheel(self) -> IWheelLike:
        """
        See L{Timed.wheel<twistproxy.deadlines.Timed>}.
        """
        return self._wheel

    def timedOut(self) -> None:
        """
        See L{Timed.timedOut<twistproxy.deadlines.Timed>}.
        """
        self._broken(UpstreamTimeout("exchange", self._stage(), self._sent()))

    def cancel(self) -> None:
        """
        The exchange is over.
        """
        self._wheel.cancel(self)
