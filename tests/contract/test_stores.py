"""Check what every store does with an operation: memory, SQLite, PostgreSQL, MariaDB, Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Unpack

import attrs
import pytest

from tests.contract.stores import MEMORY, Place, claim_new, open_place, set_state, warm_stores
from tests.support.records import EVERY_FIELD, NOW, SIGNED_AT, Claim, make_fingerprint
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.policy.record import LEASE, OPEN, IdempotencyRecord
from wxpay_async.policy.states import FINAL_STEPS, REVIEW, State

Check = Callable[[Place, Store], Awaitable[None]]


# Reserving


async def test_reserved_record_is_there(place: Place, store: Store) -> None:
    """What was reserved is returned, and loaded by any other store object."""
    record = place.make_record()

    assert record == await store.reserve(record)
    assert record == await place.make_store().load(record.key)


async def test_key_is_reserved_once(place: Place, store: Store) -> None:
    """The second request with a requestId gets the first one's record, by which it is judged."""
    first = place.make_record(fingerprint=make_fingerprint(payToken="a", appId="w"))
    second = place.make_record(fingerprint=make_fingerprint(payToken="b", appId="w"))
    await store.reserve(first)

    stored = await store.reserve(second)

    assert first == stored
    assert ("payToken",) == stored.fingerprint.differences(second.fingerprint)


async def test_what_is_absent_is_none(place: Place, store: Store) -> None:
    """An unknown key cannot be loaded, claimed or recorded."""
    record = place.make_record()

    assert await store.load(record.key) is None
    assert await store.claim(record.key, now=NOW, signed_at=SIGNED_AT) is None
    assert not await store.record(record)
    assert await store.load(record.key) is None


async def test_keys_are_compared_exactly(place: Place, store: Store) -> None:
    """Case matters, and requestIds of two appKeys have nothing to do with each other."""
    other = f"another:{{{place.app_key}}}" if place.kind == "redis" else "another"
    keys = (("abc", place.app_key), ("ABC", place.app_key), ("abc", other))
    records = [place.make_record(name, app_key=app_key) for name, app_key in keys]

    assert records == [await store.reserve(record) for record in records]
    assert records == [await store.load(record.key) for record in records]


async def test_many_are_loaded_at_once(place: Place, store: Store) -> None:
    """Those that are there, under their own keys, however many are asked for."""
    records = [place.make_record(f"r{n}", content=b"%d" % n) for n in range(40)]
    await asyncio.gather(*map(store.reserve, records))
    absent = [place.make_record(f"absent-{n}").key for n in range(700)]
    keys = [record.key for record in records]

    assert {record.key: record for record in records} == await store.load_many([*absent, *keys])
    assert {} == await store.load_many([])


async def test_record_that_is_being_sent_is_reserved_and_claimed_at_once(
    place: Place, store: Store
) -> None:
    """One commit; the claim is like any other, and the second caller sees whose it is."""
    fresh = place.make_record(content=b"body")
    first, second = (
        fresh.with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token=token)
        for token in ("first", "second")
    )

    assert (first, first) == (await store.reserve(first), await store.reserve(second))
    assert await store.claim(fresh.key, now=NOW + 1, signed_at=SIGNED_AT, token="second") is None
    done = attrs.evolve(first, state=State.SUCCEEDED, lease_until=0.0, claim_token=None)
    assert await store.record(done)
    assert done == await store.reserve(second)


async def test_lease_of_what_was_reserved_as_sent_runs_out(place: Place, store: Store) -> None:
    """Its process died: it is in doubt, and is asked about."""
    fresh = place.make_record()
    await store.reserve(fresh.with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token="t"))

    assert [] == await store.due(place.app_key, NOW + LEASE - 0.001)
    [lapsed] = await store.due(place.app_key, NOW + LEASE)
    assert (State.UNKNOWN, True, 2) == (lapsed.state, lapsed.in_doubt, lapsed.epoch)


