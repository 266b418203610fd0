"""Servers of the tests' own, each with a store on it and what an operator can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from functools import cached_property
from typing import Any, Final

import attrs
import pytest
from attrs import define, field
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.servers import (
    Cluster,
    Sentinel,
    Server,
    open_cluster,
    open_redis,
    open_sentinel,
)
from tests.support.sql_servers import open_mariadb, open_pgbouncer, open_postgres
from wxpay_async.adapters.stores.redis import RedisStore
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.store import Store

ALWAYS_WRITTEN: Final = ("--appendonly", "yes", "--appendfsync", "always")
SHOP: Final = "shop"
"""The login of the store in a SQL database, which has the rights that it needs and no others."""

_DRIVERS: Final = {
    "postgres": "postgresql+asyncpg",
    "pgbouncer": "postgresql+asyncpg",
    "psycopg": "postgresql+psycopg",
    "mariadb": "mysql+asyncmy",
}

_PSYCOPG: Final = pytest.param("psycopg", marks=pytest.mark.slow)  # the server is the same

SQL: Final = ("postgres", _PSYCOPG, "mariadb")
SERVERS: Final = (*SQL, "redis")
REACHED: Final = (*SERVERS, pytest.param("pgbouncer", marks=pytest.mark.slow))
"""Also by way of a PgBouncer, which is then what is stopped and started."""


@define(eq=False, kw_only=True)
class Rig:
    """An empty place for a store, on a server of which nobody else knows.

    Attributes:
        kind: which one, one of `REACHED`.
        server: the process that is stopped and started.
        port: where an operator finds the database.
        database: the name of the place.
    """

    kind: str
    server: Server
    port: int
    database: str = "0"

    @property
    def is_redis(self) -> bool:
        """Tell whether it is a Redis."""
        return self.kind == "redis"

    @property
    def is_postgres(self) -> bool:
        """Tell whether it is a PostgreSQL."""
        return self.kind in {"postgres", "psycopg", "pgbouncer"}

    def make_url(self, *, port: int | None = None, user: str = SHOP) -> str:
        """Return the address of the place."""
        there = f"127.0.0.1:{port or self.server.port}/{self.database}"
        return f"redis://{there}" if self.is_redis else f"{_DRIVERS[self.kind]}://{user}@{there}"

    def make_store(
        self, *, port: int | None = None, user: str = SHOP, timeout: float | None = None
    ) -> Store:
        """Make a store, with the settings that it has by default."""
        url = self.make_url(port=port, user=user)
        given = {} if timeout is None else {"timeout": timeout}
        return RedisStore(url, **given) if self.is_redis else SqlStore(url, **given)

    async def run(self, *commands: str) -> list[Any]:
        """Run commands as an operator, each at once; return what the last one gave."""
        if self.is_redis:
            async with Redis(port=self.port) as client:
                return [await client.execute_command(*each.split()) for each in commands]
        driver = _DRIVERS["postgres" if self.is_postgres else self.kind]
        operator = "postgres" if self.is_postgres else "root"
        url = make_url(f"{driver}://{operator}@127.0.0.1:{self.port}/{self.database}")
        return await _run_sql(url, commands)

    async def stop(self, *, crash: bool = False) -> None:
        """Let the server end."""
        await asyncio.to_thread(self.server.kill if crash else self.server.stop)

    async def start(self) -> None:
        """Let the server come back."""
        await asyncio.to_thread(self.server.start)

    async def end_connections(self) -> None:
        """End every connection of the store, as an operator does."""
        if self.is_redis:
            await self.run("CLIENT KILL TYPE normal SKIPME yes")
        elif self.is_postgres:
            await self.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{self.database}' AND pid <> pg_backend_pid()"
            )
        else:
            await self.run(f"KILL USER {SHOP}")


async def _run_sql(url: Any, commands: tuple[str, ...]) -> list[Any]:  # noqa: ANN401 - an URL
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    found: list[Any] = []
    async with engine.connect() as connection:
        for command in commands:
            result = await connection.execute(text(command))
            found = list(result.all()) if result.returns_rows else []
    await engine.dispose()
    return found


@define(eq=False)
class Rigs:
    """The servers of this process, each started when it is first asked for."""

    _stack: contextlib.ExitStack = field(factory=contextlib.ExitStack)

    def stop(self) -> None:
        """Stop them."""
        self._stack.close()

    async def open(self, kind: str, server: Server | None = None) -> Rig:
        """Return an empty place on the server of that kind.

        Args:
            kind: which one, one of `REACHED`.
            server: the test's own PostgreSQL or MariaDB, in place of the one that tests share.
        """
        if kind == "redis":
            rig = Rig(kind=kind, server=self.redis, port=self.redis.port)
            await rig.run("FLUSHALL")
            return rig
        name = f"shop_{uuid.uuid4().hex}"
        if kind == "mariadb":
            server = server or self.mariadb
            root = Rig(kind=kind, server=server, port=server.port, database="mysql")
            await root.run(
                f"CREATE DATABASE {name}",
                f"CREATE USER IF NOT EXISTS {SHOP}@'%'",
                f"GRANT ALL ON {name}.* TO {SHOP}@'%'",
            )
        else:
            server = server or self.postgres
            root = Rig(kind=kind, server=server, port=server.port, database="postgres")
            [[known]] = await root.run(f"SELECT count(*) FROM pg_roles WHERE rolname = '{SHOP}'")
            await root.run(
                *(() if known else (f"CREATE ROLE {SHOP} LOGIN",)),
                f"CREATE DATABASE {name} OWNER {SHOP}",
            )
            if kind == "pgbouncer":  # which logs in by that role
                root.server = self.pgbouncer
        return attrs.evolve(root, database=name)

    @cached_property
    def postgres(self) -> Server:
        """A PostgreSQL."""
        return self._stack.enter_context(open_postgres())

    @cached_property
    def mariadb(self) -> Server:
        """A MariaDB."""
        return self._stack.enter_context(open_mariadb())

    @cached_property
    def redis(self) -> Server:
        """A Redis that loses nothing when it ends."""
        return self._stack.enter_context(open_redis(*ALWAYS_WRITTEN))

    @cached_property
    def pgbouncer(self) -> Server:
        """A PgBouncer before the PostgreSQL."""
        url = f"postgresql://{SHOP}@127.0.0.1:{self.postgres.port}/postgres"
        return self._stack.enter_context(open_pgbouncer(url))

    @cached_property
    def cluster(self) -> Cluster:
        """A Redis Cluster whose nodes lose nothing when they end."""
        return self._stack.enter_context(open_cluster(*ALWAYS_WRITTEN))

    @cached_property
    def sentinel(self) -> Sentinel:
        """Two Redis servers and their Sentinel."""
        return self._stack.enter_context(open_sentinel())
