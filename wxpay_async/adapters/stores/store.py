"""The protocol of all stores: where the life of an operation is kept."""

from __future__ import annotations

from typing import Final, Protocol

from wxpay_async.adapters.stores.inbox import Receipt
from wxpay_async.policy.record import LEASE, IdempotencyRecord

DAY: Final = 86_400.0


class NewerSchemaError(Exception):
    """A later release has laid the store out, and this one might misread it."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the store is of version {found}, this release of wxpay-async knows {known}:"
            " upgrade it"
        )


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

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the entry unless its key is taken; return what is there now."""
        ...

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Take the operation over for one attempt.

        Returns:
            The entry in SENDING with a raised epoch; None if it is gone, settled, or held by
            another claim whose lease still runs.
        """
        ...

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Write the entry if the stored one yields to it (`IdempotencyRecord.can_be_replaced_by`); False if not."""
        ...

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the entry, None if there is none."""
        ...

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tend an appKey's operations; every process calls this now and then.

        SENDING whose lease ran out becomes UNKNOWN (`IdempotencyRecord.with_expired_lease`); what is evictable and older
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
