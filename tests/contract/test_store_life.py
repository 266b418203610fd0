"""Check how every store begins, ends, is cut off, and meets a server that is gone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import attrs
import pytest

from tests.contract.stores import (
    DURABLE,
    MEMORY,
    SERVERS,
    Place,
    Wire,
    cancel_after,
    claim_new,
)
from tests.support.records import NOW, SIGNED_AT
from tests.support.services import MYSQL, POSTGRES, REDIS
from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.adapters.stores.store import Store
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State

durable_only = pytest.mark.parametrize("place", DURABLE, indirect=True)
servers_only = pytest.mark.parametrize("place", SERVERS, indirect=True)


# Life


async def test_several_processes_may_begin_at_once(fresh_place: Place) -> None:
    """Stores that open a fresh place at the same moment all find it ready."""
    stores = [fresh_place.make_store() for _ in range(6)]
    records = [fresh_place.make_record(f"r{n}") for n in range(6)]

    pairs = zip(stores, records, strict=True)
    assert records == await asyncio.gather(*(s.reserve(record) for s, record in pairs))


async def test_closed_store_opens_again(place: Place, store: Store) -> None:
    """It may be closed twice, and works again afterwards with what it had."""
    record = place.make_record()
    await store.reserve(record)
    await store.aclose()
    await store.aclose()

    assert record == await store.load(record.key)


async def test_one_event_loop_after_another(place: Place, store: Store) -> None:
    """A store works in a second loop, and leaves nothing open that belonged to the first."""
    record = place.make_record()

    async def scenario() -> list[IdempotencyRecord | None]:
        await store.reserve(record)
        return await asyncio.gather(*(store.load(record.key) for _ in range(5)))

    for _ in range(2):
        assert [record] * 5 == await asyncio.to_thread(asyncio.run, scenario())
        gc.collect()  # what was left open warns now, and warnings are errors
    assert [record] * 5 == await scenario()


async def test_making_a_store_touches_nothing(place: Place) -> None:
    """A store can be made outside an event loop, and where no server listens."""
    if place.kind == MEMORY:
        pytest.skip("memory has no address")
    url = place.url if place.kind == "sqlite" else place.make_stranger_url(1)

    assert "s3cr3t" not in repr(await asyncio.to_thread(place.make_store, url=url))


async def test_many_tasks_at_once(place: Place, store: Store) -> None:
    """200 tasks that reserve, claim and record at once lose nothing."""

    async def life(number: int) -> bool:
        claimed = await claim_new(store, place.make_record(f"r{number}"))
        return await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))

    assert all(await asyncio.gather(*map(life, range(200))))
    loaded = [await store.load(place.make_record(f"r{n}").key) for n in range(200)]
    assert {State.SUCCEEDED} == {record.state for record in loaded if record}


@durable_only
async def test_one_bad_value_fails_alone(place: Place, store: Store) -> None:
    """What the store cannot write is not sent; what was asked at the same time is stored."""
    good = [place.make_record(f"r{n}") for n in range(5)]
    bad = place.make_record("bad", operation="\ud800")

    calls = [store.reserve(record) for record in (*good[:3], bad, *good[3:])]
    *results, last = await asyncio.gather(*calls, return_exceptions=True)
    outcomes = [*results, last]

    assert isinstance(outcomes.pop(3), NotSentError)
    assert good == outcomes
    assert good == [await place.make_store().load(record.key) for record in good]


@durable_only
@pytest.mark.parametrize("call", ["reserve", "claim", "record", "load", "due", "swap"])
async def test_cancelled_call_leaves_nothing_behind(place: Place, call: str) -> None:
    """Wherever a call is cut off, no lock stays, and the store and its neighbours go on."""
    store, other = place.make_store(), place.make_store()
    claimed = await claim_new(store, place.make_record())
    keys = [place.make_message(f"m{number}") for number in range(40)]

    def begin(number: int) -> Awaitable[object]:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "reserve": lambda: store.reserve(place.make_record(f"n{number}")),
            "claim": lambda: store.claim(
                claimed.key, now=NOW + LEASE * (number + 1), signed_at=SIGNED_AT
            ),
            "record": lambda: store.record(attrs.evolve(claimed, checks=number)),
            "load": lambda: store.load(claimed.key),
            "due": lambda: store.due(place.app_key, NOW),
            "swap": lambda: store.swap(keys[number], version=None, value="it", now=NOW),
        }
        return calls[call]()

    for number in range(40):
        await cancel_after(number, begin(number))
    await store.aclose()

    loaded = await other.load(claimed.key)
    assert loaded is not None
    assert loaded.epoch == loaded.attempts  # each claim happened as a whole or not at all
    again = await other.claim(claimed.key, now=NOW + LEASE * 100, signed_at=SIGNED_AT)
    assert loaded.with_claim(now=NOW + LEASE * 100, signed_at=SIGNED_AT, lease=LEASE) == again
    assert {Entry(1, "it")} >= set((await other.load_entries(keys)).values())
    for key in keys:
        await store.swap(key, version=None, value="it", now=NOW)
    assert [Entry(1, "it")] * 40 == list((await other.load_entries(keys)).values())
    for number in range(40):
        record = place.make_record(f"n{number}")
        assert record == await store.reserve(record)


# A server that is gone, or whose answer does not arrive

_SERVICES = {"postgres": POSTGRES, "mariadb": MYSQL, "redis": REDIS}


@servers_only
async def test_unreachable_server_is_told_as_what_it_means(place: Place) -> None:
    """Before sending nothing was sent; afterwards it is in doubt. No secret is in the text."""
    store = place.make_store(url=place.make_stranger_url(1))
    record = place.make_record()

    for call in (
        store.reserve(record),
        store.claim(record.key, now=NOW, signed_at=SIGNED_AT),
        store.load(record.key),
        store.due(place.app_key, NOW),
        store.load_entries([place.make_message("m")]),
    ):
        with pytest.raises(NotSentError) as raised:
            await call
        assert raised.value.retryable
        assert raised.value.__cause__ is not None
        assert "s3cr3t" not in f"{raised.value}{raised.value!r}{raised.value.__cause__}"
    for late in (
        store.record(record),
        store.swap(place.make_message("m"), version=None, value="", now=NOW),
    ):
        with pytest.raises(InDoubtError):
            await late


@servers_only
async def test_login_that_is_refused_shows_no_secret(place: Place) -> None:
    """A wrong password is told like a server that is gone, and not repeated."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.make_store(url=place.make_stranger_url(wire.port))
        with pytest.raises(NotSentError) as raised:
            await store.reserve(place.make_record())
        await store.aclose()

    assert "s3cr3t" not in f"{raised.value}{raised.value.__cause__}"


