"""Check what the store in memory forgets, and what it must not. The contract has its own suite."""

from __future__ import annotations

import attrs
import pytest

from tests.support.records import NOW, make_record
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import DAY
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State

OPEN_STATES = sorted(set(State) - FINISHED - {State.RESERVED})


async def _claim(store: MemoryStore, request_id: str, now: float = NOW) -> IdempotencyRecord:
    record = await store.reserve(make_record(request_id, created_at=now))
    claimed = await store.claim(record.key, now=now, signed_at=1)
    assert claimed is not None
    return claimed


async def _finish(store: MemoryStore, request_id: str, now: float = NOW) -> IdempotencyRecord:
    claimed = await _claim(store, request_id, now)
    done = attrs.evolve(claimed, state=State.SUCCEEDED, updated_at=now)
    assert await store.record(done)
    return done


async def test_finished_operations_are_forgotten_beyond_the_limit_oldest_first() -> None:
    """At most `max_finished` are remembered; the newest are."""
    store = MemoryStore(max_finished=2)
    records = [await _finish(store, f"r{n}") for n in range(4)]

    assert [None, None, *records[2:]] == [await store.load(record.key) for record in records]


async def test_finished_operations_are_forgotten_after_a_day() -> None:
    """The day is counted from the end of the operation; the next reservation sweeps."""
    store = MemoryStore()
    old = await _finish(store, "old")
    await store.reserve(make_record("young", created_at=NOW + DAY - 1))
    assert await store.load(old.key) is not None
    await store.reserve(make_record("younger", created_at=NOW + DAY))

    assert await store.load(old.key) is None


@pytest.mark.parametrize("state", OPEN_STATES)
async def test_what_is_open_is_never_forgotten(state: State) -> None:
    """An open operation outlives every limit: its requestId must not be sent as if it were new."""
    store = MemoryStore(max_finished=1, retention=1.0)
    claimed = await _claim(store, "open")
    await store.record(attrs.evolve(claimed, state=state, in_doubt=True))
    for n in range(20):
        await _finish(store, f"r{n}", NOW + 10 * n)
    await store.forget("k", NOW + 100 * DAY)

    assert await store.load(claimed.key) is not None


async def test_reserved_row_in_doubt_is_never_forgotten() -> None:
    """RESERVED with an attempt in doubt is as open as UNKNOWN."""
    store = MemoryStore(max_finished=0)
    claimed = await _claim(store, "doubt")
    await store.record(attrs.evolve(claimed, state=State.RESERVED, in_doubt=True))

    assert await store.load(claimed.key) is not None


async def test_ended_reservations_are_forgotten_beyond_the_limit_oldest_first() -> None:
    """At most `max_finished` are remembered of those that no call works on."""
    store = MemoryStore(max_finished=2)
    records = [await store.reserve(make_record(f"r{n}")) for n in range(5)]
    for record in records[:4]:
        store.end_reservation(record.key)

    assert [None, None, *records[2:]] == [await store.load(record.key) for record in records]


async def test_reservation_that_is_made_again_is_not_forgotten() -> None:
    """A call works on it; where it was ended long ago does not count any more."""
    store = MemoryStore(max_finished=1)
    record = await store.reserve(make_record("again"))
    store.end_reservation(record.key)
    await store.reserve(make_record("again"))
    for n in range(3):
        store.end_reservation((await store.reserve(make_record(f"r{n}"))).key)

    assert record == await store.load(record.key)


@pytest.mark.parametrize("state", OPEN_STATES)
async def test_open_operation_is_no_ended_reservation(state: State) -> None:
    """What may have been sent is kept, whatever its call says, then or later."""
    store = MemoryStore(max_finished=0)
    early = await store.reserve(make_record("early"))
    claimed = await _claim(store, "late")
    await store.record(attrs.evolve(claimed, state=state, in_doubt=True))
    store.end_reservation(claimed.key)
    assert await store.load(claimed.key) is not None

    store.end_reservation(early.key)
    assert await store.load(early.key) is None
    store.end_reservation(early.key)  # it is not there any more


async def test_ended_reservation_that_is_sent_after_all_is_not_forgotten() -> None:
    """A second gateway over the same store held it, too."""
    store = MemoryStore(max_finished=1)
    record = await store.reserve(make_record("shared"))
    store.end_reservation(record.key)
    assert await store.claim(record.key, now=NOW, signed_at=1) is not None
    for n in range(3):
        store.end_reservation((await store.reserve(make_record(f"r{n}"))).key)

    assert await store.load(record.key) is not None


async def test_closing_keeps_everything() -> None:
    """A gateway that is opened again finds its operations; that does not make them durable."""
    store = MemoryStore()
    record = await store.reserve(make_record())
    await store.aclose()

    assert record == await store.load(record.key)
    assert not store.durable


async def test_callbacks_are_forgotten_beyond_the_limit_the_longest_unchanged_first() -> None:
    """A flood of callbacks does not fill the memory; what was changed last stays."""
    store = MemoryStore(max_handled=2)
    await store.swap("m0", version=None, value="", now=NOW)
    await store.swap("m1", version=None, value="", now=NOW)
    await store.swap("m0", version=1, value="", now=NOW)
    await store.swap("m2", version=None, value="", now=NOW)

    assert {"m0", "m2"} == set(await store.load_entries(["m0", "m1", "m2"]))
    assert 2 == len(store._entries)


async def test_callbacks_are_forgotten_30_days_after_their_last_change() -> None:
    """The next change of any of them drops them."""
    store = MemoryStore()
    for key in ("m0", "m1"):
        await store.swap(key, version=None, value="", now=NOW)
    await store.swap("m0", version=1, value="", now=NOW + 1)

    await store.swap("m2", version=None, value="", now=NOW + INBOX_RETENTION)

    assert {"m0", "m2"} == set(await store.load_entries(["m0", "m1", "m2"]))


async def test_no_callback_at_all_can_be_kept() -> None:
    """Zero is a limit like any other."""
    store = MemoryStore(max_handled=0)

    assert await store.swap("m", version=None, value="", now=NOW)
    assert {} == await store.load_entries(["m"])
