"""What every store must do: one suite over memory, SQLite, PostgreSQL, MariaDB and Redis."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncGenerator
from pathlib import Path

import attrs
import pytest

from tests.contract.stores import (
    ALL,
    DURABLE,
    MEMORY,
    NOW,
    RETENTION,
    SERVERS,
    Place,
    Wire,
    cancelled_after,
    in_state,
    place_of,
)
from tests.services import MYSQL, POSTGRES, REDIS
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.idempotency.store import (
    INBOX_RETENTION,
    LEASE,
    Entry,
    IdempotencyStore,
    Receipt,
)
from wxpay_async.policy.states import FINISHED, State
from wxpay_async.protocol.identity import fingerprint

SIGNED_AT = 1_763_870_400_123
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
durable_only = pytest.mark.parametrize("place", DURABLE, indirect=True)
servers_only = pytest.mark.parametrize("place", SERVERS, indirect=True)


@pytest.fixture(params=ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open a fresh place."""
    async with place_of(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def store(place: Place) -> IdempotencyStore:
    """Make a store there."""
    return place.store()


async def _claimed(store: IdempotencyStore, entry: Entry, *, now: float = NOW) -> Entry:
    await store.reserve(entry)
    claimed = await store.claim(entry.key, now=now, signed_at=SIGNED_AT)
    assert claimed is not None
    return claimed


async def _warm(place: Place) -> list[IdempotencyStore]:
    """Return two stores that have their connections, so that neither begins a race behind."""
    stores = [place.store(), place.store()]
    await asyncio.gather(*(s.load(place.entry().key) for s in stores * 2))
    await asyncio.gather(*(s.load(place.entry().key) for s in stores * 2))
    return stores


# Reserving


async def test_a_reserved_entry_is_there(place: Place, store: IdempotencyStore) -> None:
    """What was reserved is returned, and loaded by any other store object."""
    entry = place.entry()

    assert entry == await store.reserve(entry)
    assert entry == await place.store().load(entry.key)


async def test_a_key_is_reserved_once(place: Place, store: IdempotencyStore) -> None:
    """The second request with a requestId gets the first one's entry, by which it is judged."""
    first = place.entry(fingerprint=fingerprint("pay", {"payToken": "a", "appId": "w"}))
    second = place.entry(fingerprint=fingerprint("pay", {"payToken": "b", "appId": "w"}))
    await store.reserve(first)

    stored = await store.reserve(second)

    assert first == stored
    assert ("payToken",) == stored.fingerprint.differences(second.fingerprint)


async def test_what_is_absent_is_none(place: Place, store: IdempotencyStore) -> None:
    """An unknown key cannot be loaded, claimed or recorded."""
    entry = place.entry()

    assert await store.load(entry.key) is None
    assert await store.claim(entry.key, now=NOW, signed_at=SIGNED_AT) is None
    assert not await store.record(entry)
    assert await store.load(entry.key) is None


async def test_keys_are_compared_exactly(place: Place, store: IdempotencyStore) -> None:
    """Case matters, and requestIds of two appKeys have nothing to do with each other."""
    entries = [place.entry("abc"), place.entry("ABC"), place.entry("abc", app_key="another")]
    if place.kind == "redis":
        entries[2] = attrs.evolve(entries[2], app_key=f"another:{{{place.app_key}}}")

    assert entries == [await store.reserve(entry) for entry in entries]
    assert entries == [await store.load(entry.key) for entry in entries]


def test_the_round_trip_below_covers_every_field() -> None:
    """A field that is added to `Entry` has to be added there, and to every store."""
    names = {field.name for field in attrs.fields(Entry)}
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
    reserved = place.entry("reserved", **changes)
    await store.reserve(reserved)
    claimed = await _claimed(store, place.entry("recorded"))
    recorded = place.entry("recorded", **{**changes, "epoch": claimed.epoch})
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
    entry = in_state(place.entry(), state)
    await store.reserve(entry)

    claimed = await store.claim(entry.key, now=NOW, signed_at=SIGNED_AT)

    assert (state in {State.RESERVED, State.UNKNOWN}) == (claimed is not None)
    assert (claimed or entry) == await store.load(entry.key)


@pytest.mark.parametrize("state", [State.RESERVED, State.UNKNOWN])
@pytest.mark.parametrize("doubt_since", [None, NOW - 7.5])
async def test_a_claim_is_what_the_entry_says_it_is(
    place: Place, store: IdempotencyStore, state: State, doubt_since: float | None
) -> None:
    """Epoch, attempts, lease, doubt and the signed timestamp are those of `Entry.claimed`."""
    entry = place.entry(
        state=state, epoch=4, attempts=2, doubt_since=doubt_since, absent_at=NOW - 1
    )
    await store.reserve(entry)

    claimed = await store.claim(entry.key, now=NOW + 0.1, signed_at=SIGNED_AT, lease=0.7)

    assert entry.claimed(now=NOW + 0.1, signed_at=SIGNED_AT, lease=0.7) == claimed
    assert claimed == await store.load(entry.key)


async def test_a_lease_holds_until_it_is_over(place: Place, store: IdempotencyStore) -> None:
    """Just before its end nobody else may claim; at its end one may, and the first is in doubt."""
    first = await _claimed(store, place.entry())

    before = await store.claim(first.key, now=NOW + LEASE - 0.001, signed_at=SIGNED_AT)
    after = await store.claim(first.key, now=NOW + LEASE, signed_at=SIGNED_AT + 1)

    assert not first.in_doubt
    assert before is None
    assert first.claimed(now=NOW + LEASE, signed_at=SIGNED_AT + 1, lease=LEASE) == after
    assert after.in_doubt


async def test_one_of_two_racing_workers_wins(place: Place) -> None:
    """In each of 100 rounds exactly one of two processes gets the claim."""
    stores = await _warm(place)
    entries = [place.entry(f"r{n}") for n in range(100)]
    await asyncio.gather(*(stores[0].reserve(entry) for entry in entries))

    won = []
    for entry in entries:
        claims = (s.claim(entry.key, now=NOW, signed_at=SIGNED_AT) for s in stores * 2)
        won.append(sum(claim is not None for claim in await asyncio.gather(*claims)))

    assert [1] * 100 == won


async def test_concurrent_reservations_agree(place: Place) -> None:
    """Two processes that reserve one requestId at once see the same entry, whichever was first."""
    stores = await _warm(place)

    seen = []
    for number in range(50):
        entries = [place.entry(f"r{number}", content=content) for content in (b"a", b"b")]
        pairs = zip(stores, entries, strict=True)
        stored = await asyncio.gather(*(store.reserve(entry) for store, entry in pairs))
        seen.append(len({entry.content for entry in stored}))

    assert [1] * 50 == seen


# Recording


async def test_an_outcome_is_recorded(place: Place, store: IdempotencyStore) -> None:
    """Who holds the claim writes what came of it, and may write again under the same epoch."""
    claimed = await _claimed(store, place.entry())
    for state in (State.UNKNOWN, State.SUCCEEDED):
        done = attrs.evolve(claimed, state=state, lease_until=0.0, updated_at=NOW + 1)

        assert await store.record(done)
        assert done == await store.load(claimed.key)


async def test_a_late_outcome_changes_nothing(place: Place, store: IdempotencyStore) -> None:
    """Who was overtaken by another claim writes nothing, however good its news are."""
    late = await _claimed(store, place.entry())
    current = await store.claim(late.key, now=NOW + LEASE, signed_at=SIGNED_AT)

    assert not await store.record(attrs.evolve(late, state=State.SUCCEEDED, reply=b"late"))
    assert current == await store.load(late.key)


async def test_an_outcome_after_the_sweep_changes_nothing(
    place: Place, store: IdempotencyStore
) -> None:
    """A sweep that ended the lease has overtaken the claim, too."""
    late = await _claimed(store, place.entry())
    await store.sweep(place.app_key, NOW + LEASE)
    swept = await store.load(late.key)

    assert not await store.record(attrs.evolve(late, state=State.REJECTED))
    assert swept == await store.load(late.key)


async def test_an_epoch_from_the_future_changes_nothing(
    place: Place, store: IdempotencyStore
) -> None:
    """Only the epoch that is stored may write, not just any that is high enough."""
    claimed = await _claimed(store, place.entry())

    assert not await store.record(attrs.evolve(claimed, epoch=claimed.epoch + 1))
    assert claimed == await store.load(claimed.key)


# Sweeping


async def test_a_lapsed_lease_ends_in_doubt(place: Place, store: IdempotencyStore) -> None:
    """At the end of its lease an operation in SENDING becomes UNKNOWN, and is due at once."""
    claimed = await _claimed(store, place.entry())

    assert [] == await store.sweep(place.app_key, NOW + LEASE - 0.001)
    assert claimed == await store.load(claimed.key)

    lapsed = claimed.lapsed(NOW + LEASE)
    assert [lapsed] == await store.sweep(place.app_key, NOW + LEASE)
    moved = attrs.evolve(lapsed, next_check_at=NOW + 2 * LEASE)
    assert moved == await store.load(claimed.key)


async def test_what_is_due_is_handed_out_once(place: Place, store: IdempotencyStore) -> None:
    """The longest waiting come first, at most `limit`; each is left alone for a lease then."""
    dues = {"b": NOW + 2, "a": NOW + 1, "c": NOW + 3, "later": NOW + 50, "never": None}
    for name, due in dues.items():
        state = State.PENDING if name == "b" else State.UNKNOWN
        await store.reserve(place.entry(name, state=state, next_check_at=due))

    sweeps = [await store.sweep(place.app_key, NOW + 3, limit=2) for _ in range(3)]

    assert [["a", "b"], ["c"], []] == [[e.request_id for e in due] for due in sweeps]
    assert NOW + 1 == sweeps[0][0].next_check_at
    loaded = await store.load(place.entry("a").key)
    assert attrs.evolve(sweeps[0][0], next_check_at=NOW + 3 + LEASE) == loaded
    again = await store.sweep(place.app_key, NOW + 3 + LEASE)
    assert {"a", "b", "c"} == {entry.request_id for entry in again}


@pytest.mark.parametrize("state", sorted(set(State) - {State.UNKNOWN, State.PENDING}))
async def test_only_what_a_query_can_settle_is_due(
    place: Place, store: IdempotencyStore, state: State
) -> None:
    """An entry in another state is not handed out, whatever its `next_check_at` says."""
    await store.reserve(in_state(place.entry(next_check_at=NOW - 1), state))

    assert [] == await store.sweep(place.app_key, NOW)


async def test_a_settled_entry_is_due_no_more(place: Place, store: IdempotencyStore) -> None:
    """Claiming and recording take an operation off the sweep's list."""
    await store.reserve(place.entry(state=State.UNKNOWN, next_check_at=NOW))
    claimed = await store.claim(place.entry().key, now=NOW, signed_at=SIGNED_AT)
    assert claimed is not None

    assert [] == await store.sweep(place.app_key, NOW + 1)
    await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))
    assert [] == await store.sweep(place.app_key, NOW + LEASE)


