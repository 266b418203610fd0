"""Load the progress of orders from a store and change it, though answers and races are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, frozen

from wxpay_async.adapters.stores.inbox import Inbox
from wxpay_async.engine.clock import Clock
from wxpay_async.errors import InDoubtError
from wxpay_async.policy.progress import Obstacle, Progress

TRIES: Final = 5
"""How often a change is tried, in all. Each try that is lost to another process is its progress."""


@frozen
class Stored:
    """The progress of an order, as it was read or written.

    Attributes:
        key: of its entry.
        version: of its entry; None if there is none.
        progress: what it says.
    """

    key: str
    version: int | None
    progress: Progress


@define(eq=False)
class OrderInbox:
    """The progress of orders in a store.

    Args:
        inbox: where it is kept.
        clock: says when an entry is changed.
    """

    inbox: Inbox
    clock: Clock

    async def load(self, key: str) -> Stored:
        """Read an order's progress.

        Raises:
            NotSentError: the store cannot be reached, or the entry cannot be read.
        """
        entry = (await self.inbox.load_entries([key])).get(key)
        if entry is None:
            return Stored(key, None, Progress())
        return Stored(key, entry.version, Progress.decode(entry.value))

    async def change(
        self, stored: Stored, step: Callable[[Progress], Progress | Obstacle]
    ) -> Stored | Obstacle:
        """Take a step of an order's progress, and write it.

        If another process changed the order meanwhile, or the answer got lost, the order is read
        again, and the step taken again. A step that was written already changes nothing more.

        Args:
            stored: the progress as the caller knows it.
            step: returns what the progress becomes, or why it stays as it is.

        Raises:
            NotSentError, InDoubtError: the store cannot be reached. The step may have been written.
        """
        lost: InDoubtError | None = None
        for attempt in range(TRIES):
            if attempt:
                stored = await self.load(stored.key)
            after = step(stored.progress)
            if isinstance(after, Obstacle):
                return after
            if after == stored.progress:
                return stored
            try:
                if await self._swap(stored, after):
                    return Stored(stored.key, (stored.version or 0) + 1, after)
            except InDoubtError as error:  # the next look tells whether it was written
                lost = error
        raise lost or InDoubtError("other processes change the order's callbacks all the time")

    async def _swap(self, stored: Stored, after: Progress) -> bool:
        return await self.inbox.swap(
            stored.key, version=stored.version, value=after.encode(), now=self.clock.time()
        )
