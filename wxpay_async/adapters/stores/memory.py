"""Keep operations and callbacks in this process."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from attrs import define, field

from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Entry
from wxpay_async.adapters.stores.store import DAY, Key
from wxpay_async.policy.record import (
    LEASE,
    OPEN,
    UNDER_WAY,
    UNFINISHED,
    UPDATED_AT,
    IdempotencyRecord,
    Packed,
    evolve,
    pack,
    unpack,
)
from wxpay_async.policy.states import FINISHED, State


@define(eq=False)
class MemoryStore:
    """Keeps operations in this process; they are lost with it.

    Args:
        max_finished: how many finished operations are remembered, and how many besides that were
            never sent and that no call works on any more.
        retention: seconds for which a finished operation is remembered.
        max_handled: of how many orders and refunds the callbacks are remembered, far more than are
            handled at once. Those that were changed longest ago go first, also before their 30
            days are over: a callback that is sent again after that is handled again. A durable
            store keeps all of them.

    Only operations that are finished, or for which nothing was ever sent, are evicted: an open
    one must not be forgotten, or its requestId could be sent as if it were new.
    """

    max_finished: int = 10_000
    retention: float = DAY
    max_handled: int = 50_000
    durable: bool = field(default=False, init=False)
    ahead: float = field(default=0.0, init=False)
    _active: dict[tuple[str, str], IdempotencyRecord] = field(
        factory=dict[tuple[str, str], IdempotencyRecord], init=False, repr=False
    )
    # Packed, the oldest first, and never shown: unlike a record, a tuple hides no credential.
    # Thousands of objects would make every collection of garbage stop the event loop for as long
    # as dozens of payments take.
    _finished: OrderedDict[tuple[str, str], Packed] = field(
        factory=OrderedDict[tuple[str, str], Packed], init=False, repr=False
    )
    # Reservations that no call works on, the one that ended first at the front.
    _ended: OrderedDict[tuple[str, str], None] = field(
        factory=OrderedDict[tuple[str, str], None], init=False, repr=False
    )
    _evict_at: float = field(default=0.0, init=False)
    # Version, document and the time of the last change, the longest unchanged first. Tuples, as
    # above.
    _entries: OrderedDict[str, tuple[int, str, float]] = field(
        factory=OrderedDict[str, tuple[int, str, float]], init=False, repr=False
    )

    async def open(self) -> None:
        """Do nothing: there is nothing to reach."""

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record unless its key exists; return what is stored now."""
        if record.created_at >= self._evict_at:
            self._evict(record.created_at)
        key = record.key
        known = self._find(key)
        if known is None:
            self._active[key] = record
        else:
            self._ended.pop(key, None)
        return known or record

    def end_reservation(self, key: Key) -> None:
        """Note that no call works on an operation; if nothing was sent, it may be forgotten early.

        Without this, a call that gets no slot of the quota would be remembered for a day. Some are
        remembered all the same, since the person soon taps again: with other content that is a
        conflict. Forgetting one costs no more than that, for nothing of it is at the platform.
        """
        record = self._active.get(key)
        if record is None or not record.evictable():
            return
        self._ended[key] = None
        self._ended.move_to_end(key)
        if len(self._ended) > self.max_finished:
            oldest, _ = self._ended.popitem(last=False)
            record = self._active.get(oldest)
            if record is not None and record.evictable():  # it was not sent since then
                del self._active[oldest]

    async def claim(
        self,
        key: Key,
        *,
        now: float,
        signed_at: int,
        lease: float = LEASE,
        token: str | None = None,
    ) -> IdempotencyRecord | None:
        """Claim the operation for one attempt."""
        record = self._active.get(key)  # what is finished cannot be claimed
        if record is None:
            return None
        claimed = record.try_claim(now=now, signed_at=signed_at, lease=lease, token=token)
        if claimed is not None:
            self._active[key] = claimed
        return claimed

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record if its epoch is still the stored one."""
        stored = self._find(record.key)
        if stored is None or not stored.can_be_replaced_by(record):
            return False
        self._keep(record)
        return True

    async def load(self, key: Key) -> IdempotencyRecord | None:
        """Return the record, None if there is none."""
        return self._find(key)

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Return an appKey's open records that have this number."""
        mine = (record for record in self._active.values() if record.app_key == app_key)
        return [r for r in mine if r.out_trade_no == out_trade_no and r.state in UNDER_WAY]

    async def load_many(self, keys: Sequence[Key]) -> dict[Key, IdempotencyRecord]:
        """Return the records with these keys, without those that are absent."""
        found = ((key, self._find(key)) for key in keys)
        return {key: record for key, record in found if record is not None}

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Find what a query should be made for."""
        mine = [record for record in self._active.values() if record.app_key == app_key]
        for record in mine:
            if record.state is State.SENDING and record.lease_until <= now:
                self._active[record.key] = record.with_expired_lease(now)
        current = (self._active[record.key] for record in mine)
        waiting = [(r.next_check_at, r) for r in current if r.state in OPEN]
        due = [(at, record) for at, record in waiting if at is not None and at <= now]
        longest = [record for _, record in sorted(due, key=lambda pair: pair[0])[:limit]]
        for record in longest:
            self._active[record.key] = evolve(record, next_check_at=now + LEASE)
        return longest

    async def forget(self, app_key: str, now: float, *, limit: int = 1000) -> int:
        """Drop what is older than the retention; return how many were."""
        oldest = now - self.retention
        finished = itertools.takewhile(
            lambda item: item[1][UPDATED_AT] <= oldest, self._finished.items()
        )
        old = [key for key, _ in finished if key[0] == app_key]
        old += [
            key
            for key, record in self._active.items()
            if key[0] == app_key and record.evictable() and record.updated_at <= oldest
        ]
        for key in old[:limit]:
            self._finished.pop(key, None)
            self._active.pop(key, None)
        return len(old[:limit])

    async def list_open(
        self, app_key: str, *, after: str = "", limit: int = 100
    ) -> list[IdempotencyRecord]:
        """List an appKey's operations that are under way, in doubt, or wait for a person."""
        found = [
            record
            for (of, request_id), record in self._active.items()
            if of == app_key and request_id > after and record.state in UNFINISHED
        ]
        return sorted(found, key=lambda record: record.request_id)[:limit]

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of these keys."""
        found = ((key, self._entries.get(key)) for key in keys)
        return {key: Entry(*entry[:2]) for key, entry in found if entry is not None}

    async def swap(self, key: str, *, version: int | None, value: str, now: float) -> bool:
        """Write a document, if the stored entry is still the one that the caller knows."""
        stored = self._entries.get(key)
        if (stored and stored[0]) != version:
            return False
        self._entries[key] = ((version or 0) + 1, value, now)
        self._entries.move_to_end(key)
        self._forget_entries(now)
        return True

    async def aclose(self) -> None:
        """Keep everything: a gateway that is opened again finds its operations."""

    def _find(self, key: Key) -> IdempotencyRecord | None:
        record = self._active.get(key)
        if record is None and (packed := self._finished.get(key)) is not None:
            return unpack(packed)
        return record

    def _keep(self, record: IdempotencyRecord) -> None:
        key = record.key
        if record.state not in FINISHED:
            self._active[key] = record
            return
        self._active.pop(key, None)  # it stays finished
        if key in self._finished:
            self._finished.move_to_end(key)
        self._finished[key] = pack(record)
        if len(self._finished) > self.max_finished:
            self._finished.popitem(last=False)

    def _forget_entries(self, now: float) -> None:
        """Drop what was not changed for 30 days, and the oldest beyond the limit."""
        oldest = now - INBOX_RETENTION
        while self._entries and next(iter(self._entries.values()))[2] <= oldest:
            self._entries.popitem(last=False)
        while len(self._entries) > self.max_handled:
            self._entries.popitem(last=False)

    def _evict(self, now: float) -> None:
        """Drop what is older than the retention: finished, or never sent."""
        oldest = now - self.retention
        while self._finished and next(iter(self._finished.values()))[UPDATED_AT] <= oldest:
            self._finished.popitem(last=False)
        for key, record in list(self._active.items()):
            if record.evictable() and record.updated_at <= oldest:
                del self._active[key]
        ages = [record.updated_at for record in self._active.values() if record.evictable()]
        if self._finished:
            ages.append(next(iter(self._finished.values()))[UPDATED_AT])
        self._evict_at = min(ages, default=now) + self.retention