async def test_a_sweep_tends_its_app_key_only(place: Place, store: IdempotencyStore) -> None:
    """Other appKeys' operations neither lapse nor become due, and no spelling is another's."""
    foreign = place.entry(app_key=place.app_key.upper(), state=State.UNKNOWN, next_check_at=NOW)
    await store.reserve(foreign)
    sending = await _claimed(store, place.entry("r2", app_key=place.app_key.upper()))

    assert [] == await store.sweep(place.app_key, NOW + 2 * LEASE)
    assert [foreign, sending] == [await store.load(e.key) for e in (foreign, sending)]


async def test_two_sweepers_share_nothing(place: Place) -> None:
    """Processes that sweep at the same time get every due entry once between them."""
    stores = await _warm(place)
    entries = [place.entry(f"r{n}", state=State.UNKNOWN, next_check_at=NOW - n) for n in range(60)]
    await asyncio.gather(*(stores[0].reserve(entry) for entry in entries))

    sweeps = (s.sweep(place.app_key, NOW, limit=7) for _ in range(8) for s in stores)
    seen = list(itertools.chain.from_iterable(await asyncio.gather(*sweeps)))
    while more := await stores[0].sweep(place.app_key, NOW):
        seen += more  # what one sweep held while another one looked is left for the next

    assert sorted(e.request_id for e in entries) == sorted(e.request_id for e in seen)


