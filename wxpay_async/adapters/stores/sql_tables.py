"""The work of one transaction in the tables of `SqlStore`.

The rules:

- what an operation becomes is decided by `IdempotencyRecord` on the locked row, never by SQL: the
  life of an operation is described in one place;
- what an attempt ended with is written without a look first, where that attempt is under way still:
  for that `IdempotencyRecord.can_be_replaced_by` says yes, whatever the outcome;
- what is most likely new is inserted without a look first. If its key exists, or two transactions
  insert the same row at once, the later one meets a duplicate key, starts again and finds the row:
  no dialect's own INSERT is needed;
- a group of updates waits for no row that another transaction has locked: what it does not find it
  leaves to a transaction of its own.
"""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import attrs
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row as DriverRow,
    Select,
    String,
    Table,
    and_,
    delete,
    insert,
    literal_column,
    select,
    update,
)

from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Entry, hash_key
from wxpay_async.adapters.stores.rows import find_tend_time
from wxpay_async.adapters.stores.server_clock import ServerClock
from wxpay_async.adapters.stores.sql_parameters import limit_idle
from wxpay_async.adapters.stores.sql_parts import KEY, Row
from wxpay_async.adapters.stores.sql_schema import Tables
from wxpay_async.adapters.stores.sql_statements import Due, Lock, Statements, make_statements
from wxpay_async.adapters.stores.store import Key
from wxpay_async.policy.record import LEASE, OPEN, UNDER_WAY, UNFINISHED, IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State
from wxpay_async.protocol.assemble import assemble
from wxpay_async.protocol.idempotency_key import Fingerprint

_MAX_EXPIRED: Final = 1000
_EVICTABLE: Final = tuple(sorted(state.value for state in FINISHED | {State.RESERVED}))

_PLAIN: Final = tuple(
    field.name
    for field in attrs.fields(IdempotencyRecord)
    if field.name not in {"fingerprint", "state", "in_doubt", "content", "reply"}
)
_MADE: Final = ("state", "in_doubt", "content", "reply", "digest", "fields", "tend_at")
"""The columns that hold something else than the field of this name, or are none."""

_COLUMNS: Final = (*_PLAIN, *_MADE)
_read_plain: Final = operator.itemgetter(*_PLAIN)

_CLOCKS: Final = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    # UTC, since an hour of local time comes twice a year.
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6",
}
"""Asks a server for the time. A file has no clock of its own."""

assert _COLUMNS[: len(KEY)] == KEY  # noqa: S101 - the order of the fields is another module's


@attrs.frozen(kw_only=True)
class Update:
    """What to do with one operation.

    Attributes:
        key: which operation.
        choose_record: gets the stored record, None if there is none; returns the one to store, None
            to change nothing. It may be called again when a transaction is repeated.
        is_new: whether there is most likely no record yet.
        outcome: what an attempt ended with, which is stored if that attempt is under way still.
    """

    key: Key
    choose_record: Callable[[IdempotencyRecord | None], IdempotencyRecord | None]
    is_new: bool = False
    outcome: IdempotencyRecord | None = None


@attrs.frozen
class Applied:
    """What an update found, and what it stored."""

    found: IdempotencyRecord | None
    stored: IdempotencyRecord | None


