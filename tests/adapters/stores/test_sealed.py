"""Check that a blob opens in its own place, with its own key, by either library, and only so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support.records import make_record
from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import (
    Cipher,
    OpensslCipher,
    PycryptodomeCipher,
    SealedStore,
    make_cipher,
    seal_store,
)
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.signing import Md5Signer, Signer

KEY, OTHER = bytes(range(32)), bytes(32)
KEY_OF_RECORD = make_record().key
NONCE, PLACE = bytes(12), b"content\x00app\x00r1"
RECORDS = ("before", "after")
CIPHERS = (PycryptodomeCipher, OpensslCipher)
Make = type[PycryptodomeCipher] | type[OpensslCipher]


@pytest.mark.parametrize("opens", CIPHERS)
@pytest.mark.parametrize("seals", CIPHERS)
def test_either_opens_what_either_sealed(seals: Make, opens: Make) -> None:
    """A store may be shared with a process that lacks the extra."""
    sealed = seals(KEY).encrypt(NONCE, b"openid", PLACE)

    assert b"openid" == opens(KEY).decrypt(NONCE, sealed, PLACE)
    assert b"openid" not in sealed


def test_it_is_aes_256_gcm() -> None:
    """Test case 16 of the GCM specification (McGrew and Viega, 2005)."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    place = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    clear = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    sealed = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )

    for make in CIPHERS:
        assert sealed == make(key).encrypt(nonce, clear, place)


@pytest.mark.parametrize("make", CIPHERS)
def test_nothing_else_opens(make: Make) -> None:
    """Another key, nonce or place, a bit that is not the same, or too few of them."""
    cipher: Cipher = make(KEY)
    sealed = cipher.encrypt(NONCE, b"openid", PLACE)

    assert cipher.decrypt(bytes([1, *NONCE[1:]]), sealed, PLACE) is None
    assert cipher.decrypt(NONCE, sealed, PLACE + b"2") is None
    assert make(OTHER).decrypt(NONCE, sealed, PLACE) is None
    for at in range(len(sealed)):
        touched = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        assert cipher.decrypt(NONCE, touched, PLACE) is None
    for length in range(len(sealed)):
        assert cipher.decrypt(NONCE[: length % 12], sealed[:length], PLACE) is None


