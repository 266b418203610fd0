"""A store in SQLite, PostgreSQL, or MariaDB and MySQL, over SQLAlchemy.

Every method is one short transaction of its own, which runs to its end even when the caller is
cancelled meanwhile. What is rolled back because of others (a deadlock, an insertion at the same
time, a pooled connection that had died) is tried again a few times; every step may be repeated.

SQLite writes through to the disk on every commit, and a process has one connection that writes. So
the changes that many tasks want while one commit is under way are put into the next one together:
nobody is told of a change before its commit, and a commit is paid for once.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from attrs import define, field

from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.idempotency.per_loop import Errands, PerLoop
from wxpay_async.idempotency.store import DAY, LEASE, Entry, Receipt

try:
    from sqlalchemy import Connection, event
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
    from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        "SqlStore needs SQLAlchemy; install it with: pip install 'wxpay-async[sql]'"
    ) from error

from wxpay_async.idempotency import sql_tables
from wxpay_async.idempotency.sql_tables import Change, NewerSchemaError, Settled

T = TypeVar("T")

_DRIVERS: Final = {
    "sqlite": ("aiosqlite",),
    "postgresql": ("asyncpg",),
    "mysql": ("asyncmy", "aiomysql"),
}
_EXTRAS: Final = {"sqlite": "sql", "postgresql": "postgres", "mysql": "mysql"}
_SAME: Final = {"postgres": "postgresql", "mariadb": "mysql"}

# Besides its own errors SQLAlchemy lets through what a driver raises while it connects (OSError)
# or writes a value that the database has no place for (ValueError, OverflowError).
_FAILURES: Final = (SQLAlchemyError, NewerSchemaError, OSError, ValueError, OverflowError)

_TRIES: Final = 6
_PASSING: Final = frozenset({"40001", "40P01", "42P07", 1050, 1061, 1205, 1213})
"""Serialization, deadlock, lock wait; a table or an index that somebody has just created."""

_GROUP: Final = 256
"""Changes in one commit of SQLite; bounds how long one holds the lock."""

_MYSQL_SESSION: Final = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
"""Without it MySQL may cut a value that is too long, and keep the rest."""


def _checked_url(address: str) -> URL:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise _no_store_address() from None
    backend, _, driver = url.drivername.partition("+")
    backend = _SAME.get(backend, backend)
    known = _DRIVERS.get(backend, ())
    if not known or (driver and driver not in known):
        raise _no_store_address()
    return url.set(drivername=f"{backend}+{driver or known[0]}")


def _no_store_address() -> InvalidRequestError:
    # The address is not repeated: it may hold a password.
    drivers = [f"{backend}+{name}" for backend, names in _DRIVERS.items() for name in names]
    return InvalidRequestError(
        "no address of a store", field="url", allowed=f"{', '.join(drivers)}, then ://..."
    )


def _shown(url: URL) -> str:
    bare = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
    return repr(str(bare))


def _engine(url: URL, *, timeout: float, connections: int) -> AsyncEngine:
    options: dict[str, Any] = {"hide_parameters": True, "poolclass": AsyncAdaptedQueuePool}
    match url.get_backend_name():
        case "sqlite":
            connections = 1
            options["connect_args"] = {"timeout": timeout / 2, "isolation_level": None}
        case "postgresql":
            options["connect_args"] = {"timeout": timeout}
        case _:
            options["isolation_level"] = "READ COMMITTED"  # a key that is absent locks no gap
            options["connect_args"] = {
                "connect_timeout": timeout,
                "charset": "utf8mb4",
                "init_command": _MYSQL_SESSION,
            }
    engine = create_async_engine(url, pool_size=connections, max_overflow=0, **options)
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _write_through)
        event.listen(engine.sync_engine, "begin", _take_the_lock)
    return engine


def _write_through(connection: Any, _: ConnectionPoolEntry) -> None:  # noqa: ANN401 - a driver's
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _take_the_lock(connection: Connection) -> None:
    # At once: a transaction that reads first cannot become a writer once another one has written.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _passing(error: DBAPIError) -> bool:
    """Tell whether the same transaction may well succeed when it is repeated."""
    if isinstance(error, IntegrityError) or error.connection_invalidated:
        return True
    cause = error.orig
    codes = (getattr(cause, "sqlstate", None), *(cause.args[:1] if cause else ()))
    return any(code in _PASSING for code in codes)


@define(eq=False)
class _Session:
    """What belongs to one event loop: connections, and the changes that wait for a commit."""

    engine: AsyncEngine
    timeout: float
    durable: bool
    _errands: Errands = field(factory=Errands, init=False)
    _opening: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _opened: bool = field(default=False, init=False)
    _waiting: list[tuple[Change, asyncio.Future[Settled]]] = field(factory=list, init=False)
    _committing: bool = field(default=False, init=False)

    async def open(self) -> None:
        """Create the tables, once."""
        if self._opened:
            return
        async with self._opening:
            if not self._opened:
                kept = await self.transact(sql_tables.prepare)
                self.durable, self._opened = self.durable and kept, True

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do the work in a transaction of its own."""
        return await self._errands.run(self._persistently(work))

    async def _persistently(self, work: Callable[[Connection], T]) -> T:
        for _ in range(_TRIES - 1):
            try:
                return await self._once(work)
            except DBAPIError as error:
                if not _passing(error):
                    raise
        return await self._once(work)

    async def _once(self, work: Callable[[Connection], T]) -> T:
        async with self.engine.connect() as connection:
            try:
                async with asyncio.timeout(self.timeout):
                    result = await connection.run_sync(work)
                    await connection.commit()
            except TimeoutError:  # what the server does not answer, it would not roll back either
                await connection.invalidate()
                raise
            return result

    async def settle(self, change: Change) -> Settled:
        """Apply the change; with SQLite together with those of other tasks."""
        if self.engine.dialect.name != "sqlite":
            [settled] = await self.transact(partial(sql_tables.settle, changes=[change]))
            return settled
        settling = asyncio.get_running_loop().create_future()
        self._waiting.append((change, settling))
        if not self._committing:
            self._committing = True
            await self._errands.start(self._commit_all())
        return await settling

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        await self._errands.finished()
        await self.engine.dispose()
