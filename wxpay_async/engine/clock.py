"""Tell the time: this machine's, and the platform's. Tests move both."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from attrs import define


class Clock:
    """The machine's clocks. Hand in another object with these methods to move time in a test."""

    def time(self) -> float:
        """Return wall-clock seconds since the epoch; may jump."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that only grow; every deadline counts by them."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@define(eq=False)
class PlatformTime:
    """The platform's time: the machine's clock, corrected only by proof of a skew.

    The one thing that moves it is the `Date` of a reply that says "expired": any other reply's
    `Date` may come from a cache or a gateway, and a wrong correction makes good requests expire.
    """

    clock: Clock
    offset: float = 0.0

    def milliseconds(self) -> int:
        """Return milliseconds since the epoch, the unit of the wire's `timestamp`."""
        return round((self.clock.time() + self.offset) * 1000)

    def learn(self, server_time: datetime) -> None:
        """Correct the offset (`money-safety.md` §4)."""
        self.offset = server_time.timestamp() - self.clock.time()
