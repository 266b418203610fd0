"""Keep operations and callbacks in SQLite, PostgreSQL, MariaDB or MySQL, over SQLAlchemy.

Every method is one short transaction, which runs to its end even when the caller is cancelled
meanwhile. A transaction that is rolled back because of others (a deadlock, an insertion at the same
time, a pooled connection that had died) is tried again a few times; every step may be repeated.

The updates of concurrent tasks share transactions (`sql_groups`). With SQLite a process has one
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from attrs import define, field

from wxpay_async.adapters.event_loop import LoopLocal, ShieldedTasks
from wxpay_async.adapters.stores import sql_engines  # first: it says what to install
from wxpay_async.adapters.stores.failures import map_failures
from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.adapters.stores.store import DAY
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.policy.record import LEASE, IdempotencyRecord

# isort: split
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from wxpay_async.adapters.stores.sql_forgetting import Portions
from wxpay_async.adapters.stores.sql_groups import FAILURES, GroupCommit
from wxpay_async.adapters.stores.sql_migrations import prepare_tables
from wxpay_async.adapters.stores.sql_schema import PREFIX, check_names, make_tables
from wxpay_async.adapters.stores.sql_tables import Applied, Transactions, Update
from wxpay_async.adapters.stores.store import Key

T = TypeVar("T")

_TRIES: Final = 6
_GROUPS: Final = 2
"""Groups that are committed beside each other (measured)."""

_PORTION: Final = 500
"""Keys in one read."""

_CONNECTION_WAIT: Final = 30.0
"""Seconds of waiting for a free connection, beside the time that a transaction itself may take."""

_NO_URL: Final = URL.create("engine")

_map_failures = partial(map_failures, FAILURES)


def _parse_url(address: str | URL | None) -> URL:
    if address is None:
        return _NO_URL
    if isinstance(address, URL):
        address = address.render_as_string(hide_password=False)
    return sql_engines.parse_url(address)


@define(eq=False)
class _Session:
    """What belongs to one event loop: connections, and the updates that wait for a commit."""

    database: sql_engines.Database
    work: Transactions
    connections: int
    create: bool = True
    is_file: bool = False
    in_portions: bool = False
    tasks: ShieldedTasks = field(factory=ShieldedTasks, init=False)
    _opening: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _durable: bool | None = field(default=None, init=False)
    _free: asyncio.Semaphore = field(init=False)
    _measuring: bool = field(default=False, init=False)
    _portions: Portions = field(factory=Portions, init=False)
    _commits: GroupCommit = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.connections)
        self._commits = GroupCommit(
            self._transact_here,
            self.work,
            self.tasks,
            parallel=min(_GROUPS, self.connections),
            apart=max(1, self.connections // 3),
        )

    async def open(self) -> bool:
        """Prepare the tables, once; tell whether the server keeps its commits."""
        if self._durable is None:
            async with self._opening:
                if self._durable is None:
                    durable = await prepare_tables(
                        self.transact, self.work.tables, create=self.create
                    )
                    await self.transact(self.work.prepare)
                    self._durable = durable
        return self._durable

    async def apply(self, update: Update) -> Applied:
        """Apply the update, together with those of other tasks."""
        return await self._commits.apply(update)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do the work in a transaction, which a cancellation of the caller does not end."""
        async with self._turn():
            return await self.tasks.run(self._with_retries(work))

    async def _transact_here(self, work: Callable[[Connection], T]) -> T:
        """Do the work in a transaction, for a task that has no caller."""
        async with self._turn():
            return await self._with_retries(work)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Wait for a connection, and give it back."""
        if self._free.locked():
            async with asyncio.timeout(_CONNECTION_WAIT):
                await self._free.acquire()
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _with_retries(self, work: Callable[[Connection], T]) -> T:
        for _ in range(_TRIES - 1):
            try:
                return await self.database.transact(work)
            except DBAPIError as error:
                if not sql_engines.is_transient(error):
                    raise
        return await self.database.transact(work)

    async def forget(self, drop: Callable[..., int], *, limit: int) -> int:
        """Drop up to `limit` rows; in portions where payments would wait for so many at once."""
        if self.in_portions:
            return await self._portions.forget(self.transact, drop, limit=limit)
        return await self.transact(partial(drop, limit=limit))

    def keep_time(self) -> None:
        """Look at the server's clock again, now and then; what is called does not wait for it."""
        if not self.is_file and self.work.clock.stale and not self._measuring:
            self._measuring = True
            self.tasks.start(self._measure())

    async def _measure(self) -> None:
        with contextlib.suppress(*FAILURES):  # the next call tries it again
            await self.transact(self.work.read_clock)
        self._measuring = False

    async def close(self) -> None:
        """Wait for the transactions that still run, then close the connections."""
        await self.tasks.finished()
        await self.database.close()


