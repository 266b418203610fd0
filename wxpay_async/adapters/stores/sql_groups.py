"""Commit the updates of many tasks at once (group commit).

SQLite writes through to the disk on every commit, and only one connection writes at a time. So the
updates that arrive during one commit go into the next one together. A task learns the result of
its update only after the commit that holds it has returned.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from attrs import define, field
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.stores.failures import SetupError
from wxpay_async.adapters.stores.sql_tables import Applied, Update

Work = Callable[[Connection], list[Applied]]
Apply = Callable[[Connection, Sequence[Update]], list[Applied]]
Waiter = tuple[Update, asyncio.Future[Applied]]

# Besides its own errors SQLAlchemy lets through what a driver raises while it connects (OSError)
# or writes a value that the database has no place for (ValueError, OverflowError).
FAILURES: Final = (SQLAlchemyError, SetupError, OSError, ValueError, OverflowError)

_SHARED_FAILURES: Final = (OperationalError, OSError)
"""The disk is full, the file is locked: each update of the group would fail alone, too."""

_MAX_GROUP: Final = 256
"""Updates in one commit; bounds how long other processes wait for the lock."""


@define(eq=False)
class GroupCommit:
    """Applies updates in groups; one that fails does not fail its neighbours.

    Args:
        transact: does work in a transaction.
        apply_updates: the work of a group.
        tasks: runs the commits, so that they belong to no caller.
    """

    transact: Callable[[Work], Awaitable[list[Applied]]]
    apply_updates: Apply
    tasks: ShieldedTasks
    _waiting: deque[Waiter] = field(factory=deque[Waiter], init=False)
    _committing: bool = field(default=False, init=False)

    async def apply(self, update: Update) -> Applied:
        """Apply the update with the next commit.

        If its caller is cancelled before the commit begins, the update is dropped. Later it may
        still be committed.
        """
        result: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._waiting.append((update, result))
        if not self._committing:
            self._committing = True
            self.tasks.start(self._commit_all())
        return await result

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._take_group())
        finally:
            self._committing = False
            _cancel_waiters(self._waiting)  # there are some only if the loop is shutting down
            self._waiting.clear()

    def _take_group(self) -> list[Waiter]:
        size = min(len(self._waiting), _MAX_GROUP)
        group = [self._waiting.popleft() for _ in range(size)]
        return [waiter for waiter in group if not waiter[1].done()]

    async def _commit(self, group: Sequence[Waiter]) -> None:
        if not group:
            return
        updates = [update for update, _ in group]
        try:
            results = await self.transact(
                lambda connection: self.apply_updates(connection, updates)
            )
        except FAILURES as error:
            await self._fail_group(group, error)
        else:
            _resolve_waiters(group, results)
        finally:
            _cancel_waiters(group)

    async def _fail_group(self, group: Sequence[Waiter], error: Exception) -> None:
        if len(group) > 1 and not isinstance(error, _SHARED_FAILURES):
            for waiter in group:
                await self._commit([waiter])
            return
        for _, result in group:
            if not result.done():
                result.set_exception(error)


def _resolve_waiters(group: Sequence[Waiter], results: Sequence[Applied]) -> None:
    for (_, result), applied in zip(group, results, strict=True):
        if not result.done():
            result.set_result(applied)


def _cancel_waiters(group: Iterable[Waiter]) -> None:
    """Let no caller wait for ever; a result that is set stays."""
    for _, result in group:
        result.cancel()