def test_openssl_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And pycryptodome where it is not."""
    assert isinstance(make_cipher(KEY), OpensslCipher)

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    assert isinstance(make_cipher(KEY), PycryptodomeCipher)


async def test_row_shows_nothing_and_keeps_its_blobs_to_itself() -> None:
    """What the store below holds is sealed; moved to another row, it is lost, not readable."""
    below = MemoryStore()
    store = SealedStore(below, [KEY])
    record = make_record(content=b"o")
    await store.reserve(record)
    kept = await below.load(record.key)
    assert kept is not None
    assert kept.content not in (None, b"o")
    assert await store.load(record.key) == record

    moved = make_record("r2", content=kept.content)
    await below.reserve(moved)
    found = await store.load(moved.key)
    assert found is not None
    assert found.content is None


async def test_repeated_claim_finds_its_own_through_the_seal() -> None:
    """The token gets to the store below."""
    store = SealedStore(MemoryStore(), [KEY])
    await store.reserve(make_record(content=b"the bytes"))
    first = await store.claim(KEY_OF_RECORD, now=0.0, signed_at=1, token="t1")
    again = await store.claim(KEY_OF_RECORD, now=0.0, signed_at=1, token="t1")

    assert first is not None
    assert (first, b"the bytes") == (again, first.content)
    assert await store.claim(KEY_OF_RECORD, now=0.0, signed_at=1, token="t2") is None


@pytest.mark.parametrize("later", [State.UNKNOWN, State.NOT_EXECUTED, State.NEEDS_REVIEW])
async def test_process_with_the_wrong_key_wipes_no_content(later: State) -> None:
    """It looks after the operation, and leaves the bytes to whom they belong."""
    below = MemoryStore()
    right, wrong = SealedStore(below, [KEY]), SealedStore(below, [OTHER])
    await right.reserve(make_record(content=b"the bytes"))
    claimed = await right.claim(KEY_OF_RECORD, now=0.0, signed_at=1)
    assert claimed is not None
    await right.record(attrs.evolve(claimed, state=State.UNKNOWN, in_doubt=True, next_check_at=0.0))
    [due] = await wrong.due("k", 10.0)
    assert due.content is None
    assert await wrong.record(attrs.evolve(due, state=later, checks=1))

    kept = await right.load(KEY_OF_RECORD)
    assert kept is not None
    assert (b"the bytes", later, 1) == (kept.content, kept.state, kept.checks)


async def test_process_with_the_wrong_key_wipes_no_reply() -> None:
    """A refund under way is queried; what the platform said first can still be read."""
    below = MemoryStore()
    right, wrong = SealedStore(below, [KEY]), SealedStore(below, [OTHER])
    await right.reserve(
        make_record(content=b"c", state=State.PENDING, status=200, reply=b"P", next_check_at=0.0)
    )
    [due] = await wrong.due("k", 10.0)
    assert await wrong.record(attrs.evolve(due, checks=1))

    kept = await right.load(KEY_OF_RECORD)
    assert kept is not None
    assert (b"c", b"P") == (kept.content, kept.reply)


async def test_what_is_finished_with_the_wrong_key_keeps_no_openid() -> None:
    """The content is dropped as ever, and the new reply replaces the old one."""
    below = MemoryStore()
    right, wrong = SealedStore(below, [KEY]), SealedStore(below, [OTHER])
    await right.reserve(make_record(content=b"c", state=State.PENDING, status=200, reply=b"P"))
    found = await wrong.load(KEY_OF_RECORD)
    assert found is not None
    assert await wrong.record(attrs.evolve(found, state=State.SUCCEEDED, reply=b"S"))

    kept = await below.load(KEY_OF_RECORD)
    again = await wrong.load(KEY_OF_RECORD)
    assert kept is not None
    assert again is not None
    assert (None, b"S") == (kept.content, again.reply)


async def test_outcome_is_not_written_blindly_when_the_store_cannot_be_read() -> None:
    """What is there cannot be put back, so nothing is written; recovery comes again."""

    class Unreadable(MemoryStore):
        async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:  # noqa: ARG002 - the store's
            raise NotSentError("the store cannot load an operation (ConnectionError)")

    store = SealedStore(Unreadable(), [KEY])
    with pytest.raises(InDoubtError, match="cannot load"):
        await store.record(make_record(state=State.UNKNOWN))


async def test_plain_success_reads_nothing_before_it_is_written() -> None:
    """Only what lacks its bytes costs another round trip."""

    class Counting(MemoryStore):
        loads = 0

        async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
            type(self).loads += 1
            return await super().load(key)

    store = SealedStore(Counting(), [KEY])
    await store.reserve(make_record(content=b"c"))
    claimed = await store.claim(KEY_OF_RECORD, now=0.0, signed_at=1)
    assert claimed is not None
    await store.record(attrs.evolve(claimed, state=State.UNKNOWN))
    done = attrs.evolve(claimed, state=State.SUCCEEDED, content=None, status=200, reply=b"S")
    await store.record(done)

    assert 0 == Counting.loads


# Several keys


async def test_first_key_seals_and_any_opens() -> None:
    """What was sealed before a change opens, and what is new needs the new key only."""
    below = MemoryStore()
    old, new = SealedStore(below, [OTHER]), SealedStore(below, [KEY])
    both = SealedStore(below, [KEY, OTHER])
    await old.reserve(make_record("before", content=b"old"))
    await both.reserve(make_record("after", content=b"new"))
    opened = {
        name: [found and found.content for found in [await store.load(("k", i)) for i in RECORDS]]
        for name, store in {"old": old, "new": new, "both": both}.items()
    }

    assert {"old": [b"old", None], "new": [None, b"new"], "both": [b"old", b"new"]} == opened


async def test_what_is_written_again_is_sealed_by_the_first_key() -> None:
    """An operation that goes on after the change needs the former key no longer."""
    below = MemoryStore()
    await SealedStore(below, [OTHER]).reserve(make_record(content=b"the bytes"))
    both = SealedStore(below, [KEY, OTHER])
    claimed = await both.claim(KEY_OF_RECORD, now=0.0, signed_at=1)
    assert claimed is not None
    await both.record(attrs.evolve(claimed, state=State.UNKNOWN, in_doubt=True))

    found = await SealedStore(below, [KEY]).load(KEY_OF_RECORD)
    assert found is not None
    assert b"the bytes" == found.content


# Versions of the layout

SEALED_IN_VERSION_1 = bytes.fromhex(
    "000102030405060708090a0b336ab33ba79cb67efe45e13ad8606291df0ed8bb0a851c4ecd"
)
"""The content `the bytes`, as 0.1.0 sealed it by KEY; so is the next one, with another nonce."""
SEALED_LIKE_VERSION_2 = bytes.fromhex(
    "020102030405060708090a0b5ce44c651f18a6a02a8d4b23c60f85ac5f34cda43e4a7ca68a"
)
SEALED_IN_VERSION_2 = bytes.fromhex(
    "02000102030405060708090a0b84eb23c833fadc140ce4c8fd501c39c2270c7b8bdcd0f52ac9"
)
"""Made with OpenSSL's HKDF and AES-GCM."""


