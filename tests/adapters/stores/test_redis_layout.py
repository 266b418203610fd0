"""Check how the Redis store lays out keys and hashes, and what its scripts are and get."""

from __future__ import annotations

import re

import pytest

from tests.support.records import make_record
from wxpay_async.adapters.redis_clients import Script
from wxpay_async.adapters.stores.redis_layout import (
    ABSENT,
    PUT,
    SCRIPTS,
    Stamp,
    Stored,
    choose_set,
    make_inbox_key,
    make_keys,
    make_sending_stamp,
    read_hash,
    to_hash,
    to_milliseconds,
    write_hash,
)
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import Fingerprint

RECORD = make_record(
    fingerprint=Fingerprint("d1", {"a": "f1"}),
    state=State.PENDING,
    epoch=2,
    attempts=2,
    in_doubt=True,
    content=b"\x00",
    next_check_at=5.5,
    created_at=0.25,
    updated_at=1.0,
)
HASH = {
    "app_key": b"k",
    "request_id": b"r1",
    "operation": b"pay",
    "digest": b"d1",
    "fields": b'{"a": "f1"}',
    "state": b"pending",
    "epoch": b"2",
    "attempts": b"2",
    "in_doubt": b"1",
    "lease_until": b"0.0",
    "content": b"\x00",
    "next_check_at": b"5.5",
    "checks": b"0",
    "created_at": b"0.25",
    "updated_at": b"1.0",
}


def test_hash_of_record_is_readable_in_every_version_of_the_layout() -> None:
    """What an earlier release wrote must be readable: only fields without a value may be new."""
    flat = to_hash(RECORD)
    texts = [value if isinstance(value, bytes) else value.encode() for value in flat[1::2]]

    assert HASH == dict(zip(flat[::2], texts, strict=True))


@pytest.mark.parametrize("names", [sorted(HASH), sorted(HASH, reverse=True)])
def test_record_comes_back_from_its_hash(names: list[str]) -> None:
    """In any order, since a hash has none."""
    stored = read_hash(_pack({name: HASH[name] for name in names}))

    assert Stored(RECORD, Stamp(b"2", b"pending", b"1.0", "")) == stored


def test_stamp_has_the_mark_of_the_last_write() -> None:
    """An earlier release wrote none."""
    stored = read_hash(_pack(HASH | {"mark": b"m1"}))

    assert stored is not None
    assert Stamp(b"2", b"pending", b"1.0", b"m1") == stored.stamp


def test_hash_that_is_absent_is_none() -> None:
    """Redis gives nothing of it."""
    assert read_hash(b"") is None


def _pack(fields: dict[str, bytes]) -> bytes:
    words = [word for name, value in fields.items() for word in (name.encode(), value)]
    return b"".join(b"%d:%b" % (len(word), word) for word in words)


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_names_each_key_as_a_literal(script: Script) -> None:
    """The proxies of clouds take `KEYS[n]` and no variable, so that they can find the node."""
    calls = re.findall(r"redis\.call\('([A-Z]+)'(?:, ([^,)]+))?", script.text)

    assert calls
    assert all(name == "TIME" or re.fullmatch(r"KEYS\[[1-5]\]", key) for name, key in calls)
    assert script.text.count("redis.") == len(calls)


def test_keys_of_app_key_are_in_one_slot() -> None:
    """Redis hashes only what is in braces; the operation's key is the last."""
    assert [
        "wxpay:store:{k}:sending",
        "wxpay:store:{k}:check",
        "wxpay:store:{k}:old",
        "wxpay:store:{k}:review",
        "wxpay:store:{k}:op:r1",
    ] == make_keys(("k", "r1"))


def test_key_of_callback_is_of_limited_length() -> None:
    """It has the digest of the entry's key in it, and one node of a cluster has them all."""
    assert len("wxpay:{callbacks}:") + 64 == len(make_inbox_key("x" * 3000))


@pytest.mark.parametrize(
    ("state", "place", "life"),
    [
        (State.RESERVED, (3, "1.0"), 5000),
        (State.SENDING, (1, "7.5"), 0),
        (State.UNKNOWN, (2, "5.5"), 0),
        (State.SUCCEEDED, (3, "1.0"), 5000),
        (State.NEEDS_REVIEW, (4, "1.0"), 0),
        (State.CONFLICT, (4, "1.0"), 0),
    ],
)
def test_write_says_what_must_be_there_and_which_set_and_how_long(
    state: State, place: tuple[int, str], life: int
) -> None:
    """A lease, a query or an eviction is due at some time; only what is evictable expires.

    What waits for a person is never due, and found in a set of its own.
    """
    record = make_record(state=state, lease_until=7.5, next_check_at=5.5, updated_at=1.0)
    stamp = Stamp(b"2", b"unknown", b"1.0", b"m1")
    arguments = ["r1", b"2", b"unknown", b"1.0", b"m1", "m2", *place, life, *to_hash(record)]

    expected = PUT.call(make_keys(record.key), arguments)
    assert expected == write_hash(record, stamp, mark="m2", retention=5.0)


def test_stamps_of_what_is_known_without_a_read() -> None:
    """A new operation is absent; an outcome follows a claim, whichever process wrote meanwhile."""
    assert Stamp("", "", "", "") == ABSENT
    assert Stamp("3", "sending", "*", "*") == make_sending_stamp(3)


def test_doubt_that_is_never_due_stays_findable() -> None:
    """A list of what is open must have it."""
    assert (2, "+inf") == choose_set(make_record(state=State.UNKNOWN, next_check_at=None))


def test_reservation_in_doubt_is_in_no_set() -> None:
    """It is never due, and never dropped."""
    assert (0, "0") == choose_set(make_record(in_doubt=True))


def test_time_to_live_is_at_least_a_millisecond() -> None:
    """Redis takes no zero."""
    assert [1, 1, 1500] == [to_milliseconds(seconds) for seconds in (0.0, 0.0001, 1.5)]
