"""Keep operations and callbacks in this process."""

from __future__ import annotations

from collections import OrderedDict

import attrs
from attrs import define, field

from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Receipt
from wxpay_async.adapters.stores.store import DAY
from wxpay_async.policy.record import LEASE, OPEN, IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State

Ages = OrderedDict[tuple[str, str], float]
"""When each was last written, the oldest first."""


@define(eq=False)
class MemoryStore:
    """Keeps operations in this process; they are lost with it.

    Args:
        max_finished: how many finished operations are remembered.
        retention: seconds for which a finished operation is remembered.
        max_handled: how many notes of handled callbacks are remembered, two or so for each
            callback. The oldest go first, also before their 30 days are over: a callback that is
            sent again after that is handled again. A durable store keeps all of them.

    Only operations that are finished, or for which nothing was ever sent, are evicted: an open
    one must not be forgotten, or its requestId could be sent as if it were new.
    """

    max_finished: int = 10_000
    retention: float = DAY
    max_handled: int = 100_000
    durable: bool = field(default=False, init=False)
    _records: dict[tuple[str, str], IdempotencyRecord] = field(
        factory=dict[tuple[str, str], IdempotencyRecord], init=False
    )
    _finished: Ages = field(factory=Ages, init=False)
    _reserved: Ages = field(factory=Ages, init=False)
    _oldest_ends: float = field(default=0.0, init=False)
    # No limit: a callback in progress must not be forgotten, and receivers bound their number.
    _in_progress: dict[str, float] = field(factory=dict[str, float], init=False)
    _done: OrderedDict[str, float] = field(factory=OrderedDict[str, float], init=False)

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record unless its key exists; return what is stored now."""
        self._evict(record.created_at)
        known = self._records.get(record.key)
        if known is None:
            self._put(record)
        return known or record

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Claim the operation for one attempt."""
        record = self._records.get(key)
        if record is None or not record.claimable(now):
            return None
        claimed = record.claimed(now=now, signed_at=signed_at, lease=lease)
        self._put(claimed)
        return claimed

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record if its epoch is still the stored one."""
        stored = self._records.get(record.key)
        if stored is None or not stored.can_be_replaced_by(record):
            return False
        self._put(record)
        self._evict(record.updated_at)
        return True

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the record, None if there is none."""
        return self._records.get(key)

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tend an appKey's operations."""
        self._evict(now)
        mine = [record for record in self._records.values() if record.app_key == app_key]
        for record in mine:
            if record.state is State.SENDING and record.lease_until <= now:
                self._put(record.with_expired_lease(now))
        current = (self._records[record.key] for record in mine)
        waiting = [(r.next_check_at, r) for r in current if r.state in OPEN]
        due = [(at, record) for at, record in waiting if at is not None and at <= now]
        longest = [record for _, record in sorted(due, key=lambda pair: pair[0])[:limit]]
        for record in longest:
            self._put(attrs.evolve(record, next_check_at=now + LEASE))
        return longest

    async def begin(self, message: str, *, now: float, lease: float = LEASE) -> Receipt:
        """Acquire a callback for handling, unless it is done or in progress."""
        if self._done.get(message, now) > now:
            return Receipt.DONE
        if self._in_progress.get(message, now) > now:
            return Receipt.IN_PROGRESS
        self._in_progress[message] = now + lease
        return Receipt.ACQUIRED

    async def complete(self, message: str, *, now: float) -> None:
        """Note that the callback's effect has happened."""
        self._in_progress.pop(message, None)
        self._done[message] = now + INBOX_RETENTION
        self._done.move_to_end(message)
        while len(self._done) > self.max_handled:
            self._done.popitem(last=False)
        while self._done and next(iter(self._done.values())) <= now:
            self._done.popitem(last=False)

    async def release(self, message: str) -> None:
        """Let the callback be acquired again."""
        self._in_progress.pop(message, None)

    async def aclose(self) -> None:
        """Keep everything: a gateway that is opened again finds its operations."""

    def _put(self, record: IdempotencyRecord) -> None:
        key = record.key
        self._records[key] = record
        self._reserved.pop(key, None)
        if record.state in FINISHED:  # and stays so
            self._finished[key] = record.updated_at
            self._finished.move_to_end(key)
        elif record.evictable():
            self._reserved[key] = record.updated_at

    def _evict(self, now: float) -> None:
        if now < self._oldest_ends and len(self._finished) <= self.max_finished:
            return
        # By number only what is finished: a reserved record may be waiting for its first attempt.
        while len(self._finished) > self.max_finished:
            del self._records[self._finished.popitem(last=False)[0]]
        for ages in (self._finished, self._reserved):
            while ages and next(iter(ages.values())) <= now - self.retention:
                del self._records[ages.popitem(last=False)[0]]
        oldest = [next(iter(ages.values())) for ages in (self._finished, self._reserved) if ages]
        self._oldest_ends = min([now, *oldest]) + self.retention
