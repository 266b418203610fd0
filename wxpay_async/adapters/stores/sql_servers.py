"""Run transactions on a database server, over connections that are known to be of use.

The rules:

- a connection that was idle for a while is asked for a sign of life before it is used, and one that
  was idle for long is replaced: firewalls forget them without a word;
- when one connection turns out to be of no use, those that were idle meanwhile are dropped, too;
- a transaction over a kept connection is given little time, then it is repeated over another one.
  Every transaction of the store may be repeated, even one that was committed. Over a fresh
  connection it has all the time that is left: then it is the server that is slow, and the next
  transactions are given more;
- while no server is known to be there, one call tries to open a connection and the others wait for
  it, so that all of them wait once. It begins again every second: a server that comes up is found.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

from attrs import define, field
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.stores.sql_failures import is_of_no_use
from wxpay_async.adapters.stores.sql_links import Link, open_link

T = TypeVar("T")

_FRESH: Final = 0.1
"""Seconds for which a connection is taken as it is; then the system is asked if it is open."""

_TRUSTED: Final = 5.0
"""Seconds for which an idle connection is used without a sign of life from the server."""

_KEPT: Final = 240.0
"""Seconds after which an idle connection is replaced; Azure forgets it after 240, AWS after 350."""

_SIGN_OF_LIFE: Final = 1.0
_REUSED: Final = 1.5
"""Seconds that a transaction over a kept connection has at least."""

_TIMES: Final = 4
"""How many times as long as a slow one a transaction over a kept connection may take."""

_FADES: Final = 0.95
"""How much is left of a slow transaction's time after the next one."""

_LEAST: Final = 1.0
"""Seconds that a transaction has at least, however long it took to connect."""

_NEXT_TRY: Final = 1.0
"""Seconds until another connection is tried beside one that is not answered."""

_GAVE_UP: Final = 1.0
"""Seconds for which a server that did not answer is not tried again."""