def test_round_trip_below_covers_every_field() -> None:
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
    place: Place, store: Store, changes: dict[str, object]
) -> None:
    """Reserving and recording keep every field to the last bit; None is not zero or empty."""
    changes = {"fingerprint": make_fingerprint(主题="ü", a="1"), **changes}
    reserved = place.make_record("reserved", **changes)
    await store.reserve(reserved)
    claimed = await claim_new(store, place.make_record("recorded"))
    recorded = place.make_record("recorded", **{**changes, "epoch": claimed.epoch})
    assert await store.record(recorded)

    for expected in (reserved, recorded):
        loaded = await place.make_store().load(expected.key)
        assert expected == loaded
        assert dict(expected.fingerprint.fields) == dict(loaded.fingerprint.fields)


# Claiming


@pytest.mark.parametrize("state", State)
async def test_only_reserved_and_unknown_records_can_be_claimed(
    place: Place, store: Store, state: State
) -> None:
    """What is being sent or is settled cannot be claimed: eight of the ten states."""
    record = set_state(place.make_record(), state)
    await store.reserve(record)

    claimed = await store.claim(record.key, now=NOW, signed_at=SIGNED_AT)

    assert (state in {State.RESERVED, State.UNKNOWN}) == (claimed is not None)
    assert (claimed or record) == await store.load(record.key)


@pytest.mark.parametrize("state", [State.RESERVED, State.UNKNOWN])
@pytest.mark.parametrize("doubt_since", [None, NOW - 7.5])
async def test_claim_is_what_the_record_says_it_is(
    place: Place, store: Store, state: State, doubt_since: float | None
) -> None:
    """Epoch, attempts, lease, doubt and timestamp are those of `IdempotencyRecord.with_claim`."""
    record = place.make_record(
        state=state, epoch=4, attempts=2, doubt_since=doubt_since, absent_at=NOW - 1
    )
    await store.reserve(record)

    claimed = await store.claim(record.key, now=NOW + 0.1, signed_at=SIGNED_AT, lease=0.7)

    assert record.with_claim(now=NOW + 0.1, signed_at=SIGNED_AT, lease=0.7) == claimed
    assert claimed.absent_at is None  # a request that is out again makes "not found" worth nothing
    assert claimed == await store.load(record.key)


async def test_later_claim_with_an_earlier_timestamp_keeps_the_latest(
    place: Place, store: Store
) -> None:
    """What was signed before the clock was put back lives longest, and the quarantine with it."""
    first = await claim_new(store, place.make_record())

    second = await store.claim(first.key, now=NOW + LEASE, signed_at=SIGNED_AT - 600_000)
    third = await store.claim(first.key, now=NOW + LEASE * 2, signed_at=SIGNED_AT + 1)

    assert first.with_claim(now=NOW + LEASE, signed_at=SIGNED_AT - 600_000, lease=LEASE) == second
    assert [SIGNED_AT, SIGNED_AT, SIGNED_AT + 1] == [e.signed_at for e in (first, second, third)]


async def test_lease_holds_until_it_is_over(place: Place, store: Store) -> None:
    """Until its end no other claim succeeds; at its end one does, and the first is in doubt."""
    first = await claim_new(store, place.make_record())

    before = await store.claim(first.key, now=NOW + LEASE - 0.001, signed_at=SIGNED_AT)
    after = await store.claim(first.key, now=NOW + LEASE, signed_at=SIGNED_AT + 1)

    assert not first.in_doubt
    assert before is None
    assert first.with_claim(now=NOW + LEASE, signed_at=SIGNED_AT + 1, lease=LEASE) == after
    assert after.in_doubt


async def test_repeated_claim_finds_its_own(place: Place, store: Store) -> None:
    """Its answer may have got lost. With the token of the claim it gets the very same record."""
    await store.reserve(place.make_record())
    first = await store.claim(place.make_record().key, now=NOW, signed_at=SIGNED_AT, token="t1")
    assert first is not None

    again = await store.claim(first.key, now=NOW, signed_at=SIGNED_AT, token="t1")

    assert ("t1", 1, 1, False) == (first.claim_token, first.epoch, first.attempts, first.in_doubt)
    assert first == again
    assert first == await place.make_store().load(first.key)