@servers_only
async def test_dropped_connections_are_replaced(place: Place) -> None:
    """A server that restarted between two calls is not noticed by the second one."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.make_store(url=place.make_url(wire.port))
        records = [place.make_record(f"r{n}") for n in range(5)]
        await asyncio.gather(*map(store.reserve, records))
        await wire.drop()

        assert records == await asyncio.gather(*(store.load(record.key) for record in records))


@servers_only
async def test_claim_whose_answer_is_lost_is_found_by_its_repetition(place: Place) -> None:
    """The store repeats it over another connection by itself, and finds what it has committed."""
    word = b"EVALSHA" if place.kind == "redis" else b"COMMIT"
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.make_store(url=place.make_url(wire.port))
        await claim_new(store, place.make_record("r0"))  # from now on Redis knows the script
        record = await store.reserve(place.make_record())
        wire.lose_answer_to(word)

        claimed = await store.claim(record.key, now=NOW, signed_at=SIGNED_AT, token="t1")

        assert wire.lost
        await store.aclose()
    expected = record.with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token="t1")
    assert expected == claimed == await place.make_store().load(record.key)


@servers_only
async def test_server_that_went_away_comes_back(place: Place) -> None:
    """While it is gone every call says so, and the same store goes on when it is back."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.make_store(url=place.make_url(wire.port))
        claimed = await claim_new(store, place.make_record())
        await wire.cut()

        with pytest.raises(InDoubtError):
            await store.record(claimed)
        with pytest.raises(NotSentError):
            await store.load(claimed.key)

        await wire.mend()
        assert claimed == await store.load(claimed.key)
        await store.aclose()


@servers_only
async def test_server_that_stops_answering_does_not_hold_the_caller(place: Place) -> None:
    """A frozen connection ends with the store's own timeout."""
    async with Wire(_SERVICES[place.kind].address) as wire:
        store = place.make_store(url=place.make_url(wire.port), timeout=0.5)
        claimed = await claim_new(store, place.make_record())
        wire.freeze()

        with pytest.raises(NotSentError):
            await store.claim(claimed.key, now=NOW + LEASE, signed_at=SIGNED_AT)
        with pytest.raises(InDoubtError):
            await store.record(claimed)

        await wire.drop()
        await store.aclose()
    assert await place.make_store().record(claimed)