@pytest.mark.parametrize("state", State)
async def test_only_what_may_be_forgotten_is(
    place: Place, store: IdempotencyStore, state: State
) -> None:
    """After the retention a finished or unsent operation is dropped; an open one never is."""
    entry = in_state(place.entry(), state)
    await store.reserve(entry)

    await store.sweep(place.app_key, NOW + RETENTION - 0.001)
    assert await store.load(entry.key) is not None
    await store.sweep(place.app_key, NOW + RETENTION)

    gone = await store.load(entry.key) is None
    assert (state in FINISHED | {State.RESERVED}) == gone


async def test_a_reservation_in_doubt_is_kept(place: Place, store: IdempotencyStore) -> None:
    """What may have been sent is not forgotten, whatever else the entry says."""
    entry = place.entry(in_doubt=True)
    await store.reserve(entry)
    await store.sweep(place.app_key, NOW + 2 * RETENTION)

    assert entry == await store.load(entry.key)


async def test_a_forgotten_key_is_free(place: Place, store: IdempotencyStore) -> None:
    """After the eviction the requestId can be reserved and claimed as if it were new."""
    claimed = await _claimed(store, place.entry())
    await store.record(attrs.evolve(claimed, state=State.SUCCEEDED, reply=b"old"))
    await store.sweep(place.app_key, NOW + RETENTION)
    later = place.entry(created_at=NOW + RETENTION, updated_at=NOW + RETENTION)

    assert later == await store.reserve(later)
    assert 1 == (await _claimed(store, later, now=NOW + RETENTION)).epoch


