"""Delete old rows without keeping payments waiting.

Only one connection writes to a SQLite file at a time, and a row takes 0.1 to 0.8 ms to delete with
five million rows (measured). MariaDB and MySQL keep rows in the order of their keys, so that each
old row is on a page of its own: 1,000 in one statement held payments up for a second (measured).
PostgreSQL needs no portions: a statement there passes over all rows that were deleted since the
last vacuum, 8 ms for 400,000 of them, so a few large statements are better than many small ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from attrs import define, field
from sqlalchemy import Connection

Drop = Callable[[Connection], int]

_FEWEST: Final = 20
"""Rows in the first portion, and in one where everything is slow: with less none would get done."""

_MOST: Final = 500
_WANTED: Final = 0.005
"""Seconds for one portion. A payment may wait for two of them, and for their commits."""


@define(eq=False)
class Portions:
    """Deletes in portions that take about 5 ms, each in a transaction of its own.

    Args:
        monotonic: seconds that only grow.
    """

    monotonic: Callable[[], float] = time.monotonic
    _size: int = field(default=_FEWEST, init=False)

    async def forget(
        self,
        transact: Callable[[Callable[[Connection], int]], Awaitable[int]],
        drop: Callable[..., int],
        *,
        limit: int,
    ) -> int:
        """Delete up to `limit` rows; return how many.

        Args:
            transact: does work in a transaction.
            drop: deletes up to `limit` rows over a connection.
            limit: how many to delete.
        """
        dropped = 0
        while dropped < limit:
            size = min(self._size, limit - dropped)
            portion = _Portion(partial(drop, limit=size), self.monotonic)
            count = await transact(portion)
            took = self.monotonic() - portion.began
            dropped += count
            if count < size:
                break
            self._adjust(size, took)
            await asyncio.sleep(took)  # for other processes, which only ask now and then
        return dropped

    def _adjust(self, size: int, took: float) -> None:
        # Half as many after a very slow one, but only a quarter more after a quick one: to double
        # was to meet the next cold pages with twice the time that a portion may take.
        if took > 2 * _WANTED:
            self._size = max(size // 2, _FEWEST)
        elif took > _WANTED:
            self._size = max(size * 4 // 5, _FEWEST)
        elif size == self._size:  # a remainder says nothing of a whole portion
            self._size = min(size * 5 // 4, _MOST)


@define(eq=False)
class _Portion:
    """Deletes, and tells since when; what waited before that is no matter of its size."""

    drop: Drop
    monotonic: Callable[[], float]
    began: float = field(default=0.0, init=False)

    def __call__(self, connection: Connection) -> int:
        self.began = self.monotonic()
        return self.drop(connection)
