"""Connect `SqlStore` to its database: SQLite on a thread, a server over a pool of connections.

SQLite comes with Python. A whole transaction runs on SQLite's own thread: that costs one change of
threads instead of one for each statement, and does not block the event loop.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

from attrs import define, field

from wxpay_async.errors import InvalidRequestError

try:
    from sqlalchemy import Connection, Engine, create_engine, event
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
    from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
    from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        "SqlStore needs SQLAlchemy; install it with: pip install 'wxpay-async[sql]'"
    ) from error

T = TypeVar("T")

_DRIVERS: Final = {
    "sqlite": ("pysqlite", "aiosqlite"),
    "postgresql": ("asyncpg",),
    "mysql": ("asyncmy",),  # aiomysql 0.3.2 cannot write bytes with PyMySQL 1.2
}
_ALIASES: Final = {"postgres": "postgresql", "mariadb": "mysql"}
_ALLOWED: Final = "sqlite:///file, postgresql+asyncpg:// or mysql+asyncmy://"

_TRANSIENT: Final = frozenset({"40001", "40P01", "42P07", 1205, 1213})
"""Serialization, deadlock, lock wait; a table that another process has just created."""

_WAL_TRIES: Final = 50
_WAL_PAUSE: Final = 0.01

_MYSQL_SESSION: Final = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
"""Without it MySQL may cut a value that is too long, and keep the rest."""


class Database(Protocol):
    """Runs transactions; belongs to one event loop."""

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do the work and commit it; roll it back on any error."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def parse_url(address: str) -> URL:
    """Return the address with the driver that is used.

    Raises:
        InvalidRequestError: it is no address of a store.
        ImportError: the driver is not installed; names the extra.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise _make_url_error() from None
    backend, _, driver = url.drivername.partition("+")
    backend = _ALIASES.get(backend, backend)
    drivers = _DRIVERS.get(backend, ())
    if not drivers or (driver and driver not in drivers):
        raise _make_url_error()
    driver = driver if driver and backend != "sqlite" else drivers[0]
    if backend != "sqlite" and importlib.util.find_spec(driver) is None:
        extra = "postgres" if backend == "postgresql" else "mysql"
        raise ImportError(
            f"{backend} needs {driver}; install it with: pip install 'wxpay-async[{extra}]'"
        )
    return url.set(drivername=f"{backend}+{driver}")


def _make_url_error() -> InvalidRequestError:
    # The address is not repeated: it may hold a password.
    return InvalidRequestError("no address of a store", field="url", allowed=_ALLOWED)


def redact_url(url: URL) -> str:
    """Return the address without user, password and parameters."""
    bare = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
    return repr(bare.render_as_string())


def is_in_memory(url: URL) -> bool:
    """Tell whether the data is lost with the process."""
    if url.get_backend_name() != "sqlite":
        return False
    return url.database in {None, "", ":memory:"} or "mode=memory" in url.render_as_string()


def is_transient(error: DBAPIError) -> bool:
    """Tell whether the same transaction is likely to succeed when it is repeated."""
    if isinstance(error, IntegrityError) or error.connection_invalidated:
        return True
    cause = error.orig
    codes = (getattr(cause, "sqlstate", None), *(cause.args[:1] if cause else ()))
    return any(code in _TRANSIENT for code in codes)


def make_database(url: URL, *, timeout: float, connections: int) -> Database:
    """Return the database at the address; nothing is opened yet.

    Args:
        url: as `parse_url` returns it.
        timeout: seconds for connecting, and for one transaction.
        connections: to a server at once.
    """
    if url.get_backend_name() == "sqlite":
        return _SqliteDatabase(_make_sqlite_engine(url, timeout), timeout)
    # Parameters are hidden: what is stored must not get into the texts of errors.
    options: dict[str, Any] = {"hide_parameters": True, "connect_args": {"timeout": timeout}}
    if url.get_backend_name() == "mysql":
        options["isolation_level"] = "READ COMMITTED"  # a key that is absent then locks no gap
        options["connect_args"] = {
            "connect_timeout": timeout,
            "charset": "utf8mb4",
            "init_command": _MYSQL_SESSION,
        }
    return _ServerDatabase(
        create_async_engine(url, pool_size=connections, max_overflow=0, **options), timeout
    )


def _make_sqlite_engine(url: URL, timeout: float) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": timeout / 2, "isolation_level": None},
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _set_pragmas(connection: Any, _: ConnectionPoolEntry) -> None:  # noqa: ANN401 - a driver's
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")


def _switch_to_wal(connection: Any) -> None:  # noqa: ANN401 - a driver's
    # When two processes switch a fresh file at once, one gets "busy" without SQLite's usual wait.
    for _ in range(_WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(_WAL_PAUSE)  # on SQLite's own thread
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_immediate(connection: Connection) -> None:
    # At once: a transaction that reads first cannot become a writer when another one has written.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@define(eq=False)
class _SqliteDatabase:
    engine: Engine
    timeout: float
    _thread: ThreadPoolExecutor = field(
        factory=lambda: ThreadPoolExecutor(1, "wxpay-sqlite"), init=False
    )

    async def transact(self, work: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.timeout):
            return await loop.run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return work(connection)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self.engine.dispose)
        self._thread.shutdown(wait=False)


@define(eq=False)
class _ServerDatabase:
    engine: AsyncEngine
    timeout: float

    async def transact(self, work: Callable[[Connection], T]) -> T:
        async with asyncio.timeout(self.timeout):
            connection = await self.engine.connect()
        try:
            async with asyncio.timeout(self.timeout):
                result = await connection.run_sync(work)
                await connection.commit()
        except TimeoutError:  # a server that does not answer would not roll back either
            await connection.invalidate()
            raise
        finally:
            await connection.close()
        return result

    async def close(self) -> None:
        await self.engine.dispose()