async def open_content(content: bytes, *, keys: Sequence[bytes] = (KEY,)) -> bytes | None:
    """Return what a store makes of a content that is kept below it."""
    below = MemoryStore()
    await below.reserve(make_record(content=content))
    found = await SealedStore(below, keys).load(KEY_OF_RECORD)
    assert found is not None
    return found.content


@pytest.mark.parametrize(
    "content", [SEALED_IN_VERSION_1, SEALED_LIKE_VERSION_2, SEALED_IN_VERSION_2]
)
async def test_content_of_either_version_opens(content: bytes) -> None:
    """Also where a nonce of version 1 begins with the byte that marks version 2."""
    assert b"the bytes" == await open_content(content)
    assert b"the bytes" == await open_content(content, keys=[OTHER, KEY])
    assert await open_content(content, keys=[OTHER]) is None


async def test_content_is_sealed_in_version_2_with_a_derived_key() -> None:
    """Another implementation of HKDF (RFC 5869) and AES-GCM opens it; the key itself does not."""
    below = MemoryStore()
    await SealedStore(below, [KEY]).reserve(make_record(content=b"the bytes"))
    kept = await below.load(KEY_OF_RECORD)
    assert kept is not None
    assert kept.content is not None
    version, nonce, sealed = kept.content[:1], kept.content[1:13], kept.content[13:]
    derived = HKDF(SHA256(), 32, None, b"wxpay_async store, layout 2").derive(KEY)
    place = b"\x02\x00content\x00k\x00r1"

    assert (b"\x02", b"the bytes") == (version, AESGCM(derived).decrypt(nonce, sealed, place))
    assert OpensslCipher(KEY).decrypt(nonce, sealed, place) is None


async def test_content_of_version_1_is_written_again_in_version_2() -> None:
    """An operation that goes on leaves the former version behind."""
    below = MemoryStore()
    await below.reserve(make_record(content=SEALED_IN_VERSION_1))
    store = SealedStore(below, [KEY])
    claimed = await store.claim(KEY_OF_RECORD, now=0.0, signed_at=1)
    assert claimed is not None
    await store.record(attrs.evolve(claimed, state=State.UNKNOWN, in_doubt=True))
    kept, found = await below.load(KEY_OF_RECORD), await store.load(KEY_OF_RECORD)

    assert kept is not None
    assert found is not None
    assert (2, len(SEALED_IN_VERSION_2)) == ((kept.content or b"?")[0], len(kept.content or b""))
    assert b"the bytes" == found.content


@pytest.mark.parametrize(
    "content",
    [
        SEALED_IN_VERSION_2[1:],
        b"\x01" + SEALED_IN_VERSION_2[1:],
        b"\x03" + SEALED_IN_VERSION_2[1:],
        b"\x02" + SEALED_IN_VERSION_1,
        b"\x01" + SEALED_IN_VERSION_1,
        b"\x02",
        b"",
    ],
)
async def test_content_under_another_version_does_not_open(content: bytes) -> None:
    """The version is authenticated: no content passes for one of another version."""
    assert await open_content(content) is None


async def test_empty_content_opens_as_such() -> None:
    """Nothing was said, which is not the same as a key that is missing."""
    store = SealedStore(MemoryStore(), [KEY])
    await store.reserve(make_record(content=b""))
    found = await store.load(KEY_OF_RECORD)

    assert found is not None
    assert b"" == found.content


