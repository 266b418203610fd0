"""Commit the updates of many tasks at once (group commit).

SQLite writes through to the disk on every commit, and only one connection writes at a time; to a
server each commit costs several round trips. So the updates that arrive during one commit go into
the next one together. A task learns the result of its update only after the commit that holds it
has returned.

The rules:

- while few wait, they wait for the commit that runs; where many wait, or one takes long, groups are
  committed beside each other, up to `parallel`;
- an operation is in one group at a time, so that no group of this process waits for another one;
- a row that another process has locked is waited for apart from the group;
- a group that fails is cut in two until it is known whose failure it is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from attrs import define, field
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.stores.failures import SetupError
from wxpay_async.adapters.stores.sql_failures import is_of_no_use
from wxpay_async.adapters.stores.sql_tables import Applied, Transactions, Update
from wxpay_async.adapters.stores.store import Key

Work = Callable[[Connection], list[Applied | None]]

# Besides its own errors SQLAlchemy lets through what a driver raises while it connects (OSError)
# or writes a value that the database has no place for (ValueError, OverflowError).
FAILURES: Final = (SQLAlchemyError, SetupError, OSError, ValueError, OverflowError)

_MAX_GROUP: Final = 256
"""Updates in one commit; bounds how long other processes wait for the lock."""

_ENOUGH: Final = 16
"""Updates that are worth a commit of their own while another one runs (measured)."""

_LONG: Final = 0.05
"""Seconds after which what waits does not wait for the commit that runs any more."""


@define(eq=False)
class _Waiter:
    update: Update
    result: asyncio.Future[Applied]


@define(eq=False)
class GroupCommit:
    """Applies updates in groups; one that fails does not fail its neighbours.

    Args:
        transact: does work in a transaction, again if others have made it fail.
        work: what is done in it.
        tasks: runs the commits, so that they belong to no caller.
        parallel: how many groups are committed at once.
        apart: how many updates wait at once for what other processes have locked.
    """

    transact: Callable[[Work], Awaitable[list[Applied | None]]]
    work: Transactions
    tasks: ShieldedTasks
    parallel: int = 1
    apart: int = 1
    _waiting: deque[_Waiter] = field(factory=deque[_Waiter], init=False)
    _busy: set[Key] = field(factory=set[Key], init=False)
    _running: int = field(default=0, init=False)
    _apart: asyncio.Semaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._apart = asyncio.Semaphore(self.apart)

    async def apply(self, update: Update) -> Applied:
        """Apply the update with the next commit.

        If its caller is cancelled before the commit begins, the update is dropped. Later it may
        still be committed.
        """
        waiter = _Waiter(update, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        if not self._running or len(self._waiting) >= _ENOUGH:
            self._start()
        return await waiter.result

    def _start(self) -> None:
        """Begin one more task that commits groups, unless there are enough."""
        if self._waiting and self._running < self.parallel:
            self._running += 1
            self.tasks.start(self._commit_all())

    async def _commit_all(self) -> None:
        try:
            while group := self._take_group():
                overtake = asyncio.get_running_loop().call_later(_LONG, self._start)
                try:
                    await self._commit(group)
                finally:
                    overtake.cancel()
        except asyncio.CancelledError:  # the loop is shutting down
            self._release(self._waiting)
            self._waiting.clear()
            raise
        finally:
            self._running -= 1

    def _take_group(self) -> list[_Waiter]:
        """Take those that waited longest, but for operations that another group has."""
        group: list[_Waiter] = []
        passed: list[_Waiter] = []
        while self._waiting and len(group) < _MAX_GROUP:
            waiter = self._waiting.popleft()
            if waiter.update.key in self._busy:
                passed.append(waiter)
            elif not waiter.result.done():
                group.append(waiter)
        self._waiting.extendleft(reversed(passed))
        self._busy.update(waiter.update.key for waiter in group)
        return group

    async def _commit(self, group: Sequence[_Waiter]) -> None:
        locked: list[_Waiter] = []
        try:
            locked = await self._settle(group, wait=False)
        finally:
            self._release(waiter for waiter in group if waiter not in locked)
        for key in {waiter.update.key for waiter in locked}:
            mine = [waiter for waiter in locked if waiter.update.key == key]
            self.tasks.start(self._commit_apart(mine))

    async def _commit_apart(self, mine: Sequence[_Waiter]) -> None:
        """Wait until no other process has the row, or find that there is none."""
        try:
            async with self._apart:
                await self._settle(mine, wait=True)
        finally:
            self._release(mine)
            if not self._running:
                self._start()

    async def _settle(self, group: Sequence[_Waiter], *, wait: bool) -> list[_Waiter]:
        """Commit a group, cut in two as often as it fails; return those that found a lock."""
        group = [waiter for waiter in group if not waiter.result.done()]
        if not group:
            return []
        updates = [waiter.update for waiter in group]
        try:
            results = await self.transact(_Attempt(self.work, updates, wait))
        except FAILURES as error:
            if len(group) == 1 or _is_of_all(error):
                _fail(group, error)
                return []
            middle = len(group) // 2
            return [
                waiter
                for half in (group[:middle], group[middle:])
                for waiter in await self._settle(half, wait=wait)
            ]
        return _resolve(group, results)

    def _release(self, waiters: Iterable[_Waiter]) -> None:
        """Let no caller wait for ever, and the next one have the operation."""
        for waiter in waiters:
            waiter.result.cancel()  # a result that is set stays
            self._busy.discard(waiter.update.key)


@define(eq=False)
class _Attempt:
    """Applies updates: at first without a look at what is most likely new, then with one."""

    work: Transactions
    updates: Sequence[Update]
    wait: bool
    _looks: bool = field(default=False, init=False)

    def __call__(self, connection: Connection) -> list[Applied | None]:
        blindly = not self._looks and not self.wait
        self._looks = True
        return self.work.apply_updates(connection, self.updates, blindly=blindly, wait=self.wait)


def _is_of_all(error: Exception) -> bool:
    """Tell whether each update of the group would fail alone, too.

    The disk is full, the file is locked, the server is gone.
    """
    if isinstance(error, DBAPIError):
        return is_of_no_use(error) or isinstance(error.orig, sqlite3.OperationalError)
    return isinstance(error, (OSError, SetupError))


def _fail(group: Sequence[_Waiter], error: Exception) -> None:
    for waiter in group:
        if not waiter.result.done():
            waiter.result.set_exception(error)


def _resolve(group: Sequence[_Waiter], results: Sequence[Applied | None]) -> list[_Waiter]:
    """Hand out the results; return those that have none yet."""
    left: list[_Waiter] = []
    for waiter, applied in zip(group, results, strict=True):
        if applied is None:
            left.append(waiter)
        elif not waiter.result.done():
            waiter.result.set_result(applied)
    return left
