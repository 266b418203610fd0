"""The servers that a run takes, a private place on each, and what the servers use.

They are those on loopback, or at the addresses that the tests take from `WXPAY_TEST_POSTGRES_URL`
and `WXPAY_TEST_REDIS_URL`. An absent one is an `OSError`, an absent driver an `ImportError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Generator
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

from attrs import frozen

from benchmarks import usage

_DONE: Final = (
    "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
    " pg_database_size(current_database())"
)


@frozen(kw_only=True)
class Use:
    """What a server has used and done since it started.

    Attributes:
        cpu: seconds of a core, of all its processes.
        work: transactions that wrote, or scripts that ran.
        size: bytes that it has: on the disk for the database, or in memory.
    """

    cpu: float
    work: int
    size: int

    def __sub__(self, before: Use) -> Use:
        return Use(
            cpu=self.cpu - before.cpu, work=self.work - before.work, size=self.size - before.size
        )


@frozen(kw_only=True)
class Postgres:
    """A private database.

    Attributes:
        url: its address.
        pid: the server's first process.
    """

    url: str
    pid: int

    def use(self) -> Use:
        """Ask what the whole server has used."""
        work, size = asyncio.run(ask(self.url, _DONE))
        return Use(cpu=usage.cpu_of_family(self.pid), work=work, size=size)


@contextlib.contextmanager
def postgres() -> Generator[Postgres]:
    """Make a database, which is dropped in the end; its server must run on this machine."""
    url = answering("WXPAY_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
    pid = asyncio.run(_find_server(url))
    name = f"wxpay_benchmark_{uuid.uuid4().hex}"
    asyncio.run(ask(url, f"CREATE DATABASE {name}"))
    try:
        yield Postgres(url=urlunsplit(urlsplit(url)._replace(path=f"/{name}")), pid=pid)
    finally:
        asyncio.run(ask(url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _find_server(url: str) -> int:
    """Return the server's first process: the parent of the one that serves a connection."""
    import asyncpg  # noqa: PLC0415 - an extra

    connection = await asyncpg.connect(url)
    try:
        return usage.parent_of(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


async def ask(url: str, statement: str) -> Any:  # noqa: ANN401 - whatever it selects
    """Execute a statement; return the first row that it selects."""
    import asyncpg  # noqa: PLC0415 - an extra

    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(statement)
    finally:
        await connection.close()


@frozen(kw_only=True)
class Redis:
    """Keys that no other run uses.

    Attributes:
        url: the server's address.
        prefix: how each appKey whose keys are deleted begins.
    """

    url: str
    prefix: str

    def client(self) -> Any:  # noqa: ANN401 - of an extra
        """Return a client that blocks."""
        import redis  # noqa: PLC0415 - an extra

        return redis.Redis.from_url(self.url)

    def use(self) -> Use:
        """Ask what the whole server has used."""
        with self.client() as client:
            cpu = cast("dict[str, float]", client.info("cpu"))
            memory = cast("dict[str, int]", client.info("memory"))
            commands = cast("dict[str, dict[str, int]]", client.info("commandstats"))
        scripts = (commands.get(f"cmdstat_{name}", {}) for name in ("eval", "evalsha"))
        return Use(
            cpu=cpu["used_cpu_user"] + cpu["used_cpu_sys"],
            work=sum(script.get("calls", 0) for script in scripts),
            size=memory["used_memory"],
        )


@contextlib.contextmanager
def redis(prefix: str) -> Generator[Redis]:
    """Delete in the end what was written about appKeys that begin so."""
    url = answering("WXPAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
    place = Redis(url=url, prefix=prefix)
    with place.client() as client:  # connects only when it is used
        try:
            yield place
        finally:
            for key in client.scan_iter(match=f"*{{{prefix}*", count=1000):
                client.unlink(key)


def answering(variable: str, default: str) -> str:
    """Return the address if a server answers there; raise an OSError otherwise."""
    url = os.environ.get(variable) or default
    parts = urlsplit(url)
    address = parts.hostname or "127.0.0.1", parts.port or urlsplit(default).port
    socket.create_connection(address, timeout=2.0).close()
    return url