@attrs.define(eq=False)
class Transactions:
    """What the methods of the store do in their transactions.

    Args:
        tables: in which.
        clock: what is known of the server's.
    """

    tables: Tables
    clock: ServerClock = attrs.field(factory=ServerClock)
    statements: Statements = attrs.field(init=False)
    _operations: Table = attrs.field(init=False)
    _callbacks: Table = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._operations, self._callbacks = self.tables.operations, self.tables.callbacks

    def prepare(self, connection: Connection) -> None:
        """Make ready for the others."""
        self.statements = make_statements(connection, self._operations, _COLUMNS)
        self.read_clock(connection)

    def read_clock(self, connection: Connection) -> None:
        """Take note of what the server's clock shows."""
        query = _CLOCKS.get(connection.dialect.name)
        before = self.clock.monotonic()
        if query is not None:
            server = float(connection.exec_driver_sql(query).scalar_one())
            self.clock.measured(before, self.clock.monotonic(), server)

    def apply_updates(
        self, connection: Connection, updates: Sequence[Update], *, blindly: bool, wait: bool
    ) -> list[Applied | None]:
        """Apply the updates in their order, with one read and one write for all of them.

        Args:
            connection: of the transaction.
            updates: of any operations; those of one key see what those before them did.
            blindly: write what is most likely new, or the end of an attempt, without a look.
            wait: for rows that other transactions have locked.

        Returns:
            What became of each update; None where it must wait, and nothing was done.

        Raises:
            IntegrityError: something existed, or came meanwhile.
        """
        ended = self._end_attempts(connection, updates) if blindly else {}
        rest = [update for update in updates if update.key not in ended]
        new = _find_new(rest) if blindly else set[Key]()
        keys = sorted({update.key for update in rest} - new)
        lock = Lock.WAIT if wait else Lock.SKIP
        found = {record.key: record for record in self.fetch_records(connection, keys, lock)}
        left = (
            set[Key]()
            if lock is Lock.WAIT or not self.statements.skips
            else {key for key in keys if key not in found}
        )
        current = dict(found)
        applied = [
            ended.get(update.key)
            or (None if update.key in left else _apply_update(update, current))
            for update in updates
        ]
        changed = [record for key, record in current.items() if found.get(key) is not record]
        inserted = [record for record in changed if record.key not in found]
        if inserted:
            alone = not ended and not keys and len(inserted) == len(changed)
            self.statements.insert(connection, _make_rows(inserted), alone=alone)
        self._update_rows(connection, [record for record in changed if record.key in found])
        return applied

    def _end_attempts(
        self, connection: Connection, updates: Sequence[Update]
    ) -> dict[Key, Applied]:
        """Write the outcomes of attempts that are under way still; return what was written."""
        count = Counter(update.key for update in updates)
        outcomes = {
            update.key: update.outcome
            for update in updates
            if update.outcome is not None and count[update.key] == 1
        }
        if not outcomes:
            return {}
        rows, alone = _make_rows(outcomes.values()), len(outcomes) == len(updates)
        written = self.statements.end_attempts(connection, rows, alone=alone)
        return {key: Applied(None, outcomes[key]) for key in written}

    def fetch_records(
        self, connection: Connection, keys: Collection[Key], lock: Lock = Lock.NONE
    ) -> list[IdempotencyRecord]:
        """Return the records with these keys."""
        if not keys:
            return []
        rows = self.statements.select(connection, sorted(set(keys)), lock)
        return [_make_record(row) for row in rows]

    def find_open(
        self, connection: Connection, *, app_key: str, out_trade_no: str
    ) -> list[IdempotencyRecord]:
        """Do what `IdempotencyStore.find_open` says."""
        # The index of the sweep leads to what is open, which is little: the number needs none.
        rows = self._select().where(
            self._operations.c.app_key == app_key,
            self._operations.c.state.in_([state.value for state in UNDER_WAY]),
            self._operations.c.out_trade_no == out_trade_no,
        )
        return self._read_records(connection, rows)

    def fetch_open(
        self, connection: Connection, *, app_key: str, after: str, limit: int
    ) -> list[IdempotencyRecord]:
        """Do what `IdempotencyStore.list_open` says."""
        # The requestId as an expression: else a database may take the key, and read all that ended.
        name = self._operations.c.request_id.concat("")
        rows = self._select().where(
            self._operations.c.app_key == app_key,
            self._operations.c.state.in_([state.value for state in UNFINISHED]),
            name > after,
        )
        return self._read_records(connection, rows.order_by(name).limit(limit))

    def due(
        self, connection: Connection, app_key: str, now: float, *, limit: int
    ) -> list[IdempotencyRecord]:
        """Do what `IdempotencyStore.due` says. Rows that another one holds are skipped."""
        for each in _limit_idle(connection):
            connection.execute(select(each))
        expired = self._fetch_due(connection, app_key, {State.SENDING}, now, limit=_MAX_EXPIRED)
        self._update_rows(connection, [record.with_expired_lease(now) for record in expired])
        due = self._fetch_due(connection, app_key, OPEN, now, limit=limit)
        moved = [attrs.evolve(record, next_check_at=now + LEASE) for record in due]
        self._update_rows(connection, moved)
        return due

    def forget(self, connection: Connection, app_key: str, until: float, *, limit: int) -> int:
        """Drop what was finished by then, and is not needed any more; return how many."""
        due = Due(app_key=app_key, states=_EVICTABLE, until=until, limit=limit)
        return self.statements.delete(connection, due)

    def forget_entries(self, connection: Connection, now: float, *, limit: int) -> int:
        """Drop what callbacks told so long ago that none of them comes again."""
        digest, until = self._callbacks.c.digest, self._callbacks.c.until
        old = select(digest).where(until <= now).limit(limit)
        if connection.dialect.name == "mysql":  # which knows no limit inside IN
            old = select(old.subquery().c.digest)
        return connection.execute(delete(self._callbacks).where(digest.in_(old))).rowcount

    def _match_due(
        self, app_key: str, states: Iterable[State], until: float
    ) -> ColumnElement[bool]:
        return and_(
            self._operations.c.app_key == app_key,
            self._operations.c.state.in_([state.value for state in states]),
            self._operations.c.tend_at <= until,
        )

    def _fetch_due(
        self,
        connection: Connection,
        app_key: str,
        states: Iterable[State],
        until: float,
        *,
        limit: int,
    ) -> list[IdempotencyRecord]:
        rows = (
            self._select()
            .where(self._match_due(app_key, states, until))
            .order_by(self._operations.c.tend_at)
            .limit(limit)
        )
        skipped = rows.with_for_update(skip_locked=self.statements.skips)
        return self._read_records(connection, skipped)

    def _select(self) -> Select[Any]:
        return select(*(self._operations.c[name] for name in _COLUMNS))

    def _read_records(self, connection: Connection, rows: Select[Any]) -> list[IdempotencyRecord]:
        return [_make_record(row) for row in connection.execute(rows)]

    def _update_rows(self, connection: Connection, records: Sequence[IdempotencyRecord]) -> None:
        if records:
            self.statements.update(connection, _make_rows(records))

    def load_entries(self, connection: Connection, keys: Sequence[str]) -> dict[str, Entry]:
        """Do what `Inbox.load_entries` says."""
        of = {hash_key(key): key for key in keys}
        columns = (
            self._callbacks.c.digest,
            self._callbacks.c.version,
            self._callbacks.c.value,
        )
        rows = connection.execute(select(*columns).where(self._callbacks.c.digest.in_(of)))
        return {of[digest]: Entry(version, value) for digest, version, value in rows}

    def swap_entry(
        self, connection: Connection, key: str, *, version: int | None, value: str, now: float
    ) -> bool:
        """Do what `Inbox.swap` says."""
        at = self._callbacks.c.digest == hash_key(key)
        values = {"version": (version or 0) + 1, "value": value, "until": now + INBOX_RETENTION}
        if version is not None:
            mine = update(self._callbacks).where(at, self._callbacks.c.version == version)
            for each in _limit_idle(connection):
                mine = mine.where(each.is_not(None))
            return bool(connection.execute(mine.values(values)).rowcount)
        known = select(self._callbacks.c.version).where(at).scalar_subquery()
        if connection.execute(select(known, *_limit_idle(connection))).scalar_one() is not None:
            return False
        connection.execute(insert(self._callbacks).values(digest=hash_key(key), **values))
        return True


