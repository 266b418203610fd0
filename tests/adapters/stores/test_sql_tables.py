"""Check the tables of `SqlStore`: versions, rows, what a sweep reads and drops."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import attrs
import pytest

from tests.contract.stores import Place, open_place
from tests.support.records import NOW
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
