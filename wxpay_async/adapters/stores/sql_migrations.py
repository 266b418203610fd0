"""Make the tables of `SqlStore`, upgrade them, or say what an administrator has to do.

The version is written last. What a crash has left, or another release, is found by its absence and
completed: on MySQL every statement commits by itself. One process at a time changes tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, delete, false, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from wxpay_async.adapters.stores.failures import NewerSchemaError, SchemaError
from wxpay_async.adapters.stores.sql_failures import find_codes
from wxpay_async.adapters.stores.sql_parameters import limit_idle
from wxpay_async.adapters.stores.sql_schema import (
    VERSION,
    Layout,
    Tables,
    list_missing,
    write_command,
    write_sql,
)

T = TypeVar("T")


class Transact(Protocol):
    """Does work in a transaction of its own."""

    def __call__(self, work: Callable[[Connection], T], /) -> Coroutine[Any, Any, T]:
        """Begin, do the work, commit."""
        ...


_DURABLE: Final = {
    "postgresql": "SELECT current_setting('synchronous_commit') <> 'off'"
    " AND current_setting('fsync') = 'on'",
    "mysql": "SELECT @@innodb_flush_log_at_trx_commit = 1",
}
"""Asks a server whether it writes every commit through before it reports it."""

_DENIED: Final = frozenset({"42501", 1044, 1142, 1143})
"""PostgreSQL: insufficient privilege; MySQL: no right to a database, a table, a column."""

_NO_SCHEMA: Final = frozenset({"3F000", 1049})

_STRICT: Final = "SELECT @@sql_mode LIKE '%STRICT%'"
"""Without it MySQL may cut a value that is too long. A merchant's engine may be set up so."""

_LOCK_WAIT: Final = 10
"""Seconds of waiting for another process that changes the tables of MySQL."""


async def prepare_tables(transact: Transact, tables: Tables, *, create: bool = True) -> bool:
    """Make the tables what this release needs; tell whether the server keeps its commits.

    To look and to change are two transactions: a look that goes on to wait for the lock would keep
    the tables from the process that has it.

    Args:
        transact: does work in a transaction of its own.
        tables: which.
        create: make and upgrade them; else only look.

    Raises:
        NewerSchemaError: the tables are of a later version.
        SchemaError: an administrator has to do something first; its text says what.
    """
    durable = await transact(partial(_check_tables, tables=tables, create=create))
    if durable is None:
        await transact(partial(_change_tables, tables=tables))
        durable = await transact(partial(_check_tables, tables=tables, create=False))
    return bool(durable)


def _check_tables(connection: Connection, *, tables: Tables, create: bool) -> bool | None:
    """Tell whether the server keeps its commits; None if the tables have to be changed first."""
    with _explain_denial(tables, _list_rights(tables)):
        found = _read_columns(connection, tables)
        version = _read_version(connection, tables, found)
        missing = list_missing(tables, found)
        if missing or version < VERSION:
            if create:
                return None
            raise SchemaError(_describe(tables, version, missing))
        _try_rights(connection, tables)
    if connection.dialect.name == "mysql" and not connection.scalar(text(_STRICT)):
        raise SchemaError("the engine's connections need STRICT_ALL_TABLES in their sql_mode")
    query = _DURABLE.get(connection.dialect.name)
    return query is None or bool(connection.scalar(text(query)))


def _change_tables(connection: Connection, *, tables: Tables) -> None:
    with _lock(connection, tables):
        found = _read_columns(connection, tables)
        version = _read_version(connection, tables, found)
        with _explain_denial(tables, _describe(tables, version, list_missing(tables, found))):
            layout = _add_indexes(connection, tables, found)
            for sql in write_sql(tables, connection.dialect, version=version, found=layout):
                connection.exec_driver_sql(sql)