async def test_retention_counts_from_the_last_write(place: Place, store: IdempotencyStore) -> None:
    """An operation that was reserved long ago and finished just now is kept."""
    claimed = await _claimed(store, place.entry(), now=NOW + RETENTION - 1)
    done = attrs.evolve(claimed, state=State.FAILED, updated_at=NOW + RETENTION)
    await store.record(done)
    await store.sweep(place.app_key, NOW + RETENTION)

    assert done == await store.load(done.key)


# The inbox


async def test_a_callback_is_handled_once(place: Place, store: IdempotencyStore) -> None:
    """It is busy while one handles it, and known for 30 days once that is done."""
    message = place.message("paid")
    other = place.store()

    assert await store.receive(message, now=NOW) is Receipt.YOURS
    assert await other.receive(message, now=NOW + LEASE - 0.001) is Receipt.BUSY
    await store.handled(message, now=NOW)
    await store.handled(message, now=NOW)
    assert await other.receive(message, now=NOW + INBOX_RETENTION - 0.001) is Receipt.HANDLED
    assert await other.receive(message, now=NOW + INBOX_RETENTION) is Receipt.YOURS


async def test_a_dead_handler_is_replaced(place: Place, store: IdempotencyStore) -> None:
    """At the end of its lease a callback that nobody gave back may be handled by another."""
    message = place.message("paid")
    await store.receive(message, now=NOW, lease=5.0)

    assert await store.receive(message, now=NOW + 4.999) is Receipt.BUSY
    assert await store.receive(message, now=NOW + 5.0) is Receipt.YOURS


async def test_a_failed_callback_comes_again(place: Place, store: IdempotencyStore) -> None:
    """What its handler gave back is handled when the platform sends it again."""
    message = place.message("paid")
    await store.receive(message, now=NOW)
    await store.unhandled(message)
    await store.unhandled(message)

    assert await store.receive(message, now=NOW) is Receipt.YOURS


async def test_what_is_handled_stays_handled(place: Place, store: IdempotencyStore) -> None:
    """A late handler that fails does not undo what its replacement did."""
    message = place.message("paid")
    await store.receive(message, now=NOW)
    await store.handled(message, now=NOW)
    await store.unhandled(message)

    assert await store.receive(message, now=NOW + 1) is Receipt.HANDLED


