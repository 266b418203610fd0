"""Collect the faults of a file, and find the requestIds that stand in it twice.

However many lines and faults there are, the memory that this takes stays the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Final

from attrs import define, field, frozen

from wxpay_async.errors import InvalidRequestError

_GROUP: Final = 1000  # rows for each call of SQLite
_SETUP: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = FILE",
    "PRAGMA cache_size = -2000",  # KiB
    "CREATE TABLE ids (id TEXT NOT NULL, line INTEGER NOT NULL)",
    "BEGIN",
)
# Sorting once at the end reads and writes in long runs; an index would be visited at random places.
_DUPLICATES: Final = """
    SELECT line, first
    FROM (SELECT line, min(line) OVER (PARTITION BY id) AS first FROM ids)
    WHERE line > first
    ORDER BY line
"""


@frozen
class Fault:
    """What is wrong with a line.

    Attributes:
        line: its number, from 1.
        reason: the field, what is wrong with it and what is allowed. No payToken and no openid is
            in it.
    """

    line: int
    reason: str


@frozen
class Checked:
    """What a check of a file found.

    Attributes:
        lines: how many lines of the file stand for a request, those with faults included.
        faults: what is wrong, in the order of the file; the first ones, where there are many.
        more: how many faults there are beside these.
    """

    lines: int
    faults: tuple[Fault, ...]
    more: int


@define
class FaultList:
    """The first faults that were found, and how many there are.

    Attributes:
        most: how many faults are kept.
        kept: the faults that are kept.
        total: how many faults were added.
    """

    most: int
    kept: list[Fault] = field(factory=list[Fault])
    total: int = 0

    def add(self, line: int, reason: str) -> None:
        """Add a fault of a line that comes after those of the earlier faults."""
        self.total += 1
        if len(self.kept) < self.most:
            self.kept.append(Fault(line, reason))

    def merge(self, other: FaultList) -> FaultList:
        """Return the faults of both, by their lines."""
        faults = sorted((*self.kept, *other.kept), key=lambda fault: fault.line)
        return FaultList(self.most, faults[: self.most], self.total + other.total)


class RequestIds:
    """The requestIds of a file, in a temporary table; `open_request_ids` makes it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows: list[tuple[str, int]] = []

    def add(self, request_id: str, line: int) -> None:
        """Add the requestId of a line."""
        self._rows.append((request_id, line))
        if len(self._rows) == _GROUP:
            self._write()

    def find_duplicates(self) -> Iterator[tuple[int, int]]:
        """Find the lines whose requestId an earlier line has.

        Yields:
            The line, and the first one with the same requestId.
        """
        self._write()
        yield from self._connection.execute(_DUPLICATES)

    def _write(self) -> None:
        self._connection.executemany("INSERT INTO ids VALUES (?, ?)", self._rows)
        self._rows.clear()


@contextmanager
def open_request_ids() -> Generator[RequestIds]:
    """Open a table on the disk, which is deleted at the end of the block or of the process.

    Raises:
        InvalidRequestError: SQLite has no room for it, or fails otherwise.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as connection:
            for statement in _SETUP:
                connection.execute(statement)
            yield RequestIds(connection)
    except sqlite3.Error as error:
        raise InvalidRequestError(
            f"the requestIds could not be compared in a temporary table ({error})",
            allowed="room for 50 bytes a line; SQLITE_TMPDIR names another folder",
        ) from None
