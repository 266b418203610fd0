"""What every store must do with an operation: memory, SQLite, PostgreSQL, MariaDB and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest

from tests.contract.stores import (
    ALL,
    MEMORY,
    NOW,
    SIGNED_AT,
    Place,
    claimed_by,
    in_state,
    place_of,
    warm,
)
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import fingerprint

Check = Callable[[Place, IdempotencyStore], Awaitable[None]]

EVERY_FIELD: dict[str, object] = {
    "out_trade_no": "订单-\N{GRINNING FACE}",
    "state": State.PENDING,
    "epoch": 2**40,
    "attempts": 7,
    "in_doubt": True,
    "signed_at": 2**53 - 1,
    "lease_until": 0.1 + 0.2,
    "content": bytes(range(256)) * 256,
    "status": 200,
    "reply": b"\x00\xff'\\\r\n",
    "doubt_since": NOW + 1e-6,
    "next_check_at": NOW + 1 / 3,
    "checks": 5,
    "absent_at": 1e-300,
    "created_at": NOW - 1e-6,
    "updated_at": NOW + 2 / 3,
}


@pytest.fixture(params=ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open a fresh place."""
    async with place_of(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def store(place: Place) -> IdempotencyStore:
    """Make a store there."""
    return place.store()


# Reserving


async def test_a_reserved_entry_is_there(place: Place, store: IdempotencyStore) -> None:
    """What was reserved is returned, and loaded by any other store object."""
    record = place.make_record()

    assert record == await store.reserve(record)
    assert record == await place.store().load(record.key)


async def test_a_key_is_reserved_once(place: Place, store: IdempotencyStore) -> None:
    """The second request with a requestId gets the first one's record, by which it is judged."""
    first = place.make_record(fingerprint=fingerprint("pay", {"payToken": "a", "appId": "w"}))
    second = place.make_record(fingerprint=fingerprint("pay", {"payToken": "b", "appId": "w"}))
    await store.reserve(first)

    stored = await store.reserve(second)

    assert first == stored
    assert ("payToken",) == stored.fingerprint.differences(second.fingerprint)


async def test_what_is_absent_is_none(place: Place, store: IdempotencyStore) -> None:
    """An unknown key cannot be loaded, claimed or recorded."""
    record = place.make_record()

    assert await store.load(record.key) is None
    assert await store.claim(record.key, now=NOW, signed_at=SIGNED_AT) is None
    assert not await store.record(record)
    assert await store.load(record.key) is None


async def test_keys_are_compared_exactly(place: Place, store: IdempotencyStore) -> None:
    """Case matters, and requestIds of two appKeys have nothing to do with each other."""
    records = [place.make_record("abc"), place.make_record("ABC"), place.make_record("abc", app_key="another")]
    if place.kind == "redis":
        records[2] = attrs.evolve(records[2], app_key=f"another:{{{place.app_key}}}")

    assert records == [await store.reserve(record) for record in records]
    assert records == [await store.load(record.key) for record in records]


def test_the_round_trip_below_covers_every_field() -> None:
    """A field that is added to `IdempotencyRecord` has to be added there, and to every store."""
    names = {field.name for field in attrs.fields(IdempotencyRecord)}
    given = {"app_key", "request_id", "operation", "fingerprint"}

    assert names - given == set(EVERY_FIELD)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="none"),
        pytest.param(EVERY_FIELD, id="all"),
        pytest.param({"content": b"", "reply": b"", "out_trade_no": ""}, id="empty"),
        pytest.param({"reply": b"\x00" * 1_100_000}, id="largest reply"),
    ],
)
async def test_every_field_comes_back_as_it_was(
    place: Place, store: IdempotencyStore, changes: dict[str, object]
) -> None:
    """Reserving and recording keep every field to the last bit; None is not zero or empty."""
    changes = {"fingerprint": fingerprint("pay", {"主题": "ü", "a": "1"}), **changes}
    reserved = place.make_record("reserved", **changes)
    await store.reserve(reserved)
    claimed = await claimed_by(store, place.make_record("recorded"))
    recorded = place.make_record("recorded", **{**changes, "epoch": claimed.epoch})
    assert await store.record(recorded)

    for expected in (reserved, recorded):
        loaded = await place.store().load(expected.key)
        assert expected == loaded
        assert dict(expected.fingerprint.fields) == dict(loaded.fingerprint.fields)


