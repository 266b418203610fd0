"""Where the life of an operation is kept: the protocol of all stores, and the one in memory."""

from __future__ import annotations

import enum
import functools
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

import attrs
from attrs import define, field, frozen

from wxpay_async.policy.states import CLAIMABLE, FINAL, FINISHED, Event, State, next_state
from wxpay_async.protocol.identity import Fingerprint

LEASE: Final = 45.0
"""Seconds for which a claim is held: longer than any attempt, shorter than patience."""

DAY: Final = 86_400.0
INBOX_RETENTION: Final = 30 * DAY
"""Seconds for which a handled callback is recognised when it comes again."""

OPEN: Final = frozenset({State.UNKNOWN, State.PENDING})
"""What a query can settle."""


@frozen(kw_only=True, slots=False)
class Entry:
    """One operation, as a store keeps it.

    Attributes:
        app_key: whose operation it is.
        request_id: the idempotency key.
        operation: pay, trade or refund.
        fingerprint: what it means.
        out_trade_no: what a query can ask for, where there is one.
        state: where it stands.
        epoch: the fencing token; raised by every claim, checked by every write.
        attempts: claims so far.
        in_doubt: an attempt may have been executed.
        signed_at: milliseconds since the epoch; the latest timestamp of all attempts, which lives
            longest: a clock that was put back signs a later attempt with an earlier one. Once it is
            answered, the timestamp of the attempt that was.
        lease_until: seconds since the epoch; until then nobody else may claim.
        content: the bytes that every attempt sends, kept until the operation is finished; they
            hold a person's openid, so a durable store gets them sealed.
        status: the HTTP status of the reply that settled it, or by which it was `taken`.
        reply: the body of that reply; it may hold a credential, so a durable store gets it sealed.
        doubt_since: seconds since the epoch; when an attempt first got into doubt.
        next_check_at: seconds since the epoch; when a query should be made, None for never.
        checks: queries made so far.
        absent_at: seconds since the epoch by the platform's time, like `signed_at`; when a query
            after the quarantine first found nothing.
        created_at: seconds since the epoch.
        updated_at: seconds since the epoch.
    """

    app_key: str
    request_id: str
    operation: str
    fingerprint: Fingerprint
    out_trade_no: str | None = None
    state: State = State.RESERVED
    epoch: int = 0
    attempts: int = 0
    in_doubt: bool = False
    signed_at: int | None = None
    lease_until: float = 0.0
    content: bytes | None = field(default=None, repr=False)
    status: int | None = None
    reply: bytes | None = field(default=None, repr=False)
    doubt_since: float | None = None
    next_check_at: float | None = None
    checks: int = 0
    absent_at: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0

    @functools.cached_property
    def key(self) -> tuple[str, str]:
        """What makes it unique; requestIds of two appKeys have nothing to do with each other."""
        return self.app_key, self.request_id

    @property
    def taken(self) -> bool:
        """Whether our first attempt found the requestId taken: by whom, and for what, is unknown.

        Then no attempt of ours was executed. A refund that the platform holds under the same
        number may have been made for another order, which no query echoes.
        """
        return self.status is not None and self.state in {State.SENDING, State.UNKNOWN}

    def claimable(self, now: float) -> bool:
        """Tell whether it may be claimed: nobody is sending it, or the sender's lease is over."""
        if self.state is State.SENDING:
            return self.lease_until <= now
        return self.state in CLAIMABLE

    def claimed(self, *, now: float, signed_at: int, lease: float) -> Entry:
        """Return it under a new claim. A lease that ran out leaves its attempt in doubt."""
        lapsed = self.state in {State.SENDING, State.UNKNOWN}
        return evolve(
            self,
            state=next_state(State.UNKNOWN if lapsed else self.state, Event.CLAIM),
            epoch=self.epoch + 1,
            attempts=self.attempts + 1,
            in_doubt=self.in_doubt or lapsed,
            doubt_since=self.doubt_since or (now if lapsed else None),
            signed_at=max(signed_at, self.signed_at or 0),
            lease_until=now + lease,
            absent_at=None,
            updated_at=now,
        )

    def lapsed(self, now: float) -> Entry:
        """Return it in doubt, after the process that was sending it died."""
        return attrs.evolve(
            self,
            state=next_state(self.state, Event.DOUBT),
            epoch=self.epoch + 1,
            in_doubt=True,
            doubt_since=self.doubt_since or now,
            next_check_at=now,
            lease_until=0.0,
            updated_at=now,
        )

    def yields_to(self, later: Entry) -> bool:
        """Tell whether the later entry may take its place.

        Only under the same epoch, never out of a final state, and not from PENDING back to UNKNOWN:
        a query that was slow to come back must not reopen what another one has found out.
        """
        settled = self.state in FINAL and later.state is not self.state
        accepted = self.state is State.PENDING and later.state is State.UNKNOWN
        return self.epoch == later.epoch and not settled and not accepted

    def evictable(self) -> bool:
        """Tell whether it may be forgotten: it is finished, or nothing was ever sent for it."""
        return self.state in FINISHED or (self.state is State.RESERVED and not self.in_doubt)


