"""The protocol of a callback's inbox: each callback is handled once."""

from __future__ import annotations

import enum
import hashlib
from typing import Final, Protocol

from wxpay_async.policy.record import LEASE

INBOX_RETENTION: Final = 30 * 86_400.0
"""Seconds for which a handled callback is recognised when it comes again."""


class Receipt(enum.StrEnum):
    """Whether the caller may handle a callback."""

    ACQUIRED = "acquired"
    IN_PROGRESS = "in_progress"
    DONE = "done"


class Inbox(Protocol):
    """Remembers callbacks. Every method is one commit; times come in as arguments.

    A message is what makes a callback one: endpoint, order, platform number, status. Driver
    exceptions are mapped: an inbox that cannot do what it was asked raises `NotSentError` from
    `begin`, and `InDoubtError` from `complete` and `release`.
    """

    async def begin(self, message: str, *, now: float, lease: float = LEASE) -> Receipt:
        """Acquire a callback for handling, unless it is done or in progress.

        Args:
            message: the callback.
            now: seconds since the epoch.
            lease: seconds after which a handler that has not reported back counts as dead.
        """
        ...

    async def complete(self, message: str, *, now: float) -> None:
        """Note that the callback's effect has happened; remembered for 30 days."""
        ...

    async def release(self, message: str) -> None:
        """Let the callback be acquired again: its handler failed.

        One that is done stays done: the handler that failed may be a late one, whose lease ran out
        before another one handled the callback.
        """
        ...


def hash_message(message: str) -> str:
    """Return a key of limited length; a message has no limit, and may hold a lone surrogate."""
    return hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()
