"""The store in memory."""

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
    _entries: dict[tuple[str, str], IdempotencyRecord] = field(
        factory=dict[tuple[str, str], IdempotencyRecord], init=False
    )
    _finished: Ages = field(factory=Ages, init=False)
    _reserved: Ages = field(factory=Ages, init=False)
    _oldest_ends: float = field(default=0.0, init=False)
    # What is being handled must not be forgotten, and those who deliver bound its number.
    _handling: dict[str, float] = field(factory=dict[str, float], init=False)
    _handled: OrderedDict[str, float] = field(factory=OrderedDict[str, float], init=False)

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the entry unless its key is taken; return what is there now."""
        self._evict(entry.created_at)
        known = self._entries.get(entry.key)
        if known is None:
            self._put(entry)
        return known or entry

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Take the operation over for one attempt."""
        entry = self._entries.get(key)
        if entry is None or not entry.claimable(now):
            return None
        claimed = entry.claimed(now=now, signed_at=signed_at, lease=lease)
        self._put(claimed)
        return claimed

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Write the entry if its epoch is still the stored one."""
        stored = self._entries.get(entry.key)
        if stored is None or not stored.can_be_replaced_by(entry):
            return False
        self._put(entry)
        self._evict(entry.updated_at)
        return True

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the entry, None if there is none."""
        return self._entries.get(key)

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tend an appKey's operations."""
        self._evict(now)
        mine = [entry for entry in self._entries.values() if entry.app_key == app_key]
        for entry in mine:
            if entry.state is State.SENDING and entry.lease_until <= now:
                self._put(entry.with_expired_lease(now))
        current = (self._entries[entry.key] for entry in mine)
        waiting = [(e.next_check_at, e) for e in current if e.state in OPEN]
        due = [(at, entry) for at, entry in waiting if at is not None and at <= now]
        longest = [entry for _, entry in sorted(due, key=lambda pair: pair[0])[:limit]]
        for entry in longest:
            self._put(attrs.evolve(entry, next_check_at=now + LEASE))
        return longest

    async def receive(self, message: str, *, now: float, lease: float = LEASE) -> Receipt:
        """Take a callback for handling, unless it is handled already or right now."""
        if self._handled.get(message, now) > now:
            return Receipt.HANDLED
        if self._handling.get(message, now) > now:
            return Receipt.BUSY
        self._handling[message] = now + lease
        return Receipt.YOURS

    async def handled(self, message: str, *, now: float) -> None:
        """Note that the callback's effect has happened."""
        self._handling.pop(message, None)
        self._handled[message] = now + INBOX_RETENTION
        self._handled.move_to_end(message)
        while len(self._handled) > self.max_handled:
            self._handled.popitem(last=False)
        while self._handled and next(iter(self._handled.values())) <= now:
            self._handled.popitem(last=False)

    async def unhandled(self, message: str) -> None:
        """Give the callback back."""
        self._handling.pop(message, None)

    async def aclose(self) -> None:
        """Keep everything: a gateway that is opened again finds its operations."""

    def _put(self, entry: IdempotencyRecord) -> None:
        key = entry.key
        self._entries[key] = entry
        self._reserved.pop(key, None)
        if entry.state in FINISHED:  # and stays so
            self._finished[key] = entry.updated_at
            self._finished.move_to_end(key)
        elif entry.evictable():
            self._reserved[key] = entry.updated_at

    def _evict(self, now: float) -> None:
        if now < self._oldest_ends and len(self._finished) <= self.max_finished:
            return
        # By number only what is finished: what is reserved may be waiting for its turn.
        while len(self._finished) > self.max_finished:
            del self._entries[self._finished.popitem(last=False)[0]]
        for ages in (self._finished, self._reserved):
            while ages and next(iter(ages.values())) <= now - self.retention:
                del self._entries[ages.popitem(last=False)[0]]
        oldest = [next(iter(ages.values())) for ages in (self._finished, self._reserved) if ages]
        self._oldest_ends = min([now, *oldest]) + self.retention
