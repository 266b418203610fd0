"""What only the SQL stores do: schema versions, durable commits in groups, retries, addresses."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tests.contract.stores import NOW, RETENTION, Place, cancelled_after, execute, place_of
from wxpay_async.adapters.stores import sql, sql_groups
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.states import State

T = TypeVar("T")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncGenerator[Place]:
    """Open a fresh SQLite file."""
    async with place_of("sqlite", tmp_path) as opened:
        yield opened


def _raw(place: Place) -> sqlite3.Connection:
    return sqlite3.connect(place.url.removeprefix("sqlite:///"), isolation_level=None)


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
@pytest.mark.parametrize(
    "upgrade",
    [
        "UPDATE wxpay_schema SET version = 2",
        "INSERT INTO wxpay_schema (version) VALUES (2)",
        "INSERT INTO wxpay_schema (version) VALUES (0), (2)",
    ],
)
async def test_tables_of_a_later_release_are_refused(
    upgrade: str, kind: str, tmp_path: Path
) -> None:
    """Neither a read nor a write touches them, and the error says what to do."""
    async with place_of(kind, tmp_path) as place:
        earlier, store = place.store(), place.store()
        assert isinstance(earlier, SqlStore)
        session = await earlier._open_session()
        await session.transact(lambda connection: connection.exec_driver_sql(upgrade) and None)

        with pytest.raises(NotSentError, match=r"version 2.* knows 1: upgrade it") as raised:
            await store.load(place.make_record().key)
        with pytest.raises(InDoubtError, match="version 2"):
            await store.record(place.make_record())
        assert not raised.value.retryable


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_commits_are_durable(kind: str, tmp_path: Path) -> None:
    """The store says so before it is opened, and still says so when the server was asked."""
    async with place_of(kind, tmp_path) as place:
        store = place.store()
        before = store.durable
        await store.load(place.make_record().key)

        assert (True, True) == (before, store.durable)


async def test_a_server_that_does_not_write_through_is_not_durable(tmp_path: Path) -> None:
    """PostgreSQL with synchronous_commit off may lose what it has reported."""
    async with place_of("postgres", tmp_path) as place:
        name = place.url.rpartition("/")[2]
        await execute(place.url, f"ALTER DATABASE {name} SET synchronous_commit = off")
        store = place.store()
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
    store = place.store()
    assert isinstance(store, SqlStore)
    await store.reserve(place.make_record())

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    session = await store._open_session()
    assert ["wal", 2] == await session.transact(pragmas)


async def test_what_is_reported_is_committed(place: Place) -> None:
    """When a call returns, any other connection sees what it did."""
    store = place.store()
    with _raw(place) as raw:
        for number in range(20):
            await store.reserve(place.make_record(f"r{number}"))
            count = raw.execute("SELECT count(*) FROM wxpay_operations").fetchone()
            assert (number + 1,) == count
    raw.close()


async def test_commits_of_many_tasks_are_grouped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 tasks at once share a few commits, and each gets its own answer."""
    store = place.store()
    await store.load(place.make_record().key)
    groups: list[int] = []
    apply_updates = sql_groups.sql_tables.apply_updates

    def count_updates(connection: Connection, updates: list[sql.Update]) -> list[sql.Applied]:
        groups.append(len(updates))
        return apply_updates(connection, updates)

    monkeypatch.setattr(sql_groups.sql_tables, "apply_updates", count_updates)
    records = [place.make_record(f"r{n}", content=b"%d" % n) for n in range(64)]

    assert records == await asyncio.gather(*map(store.reserve, records))
    assert [64] == groups


async def test_a_group_applies_its_changes_in_order(place: Place) -> None:
    """Tasks that want the same operation in one commit see each other's changes."""
    store = place.store()
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


async def test_a_full_disk_fails_the_whole_group_and_passes(place: Place) -> None:
    """Nobody is told of a commit that did not happen; with room again the store goes on."""
    store = place.store()
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


async def test_a_file_that_another_process_holds_is_not_waited_for_for_ever(place: Place) -> None:
    """The wait ends with the store's timeout, before anything was sent."""
    store = place.store(timeout=0.4)
    await store.load(place.make_record().key)
    with _raw(place) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotSentError):
            await store.reserve(place.make_record())
        other.execute("ROLLBACK")
    other.close()

    assert place.make_record() == await store.reserve(place.make_record())


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """The error says what was not done; the path is only in its cause."""
    store = SqlStore(f"sqlite:///{tmp_path}/absent/store.db")
    with pytest.raises(NotSentError, match="cannot sweep") as raised:
        await store.sweep("k", NOW)

    assert "absent" not in str(raised.value)
    await store.aclose()


