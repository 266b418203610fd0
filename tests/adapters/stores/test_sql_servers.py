"""Check how the SQL store gets on with servers: dead connections, silence, defaults of a server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from tests.contract.stores import Place, Servers, execute, open_place
from tests.faults.line import Line
from tests.support.records import NOW, SIGNED_AT
from tests.support.tasks import wait_until
from wxpay_async.adapters.stores import sql_parameters, sql_servers
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_engines import make_database, parse_engine, parse_url
from wxpay_async.adapters.stores.sql_servers import ServerDatabase
from wxpay_async.adapters.stores.sql_tables import Applied, Update
from wxpay_async.errors import InvalidRequestError, NotSentError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State

ALL = ("postgres", "psycopg", "mariadb")
POSTGRES = ("postgres", "psycopg")


@pytest.fixture(params=ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open an empty database for each driver."""
    async with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
async def line(place: Place) -> AsyncGenerator[Line]:
    """Open a line to the place's server."""
    async with Line(make_url(place.url).port or 0) as opened:
        yield opened


# Connections that live but are useless


async def test_connections_that_a_firewall_forgot_cost_little_and_no_operation(
    place: Place, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes vanish on each pooled connection; what follows goes on over others."""
    store = place.make_store(url=place.make_url(line.port), timeout=20.0)
    await _reserve_all(store, place, "before")
    line.swallow()

    began = time.monotonic()
    await _reserve_all(store, place, "after")
    once = time.monotonic() - began
    await _reserve_all(store, place, "later")

    assert once < 10  # seconds: it gives up after 1.5, a driver after a quarter of an hour
    assert {True} == await _load_all(store, place, "after")
    await store.aclose()
    assert [] == [record.getMessage() for record in caplog.records]


async def test_idle_connection_is_asked_before_it_is_used(
    place: Place, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not answer is replaced before the transaction begins."""
    monkeypatch.setattr(sql_servers, "_FRESH", 0.0)
    monkeypatch.setattr(sql_servers, "_TRUSTED", 0.0)
    monkeypatch.setattr(sql_servers, "_SIGN_OF_LIFE", 0.2)
    database = _make_database(place, line.port)
    begun: list[int] = []

    def count(connection: Connection) -> int:
        begun.append(1)
        return connection.execute(text("SELECT 1")).scalar_one()

    await database.transact(count)
    line.swallow()
    await database.transact(count)
    await database.close()

    assert 2 == len(begun)


async def test_connection_that_was_idle_for_long_is_replaced(place: Place, line: Line) -> None:
    """Nothing is asked of it: a firewall that forgot it would not answer."""
    database = _make_database(place, line.port)
    for _ in range(3):
        await database.transact(_select_one)
        database._idle[0].used_at -= 300
    await database.close()

    assert 3 == line.calls


async def test_connection_is_kept(place: Place, line: Line) -> None:
    """A second transaction needs no second connection, nor does one after a failure."""
    database = _make_database(place, line.port)
    await database.transact(_select_one)
    with pytest.raises(DBAPIError):
        await database.transact(lambda connection: connection.execute(text("SELECT nonsense")))
    with pytest.raises(ZeroDivisionError):
        await database.transact(_divide_by_zero)

    assert 1 == await database.transact(_select_one)
    assert 1 == line.calls
    await database.close()


@pytest.mark.slow
async def test_slow_server_is_not_asked_twice_each_time(
    place: Place, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first slow transaction over a kept connection is repeated; the next have more time."""
    monkeypatch.setattr(sql_servers, "_REUSED", 0.2)
    monkeypatch.setattr(sql_servers, "_LEAST", 0.2)
    database = _make_database(place, line.port)
    await database.transact(_select_one)
    for _ in range(3):
        await database.transact(_wait)
    await database.close()

    assert 2 == line.calls


async def test_cancelled_transaction_leaves_no_connection_behind(place: Place, line: Line) -> None:
    """The next transaction has one of its own, and closing ends the cancelled one's."""
    database = _make_database(place, line.port)
    await database.transact(_select_one)
    line.swallow()
    task = asyncio.create_task(database.transact(_select_one))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])

    assert 1 == await database.transact(_select_one)
    await database.close()


