"""Check how old rows are dropped: in portions, and none too soon."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.contract.stores import RETENTION, Place, open_place
from tests.support.records import NOW
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION


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
