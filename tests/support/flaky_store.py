"""A store in memory whose methods fail when a test says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from attrs import define, field

from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.record import IdempotencyRecord


@define(eq=False)
class FlakyStore(MemoryStore):
    """Raises from the methods that are named in `failing`.

    Attributes:
        failing: methods that do nothing and raise.
        error: what they raise.
        losing: of how many swaps the answer gets lost: they are written, and raise.
        rivals: each is called once, just before a swap.
        calls: how often the inbox was read and written.
    """

    failing: set[str] = field(factory=set)
    error: Exception = field(factory=lambda: NotSentError("the store is away"))
    losing: int = 0
    rivals: list[Callable[[], Awaitable[object]]] = field(factory=list)
    calls: Counter[str] = field(factory=Counter)

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Load what callbacks have told."""
        self._fail("load_entries")
        self.calls["load_entries"] += 1
        return await super().load_entries(keys)

    async def swap(self, key: str, *, version: int | None, value: str, now: float) -> bool:
        """Write what a callback has told."""
        if self.rivals:
            await self.rivals.pop(0)()
        self._fail("swap")
        self.calls["swap"] += 1
        written = await super().swap(key, version=version, value=value, now=now)
        if self.losing:
            self.losing -= 1
            raise InDoubtError("the answer got lost")
        return written

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Load a record."""
        self._fail("load")
        return await super().load(key)

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Find what is open."""
        self._fail("find_open")
        return await super().find_open(app_key, out_trade_no)

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise self.error