# Claiming


@pytest.mark.parametrize("state", State)
async def test_only_what_nobody_sends_or_settled_can_be_claimed(
    place: Place, store: IdempotencyStore, state: State
) -> None:
    """RESERVED and UNKNOWN can be claimed, the other eight states cannot."""
    record = in_state(place.make_record(), state)
    await store.reserve(record)

    claimed = await store.claim(record.key, now=NOW, signed_at=SIGNED_AT)

    assert (state in {State.RESERVED, State.UNKNOWN}) == (claimed is not None)
    assert (claimed or record) == await store.load(record.key)


@pytest.mark.parametrize("state", [State.RESERVED, State.UNKNOWN])
@pytest.mark.parametrize("doubt_since", [None, NOW - 7.5])
async def test_a_claim_is_what_the_entry_says_it_is(
    place: Place, store: IdempotencyStore, state: State, doubt_since: float | None
) -> None:
    """Epoch, attempts, lease, doubt and the signed timestamp are those of `IdempotencyRecord.claimed`."""
    record = place.make_record(
        state=state, epoch=4, attempts=2, doubt_since=doubt_since, absent_at=NOW - 1
    )
    await store.reserve(record)

    claimed = await store.claim(record.key, now=NOW + 0.1, signed_at=SIGNED_AT, lease=0.7)

    assert record.claimed(now=NOW + 0.1, signed_at=SIGNED_AT, lease=0.7) == claimed
    assert claimed == await store.load(record.key)


async def test_a_later_claim_with_an_earlier_timestamp_keeps_the_latest(
    place: Place, store: IdempotencyStore
) -> None:
    """What was signed before the clock was put back lives longest, and the quarantine with it."""
    first = await claimed_by(store, place.make_record())

    second = await store.claim(first.key, now=NOW + LEASE, signed_at=SIGNED_AT - 600_000)
    third = await store.claim(first.key, now=NOW + LEASE * 2, signed_at=SIGNED_AT + 1)

    assert first.claimed(now=NOW + LEASE, signed_at=SIGNED_AT - 600_000, lease=LEASE) == second
    assert [SIGNED_AT, SIGNED_AT, SIGNED_AT + 1] == [e.signed_at for e in (first, second, third)]


async def test_a_lease_holds_until_it_is_over(place: Place, store: IdempotencyStore) -> None:
    """Just before its end nobody else may claim; at its end one may, and the first is in doubt."""
    first = await claimed_by(store, place.make_record())

    before = await store.claim(first.key, now=NOW + LEASE - 0.001, signed_at=SIGNED_AT)
    after = await store.claim(first.key, now=NOW + LEASE, signed_at=SIGNED_AT + 1)

    assert not first.in_doubt
    assert before is None
    assert first.claimed(now=NOW + LEASE, signed_at=SIGNED_AT + 1, lease=LEASE) == after
    assert after.in_doubt


async def test_one_of_two_racing_workers_wins(place: Place) -> None:
    """In each of 100 rounds exactly one of two processes gets the claim."""
    stores = await warm(place)
    records = [place.make_record(f"r{n}") for n in range(100)]
    await asyncio.gather(*(stores[0].reserve(record) for record in records))

    won = []
    for record in records:
        claims = (s.claim(record.key, now=NOW, signed_at=SIGNED_AT) for s in stores * 2)
        won.append(sum(claim is not None for claim in await asyncio.gather(*claims)))

    assert [1] * 100 == won


async def test_concurrent_reservations_agree(place: Place) -> None:
    """Two processes that reserve one requestId at once see the same record, whichever was first."""
    stores = await warm(place)

    seen = []
    for number in range(50):
        records = [place.make_record(f"r{number}", content=content) for content in (b"a", b"b")]
        pairs = zip(stores, records, strict=True)
        stored = await asyncio.gather(*(store.reserve(record) for store, record in pairs))
        seen.append(len({record.content for record in stored}))

    assert [1] * 50 == seen


