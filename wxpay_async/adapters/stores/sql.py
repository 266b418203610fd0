"""A store in SQLite, PostgreSQL, or MariaDB and MySQL, over SQLAlchemy.

Every method is one short transaction of its own, which runs to its end even when the caller is
cancelled meanwhile. What is rolled back because of others (a deadlock, an insertion at the same
time, a pooled connection that had died) is tried again a few times; every step may be repeated.

With SQLite a process has one connection, and the commits of concurrent tasks are grouped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Final, TypeVar

from attrs import define, field

from wxpay_async.adapters.event_loop import LoopLocal, ShieldedTasks
from wxpay_async.adapters.stores import sql_engines  # first: it says what to install
from wxpay_async.adapters.stores.inbox import Receipt
from wxpay_async.adapters.stores.store import DAY, NewerSchemaError
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.record import LEASE, IdempotencyRecord

# isort: split
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from wxpay_async.adapters.stores import sql_tables
from wxpay_async.adapters.stores.sql_groups import FAILURES, GroupCommit
from wxpay_async.adapters.stores.sql_tables import Change, Key, Settled

T = TypeVar("T")

_TRIES: Final = 6
_PATIENCE: Final = 30.0
"""Seconds of waiting for a free connection, beside the time that a transaction itself may take."""


@define(eq=False)
class _Session:
    """What belongs to one event loop: connections, and the changes that wait for a commit."""

    database: sql_engines.Database
    grouped: bool
    turns: asyncio.Semaphore
    errands: ShieldedTasks = field(factory=ShieldedTasks, init=False)
    _opening: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _durable: bool | None = field(default=None, init=False)
    _commits: GroupCommit = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._commits = GroupCommit(self.transact, self.errands)

    async def open(self) -> bool:
        """Create the tables, once; tell whether the server keeps its commits."""
        if self._durable is None:
            async with self._opening:
                if self._durable is None:
                    self._durable = await self.transact(sql_tables.prepare)
        return self._durable

    async def settle(self, change: Change) -> Settled:
        """Apply the change; with SQLite together with those of other tasks."""
        if self.grouped:
            return await self._commits.settle(change)
        [settled] = await self.transact(partial(sql_tables.settle, changes=[change]))
        return settled

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do the work in a transaction of its own."""
        async with asyncio.timeout(_PATIENCE):
            await self.turns.acquire()
        try:
            return await self.errands.run(self._persistently(work))
        finally:
            self.turns.release()

    async def _persistently(self, work: Callable[[Connection], T]) -> T:
        for _ in range(_TRIES - 1):
            try:
                return await self.database.transact(work)
            except DBAPIError as error:
                if not sql_engines.is_passing(error):
                    raise
        return await self.database.transact(work)

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        await self.errands.finished()
        await self.database.close()


@define(eq=False)
class SqlStore:
    """Keeps operations in a database that several processes may share.

    Making one does no I/O: the tables (`wxpay_operations`, `wxpay_inbox`, `wxpay_schema`) are
    created with the first call. It works in one event loop after another.

    Args:
        url: `sqlite:///file.db`, `postgresql://user:password@host/database` or `mysql://...`; the
            driver (asyncpg, asyncmy) may be named as well. Its password is never shown.
        retention: seconds for which a finished operation is remembered; 30 days by default.
        timeout: seconds for one transaction.
        connections: to the server at once; SQLite always uses one.

    Raises:
        InvalidRequestError: the address is none of these.
        ImportError: the driver is not installed; it names the extra.
    """

    url: URL = field(converter=sql_engines.checked_url, repr=sql_engines.shown_url)
    retention: float = field(default=30 * DAY, kw_only=True)
    timeout: float = field(default=10.0, kw_only=True)
    connections: int = field(default=10, kw_only=True)
    _durable: bool = field(default=True, init=False, repr=False)
    _sessions: LoopLocal[_Session] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._sessions = LoopLocal(self._lifetime)

    @property
    def durable(self) -> bool:
        """Whether a commit survives a crash.

        True, unless SQLite keeps its data in memory, or the server said at the first call that it
        does not write its commits through.
        """
        return self._durable and not sql_engines.in_memory(self.url)

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the entry unless its key is taken; return what is there now."""
        with _mapped(NotSentError, "reserve an operation"):
            settled = await self._settle(entry.key, lambda found: None if found else entry)
        return settled.written or settled.found or entry

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Take the operation over for one attempt."""

        def decide(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            if found is None or not found.claimable(now):
                return None
            return found.claimed(now=now, signed_at=signed_at, lease=lease)

        with _mapped(NotSentError, "claim an operation"):
            return (await self._settle(key, decide)).written

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Write the entry if its epoch is still the stored one."""

        def decide(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            return entry if found is not None and found.can_be_replaced_by(entry) else None

        with _mapped(InDoubtError, "record an outcome"):
            return (await self._settle(entry.key, decide)).written is not None

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the entry, None if there is none."""
        with _mapped(NotSentError, "load an operation"):
            fetch = partial(sql_tables.fetch, keys=[key], lock=False)
            return next(iter(await self._transact(fetch)), None)

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tend an appKey's operations; drops at most 1,000 old ones each time."""
        with _mapped(NotSentError, "sweep"):
            return await self._transact(
                lambda connection: sql_tables.sweep(
                    connection, app_key, now, retention=self.retention, limit=limit
                )
            )

    async def receive(self, message: str, *, now: float, lease: float = LEASE) -> Receipt:
        """Take a callback for handling, unless it is handled already or right now."""
        with _mapped(NotSentError, "receive a callback"):
            return await self._transact(
                partial(sql_tables.receive, message=message, now=now, lease=lease)
            )

    async def handled(self, message: str, *, now: float) -> None:
        """Note that the callback's effect has happened."""
        with _mapped(InDoubtError, "note that a callback is handled"):
            await self._transact(partial(sql_tables.handled, message=message, now=now))

    async def unhandled(self, message: str) -> None:
        """Give the callback back."""
        with _mapped(InDoubtError, "give a callback back"):
            await self._transact(partial(sql_tables.unhandled, message=message))

    async def aclose(self) -> None:
        """Close the connections; the next call opens them anew."""
        await self._sessions.aclose()

    async def _session(self) -> _Session:
        session = await self._sessions.get()
        self._durable = await session.open()
        return session

    async def _settle(
        self, key: Key, decide: Callable[[IdempotencyRecord | None], IdempotencyRecord | None]
    ) -> Settled:
        session = await self._session()
        return await session.settle(Change(key=key, decide=decide))

    async def _transact(self, work: Callable[[Connection], T]) -> T:
        session = await self._session()
        return await session.transact(work)

    async def _lifetime(self) -> AsyncGenerator[_Session]:
        grouped = self.url.get_backend_name() == "sqlite"
        connections = 1 if grouped else self.connections
        database = sql_engines.database_at(self.url, timeout=self.timeout, connections=connections)
        session = _Session(database, grouped, asyncio.Semaphore(connections))
        try:
            yield session
        finally:
            await session.close()


@contextlib.contextmanager
def _mapped(meaning: type[NotSentError | InDoubtError], task: str) -> Generator[None]:
    try:
        yield
    except NewerSchemaError as error:
        raise meaning(str(error), retryable=False) from error
    except FAILURES as error:  # its text stays in the cause: it may name hosts and tables
        raise meaning(f"the store cannot {task} ({type(error).__name__})") from error
