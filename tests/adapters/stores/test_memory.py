"""The store in memory: what it forgets, and what it must not. The contract has its own suite."""

from __future__ import annotations

import attrs
import pytest

from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Receipt
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import DAY
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State
from wxpay_async.protocol.idempotency_key import fingerprint

NOW = 1_763_870_400.0
OPEN_STATES = sorted(set(State) - FINISHED - {State.RESERVED})


def _record(request_id: str = "r1", **changes: object) -> IdempotencyRecord:
    record = IdempotencyRecord(
        app_key="k",
        request_id=request_id,
        operation="refund",
        fingerprint=fingerprint("refund", {"requestId": request_id}),
        created_at=NOW,
        updated_at=NOW,
    )
    return attrs.evolve(record, **changes)


async def _finished(store: MemoryStore, request_id: str, now: float = NOW) -> IdempotencyRecord:
    record = await store.reserve(_record(request_id, created_at=now))
    claimed = await store.claim(record.key, now=now, signed_at=1)
    assert claimed is not None
    done = attrs.evolve(claimed, state=State.SUCCEEDED, updated_at=now)
    assert await store.record(done)
    return done


async def test_finished_operations_are_forgotten_beyond_the_limit_oldest_first() -> None:
    """At most `max_finished` are remembered; the newest are."""
    store = MemoryStore(max_finished=2)
    records = [await _finished(store, f"r{n}") for n in range(4)]

    assert [None, None, *records[2:]] == [await store.load(record.key) for record in records]


async def test_finished_operations_are_forgotten_after_a_day() -> None:
    """The day is counted from the end of the operation; whatever comes next sweeps."""
    store = MemoryStore()
    old = await _finished(store, "old")
    await store.reserve(_record("young", created_at=NOW + DAY - 1))
    assert await store.load(old.key) is not None
    await store.reserve(_record("younger", created_at=NOW + DAY))

    assert await store.load(old.key) is None


@pytest.mark.parametrize("state", OPEN_STATES)
async def test_what_is_open_is_never_forgotten(state: State) -> None:
    """An open operation outlives every limit: its requestId must not be sent as if it were new."""
    store = MemoryStore(max_finished=1, retention=1.0)
    record = await store.reserve(_record("open"))
    claimed = await store.claim(record.key, now=NOW, signed_at=1)
    assert claimed is not None
    await store.record(attrs.evolve(claimed, state=state, in_doubt=True))
    for n in range(20):
        await _finished(store, f"r{n}", NOW + 10 * n)
    await store.sweep("k", NOW + 100 * DAY)

    assert await store.load(record.key) is not None


async def test_a_reserved_row_in_doubt_is_never_forgotten() -> None:
    """RESERVED with an attempt in doubt is as open as UNKNOWN."""
    store = MemoryStore(max_finished=0)
    record = await store.reserve(_record())
    claimed = await store.claim(record.key, now=NOW, signed_at=1)
    assert claimed is not None
    await store.record(attrs.evolve(claimed, state=State.RESERVED, in_doubt=True))

    assert await store.load(record.key) is not None


async def test_a_claim_is_exclusive_until_its_lease_is_over() -> None:
    """A second worker gets nothing while the first holds the lease, and the doubt after it."""
    store = MemoryStore()
    record = await store.reserve(_record())
    first = await store.claim(record.key, now=NOW, signed_at=1)
    assert first is not None
    assert await store.claim(record.key, now=NOW + LEASE - 0.001, signed_at=2) is None
    second = await store.claim(record.key, now=NOW + LEASE, signed_at=3)

    assert second is not None
    assert (1, 2, True) == (first.epoch, second.epoch, second.in_doubt)
    assert not first.in_doubt


async def test_a_worker_whose_claim_was_taken_writes_nothing() -> None:
    """The epoch fences: a late record of the first claim is refused and changes nothing."""
    store = MemoryStore()
    record = await store.reserve(_record())
    first = await store.claim(record.key, now=NOW, signed_at=1)
    second = await store.claim(record.key, now=NOW + LEASE, signed_at=2)
    assert first is not None
    assert not await store.record(attrs.evolve(first, state=State.REJECTED))

    assert second == await store.load(record.key)


async def test_a_swept_worker_writes_nothing() -> None:
    """The sweep that declares a sender dead fences it too."""
    store = MemoryStore()
    record = await store.reserve(_record())
    claimed = await store.claim(record.key, now=NOW, signed_at=1)
    assert claimed is not None
    assert [record.key] == [e.key for e in await store.sweep("k", NOW + LEASE)]

    assert not await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))
    assert State.UNKNOWN is (await store.load(record.key) or record).state


@pytest.mark.parametrize("state", sorted(set(State) - {State.RESERVED, State.UNKNOWN}))
async def test_only_reserved_and_unknown_can_be_claimed(state: State) -> None:
    """Nobody sends again what is settled, accepted or with a person."""
    store = MemoryStore()
    record = await store.reserve(_record(state=state, lease_until=NOW + 1))

    assert await store.claim(record.key, now=NOW, signed_at=1) is None