# Recording


async def test_an_outcome_is_recorded(place: Place, store: IdempotencyStore) -> None:
    """Who holds the claim writes what came of it, and may write again under the same epoch."""
    claimed = await claimed_by(store, place.make_record())
    for state in (State.UNKNOWN, State.SUCCEEDED):
        done = attrs.evolve(claimed, state=state, lease_until=0.0, updated_at=NOW + 1)

        assert await store.record(done)
        assert done == await store.load(claimed.key)


async def test_a_late_outcome_changes_nothing(place: Place, store: IdempotencyStore) -> None:
    """Who was overtaken by another claim writes nothing, however good its news are."""
    late = await claimed_by(store, place.make_record())
    current = await store.claim(late.key, now=NOW + LEASE, signed_at=SIGNED_AT)

    assert not await store.record(attrs.evolve(late, state=State.SUCCEEDED, reply=b"late"))
    assert current == await store.load(late.key)


async def test_an_outcome_after_the_sweep_changes_nothing(
    place: Place, store: IdempotencyStore
) -> None:
    """A sweep that ended the lease has overtaken the claim, too."""
    late = await claimed_by(store, place.make_record())
    await store.sweep(place.app_key, NOW + LEASE)
    swept = await store.load(late.key)

    assert not await store.record(attrs.evolve(late, state=State.REJECTED))
    assert swept == await store.load(late.key)


async def test_an_epoch_from_the_future_changes_nothing(
    place: Place, store: IdempotencyStore
) -> None:
    """Only the epoch that is stored may write, not just any that is high enough."""
    claimed = await claimed_by(store, place.make_record())

    assert not await store.record(attrs.evolve(claimed, epoch=claimed.epoch + 1))
    assert claimed == await store.load(claimed.key)


@pytest.mark.parametrize(
    ("stands", "late"),
    [
        (State.SUCCEEDED, State.UNKNOWN),
        (State.NOT_EXECUTED, State.SUCCEEDED),
        (State.NEEDS_REVIEW, State.FAILED),
        (State.PENDING, State.UNKNOWN),
    ],
)
async def test_a_late_finding_undoes_nothing(
    place: Place, store: IdempotencyStore, stands: State, late: State
) -> None:
    """Under the very same epoch, what was found out stays; the same state may be written again."""
    claimed = await claimed_by(store, place.make_record())
    found = attrs.evolve(claimed, state=stands)
    assert await store.record(found)

    assert not await store.record(attrs.evolve(claimed, state=late))
    assert found == await store.load(claimed.key)
    assert await store.record(attrs.evolve(found, checks=1))


# What the checks above are for


class Unfenced(MemoryStore):
    """Writes whatever comes last."""

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write."""
        self._put(record)
        return True


class Unleased(MemoryStore):
    """Lets anybody claim what somebody is sending."""

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Claim."""
        record = self._records[key]
        claimed = record.claimed(now=now, signed_at=signed_at, lease=lease)
        self._put(claimed)
        return claimed


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Unfenced, test_a_late_outcome_changes_nothing),
        (Unfenced, test_an_outcome_after_the_sweep_changes_nothing),
        (Unfenced, test_an_epoch_from_the_future_changes_nothing),
        (Unleased, test_a_lease_holds_until_it_is_over),
    ],
)
async def test_a_store_without_fences_is_caught(
    broken: type[MemoryStore], check: Check, tmp_path: Path
) -> None:
    """Each check of the epoch and of the lease goes red for a store that ignores them."""
    async with place_of(MEMORY, tmp_path) as place:
        with pytest.raises(AssertionError):
            await check(place, broken())


@pytest.mark.parametrize(("stands", "late"), [(State.SUCCEEDED, State.UNKNOWN)])
async def test_a_store_that_reopens_what_is_final_is_caught(
    stands: State, late: State, tmp_path: Path
) -> None:
    """So does the check of late findings."""
    async with place_of(MEMORY, tmp_path) as place:
        with pytest.raises(AssertionError):
            await test_a_late_finding_undoes_nothing(place, Unfenced(), stands, late)
