"""Check how old rows are dropped: in portions, and none too soon."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection, event

from tests.contract.stores import RETENTION, Place, open_place
from tests.support.records import NOW
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_forgetting import Portions

NO_CONNECTION = cast("Connection", None)


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


async def _forget(
    seconds_for_row: float, *, limit: int, portions: Portions | None = None
) -> list[int]:
    """Forget where every row takes so long; return the sizes of the portions."""
    now = 0.0
    sizes: list[int] = []
    portions = portions or Portions()
    portions.monotonic = lambda: now

    def drop(_: Connection, *, limit: int) -> int:
        nonlocal now
        sizes.append(limit)
        now += limit * seconds_for_row
        return limit

    async def transact(work: Callable[[Connection], int]) -> int:
        return work(NO_CONNECTION)

    assert limit == await portions.forget(transact, drop, limit=limit)
    return sizes


async def test_portions_grow_while_they_are_quick_but_never_beyond_500() -> None:
    """A quarter more each time: what follows may be slower."""
    sizes = await _forget(0.0, limit=10_000)

    assert [20, 25, 31, 38] == sizes[:4]
    assert 500 == max(sizes)


async def test_portion_that_was_slow_is_followed_by_half_as_many() -> None:
    """Down to 20, with which something is still done where every row is slow."""
    portions = Portions()
    await _forget(0.0, limit=3_000, portions=portions)

    sizes = await _forget(0.0008, limit=2_000, portions=portions)

    assert [sizes[0] // 2, sizes[0] // 4] == sizes[1:3]
    assert 20 == sizes[-2]


async def test_remainder_that_is_quick_says_nothing_of_a_whole_portion() -> None:
    """What is left of a limit takes less than 5 ms because it is little."""
    portions = Portions()
    await _forget(0.0002, limit=1_000, portions=portions)
    before = await _forget(0.0002, limit=1_000, portions=portions)

    assert max(before) <= 25 + 25 // 4
    for _ in range(8):
        await _forget(0.0002, limit=5, portions=portions)

    assert (await _forget(0.0002, limit=100, portions=portions))[0] <= 25 + 25 // 4


async def test_portion_that_was_a_little_slow_is_followed_by_fewer() -> None:
    """A fifth less between 5 and 10 ms."""
    portions = Portions()
    await _forget(0.0, limit=1_000, portions=portions)
    largest = (await _forget(0.0, limit=1_000, portions=portions))[-2]

    sizes = await _forget(0.0075 / largest, limit=10 * largest, portions=portions)

    assert sizes[1] == sizes[0] * 4 // 5


@pytest.mark.parametrize(
    ("kind", "analyze", "column", "by_index"),
    [
        ("postgres", "ANALYZE {}", 0, "Index Scan using {}_tend"),
        ("mariadb", "ANALYZE TABLE {}", 5, "{}_tend"),  # the sixth is the key that it takes
    ],
)
async def test_old_rows_are_found_by_the_index_even_if_all_seem_old(
    kind: str, analyze: str, column: int, by_index: str, tmp_path: Path
) -> None:
    """Else a server reads its whole table to find that no old row is left."""
    async with open_place(kind, tmp_path) as place:
        store = place.make_store()
        assert isinstance(store, SqlStore)
        await asyncio.gather(
            *(store.reserve(place.make_record(f"r{number}")) for number in range(500))
        )
        table = store._work.tables.operations.name
        plans: list[str] = []

        def explain(connection: Connection) -> None:
            asked: list[tuple[str, tuple[object, ...]]] = []
            connection.exec_driver_sql(analyze.format(table))
            event.listen(
                connection,
                "before_cursor_execute",
                lambda _a, _b, text, values, *_: asked.append((text, values)),
            )
            store._work.forget(connection, place.app_key, NOW, limit=5)
            [(text, values)] = asked
            rows = connection.exec_driver_sql(f"EXPLAIN {text}", values).fetchall()
            plans.extend(str(row[column]) for row in rows)

        session = await store._open_session()
        await session.transact(explain)

    assert [plan for plan in plans if by_index.format(table) in plan], plans
