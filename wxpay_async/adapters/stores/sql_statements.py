# ruff: noqa: S608 - names of tables and columns are quoted, and every value is a parameter
"""The SQL of `SqlStore` for many rows at once, as each database does it fastest.

To SQLAlchemy's statements of single rows a payment owed most of its time. These are written once
for each connection's dialect; a row is a tuple in the order of the columns. Each reads, inserts or
updates hundreds of rows in one round trip:

- SQLite executes a statement for each row, which costs no round trip there;
- PostgreSQL takes the columns as arrays, so that its statements have one shape for any number, and
  a plain statement for a single row, which costs it half the time;
- MySQL and MariaDB take a list of rows.

Rows are locked in the order of their keys, so that two transactions never wait for each other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, groupby
from operator import itemgetter
from typing import Final, Protocol

from attrs import define, field, frozen
from sqlalchemy import (
    Connection,
    Dialect,
    Table,
)
from sqlalchemy.exc import DBAPIError

from wxpay_async.adapters.stores.sql_parameters import limit_idle
from wxpay_async.adapters.stores.sql_parts import (
    KEY,
    Row,
    Sql,
    committing,
    cut,
    execute,
    fetch,
    pad,
    read_keys,
    split,
    turn,
)
from wxpay_async.adapters.stores.store import Key
from wxpay_async.policy.states import State

_SENDING: Final = State.SENDING.value


class Lock(enum.Enum):
    """What a read does with the rows that it finds."""

    NONE = "it locks nothing, and is all that the transaction does"
    SKIP = "it locks them, and leaves out those that another transaction has locked"
    WAIT = "it locks them, and waits for those that another transaction has locked"


@frozen(kw_only=True)
class Due:
    """Rows of an appKey that should have been tended by a time.

    Attributes:
        app_key: whose.
        states: in which they are.
        until: the time.
        limit: how many at most.
    """

    app_key: str
    states: Sequence[str]
    until: float
    limit: int

    @property
    def matched(self) -> tuple[str | float, ...]:
        """The parameters of `Sql.match_due`."""
        return (self.app_key, *self.states, self.until)


class Statements(Protocol):
    """Reads and writes operations; keys and rows come sorted, each key once.

    Attributes:
        skips: whether `Lock.SKIP` leaves out what is locked; else it waits for it.
    """

    skips: bool

    def select(self, connection: Connection, keys: Sequence[Key], lock: Lock) -> list[Row]:
        """Return the rows with these keys, in any order."""
        ...

    def insert(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> None:
        """Insert the rows; raise an `IntegrityError` if one of the keys exists.

        Args:
            connection: of the transaction.
            rows: to insert.
            alone: that is all that the transaction does.
        """
        ...

    def update(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write the rows, which exist and are locked."""
        ...

    def end_attempts(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> set[Key]:
        """Write the rows in whose place an attempt is under way, under the same epoch.

        Args:
            connection: of the transaction.
            rows: what the attempts ended with.
            alone: that is most likely all that the transaction does.

        Returns:
            The keys of those that were certainly written; of what is locked, none.
        """
        ...

    def delete(self, connection: Connection, due: Due) -> int:
        """Delete the rows in one statement; return how many."""
        ...


def make_statements(connection: Connection, table: Table, columns: Sequence[str]) -> Statements:
    """Return the statements for what the connection leads to.

    Args:
        connection: by which a server is asked what it knows.
        table: of operations.
        columns: in the order in which rows have them; the key comes first.
    """
    sql = Sql.of(connection.dialect, table, columns)
    if connection.dialect.name == "sqlite":
        return _SqliteStatements(sql)
    if connection.dialect.name == "postgresql":
        return _PostgresStatements(sql)
    return _MysqlStatements(
        sql, skips=_knows_skip_locked(connection, sql), alias=_needs_alias(connection.dialect)
    )


def _knows_skip_locked(connection: Connection, sql: Sql) -> bool:
    # Asked rather than told by the version: there are forks and proxies. MySQL before 8.0.1 and
    # MariaDB before 10.6 do not know it.
    try:
        connection.exec_driver_sql(f"SELECT 1 FROM {sql.table} WHERE 1 = 0 FOR UPDATE SKIP LOCKED")
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return False
    return True


def _needs_alias(dialect: Dialect) -> bool:
    # MySQL 8.0.20 warns of VALUES() in an update, and each warning costs a round trip.
    version = dialect.server_version_info or ()
    return not getattr(dialect, "is_mariadb", False) and version >= (8, 0, 20)


@define(eq=False)
class _SqliteStatements:
    sql: Sql
    skips: bool = field(default=False, init=False)
    _insert: str = field(init=False)
    _update: str = field(init=False)
    _end: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        sql = self.sql
        self._insert = f"INSERT INTO {sql.table} ({sql.all}) VALUES ({sql.marks(len(sql.columns))})"
        self._update = (
            f"UPDATE {sql.table} SET {sql.assignments('?')} WHERE app_key = ? AND request_id = ?"
        )
        self._end = f"{self._update} AND epoch = ? AND state = '{_SENDING}'"

    def select(self, connection: Connection, keys: Sequence[Key], lock: Lock) -> list[Row]:
        del lock  # a transaction has the whole file
        found: list[Row] = []
        # One query for each appKey: given pairs, SQLite 3.40 reads the whole table (measured).
        for app_key, mine in groupby(keys, key=itemgetter(0)):
            names = [request_id for _, request_id in mine]
            for some in split(names):
                portion = pad(some)
                query = (
                    f"SELECT {self.sql.all} FROM {self.sql.table}"
                    f" WHERE app_key = ? AND request_id IN ({self.sql.marks(len(portion))})"
                )
                found += fetch(connection, query, (app_key, *portion))
        return found

    def insert(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> None:
        del alone
        connection.exec_driver_sql(self._insert, list(rows))

    def update(self, connection: Connection, rows: Sequence[Row]) -> None:
        connection.exec_driver_sql(self._update, [(*row[2:], *row[:2]) for row in rows])

    def end_attempts(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> set[Key]:
        del alone
        # Of many rows it is told only how many were written.
        values = [self.sql.guard(row) for row in rows]
        is_all = connection.exec_driver_sql(self._end, values).rowcount == len(rows)
        return read_keys(rows) if is_all else set()

    def delete(self, connection: Connection, due: Due) -> int:
        statement = (
            f"DELETE FROM {self.sql.table} WHERE rowid IN (SELECT rowid FROM {self.sql.table}"
            f" WHERE {self.sql.match_due(len(due.states))} LIMIT ?)"
        )
        return execute(connection, statement, (*due.matched, due.limit))


@define(eq=False)
class _PostgresStatements:
    sql: Sql
    skips: bool = field(default=True, init=False)
    _selects: Mapping[Lock, str] = field(init=False)
    _insert: str = field(init=False)
    _update: str = field(init=False)
    _end: str = field(init=False)
    _insert_one: str = field(init=False)
    _end_one: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        sql = self.sql
        arrays = ", ".join(f"{sql.mark(n)}::{kind}[]" for n, kind in enumerate(sql.types, start=1))
        columns = ", ".join(f"o.{name}" for name in sql.columns)
        source = (
            f"unnest({sql.mark(1)}::text[], {sql.mark(2)}::text[]) AS k (app_key, request_id)"
            f" JOIN {sql.table} AS o ON o.app_key = k.app_key AND o.request_id = k.request_id"
        )
        locked = (
            f"SELECT {columns} FROM {limit_idle()}, {source}"
            " ORDER BY o.app_key, o.request_id FOR UPDATE OF o"
        )
        self._selects = {
            Lock.NONE: f"SELECT {columns} FROM {source}",
            Lock.SKIP: f"{locked} SKIP LOCKED",
            Lock.WAIT: locked,
        }
        self._insert = f"INSERT INTO {sql.table} ({sql.all}) SELECT * FROM unnest({arrays})"
        self._update = (
            f"UPDATE {sql.table} AS o SET {sql.assignments('n.{}')}"
            f" FROM unnest({arrays}) AS n ({sql.all})"
            " WHERE o.app_key = n.app_key AND o.request_id = n.request_id"
        )
        # The state is compared as an expression: where few attempts are under way, the index by
        # state looks cheaper than the key, and reads what was under way before.
        sending = f"o.state || '' = '{_SENDING}'"
        self._end = (
            f"WITH n AS (SELECT o.ctid AS place, n.* FROM {limit_idle()},"
            f" unnest({arrays}) AS n ({sql.all}) JOIN {sql.table} AS o USING (app_key, request_id)"
            f" WHERE o.epoch = n.epoch AND {sending}"
            " ORDER BY o.app_key, o.request_id FOR UPDATE OF o SKIP LOCKED)"
            f" UPDATE {sql.table} AS o SET {sql.assignments('n.{}')} FROM n"
            " WHERE o.ctid = n.place RETURNING o.app_key, o.request_id"
        )
        row = sql.marks(len(sql.columns))
        self._insert_one = f"INSERT INTO {sql.table} ({sql.all}) VALUES ({row})"
        count = len(sql.columns)
        values = ", ".join(
            f"{name} = {sql.mark(n)}" for n, name in enumerate(sql.columns[len(KEY) :], start=1)
        )
        self._end_one = (
            f"UPDATE {sql.table} SET {values} WHERE ctid = (SELECT o.ctid FROM {sql.table} AS o"
            f" WHERE o.app_key = {sql.mark(count - 1)} AND o.request_id = {sql.mark(count)}"
            f" AND o.epoch = {sql.mark(count + 1)} AND {sending}"
            " FOR UPDATE SKIP LOCKED) RETURNING app_key, request_id"
        )

    def select(self, connection: Connection, keys: Sequence[Key], lock: Lock) -> list[Row]:
        found: list[Row] = []
        with committing(connection) if lock is Lock.NONE else nullcontext():
            for portion in split(keys):
                found += fetch(connection, self._selects[lock], turn(portion))
        return found

    def insert(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> None:
        portions = list(cut(rows))
        # One statement is a transaction by itself: that saves two of four round trips.
        with committing(connection) if alone and len(portions) == 1 else nullcontext():
            for portion in portions:
                is_one = len(portion) == 1
                statement = self._insert_one if is_one else self._insert
                values = portion[0] if is_one else turn(portion)
                connection.exec_driver_sql(statement, values)

    def update(self, connection: Connection, rows: Sequence[Row]) -> None:
        for portion in cut(rows):
            connection.exec_driver_sql(self._update, turn(portion))

    def end_attempts(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> set[Key]:
        portions = list(cut(rows))
        if alone and len(rows) == 1:
            with committing(connection):
                return read_keys(fetch(connection, self._end_one, self.sql.guard(rows[0])))
        with committing(connection) if alone and len(portions) == 1 else nullcontext():
            found = [fetch(connection, self._end, turn(portion)) for portion in portions]
            return read_keys(chain.from_iterable(found))

    def delete(self, connection: Connection, due: Due) -> int:
        # State by state, in the order of the index: else PostgreSQL reads the whole table while its
        # statistics still tell of many old rows.
        mark, table = self.sql.mark, self.sql.table
        statement = (
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT old.ctid"
            f" FROM unnest({mark(1)}::text[]) AS s (state), LATERAL (SELECT ctid FROM {table}"
            f" WHERE app_key = {mark(2)} AND state = s.state AND tend_at <= {mark(3)}"
            f" ORDER BY tend_at LIMIT {mark(4)} FOR UPDATE SKIP LOCKED) AS old LIMIT {mark(5)}))"
        )
        values = (list(due.states), due.app_key, due.until, due.limit, due.limit)
        return execute(connection, statement, values)


@define(eq=False)
class _MysqlStatements:
    sql: Sql
    skips: bool
    alias: bool
    _row: str = field(init=False)
    _insert: str = field(init=False)
    _on_duplicate: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        sql = self.sql
        self._row = f"({sql.marks(len(sql.columns))})"
        self._insert = f"INSERT INTO {sql.table} ({sql.all}) VALUES "
        self._on_duplicate = (
            f" AS n ON DUPLICATE KEY UPDATE {sql.assignments('n.{}')}"
            if self.alias
            else f" ON DUPLICATE KEY UPDATE {sql.assignments('VALUES({})')}"
        )

    def select(self, connection: Connection, keys: Sequence[Key], lock: Lock) -> list[Row]:
        locking = {
            Lock.NONE: "",
            Lock.SKIP: " FOR UPDATE SKIP LOCKED" if self.skips else " FOR UPDATE",
            Lock.WAIT: " FOR UPDATE",
        }
        found: list[Row] = []
        for portion in split(keys):
            conditions: list[str] = []
            values: list[str] = []
            for app_key, mine in groupby(portion, key=itemgetter(0)):
                names = [request_id for _, request_id in mine]
                conditions.append(f"app_key = %s AND request_id IN ({self.sql.marks(len(names))})")
                values += (app_key, *names)
            query = (
                f"SELECT {self.sql.all} FROM {self.sql.table} WHERE {' OR '.join(conditions)}"
                f" ORDER BY app_key, request_id{locking[lock]}"
            )
            found += fetch(connection, query, tuple(values))
        return found

    def insert(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> None:
        del alone
        self._write(connection, rows, "")

    def update(self, connection: Connection, rows: Sequence[Row]) -> None:
        # Of all ways to write many rows at once this is the one that every version knows.
        self._write(connection, rows, self._on_duplicate)

    def end_attempts(self, connection: Connection, rows: Sequence[Row], *, alone: bool) -> set[Key]:
        del connection, rows, alone  # MySQL has no update that leaves out what is locked
        return set()

    def _write(self, connection: Connection, rows: Sequence[Row], ending: str) -> None:
        for portion in cut(rows):
            statement = self._insert + ", ".join([self._row] * len(portion)) + ending
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(portion)))

    def delete(self, connection: Connection, due: Due) -> int:
        # A plain DELETE reads the whole table by its key, and locks each row for a moment: to the
        # optimizer that seems cheaper than many rows by the index, for it overlooks the limit.
        match = self.sql.match_due(len(due.states))
        statement = (
            f"DELETE o FROM (SELECT app_key, request_id FROM {self.sql.table}"
            f" FORCE INDEX ({self.sql.index}) WHERE {match} LIMIT %s) AS old"
            f" STRAIGHT_JOIN {self.sql.table} AS o USING (app_key, request_id) WHERE {match}"
        )
        return execute(connection, statement, (*due.matched, due.limit, *due.matched))
