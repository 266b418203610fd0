"""The work of one transaction in the tables of `SqlStore`.

The rules:

- what an operation becomes is decided by `IdempotencyRecord` on the locked row, never by SQL: the
  life of an operation is described in one place;
- when two transactions insert the same row at once, the later one meets a duplicate key, starts
  again and finds the row: no dialect's own INSERT is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import attrs
from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Select,
    Table,
    Update as UpdateStatement,
    and_,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Entry, hash_key
from wxpay_async.adapters.stores.rows import Value, find_tend_time, from_row, to_row
from wxpay_async.adapters.stores.sql_schema import Tables
from wxpay_async.policy.record import LEASE, OPEN, UNDER_WAY, UNFINISHED, IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State

Key = tuple[str, str]

_MAX_DROPPED: Final = 1000
_EVICTABLE: Final = FINISHED | {State.RESERVED}
_KEY: Final = ("app_key", "request_id")


@attrs.frozen(kw_only=True)
class Update:
    """What to do with one operation.

    Attributes:
        key: which operation.
        choose_record: gets the stored record, None if there is none; returns the one to store, None
            to change nothing. It may be called again when a transaction is repeated.
    """

    key: Key
    choose_record: Callable[[IdempotencyRecord | None], IdempotencyRecord | None]


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
    """

    tables: Tables
    _operations: Table = attrs.field(init=False)
    _callbacks: Table = attrs.field(init=False)
    _columns: tuple[str, ...] = attrs.field(init=False)
    _insert: Insert = attrs.field(init=False)
    _update: UpdateStatement = attrs.field(init=False)
    _delete: Delete = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._operations, self._callbacks = self.tables.operations, self.tables.callbacks
        table = self._operations
        at_key = and_(*(table.c[name] == bindparam(f"of_{name}") for name in _KEY))
        self._columns = tuple(table.c.keys())
        self._insert = insert(table)
        self._update = update(table).where(at_key)
        self._delete = delete(table).where(at_key)

    def apply_updates(self, connection: Connection, updates: Sequence[Update]) -> list[Applied]:
        """Apply the updates in their order, with one read and one write for all of them."""
        keys = {update.key for update in updates}
        found = {record.key: record for record in self.fetch_records(connection, keys, lock=True)}
        current = dict(found)
        applied = [_apply_update(update, current) for update in updates]
        changed = [record for key, record in current.items() if found.get(key) is not record]
        inserted = [_make_row(record) for record in changed if record.key not in found]
        if inserted:
            connection.execute(self._insert, inserted)
        self._update_rows(connection, [record for record in changed if record.key in found])
        return applied

    def fetch_records(
        self, connection: Connection, keys: Collection[Key], *, lock: bool
    ) -> list[IdempotencyRecord]:
        """Return the records with these keys."""
        found: list[IdempotencyRecord] = []
        # One query for each appKey: given pairs, SQLite 3.40 reads the whole table (measured).
        for app_key in {key[0] for key in keys}:
            rows = select(self._operations).where(
                self._operations.c.app_key == app_key,
                self._operations.c.request_id.in_([key[1] for key in keys if key[0] == app_key]),
            )
            found += self._read_records(connection, rows.with_for_update() if lock else rows)
        return found

    def find_open(
        self, connection: Connection, *, app_key: str, out_trade_no: str
    ) -> list[IdempotencyRecord]:
        """Do what `IdempotencyStore.find_open` says."""
        # The index of the sweep leads to what is open, which is little: the number needs none.
        rows = select(self._operations).where(
            self._operations.c.app_key == app_key,
            self._operations.c.state.in_([state.value for state in UNDER_WAY]),
            self._operations.c.out_trade_no == out_trade_no,
        )
        return self._read_records(connection, rows)

    def fetch_open(
        self, connection: Connection, *, app_key: str, after: str, limit: int
    ) -> list[IdempotencyRecord]:
        """Do what `IdempotencyStore.list_open` says."""
        rows = select(self._operations).where(
            self._operations.c.app_key == app_key,
            self._operations.c.state.in_([state.value for state in UNFINISHED]),
            self._operations.c.request_id > after,
        )
        return self._read_records(
            connection, rows.order_by(self._operations.c.request_id).limit(limit)
        )

    def sweep(
        self, connection: Connection, app_key: str, now: float, *, retention: float, limit: int
    ) -> list[IdempotencyRecord]:
        """Do what `IdempotencyStore.sweep` says. Rows that another one holds are skipped."""
        expired = self._fetch_due(connection, self._match_due(app_key, {State.SENDING}, now))
        self._update_rows(connection, [record.with_expired_lease(now) for record in expired])
        self._drop_old(connection, app_key, now, retention)
        due = self._fetch_due(connection, self._match_due(app_key, OPEN, now), limit)
        moved = [attrs.evolve(record, next_check_at=now + LEASE) for record in due]
        self._update_rows(connection, moved)
        return due

    def _match_due(
        self, app_key: str, states: Iterable[State], until: float
    ) -> ColumnElement[bool]:
        return and_(
            self._operations.c.app_key == app_key,
            self._operations.c.state.in_([state.value for state in states]),
            self._operations.c.tend_at <= until,
        )

    def _fetch_due(
        self, connection: Connection, condition: ColumnElement[bool], limit: int | None = None
    ) -> list[IdempotencyRecord]:
        rows = (
            select(self._operations)
            .where(condition)
            .order_by(self._operations.c.tend_at)
            .limit(limit)
        )
        return self._read_records(connection, rows.with_for_update(skip_locked=True))

    def _read_records(self, connection: Connection, rows: Select[Any]) -> list[IdempotencyRecord]:
        # Not `.mappings()`, which takes a fifth longer.
        return [
            from_row(dict(zip(self._columns, row, strict=True))) for row in connection.execute(rows)
        ]

    def _drop_old(self, connection: Connection, app_key: str, now: float, retention: float) -> None:
        old = select(self._operations.c.app_key, self._operations.c.request_id).where(
            self._match_due(app_key, _EVICTABLE, now - retention)
        )
        keys = connection.execute(old.limit(_MAX_DROPPED).with_for_update(skip_locked=True))
        rows = [_bind_key(*key) for key in keys]
        if rows:
            connection.execute(self._delete, rows)
        gone = (
            select(self._callbacks.c.digest)
            .where(self._callbacks.c.until <= now)
            .limit(_MAX_DROPPED)
        )
        digests = connection.scalars(gone.with_for_update(skip_locked=True)).all()
        if digests:
            connection.execute(delete(self._callbacks).where(self._callbacks.c.digest.in_(digests)))

    def _update_rows(self, connection: Connection, records: Sequence[IdempotencyRecord]) -> None:
        rows = [_make_row(record) for record in records]
        if rows:
            changes = [_bind_key(row.pop("app_key"), row.pop("request_id")) | row for row in rows]
            connection.execute(self._update, changes)

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
            mine = and_(at, self._callbacks.c.version == version)
            return bool(
                connection.execute(update(self._callbacks).where(mine).values(values)).rowcount
            )
        if connection.execute(select(self._callbacks.c.version).where(at)).first() is not None:
            return False
        connection.execute(insert(self._callbacks).values(digest=hash_key(key), **values))
        return True


def _apply_update(update: Update, current: dict[Key, IdempotencyRecord]) -> Applied:
    found = current.get(update.key)
    stored = update.choose_record(found)
    if stored is not None:
        current[update.key] = stored
    return Applied(found, stored)


def _bind_key(app_key: Value, request_id: Value) -> dict[str, Value]:
    return {"of_app_key": app_key, "of_request_id": request_id}


def _make_row(record: IdempotencyRecord) -> dict[str, Value]:
    return {**to_row(record), "tend_at": find_tend_time(record)}
