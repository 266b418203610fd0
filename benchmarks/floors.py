"""What a durable store is held against: commits of single rows by the bare driver.

Each client has a connection of its own, and inserts one row of about the size of an operation with
each commit. To a file only one connection writes, so that its clients take turns. A payment needs
two commits; a store that is faster than half of the floor has let several share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from benchmarks.rates import Call, Opened

Insert = Callable[[Any, str, bytes], Awaitable[object]]
"""Inserts a row over a connection and commits it."""

_CREATE: Final = "CREATE TABLE IF NOT EXISTS benchmark_floor (id VARCHAR(64) PRIMARY KEY, value {})"
_BYTES: Final = bytes(700)


def committing(url: str, clients: int) -> Opened:
    """Yield the commit of one row, by one of so many clients.

    Args:
        url: of a SQLite file, a PostgreSQL or a MariaDB, where a table may be made.
        clients: how many connections there are.

    Raises:
        KeyError: another kind of store, for which there is no floor.
    """
    return _FLOORS[urlsplit(url).scheme](url, clients)


@contextlib.asynccontextmanager
async def _to_file(url: str, clients: int) -> AsyncGenerator[Call]:
    del clients  # there is one writer at a time
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        run = partial(loop.run_in_executor, thread)
        connection = await run(partial(_open_file, url.removeprefix("sqlite:///")))
        yield lambda: run(_insert_into_file, connection)
        await run(connection.close)


def _open_file(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_CREATE.format("BLOB"))
    return connection


def _insert_into_file(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO benchmark_floor VALUES (?, ?)", (os.urandom(16).hex(), _BYTES))


@contextlib.asynccontextmanager
async def _to_postgres(url: str, clients: int) -> AsyncGenerator[Call]:
    import asyncpg  # noqa: PLC0415 - an extra

    async with contextlib.AsyncExitStack() as stack:
        made = [await asyncpg.connect(url) for _ in range(clients)]
        for connection in made:
            stack.push_async_callback(connection.close)
        await made[0].execute(_CREATE.format("BYTEA"))
        statement = "INSERT INTO benchmark_floor VALUES ($1, $2)"
        yield _take_turns(made, lambda one, name, value: one.execute(statement, name, value))


@contextlib.asynccontextmanager
async def _to_mariadb(url: str, clients: int) -> AsyncGenerator[Call]:
    import asyncmy  # noqa: PLC0415 - an extra

    parts = urlsplit(url)
    made = [
        await asyncmy.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=parts.path.removeprefix("/"),
            autocommit=True,
        )
        for _ in range(clients)
    ]

    async def insert(connection: Any, name: str, value: bytes) -> None:  # noqa: ANN401 - a driver's
        async with connection.cursor() as cursor:
            await cursor.execute("INSERT INTO benchmark_floor VALUES (%s, %s)", (name, value))

    try:
        async with made[0].cursor() as cursor:
            await cursor.execute(_CREATE.format("BLOB"))
        yield _take_turns(made, insert)
    finally:
        for connection in made:
            connection.close()


def _take_turns(connections: list[Any], insert: Insert) -> Call:
    free = asyncio.Queue[Any]()
    for connection in connections:
        free.put_nowait(connection)

    async def commit() -> None:
        connection = await free.get()
        try:
            await insert(connection, os.urandom(16).hex(), _BYTES)
        finally:
            free.put_nowait(connection)

    return commit


_FLOORS: Final[dict[str, Callable[[str, int], Opened]]] = {
    "sqlite": _to_file,
    "postgresql": _to_postgres,
    "mysql": _to_mariadb,
}
