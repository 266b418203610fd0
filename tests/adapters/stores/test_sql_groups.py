"""Check that the updates of many tasks share commits, and that each task gets its own result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.contract.stores import Place, cancel_after, open_place, warm_stores
from tests.support.records import NOW
from wxpay_async.adapters.stores import sql_servers
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_tables import Applied, Transactions, Update
from wxpay_async.errors import NotSentError
from wxpay_async.policy.states import State


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


# Servers: several groups at once, and other processes

DATABASES = ["sqlite", "postgres", "mariadb"]
SERVERS = ["postgres", "mariadb"]


@pytest.fixture(params=DATABASES)
async def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open an empty database of each kind."""
    async with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=SERVERS)
async def server_place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open an empty database of each kind of server."""
    async with open_place(request.param, tmp_path) as opened:
        yield opened


async def test_value_that_is_refused_fails_alone(any_place: Place) -> None:
    """Of 40 tasks that share a commit, only the two fail whose texts cannot be written."""
    store = any_place.make_store()
    await store.load(any_place.make_record().key)
    records = [any_place.make_record(f"r{n}") for n in range(40)]
    bad = {7, 31}
    for n in bad:
        records[n] = any_place.make_record(f"r{n}", out_trade_no="\ud800")

    done = await asyncio.gather(*map(store.reserve, records), return_exceptions=True)

    good = [record for n, record in enumerate(records) if n not in bad]
    assert bad == {n for n, result in enumerate(done) if isinstance(result, NotSentError)}
    assert good == [result for n, result in enumerate(done) if n not in bad]
    assert set(good) == set((await store.load_many([record.key for record in records])).values())


async def test_what_exists_is_found_among_what_is_new(any_place: Place) -> None:
    """Each task is given what is stored, also when its neighbours are new."""
    store, other = await warm_stores(any_place)
    known = [await other.reserve(any_place.make_record(f"r{n}", checks=1)) for n in range(3)]
    records = [any_place.make_record(f"r{n}") for n in range(6)]

    assert [*known, *records[3:]] == await asyncio.gather(*map(store.reserve, records))


async def test_operation_is_in_one_group_at_a_time(any_place: Place) -> None:
    """100 claims of three operations, more than one group takes: each sees the one before it."""
    store = any_place.make_store()
    records = [await store.reserve(any_place.make_record(f"r{n}")) for n in range(3)]

    claimed = await asyncio.gather(
        *(store.claim(records[n % 3].key, now=NOW, signed_at=n, lease=0.0) for n in range(99))
    )

    epochs = [[r.epoch for r in claimed if r and r.key == of.key] for of in records]
    assert [[*range(1, 34)]] * 3 == epochs


async def test_processes_that_want_the_same_do_not_fail_each_other(any_place: Place) -> None:
    """Two stores write the same operations in opposite orders, again and again."""
    stores = await warm_stores(any_place)
    records = [any_place.make_record(f"r{n}") for n in range(60)]
    orders = [records, records[::-1]]

    for _ in range(3):
        reserved = await asyncio.gather(
            *(s.reserve(r) for s, order in zip(stores, orders, strict=True) for r in order)
        )
        wrote = await asyncio.gather(
            *(s.record(r) for s, order in zip(stores, orders, strict=True) for r in order)
        )
        assert [*records, *records[::-1]] == reserved
        assert [True] * 120 == wrote


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING])
async def test_row_that_another_process_has_locked_keeps_no_neighbour_waiting(
    server_place: Place, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own update waits for it; those that came with it, and after it, do not."""
    monkeypatch.setattr(sql_servers, "_REUSED", 60.0)  # nothing that waits is repeated meanwhile
    store = server_place.make_store(timeout=60.0)
    made = [server_place.make_record(f"r{n}", state=state) for n in range(4)]
    records = [await store.reserve(record) for record in made]
    engine = create_async_engine(make_url(server_place.url))
    async with engine.connect() as holder:
        lock = "SELECT * FROM wxpay_operations WHERE app_key = :a AND request_id = 'r0' FOR UPDATE"
        await holder.execute(text(lock), {"a": server_place.app_key})
        waits = asyncio.ensure_future(store.record(records[0]))
        async with asyncio.timeout(20):
            others = await asyncio.gather(*map(store.record, records[1:]))
        late = await store.reserve(server_place.make_record("late"))
        before = waits.done()
        await holder.rollback()
        assert ([True] * 3, server_place.make_record("late"), False, True) == (
            others,
            late,
            before,
            await waits,
        )
    await engine.dispose()


async def test_updates_that_wait_for_other_processes_hold_no_commit(
    server_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are groups at once come alone and find their rows locked."""
    monkeypatch.setattr(sql_servers, "_REUSED", 60.0)
    store = server_place.make_store(timeout=60.0)
    made = [server_place.make_record(f"r{n}", state=State.SENDING) for n in range(3)]
    records = [await store.reserve(record) for record in made]
    engine = create_async_engine(make_url(server_place.url))
    async with engine.connect() as holder:
        lock = "SELECT * FROM wxpay_operations WHERE app_key = :a AND request_id IN ('r0', 'r1')"
        await holder.execute(text(f"{lock} FOR UPDATE"), {"a": server_place.app_key})
        waits = []
        for record in records[:2]:
            waits.append(asyncio.ensure_future(store.record(record)))
            await asyncio.sleep(0.1)  # it has gone alone
        async with asyncio.timeout(20):
            assert await store.record(records[2])
        await holder.rollback()
        assert [True, True] == await asyncio.gather(*waits)
    await engine.dispose()


async def test_large_values_of_many_tasks_fit_into_statements(any_place: Place) -> None:
    """40 contents of 64 KB are more than a server may take in one packet."""
    store = any_place.make_store()
    records = [any_place.make_record(f"r{n}", content=bytes([n]) * 65_536) for n in range(40)]

    assert records == await asyncio.gather(*map(store.reserve, records))
    assert [True] * 40 == await asyncio.gather(*map(store.record, records))
    assert records[39] == await store.load(records[39].key)