@pytest.mark.parametrize("make", CIPHERS)
async def test_version_is_bound_even_where_the_key_is_the_same(make: Make) -> None:
    """What is sealed by the derived key, but not for version 2, does not open in version 2."""
    cipher = make(HKDF(SHA256(), 32, None, b"wxpay_async store, layout 2").derive(KEY))
    unbound = cipher.encrypt(NONCE, b"the bytes", b"content\x00k\x00r1")

    assert await open_content(b"\x02" + NONCE + unbound) is None


@pytest.mark.parametrize("make", CIPHERS)
def test_derived_keys_are_not_shown(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the store nor by what it holds."""
    if make is PycryptodomeCipher:
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    store = SealedStore(MemoryStore(), [KEY])
    derived = HKDF(SHA256(), 32, None, b"wxpay_async store, layout 2").derive(KEY)
    shown = repr(store) + "".join(repr(vars(cipher)) for cipher in store._ciphers)

    assert make is type(store._ciphers[0])
    assert repr(derived)[2:-1] not in shown


# What may be a key


class Unfit:
    """A signer of one's own that derives a key of the wrong length."""

    sign_type = None

    def sign(self, message: bytes) -> str:  # noqa: ARG002 - every signer takes it
        """Sign nothing."""
        return ""

    def derive_key(self, context: bytes) -> bytes:
        """Return too little."""
        return context[:5]


class Keyless:
    """A signer that does not hold its secret, as one of a key service."""

    sign_type = "RSA"

    def sign(self, message: bytes) -> str:  # noqa: ARG002 - every signer takes it
        """Sign nothing."""
        return ""


SIGNER = Md5Signer("secret")


@pytest.mark.parametrize(
    ("signer", "keys"),
    [
        (Keyless(), None),
        (Unfit(), None),
        (SIGNER, []),
        (SIGNER, KEY),
        (SIGNER, KEY.hex()),
        (SIGNER, iter([KEY])),
        (SIGNER, [KEY[1:]]),
        (SIGNER, [KEY, KEY + b"0"]),
        (SIGNER, [KEY.hex()]),
        (SIGNER, [KEY, Keyless()]),
        (SIGNER, [KEY, Unfit()]),
        (SIGNER, [KEY, None]),
    ],
)
def test_keys_of_the_wrong_kind_are_refused(signer: Signer, keys: Any) -> None:  # noqa: ANN401 - of wrong types on purpose
    """One key alone is none in a list; each must have 32 bytes, or be a signer with a secret."""
    with pytest.raises(InvalidRequestError, match="32 bytes each") as caught:
        seal_store(SqlStore("sqlite:///never-opened.db"), signer, keys)

    assert "seal_keys" == caught.value.field


@pytest.mark.parametrize("keys", [[KEY], (KEY, OTHER), [SIGNER], (KEY, SIGNER), None])
def test_keys_are_bytes_or_signers(keys: Any) -> None:  # noqa: ANN401 - of wrong types, too
    """In any sequence; without any the signer's own key seals, and nothing shows them."""
    store = seal_store(SqlStore("sqlite:///never-opened.db"), SIGNER, keys)

    assert isinstance(store, SealedStore)
    assert all(32 == len(key) for key in store.keys)
    assert repr(KEY)[2:-1] not in repr(store) + repr(store.keys)


def test_memory_stays_in_the_clear_and_bad_keys_are_refused_all_the_same() -> None:
    """They would fail on the day on which the store becomes a durable one."""
    below = MemoryStore()

    assert below is seal_store(below, Keyless(), None) is seal_store(below, Keyless(), [KEY])
    with pytest.raises(InvalidRequestError):
        seal_store(below, SIGNER, [b"short"])


async def test_what_callbacks_have_told_passes_as_it_is() -> None:
    """It holds no credential and nothing of a payer, and every process must be able to read it."""
    below = MemoryStore()
    store = SealedStore(below, [KEY])

    assert await store.swap("order", version=None, value="paid", now=0.0)
    assert not await store.swap("order", version=None, value="closed", now=0.0)
    assert {"order": Entry(1, "paid")} == await store.load_entries(["order", "another"])
    assert await store.load_entries(["order"]) == await below.load_entries(["order"])
