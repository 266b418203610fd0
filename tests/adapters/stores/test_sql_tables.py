"""Check the tables of `SqlStore`: versions, rows, what a sweep reads and drops."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import attrs
import pytest
from sqlalchemy import Connection

from tests.adapters.stores.old_mysql import OldMysql
from tests.contract.stores import RETENTION, Place, open_place
from tests.support.records import NOW
from tests.support.services import MYSQL
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION
from wxpay_async.adapters.stores.server_clock import ServerClock
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.states import State

ADDED = ("claim_token", "deviates_at", "deviation", "verdict")
"""The columns that version 1 did not have."""


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
@pytest.mark.parametrize(
    "upgrade",
    [
        "UPDATE wxpay_schema SET version = 9",
        "INSERT INTO wxpay_schema (version) VALUES (9)",
        "INSERT INTO wxpay_schema (version) VALUES (0), (9)",
    ],
)
async def test_tables_of_a_later_release_are_refused(
    upgrade: str, kind: str, tmp_path: Path
) -> None:
    """Neither a read nor a write touches them, and the error says what to do."""
    async with open_place(kind, tmp_path) as place:
        earlier, store = place.make_store(), place.make_store()
        assert isinstance(earlier, SqlStore)
        session = await earlier._open_session()
        await session.transact(lambda connection: connection.exec_driver_sql(upgrade) and None)

        with pytest.raises(NotSentError, match=r"version 9.* knows 2: upgrade it") as raised:
            await store.load(place.make_record().key)
        with pytest.raises(InDoubtError, match="version 9"):
            await store.record(place.make_record())
        assert not raised.value.retryable


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_tables_of_an_earlier_release_are_upgraded_once(kind: str, tmp_path: Path) -> None:
    """Of several processes that start at once each finds them whole; the rows stay."""
    async with open_place(kind, tmp_path) as place:
        earlier = place.make_store()
        record = await earlier.reserve(place.make_record(state=State.UNKNOWN))
        assert isinstance(earlier, SqlStore)
        session = await earlier._open_session()
        for downgrade in (
            *(f"ALTER TABLE wxpay_operations DROP COLUMN {name}" for name in ADDED),
            "UPDATE wxpay_schema SET version = 1",
        ):
            await session.transact(lambda c, sql=downgrade: c.exec_driver_sql(sql) and None)

        stores = [place.make_store() for _ in range(4)]
        found = await asyncio.gather(*(store.load(record.key) for store in stores))

        assert [record] * 4 == found
        judged = attrs.evolve(record, state=State.NEEDS_REVIEW, verdict="{}")
        assert await stores[0].record(judged)
        assert judged == await stores[1].load(record.key)


async def test_tending_reads_no_more_than_it_has_to(place: Place) -> None:
    """Each of its queries goes through the index, and so does a claim through the key."""
    store = place.make_store()
    assert isinstance(store, SqlStore)
    claimed = await store.reserve(place.make_record())
    session = await store._open_session()
    plans: list[str] = []

    def explain_queries(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert raw is not None
        statements: list[str] = []
        raw.set_trace_callback(statements.append)
        store._work.due(connection, place.app_key, NOW, limit=5)
        store._work.forget(connection, place.app_key, NOW - RETENTION, limit=5)
        store._work.forget_entries(connection, NOW, limit=5)
        store._work.fetch_records(connection, [claimed.key])
        keys = [claimed.key, (place.app_key, "r2"), ("k", "r")]
        store._work.fetch_records(connection, keys)
        raw.set_trace_callback(None)
        for statement in statements:
            if statement.startswith(("SELECT", "DELETE")):
                rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                plans.append(" | ".join(row[3] for row in rows))

    await session.transact(explain_queries)

    assert not [plan for plan in plans if "SCAN" in plan]
    wanted = ["tend"] * 3 + ["until"] + ["autoindex_wxpay_operations"] * 3
    assert [True] * 7 == [name in plan for name, plan in zip(wanted, plans, strict=True)]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_many_old_operations_are_dropped_in_portions(kind: str, tmp_path: Path) -> None:
    """At most 1,000 are dropped at once, so that payments are not kept waiting."""
    async with open_place(kind, tmp_path) as place:
        await _drop_in_portions(place)


async def _drop_in_portions(place: Place) -> None:
    store = place.make_store()
    records = [place.make_record(f"r{n}") for n in range(1005)]
    await asyncio.gather(*map(store.reserve, records))

    left = []
    for _ in range(2):
        forgotten = await store.forget(place.app_key, NOW + RETENTION)
        left.append((forgotten, len(await store.load_many([record.key for record in records]))))

    assert [(1000, 5), (5, 0)] == left


async def test_callbacks_are_forgotten_30_days_after_their_last_change(
    place: Place, raw: sqlite3.Connection
) -> None:
    """What was not changed for so long is dropped, 1,000 at most at once."""
    store = place.make_store()
    for number in range(1_002):
        await store.swap(f"m{number}", version=None, value="", now=NOW)
    await store.swap("m0", version=1, value="", now=NOW + 1)
    counts = []
    for later in (-0.001, 0.0, 0.999, 1.0):
        await store.forget(place.app_key, NOW + INBOX_RETENTION + later)
        counts.append(raw.execute("SELECT count(*) FROM wxpay_callbacks").fetchone()[0])

    assert [1_002, 2, 1, 0] == counts


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_table_that_is_missing_is_made(kind: str, tmp_path: Path) -> None:
    """Between two releases a table came that has no version of its own."""
    async with open_place(kind, tmp_path) as place:
        earlier = place.make_store()
        assert isinstance(earlier, SqlStore)
        session = await earlier._open_session()
        drop = "DROP TABLE wxpay_callbacks"
        await session.transact(lambda connection: connection.exec_driver_sql(drop) and None)

        stores = [place.make_store() for _ in range(4)]
        key = place.make_message("order")
        wrote = await asyncio.gather(
            *(store.swap(key, version=None, value="", now=NOW) for store in stores)
        )

        assert [False] * 3 + [True] == sorted(wrote)


async def test_server_without_skip_locked_is_served(tmp_path: Path) -> None:
    """MySQL 5.7 and MariaDB 10.5 refuse the words; payments and recovery go on without them."""
    async with open_place("mariadb", tmp_path) as place:
        old = OldMysql(MYSQL.address)
        async with old.listen() as port:
            store = place.make_store(url=place.make_url(port))
            doubtful = place.make_record("r1", state=State.UNKNOWN, next_check_at=NOW)
            finished = place.make_record("r2", state=State.SUCCEEDED)
            await asyncio.gather(store.reserve(doubtful), store.reserve(finished))
            wrote = await asyncio.gather(store.record(doubtful), store.record(finished))

            assert [doubtful] == await store.due(place.app_key, NOW)
            assert 1 == await store.forget(place.app_key, NOW + RETENTION)
            assert ([True, True], 1) == (wrote, old.refused)
            await store.aclose()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
async def test_clock_of_the_server_is_known_after_opening(kind: str, tmp_path: Path) -> None:
    """Where this host's clock is 50 s behind, the server's is ahead; a step of it shows at once."""
    step = 50.0
    async with open_place(kind, tmp_path) as place:
        store = place.make_store()
        assert isinstance(store, SqlStore)
        store._work.clock = ServerClock(wall=lambda: time.time() - step)
        unknown = store.ahead
        await store.open()

        assert (None, pytest.approx(50.0, abs=5.0)) == (unknown, store.ahead)
        step = 0.0
        assert pytest.approx(0.0, abs=5.0) == store.ahead


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
async def test_clock_of_the_server_is_looked_at_again(kind: str, tmp_path: Path) -> None:
    """After ten minutes of use one call has it measured beside its own work."""
    now = 0.0
    async with open_place(kind, tmp_path) as place:
        store = place.make_store()
        assert isinstance(store, SqlStore)
        store._work.clock = clock = ServerClock(monotonic=lambda: now)
        await store.open()
        now = 601.0
        stale = clock.stale
        session = await store._open_session()
        await session.tasks.finished()

        assert (True, False) == (stale, clock.stale)


async def test_file_has_no_clock_of_its_own(place: Place) -> None:
    """All processes that share one are on one host."""
    store = place.make_store()
    await store.open()

    assert 0.0 == store.ahead
