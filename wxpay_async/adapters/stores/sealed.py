"""Encrypt what a store keeps of requests and replies (AES-256-GCM)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from attrs import define, field

from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import Key, Store
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

SealKey = bytes | KeySource
"""32 bytes, or a signer from whose secret they are derived."""

_VERSION: Final = b"\x02"
"""The layout that is written: this byte, the nonce, the ciphertext with its tag.

Version 1 had no such byte, and used the key itself.
"""
_HKDF_INFO: Final = b"wxpay_async store, layout 2"
_NONCE: Final = 12
_TAG: Final = 16


@define(eq=False)
class SealedStore:
    """Wraps a store: request bytes and replies go in encrypted (AES-256-GCM) and come out clear.

    What is written is of version 2 of the layout, whose keys are derived by HKDF (RFC 5869, with
    SHA-256). What version 1 wrote opens too, and is of version 2 once it is written again.

    Several keys let a merchant change one without losing what it sealed. A blob that none of them
    opens (its key is not here, or the blob was tampered with) counts as lost: the operation's state
    stays, its reply cannot be replayed. The blob is kept as it is, for a process that has its key.

    Args:
        store: what keeps the sealed records.
        keys: 32 bytes each: the first seals, any opens.
    """

    store: Store
    keys: Sequence[bytes] = field(repr=False)
    _ciphers: list[Cipher] = field(init=False, repr=False)
    _version_1: list[Cipher] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._ciphers = [make_cipher(_derive_key(key)) for key in self.keys]
        self._version_1 = [make_cipher(key) for key in self.keys]

    @property
    def durable(self) -> bool:
        """Whether a commit survives the loss of the process."""
        return self.store.durable

    @property
    def ahead(self) -> float | None:
        """Seconds by which the store's clock is ahead of this host's."""
        return self.store.ahead

    async def open(self) -> None:
        """Connect and check what is there."""
        await self.store.open()

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record unless its key exists; return what is stored now."""
        sealed = self._seal_record(record)
        stored = await self.store.reserve(sealed)
        return record if stored == sealed else self._open_record(stored)

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
        record = await self.store.claim(key, now=now, signed_at=signed_at, lease=lease, token=token)
        return None if record is None else self._open_record(record)

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record if its epoch is still the stored one."""
        sealed = self._seal_record(record)
        if _lacks_blob(record):
            sealed = await self._restore_blobs(sealed)
        return await self.store.record(sealed)

    async def _restore_blobs(self, sealed: IdempotencyRecord) -> IdempotencyRecord:
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

    async def load(self, key: Key) -> IdempotencyRecord | None:
        """Return the record, None if there is none."""
        record = await self.store.load(key)
        return None if record is None else self._open_record(record)

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Return an appKey's open records that have this number."""
        return [self._open_record(r) for r in await self.store.find_open(app_key, out_trade_no)]

    async def load_many(self, keys: Sequence[Key]) -> dict[Key, IdempotencyRecord]:
        """Return the records with these keys, without those that are absent."""
        found = await self.store.load_many(keys)
        return {key: self._open_record(record) for key, record in found.items()}

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Find what a query should be made for."""
        return [self._open_record(r) for r in await self.store.due(app_key, now, limit=limit)]

    async def forget(self, app_key: str, now: float, *, limit: int = 1000) -> int:
        """Drop what is older than the store's retention."""
        return await self.store.forget(app_key, now, limit=limit)

    async def list_open(
        self, app_key: str, *, after: str = "", limit: int = 100
    ) -> list[IdempotencyRecord]:
        """List an appKey's operations that are under way, in doubt, or wait for a person."""
        found = await self.store.list_open(app_key, after=after, limit=limit)
        return [self._open_record(record) for record in found]

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of these keys; they hold nothing that needs a seal."""
        return await self.store.load_entries(keys)

    async def swap(self, key: str, *, version: int | None, value: str, now: float) -> bool:
        """Write a document, if the stored entry is still the one that the caller knows."""
        return await self.store.swap(key, version=version, value=value, now=now)

    async def aclose(self) -> None:
        """Release what the store holds."""
        await self.store.aclose()

    def _seal_record(self, record: IdempotencyRecord) -> IdempotencyRecord:
        return evolve(
            record,
            content=self._seal_blob(record, b"content", record.content),
            reply=self._seal_blob(record, b"reply", record.reply),
        )

    def _open_record(self, record: IdempotencyRecord) -> IdempotencyRecord:
        return evolve(
            record,
            content=self._open_blob(record, b"content", record.content),
            reply=self._open_blob(record, b"reply", record.reply),
        )

    def _seal_blob(
        self, record: IdempotencyRecord, field_name: bytes, blob: bytes | None
    ) -> bytes | None:
        if blob is None:
            return None
        nonce, place = secrets.token_bytes(_NONCE), _bind_to_row(record, _VERSION, field_name)
        return _VERSION + nonce + self._ciphers[0].encrypt(nonce, blob, place)

    def _open_blob(
        self, record: IdempotencyRecord, field_name: bytes, blob: bytes | None
    ) -> bytes | None:
        if blob is None:
            return None
        if blob.startswith(_VERSION):
            place = _bind_to_row(record, _VERSION, field_name)
            opened = _decrypt(self._ciphers, blob[len(_VERSION) :], place)
            if opened is not None:
                return opened
        # After it, too: a nonce of version 1 may begin with the same byte.
        return _decrypt(self._version_1, blob, _bind_to_row(record, field_name))


def _decrypt(ciphers: Sequence[Cipher], blob: bytes, place: bytes) -> bytes | None:
    """Return what the first fitting cipher opens, None if none fits."""
    for cipher in ciphers:
        opened = cipher.decrypt(blob[:_NONCE], blob[_NONCE:], place)
        if opened is not None:
            return SecretBytes(opened)
    return None


def _lacks_blob(record: IdempotencyRecord) -> bool:
    """Tell whether it has no content though it may be sent again, or no reply though it had one."""
    sendable = record.content is None and record.state in SENDABLE
    return sendable or (record.reply is None and record.status is not None)


def _bind_to_row(record: IdempotencyRecord, *place: bytes) -> bytes:
    """Return associated data for one field of one row: a blob opens in no other place."""
    return b"\x00".join((*place, *(name.encode() for name in record.key)))


def _derive_key(key: bytes) -> bytes:
    """Derive what encrypts from a key that may serve other purposes, too."""
    from Crypto.Hash import SHA256  # noqa: PLC0415 - a store in memory needs none
    from Crypto.Protocol.KDF import HKDF  # noqa: PLC0415

    return SecretBytes(HKDF(key, SEAL_KEY_BYTES, b"", SHA256, context=_HKDF_INFO))


# AES-256-GCM; the tag follows the ciphertext. Both classes make and open the same bytes.


class Cipher(Protocol):
    """Encrypts, and decrypts what was not changed."""

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Return the data encrypted and bound to the associated data."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """Return the data, None if the key, the nonce or the associated data is another."""
        ...


class PycryptodomeCipher:
    """Uses pycryptodome, which is always installed."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _start(self, nonce: bytes, associated: bytes) -> GcmMode:
        from Crypto.Cipher import AES  # noqa: PLC0415 - a store in memory needs none

        return AES.new(self._key, AES.MODE_GCM, nonce=nonce).update(associated)

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Return the data encrypted and bound to the associated data."""
        sealed, tag = self._start(nonce, associated).encrypt_and_digest(data)
        return sealed + tag

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """Return the data, None if the key, the nonce or the associated data is another."""
        try:
            return self._start(nonce, associated).decrypt_and_verify(data[:-_TAG], data[-_TAG:])
        except ValueError:
            return None


class OpensslCipher:
    """Uses OpenSSL (extra `speedups`), in a hundredth of the time."""

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self._cipher, self._refusals = AESGCM(key), (InvalidTag, ValueError)

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Return the data encrypted and bound to the associated data."""
        return self._cipher.encrypt(nonce, data, associated)

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """Return the data, None if the key, the nonce or the associated data is another."""
        try:
            return self._cipher.decrypt(nonce, data, associated)
        except self._refusals:
            return None


