"""Check how the SQL store connects: addresses, libraries, a fresh SQLite file."""

from __future__ import annotations

import contextlib
import re
import sqlite3

import attrs
import pytest

from wxpay_async.adapters.stores import sql_engines
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.errors import InvalidRequestError
from wxpay_async.extras import how_to_install


@pytest.mark.parametrize(
    ("address", "driver"),
    [
        ("sqlite:///a.db", "sqlite+pysqlite"),
        ("sqlite+aiosqlite:///a.db", "sqlite+pysqlite"),
        ("postgresql://h/d", "postgresql+asyncpg"),
        ("postgres://h/d", "postgresql+asyncpg"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg"),
        ("postgres+psycopg://h/d", "postgresql+psycopg"),
        ("mysql://h/d", "mysql+asyncmy"),
        ("mariadb://h/d", "mysql+asyncmy"),
        ("mysql+asyncmy://h/d", "mysql+asyncmy"),
    ],
)
def test_driver_is_added(address: str, driver: str) -> None:
    """An address without a driver gets ours; SQLite is Python's own."""
    assert driver == SqlStore(address).url.drivername


@pytest.mark.parametrize(
    "address",
    ["", "store.db", "oracle://u:s3cr3t@h/d", "mysql+aiomysql://u:s3cr3t@h/d", "a://h:s3cr3t"],
)
def test_other_addresses_are_refused(address: str) -> None:
    """The error says what is allowed and does not repeat what may be a password."""
    with pytest.raises(InvalidRequestError, match="allowed: sqlite:///file") as raised:
        SqlStore(address)

    assert "s3cr3t" not in str(raised.value)


def test_store_shows_where_it_is_and_no_secret() -> None:
    """Its repr has the host and the database; no user, password or parameter."""
    shown = repr(SqlStore("postgresql://me:s3cr3t@host:5433/shop?application_name=s3cr3t"))

    assert "postgresql+asyncpg://host:5433/shop" in shown
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    ("address", "extra"),
    [
        ("postgresql://h/d", "postgres"),
        ("postgresql+psycopg://h/d", "psycopg"),
        ("mysql://h/d", "mysql"),
    ],
)
def test_missing_driver_is_named(address: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes when the store is made and says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=re.escape(how_to_install(extra))):
        SqlStore(address)


# SQLite


@pytest.mark.parametrize(("busy", "opened"), [(0, True), (3, True), (50, True), (51, False)])
def test_fresh_file_that_another_process_prepares_is_tried_again(
    busy: int, *, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does not wait by itself while two processes switch one file to WAL."""
    monkeypatch.setattr(sql_engines, "_WAL_PAUSE", 0.0)
    connection = _Busy(busy, sqlite3.SQLITE_BUSY)
    with contextlib.nullcontext() if opened else pytest.raises(sqlite3.OperationalError):
        sql_engines._switch_to_wal(connection)

    assert busy + opened == connection.asked


def test_file_that_cannot_be_written_is_not_tried_again() -> None:
    """Any other error of the switch is raised at once."""
    connection = _Busy(1, sqlite3.SQLITE_READONLY)
    with pytest.raises(sqlite3.OperationalError):
        sql_engines._switch_to_wal(connection)

    assert 1 == connection.asked


@attrs.define(eq=False)
class _Busy:
    """A connection that fails a few times."""

    failures: int
    code: int
    asked: int = 0

    def execute(self, _: str) -> None:
        self.asked += 1
        if self.asked <= self.failures:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error
