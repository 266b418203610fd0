"""How every store tends what is open, forgets what is old, and handles a callback once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from pathlib import Path

import attrs
import pytest

from tests.contract.stores import (
    ALL,
    NOW,
    RETENTION,
    SIGNED_AT,
    Place,
    claimed_by,
    in_state,
    place_of,
    warm,
)
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Receipt
from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.states import FINISHED, State


@pytest.fixture(params=ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open a fresh place."""
    async with place_of(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def store(place: Place) -> IdempotencyStore:
    """Make a store there."""
    return place.store()


# Sweeping


async def test_a_lapsed_lease_ends_in_doubt(place: Place, store: IdempotencyStore) -> None:
    """At the end of its lease an operation in SENDING becomes UNKNOWN, and is due at once."""
    claimed = await claimed_by(store, place.make_record())

    assert [] == await store.sweep(place.app_key, NOW + LEASE - 0.001)
    assert claimed == await store.load(claimed.key)

    lapsed = claimed.with_expired_lease(NOW + LEASE)
    assert [lapsed] == await store.sweep(place.app_key, NOW + LEASE)
    moved = attrs.evolve(lapsed, next_check_at=NOW + 2 * LEASE)
    assert moved == await store.load(claimed.key)


async def test_what_is_due_is_handed_out_once(place: Place, store: IdempotencyStore) -> None:
    """The longest waiting come first, at most `limit`; each is left alone for a lease then."""
    dues = {"b": NOW + 2, "a": NOW + 1, "c": NOW + 3, "later": NOW + 50, "never": None}
    for name, due in dues.items():
        state = State.PENDING if name == "b" else State.UNKNOWN
        await store.reserve(place.make_record(name, state=state, next_check_at=due))

    sweeps = [await store.sweep(place.app_key, NOW + 3, limit=2) for _ in range(3)]

    assert [["a", "b"], ["c"], []] == [[e.request_id for e in due] for due in sweeps]
    assert NOW + 1 == sweeps[0][0].next_check_at
    loaded = await store.load(place.make_record("a").key)
    assert attrs.evolve(sweeps[0][0], next_check_at=NOW + 3 + LEASE) == loaded
    again = await store.sweep(place.app_key, NOW + 3 + LEASE)
    assert {"a", "b", "c"} == {record.request_id for record in again}


@pytest.mark.parametrize("state", sorted(set(State) - {State.UNKNOWN, State.PENDING}))
async def test_only_what_a_query_can_settle_is_due(
    place: Place, store: IdempotencyStore, state: State
) -> None:
    """A record in another state is not handed out, whatever its `next_check_at` says."""
    await store.reserve(in_state(place.make_record(next_check_at=NOW - 1), state))

    assert [] == await store.sweep(place.app_key, NOW)


async def test_a_settled_entry_is_due_no_more(place: Place, store: IdempotencyStore) -> None:
    """Claiming and recording take an operation off the sweep's list."""
    await store.reserve(place.make_record(state=State.UNKNOWN, next_check_at=NOW))
    claimed = await store.claim(place.make_record().key, now=NOW, signed_at=SIGNED_AT)
    assert claimed is not None

    assert [] == await store.sweep(place.app_key, NOW + 1)
    await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))
    assert [] == await store.sweep(place.app_key, NOW + LEASE)


async def test_a_sweep_tends_its_app_key_only(place: Place, store: IdempotencyStore) -> None:
    """Other appKeys' operations neither lapse nor become due, and no spelling is another's."""
    foreign = place.make_record(app_key=place.app_key.upper(), state=State.UNKNOWN, next_check_at=NOW)
    await store.reserve(foreign)
    sending = await claimed_by(store, place.make_record("r2", app_key=place.app_key.upper()))

    assert [] == await store.sweep(place.app_key, NOW + 2 * LEASE)
    assert [foreign, sending] == [await store.load(e.key) for e in (foreign, sending)]


async def test_two_sweepers_share_nothing(place: Place) -> None:
    """Processes that sweep at the same time get every due record once between them."""
    stores = await warm(place)
    records = [place.make_record(f"r{n}", state=State.UNKNOWN, next_check_at=NOW - n) for n in range(60)]
    await asyncio.gather(*(stores[0].reserve(record) for record in records))

    sweeps = (s.sweep(place.app_key, NOW, limit=7) for _ in range(8) for s in stores)
    seen = list(itertools.chain.from_iterable(await asyncio.gather(*sweeps)))
    while more := await stores[0].sweep(place.app_key, NOW):
        seen += more  # what one sweep held while another one looked is left for the next

    assert sorted(e.request_id for e in records) == sorted(e.request_id for e in seen)


