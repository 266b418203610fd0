"""Nothing secret is stored in the clear: what a store keeps of a request is sealed before."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import attrs
from attrs import define, field

from wxpay_async.idempotency.store import LEASE, Entry, IdempotencyStore, Receipt
from wxpay_async.protocol.fields import SecretBytes

if TYPE_CHECKING:
    from Crypto.Cipher._mode_gcm import GcmMode

SEAL_KEY_BYTES: Final = 32
STORE_CONTEXT: Final = b"wxpay_async store"
"""What the key is for, when it is derived from the merchant's own secret."""

_NONCE: Final = 12
_TAG: Final = 16


@define(eq=False)
class SealedStore:
    """Wraps a store: request bytes and replies go in encrypted (AES-256-GCM) and come out clear.

    A blob that does not open (the merchant's secret was changed, somebody tampered) counts as
    lost: the operation's state stays, its reply cannot be replayed.

    Args:
        store: what keeps the sealed entries.
        key: 32 bytes that stay the same for the life of the store.
    """

    store: IdempotencyStore
    key: bytes = field(repr=False)

    @property
    def durable(self) -> bool:
        """Whether a commit survives the loss of the process."""
        return self.store.durable

    async def reserve(self, entry: Entry) -> Entry:
        """Insert the entry unless its key is taken; return what is there now."""
        sealed = self._sealed(entry)
        stored = await self.store.reserve(sealed)
        return entry if stored == sealed else self._opened(stored)

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> Entry | None:
        """Take the operation over for one attempt."""
        entry = await self.store.claim(key, now=now, signed_at=signed_at, lease=lease)
        return None if entry is None else self._opened(entry)

    async def record(self, entry: Entry) -> bool:
        """Write the entry if its epoch is still the stored one."""
        return await self.store.record(self._sealed(entry))

    async def load(self, key: tuple[str, str]) -> Entry | None:
        """Return the entry, None if there is none."""
        entry = await self.store.load(key)
        return None if entry is None else self._opened(entry)

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[Entry]:
        """Tend an appKey's operations."""
        return [self._opened(e) for e in await self.store.sweep(app_key, now, limit=limit)]

    async def receive(self, message: str, *, now: float, lease: float = LEASE) -> Receipt:
        """Take a callback for handling."""
        return await self.store.receive(message, now=now, lease=lease)

    async def handled(self, message: str, *, now: float) -> None:
        """Note that the callback's effect has happened."""
        await self.store.handled(message, now=now)

    async def unhandled(self, message: str) -> None:
        """Give the callback back."""
        await self.store.unhandled(message)

    async def aclose(self) -> None:
        """Release what the store holds."""
        await self.store.aclose()

    def _sealed(self, entry: Entry) -> Entry:
        return attrs.evolve(
            entry,
            content=self._seal(entry, b"content", entry.content),
            reply=self._seal(entry, b"reply", entry.reply),
        )

    def _opened(self, entry: Entry) -> Entry:
        return attrs.evolve(
            entry,
            content=self._open(entry, b"content", entry.content),
            reply=self._open(entry, b"reply", entry.reply),
        )

    def _cipher(self, entry: Entry, part: bytes, nonce: bytes) -> GcmMode:
        from Crypto.Cipher import AES  # noqa: PLC0415 - nobody waits for it who stores in memory

        cipher = AES.new(self.key, AES.MODE_GCM, nonce=nonce)
        # Bound to its row: a blob that is moved to another row does not open there.
        cipher.update(b"\x00".join((part, *(name.encode() for name in entry.key))))
        return cipher

    def _seal(self, entry: Entry, part: bytes, blob: bytes | None) -> bytes | None:
        if blob is None:
            return None
        nonce = secrets.token_bytes(_NONCE)
        sealed, tag = self._cipher(entry, part, nonce).encrypt_and_digest(blob)
        return nonce + tag + sealed

    def _open(self, entry: Entry, part: bytes, blob: bytes | None) -> bytes | None:
        if blob is None:
            return None
        nonce, tag, sealed = blob[:_NONCE], blob[_NONCE : _NONCE + _TAG], blob[_NONCE + _TAG :]
        try:
            return SecretBytes(self._cipher(entry, part, nonce).decrypt_and_verify(sealed, tag))
        except ValueError:
            return None
