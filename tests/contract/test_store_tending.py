"""Check how every store sweeps: what is due, what becomes a doubt, what is forgotten."""

from __future__ import annotations

import asyncio
import itertools

import attrs
import pytest

from tests.contract.stores import (
    RETENTION,
    Place,
    claim_new,
    set_state,
    warm_stores,
)
from tests.support.records import NOW, SIGNED_AT
from wxpay_async.adapters.stores.store import Store
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.states import FINISHED, State


async def test_lapsed_lease_ends_in_doubt(place: Place, store: Store) -> None:
    """At the end of its lease an operation in SENDING becomes UNKNOWN, and is due at once."""
    claimed = await claim_new(store, place.make_record())

    assert [] == await store.due(place.app_key, NOW + LEASE - 0.001)
    assert claimed == await store.load(claimed.key)

    lapsed = claimed.with_expired_lease(NOW + LEASE)
    assert [lapsed] == await store.due(place.app_key, NOW + LEASE)
    moved = attrs.evolve(lapsed, next_check_at=NOW + 2 * LEASE)
    assert moved == await store.load(claimed.key)


async def test_what_is_due_is_handed_out_once(place: Place, store: Store) -> None:
    """The longest waiting come first, at most `limit`; each is left alone for a lease then."""
    dues = {"b": NOW + 2, "a": NOW + 1, "c": NOW + 3, "later": NOW + 50, "never": None}
    for name, due in dues.items():
        state = State.PENDING if name == "b" else State.UNKNOWN
        await store.reserve(place.make_record(name, state=state, next_check_at=due))

    sweeps = [await store.due(place.app_key, NOW + 3, limit=2) for _ in range(3)]

    assert [["a", "b"], ["c"], []] == [[e.request_id for e in due] for due in sweeps]
    assert NOW + 1 == sweeps[0][0].next_check_at
    loaded = await store.load(place.make_record("a").key)
    assert attrs.evolve(sweeps[0][0], next_check_at=NOW + 3 + LEASE) == loaded
    again = await store.due(place.app_key, NOW + 3 + LEASE)
    assert {"a", "b", "c"} == {record.request_id for record in again}


@pytest.mark.parametrize("state", sorted(set(State) - {State.UNKNOWN, State.PENDING}))
async def test_only_what_a_query_can_settle_is_due(
    place: Place, store: Store, state: State
) -> None:
    """A record in another state is not handed out, even if its `next_check_at` has come."""
    await store.reserve(set_state(place.make_record(next_check_at=NOW - 1), state))

    assert [] == await store.due(place.app_key, NOW)


async def test_settled_record_is_due_no_more(place: Place, store: Store) -> None:
    """Claiming and recording take an operation off the sweep's list."""
    await store.reserve(place.make_record(state=State.UNKNOWN, next_check_at=NOW))
    claimed = await store.claim(place.make_record().key, now=NOW, signed_at=SIGNED_AT)
    assert claimed is not None

    assert [] == await store.due(place.app_key, NOW + 1)
    await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))
    assert [] == await store.due(place.app_key, NOW + LEASE)


async def test_sweep_tends_its_app_key_only(place: Place, store: Store) -> None:
    """Other appKeys' operations neither lapse nor become due, and no spelling is another's."""
    other = place.app_key.upper()
    foreign = place.make_record(app_key=other, state=State.UNKNOWN, next_check_at=NOW)
    await store.reserve(foreign)
    sending = await claim_new(store, place.make_record("r2", app_key=other))

    assert [] == await store.due(place.app_key, NOW + 2 * LEASE)
    assert [foreign, sending] == [await store.load(e.key) for e in (foreign, sending)]


async def test_two_sweepers_share_nothing(place: Place) -> None:
    """Processes that sweep at the same time get every due record once between them."""
    stores = await warm_stores(place)
    records = [
        place.make_record(f"r{n}", state=State.UNKNOWN, next_check_at=NOW - n) for n in range(60)
    ]
    await asyncio.gather(*(stores[0].reserve(record) for record in records))

    sweeps = (s.due(place.app_key, NOW, limit=7) for _ in range(8) for s in stores)
    seen = list(itertools.chain.from_iterable(await asyncio.gather(*sweeps)))
    while more := await stores[0].due(place.app_key, NOW):
        seen += more  # what one sweep held while another one looked is left for the next

    assert sorted(e.request_id for e in records) == sorted(e.request_id for e in seen)


@pytest.mark.parametrize("state", State)
async def test_only_what_may_be_forgotten_is(place: Place, store: Store, state: State) -> None:
    """After the retention a finished or unsent operation is dropped; an open one never is."""
    record = set_state(place.make_record(), state)
    await store.reserve(record)

    await store.due(place.app_key, NOW + 2 * RETENTION)
    assert 0 == await store.forget(place.app_key, NOW + RETENTION - 0.001)
    assert await store.load(record.key) is not None
    dropped = await store.forget(place.app_key, NOW + RETENTION)

    gone = await store.load(record.key) is None
    assert (state in FINISHED | {State.RESERVED}) == gone == (dropped == 1)


async def test_reservation_in_doubt_is_kept(place: Place, store: Store) -> None:
    """What may have been sent is not forgotten, even if its state is RESERVED."""
    record = place.make_record(in_doubt=True)
    await store.reserve(record)
    await store.forget(place.app_key, NOW + 2 * RETENTION)

    assert record == await store.load(record.key)


async def test_forgotten_key_is_free(place: Place, store: Store) -> None:
    """After the eviction the requestId can be reserved and claimed as if it were new."""
    claimed = await claim_new(store, place.make_record())
    await store.record(attrs.evolve(claimed, state=State.SUCCEEDED, reply=b"old"))
    await store.forget(place.app_key, NOW + RETENTION)
    later = place.make_record(created_at=NOW + RETENTION, updated_at=NOW + RETENTION)

    assert later == await store.reserve(later)
    assert 1 == (await claim_new(store, later, now=NOW + RETENTION)).epoch


async def test_retention_counts_from_the_last_write(place: Place, store: Store) -> None:
    """An operation that was reserved long ago and finished just now is kept."""
    claimed = await claim_new(store, place.make_record(), now=NOW + RETENTION - 1)
    done = attrs.evolve(claimed, state=State.FAILED, updated_at=NOW + RETENTION)
    await store.record(done)
    await store.forget(place.app_key, NOW + RETENTION)

    assert done == await store.load(done.key)


async def test_forgetting_ends_at_its_limit(place: Place, store: Store) -> None:
    """It says how many went, so that one knows whether there are more."""
    records = [place.make_record(f"r{n}", state=State.SUCCEEDED) for n in range(5)]
    for record in records:
        await store.reserve(record)

    dropped = [await store.forget(place.app_key, NOW + RETENTION, limit=2) for _ in range(4)]

    assert [2, 2, 1, 0] == dropped
    assert {} == await store.load_many([record.key for record in records])


async def test_forgetting_leaves_what_is_of_another_app_key(place: Place, store: Store) -> None:
    """No spelling is another's."""
    foreign = place.make_record(app_key=place.app_key.upper(), state=State.SUCCEEDED)
    await store.reserve(foreign)
    await store.forget(place.app_key, NOW + RETENTION)

    assert foreign == await store.load(foreign.key)