async def test_claim_repeated_later_holds_as_long_as_a_new_one(place: Place, store: Store) -> None:
    """Same epoch; the lease covers the attempt that follows, and is never cut short."""
    await store.reserve(place.make_record())
    key = place.make_record().key
    first = await store.claim(key, now=NOW, signed_at=SIGNED_AT, token="t1")
    assert first is not None

    later = await store.claim(key, now=NOW + 40, signed_at=SIGNED_AT + 40_000, token="t1")
    late = await store.claim(key, now=NOW + 1, signed_at=SIGNED_AT + 1000, token="t1")

    renewed = {"lease_until": NOW + 40 + LEASE, "signed_at": SIGNED_AT + 40_000}
    assert attrs.evolve(first, **renewed, updated_at=NOW + 40) == later
    assert attrs.evolve(first, **renewed, updated_at=NOW + 1) == late == await store.load(key)
    assert await store.claim(key, now=NOW + LEASE, signed_at=SIGNED_AT, token="t2") is None
    assert [] == await store.due(place.app_key, NOW + LEASE)
    assert late == await store.load(key)


@pytest.mark.parametrize(
    ("first", "second"), [("t1", "t2"), ("t1", None), (None, "t1"), (None, None)]
)
async def test_claim_of_another_is_never_found(
    place: Place, store: Store, first: str | None, second: str | None
) -> None:
    """Another token, or none, is another claim."""
    await store.reserve(place.make_record())
    key = place.make_record().key
    claimed = await store.claim(key, now=NOW, signed_at=SIGNED_AT, token=first)

    assert await store.claim(key, now=NOW, signed_at=SIGNED_AT, token=second) is None
    assert claimed == await store.load(key)


async def test_claim_that_is_over_is_not_found(place: Place, store: Store) -> None:
    """After its lease, its outcome or the sweep the same token makes a new claim, or none."""
    key = place.make_record().key
    await store.reserve(place.make_record())
    first = await store.claim(key, now=NOW, signed_at=SIGNED_AT, token="t1")
    assert first is not None

    lapsed = await store.claim(key, now=NOW + LEASE, signed_at=SIGNED_AT, token="t1")
    claim = {"now": NOW + LEASE, "signed_at": SIGNED_AT, "lease": LEASE, "token": "t1"}
    assert first.with_claim(**claim) == lapsed
    await store.due(place.app_key, NOW + LEASE * 2)
    swept = await store.load(key)
    assert lapsed.with_expired_lease(NOW + LEASE * 2) == attrs.evolve(
        swept, next_check_at=NOW + LEASE * 2
    )
    assert swept.claim_token is None
    third = await store.claim(key, now=NOW + LEASE * 3, signed_at=SIGNED_AT)
    assert (None, swept.epoch + 1) == (third.claim_token, third.epoch)
    await store.record(attrs.evolve(third, state=State.SUCCEEDED, claim_token="t1"))
    assert await store.claim(key, now=NOW + LEASE * 3, signed_at=SIGNED_AT, token="t1") is None


async def test_one_of_two_racing_workers_wins(place: Place) -> None:
    """In each of 100 rounds exactly one of two processes gets the claim."""
    stores = await warm_stores(place)
    records = [place.make_record(f"r{n}") for n in range(100)]
    await asyncio.gather(*(stores[0].reserve(record) for record in records))

    won = []
    for record in records:
        claims = (s.claim(record.key, now=NOW, signed_at=SIGNED_AT) for s in stores * 2)
        won.append(sum(claim is not None for claim in await asyncio.gather(*claims)))

    assert [1] * 100 == won


