"""Define the tables of `SqlStore`, and the work of one transaction in them.

The rules:

- what an operation becomes is decided by `IdempotencyRecord` on the locked row, never by SQL: the
  life of an operation is described in one place;
- when two transactions insert the same row at once, the later one meets a duplicate key, starts
  again and finds the row: no dialect's own INSERT is needed;
- `tend_at` says when a sweep must look at a row (`rows.find_tend_time`); a row that must be left
  alone has none. One index serves all of these times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from typing import Any, Final

import attrs
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.mysql import MEDIUMBLOB

from wxpay_async.adapters.stores.failures import NewerSchemaError
from wxpay_async.adapters.stores.inbox import (
    INBOX_RETENTION,
    Entry,
    hash_key,
)
from wxpay_async.adapters.stores.rows import Value, find_tend_time, from_row, to_row
from wxpay_async.policy.record import LEASE, OPEN, UNDER_WAY, UNFINISHED, IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State

Key = tuple[str, str]

VERSION: Final = 2
"""The version of the tables. A release that changes them raises it."""

_ADDED: Final = {
    2: (
        "claim_token VARCHAR(64)",
        "deviates_at DOUBLE PRECISION",
        "deviation VARCHAR(16)",
        "verdict TEXT",
    ),
}
"""The columns that each version added to the operations."""

_MAX_DROPPED: Final = 1000
_EVICTABLE: Final = FINISHED | {State.RESERVED}

# A binary collation, because requestIds that differ in case are two ids. MEDIUMBLOB below, because
# a plain BLOB of MySQL holds one byte less than 64 KB.
_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
_BYTES: Final = LargeBinary().with_variant(MEDIUMBLOB(), "mysql")

metadata: Final = MetaData()

schema: Final = Table(
    "wxpay_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    **_OPTIONS,
)

operations: Final = Table(
    "wxpay_operations",
    metadata,
    Column("app_key", String(128), primary_key=True),
    Column("request_id", String(64), primary_key=True),
    Column("operation", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("fields", Text, nullable=False),
    Column("out_trade_no", Text),
    Column("state", String(16), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("in_doubt", Boolean, nullable=False),
    Column("signed_at", BigInteger),
    Column("lease_until", Double, nullable=False),
    Column("claim_token", String(64)),
    Column("content", _BYTES),
    Column("status", Integer),
    Column("reply", _BYTES),
    Column("doubt_since", Double),
    Column("next_check_at", Double),
    Column("checks", Integer, nullable=False),
    Column("absent_at", Double),
    Column("deviates_at", Double),
    Column("deviation", String(16)),
    Column("verdict", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("tend_at", Double),
    Index("wxpay_operations_tend", "app_key", "state", "tend_at"),
    **_OPTIONS,
)

callbacks: Final = Table(
    "wxpay_callbacks",
    metadata,
    Column("digest", String(64), primary_key=True),  # of the key
    Column("version", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("until", Double, nullable=False),
    Index("wxpay_callbacks_until", "until"),
    **_OPTIONS,
)

_COLUMNS: Final = tuple(operations.c.keys())
_KEY: Final = ("app_key", "request_id")
_AT_KEY: Final = and_(*(operations.c[name] == bindparam(f"of_{name}") for name in _KEY))
_INSERT: Final = insert(operations)
_UPDATE: Final = update(operations).where(_AT_KEY)
_DELETE: Final = delete(operations).where(_AT_KEY)

_DURABLE: Final = {
    "postgresql": "SELECT current_setting('synchronous_commit') <> 'off'"
    " AND current_setting('fsync') = 'on'",
    "mysql": "SELECT @@innodb_flush_log_at_trx_commit = 1",
}
"""Asks a server whether it writes every commit through before it reports it."""


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


def prepare_tables(connection: Connection) -> bool:
    """Create the tables that are missing; tell whether the server keeps its commits.

    Raises:
        NewerSchemaError: the tables are of a later version.
    """
    with _schema_lock(connection):
        _create_tables(connection)
    query = _DURABLE.get(connection.dialect.name)
    return query is None or bool(connection.scalar(text(query)))


@contextlib.contextmanager
def _schema_lock(connection: Connection) -> Generator[None]:
    # MySQL commits each CREATE separately: others would see half of the tables.
    if connection.dialect.name != "mysql":
        yield
        return
    name = "CONCAT('wxpay_', MD5(DATABASE()))"
    connection.execute(text(f"SELECT GET_LOCK({name}, 10)"))
    try:
        yield
    finally:
        connection.execute(text(f"SELECT RELEASE_LOCK({name})"))


def _create_tables(connection: Connection) -> None:
    found = inspect(connection).has_table(schema.name)
    # The highest: an upgrade may leave the row of the version before beside its own.
    version = connection.scalar(select(func.max(schema.c.version))) if found else None
    if version is not None and version > VERSION:
        raise NewerSchemaError(version, VERSION)
    metadata.create_all(connection)  # those that are missing
    if version is None:
        connection.execute(insert(schema).values(version=VERSION))
    elif version < VERSION:
        _upgrade_tables(connection, version)


def _upgrade_tables(connection: Connection, version: int) -> None:
    # First the row: of two processes that upgrade at once the later one meets a duplicate key,
    # begins again and finds nothing left to do.
    connection.execute(insert(schema).values(version=VERSION))
    for later in range(version + 1, VERSION + 1):
        for column in _ADDED[later]:
            connection.execute(text(f"ALTER TABLE {operations.name} ADD COLUMN {column}"))


def apply_updates(connection: Connection, updates: Sequence[Update]) -> list[Applied]:
    """Apply the updates in their order, with one read and one write for all of them."""
    keys = {update.key for update in updates}
    found = {record.key: record for record in fetch_records(connection, keys, lock=True)}
    current = dict(found)
    applied = [_apply_update(update, current) for update in updates]
    changed = [record for key, record in current.items() if found.get(key) is not record]
    inserted = [_make_row(record) for record in changed if record.key not in found]
    if inserted:
        connection.execute(_INSERT, inserted)
    _update_rows(connection, [record for record in changed if record.key in found])
    return applied


def _apply_update(update: Update, current: dict[Key, IdempotencyRecord]) -> Applied:
    found = current.get(update.key)
    stored = update.choose_record(found)
    if stored is not None:
        current[update.key] = stored
    return Applied(found, stored)


def fetch_records(
    connection: Connection, keys: Collection[Key], *, lock: bool
) -> list[IdempotencyRecord]:
    """Return the records with these keys."""
    found: list[IdempotencyRecord] = []
    # One query for each appKey: given pairs, SQLite 3.40 reads the whole table (measured).
    for app_key in {key[0] for key in keys}:
        rows = select(operations).where(
            operations.c.app_key == app_key,
            operations.c.request_id.in_([key[1] for key in keys if key[0] == app_key]),
        )
        found += _read_records(connection, rows.with_for_update() if lock else rows)
    return found


def find_open(
    connection: Connection, *, app_key: str, out_trade_no: str
) -> list[IdempotencyRecord]:
    """Do what `IdempotencyStore.find_open` says."""
    # The index of the sweep leads to what is open, which is little: the number needs none.
    rows = select(operations).where(
        operations.c.app_key == app_key,
        operations.c.state.in_([state.value for state in UNDER_WAY]),
        operations.c.out_trade_no == out_trade_no,
    )
    return _read_records(connection, rows)


def fetch_open(
    connection: Connection, *, app_key: str, after: str, limit: int
) -> list[IdempotencyRecord]:
    """Do what `IdempotencyStore.list_open` says."""
    rows = select(operations).where(
        operations.c.app_key == app_key,
        operations.c.state.in_([state.value for state in UNFINISHED]),
        operations.c.request_id > after,
    )
    return _read_records(connection, rows.order_by(operations.c.request_id).limit(limit))


def sweep(
    connection: Connection, app_key: str, now: float, *, retention: float, limit: int
) -> list[IdempotencyRecord]:
    """Do what `IdempotencyStore.sweep` says. Rows that another transaction holds are skipped."""
    expired = _fetch_due(connection, _match_due(app_key, {State.SENDING}, now))
    _update_rows(connection, [record.with_expired_lease(now) for record in expired])
    _drop_old(connection, app_key, now, retention)
    due = _fetch_due(connection, _match_due(app_key, OPEN, now), limit)
    moved = [attrs.evolve(record, next_check_at=now + LEASE) for record in due]
    _update_rows(connection, moved)
    return due


def _match_due(app_key: str, states: Iterable[State], until: float) -> ColumnElement[bool]:
    return and_(
        operations.c.app_key == app_key,
        operations.c.state.in_([state.value for state in states]),
        operations.c.tend_at <= until,
    )


def _fetch_due(
    connection: Connection, condition: ColumnElement[bool], limit: int | None = None
) -> list[IdempotencyRecord]:
    rows = select(operations).where(condition).order_by(operations.c.tend_at).limit(limit)
    return _read_records(connection, rows.with_for_update(skip_locked=True))


def _read_records(connection: Connection, rows: Select[Any]) -> list[IdempotencyRecord]:
    # Not `.mappings()`, which takes a fifth longer.
    return [from_row(dict(zip(_COLUMNS, row, strict=True))) for row in connection.execute(rows)]


def _drop_old(connection: Connection, app_key: str, now: float, retention: float) -> None:
    old = select(operations.c.app_key, operations.c.request_id).where(
        _match_due(app_key, _EVICTABLE, now - retention)
    )
    keys = connection.execute(old.limit(_MAX_DROPPED).with_for_update(skip_locked=True))
    rows = [_bind_key(*key) for key in keys]
    if rows:
        connection.execute(_DELETE, rows)
    gone = select(callbacks.c.digest).where(callbacks.c.until <= now).limit(_MAX_DROPPED)
    digests = connection.scalars(gone.with_for_update(skip_locked=True)).all()
    if digests:
        connection.execute(delete(callbacks).where(callbacks.c.digest.in_(digests)))


def _update_rows(connection: Connection, records: Sequence[IdempotencyRecord]) -> None:
    rows = [_make_row(record) for record in records]
    if rows:
        changes = [_bind_key(row.pop("app_key"), row.pop("request_id")) | row for row in rows]
        connection.execute(_UPDATE, changes)


def _bind_key(app_key: Value, request_id: Value) -> dict[str, Value]:
    return {"of_app_key": app_key, "of_request_id": request_id}


def _make_row(record: IdempotencyRecord) -> dict[str, Value]:
    return {**to_row(record), "tend_at": find_tend_time(record)}


def load_entries(connection: Connection, keys: Sequence[str]) -> dict[str, Entry]:
    """Do what `Inbox.load_entries` says."""
    of = {hash_key(key): key for key in keys}
    columns = (callbacks.c.digest, callbacks.c.version, callbacks.c.value)
    rows = connection.execute(select(*columns).where(callbacks.c.digest.in_(of)))
    return {of[digest]: Entry(version, value) for digest, version, value in rows}


def swap_entry(
    connection: Connection, key: str, *, version: int | None, value: str, now: float
) -> bool:
    """Do what `Inbox.swap` says."""
    at = callbacks.c.digest == hash_key(key)
    values = {"version": (version or 0) + 1, "value": value, "until": now + INBOX_RETENTION}
    if version is not None:
        mine = and_(at, callbacks.c.version == version)
        return bool(connection.execute(update(callbacks).where(mine).values(values)).rowcount)
    if connection.execute(select(callbacks.c.version).where(at)).first() is not None:
        return False
    connection.execute(insert(callbacks).values(digest=hash_key(key), **values))
    return True
