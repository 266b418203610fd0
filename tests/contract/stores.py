"""Open an empty place for each test and kind of store, where several store objects can meet."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import attrs
from attrs import define, field
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.records import NOW, SIGNED_AT, make_record
from tests.support.servers import Cluster, Sentinel, Server, open_cluster, open_sentinel
from tests.support.services import MYSQL, POSTGRES, REDIS, Service, require
from tests.support.sql_servers import open_pgbouncer
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.redis import RedisStore
from wxpay_async.adapters.stores.redis_layout import VERSION_KEY, make_inbox_key
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State

RETENTION = 1000.0

TABLES = ("wxpay_operations", "wxpay_callbacks")

MEMORY = "memory"
SQLITE = "sqlite"
SERVERS = ("postgres", "mariadb", "redis")
DURABLE = (SQLITE, *SERVERS)
OTHER_WAYS = ("psycopg", "pgbouncer", "sentinel", "cluster")
"""Another driver, and other ways to a PostgreSQL or a Redis."""
ALL = (MEMORY, *DURABLE, *OTHER_WAYS)


@define(eq=False)
class Place:
    """Where the stores of one test, and no others, keep their operations.

    Attributes:
        kind: one of `ALL`.
        url: its address; empty for memory.
        app_key: an appKey of this test alone: in Redis nothing else separates two tests.
    """

    kind: str
    url: str
    make: Callable[[str, float], Store]
    app_key: str = field(factory=lambda: f"应用-{uuid.uuid4().hex}")
    messages: set[str] = field(factory=set[str])
    _made: list[Store] = field(factory=list[Store])

    def make_store(self, *, url: str | None = None, timeout: float = 10.0) -> Store:
        """Make another store object, e.g. at the address of a proxy; it is closed by the place."""
        store = self.make(self.url if url is None else url, timeout)
        self._made.append(store)
        return store

    def make_record(self, request_id: str = "r1", **changes: object) -> IdempotencyRecord:
        """Make a record of this place's appKey."""
        return make_record(request_id, **{"app_key": self.app_key, **changes})

    def make_message(self, name: str) -> str:
        """Make a callback of this place."""
        message = f"{self.app_key}:{name}"
        self.messages.add(message)
        return message

    def make_url(self, port: int) -> str:
        """Return the address with another port of loopback, e.g. a proxy's."""
        parts = urlsplit(self.url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))

    def make_stranger_url(self, port: int) -> str:
        """Return the address with a login that no server knows, and a password not to show."""
        return urlunsplit(urlsplit(self.url)._replace(netloc=f"someone:s3cr3t@127.0.0.1:{port}"))

    async def close(self) -> None:
        """Close every store that was made here."""
        for store in self._made:
            await store.aclose()


@define(eq=False)
class Servers:
    """Servers of this process's own, each started when it is first asked for."""

    _stack: contextlib.ExitStack = field(factory=contextlib.ExitStack)

    @cached_property
    def pgbouncer(self) -> Server:
        """A PgBouncer before the PostgreSQL that all tests share."""
        return self._stack.enter_context(open_pgbouncer(require(POSTGRES)))

    @cached_property
    def sentinel(self) -> Sentinel:
        """Two Redis servers and their Sentinel."""
        return self._stack.enter_context(open_sentinel())

    @cached_property
    def cluster(self) -> Cluster:
        """A Redis Cluster of three nodes."""
        return self._stack.enter_context(open_cluster())

    def stop(self) -> None:
        """Stop them."""
        self._stack.close()


@define(eq=False)
class Databases:
    """Databases that one test after another uses, each made when it is first asked for.

    To make one with its tables takes ten times as long as to empty its tables.
    """

    _urls: dict[Service, str] = field(factory=dict[Service, str])

    async def find_url(self, service: Service) -> str:
        """Return the address of the service's database, whose tables exist."""
        if service not in self._urls:
            self._urls[service] = url = await _create_database(service)
            store = _make_sql_store(url, 10.0)
            await store.load(make_record().key)
            await store.aclose()
        return self._urls[service]

    async def drop(self) -> None:
        """Drop all of them."""
        for url in self._urls.values():
            await _drop_database(url)


@contextlib.asynccontextmanager
async def open_place(
    kind: str, folder: Path, databases: Databases | None = None, servers: Servers | None = None
) -> AsyncIterator[Place]:
    """Open an empty place and clear it away afterwards.

    Args:
        kind: one of `ALL`.
        folder: where a file may be made.
        databases: those to use; else it is a fresh one without tables.
        servers: those to use, for the kinds of `OTHER_WAYS`; else it has servers of its own.
    """
    own = Servers() if servers is None else servers
    openers: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Place]]] = {
        MEMORY: _open_memory,
        SQLITE: lambda: _open_sqlite(folder),
        "postgres": lambda: _open_database(kind, POSTGRES, databases),
        "psycopg": lambda: _open_database(kind, POSTGRES, databases, _name_psycopg),
        "pgbouncer": lambda: _open_database(
            kind, POSTGRES, databases, lambda url: url.set(port=own.pgbouncer.port)
        ),
        "mariadb": lambda: _open_database(kind, MYSQL, databases),
        "redis": _open_redis,
        "sentinel": lambda: _open_private_redis(kind, own.sentinel),
        "cluster": lambda: _open_private_redis(kind, own.cluster),
    }
    try:
        async with openers[kind]() as place:
            try:
                yield place
            finally:
                await place.close()
    finally:
        if servers is None:
            own.stop()