@pytest.mark.parametrize("state", State)
async def test_only_what_may_be_forgotten_is(
    place: Place, store: IdempotencyStore, state: State
) -> None:
    """After the retention a finished or unsent operation is dropped; an open one never is."""
    record = in_state(place.make_record(), state)
    await store.reserve(record)

    await store.sweep(place.app_key, NOW + RETENTION - 0.001)
    assert await store.load(record.key) is not None
    await store.sweep(place.app_key, NOW + RETENTION)

    gone = await store.load(record.key) is None
    assert (state in FINISHED | {State.RESERVED}) == gone


async def test_a_reservation_in_doubt_is_kept(place: Place, store: IdempotencyStore) -> None:
    """What may have been sent is not forgotten, whatever else the record says."""
    record = place.make_record(in_doubt=True)
    await store.reserve(record)
    await store.sweep(place.app_key, NOW + 2 * RETENTION)

    assert record == await store.load(record.key)


async def test_a_forgotten_key_is_free(place: Place, store: IdempotencyStore) -> None:
    """After the eviction the requestId can be reserved and claimed as if it were new."""
    claimed = await claimed_by(store, place.make_record())
    await store.record(attrs.evolve(claimed, state=State.SUCCEEDED, reply=b"old"))
    await store.sweep(place.app_key, NOW + RETENTION)
    later = place.make_record(created_at=NOW + RETENTION, updated_at=NOW + RETENTION)

    assert later == await store.reserve(later)
    assert 1 == (await claimed_by(store, later, now=NOW + RETENTION)).epoch


async def test_retention_counts_from_the_last_write(place: Place, store: IdempotencyStore) -> None:
    """An operation that was reserved long ago and finished just now is kept."""
    claimed = await claimed_by(store, place.make_record(), now=NOW + RETENTION - 1)
    done = attrs.evolve(claimed, state=State.FAILED, updated_at=NOW + RETENTION)
    await store.record(done)
    await store.sweep(place.app_key, NOW + RETENTION)

    assert done == await store.load(done.key)


# The inbox


async def test_a_callback_is_handled_once(place: Place, store: IdempotencyStore) -> None:
    """It is busy while one handles it, and known for 30 days once that is done."""
    message = place.message("paid")
    other = place.store()

    assert await store.begin(message, now=NOW) is Receipt.ACQUIRED
    assert await other.begin(message, now=NOW + LEASE - 0.001) is Receipt.IN_PROGRESS
    await store.complete(message, now=NOW)
    await store.complete(message, now=NOW)
    assert await other.begin(message, now=NOW + INBOX_RETENTION - 0.001) is Receipt.DONE
    assert await other.begin(message, now=NOW + INBOX_RETENTION) is Receipt.ACQUIRED


async def test_a_callback_that_was_never_received_may_be_noted(
    place: Place, store: IdempotencyStore
) -> None:
    """A handler whose claim was swept away meanwhile still gets its effect noted."""
    message = place.message("paid")
    await store.complete(message, now=NOW)

    assert await store.begin(message, now=NOW) is Receipt.DONE


async def test_a_dead_handler_is_replaced(place: Place, store: IdempotencyStore) -> None:
    """At the end of its lease a callback that nobody gave back may be handled by another."""
    message = place.message("paid")
    await store.begin(message, now=NOW, lease=5.0)

    assert await store.begin(message, now=NOW + 4.999) is Receipt.IN_PROGRESS
    assert await store.begin(message, now=NOW + 5.0) is Receipt.ACQUIRED


async def test_a_failed_callback_comes_again(place: Place, store: IdempotencyStore) -> None:
    """What its handler gave back is handled when the platform sends it again."""
    message = place.message("paid")
    await store.begin(message, now=NOW)
    await store.release(message)
    await store.release(message)

    assert await store.begin(message, now=NOW) is Receipt.ACQUIRED


async def test_what_is_handled_stays_handled(place: Place, store: IdempotencyStore) -> None:
    """A late handler that fails does not undo what its replacement did."""
    message = place.message("paid")
    await store.begin(message, now=NOW)
    await store.complete(message, now=NOW)
    await store.release(message)

    assert await store.begin(message, now=NOW + 1) is Receipt.DONE


async def test_messages_are_compared_exactly(place: Place, store: IdempotencyStore) -> None:
    """However long two messages are, one difference makes them two."""
    messages = [place.message("x" * 3000 + end) for end in ("", "a", "A", "a ", "é")]

    receipts = [await store.begin(message, now=NOW) for message in messages]

    assert [Receipt.ACQUIRED] * len(messages) == receipts


async def test_one_of_two_racing_handlers_wins(place: Place) -> None:
    """In each of 30 rounds exactly one of two processes may handle the callback."""
    stores = await warm(place)

    for number in range(30):
        message = place.message(f"m{number}")
        for now in (NOW, NOW + LEASE):  # as new, and after a handler that never came back
            receipts = await asyncio.gather(*(s.begin(message, now=now) for s in stores))
            assert {Receipt.IN_PROGRESS, Receipt.ACQUIRED} == set(receipts)