def make_cipher(key: bytes) -> Cipher:
    """Return OpenSSL's cipher where it is installed, else pycryptodome's."""
    try:
        return OpensslCipher(key)
    except ImportError:
        return PycryptodomeCipher(key)


def seal_store(store: Store, signer: Signer, seal_keys: Sequence[SealKey] | None) -> Store:
    """Wrap the store so that it is sealed; one in memory stays as it is.

    Args:
        store: where operations are kept.
        signer: when no keys are given, one is derived from its secret.
        seal_keys: 32 bytes each, or signers from whose secrets they are derived: the first seals,
            any opens.

    Raises:
        InvalidRequestError: there is no key, or one of the wrong length.
    """
    if isinstance(store, MemoryStore | SealedStore) and seal_keys is None:
        return store
    keys = _read_keys([signer] if seal_keys is None else seal_keys)
    del seal_keys  # a traceback with locals must not show them
    if not keys:
        raise InvalidRequestError(
            "missing, or not of the right kind",
            field="seal_keys",
            allowed=f"a list of keys of {SEAL_KEY_BYTES} bytes each, or of signers that hold their "
            "secret: the first seals, any opens",
        )
    return store if isinstance(store, MemoryStore | SealedStore) else SealedStore(store, keys)


def _read_keys(given: object) -> list[bytes]:
    """Return the keys as bytes; an empty list where one of them is none."""
    # One key alone is a sequence too: of integers.
    if not isinstance(given, Sequence) or isinstance(given, bytes | bytearray | str):
        return []
    keys = [_read_key(key) for key in cast("Sequence[object]", given)]
    return keys if all(len(key) == SEAL_KEY_BYTES for key in keys) else []


def _read_key(given: object) -> bytes:
    if isinstance(given, KeySource):
        given = given.derive_key(STORE_CONTEXT)
    return SecretBytes(given) if isinstance(given, bytes) else b""