def _name_psycopg(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg")


def _make_sql_store(url: str, timeout: float) -> Store:
    return SqlStore(url, retention=RETENTION, timeout=timeout)


@contextlib.asynccontextmanager
async def _open_memory() -> AsyncGenerator[Place]:
    store = MemoryStore(retention=RETENTION)
    yield Place(MEMORY, "", lambda _url, _timeout: store)


@contextlib.asynccontextmanager
async def _open_sqlite(folder: Path) -> AsyncGenerator[Place]:
    yield Place(SQLITE, f"sqlite:///{folder / 'store.db'}", _make_sql_store)


@contextlib.asynccontextmanager
async def _open_database(
    kind: str,
    service: Service,
    databases: Databases | None,
    detour: Callable[[URL], URL] = lambda url: url,
) -> AsyncGenerator[Place]:
    if databases is None:
        url = await _create_database(service)
    else:
        url = await databases.find_url(service)
    taken = detour(make_url(url)).render_as_string(hide_password=False)
    place = Place(kind, taken, _make_sql_store)
    try:
        yield place
    finally:
        await place.close()
        if databases is None:
            await _drop_database(url)
        else:
            await execute(url, *(f"DELETE FROM {table}" for table in TABLES))


async def _create_database(service: Service) -> str:
    name = f"wxpay_test_{uuid.uuid4().hex}"
    url = SqlStore(require(service)).url  # names the driver
    await execute(url, f"CREATE DATABASE {name}")
    return url.set(database=name).render_as_string(hide_password=False)


async def _drop_database(shown: str) -> None:
    url = make_url(shown)
    postgres = url.get_backend_name() == "postgresql"
    service = POSTGRES if postgres else MYSQL
    force = " WITH (FORCE)" if postgres else ""
    await execute(SqlStore(service.url).url, f"DROP DATABASE {url.database}{force}")


async def execute(url: str | URL, *statements: str) -> None:
    """Execute statements past the store."""
    engine = create_async_engine(make_url(url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


@contextlib.asynccontextmanager
async def _open_redis() -> AsyncGenerator[Place]:
    place = Place(
        "redis",
        require(REDIS),
        lambda url, timeout: RedisStore(url, retention=RETENTION, timeout=timeout),
    )
    async with Redis.from_url(place.url) as client:
        await client.delete(VERSION_KEY)  # tests of a later release may have left theirs
    try:
        yield place
    finally:
        await place.close()
        async with Redis.from_url(place.url) as client:
            names = (place.app_key, place.app_key.upper())
            mine = [k for name in names async for k in client.scan_iter(f"*{{{name}}}*", 1000)]
            await client.delete("none", *mine, *map(make_inbox_key, place.messages))


@contextlib.asynccontextmanager
async def _open_private_redis(kind: str, servers: Sentinel | Cluster) -> AsyncGenerator[Place]:
    await asyncio.to_thread(servers.flush)  # what is left of a test that was broken off
    yield Place(
        kind,
        servers.url,
        lambda url, timeout: RedisStore(url, retention=RETENTION, timeout=timeout),
    )


@define(eq=False)
class Wire:
    """A proxy in front of a server, whose connections can be cut or frozen, and answers lost.

    Attributes:
        target: host and port of the server.
        port: where it listens.
        lost: whether the answer that was to be lost is.
    """

    target: tuple[str, int]
    port: int = 0
    lost: bool = False
    _frozen: bool = False
    _word: re.Pattern[bytes] | None = None
    _doomed: set[asyncio.StreamWriter] = field(factory=set[asyncio.StreamWriter])
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(factory=set[asyncio.StreamWriter])
    _pumps: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]])

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        """Listen, at the same port as before."""
        self._frozen = False
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse new connections and drop the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.drop()

    async def drop(self) -> None:
        """Drop the open connections; new ones are served."""
        for writer in self._open:
            writer.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def freeze(self) -> None:
        """Keep the connections, but pass nothing on from now on."""
        self._frozen = True

    def lose_answer_to(self, word: bytes) -> None:
        """Pass on the next request with this word, and drop its connection before the answer."""
        self._word = re.compile(re.escape(word) + rb"(?![A-Z])")  # READ COMMITTED is no COMMIT

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection(*self.target)
        self._open |= {writer, out}
        for source, sink in ((reader, out), (there, writer)):
            pump = asyncio.create_task(self._pump(source, sink, client=writer))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        client: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if sink is client and client in self._doomed:
                    self.lost = True  # the server has done what was asked
                    break
                if sink is not client and self._word and self._word.search(data):
                    self._word = None
                    self._doomed.add(client)
                if not self._frozen:
                    sink.write(data)
                    await sink.drain()
        sink.close()
        self._open.discard(sink)


async def cancel_after(iterations: int, call: Awaitable[object]) -> None:
    """Begin a call and cancel it after so many iterations of the event loop."""
    task = asyncio.ensure_future(call)
    for _ in range(iterations):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def claim_new(
    store: Store, record: IdempotencyRecord, *, now: float = NOW
) -> IdempotencyRecord:
    """Reserve the record and claim it."""
    await store.reserve(record)
    claimed = await store.claim(record.key, now=now, signed_at=SIGNED_AT)
    assert claimed is not None
    return claimed


async def warm_stores(place: Place) -> list[Store]:
    """Return two stores that are connected already, so that neither starts a race late."""
    stores = [place.make_store(), place.make_store()]
    await asyncio.gather(*(s.load(place.make_record().key) for s in stores * 2))
    await asyncio.gather(*(s.load(place.make_record().key) for s in stores * 2))
    return stores


def set_state(record: IdempotencyRecord, state: State) -> IdempotencyRecord:
    """Return the record as it is in that state."""
    sending = state is State.SENDING
    return attrs.evolve(record, state=state, lease_until=NOW + 45 if sending else 0.0)
