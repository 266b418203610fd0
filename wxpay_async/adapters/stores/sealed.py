"""Nothing secret is stored in the clear: what a store keeps of a request is sealed before."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define, field

from wxpay_async.adapters.stores.inbox import Receipt
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.policy.record import LEASE, IdempotencyRecord, evolve
from wxpay_async.policy.states import SENDABLE
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.signing import KeySource, Signer

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
    lost: the operation's state stays, its reply cannot be replayed. It is kept as it is, for a
    process that has the right key.

    Args:
        store: what keeps the sealed entries.
        key: 32 bytes that stay the same for the life of the store.
    """

    store: IdempotencyStore
    key: bytes = field(repr=False)
    _cipher: Cipher = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._cipher = cipher_for(self.key)

    @property
    def durable(self) -> bool:
        """Whether a commit survives the loss of the process."""
        return self.store.durable

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the entry unless its key is taken; return what is there now."""
        sealed = self._sealed(entry)
        stored = await self.store.reserve(sealed)
        return entry if stored == sealed else self._opened(stored)

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Take the operation over for one attempt."""
        entry = await self.store.claim(key, now=now, signed_at=signed_at, lease=lease)
        return None if entry is None else self._opened(entry)

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Write the entry if its epoch is still the stored one."""
        sealed = self._sealed(entry)
        if _is_short_of_bytes(entry):
            sealed = await self._restored(sealed)
        return await self.store.record(sealed)

    async def _restored(self, sealed: IdempotencyRecord) -> IdempotencyRecord:
        """Put back what did not open here: it may be this process that has the wrong key."""
        try:
            stored = await self.store.load(sealed.key)
        except NotSentError as error:
            raise InDoubtError(error.reason, retryable=error.retryable) from error
        if stored is None:
            return sealed
        content = stored.content if sealed.state in SENDABLE else None
        reply = stored.reply if sealed.status is not None else None
        return evolve(sealed, content=sealed.content or content, reply=sealed.reply or reply)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the entry, None if there is none."""
        entry = await self.store.load(key)
        return None if entry is None else self._opened(entry)

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
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

    def _sealed(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        return evolve(
            entry,
            content=self._seal(entry, b"content", entry.content),
            reply=self._seal(entry, b"reply", entry.reply),
        )

    def _opened(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        return evolve(
            entry,
            content=self._open(entry, b"content", entry.content),
            reply=self._open(entry, b"reply", entry.reply),
        )

    def _seal(self, entry: IdempotencyRecord, part: bytes, blob: bytes | None) -> bytes | None:
        if blob is None:
            return None
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, blob, _place(entry, part))

    def _open(self, entry: IdempotencyRecord, part: bytes, blob: bytes | None) -> bytes | None:
        if blob is None:
            return None
        opened = self._cipher.decrypt(blob[:_NONCE], blob[_NONCE:], _place(entry, part))
        return None if opened is None else SecretBytes(opened)


def _is_short_of_bytes(entry: IdempotencyRecord) -> bool:
    """Tell whether it has no content though it may be sent again, or no reply though it had one."""
    sendable = entry.content is None and entry.state in SENDABLE
    return sendable or (entry.reply is None and entry.status is not None)


def _place(entry: IdempotencyRecord, part: bytes) -> bytes:
    """Bind a blob to its row: one that is moved to another row does not open there."""
    return b"\x00".join((part, *(name.encode() for name in entry.key)))


# AES-256-GCM; the tag follows what is encrypted. Both make and open the same bytes.


class Cipher(Protocol):
    """Encrypts, and decrypts what nobody has touched."""

    def encrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes:
        """Return the data encrypted for this place."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes | None:
        """Return the data, None if they were made with another key, nonce or place."""
        ...


class PycryptodomeCipher:
    """By pycryptodome, which is always there."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _new(self, nonce: bytes, place: bytes) -> GcmMode:
        from Crypto.Cipher import AES  # noqa: PLC0415 - nobody waits for it who stores in memory

        return AES.new(self._key, AES.MODE_GCM, nonce=nonce).update(place)

    def encrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes:
        """Return the data encrypted for this place."""
        sealed, tag = self._new(nonce, place).encrypt_and_digest(data)
        return sealed + tag

    def decrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes | None:
        """Return the data, None if they were made with another key, nonce or place."""
        try:
            return self._new(nonce, place).decrypt_and_verify(data[:-_TAG], data[-_TAG:])
        except ValueError:
            return None


class OpensslCipher:
    """By OpenSSL (extra `speedups`), in a hundredth of the time."""

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self._cipher, self._refusals = AESGCM(key), (InvalidTag, ValueError)

    def encrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes:
        """Return the data encrypted for this place."""
        return self._cipher.encrypt(nonce, data, place)

    def decrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes | None:
        """Return the data, None if they were made with another key, nonce or place."""
        try:
            return self._cipher.decrypt(nonce, data, place)
        except self._refusals:
            return None


def cipher_for(key: bytes) -> Cipher:
    """Return OpenSSL's where it is installed."""
    try:
        return OpensslCipher(key)
    except ImportError:
        return PycryptodomeCipher(key)


def sealed(store: IdempotencyStore, signer: Signer, seal_key: bytes | None) -> IdempotencyStore:
    """Seal what leaves the process; memory does not.

    Args:
        store: where operations are kept.
        signer: from its secret the key is derived when none is given.
        seal_key: 32 bytes.

    Raises:
        InvalidRequestError: there is no key, or one of the wrong length.
    """
    if isinstance(store, MemoryStore | SealedStore):
        return store
    if seal_key is None and isinstance(signer, KeySource):
        seal_key = signer.derive_key(STORE_CONTEXT)
    if seal_key is None or len(seal_key) != SEAL_KEY_BYTES:
        del seal_key
        raise InvalidRequestError(
            "missing, or of the wrong length",
            field="seal_key",
            allowed=f"{SEAL_KEY_BYTES} bytes that stay the same for the life of the store",
        )
    return SealedStore(store, seal_key)