async def test_messages_are_compared_exactly(place: Place, store: IdempotencyStore) -> None:
    """However long two messages are, one difference makes them two."""
    messages = [place.message("x" * 3000 + end) for end in ("", "a", "A", "a ", "é")]

    receipts = [await store.receive(message, now=NOW) for message in messages]

    assert [Receipt.YOURS] * len(messages) == receipts


async def test_one_of_two_racing_handlers_wins(place: Place) -> None:
    """In each of 30 rounds exactly one of two processes may handle the callback."""
    stores = await _warm(place)

    for number in range(30):
        message = place.message(f"m{number}")
        for now in (NOW, NOW + LEASE):  # as new, and after a handler that never came back
            receipts = await asyncio.gather(*(s.receive(message, now=now) for s in stores))
            assert {Receipt.BUSY, Receipt.YOURS} == set(receipts)


# Life


async def test_several_processes_may_begin_at_once(place: Place) -> None:
    """Stores that open a fresh place at the same moment all find it ready."""
    stores = [place.store() for _ in range(6)]
    entries = [place.entry(f"r{n}") for n in range(6)]

    pairs = zip(stores, entries, strict=True)
    assert entries == await asyncio.gather(*(s.reserve(entry) for s, entry in pairs))


async def test_a_closed_store_opens_again(place: Place, store: IdempotencyStore) -> None:
    """It may be closed twice, and works again afterwards with what it had."""
    entry = place.entry()
    await store.reserve(entry)
    await store.aclose()
    await store.aclose()

    assert entry == await store.load(entry.key)


async def test_one_event_loop_after_another(place: Place, store: IdempotencyStore) -> None:
    """A store works in a second loop, and leaves nothing open that belonged to the first."""
    entry = place.entry()

    async def scenario() -> list[Entry | None]:
        await store.reserve(entry)
        return await asyncio.gather(*(store.load(entry.key) for _ in range(5)))

    for _ in range(2):
        assert [entry] * 5 == await asyncio.to_thread(asyncio.run, scenario())
        gc.collect()  # what was left open warns now, and warnings are errors
    assert [entry] * 5 == await scenario()


async def test_making_a_store_touches_nothing(place: Place) -> None:
    """Outside an event loop, and where nobody listens, a store can still be made."""
    if place.kind == MEMORY:
        pytest.skip("memory has no address")
    url = place.url if place.kind == "sqlite" else place.stranger(1)

    assert "s3cr3t" not in repr(await asyncio.to_thread(place.store, url=url))


async def test_many_tasks_at_once(place: Place, store: IdempotencyStore) -> None:
    """200 tasks that reserve, claim and record at once lose nothing."""

    async def life(number: int) -> bool:
        claimed = await _claimed(store, place.entry(f"r{number}"))
        return await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))

    assert all(await asyncio.gather(*map(life, range(200))))
    loaded = [await store.load(place.entry(f"r{n}").key) for n in range(200)]
    assert {State.SUCCEEDED} == {entry.state for entry in loaded if entry}


@durable_only
async def test_one_bad_value_fails_alone(place: Place, store: IdempotencyStore) -> None:
    """What the store cannot write is not sent; what was asked at the same time is stored."""
    good = [place.entry(f"r{n}") for n in range(5)]
    bad = place.entry("bad", operation="\ud800")

    calls = [store.reserve(entry) for entry in (*good[:3], bad, *good[3:])]
    *results, last = await asyncio.gather(*calls, return_exceptions=True)
    outcomes = [*results, last]

    assert isinstance(outcomes.pop(3), NotSentError)
    assert good == outcomes
    assert good == [await place.store().load(entry.key) for entry in good]


