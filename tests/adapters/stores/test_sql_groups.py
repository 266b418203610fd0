"""Check that the updates of many tasks share commits, and that each task gets its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from tests.contract.stores import Place, cancel_after
from tests.support.records import NOW
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_tables import Applied, Transactions, Update
from wxpay_async.errors import NotSentError


async def test_commits_of_many_tasks_are_grouped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 tasks at once share a few commits, and each gets its own answer."""
    groups: list[int] = []
    apply_updates = Transactions.apply_updates

    def count_updates(
        work: Transactions, connection: Connection, updates: list[Update], **how: bool
    ) -> list[Applied | None]:
        groups.append(len(updates))
        return apply_updates(work, connection, updates, **how)

    monkeypatch.setattr(Transactions, "apply_updates", count_updates)
    store = place.make_store()
    await store.load(place.make_record().key)
    records = [place.make_record(f"r{n}", content=b"%d" % n) for n in range(64)]

    assert records == await asyncio.gather(*map(store.reserve, records))
    # An eager task comes first and alone.
    assert (64, True) == (sum(groups), len(groups) <= 2)


async def test_group_applies_its_updates_in_order(place: Place) -> None:
    """Tasks that want the same operation in one commit see each other's updates."""
    store = place.make_store()
    await store.load(place.make_record().key)
    key = place.make_record().key

    reserved, first, second = await asyncio.gather(
        store.reserve(place.make_record()),
        store.claim(key, now=NOW, signed_at=1),
        store.claim(key, now=NOW, signed_at=2),
    )

    assert reserved == place.make_record()
    assert first is not None
    assert second is None
    assert first == await store.load(key)


async def test_full_disk_fails_the_whole_group_and_passes(place: Place) -> None:
    """No task learns of a commit that did not happen; with room again the store goes on."""
    store = place.make_store()
    assert isinstance(store, SqlStore)
    await store.load(place.make_record().key)
    session = await store._open_session()

    def limit(pages: int) -> Callable[[Connection], object]:
        return lambda connection: connection.exec_driver_sql(
            f"PRAGMA max_page_count = {pages}"
        ).scalar()

    await session.transact(limit(1))
    records = [place.make_record(f"r{n}", content=bytes(50_000)) for n in range(5)]
    failed = await asyncio.gather(*map(store.reserve, records), return_exceptions=True)
    assert [NotSentError] * 5 == [type(error) for error in failed]
    assert [None] * 5 == [await store.load(record.key) for record in records]

    await session.transact(limit(10_000))
    assert records == await asyncio.gather(*map(store.reserve, records))


async def test_update_whose_caller_left_before_its_commit_is_dropped(place: Place) -> None:
    """Nothing is done for a caller that was cancelled, and the others are served."""
    store = place.make_store()
    await store.load(place.make_record().key)
    staying = asyncio.ensure_future(store.reserve(place.make_record("stays")))
    await cancel_after(1, store.reserve(place.make_record("leaves")))

    assert place.make_record("stays") == await staying
    assert await store.load(place.make_record("leaves").key) is None