def _read_columns(connection: Connection, tables: Tables) -> Layout:
    schema = tables.metadata.schema
    names = [table.name for table in tables.metadata.sorted_tables]
    found = inspect(connection).get_multi_columns(schema, names)
    return {name: {each["name"] for each in columns} for (_, name), columns in found.items()}


def _add_indexes(connection: Connection, tables: Tables, found: Layout) -> Layout:
    indexes = inspect(connection).get_multi_indexes(tables.metadata.schema, list(found))
    by_table = {name: {str(each["name"]) for each in has} for (_, name), has in indexes.items()}
    return {name: {*columns, *by_table.get(name, ())} for name, columns in found.items()}


def _read_version(connection: Connection, tables: Tables, found: Layout) -> int:
    if tables.version.name not in found:
        return 0
    # The highest: an upgrade leaves the row of the version before beside its own.
    version: int = connection.scalar(select(func.max(tables.version.c.version))) or 0
    if version > VERSION:
        raise NewerSchemaError(version, VERSION)
    return version


@contextlib.contextmanager
def _lock(connection: Connection, tables: Tables) -> Generator[None]:
    """Let one process after another change the tables; SQLite has one writer anyway."""
    place = f"{tables.metadata.schema}.{tables.prefix}"
    if connection.dialect.name == "postgresql":  # until the transaction ends, as PgBouncer wants it
        key = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], signed=True)
        connection.execute(text(f"SELECT pg_advisory_xact_lock({key}), {limit_idle()}"))
    if connection.dialect.name != "mysql":
        yield
        return
    # The name belongs to the whole server, and has 64 characters at most.
    name = f"CONCAT('wxpay_', MD5(CONCAT(COALESCE(DATABASE(), ''), '.{place}')))"
    if connection.scalar(text(f"SELECT GET_LOCK({name}, {_LOCK_WAIT})")) != 1:
        raise TimeoutError("another process changes the tables")
    try:
        yield
    except asyncio.CancelledError:  # the connection is thrown away, and the lock with it
        raise
    except BaseException:
        connection.execute(text(f"SELECT RELEASE_LOCK({name})"))
        raise
    connection.execute(text(f"SELECT RELEASE_LOCK({name})"))


def _try_rights(connection: Connection, tables: Tables) -> None:
    """Ask for what payments will need, with statements that concern no row."""
    if connection.dialect.name == "sqlite":
        return
    for table in (tables.operations, tables.callbacks):
        column = next(iter(table.c))
        rows = select(table).where(false())
        connection.execute(insert(table).from_select(table.c.keys(), rows))
        connection.execute(update(table).where(false()).values({column: column}))
        connection.execute(delete(table).where(false()))


@contextlib.contextmanager
def _explain_denial(tables: Tables, advice: str) -> Generator[None]:
    try:
        yield
    except DBAPIError as error:
        codes = set(find_codes(error))
        if codes & _DENIED:
            raise SchemaError(f"the database's role may not do this: {advice}") from error
        if codes & _NO_SCHEMA:
            raise SchemaError(
                f"there is no schema {tables.metadata.schema}: create it, and run what"
                f" `{write_command(tables)}` prints"
            ) from error
        raise


def _list_rights(tables: Tables) -> str:
    written = f"{tables.operations.fullname} and {tables.callbacks.fullname}"
    return (
        f"grant the store's role SELECT, INSERT, UPDATE and DELETE on {written}, SELECT on"
        f" {tables.version.fullname}, and with PostgreSQL USAGE on their schema"
    )


def _describe(tables: Tables, version: int, missing: list[str]) -> str:
    """Say what is missing, and which command prints the SQL."""
    state = f"{'; '.join(missing) or 'the row of the version'}, which it does not find"
    if 0 < version < VERSION:
        state = f"version {VERSION}, the tables are of version {version}"
    command = write_command(tables, version=version)
    return (
        f"the store needs {state}. `{command}` prints the SQL: run it as a role that may create and"
        f" alter tables, then {_list_rights(tables)}"
    )
