"""The protocol of a callback inbox: one small document for each order, compared and set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

import attrs

INBOX_RETENTION: Final = 30 * 86_400.0
"""Seconds for which an entry is kept after its last change."""


@attrs.frozen
class Entry:
    """What the inbox holds of one order.

    Attributes:
        version: 1 for a new entry; each change raises it by one.
        value: the document, which the inbox does not read.
    """

    version: int
    value: str


class Inbox(Protocol):
    """Keeps what callbacks have told of orders. Every method is one commit at most.

    What a document means, and what it becomes, is decided by the caller (`policy/progress.py`).
    Driver exceptions are mapped: `load_entries` raises `NotSentError`, and `swap`, which may have
    been committed all the same, `InDoubtError`.
    """

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of these keys, in one read; a key without an entry is left out.

        Args:
            keys: any texts, 10,000 at most.
        """
        ...

    async def swap(self, key: str, *, version: int | None, value: str, now: float) -> bool:
        """Write a document, if the stored entry is still the one that the caller knows.

        The answer may get lost after the commit, and a store may repeat what it was asked. So False
        and `InDoubtError` do not prove that the document was not written: load the entry again, and
        look for what only this call can have written.

        Args:
            key: any text.
            version: of the entry that is replaced; None if there must be none.
            value: the document: up to 60 KB in UTF-8, without NUL.
            now: seconds since the epoch. The entry may be forgotten `INBOX_RETENTION` later.

        Returns:
            Whether it was written: the entry then has the next version.
        """
        ...


def hash_key(key: str) -> str:
    """Return a text of limited length; a key has no limit, and may hold a lone surrogate."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
