"""One commit for the changes of many tasks.

SQLite writes through to the disk on every commit, and only one connection writes at a time. So what
is wanted while one commit is under way goes into the next one together. Nobody is told of a change
before the commit that holds it has returned.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from attrs import define, field
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.stores import sql_tables
from wxpay_async.adapters.stores.sql_tables import Change, Settled
from wxpay_async.adapters.stores.store import NewerSchemaError

Work = Callable[[Connection], list[Settled]]
Waiter = tuple[Change, asyncio.Future[Settled]]

# Besides its own errors SQLAlchemy lets through what a driver raises while it connects (OSError)
# or writes a value that the database has no place for (ValueError, OverflowError).
FAILURES: Final = (SQLAlchemyError, NewerSchemaError, OSError, ValueError, OverflowError)

_EVERYBODYS: Final = (OperationalError, OSError)
"""The disk is full, the file is locked: no change of the group would fare better alone."""

_LARGEST: Final = 256
"""Changes in one commit; bounds how long other processes wait for the lock."""


@define(eq=False)
class GroupCommit:
    """Settles changes in groups; one that fails does not fail its neighbours.

    Args:
        transact: does work in a transaction.
        errands: runs the commits, so that they belong to no caller.
    """

    transact: Callable[[Work], Awaitable[list[Settled]]]
    errands: ShieldedTasks
    _waiting: deque[Waiter] = field(factory=deque[Waiter], init=False)
    _committing: bool = field(default=False, init=False)

    async def settle(self, change: Change) -> Settled:
        """Apply the change with the next commit.

        One whose caller is cancelled before that is dropped, later it may still be committed.
        """
        settling: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, settling))
        if not self._committing:
            self._committing = True
            self.errands.start(self._commit_all())
        return await settling

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next_group())
        finally:
            self._committing = False
            _cancel(self._waiting)  # only a loop that shuts down leaves any
            self._waiting.clear()

    def _next_group(self) -> list[Waiter]:
        size = min(len(self._waiting), _LARGEST)
        group = [self._waiting.popleft() for _ in range(size)]
        return [waiter for waiter in group if not waiter[1].done()]

    async def _commit(self, group: Sequence[Waiter]) -> None:
        if not group:
            return
        work = partial(sql_tables.settle, changes=[change for change, _ in group])
        try:
            results = await self.transact(work)
        except FAILURES as error:
            await self._fail(group, error)
        else:
            _tell(group, results)
        finally:
            _cancel(group)

    async def _fail(self, group: Sequence[Waiter], error: Exception) -> None:
        if len(group) > 1 and not isinstance(error, _EVERYBODYS):
            for waiter in group:
                await self._commit([waiter])
            return
        for _, settling in group:
            if not settling.done():
                settling.set_exception(error)


def _tell(group: Sequence[Waiter], results: Sequence[Settled]) -> None:
    for (_, settling), settled in zip(group, results, strict=True):
        if not settling.done():
            settling.set_result(settled)


def _cancel(group: Sequence[Waiter]) -> None:
    """Let nobody wait for ever; what is done stays done."""
    for _, settling in group:
        settling.cancel()