def _limit_idle(connection: Connection) -> list[ColumnElement[str]]:
    """Return what a statement has to evaluate so that silence ends its transaction."""
    is_postgres = connection.dialect.name == "postgresql"
    return [literal_column(limit_idle(), String())] if is_postgres else []


def _find_new(updates: Iterable[Update]) -> set[Key]:
    """Return the keys whose first update says that they are new."""
    first: dict[Key, bool] = {}
    for one in updates:
        first.setdefault(one.key, one.is_new)
    return {key for key, is_new in first.items() if is_new}


def _apply_update(wanted: Update, current: dict[Key, IdempotencyRecord]) -> Applied:
    found = current.get(wanted.key)
    stored = wanted.choose_record(found)
    if stored is not None:
        current[wanted.key] = stored
    return Applied(found, stored)


def _make_rows(records: Iterable[IdempotencyRecord]) -> list[Row]:
    """Return the rows of the records, in the order of their keys."""
    return [_make_row(record) for record in sorted(records, key=lambda record: record.key)]


def _make_row(record: IdempotencyRecord) -> Row:
    mark = record.fingerprint
    return (
        *_read_plain(record.__dict__),
        record.state.value,
        record.in_doubt,
        _plain(record.content),
        _plain(record.reply),
        mark.digest,
        json.dumps(dict(mark.fields)),
        find_tend_time(record),
    )


def _plain(content: bytes | None) -> bytes | None:
    return None if content is None else bytes(content)  # a driver may look at the very type


def _make_record(row: Row | DriverRow[Any]) -> IdempotencyRecord:
    # A record has no validators, and rows are read thousands a second: no converter then.
    fields: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    del fields["tend_at"]
    fields["fingerprint"] = Fingerprint(fields.pop("digest"), json.loads(fields.pop("fields")))
    fields["state"] = State(fields["state"])
    fields["in_doubt"] = bool(fields["in_doubt"])
    return assemble(IdempotencyRecord, fields)
