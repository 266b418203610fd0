"""The protocol of all stores: where the life of an operation is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from wxpay_async.adapters.stores.inbox import Inbox
from wxpay_async.policy.record import LEASE, IdempotencyRecord

DAY: Final = 86_400.0

Key: TypeAlias = tuple[str, str]
"""An appKey and a requestId."""


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

    @property
    def ahead(self) -> float | None:
        """Seconds by which the clock of the store is ahead of this host's; 0 if it has none.

        All processes share the store's clock, so leases and schedules are told by it. None before
        it is known: `open` asks.
        """
        ...

    async def open(self) -> None:
        """Connect and check what is there; every other method does so, too, at the first call.

        Raises:
            NotSentError: the store cannot be reached, or cannot be used.
        """
        ...

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record unless its key exists; return what is stored now.

        A record that is SENDING already is reserved and claimed by one commit. What is returned is
        its own if it has the same `claim_token`.
        """
        ...

    async def claim(
        self,
        key: Key,
        *,
        now: float,
        signed_at: int,
        lease: float = LEASE,
        token: str | None = None,
    ) -> IdempotencyRecord | None:
        """Claim the operation for one attempt.

        Args:
            key: which operation.
            now: seconds since the epoch.
            signed_at: milliseconds since the epoch; the attempt's timestamp.
            lease: seconds for which the claim is held.
            token: up to 64 characters that cannot be guessed, new for each attempt. A claim that is
                repeated because its answer got lost carries the same one and finds its own, as
                `IdempotencyRecord.try_claim` says. None never finds one.

        Returns:
            The record in SENDING with a raised epoch; None if it is gone, settled, or held by
            another claim whose lease still runs.
        """
        ...

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record unless `IdempotencyRecord.can_be_replaced_by` forbids it; False then."""
        ...

    async def load(self, key: Key) -> IdempotencyRecord | None:
        """Return the record, None if there is none."""
        ...

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Return an appKey's records with this number that are under way, in any order.

        Their state is in `UNDER_WAY`. A callback tells a number and no requestId. It raises what
        `load` raises.
        """
        ...

    async def load_many(self, keys: Sequence[Key]) -> dict[Key, IdempotencyRecord]:
        """Return the records with these keys, without those that are absent.

        One read takes up to 500 keys. It raises what `load` raises.
        """
        ...

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Find what a query should be made for; every process calls this now and then.

        SENDING whose lease ran out becomes UNKNOWN (`IdempotencyRecord.with_expired_lease`).

        Returns:
            Up to `limit` records in UNKNOWN or PENDING whose `next_check_at` has come, the longest
            waiting first. Their stored `next_check_at` is moved `LEASE` ahead, so that two
            processes do not query for the same one.
        """
        ...

    async def forget(self, app_key: str, now: float, *, limit: int = 1000) -> int:
        """Drop what is evictable and older than the store's retention; return how many were.

        It drops no more than `limit`, and no payer waits for it.
        """
        ...

    async def list_open(
        self, app_key: str, *, after: str = "", limit: int = 100
    ) -> list[IdempotencyRecord]:
        """List an appKey's operations that are under way, in doubt, or wait for a person.

        Args:
            app_key: whose operations.
            after: the requestId after which the list begins.
            limit: how many to return.

        Returns:
            Up to `limit` records whose state is in `UNFINISHED`, in the order of their requestIds.
        """
        ...

    async def aclose(self) -> None:
        """Release what is held. May be called twice; the next call opens it again."""
        ...


class Store(IdempotencyStore, Inbox, Protocol):
    """Keeps operations and callbacks: what a gateway needs, and what every shipped store does."""
