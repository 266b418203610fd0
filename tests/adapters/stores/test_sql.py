"""Check what only the SQL stores do: durable commits, transactions that are repeated."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tests.contract.stores import Place, execute, open_place
from tests.support.records import NOW
from wxpay_async.adapters.stores import sql
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_schema import make_tables
from wxpay_async.adapters.stores.sql_tables import Transactions
from wxpay_async.errors import NotSentError
from wxpay_async.policy.states import State

T = TypeVar("T")


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_commits_are_durable(kind: str, tmp_path: Path) -> None:
    """The store says so before it is opened, and still says so when the server was asked."""
    async with open_place(kind, tmp_path) as place:
        store = place.make_store()
        before = store.durable
        await store.load(place.make_record().key)

        assert (True, True) == (before, store.durable)


async def test_server_that_does_not_write_through_is_not_durable(tmp_path: Path) -> None:
    """PostgreSQL with synchronous_commit off may lose what it has reported."""
    async with open_place("postgres", tmp_path) as place:
        name = place.url.rpartition("/")[2]
        await execute(place.url, f"ALTER DATABASE {name} SET synchronous_commit = off")
        store = place.make_store()
        await store.load(place.make_record().key)

        assert not store.durable


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
async def test_sqlite_in_memory_is_not_durable(url: str) -> None:
    """It works, and does not claim to keep anything."""
    store = SqlStore(url)
    record = Place("sqlite", url, lambda *_: store).make_record()
    assert record == await store.reserve(record)
    assert record == await store.load(record.key)
    await store.aclose()

    assert not store.durable


# SQLite


async def test_sqlite_writes_every_commit_through(place: Place) -> None:
    """The file is in WAL mode, and the connection that writes waits for the disk."""
    store = place.make_store()
    assert isinstance(store, SqlStore)
    await store.reserve(place.make_record())

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    session = await store._open_session()
    assert ["wal", 2] == await session.transact(pragmas)


async def test_what_is_reported_is_committed(place: Place, raw: sqlite3.Connection) -> None:
    """When a call returns, every other connection sees what it did."""
    store = place.make_store()
    for number in range(20):
        await store.reserve(place.make_record(f"r{number}"))
        count = raw.execute("SELECT count(*) FROM wxpay_operations").fetchone()
        assert (number + 1,) == count


async def test_file_that_another_process_holds_is_not_waited_for_for_ever(
    place: Place, raw: sqlite3.Connection
) -> None:
    """The wait ends with the store's timeout, before anything was sent."""
    store = place.make_store(timeout=0.4)
    await store.load(place.make_record().key)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotSentError):
        await store.reserve(place.make_record())
    raw.execute("ROLLBACK")

    assert place.make_record() == await store.reserve(place.make_record())


async def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """The error says what was not done; the path is only in its cause."""
    store = SqlStore(f"sqlite:///{tmp_path}/absent/store.db")
    with pytest.raises(NotSentError, match="cannot find what is due") as raised:
        await store.due("k", NOW)

    assert "absent" not in str(raised.value)
    await store.aclose()


_CHILD = """
import asyncio, sys, attrs
from tests.contract.stores import Place
from tests.support.records import NOW
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.policy.states import State

async def pay(store, place, number):
    record = place.make_record(f"r{number}", content=bytes(300))
    await store.reserve(record)
    claimed = await store.claim(record.key, now=NOW, signed_at=1)
    assert await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))
    print(number, flush=True)

async def main(url):
    store = SqlStore(url)
    place = Place("sqlite", url, None, app_key="k")
    for start in range(0, 1_000_000, 16):
        await asyncio.gather(*(pay(store, place, start + n) for n in range(16)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_killed_process_loses_nothing_that_it_reported(kind: str, tmp_path: Path) -> None:
    """After SIGKILL in the middle of it, every payment that was reported is stored."""
    async with open_place(kind, tmp_path) as place:
        reported = await _report_until_killed(place)
        loaded = await place.make_store().load_many([("k", f"r{number}") for number in reported])

        assert len(reported) >= 200
        assert len(reported) == len(loaded)
        assert {State.SUCCEEDED} == {record.state for record in loaded.values()}


async def _report_until_killed(place: Place) -> list[int]:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", _CHILD, place.url]
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": "."}
    )
    assert child.stdout is not None
    reported = [await child.stdout.readline() for _ in range(200)]
    child.kill()
    rest, _ = await child.communicate()
    reported += rest.splitlines(keepends=True)
    return [int(number) for number in reported if number.endswith(b"\n")]


# Repeating


@attrs.define(eq=False)
class _Failing:
    """A database whose transactions fail a few times."""

    errors: list[Exception]
    transactions: int = 0

    async def transact(self, work: Callable[[Connection], T]) -> T:  # noqa: ARG002 - never done
        self.transactions += 1
        if self.errors:
            raise self.errors.pop()
        return None  # type: ignore[return-value]

    async def close(self) -> None:
        """Nothing is open."""


class _DriverError(Exception):
    sqlstate: str | None = None


def _make_error(code: int | str) -> OperationalError:
    cause = _DriverError(code)
    if isinstance(code, str):
        cause.sqlstate = code
    return OperationalError("SELECT", {}, cause)


@pytest.mark.parametrize("code", ["40001", "40P01", 1205, 1213])
@pytest.mark.parametrize(("failures", "tried"), [(1, 2), (5, 6), (7, 6)])
async def test_what_others_made_fail_is_repeated(
    code: int | str, failures: int, tried: int
) -> None:
    """A deadlock or a serialization failure is tried again, six times in all."""
    database = _Failing([_make_error(code) for _ in range(failures)])
    session = sql._Session(database, Transactions(make_tables()), 1)
    try:
        await session.transact(lambda _: None)
    except OperationalError:
        assert failures >= tried

    assert tried == database.transactions


@pytest.mark.parametrize("error", [_make_error("53100"), _make_error(1114), TimeoutError()])
async def test_what_would_fail_again_is_not_repeated(error: Exception) -> None:
    """A full disk or a server that does not answer is reported at once."""
    database = _Failing([error])
    session = sql._Session(database, Transactions(make_tables()), 1)
    with pytest.raises(type(error)):
        await session.transact(lambda _: None)

    assert 1 == database.transactions
