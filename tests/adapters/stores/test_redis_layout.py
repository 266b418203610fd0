"""Check how the Redis store lays out keys and hashes, and what its scripts get."""

from __future__ import annotations

import pytest

from tests.support.records import make_record
from wxpay_async.adapters.stores.redis_layout import (
    from_hash,
    make_inbox_key,
    make_keys,
    make_write_arguments,
    to_hash,
    to_milliseconds,
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


def test_hash_of_record_ends_with_the_epoch() -> None:
    """The script that records compares its last argument with the stored epoch."""
    assert ["epoch", "2"] == to_hash(RECORD)[-2:]


def test_record_comes_back_from_its_hash() -> None:
    """In any order, since a hash has none."""
    for names in (sorted(HASH), sorted(HASH, reverse=True)):
        flat = [part for name in names for part in (name.encode(), HASH[name])]

        assert RECORD == from_hash(flat)


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
    ("state", "expected"),
    [
        (State.RESERVED, (3, "1.0", 5000)),
        (State.SENDING, (1, "7.5", 0)),
        (State.UNKNOWN, (2, "5.5", 0)),
        (State.SUCCEEDED, (3, "1.0", 5000)),
        (State.NEEDS_REVIEW, (4, "1.0", 0)),
        (State.CONFLICT, (4, "1.0", 0)),
    ],
)
def test_write_arguments_say_which_set_and_how_long(
    state: State, expected: tuple[int, str, int]
) -> None:
    """A lease, a query or an eviction is due at some time; only what is evictable expires.

    What waits for a person is never due, and found in a set of its own.
    """
    record = make_record(state=state, lease_until=7.5, next_check_at=5.5, updated_at=1.0)

    assert ["r1", *expected, *to_hash(record)] == make_write_arguments(record, retention=5.0)


def test_write_arguments_of_a_doubt_that_is_never_due_keep_it_findable() -> None:
    """A list of what is open must have it."""
    record = make_record(state=State.UNKNOWN, next_check_at=None)

    assert ["r1", 2, "+inf", 0] == make_write_arguments(record, retention=5.0)[:4]


def test_write_arguments_of_a_reservation_in_doubt_name_no_set() -> None:
    """It is never due, and never dropped."""
    record = make_record(in_doubt=True)

    assert ["r1", 0, "0", 0] == make_write_arguments(record, retention=5.0)[:4]


def test_time_to_live_is_at_least_a_millisecond() -> None:
    """Redis takes no zero."""
    assert [1, 1, 1500] == [to_milliseconds(seconds) for seconds in (0.0, 0.0001, 1.5)]