async def test_connections_that_the_server_ends_cost_no_operation(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether they were idle or in use (`pg_terminate_backend`, KILL); nobody is alarmed."""
    store = place.make_store()
    await _reserve_all(store, place, "before")
    await _end_connections(place)
    await _reserve_all(store, place, "idle")

    busy = asyncio.gather(*(_reserve_all(store, place, f"busy{n}") for n in range(10)))
    await asyncio.sleep(0.02)
    await _end_connections(place)
    await busy
    await _end_connections(place)
    await store.aclose()

    assert [] == [record.getMessage() for record in caplog.records]


async def test_closing_does_not_wait_for_a_dead_server(
    place: Place, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """The goodbye that nobody hears ends after a second."""
    database = _make_database(place, line.port)
    await asyncio.gather(*(database.transact(_select_one) for _ in range(5)))
    line.swallow()

    began = time.monotonic()
    await database.close()

    assert time.monotonic() - began < 10  # asyncpg itself waits 30 s and more
    assert [] == [record.getMessage() for record in caplog.records]


@pytest.mark.slow
async def test_locks_of_a_client_that_fell_silent_are_released(
    place: Place, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped amid its transactions keeps no operation from the others."""
    monkeypatch.setattr(sql_parameters, "IDLE_IN_TRANSACTION", 2)
    stopped, other = place.make_store(url=place.make_url(line.port)), place.make_store()
    assert isinstance(stopped, SqlStore)
    claimed = await other.reserve(place.make_record("claimed"))
    due = await other.reserve(
        place.make_record("due", state=State.UNKNOWN, in_doubt=True, next_check_at=NOW)
    )
    new, known = place.make_message("new"), place.make_message("known")
    await other.swap(known, version=None, value="", now=NOW)
    work = stopped._work
    steps = (
        partial(
            work.apply_updates,
            updates=[Update(key=claimed.key, choose_record=_keep)],
            blindly=False,
            wait=False,
        ),
        partial(work.due, app_key=place.app_key, now=NOW, limit=1),
        partial(work.swap_entry, key=new, version=None, value="", now=NOW),
        partial(work.swap_entry, key=known, version=1, value="", now=NOW),
    )
    done: dict[int, object] = {}
    goes_on = asyncio.Event()

    def stop_after(connection: Connection, number: int) -> None:
        done[number] = steps[number](connection)
        await_only(goes_on.wait())

    calls = [
        asyncio.create_task(stopped._transact(partial(stop_after, number=n))) for n in range(4)
    ]
    try:
        await wait_until(
            lambda: len(done) == len(steps) or any(call.done() for call in calls), pause=0.01
        )
        line.hanging = True
        line.swallow()
        assert {0: [Applied(claimed, None)], 1: [due], 2: True, 3: True} == done

        assert None not in await asyncio.gather(
            *(other.claim(record.key, now=NOW, signed_at=SIGNED_AT) for record in (claimed, due))
        )
        assert await other.swap(new, version=None, value="", now=NOW)
        assert await other.swap(known, version=1, value="", now=NOW)
    finally:
        goes_on.set()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


@pytest.mark.parametrize("kind", POSTGRES)
async def test_end_of_silent_transactions_is_not_left_to_others(kind: str, tmp_path: Path) -> None:
    """A pooler lends the session to another client next, who may think in a transaction."""
    async with open_place(kind, tmp_path) as place:
        store = place.make_store()
        assert isinstance(store, SqlStore)
        await store.claim(place.make_record().key, now=NOW, signed_at=SIGNED_AT)
        await store.due(place.app_key, NOW)
        left = await store._transact(_read_silence)

    assert "0" == left


# Servers that are absent, or hang


async def test_hung_server_costs_one_timeout_not_one_for_each_call(
    place: Place, line: Line
) -> None:
    """All calls wait for the same attempt."""
    line.hanging = True
    store = place.make_store(url=place.make_url(line.port), timeout=1.0)

    began = time.monotonic()
    got = await asyncio.gather(
        *(store.reserve(place.make_record(f"r{n}")) for n in range(30)), return_exceptions=True
    )

    assert {NotSentError} == {type(each) for each in got}
    assert time.monotonic() - began < 10  # seconds; one after the other it would be 30
    assert line.calls < 5


async def test_search_for_a_server_is_one_for_all_calls(place: Place, line: Line) -> None:
    """Also after the store's first call, which looks at the tables for all of them."""
    line.hanging = True
    database = _make_database(place, line.port, timeout=1.0)

    calls = (database.transact(_select_one) for _ in range(30))
    got = await asyncio.gather(*calls, return_exceptions=True)
    await database.close()

    assert {TimeoutError} == {type(each) for each in got}
    assert line.calls < 5


async def test_hung_server_that_comes_to_itself_is_noticed(place: Place, line: Line) -> None:
    """The call that waits goes on over another connection, long before its time is up."""
    line.hanging = True
    store = place.make_store(url=place.make_url(line.port), timeout=30.0)
    call = asyncio.create_task(store.reserve(place.make_record()))
    await asyncio.sleep(0.3)
    line.hanging = False

    async with asyncio.timeout(15):
        assert place.make_record() == await call


async def test_closing_ends_the_search_for_a_hung_server(place: Place, line: Line) -> None:
    """Nothing of it goes on afterwards."""
    line.hanging = True
    database = _make_database(place, line.port)
    call = asyncio.create_task(database.transact(_select_one))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.wait([call])
    await database.close()

    assert {asyncio.current_task()} == {
        task for task in asyncio.all_tasks() if "Line" not in str(task.get_coro())
    }


async def test_absent_server_is_noticed_when_it_comes(place: Place) -> None:
    """Calls fail at once until then."""
    line = Line(make_url(place.url).port or 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        line.port = free.getsockname()[1]
    store = place.make_store(url=place.make_url(line.port))
    for _ in range(3):
        with pytest.raises(NotSentError):
            await store.reserve(place.make_record())

    async with line:
        assert place.make_record() == await store.reserve(place.make_record())
        await store.aclose()


# What a server is set up to


@pytest.mark.parametrize("kind", [*POSTGRES, "pgbouncer"])
async def test_isolation_is_the_stores_own(kind: str, tmp_path: Path) -> None:
    """SERIALIZABLE as the server's default would fail what works at READ COMMITTED."""
    servers = Servers()
    async with open_place(kind, tmp_path, None, servers) as place:
        name = make_url(place.url).database
        await execute(
            place.url,
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'",
        )
        database = _make_database(place)
        level = await database.transact(_read_isolation)
        await database.close()
        store = place.make_store()
        await asyncio.gather(*(_reserve_all(store, place, f"{n}") for n in range(20)))
    servers.stop()

    assert "READ COMMITTED" == level


@pytest.mark.parametrize("kind", POSTGRES)
async def test_connections_to_a_server_that_was_read_only_are_replaced(
    kind: str, tmp_path: Path
) -> None:
    """As after a failover: what was a replica when it was connected to is the primary now."""
    async with open_place(kind, tmp_path) as place:
        name = make_url(place.url).database
        await execute(
            place.url,
            "CREATE TABLE written (n INTEGER)",
            f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        )
        database = _make_database(place)
        await asyncio.gather(*(database.transact(_select_one) for _ in range(5)))
        with pytest.raises(DBAPIError):
            await database.transact(_write)
        await asyncio.gather(*(database.transact(_select_one) for _ in range(5)))
        await execute(
            place.url,
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
        )

        await asyncio.gather(*(database.transact(_write) for _ in range(5)))
        await database.close()


async def test_mysql_is_read_committed(tmp_path: Path) -> None:
    """Its own default is REPEATABLE READ, at which a key that is absent locks a gap."""
    async with open_place("mariadb", tmp_path) as place:
        database = _make_database(place)
        level = await database.transact(_read_isolation)
        await database.close()

    assert "READ COMMITTED" == level


async def test_statements_need_no_server_of_their_own(tmp_path: Path) -> None:
    """PgBouncer gives each transaction another server: nothing may be left on one."""
    servers = Servers()
    async with open_place("pgbouncer", tmp_path, None, servers) as place:
        store = place.make_store()
        for turn in range(3):
            await asyncio.gather(*(_reserve_all(store, place, f"{turn}-{n}") for n in range(20)))
    servers.stop()


# Engines of a merchant


async def test_engine_of_a_merchant_is_used_and_not_disposed_of(place: Place) -> None:
    """Its connections go back to it, and its isolation stays what it was."""
    engine = create_async_engine(place.url, pool_size=2, max_overflow=0)
    database = make_database(parse_engine(engine), timeout=10.0, connections=9, engine=engine)
    await asyncio.gather(*(database.transact(_select_one) for _ in range(10)))
    with pytest.raises(ZeroDivisionError):
        await database.transact(_divide_by_zero)
    await database.close()

    async with engine.connect() as connection:
        assert 1 == await connection.run_sync(_select_one)
    assert engine.pool.status().startswith("Pool size: 2  Connections in pool: ")  # type: ignore[attr-defined] - of its pool
    await engine.dispose()


@pytest.mark.parametrize("level", ["SERIALIZABLE", "AUTOCOMMIT"])
async def test_isolation_of_a_merchants_engine_is_set_aside(place: Place, level: str) -> None:
    """Only while a transaction of the store has the connection."""
    engine = create_async_engine(place.url, isolation_level=level)
    database = make_database(parse_engine(engine), timeout=10.0, connections=9, engine=engine)
    during = await database.transact(_read_isolation)
    async with engine.connect() as connection:
        after = await connection.get_isolation_level()
    await engine.dispose()

    assert "READ COMMITTED" == during
    assert level in {"AUTOCOMMIT", after}  # the former is no level of a server


async def test_connections_of_a_merchants_engine_that_died_are_replaced(place: Place) -> None:
    """What fails over a dead one may be repeated."""
    engine = create_async_engine(place.url)
    database = make_database(parse_engine(engine), timeout=10.0, connections=9, engine=engine)
    await database.transact(_select_one)
    await _end_connections(place)
    with contextlib.suppress(DBAPIError):  # a MySQL is asked before the work begins
        await database.transact(_select_one)

    assert 1 == await database.transact(_select_one)
    await engine.dispose()


async def test_engine_that_cannot_be_used_is_refused() -> None:
    """SQLite has a thread of the store's own; not every driver keeps bytes as they are."""
    for name, driver in (("sqlite", "aiosqlite"), ("mysql", "aiomysql"), ("oracle", "oracledb")):
        engine = SimpleNamespace(dialect=SimpleNamespace(name=name, driver=driver))
        with pytest.raises(InvalidRequestError, match="allowed: an AsyncEngine of asyncpg"):
            parse_engine(engine)  # type: ignore[arg-type] - all that is looked at


# Helpers


def _make_database(
    place: Place, port: int | None = None, *, timeout: float = 20.0
) -> ServerDatabase:
    url = parse_url(place.url if port is None else place.make_url(port))
    database = make_database(url, timeout=timeout, connections=10)
    assert isinstance(database, ServerDatabase)
    return database


async def _reserve_all(store: object, place: Place, name: str) -> list[IdempotencyRecord]:
    records = [place.make_record(f"{name}-{n}") for n in range(8)]
    reserve = store.reserve  # type: ignore[attr-defined] - a store
    return await asyncio.gather(*(reserve(record) for record in records))


async def _load_all(store: object, place: Place, name: str) -> set[bool]:
    load = store.load  # type: ignore[attr-defined] - a store
    keys = [place.make_record(f"{name}-{n}").key for n in range(8)]
    return {found is not None for found in await asyncio.gather(*map(load, keys))}


async def _end_connections(place: Place) -> None:
    """End every connection to the place's database, as an operator does."""
    url = make_url(place.url)
    if url.get_backend_name() == "postgresql":
        await execute(
            url.set(database="postgres"),
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            f" WHERE datname = '{url.database}'",
        )
        return
    engine = create_async_engine(url.set(database="mysql"), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        query = f"SELECT id FROM information_schema.processlist WHERE db = '{url.database}'"
        for number in (await connection.execute(text(query))).scalars().all():
            with contextlib.suppress(DBAPIError):  # it may have ended by itself
                await connection.execute(text(f"KILL {number}"))
    await engine.dispose()


def _keep(_: object) -> None:
    """Change nothing of what was found and is locked."""


def _select_one(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


def _read_isolation(connection: Connection) -> str:
    return connection.get_isolation_level()


def _read_silence(connection: Connection) -> str:
    setting = "SHOW idle_in_transaction_session_timeout"
    return str(connection.execute(text(setting)).scalar_one())


def _wait(connection: Connection) -> None:
    """Take longer than a transaction over a kept connection is given at first."""
    function = "pg_sleep" if connection.dialect.name == "postgresql" else "SLEEP"
    connection.execute(text(f"SELECT {function}(0.5)"))


def _write(connection: Connection) -> None:
    connection.execute(text("INSERT INTO written VALUES (1)"))


def _divide_by_zero(connection: Connection) -> float:
    return _select_one(connection) / 0


async def test_search_that_is_over_is_not_waited_for_again() -> None:
    """Its server was of no use at once: to await what is done would hold the loop for ever."""
    database = make_database(parse_url("postgresql://127.0.0.1:1/none"), timeout=5, connections=1)
    assert isinstance(database, ServerDatabase)
    over = asyncio.create_task(asyncio.sleep(0))
    await over
    database._probe = over

    with pytest.raises(OSError, match=r"refused|Connect"):
        await database._find_server()
    await database.close()
