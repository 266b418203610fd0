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
from wxpay_async.extras import how_to_install

try:
    from sqlalchemy import Connection, Engine, create_engine, event
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
    from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        f"SqlStore needs SQLAlchemy; install it with: {how_to_install('sql')}"
    ) from error

# isort: split
from wxpay_async.adapters.stores.sql_failures import is_transient
from wxpay_async.adapters.stores.sql_parameters import spell_hosts, translate
from wxpay_async.adapters.stores.sql_servers import LentDatabase, ServerDatabase

T = TypeVar("T")

_DRIVERS: Final = {
    "sqlite": ("pysqlite", "aiosqlite"),
    "postgresql": ("asyncpg", "psycopg"),
    "mysql": ("asyncmy",),  # aiomysql 0.3.2 cannot write bytes with PyMySQL 1.2
}
_ALIASES: Final = {"postgres": "postgresql", "mariadb": "mysql"}
_EXTRAS: Final = {"asyncpg": "postgres", "psycopg": "psycopg", "asyncmy": "mysql"}
_ALLOWED: Final = "sqlite:///file, postgresql+asyncpg://, postgresql+psycopg:// or mysql+asyncmy://"

_ISOLATION: Final = "READ COMMITTED"
"""Of each transaction, whatever the server's default is: the store locks what it changes, and in
MySQL a key that is absent then locks no gap."""

_WAL_TRIES: Final = 50
_WAL_PAUSE: Final = 0.01


__all__ = [
    "Database",
    "is_in_memory",
    "is_transient",
    "make_database",
    "parse_engine",
    "parse_url",
    "redact_url",
]


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
        url = make_url(spell_hosts(address))
    except (ArgumentError, ValueError):
        raise _make_url_error() from None
    backend, _, driver = url.drivername.partition("+")
    backend = _ALIASES.get(backend, backend)
    drivers = _DRIVERS.get(backend, ())
    if not drivers or (driver and driver not in drivers):
        raise _make_url_error()
    driver = driver if driver and backend != "sqlite" else drivers[0]
    url = url.set(drivername=f"{backend}+{driver}")
    if backend != "sqlite":
        _require_driver(backend, driver)
        translate(url, timeout=1.0)  # the parameters are checked now, not with the first payment
    return url


def parse_engine(engine: AsyncEngine) -> URL:
    """Return the address of an engine that a merchant hands in.

    Raises:
        InvalidRequestError: it is none that the store can use.
    """
    dialect = engine.dialect
    if dialect.name == "sqlite" or dialect.driver not in _DRIVERS.get(dialect.name, ()):
        raise InvalidRequestError(
            "no engine of a store",
            field="engine",
            allowed="an AsyncEngine of asyncpg, psycopg or asyncmy; for SQLite give its address",
        )
    return engine.url


def _require_driver(backend: str, driver: str) -> None:
    if importlib.util.find_spec(driver) is None:
        raise ImportError(
            f"{backend} needs {driver}; install it with: {how_to_install(_EXTRAS[driver])}"
        )


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


def make_database(
    url: URL, *, timeout: float, connections: int, engine: AsyncEngine | None = None
) -> Database:
    """Return the database at the address; nothing is opened yet.

    Args:
        url: as `parse_url` or `parse_engine` returns it.
        timeout: seconds for one transaction, connecting included.
        connections: to a server at once.
        engine: whose connections are used; it is not disposed of.
    """
    if engine is not None:
        return LentDatabase(engine, timeout, _ISOLATION)
    if url.get_backend_name() == "sqlite":
        return _SqliteDatabase(_make_sqlite_engine(url, timeout), timeout)
    bare, arguments = translate(url, timeout)
    made = create_async_engine(
        bare,
        poolclass=NullPool,  # `ServerDatabase` keeps them, and ends their transactions
        pool_reset_on_return=None,
        isolation_level=_ISOLATION,
        hide_parameters=True,  # what is stored must not get into the texts of errors
        connect_args=arguments,
    )
    return ServerDatabase(made, timeout, connections)


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