async def test_a_new_claim_forgets_that_a_query_found_nothing() -> None:
    """A request that is under way again makes "not found" worth nothing."""
    store = MemoryStore()
    record = await store.reserve(_record(state=State.UNKNOWN, absent_at=NOW))
    claimed = await store.claim(record.key, now=NOW, signed_at=1)

    assert claimed is not None
    assert claimed.absent_at is None


async def test_the_sweep_hands_out_what_is_due_once_and_the_longest_waiting_first() -> None:
    """Two processes do not query for the same operation at the same time."""
    store = MemoryStore()
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0), ("later", 99.0), ("never", None)):
        due = None if at is None else NOW + at
        await store.reserve(_record(name, state=State.UNKNOWN, next_check_at=due))
    await store.reserve(_record("foreign", app_key="z", state=State.UNKNOWN, next_check_at=NOW))

    first = await store.sweep("k", NOW + 5, limit=2)
    second = await store.sweep("k", NOW + 5, limit=2)
    third = await store.sweep("k", NOW + 5)

    assert [["a", "b"], ["c"], []] == [
        [e.request_id for e in due] for due in (first, second, third)
    ]
    again = await store.sweep("k", NOW + 5 + LEASE)
    assert {"a", "b", "c"} == {e.request_id for e in again}


async def test_two_app_keys_share_nothing() -> None:
    """The same requestId of two appKeys is two operations."""
    store = MemoryStore()
    await store.reserve(_record(app_key="a"))
    stranger = _record(app_key="b", operation="pay")

    assert stranger == await store.reserve(stranger)


async def test_a_callback_is_handled_once_and_remembered() -> None:
    """Busy while it is handled, handled for 30 days, then forgotten."""
    store = MemoryStore()
    assert Receipt.ACQUIRED is await store.begin("m", now=NOW)
    assert Receipt.IN_PROGRESS is await store.begin("m", now=NOW + 1)
    await store.complete("m", now=NOW + 2)

    assert Receipt.DONE is await store.begin("m", now=NOW + INBOX_RETENTION)
    assert Receipt.ACQUIRED is await store.begin("m", now=NOW + 2 + INBOX_RETENTION)


async def test_a_callback_whose_handler_died_is_handed_out_again() -> None:
    """The lease of a handler ends too."""
    store = MemoryStore()
    await store.begin("m", now=NOW)

    assert Receipt.ACQUIRED is await store.begin("m", now=NOW + LEASE)


async def test_a_callback_that_failed_is_handed_out_again() -> None:
    """Given back, it can be taken at once."""
    store = MemoryStore()
    await store.begin("m", now=NOW)
    await store.release("m")

    assert Receipt.ACQUIRED is await store.begin("m", now=NOW)


async def test_a_late_failure_does_not_undo_what_another_handler_did() -> None:
    """A handler that lost its lease and fails afterwards cannot make the effect happen twice."""
    store = MemoryStore()
    await store.begin("m", now=NOW)
    await store.begin("m", now=NOW + LEASE)
    await store.complete("m", now=NOW + LEASE + 1)
    await store.release("m")

    assert Receipt.DONE is await store.begin("m", now=NOW + LEASE + 2)


async def test_closing_keeps_everything() -> None:
    """A gateway that is opened again finds its operations; durable is something else."""
    store = MemoryStore()
    record = await store.reserve(_record())
    await store.aclose()
    await store.aclose()

    assert record == await store.load(record.key)
    assert not store.durable


async def test_handled_callbacks_are_forgotten_beyond_the_limit_oldest_first() -> None:
    """A flood of callbacks does not fill the memory; the newest notes stay."""
    store = MemoryStore(max_handled=2)
    for n in range(4):
        assert Receipt.ACQUIRED is await store.begin(f"m{n}", now=NOW)
        await store.complete(f"m{n}", now=NOW)

    receipts = [await store.begin(f"m{n}", now=NOW + 1) for n in (3, 2, 1, 0)]
    assert [Receipt.DONE, Receipt.DONE, Receipt.ACQUIRED, Receipt.ACQUIRED] == receipts


async def test_what_is_being_handled_is_not_forgotten() -> None:
    """A second handler must not start beside the first, however many callbacks come in between."""
    store = MemoryStore(max_handled=2)
    await store.begin("slow", now=NOW)
    for n in range(4):
        await store.begin(f"m{n}", now=NOW)
        await store.complete(f"m{n}", now=NOW)

    assert Receipt.IN_PROGRESS is await store.begin("slow", now=NOW + 1)


async def test_no_note_at_all_can_be_kept() -> None:
    """Zero is a limit like any other."""
    store = MemoryStore(max_handled=0)
    await store.complete("m", now=NOW)

    assert Receipt.ACQUIRED is await store.begin("m", now=NOW)