@durable_only
@pytest.mark.parametrize("call", ["reserve", "claim", "record", "load", "sweep", "receive"])
async def test_a_cancelled_call_leaves_nothing_behind(place: Place, call: str) -> None:
    """Wherever a call is cut off, no lock stays, and the store and its neighbours go on."""
    store, other = place.store(), place.store()
    claimed = await _claimed(store, place.entry())
    message = place.message("m")

    def begin(number: int):  # noqa: ANN202 - one of six coroutines
        return {
            "reserve": lambda: store.reserve(place.entry(f"n{number}")),
            "claim": lambda: store.claim(
                claimed.key, now=NOW + LEASE * (number + 1), signed_at=SIGNED_AT
            ),
            "record": lambda: store.record(attrs.evolve(claimed, checks=number)),
            "load": lambda: store.load(claimed.key),
            "sweep": lambda: store.sweep(place.app_key, NOW),
            "receive": lambda: store.receive(message, now=NOW, lease=0.0),
        }[call]()

    for number in range(40):
        await cancelled_after(number, begin(number))
    await store.aclose()

    loaded = await other.load(claimed.key)
    assert loaded is not None
    assert loaded.epoch == loaded.attempts  # each claim happened as a whole or not at all
    again = await other.claim(claimed.key, now=NOW + LEASE * 100, signed_at=SIGNED_AT)
    assert loaded.claimed(now=NOW + LEASE * 100, signed_at=SIGNED_AT, lease=LEASE) == again
    assert await store.receive(message, now=NOW + 1) is Receipt.YOURS
    for number in range(40):
        entry = place.entry(f"n{number}")
        assert entry == await store.reserve(entry)


# A server that is gone

_SERVICES = {"postgres": POSTGRES, "mariadb": MYSQL, "redis": REDIS}


@servers_only
async def test_an_unreachable_server_is_told_as_what_it_means(place: Place) -> None:
    """Before sending nothing was sent; afterwards it is in doubt. No secret is in the text."""
    store = place.store(url=place.stranger(1))
    entry = place.entry()

    for call in (
        store.reserve(entry),
        store.claim(entry.key, now=NOW, signed_at=SIGNED_AT),
        store.load(entry.key),
        store.sweep(place.app_key, NOW),
        store.receive(place.message("m"), now=NOW),
    ):
        with pytest.raises(NotSentError) as raised:
            await call
        assert raised.value.retryable
        assert raised.value.__cause__ is not None
        assert "s3cr3t" not in f"{raised.value}{raised.value!r}{raised.value.__cause__}"
    for late in (
        store.record(entry),
        store.handled(place.message("m"), now=NOW),
        store.unhandled(place.message("m")),
    ):
        with pytest.raises(InDoubtError):
            await late


@servers_only
async def test_a_login_that_is_refused_shows_no_secret(place: Place) -> None:
    """A wrong password is told like a server that is gone, and not repeated."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.store(url=place.stranger(wire.port))
        with pytest.raises(NotSentError) as raised:
            await store.reserve(place.entry())
        await store.aclose()

    assert "s3cr3t" not in f"{raised.value}{raised.value.__cause__}"


@servers_only
async def test_dropped_connections_are_replaced(place: Place) -> None:
    """A server that restarted between two calls is not noticed by the second one."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.store(url=place.at(wire.port))
        entries = [place.entry(f"r{n}") for n in range(5)]
        await asyncio.gather(*map(store.reserve, entries))
        await wire.drop()

        assert entries == await asyncio.gather(*(store.load(entry.key) for entry in entries))


@servers_only
async def test_a_server_that_went_away_comes_back(place: Place) -> None:
    """While it is gone every call says so, and the same store goes on when it is back."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.store(url=place.at(wire.port))
        claimed = await _claimed(store, place.entry())
        await wire.cut()

        with pytest.raises(InDoubtError):
            await store.record(claimed)
        with pytest.raises(NotSentError):
            await store.load(claimed.key)

        await wire.mend()
        assert claimed == await store.load(claimed.key)
        await store.aclose()


@servers_only
async def test_a_server_that_stops_answering_does_not_hold_the_caller(place: Place) -> None:
    """A frozen connection ends with the store's own timeout."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.store(url=place.at(wire.port), timeout=0.5)
        claimed = await _claimed(store, place.entry())
        wire.freeze()

        with pytest.raises(NotSentError):
            await store.claim(claimed.key, now=NOW + LEASE, signed_at=SIGNED_AT)
        with pytest.raises(InDoubtError):
            await store.record(claimed)

        await wire.drop()
        await store.aclose()
    assert await place.store().record(claimed)
