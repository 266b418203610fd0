"""Check a connection at its socket: whether it is open, kept alive, and ended at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from attrs import define
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.contract.stores import open_place
from tests.faults.line import Line
from wxpay_async.adapters.stores.sql_links import Link, open_link


@define(eq=False)
class _Driver:
    """A driver's connection, as far as its socket."""

    line: socket.socket

    @property
    def closed(self) -> bool:
        return self.line.fileno() < 0

    def fileno(self) -> int:
        return self.line.fileno()


@define(eq=False)
class _Opened:
    link: Link
    peer: socket.socket
    line: socket.socket


@pytest.fixture
def opened() -> Generator[_Opened]:
    """Open a connection to a peer, without SQLAlchemy."""
    line, peer = socket.socketpair()
    with line, peer:
        line.settimeout(0)
        yield _Opened(Link(None, _Driver(line)), peer, line)  # type: ignore[arg-type] - not used


def test_open_connection_is_quiet(opened: _Opened) -> None:
    """Nothing is to be read, and to look takes nothing away."""
    assert opened.link.is_quiet()
    assert opened.link.is_quiet()


def test_connection_that_the_peer_has_closed_is_not_quiet(opened: _Opened) -> None:
    """Its end can be read."""
    opened.peer.close()

    assert not opened.link.is_quiet()


def test_connection_on_which_the_peer_speaks_unasked_is_not_quiet(opened: _Opened) -> None:
    """A server does that when it ends a connection."""
    opened.peer.sendall(b"E")

    assert not opened.link.is_quiet()
    assert b"E" == opened.line.recv(1)


def test_closed_connection_is_not_quiet(opened: _Opened) -> None:
    """Nor does anything fail that is done to it."""
    opened.line.close()
    opened.link.cut()
    opened.link.keep_alive()

    assert not opened.link.is_quiet()


def test_cut_ends_both_directions(opened: _Opened) -> None:
    """Who waits at either end learns of it."""
    opened.link.cut()

    assert b"" == opened.peer.recv(1)
    assert not opened.link.is_quiet()


# With the drivers


@pytest.fixture(params=("postgres", "psycopg", "mariadb"))
async def linked(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[tuple[Link, Line]]:
    """Open a connection of each driver, over a line."""
    async with open_place(request.param, tmp_path) as place:
        url = make_url(place.url)
        async with Line(url.port or 0) as line:
            there = place.make_url(line.port)
            engine = create_async_engine(there, poolclass=NullPool)
            yield await open_link(engine), line


async def test_driver_leads_to_its_socket(linked: tuple[Link, Line]) -> None:
    """Keep-alive is on, with times that are shorter than those of firewalls."""
    link, _ = linked
    with link._borrow_socket() as line:
        assert line is not None
        kept_alive = line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    assert (1, 30) == (kept_alive, idle)
    assert link.is_quiet()
    await link.close()


async def test_transaction_over_a_dead_line_is_cut(linked: tuple[Link, Line]) -> None:
    """The driver's wait ends with the limit, whatever the driver would do itself."""
    link, line = linked
    line.swallow()
    with pytest.raises(TimeoutError):
        await link.run(_select_one, limit=0.2)

    assert link.was_cut
    assert not link.is_quiet()
    async with asyncio.timeout(10):
        await link.close(broken=True)


async def test_closing_over_a_dead_line_ends(linked: tuple[Link, Line]) -> None:
    """The goodbye is cut, too."""
    link, line = linked
    line.swallow()
    async with asyncio.timeout(10):
        await link.close()


async def test_check_over_a_dead_line_says_no(linked: tuple[Link, Line]) -> None:
    """And over one that lives, yes."""
    link, line = linked

    assert await link.check(10.0)
    line.swallow()
    assert not await link.check(0.2)
    await link.close(broken=True)


async def test_connection_is_of_use_after_a_failure_that_was_rolled_back(
    linked: tuple[Link, Line],
) -> None:
    """An error of the work is no error of the connection."""
    link, _ = linked
    with contextlib.suppress(DBAPIError):
        await link.run(lambda connection: connection.execute(text("SELECT nonsense")), limit=10.0)

    assert await link.roll_back()
    assert 1 == await link.run(_select_one, limit=10.0)
    await link.close()


def _select_one(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())
