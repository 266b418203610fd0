"""Measure `pay` with each store, and with the quota on.

MD5, since a dearer signature would hide what a store costs; 64 in flight and one by one over
aiohttp on asyncio, and 64 in flight over reqwest on uvloop, where a store is the largest part.

- `no store`: forgets an operation when it is sent, and everything else is the memory store's; what
  the memory store costs is the difference to it. No quota, as with the stores below.
- `memory`: the default.
- `SQLite`: a file in the current folder, in WAL mode with full sync; beside it, how many blocks of
  4 KB a second that disk takes with `fsync` after each. More payments than that go into a second
  because those in flight share one commit.
- `PostgreSQL`, `MariaDB`, `Redis`: as they answer on loopback, or at the addresses that the tests
  take from `WXPAY_TEST_POSTGRES_URL`, `WXPAY_TEST_MYSQL_URL` and `WXPAY_TEST_REDIS_URL`; a database
  of its own, which is dropped, and keys that are deleted. How far a Redis writes through is its own
  setting.
- `memory, quota on`: the local limiter, whose quota is so large that no call ever waits for it.

Beside them stand the floors: how many commits of single rows the driver alone makes with 1, 8 and
64 clients (`floors`), of which a payment needs two; and payments one by one over the memory store,
each with these two commits (`two commits to ...`): what a store adds to its commits when nothing
else is under way is the difference to that. The rest of a payment is no constant that could be
subtracted: after each wait the same code takes twice the time. And how many reads of 500
operations a second `load_many` makes, one after the other.

What does not answer or is not installed is left out, with a line on stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from attrs import frozen

from benchmarks import places
from benchmarks.figures import Figure, Size
from benchmarks.floors import committing
from benchmarks.payments import APP_KEY, gateway, paying, signed, signers, ways
from benchmarks.rates import Call, Opened, Subject, concurrent, interleaved, repeated
from benchmarks.server import canned_server
from wxpay_async import (
    Limiter,
    LocalLimiter,
    MemoryStore,
    Quota,
    Signer,
    Store,
    Transport,
    Unlimited,
)
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.protocol.idempotency_key import Fingerprint

SECTION: Final = "stores"

_NOBODY_WAITS: Final = Quota(limit=1_000_000_000)
_BLOCK: Final = bytes(4096)
_CLIENTS: Final = (1, 8, 64)
_MANY: Final = 500


class _NoStore(MemoryStore):
    """Knows an operation until it is sent, which a gateway cannot do without."""

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Take every operation for new."""
        self._active[record.key] = record
        return record

    async def claim(
        self,
        key: tuple[str, str],
        *,
        now: float,
        signed_at: int,
        lease: float = LEASE,
        token: str | None = None,
    ) -> IdempotencyRecord | None:
        """Forget the operation."""
        return self._active.pop(key).with_claim(
            now=now, signed_at=signed_at, lease=lease, token=token
        )

    async def record(self, record: IdempotencyRecord) -> bool:  # noqa: ARG002 - the protocol's
        """Do nothing."""
        return True


class _TwoCommits(MemoryStore):
    """Commits a row by the bare driver before a payment is sent, and another one after it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._open = contextlib.AsyncExitStack()
        self._commit: Call | None = None

    async def _write_row(self) -> None:
        if self._commit is None:
            self._commit = await self._open.enter_async_context(committing(self._url, 1))
        await self._commit()

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Commit a row."""
        await self._write_row()
        return await super().reserve(record)

    async def record(self, record: IdempotencyRecord) -> bool:
        """Commit a row."""
        await self._write_row()
        return await super().record(record)

    async def aclose(self) -> None:
        """Close the driver's connection."""
        await self._open.aclose()


@frozen(kw_only=True)
class _Parts:
    """What a gateway is measured with."""

    make_store: Callable[[], Store]
    make_limiter: Callable[[], Limiter] = Unlimited
    url: str = ""

    def paying(self, url: str, signer: Signer, in_flight: int, transport: Transport) -> Opened:
        """Open a gateway with parts of its own."""
        store = self.make_store()
        made = gateway(
            url,
            signer,
            transport=transport,
            store=store,
            limiter=self.make_limiter(),
            in_flight=in_flight,
        )
        if isinstance(store, _NoStore):
            # Else it would pay for being shielded as a strange store is, and the memory store,
            # which is not, would come out faster than none.
            made._dispatcher.in_process = True  # noqa: SLF001 - no setting has it
        return paying(made)