@define(eq=False)
class SqlStore:
    """Keeps operations in a database that several processes may share.

    Making one does no I/O: the tables (`wxpay_operations`, `wxpay_callbacks`, `wxpay_schema`) are
    created or upgraded with the first call. Where they lack something, or the role a right, each
    call raises `NotSentError`, which says what to do. It works in one event loop after another.

    Args:
        url: `sqlite:///file.db`, `postgresql://user:password@host/database` or `mysql://...`; the
            driver (asyncpg, psycopg, asyncmy) may be named as well. A `URL` of SQLAlchemy does,
            too. Its password is never shown.
        engine: an `AsyncEngine` of SQLAlchemy in place of an address, of one of these drivers. It
            is not disposed of, and used in the event loop that it belongs to.
        retention: seconds for which a finished operation is remembered; 30 days by default.
        timeout: seconds for one transaction.
        connections: to the server at once; SQLite always uses one. An engine has its own limit.
        create: create the tables and upgrade them. If False, an administrator runs what
            `wxpay-async store schema URL` prints, and the first call says what is missing.
        schema: where the tables are, which with MariaDB and MySQL is a database; by default where
            the connection is. It must exist. SQLite has none.
        table_prefix: how the names of tables and indexes begin.

    Raises:
        InvalidRequestError: the address is none of these, or the engine, or a name cannot be used.
        ImportError: the driver is not installed; it names the extra.
    """

    url: URL = field(default=None, converter=_parse_url, repr=sql_engines.redact_url)
    engine: AsyncEngine | None = field(default=None, kw_only=True, repr=False)
    retention: float = field(default=30 * DAY, kw_only=True)
    timeout: float = field(default=10.0, kw_only=True)
    connections: int = field(default=10, kw_only=True)
    create: bool = field(default=True, kw_only=True)
    schema: str | None = field(default=None, kw_only=True)
    table_prefix: str = field(default=PREFIX, kw_only=True)
    _durable: bool = field(default=True, init=False, repr=False)
    _work: Transactions = field(init=False, repr=False)
    _sessions: LoopLocal[_Session] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if (self.url is _NO_URL) == (self.engine is None):
            raise InvalidRequestError(
                "give either an address or an engine", field="url", allowed="one of url and engine"
            )
        if self.engine is not None:
            self.url = sql_engines.parse_engine(self.engine)
        backend = self.url.get_backend_name()
        check_names(backend, schema=self.schema, prefix=self.table_prefix)
        self._work = Transactions(make_tables(schema=self.schema, prefix=self.table_prefix))
        self._sessions = LoopLocal(self._hold_session)

    @property
    def durable(self) -> bool:
        """Whether a commit survives a crash.

        True, unless SQLite keeps its data in memory, or the server said at the first call that it
        does not write its commits through.
        """
        return self._durable and not sql_engines.is_in_memory(self.url)

    @property
    def ahead(self) -> float | None:
        """Seconds by which the server's clock is ahead of this host's; None before it is known."""
        return 0.0 if self.url.get_backend_name() == "sqlite" else self._work.clock.ahead

    async def open(self) -> None:
        """Connect, check the tables and look at the server's clock, unless that was done."""
        with _map_failures(NotSentError, "open the store"):
            await self._open_session()

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record unless its key exists; return what is stored now."""
        with _map_failures(NotSentError, "reserve an operation"):
            applied = await self._apply(
                record.key, lambda found: None if found else record, is_new=True
            )
        return applied.stored or applied.found or record

    async def claim(
        self,
        key: Key,
        *,
        now: float,
        signed_at: int,
        lease: float = LEASE,
        token: str | None = None,
    ) -> IdempotencyRecord | None:
        """Claim the operation for one attempt."""

        def claim_found(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            if found is None:
                return None
            return found.try_claim(now=now, signed_at=signed_at, lease=lease, token=token)

        with _map_failures(NotSentError, "claim an operation"):
            return (await self._apply(key, claim_found)).stored

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record if its epoch is still the stored one."""

        def replace_found(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            return record if found is not None and found.can_be_replaced_by(record) else None

        with _map_failures(InDoubtError, "record an outcome"):
            applied = await self._apply(record.key, replace_found, outcome=record)
        return applied.stored is not None

    async def load(self, key: Key) -> IdempotencyRecord | None:
        """Return the record, None if there is none."""
        with _map_failures(NotSentError, "load an operation"):
            fetch = partial(self._work.fetch_records, keys=[key])
            return next(iter(await self._transact(fetch)), None)

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Return an appKey's open records that have this number."""
        find = partial(self._work.find_open, app_key=app_key, out_trade_no=out_trade_no)
        with _map_failures(NotSentError, "find the operations of an order"):
            return await self._transact(find)

    async def load_many(self, keys: Sequence[Key]) -> dict[Key, IdempotencyRecord]:
        """Return the records with these keys, read in portions of 500."""
        found: dict[Key, IdempotencyRecord] = {}
        with _map_failures(NotSentError, "load operations"):
            for start in range(0, len(keys), _PORTION):
                fetch = partial(self._work.fetch_records, keys=keys[start : start + _PORTION])
                found |= {record.key: record for record in await self._transact(fetch)}
        return found

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tend an appKey's operations; never drops one."""
        with _map_failures(NotSentError, "find what is due"):
            return await self._transact(
                partial(self._work.due, app_key=app_key, now=now, limit=limit)
            )

    async def forget(self, app_key: str, now: float, *, limit: int = 1000) -> int:
        """Drop an appKey's old operations, and old callbacks of all; return how many."""
        operations = partial(self._work.forget, app_key=app_key, until=now - self.retention)
        with _map_failures(NotSentError, "forget what is old"):
            session = await self._open_session()
            forgotten = await session.forget(operations, limit=limit)
            return forgotten + await session.forget(
                partial(self._work.forget_entries, now=now), limit=limit
            )

    async def list_open(
        self, app_key: str, *, after: str = "", limit: int = 100
    ) -> list[IdempotencyRecord]:
        """List an appKey's operations that are under way, in doubt, or wait for a person."""
        fetch = partial(self._work.fetch_open, app_key=app_key, after=after, limit=limit)
        with _map_failures(NotSentError, "list what is open"):
            return await self._transact(fetch)

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of these keys."""
        with _map_failures(NotSentError, "load what callbacks have told"):
            return await self._transact(partial(self._work.load_entries, keys=keys))

    async def swap(self, key: str, *, version: int | None, value: str, now: float) -> bool:
        """Write a document, if the stored entry is still the one that the caller knows."""
        swap = partial(self._work.swap_entry, key=key, version=version, value=value, now=now)
        with _map_failures(InDoubtError, "note what a callback has told"):
            return await self._transact(swap)

    async def aclose(self) -> None:
        """Close the connections; the next call opens them again."""
        await self._sessions.aclose()

    async def _open_session(self) -> _Session:
        session = await self._sessions.get()
        self._durable = await session.open()
        session.keep_time()
        return session

    async def _apply(
        self,
        key: Key,
        choose: Callable[[IdempotencyRecord | None], IdempotencyRecord | None],
        *,
        is_new: bool = False,
        outcome: IdempotencyRecord | None = None,
    ) -> Applied:
        session = await self._open_session()
        return await session.apply(
            Update(key=key, choose_record=choose, is_new=is_new, outcome=outcome)
        )

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        session = await self._open_session()
        return await session.transact(work)

    async def _hold_session(self) -> AsyncGenerator[_Session]:
        backend = self.url.get_backend_name()
        is_file, in_portions = backend == "sqlite", backend != "postgresql"
        connections = 1 if is_file else self.connections
        database = sql_engines.make_database(
            self.url, timeout=self.timeout, connections=connections, engine=self.engine
        )
        session = _Session(database, self._work, connections, self.create, is_file, in_portions)
        try:
            yield session
        finally:
            await session.close()