if TYPE_CHECKING:
    from attrs import evolve as evolve  # noqa: PLC0414 - a public name of this module
else:

    def evolve(entry: Entry, **changes: object) -> Entry:
        """Do what `attrs.evolve` does, in an eighth of its time: each attempt needs it twice."""
        later = object.__new__(Entry)
        later.__dict__.update(entry.__dict__, **changes)
        return later


class NewerSchemaError(Exception):
    """A later release has laid the store out, and this one might misread it."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the store is of version {found}, this release of wxpay-async knows {known}:"
            " upgrade it"
        )


class Receipt(enum.StrEnum):
    """Whose a callback is."""

    YOURS = "yours"
    BUSY = "busy"
    HANDLED = "handled"


class IdempotencyStore(Protocol):
    """Keeps operations. Every method is one commit; times come in as arguments.

    One contract suite runs over all implementations. Driver exceptions are mapped: a store that
    cannot do what it was asked raises `NotSentError` from `reserve`, `claim` and `load`, and
    `InDoubtError` from `record`. A call that is cancelled may still be committed.
    """

    @property
    def durable(self) -> bool:
        """Whether a commit survives the loss of the process."""
        ...

    async def reserve(self, entry: Entry) -> Entry:
        """Insert the entry unless its key is taken; return what is there now."""
        ...

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> Entry | None:
        """Take the operation over for one attempt.

        Returns:
            The entry in SENDING with a raised epoch; None if it is gone, settled, or held by
            another claim whose lease still runs.
        """
        ...

    async def record(self, entry: Entry) -> bool:
        """Write the entry if the stored one yields to it (`Entry.yields_to`); False if not."""
        ...

    async def load(self, key: tuple[str, str]) -> Entry | None:
        """Return the entry, None if there is none."""
        ...

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[Entry]:
        """Tend an appKey's operations; every process calls this now and then.

        SENDING whose lease ran out becomes UNKNOWN (`Entry.lapsed`); what is evictable and older
        than the store's retention is dropped.

        Returns:
            Up to `limit` entries in UNKNOWN or PENDING whose `next_check_at` has come, the longest
            waiting first. Their stored `next_check_at` is moved `LEASE` ahead, so that two
            processes do not query for the same one.
        """
        ...

    async def receive(self, message: str, *, now: float, lease: float = LEASE) -> Receipt:
        """Take a callback for handling, unless it is handled already or right now.

        Args:
            message: what makes the callback one: endpoint, order, platform number, status.
            now: seconds since the epoch.
            lease: seconds after which a handler that never came back counts as dead.
        """
        ...

    async def handled(self, message: str, *, now: float) -> None:
        """Note that the callback's effect has happened; remembered for 30 days."""
        ...

    async def unhandled(self, message: str) -> None:
        """Give the callback back: its handler failed, and the platform will send it again.

        One that is handled stays handled: the handler that failed may be a late one, whose lease
        ran out and whose callback another one has handled since.
        """
        ...

    async def aclose(self) -> None:
        """Release what is held. May be called twice; the next call opens it anew."""
        ...


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
    _entries: dict[tuple[str, str], Entry] = field(factory=dict[tuple[str, str], Entry], init=False)
    _finished: Ages = field(factory=Ages, init=False)
    _reserved: Ages = field(factory=Ages, init=False)
    _oldest_ends: float = field(default=0.0, init=False)
    # What is being handled must not be forgotten, and those who deliver bound its number.
    _handling: dict[str, float] = field(factory=dict[str, float], init=False)
    _handled: OrderedDict[str, float] = field(factory=OrderedDict[str, float], init=False)

    async def reserve(self, entry: Entry) -> Entry:
        """Insert the entry unless its key is taken; return what is there now."""
        self._evict(entry.created_at)
        known = self._entries.get(entry.key)
        if known is None:
            self._put(entry)
        return known or entry

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> Entry | None:
        """Take the operation over for one attempt."""
        entry = self._entries.get(key)
        if entry is None or not entry.claimable(now):
            return None
        claimed = entry.claimed(now=now, signed_at=signed_at, lease=lease)
        self._put(claimed)
        return claimed

    async def record(self, entry: Entry) -> bool:
        """Write the entry if its epoch is still the stored one."""
        stored = self._entries.get(entry.key)
        if stored is None or not stored.yields_to(entry):
            return False
        self._put(entry)
        self._evict(entry.updated_at)
        return True

    async def load(self, key: tuple[str, str]) -> Entry | None:
        """Return the entry, None if there is none."""
        return self._entries.get(key)

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[Entry]:
        """Tend an appKey's operations."""
        self._evict(now)
        mine = [entry for entry in self._entries.values() if entry.app_key == app_key]
        for entry in mine:
            if entry.state is State.SENDING and entry.lease_until <= now:
                self._put(entry.lapsed(now))
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

    def _put(self, entry: Entry) -> None:
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
