"""The parts of the SQL of `SqlStore` for many rows: names, placeholders, portions, results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from attrs import frozen
from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Dialect,
    Double,
    Integer,
    LargeBinary,
    Table,
)

from wxpay_async.adapters.stores.rows import Value
from wxpay_async.adapters.stores.store import Key

Row = tuple[Value, ...]
T = TypeVar("T")

KEY: Final = ("app_key", "request_id")

_ISOLATION: Final = "READ COMMITTED"

_MAX_ROWS: Final = 500
_MAX_BYTES: Final = 1_000_000
"""Of texts and bytes in one statement; servers refuse packets of 4 MB, 16 MB or more."""


@frozen(kw_only=True)
class Sql:
    """The parts of statements.

    Attributes:
        table: its name, quoted.
        columns: their names, quoted; the key comes first.
        epoch: the place of the epoch among them.
        types: of PostgreSQL, by column.
        index: the name, quoted, of the one that leads to what is due.
        mark: makes the placeholder of the parameter with that number, from 1.
    """

    table: str
    columns: tuple[str, ...]
    epoch: int
    types: tuple[str, ...]
    index: str
    mark: Callable[[int], str]

    @classmethod
    def of(cls, dialect: Dialect, table: Table, columns: Sequence[str]) -> Sql:
        """Return the parts for a table, as the dialect writes them."""
        quote = dialect.identifier_preparer
        marks: dict[str, Callable[[int], str]] = {
            "qmark": lambda _: "?",
            "numeric_dollar": lambda number: f"${number}",
        }
        return cls(
            table=quote.format_table(table),
            columns=tuple(quote.quote(name) for name in columns),
            epoch=columns.index("epoch"),
            types=tuple(_find_type(table, name) for name in columns),
            index=quote.quote(str(next(iter(table.indexes)).name)),
            mark=marks.get(dialect.paramstyle, lambda _: "%s"),
        )

    @property
    def all(self) -> str:
        """The names of all columns."""
        return ", ".join(self.columns)

    def marks(self, count: int, first: int = 1) -> str:
        """Return so many placeholders, from the one with that number on."""
        return ", ".join(self.mark(first + n) for n in range(count))

    def assignments(self, form: str) -> str:
        """Return `column = ...` for all columns but those of the key."""
        return ", ".join(f"{name} = {form.format(name)}" for name in self.columns[len(KEY) :])

    def guard(self, row: Row) -> Row:
        """Return the values to write, then the key and the epoch that must be stored."""
        return (*row[len(KEY) :], *row[: len(KEY)], row[self.epoch])

    def match_due(self, states: int) -> str:
        """Return the condition of an appKey, so many states and a time, in this order."""
        return (
            f"app_key = {self.mark(1)} AND state IN ({self.marks(states, 2)})"
            f" AND tend_at <= {self.mark(states + 2)}"
        )


def _find_type(table: Table, column: str) -> str:
    # A text, not VARCHAR(64): a cast to that would cut what is too long, silently.
    kinds = (
        (BigInteger, "bigint"),
        (Integer, "integer"),
        (Boolean, "boolean"),
        (Double, "double precision"),
        (LargeBinary, "bytea"),
    )
    of = table.c[column].type
    return next((name for kind, name in kinds if isinstance(of, kind)), "text")


@contextmanager
def committing(connection: Connection) -> Generator[None]:
    """Let each statement commit itself; nothing was executed over the connection yet."""
    level = connection.get_execution_options().get("isolation_level") or _ISOLATION
    connection.execution_options(isolation_level="AUTOCOMMIT")
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        if not connection.invalidated:
            connection.execution_options(isolation_level=level)


def fetch(connection: Connection, query: str, parameters: tuple[Any, ...]) -> list[Row]:
    """Return the rows of a query."""
    return [tuple(row) for row in connection.exec_driver_sql(query, parameters)]


def execute(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> int:
    """Execute a statement; return how many rows it met."""
    return connection.exec_driver_sql(statement, parameters).rowcount


def read_keys(rows: Iterable[Row]) -> set[Key]:
    """Return the keys, which are the first columns."""
    return {(str(app_key), str(request_id)) for app_key, request_id, *_ in rows}


def pad(names: Sequence[str]) -> list[str]:
    """Repeat the last up to a power of two: SQLite then compiles a few statements only."""
    size = 1 << (len(names) - 1).bit_length()
    return [*names, *[names[-1]] * (size - len(names))]


def split(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut keys into portions of one statement each."""
    return (items[start : start + _MAX_ROWS] for start in range(0, len(items), _MAX_ROWS))


def turn(rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    """Return the columns of rows."""
    return tuple(map(list, zip(*rows, strict=True)))


def cut(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Cut rows into portions of one statement each."""
    portion: list[Row] = []
    size = 0
    for row in rows:
        length = sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if portion and (len(portion) == _MAX_ROWS or size + length > _MAX_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += length
    if portion:
        yield portion
