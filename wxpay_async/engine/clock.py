"""Tell the time: this machine's, and the platform's. Tests move both."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from attrs import define

from wxpay_async.adapters.stores.store import IdempotencyStore


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
class StoreClock(Clock):
    """The clock of the store's server, which all processes that share it have in common.

    A host whose own clock is ahead would else take over what another host still sends.

    Args:
        clock: this machine's.
        store: knows how far its server is ahead of it. Until it was opened, this machine's counts.
    """

    clock: Clock
    store: IdempotencyStore

    def time(self) -> float:
        """Return seconds since the epoch by the store's clock."""
        return self.clock.time() + (self.store.ahead or 0.0)

    def monotonic(self) -> float:
        """Return this machine's seconds that only grow."""
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.clock.sleep(seconds)


@define(eq=False)
class PlatformTime:
    """The platform's time: the gateway's clock, corrected only by proof of a skew.

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
