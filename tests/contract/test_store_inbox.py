"""Check that every store is an inbox: documents are compared and set."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.stores import DURABLE, Place, Wire, warm_stores
from tests.support.records import NOW
from tests.support.services import MYSQL, POSTGRES, REDIS
from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.adapters.stores.store import Store
from wxpay_async.errors import InDoubtError

A_DOCUMENT = '{"told": "paid", "说": "é\\ud800 \\u0000"}'


async def load_entry(store: Store, key: str) -> Entry | None:
    """Load one entry."""
    return (await store.load_entries([key])).get(key)


async def test_entry_is_written_once_and_then_replaced_by_version(
    place: Place, store: Store
) -> None:
    """Each change raises the version by one, and every store object sees it."""
    key, other = place.make_message("order"), place.make_store()

    assert await load_entry(store, key) is None
    assert await store.swap(key, version=None, value=A_DOCUMENT, now=NOW)
    assert Entry(1, A_DOCUMENT) == await load_entry(other, key)
    assert await other.swap(key, version=1, value="", now=NOW + 1)
    assert await store.swap(key, version=2, value="third", now=NOW)
    assert Entry(3, "third") == await load_entry(other, key)


@pytest.mark.parametrize("version", [None, 1, 3])
async def test_swap_of_another_version_changes_nothing(
    place: Place, store: Store, version: int | None
) -> None:
    """The caller knows too little, or too much."""
    key = place.make_message("order")
    await store.swap(key, version=None, value="first", now=NOW)
    await store.swap(key, version=1, value="second", now=NOW)

    assert not await place.make_store().swap(key, version=version, value="lost", now=NOW)
    assert Entry(2, "second") == await load_entry(store, key)


async def test_swap_of_an_entry_that_is_gone_changes_nothing(place: Place, store: Store) -> None:
    """It may have been forgotten meanwhile."""
    key = place.make_message("order")

    assert not await store.swap(key, version=1, value="lost", now=NOW)
    assert await load_entry(store, key) is None


async def test_keys_are_compared_exactly(place: Place, store: Store) -> None:
    """However long two keys are, one difference makes them two; a lone surrogate is one, too."""
    keys = [
        place.make_message("x" * 3000 + end)
        for end in ("", "a", "A", "a ", "é", "e\u0301", "\ud800")
    ]

    for number, key in enumerate(keys):
        assert await store.swap(key, version=None, value=f"{number}", now=NOW)
    found = await store.load_entries([*keys, keys[0]])

    assert {key: Entry(1, f"{number}") for number, key in enumerate(keys)} == found


async def test_one_read_takes_many_keys(place: Place, store: Store) -> None:
    """10,000, most of which have no entry; and none at all."""
    keys = [f"{place.app_key}:{number}" for number in range(9_999)]
    key = place.make_message("order")
    await store.swap(key, version=None, value="it", now=NOW)

    assert {key: Entry(1, "it")} == await store.load_entries([*keys, key])
    assert {} == await store.load_entries([])


async def test_long_document_comes_back_as_it_was(place: Place, store: Store) -> None:
    """60 KB in UTF-8, of characters that take several bytes."""
    key, document = place.make_message("order"), "单" * 20_000
    await store.swap(key, version=None, value="", now=NOW)
    await store.swap(key, version=1, value=document, now=NOW)

    assert Entry(2, document) == await load_entry(place.make_store(), key)


async def test_one_of_two_racing_swaps_wins(place: Place) -> None:
    """In each of 30 rounds, be it the first entry or a later one."""
    stores = await warm_stores(place)

    for number in range(30):
        key = place.make_message(f"m{number}")
        for version in (None, 1):
            wrote = await asyncio.gather(
                *(s.swap(key, version=version, value=f"{n}", now=NOW) for n, s in enumerate(stores))
            )
            assert [False, True] == sorted(wrote)
            assert Entry((version or 0) + 1, f"{wrote.index(True)}") == await load_entry(
                stores[0], key
            )


@pytest.mark.parametrize("place", DURABLE[1:], indirect=True)
@pytest.mark.parametrize("version", [None, 1])
async def test_swap_whose_answer_got_lost_is_found_by_its_document(
    place: Place, version: int | None
) -> None:
    """Repeated by the store or not, it was written once; the answer alone proves nothing."""
    service = {"postgres": POSTGRES, "mariadb": MYSQL, "redis": REDIS}[place.kind]
    key, store = place.make_message("order"), place.make_store()
    if version:
        await store.swap(key, version=None, value="before", now=NOW)
    async with Wire(service.address) as wire:
        distant = place.make_store(url=place.make_url(wire.port), timeout=2.0)
        await distant.load_entries([key])
        wire.lose_answer_to(b"EVALSHA" if place.kind == "redis" else b"COMMIT")
        try:
            wrote = await distant.swap(key, version=version, value="mine", now=NOW)
        except InDoubtError:
            wrote = False
        assert wire.lost
        assert not wrote
        assert Entry((version or 0) + 1, "mine") == await load_entry(distant, key)
