"""One clock for several processes, kept in a small file, so that ten minutes take no time.

The first number is added to everybody's time: it moves merchants and platform together. The others
are what one merchant's wall clock is wrong by.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import Final

from attrs import define, field

from wxpay_async.engine.clock import Clock

_NUMBER: Final = struct.Struct("d")
_WORKERS: Final = 8


@define(eq=False)
class Timepiece:
    """The file, mapped. Every process opens its own.

    Args:
        path: where it is; made when it is missing.
    """

    path: Path
    _map: mmap.mmap = field(init=False)

    def __attrs_post_init__(self) -> None:
        if not self.path.exists():
            self.path.write_bytes(bytes(_NUMBER.size * (1 + _WORKERS)))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def ahead(self) -> float:
        """Return the seconds by which everybody is ahead of the machine."""
        return float(_NUMBER.unpack_from(self._map, 0)[0])

    def advance(self, seconds: float) -> None:
        """Let time pass for everybody."""
        _NUMBER.pack_into(self._map, 0, self.ahead() + seconds)

    def skew(self, worker: int) -> float:
        """Return the seconds by which a merchant's wall clock is wrong."""
        return float(_NUMBER.unpack_from(self._map, _NUMBER.size * (1 + worker))[0])

    def shift(self, worker: int, seconds: float) -> None:
        """Put a merchant's wall clock wrong by so many seconds."""
        _NUMBER.pack_into(self._map, _NUMBER.size * (1 + worker), seconds)

    def time(self) -> float:
        """Return the platform's time, in seconds since the epoch."""
        return time.time() + self.ahead()


@define(eq=False)
class MerchantClock(Clock):
    """What one merchant's process takes for the time."""

    timepiece: Timepiece
    worker: int

    def time(self) -> float:
        """Return wall-clock seconds, wrong by the worker's skew."""
        return self.timepiece.time() + self.timepiece.skew(self.worker)

    def monotonic(self) -> float:
        """Return seconds that only grow; a skew of the wall clock does not touch them."""
        return time.monotonic() + self.timepiece.ahead()
