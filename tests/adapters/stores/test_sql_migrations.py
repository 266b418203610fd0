"""Check how the tables of `SqlStore` are upgraded: from each version, by several at once, cut."""

from __future__ import annotations

import asyncio
from pathlib import Path

import attrs
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.contract.stores import Place, Wire, open_place
from tests.support.processes import run_python
from tests.support.sql_databases import (
    NEW_IN_2,
    insert_version_1,
    make_version_1_record,
    open_store,
    read_layout,
    run_sql,
    set_up_version_1,
    write_current,
    write_version_1,
)
from wxpay_async.adapters.stores.sql_migrations import _lock
from wxpay_async.adapters.stores.sql_schema import VERSION, make_tables
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.states import State


async def test_tables_of_0_1_0_are_upgraded_with_their_rows(anywhere: Place) -> None:
    """Of several processes at once each finds them whole, and as a new database has them."""
    record = await set_up_version_1(anywhere)

    stores = [anywhere.make_store() for _ in range(6)]
    found = await asyncio.gather(*(store.load(record.key) for store in stores))

    assert [record] * 6 == found
    judged = attrs.evolve(record, state=State.NEEDS_REVIEW, verdict="{}", claim_token="f" * 64)
    assert await stores[0].record(judged)
    assert judged == await stores[1].load(record.key)
    rows = await run_sql(anywhere.url, "SELECT version FROM wxpay_schema ORDER BY version")
    assert [1, VERSION] == [row[0] for row in rows]


async def test_running_processes_of_0_1_0_go_on_with_upgraded_tables(anywhere: Place) -> None:
    """What they write leaves the new columns empty, and is read as it was written."""
    await run_sql(anywhere.url, *write_version_1(anywhere.kind))
    store = anywhere.make_store()
    await store.load(("k", "r"))
    record = make_version_1_record(anywhere)
    await insert_version_1(anywhere, record)
    await run_sql(anywhere.url, "SELECT message, handled, until FROM wxpay_inbox")

    assert record == await store.load(record.key)


@pytest.mark.parametrize("printed", [False, True])
async def test_upgraded_tables_are_those_of_a_new_database(
    anywhere: Place, tmp_path: Path, *, printed: bool
) -> None:
    """By the store or by the printed steps. What an earlier release still uses stays."""
    await run_sql(anywhere.url, *write_version_1(anywhere.kind))
    if printed:
        await run_sql(anywhere.url, *write_current(anywhere.kind, version=1))
    else:
        await anywhere.make_store().load(("k", "r"))
    upgraded = await read_layout(anywhere.url)
    async with open_place(anywhere.kind, tmp_path / "new") as fresh:
        (tmp_path / "new").mkdir()
        await fresh.make_store().load(("k", "r"))
        expected = await read_layout(fresh.url)

    inbox = upgraded.pop("wxpay_inbox")
    assert ["message"] == inbox[1]
    assert expected == upgraded


@pytest.mark.parametrize("done", range(6))
async def test_upgrade_that_a_crash_cut_is_completed(anywhere: Place, done: int) -> None:
    """On MySQL each statement commits by itself; the next start does what is left."""
    record = await set_up_version_1(anywhere)
    await run_sql(anywhere.url, *write_current(anywhere.kind, version=1)[:done])

    stores = [anywhere.make_store() for _ in range(3)]
    found = await asyncio.gather(*(store.load(record.key) for store in stores))

    assert [record] * 3 == found
    layout = await read_layout(anywhere.url)
    assert set(NEW_IN_2) < {name for name, *_ in layout["wxpay_operations"][0]}
    assert [("wxpay_callbacks_until", ["until"])] == layout["wxpay_callbacks"][2]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("there", [("verdict",), ("claim_token", "deviation")])
async def test_columns_that_are_missing_are_added(
    anywhere: Place, there: tuple[str, ...], version: int
) -> None:
    """Whatever the row of the version says, and whoever left half of the columns."""
    await run_sql(
        anywhere.url,
        *write_version_1(anywhere.kind),
        *(f"ALTER TABLE wxpay_operations ADD COLUMN {name} VARCHAR(64)" for name in there),
        f"UPDATE wxpay_schema SET version = {version}",
    )
    record = make_version_1_record(anywhere)
    await insert_version_1(anywhere, record)

    stores = [anywhere.make_store() for _ in range(3)]
    found = await asyncio.gather(*(store.load(record.key) for store in stores))

    assert [record] * 3 == found
    assert VERSION == (await run_sql(anywhere.url, "SELECT max(version) FROM wxpay_schema"))[0][0]


