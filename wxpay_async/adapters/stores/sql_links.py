"""One connection to a database server, and the socket beneath it.

A driver that waits for a dead peer waits for minutes, and asks it to say goodbye. So a connection
is ended at its socket: whatever the driver awaits then fails at once, and nothing is cancelled in
the middle of a driver's own work.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

from attrs import define, field
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

_KEEP_ALIVE: Final = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 15_000,  # milliseconds until what is sent must be acknowledged
}
"""Options of a socket, where the system has them: a dead peer is noticed after some 45 s."""

_FAREWELL: Final = 1.0
"""Seconds in which a connection that is no longer needed may say goodbye."""


@define(eq=False)
class Link:
    """A connection to a server, which belongs to one event loop.

    Args:
        connection: SQLAlchemy's.
        driver: the driver's own connection.
    """

    connection: AsyncConnection
    driver: Any = field(repr=False)
    used_at: float = field(factory=time.monotonic, init=False)
    reused: bool = field(default=False, init=False)
    was_cut: bool = field(default=False, init=False)

    async def run(self, work: Callable[[Connection], T], *, limit: float) -> T:
        """Do the work in a transaction and commit it.

        Args:
            work: what to do.
            limit: seconds until the connection is cut.

        Raises:
            TimeoutError: the limit has passed; it may have been committed.
        """

        def transact(connection: Connection) -> T:
            result = work(connection)
            connection.commit()
            return result

        with self._limit(limit):
            return await self.connection.run_sync(transact)

    async def roll_back(self) -> bool:
        """End a transaction that failed; tell whether the connection is still of use."""
        try:
            with self._limit(_FAREWELL):
                await self.connection.rollback()
        except (SQLAlchemyError, OSError):
            return False
        return self.is_quiet()

    async def check(self, limit: float) -> bool:
        """Ask the server for a sign of life; tell whether one came in time."""
        try:
            await self.run(_ask, limit=limit)
        except (SQLAlchemyError, OSError):
            return False
        return True

    def is_quiet(self) -> bool:
        """Tell whether the connection is open as far as this host knows, with nothing to read.

        An idle server says nothing, unless it says that it ends the connection.
        """
        with self._borrow_socket() as line:
            if line is None:
                return False
            try:
                line.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return True
            except OSError:
                return False
        return False

    def keep_alive(self) -> None:
        """Let the system notice when the peer is gone, and keep firewalls from forgetting."""
        with self._borrow_socket() as line, contextlib.suppress(OSError):  # no TCP: a socket file
            if line is not None:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in _KEEP_ALIVE.items():
                    if hasattr(socket, name):
                        line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def cut(self) -> None:
        """End the connection in both directions; what waits for it fails."""
        self.was_cut = True
        with self._borrow_socket() as line, contextlib.suppress(OSError):  # it is closed already
            if line is not None:
                line.shutdown(socket.SHUT_RDWR)

    async def close(self, *, broken: bool = False) -> None:
        """Close the connection, politely unless it is broken; takes about a second at most."""
        if broken:
            self.cut()
        with contextlib.suppress(SQLAlchemyError, OSError), self._limit(_FAREWELL):
            if broken:
                await self.connection.invalidate()
            await self.connection.close()

    @contextlib.contextmanager
    def _limit(self, seconds: float) -> Generator[None]:
        timer = asyncio.get_running_loop().call_later(seconds, self.cut)
        try:
            yield
        except Exception as error:  # whatever a driver makes of a line that is cut
            if self.was_cut:
                raise TimeoutError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _borrow_socket(self) -> Generator[socket.socket | None]:
        """Yield another handle of the driver's socket, None if it is closed."""
        number = _find_socket(self.driver)
        if number < 0:
            yield None
            return
        try:
            line = socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            yield None
            return
        with line:
            line.settimeout(0)
            yield line


async def open_link(engine: AsyncEngine) -> Link:
    """Open a connection of an engine that keeps none itself."""
    connection = await engine.connect()
    raw = await connection.get_raw_connection()
    link = Link(connection, raw.driver_connection)
    link.keep_alive()
    return link


def _ask(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


def _find_socket(driver: Any) -> int:  # noqa: ANN401 - a driver's connection
    """Return the number of the driver's socket, -1 if it has none (any more)."""
    if hasattr(driver, "fileno"):  # psycopg
        return -1 if driver.closed else int(driver.fileno())
    transport = getattr(driver, "_transport", None)
    line = None if transport is None else transport.get_extra_info("socket")
    return -1 if line is None else int(line.fileno())
