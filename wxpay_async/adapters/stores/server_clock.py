"""Know the time by the clock of a store's server, which all of its processes share.

A lease that one host grants is judged by others. Were each to judge it by its own clock, a host
that is ahead would take over what is still being sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from attrs import define, field

MEASURED_FOR: Final = 600.0
"""Seconds until the server's clock is looked at again: two clocks part by some ms in that time."""


@define(eq=False)
class ServerClock:
    """The difference between the server's clock and this host's.

    It is held against the host's monotonic clock: a step of the host's time changes nothing.

    Args:
        wall: seconds since the epoch, by this host.
        monotonic: seconds, by a clock that is never set.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _zero: float | None = field(default=None, init=False)
    _measured_at: float = field(default=0.0, init=False)

    def measured(self, before: float, after: float, server: float) -> None:
        """Take note of what the server's clock showed.

        Args:
            before: the monotonic time when the server was asked.
            after: the monotonic time when its answer came.
            server: seconds since the epoch, by the server.
        """
        self._zero = server - (before + after) / 2
        self._measured_at = after

    @property
    def ahead(self) -> float | None:
        """Seconds by which the server's clock is ahead of this host's; None if it is not known."""
        if self._zero is None:
            return None
        return self._zero + self.monotonic() - self.wall()

    @property
    def stale(self) -> bool:
        """Whether it is time to measure."""
        return self._zero is None or self.monotonic() - self._measured_at > MEASURED_FOR