async def test_a_change_whose_caller_left_before_its_commit_is_dropped(place: Place) -> None:
    """Nothing is done for somebody who is gone, and the others are served."""
    store = place.store()
    await store.load(place.make_record().key)
    staying = asyncio.ensure_future(store.reserve(place.make_record("stays")))
    await cancelled_after(1, store.reserve(place.make_record("leaves")))

    assert place.make_record("stays") == await staying
    assert await store.load(place.make_record("leaves").key) is None


_CHILD = """
import asyncio, sys, attrs
from tests.contract.stores import NOW, Place
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION
from wxpay_async.policy.record import LEASE
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


async def test_a_killed_process_loses_nothing_that_it_reported(place: Place) -> None:
    """After SIGKILL in the middle of it, every payment that was reported is in the file."""
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
    store = place.store()

    loaded = [
        await store.load(("k", f"r{int(number)}")) for number in reported if number.endswith(b"\n")
    ]
    assert len(reported) >= 200
    assert {State.SUCCEEDED} == {record.state if record else None for record in loaded}


async def test_a_sweep_reads_no_more_than_it_has_to(place: Place) -> None:
    """Each of its queries goes through the index, and so does a claim through the key."""
    store = place.store()
    assert isinstance(store, SqlStore)
    claimed = await store.reserve(place.make_record())
    session = await store._open_session()
    plans: list[str] = []

    def explained(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert raw is not None
        statements: list[str] = []
        raw.set_trace_callback(statements.append)
        sql.sql_tables.sweep(connection, place.app_key, NOW, retention=RETENTION, limit=5)
        sql.sql_tables.fetch_records(connection, [claimed.key], lock=True)
        keys = [claimed.key, (place.app_key, "r2"), ("k", "r")]
        sql.sql_tables.fetch_records(connection, keys, lock=True)
        raw.set_trace_callback(None)
        for statement in statements:
            if statement.startswith("SELECT"):
                rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                plans.append(" | ".join(row[3] for row in rows))

    await session.transact(explained)

    assert 7 == len(plans)
    tend, until = "wxpay_operations_tend", "wxpay_inbox_until"
    assert [tend, tend, until, tend] == [_index(plan) for plan in plans[:4]]
    assert all("autoindex_wxpay_operations" in _index(plan) for plan in plans[4:])


def _index(plan: str) -> str:
    return plan.partition(" INDEX ")[2].split(" ")[0]


async def test_many_old_operations_are_dropped_in_portions(place: Place) -> None:
    """One sweep drops 1,000 at most, so that it does not keep payments waiting."""
    store = place.store()
    records = [place.make_record(f"r{n}") for n in range(1005)]
    await asyncio.gather(*map(store.reserve, records))

    left = []
    for _ in range(2):
        await store.sweep(place.app_key, NOW + RETENTION)
        loaded = await asyncio.gather(*(store.load(record.key) for record in records))
        left.append(sum(record is not None for record in loaded))

    assert [5, 0] == left


async def test_callbacks_are_forgotten_after_30_days(place: Place) -> None:
    """A sweep drops what is remembered no longer, and a lease that nobody gave back."""
    store = place.store()
    await store.complete("paid", now=NOW)
    await store.begin("busy", now=NOW)
    counts = []
    for now in (NOW, NOW + LEASE, NOW + INBOX_RETENTION):
        await store.sweep(place.app_key, now)
        with _raw(place) as raw:
            counts.append(raw.execute("SELECT count(*) FROM wxpay_inbox").fetchone()[0])
        raw.close()

    assert [2, 1, 0] == counts


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


def _operational(code: int | str) -> OperationalError:
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
    database = _Failing([_operational(code) for _ in range(failures)])
    session = sql._Session(database, grouped=False, free_connections=asyncio.Semaphore(1))
    try:
        await session.transact(lambda _: None)
    except OperationalError:
        assert failures >= tried

    assert tried == database.transactions


@pytest.mark.parametrize("error", [_operational("53100"), _operational(1114), TimeoutError()])
async def test_what_would_fail_again_is_not_repeated(error: Exception) -> None:
    """A full disk or a server that does not answer is reported at once."""
    database = _Failing([error])
    session = sql._Session(database, grouped=False, free_connections=asyncio.Semaphore(1))
    with pytest.raises(type(error)):
        await session.transact(lambda _: None)

    assert 1 == database.transactions
