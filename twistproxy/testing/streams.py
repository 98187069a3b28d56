# -*- test-case-name: tests.test_testing -*-
"""
One direction of a connection in memory: how fast it goes, and what happens to it at which byte.

Everything is counted from the first byte of the connection, and from the point of view of the test's end, as
that is the end that misbehaves: it stops reading, sends nonsense, goes away.
"""

from __future__ import annotations

import enum
from bisect import insort
from typing import Any

from twistproxy.net.wheel import TICK

# Clocks count in binary fractions.  In bytes.
_EPSILON = 1e-6


class Fault(enum.Enum):
    """
    What can happen to a connection at a byte.
    """

    STALL = "stall"  #: nothing more passes
    CLOSE = "close"  #: the test's end closes its side: an end of file
    RESET = "reset"  #: the test's end resets the connection


class MemoryStream:
    """
    One direction of a L{MemoryTransport<twistproxy.testing.memory.MemoryTransport>}.

    The faults happen as soon as so many bytes have passed; C{0} is before the first one, and a number that
    has passed already means I{now}.  Several may be set.

    @ivar count: how many bytes have passed.
    @ivar stalled: whether nothing passes until this is set to C{False} again.
    """

    def __init__(self, clock: Any) -> None:
        """
        @param clock: what time it is; a provider of L{IReactorTime<twisted.internet.interfaces.IReactorTime>}.
        """
        self.count = 0
        self.stalled = False
        self._clock = clock
        self._faults: list[tuple[int, str, Fault]] = []
        self._masks: dict[int, int] = {}
        self._rate: float | None = None
        self._credit = 0.0
        self._looked = 0.0

    def __repr__(self) -> str:
        said = [f"{self.count} bytes"]
        if self._rate is not None:
            said.append(f"{self._rate:g} bytes/s")
        if self.stalled:
            said.append("stalled")
        said += [f"{name} at {position}" for position, name, _ in self._faults]
        return f"<MemoryStream {', '.join(said)}>"

    @property
    def rate(self) -> float | None:
        """
        Bytes per second, or C{None} for all at once.  What was not used does not add up for more than a tenth
        of a second.
        """
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate is a positive number of bytes per second, not {rate!r}; set stalled to stop it")
        self._rate = rate
        self._credit = 0.0
        self._looked = self._clock.seconds()

    def stallAt(self, byte: int) -> None:
        """
        Let nothing pass once so many bytes have.
        """
        self._add(byte, Fault.STALL)

    def closeAt(self, byte: int) -> None:
        """
        Half-close: the test's end closes its sending side once so many bytes have passed.  What it had still
        to send in this direction is lost.
        """
        self._add(byte, Fault.CLOSE)

    def resetAt(self, byte: int) -> None:
        """
        Reset the connection once so many bytes have passed.
        """
        self._add(byte, Fault.RESET)

    def corruptAt(self, byte: int, mask: int = 0xFF) -> None:
        """
        Change a byte on its way.

        @param byte: its number; 0 is the first one of the connection.
        @param mask: which of its bits are turned round, 1 to 255.
        @raise ValueError: if it has passed already.
        """
        if byte < self.count or not 0 < mask < 256:
            raise ValueError(f"cannot corrupt byte {byte} with {mask:#x}: {self.count} bytes have passed")
        self._masks[byte] = mask

    def _add(self, byte: int, fault: Fault) -> None:
        if byte < 0:
            raise ValueError(f"bytes are counted from 0, not {byte}")
        insort(self._faults, (byte, fault.value, fault))

    # -- for the transport

    def due(self) -> Fault | None:
        """
        @return: the fault that happens now, if there is one; it is forgotten.
        """
        if self._faults and self._faults[0][0] <= self.count:
            return self._faults.pop(0)[2]
        return None

    def room(self, waiting: int) -> int:
        """
        @return: how many of so many waiting bytes may pass now.
        """
        if self.stalled:
            return 0
        if self._faults:
            waiting = min(waiting, self._faults[0][0] - self.count)
        if self._rate is not None:
            now = self._clock.seconds()
            depth = max(1.0, self._rate * TICK)
            self._credit = min(depth, self._credit + (now - self._looked) * self._rate)
            self._looked = now
            waiting = min(waiting, int(self._credit + _EPSILON))
        return waiting

    def passing(self, data: bytes) -> bytes:
        """
        Count bytes that pass.

        @return: what arrives of them.
        """
        if self._masks:
            changed = bytearray(data)
            for position in [each for each in self._masks if each < self.count + len(data)]:
                changed[position - self.count] ^= self._masks.pop(position)
            data = bytes(changed)
        self.count += len(data)
        if self._rate is not None:
            self._credit -= len(data)
        return data
