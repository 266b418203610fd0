"""A store in memory whose methods fail when a test says so."""

from __future__ import annotations

from attrs import define, field

from wxpay_async.adapters.stores.inbox import Receipt
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import NotSentError
from wxpay_async.policy.record import IdempotencyRecord


@define(eq=False)
class FlakyStore(MemoryStore):
    """Raises from the methods that are named in `failing`."""

    failing: set[str] = field(factory=set)
    error: Exception = field(factory=lambda: NotSentError("the store is away"))

    async def begin(self, message: str, *, now: float, lease: float = 45.0) -> Receipt:
        """Acquire a callback."""
        self._fail("begin")
        return await super().begin(message, now=now, lease=lease)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Load a record."""
        self._fail("load")
        return await super().load(key)

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Find what is open."""
        self._fail("find_open")
        return await super().find_open(app_key, out_trade_no)

    async def complete(self, message: str, *, now: float) -> None:
        """Record a callback as done."""
        self._fail("complete")
        await super().complete(message, now=now)

    async def release(self, message: str) -> None:
        """Release a callback."""
        self._fail("release")
        await super().release(message)

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise self.error