async def test_concurrent_reservations_agree(place: Place) -> None:
    """Two processes that reserve one requestId at once see the same record."""
    stores = await warm_stores(place)

    seen = []
    for number in range(50):
        records = [place.make_record(f"r{number}", content=content) for content in (b"a", b"b")]
        pairs = zip(stores, records, strict=True)
        stored = await asyncio.gather(*(store.reserve(record) for store, record in pairs))
        seen.append(len({record.content for record in stored}))

    assert [1] * 50 == seen


# Recording


async def test_outcome_is_recorded(place: Place, store: Store) -> None:
    """The holder of the claim writes the outcome, and may write again under the same epoch."""
    claimed = await claim_new(store, place.make_record())
    for state in (State.UNKNOWN, State.SUCCEEDED):
        done = attrs.evolve(claimed, state=state, lease_until=0.0, updated_at=NOW + 1)

        assert await store.record(done)
        assert done == await store.load(claimed.key)


async def test_late_outcome_changes_nothing(place: Place, store: Store) -> None:
    """A claim that was overtaken by another one writes nothing, not even a success."""
    late = await claim_new(store, place.make_record())
    current = await store.claim(late.key, now=NOW + LEASE, signed_at=SIGNED_AT)

    assert not await store.record(attrs.evolve(late, state=State.SUCCEEDED, reply=b"late"))
    assert current == await store.load(late.key)


async def test_outcomes_that_come_together_are_told_apart(place: Place, store: Store) -> None:
    """One comes late, one is found out already, and one knows of a later claim than there is."""
    names = ("ends", "late", "found", "ahead", "doubtful")
    claimed = [await claim_new(store, place.make_record(name)) for name in names]
    current = await store.claim(claimed[1].key, now=NOW + LEASE, signed_at=SIGNED_AT)
    found = attrs.evolve(claimed[2], state=State.REJECTED)
    await store.record(found)
    ended = [attrs.evolve(each, state=State.SUCCEEDED, reply=b"told") for each in claimed]
    ended[3] = attrs.evolve(ended[3], epoch=ended[3].epoch + 1)
    ended[4] = attrs.evolve(claimed[4], state=State.UNKNOWN)

    wrote = await asyncio.gather(*map(store.record, ended))

    assert [True, False, False, False, True] == wrote
    stored = [await store.load(each.key) for each in claimed]
    assert [ended[0], current, found, claimed[3], ended[4]] == stored


async def test_outcome_after_the_sweep_changes_nothing(place: Place, store: Store) -> None:
    """A sweep that ends the lease overtakes the claim, too."""
    late = await claim_new(store, place.make_record())
    await store.due(place.app_key, NOW + LEASE)
    swept = await store.load(late.key)

    assert not await store.record(attrs.evolve(late, state=State.REJECTED))
    assert swept == await store.load(late.key)


async def test_epoch_from_the_future_changes_nothing(place: Place, store: Store) -> None:
    """Only the stored epoch may write; a higher one may not."""
    claimed = await claim_new(store, place.make_record())

    assert not await store.record(attrs.evolve(claimed, epoch=claimed.epoch + 1))
    assert claimed == await store.load(claimed.key)


@pytest.mark.parametrize(
    ("stands", "late"),
    [
        (State.SUCCEEDED, State.UNKNOWN),
        (State.NOT_EXECUTED, State.SUCCEEDED),
        (State.NEEDS_REVIEW, State.PENDING),
        (State.NEEDS_REVIEW, State.UNKNOWN),
        (State.CONFLICT, State.NEEDS_REVIEW),
        (State.PENDING, State.UNKNOWN),
    ],
)
async def test_late_finding_undoes_nothing(
    place: Place, store: Store, stands: State, late: State
) -> None:
    """Under the same epoch a finding stays; the same state may be written again."""
    claimed = await claim_new(store, place.make_record())
    found = attrs.evolve(claimed, state=stands)
    assert await store.record(found)

    assert not await store.record(attrs.evolve(claimed, state=late))
    assert found == await store.load(claimed.key)
    assert await store.record(attrs.evolve(found, checks=1))