@define(eq=False)
class ServerDatabase:
    """A database on a server; belongs to one event loop.

    Args:
        engine: keeps no connections itself.
        timeout: seconds for one transaction, connecting and repeating included.
        connections: that are kept; how many are used at once is up to the caller.
    """

    engine: AsyncEngine
    timeout: float
    connections: int
    _idle: list[Link] = field(factory=list[Link], init=False)
    _slowest: float = field(default=0.0, init=False)
    _reachable: bool = field(default=False, init=False)
    _probe: asyncio.Task[None] | None = field(default=None, init=False)
    _gave_up_at: float = field(default=float("-inf"), init=False)
    _closing: ShieldedTasks = field(factory=ShieldedTasks, init=False)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do the work and commit it; roll it back on any error.

        Raises:
            TimeoutError: no answer in time; it may have been committed.
        """
        end = time.monotonic() + self.timeout
        while True:
            link = self._take_recent() or await self._acquire(end)
            began = time.monotonic()
            try:
                result = await link.run(work, limit=self._limit(link, end - began))
            except Exception as error:
                if not await self._is_lost(link, error):
                    raise
                self._suspect(link)
                if not link.reused or time.monotonic() >= end:
                    raise
                continue
            except BaseException:  # cancelled: the driver is in the middle of something
                self._drop(link)
                raise
            self._slowest = max(time.monotonic() - began, self._slowest * _FADES)
            self._release(link)
            return result

    def _limit(self, link: Link, left: float) -> float:
        """Return how many seconds a transaction may take."""
        most = max(_REUSED, _TIMES * self._slowest) if link.reused else left
        return max(min(most, left), _LEAST)

    async def close(self) -> None:
        """Close the connections; takes about a second at most."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        idle, self._idle = self._idle, []
        for link in idle:
            self._drop(link, broken=False)
        await self._closing.finished()
        await self.engine.dispose()

    async def _is_lost(self, link: Link, error: Exception) -> bool:
        """Tell whether the connection is of no use any more; else keep it for others."""
        if isinstance(error, OSError) or (isinstance(error, DBAPIError) and is_of_no_use(error)):
            return True
        if await link.roll_back():
            self._release(link)
            return False
        return True

    # Idle connections

    def _take_recent(self) -> Link | None:
        """Return a connection that was used just now, else None."""
        if self._idle and time.monotonic() - self._idle[-1].used_at < _FRESH:
            return self._idle.pop()
        return None

    async def _take_checked(self) -> Link | None:
        """Return a kept connection that is of use, None if there is none."""
        while self._idle:
            link = self._idle.pop()
            idle_for = time.monotonic() - link.used_at
            link.reused = link.reused or idle_for > _FRESH
            if idle_for > _KEPT:
                self._drop(link, broken=False)
            elif not link.is_quiet() or (idle_for > _TRUSTED and not await self._check(link)):
                self._suspect(link)
            else:
                return link
        return None

    async def _check(self, link: Link) -> bool:
        try:
            return await link.check(_SIGN_OF_LIFE)
        except asyncio.CancelledError:
            self._drop(link)
            raise

    def _release(self, link: Link) -> None:
        link.used_at, link.reused = time.monotonic(), True
        if len(self._idle) < self.connections:
            self._idle.append(link)
        else:
            self._drop(link, broken=False)

    def _suspect(self, link: Link) -> None:
        """Drop a connection, and those that were idle while it turned out to be of no use."""
        self._drop(link)
        idle, self._idle = self._idle, []
        for each in idle:
            self._drop(each)
        self._reachable = False

    def _drop(self, link: Link, *, broken: bool = True) -> None:
        # In the background: nothing has to wait for it.
        self._closing.start(link.close(broken=broken))

    # New connections

    async def _acquire(self, end: float) -> Link:
        async with asyncio.timeout(max(end - time.monotonic(), 0)):
            while True:
                link = await self._take_checked()
                if link is not None:
                    return link
                if self._reachable:
                    return await self._open()
                await self._find_server()

    async def _open(self) -> Link:
        try:
            return await open_link(self.engine)
        except (DBAPIError, OSError):
            self._reachable = False
            raise

    async def _find_server(self) -> None:
        """Wait until one connection is open; all callers wait for the same attempt."""
        if time.monotonic() - self._gave_up_at < _GAVE_UP:
            raise TimeoutError("the server has not answered a moment ago")
        # One that is done says nothing of now: to await it again would not even let the loop go on.
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._open_first())
            self._probe.add_done_callback(self._end_probe)
        await asyncio.shield(self._probe)

    def _end_probe(self, probe: asyncio.Task[None]) -> None:
        if self._probe is probe:
            self._probe = None
        if not probe.cancelled():
            probe.exception()  # perhaps no caller is left to hear of it

    async def _open_first(self) -> None:
        began = time.monotonic()
        tries: set[asyncio.Task[Link]] = set()
        try:
            async with asyncio.timeout(self.timeout):
                link = await self._try_often(tries)
        except (DBAPIError, OSError):
            if (
                time.monotonic() - began > _GAVE_UP
            ):  # else a server that refuses, which costs nothing
                self._gave_up_at = time.monotonic()
            raise
        finally:
            for each in tries:
                self._closing.start(_give_up(each))
        self._idle.append(link)
        self._reachable = True

    async def _try_often(self, tries: set[asyncio.Task[Link]]) -> Link:
        while True:
            tries.add(asyncio.create_task(open_link(self.engine)))
            done, _ = await asyncio.wait(
                tries, timeout=_NEXT_TRY, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                first = done.pop()
                tries.remove(first)
                return first.result()


@define(eq=False)
class LentDatabase:
    """A database that is reached over the engine of a merchant, who closes it.

    Which connections its pool keeps, and how it checks them, is up to the merchant.

    Args:
        engine: gives a connection for each transaction.
        timeout: seconds for a connection, and for a transaction.
        isolation: of each transaction.
    """

    engine: AsyncEngine
    timeout: float
    isolation: str

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do the work and commit it; roll it back on any error.

        Raises:
            TimeoutError: no answer in time; it may have been committed.
        """
        async with asyncio.timeout(self.timeout):
            connection = await self._connect()
        try:
            async with asyncio.timeout(self.timeout):
                result = await connection.run_sync(work)
                await connection.commit()
        except TimeoutError:  # a server that does not answer would not roll back either
            await connection.invalidate()
            raise
        except DBAPIError as error:
            if is_of_no_use(error):
                await connection.invalidate()
            raise
        finally:
            await connection.close()
        return result

    async def _connect(self) -> AsyncConnection:
        """Take a connection, and set its isolation until it goes back."""
        while True:
            connection = await self.engine.connect()
            try:
                return await connection.execution_options(isolation_level=self.isolation)
            except self.engine.dialect.loaded_dbapi.Error:  # a MySQL is asked, and was dead
                await connection.invalidate()
                await connection.close()

    async def close(self) -> None:
        """Leave the engine open."""


async def _give_up(attempt: asyncio.Task[Link]) -> None:
    attempt.cancel()
    await asyncio.wait([attempt])
    if not attempt.cancelled() and attempt.exception() is None:
        await attempt.result().close(broken=True)