@pytest.mark.parametrize("done", range(6))
async def test_creation_that_a_crash_cut_is_completed(anywhere: Place, done: int) -> None:
    """Tables without a version are what a start on MySQL left behind."""
    await run_sql(anywhere.url, *write_current(anywhere.kind)[:done])
    record = anywhere.make_record()

    stores = [anywhere.make_store() for _ in range(3)]
    kept = await asyncio.gather(*(store.reserve(record) for store in stores))

    assert [record] * 3 == kept
    assert {"wxpay_operations_tend", "wxpay_callbacks_until"} == {
        index
        for _, _, indexes in (await read_layout(anywhere.url)).values()
        for index, _ in indexes
    }


async def test_tables_of_a_later_release_are_left_alone(anywhere: Place) -> None:
    """Nothing is read, written or altered, and the error says what to do."""
    await run_sql(anywhere.url, *write_current(anywhere.kind))
    await run_sql(
        anywhere.url,
        "ALTER TABLE wxpay_operations DROP COLUMN verdict",
        f"INSERT INTO wxpay_schema (version) VALUES ({VERSION + 1})",
    )
    before = await read_layout(anywhere.url)

    for create in (True, False):
        async with open_store(anywhere.url, create=create) as store:
            with pytest.raises(NotSentError, match="upgrade it") as raised:
                await store.reserve(anywhere.make_record())
            with pytest.raises(InDoubtError, match="upgrade it"):
                await store.record(anywhere.make_record())
            assert not raised.value.retryable

    assert before == await read_layout(anywhere.url)
    assert [] == await run_sql(anywhere.url, "SELECT * FROM wxpay_operations")


@pytest.mark.parametrize("word", ["ADD COLUMN", "CREATE TABLE", "CREATE INDEX", "INSERT"])
async def test_upgrade_whose_connection_breaks_goes_on_over_another(
    server: Place, word: str
) -> None:
    """The server has done the statement, and the store did not hear of it."""
    record = await set_up_version_1(server)
    port = make_url(server.url).port
    assert port is not None
    async with Wire(("127.0.0.1", port)) as wire:
        store = server.make_store(url=server.make_url(wire.port))
        wire.lose_answer_to(word.encode())

        assert record == await store.load(record.key)

        assert wire.lost
        await store.aclose()
    layout = await read_layout(server.url)
    assert set(NEW_IN_2) < {name for name, *_ in layout["wxpay_operations"][0]}
    assert [("wxpay_callbacks_until", ["until"])] == layout["wxpay_callbacks"][2]


async def test_store_does_not_wait_for_ever_for_another_that_upgrades(server: Place) -> None:
    """It says that it cannot, may be asked again, and goes on when the other one has ended."""
    record = await set_up_version_1(server)
    store = server.make_store(timeout=1.0)
    engine = create_async_engine(server.url)
    async with engine.connect() as other:
        held = _lock(other.sync_connection, make_tables())  # type: ignore[arg-type]
        await other.run_sync(lambda _: held.__enter__())
        with pytest.raises(NotSentError, match="cannot load an operation") as raised:
            await store.load(record.key)
        assert raised.value.retryable
        await other.run_sync(lambda _: held.__exit__(None, None, None))
    await engine.dispose()

    assert record == await store.load(record.key)


@pytest.mark.slow
async def test_processes_that_start_at_once_upgrade_once(anywhere: Place) -> None:
    """As a deployment does; each of them reads the row of the earlier release."""
    record = await set_up_version_1(anywhere)
    code = f"""
import asyncio
from wxpay_async import SqlStore

async def main():
    store = SqlStore({anywhere.url!r})
    found = await store.load({record.key!r})
    await store.aclose()
    print(found.fingerprint.digest)

asyncio.run(main())
"""
    ended = await asyncio.gather(*(asyncio.to_thread(run_python, code) for _ in range(4)))

    assert [(f"{record.fingerprint.digest}\n", "")] * 4 == [
        (each.stdout, each.stderr) for each in ended
    ]
    rows = await run_sql(anywhere.url, "SELECT version FROM wxpay_schema ORDER BY version")
    assert [1, VERSION] == [row[0] for row in rows]