def run(size: Size) -> Iterator[Figure]:
    """Measure every store that answers."""
    signer = signers()["MD5"]
    wanted = (
        ("aiohttp", "asyncio", size.in_flight),
        ("aiohttp", "asyncio", 1),
        ("reqwest", "uvloop", size.in_flight),
    )
    with contextlib.ExitStack() as stack:
        parts = dict(_parts(stack))
        server = stack.enter_context(canned_server())
        subjects = [
            way.subject(f"pay, {name}", partial(part.paying, server.url, signer, way.in_flight))
            for way in ways(wanted)
            for name, part in parts.items()
        ]
        one_by_one = next(ways(wanted[1:2]), None)
        if one_by_one is not None:
            subjects += [
                one_by_one.subject(
                    f"pay, two commits to {name}", partial(part.paying, server.url, signer, 1)
                )
                for name, part in _committing_parts(parts)
            ]
        subjects += _beside(parts)
        subjects.append(repeated("a block of 4 KB with fsync", stack.enter_context(_disk())))
        body = signed(signer, server.url).request.body
        yield from interleaved(SECTION, subjects, size=size, server=server, body=body)


def _committing_parts(parts: Mapping[str, _Parts]) -> Iterator[tuple[str, _Parts]]:
    """Yield what pays over the memory store, and commits by the bare driver of each database."""
    for name, part in parts.items():
        if part.url and not part.url.startswith("redis"):
            yield name, _Parts(make_store=partial(_TwoCommits, part.url))


def _beside(parts: Mapping[str, _Parts]) -> Iterator[Subject]:
    """Yield what durable stores are held against, and how fast they read many."""
    alone = partial(concurrent, make_loop=asyncio.new_event_loop)
    for name, part in parts.items():
        if part.url and not part.url.startswith("redis"):
            for clients in _CLIENTS:
                opening = partial(committing, part.url, clients)
                yield alone(
                    f"commits of one row, {name}, {clients} clients", opening, in_flight=clients
                )
        if part.url:
            opening = partial(_reading, part.make_store)
            yield alone(f"{_MANY} operations in one read, {name}", opening, in_flight=1)


@contextlib.asynccontextmanager
async def _reading(make_store: Callable[[], Store]) -> AsyncGenerator[Call]:
    store = make_store()
    mark = Fingerprint("0" * 64, {"requestId": "0" * 16})
    records = [
        IdempotencyRecord(
            app_key=APP_KEY,
            request_id=f"many-{number}",
            operation="pay",
            fingerprint=mark,
            content=bytes(300),
            created_at=time.time(),
            updated_at=time.time(),
        )
        for number in range(_MANY)
    ]
    await asyncio.gather(*map(store.reserve, records))
    keys = [record.key for record in records]
    yield lambda: store.load_many(keys)
    await store.aclose()


def _parts(stack: contextlib.ExitStack) -> Iterator[tuple[str, _Parts]]:
    yield "no store", _Parts(make_store=_NoStore)
    yield "memory", _Parts(make_store=MemoryStore)
    yield (
        "memory, quota on",
        _Parts(
            make_store=MemoryStore,
            make_limiter=lambda: LocalLimiter(_NOBODY_WAITS, idle=True),
        ),
    )
    for name, url in durable_places(stack):
        yield name, _Parts(make_store=partial(store_from_url, url), url=url)


# Private places


def durable_places(stack: contextlib.ExitStack) -> Iterator[tuple[str, str]]:
    """Open a place for each durable store that answers; yields its name and address."""
    kinds = {"SQLite": _sqlite, "PostgreSQL": _postgres, "MariaDB": _mariadb, "Redis": _redis}
    for name, open_place in kinds.items():
        try:
            url = stack.enter_context(open_place())
            store_from_url(url)
        except (ImportError, OSError) as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
        else:
            yield name, url


@contextlib.contextmanager
def _disk() -> Generator[Callable[[], object]]:
    """Yield what writes one block to the disk of the current folder, through all caches."""
    with _folder() as folder, (folder / "block").open("wb", buffering=0) as file:

        def write() -> None:
            os.pwrite(file.fileno(), _BLOCK, 0)
            os.fsync(file.fileno())

        yield write


@contextlib.contextmanager
def _folder() -> Generator[Path]:
    # Not among the system's temporary files: they may live in memory, where nothing is written.
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=Path.cwd()) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _sqlite() -> Generator[str]:
    with _folder() as folder:
        yield f"sqlite:///{folder}/store.db"


def _postgres() -> AbstractContextManager[str]:
    url = places.answering(
        "WXPAY_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
    )
    return _database(url, ending=" WITH (FORCE)")


def _mariadb() -> AbstractContextManager[str]:
    url = places.answering("WXPAY_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test")
    return _database(url)


@contextlib.contextmanager
def _database(url: str, ending: str = "") -> Generator[str]:
    """Make a private database, and drop it."""
    name = f"wxpay_benchmark_{uuid.uuid4().hex}"
    asyncio.run(execute(url, f"CREATE DATABASE {name}"))
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        asyncio.run(execute(url, f"DROP DATABASE {name}{ending}"))


async def execute(url: str, statement: str) -> None:
    """Execute a statement past the store."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute(statement)
        connection.close()
        return
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - an extra

    from wxpay_async import SqlStore  # noqa: PLC0415 - it needs the extra

    engine = create_async_engine(SqlStore(url).url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.exec_driver_sql(statement)
    await engine.dispose()


@contextlib.contextmanager
def _redis() -> Generator[str]:
    with places.redis(APP_KEY) as place:
        yield place.url