@pytest.mark.parametrize(("before", "after"), sorted(FINAL_STEPS))
async def test_record_leaves_a_final_state_only_for_an_end(
    place: Place, store: Store, before: State, after: State
) -> None:
    """By what a query finds after all, a person's word, or the next payment; and that stays."""
    claimed = await claim_new(store, place.make_record())
    assert await store.record(attrs.evolve(claimed, state=before))
    ended = attrs.evolve(claimed, state=after, verdict="{}")

    assert await store.record(ended)
    assert not await store.record(attrs.evolve(claimed, state=before))
    assert ended == await store.load(claimed.key)


# Listing


async def test_list_has_what_is_open_or_waits_for_a_person(place: Place, store: Store) -> None:
    """In the order of the requestIds, whatever is due when; and nothing that is over or unsent."""
    open_states = {*OPEN, *REVIEW, State.SENDING}
    records = []
    for number, state in enumerate(sorted(State)):
        record = set_state(place.make_record(f"r{number:02}"), state)
        records.append(attrs.evolve(record, next_check_at=NOW - number if number % 2 else None))
        await store.reserve(records[-1])

    found = await store.list_open(place.app_key)

    assert [record for record in records if record.state in open_states] == found
    assert [] == await store.list_open("another")


async def test_list_is_read_in_pages(place: Place, store: Store) -> None:
    """Each begins after the last one's end, and loses nothing to what ends meanwhile."""
    for number in range(5):
        await store.reserve(set_state(place.make_record(f"r{number}"), State.NEEDS_REVIEW))

    first = await store.list_open(place.app_key, limit=2)
    await store.record(attrs.evolve(first[1], state=State.SUCCEEDED))
    second = await store.list_open(place.app_key, after=first[-1].request_id, limit=2)
    last = await store.list_open(place.app_key, after=second[-1].request_id, limit=2)

    names = [[record.request_id for record in page] for page in (first, second, last)]
    assert [["r0", "r1"], ["r2", "r3"], ["r4"]] == names
    assert "r1" not in {record.request_id for record in await store.list_open(place.app_key)}


# Stores without fences


class Unfenced(MemoryStore):
    """Writes what comes last."""

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write."""
        self._keep(record)
        return True


class Tokenless(MemoryStore):
    """Cannot tell a repeated claim from another's."""

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Claim."""
        claimed = await super().claim(key, **{**claim, "token": None})
        return None if claimed is None else attrs.evolve(claimed, claim_token=claim.get("token"))


class Unleased(MemoryStore):
    """Lets every caller claim what is being sent."""

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Claim."""
        record = await self.load(key)
        assert record is not None
        claimed = record.with_claim(**{"lease": LEASE, **claim})
        self._keep(claimed)
        return claimed


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Unfenced, test_late_outcome_changes_nothing),
        (Unfenced, test_outcome_after_the_sweep_changes_nothing),
        (Unfenced, test_epoch_from_the_future_changes_nothing),
        (Unleased, test_lease_holds_until_it_is_over),
        (Tokenless, test_repeated_claim_finds_its_own),
    ],
)
async def test_store_without_fences_is_caught(
    broken: type[MemoryStore], check: Check, tmp_path: Path
) -> None:
    """Each check of the epoch and of the lease goes red for a store that ignores them."""
    async with open_place(MEMORY, tmp_path) as place:
        with pytest.raises(AssertionError):
            await check(place, broken())


@pytest.mark.parametrize(("stands", "late"), [(State.SUCCEEDED, State.UNKNOWN)])
async def test_store_that_reopens_what_is_final_is_caught(
    stands: State, late: State, tmp_path: Path
) -> None:
    """The check of late findings goes red, too."""
    async with open_place(MEMORY, tmp_path) as place:
        with pytest.raises(AssertionError):
            await test_late_finding_undoes_nothing(place, Unfenced(), stands, late)
