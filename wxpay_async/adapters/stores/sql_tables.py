"""The tables of `SqlStore`, and what happens in them within one transaction.

The rules:

- what an operation becomes is decided by `IdempotencyRecord` on the locked row, never by SQL: there is one
  account of the life of an operation;
- a row that two transactions insert at once is a duplicate key for the later one, which then starts
  again and finds it: no dialect's own INSERT is needed;
- `tend_at` says when a sweep must look at a row: a lease's end, a query's time, or since when it
  could be forgotten. What must be left alone has none. One index serves all three.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
    Row,
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

from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Receipt
from wxpay_async.adapters.stores.store import NewerSchemaError
from wxpay_async.policy.record import LEASE, OPEN, IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State
from wxpay_async.protocol.idempotency_key import Fingerprint

Key = tuple[str, str]

VERSION: Final = 1
"""Of the tables below. A release that changes them raises it."""

_DROPPED_AT_ONCE: Final = 1000
_EVICTABLE: Final = FINISHED | {State.RESERVED}

# A binary collation, because requestIds that differ in case are two ids. A plain BLOB of MySQL ends
# one byte before 64 KB.
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
    Column("content", _BYTES),
    Column("status", Integer),
    Column("reply", _BYTES),
    Column("doubt_since", Double),
    Column("next_check_at", Double),
    Column("checks", Integer, nullable=False),
    Column("absent_at", Double),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("tend_at", Double),
    Index("wxpay_operations_tend", "app_key", "state", "tend_at"),
    **_OPTIONS,
)

inbox: Final = Table(
    "wxpay_inbox",
    metadata,
    Column("message", String(64), primary_key=True),  # its SHA-256: a message has no length limit
    Column("handled", Boolean, nullable=False),
    Column("until", Double, nullable=False),
    Index("wxpay_inbox_until", "until"),
    **_OPTIONS,
)

_PLAIN: Final = tuple(
    a.name for a in attrs.fields(IdempotencyRecord) if a.name not in {"fingerprint", "state"}
)
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
class Change:
    """What shall become of one operation.

    Attributes:
        key: which operation.
        decide: gets the stored entry, None if there is none; returns the one to store, None to
            leave everything as it is. It may be called again when a transaction is repeated.
    """

    key: Key
    decide: Callable[[IdempotencyRecord | None], IdempotencyRecord | None]


@attrs.frozen
class Settled:
    """What a change found, and what it wrote."""

    found: IdempotencyRecord | None
    written: IdempotencyRecord | None


def prepare(connection: Connection) -> bool:
    """Create what is missing; tell whether the server keeps its commits.

    Raises:
        NewerSchemaError: the tables are of a later version.
    """
    with _alone(connection):
        _create(connection)
    question = _DURABLE.get(connection.dialect.name)
    return question is None or bool(connection.scalar(text(question)))


@contextlib.contextmanager
def _alone(connection: Connection) -> Generator[None]:
    # MySQL commits each CREATE by itself, and shows others what is half made.
    if connection.dialect.name != "mysql":
        yield
        return
    name = "CONCAT('wxpay_', MD5(DATABASE()))"
    connection.execute(text(f"SELECT GET_LOCK({name}, 10)"))
    try:
        yield
    finally:
        connection.execute(text(f"SELECT RELEASE_LOCK({name})"))


def _create(connection: Connection) -> None:
    found = inspect(connection).has_table(schema.name)
    # The highest: an upgrade may leave the row of the version before beside its own.
    version = connection.scalar(select(func.max(schema.c.version))) if found else None
    if version is not None and version > VERSION:
        raise NewerSchemaError(version, VERSION)
    if version is None:
        metadata.create_all(connection)
        connection.execute(insert(schema).values(version=VERSION))


def settle(connection: Connection, changes: Sequence[Change]) -> list[Settled]:
    """Apply the changes in their order; all of them read once and are written once."""
    found = {entry.key: entry for entry in fetch(connection, {c.key for c in changes}, lock=True)}
    current = dict(found)
    settled = [_apply(change, current) for change in changes]
    written = [entry for key, entry in current.items() if found.get(key) is not entry]
    fresh = [_row(entry) for entry in written if entry.key not in found]
    if fresh:
        connection.execute(_INSERT, fresh)
    _save(connection, [entry for entry in written if entry.key in found])
    return settled


def _apply(change: Change, current: dict[Key, IdempotencyRecord]) -> Settled:
    found = current.get(change.key)
    written = change.decide(found)
    if written is not None:
        current[change.key] = written
    return Settled(found, written)


def fetch(connection: Connection, keys: Collection[Key], *, lock: bool) -> list[IdempotencyRecord]:
    """Return the entries with these keys."""
    found: list[IdempotencyRecord] = []
    # For each appKey by itself: given pairs, SQLite 3.40 reads the whole table (measured).
    for app_key in {key[0] for key in keys}:
        rows = select(operations).where(
            operations.c.app_key == app_key,
            operations.c.request_id.in_([key[1] for key in keys if key[0] == app_key]),
        )
        found += map(_entry, connection.execute(rows.with_for_update() if lock else rows))
    return found


def sweep(
    connection: Connection, app_key: str, now: float, *, retention: float, limit: int
) -> list[IdempotencyRecord]:
    """Do what `IdempotencyStore.sweep` says. Rows that somebody else holds are left to them."""
    lapsed = _tended(connection, _tendable(app_key, {State.SENDING}, now))
    _save(connection, [entry.with_expired_lease(now) for entry in lapsed])
    _drop_old(connection, app_key, now, retention)
    due = _tended(connection, _tendable(app_key, OPEN, now), limit)
    _save(connection, [attrs.evolve(entry, next_check_at=now + LEASE) for entry in due])
    return due


def _tendable(app_key: str, states: Iterable[State], until: float) -> ColumnElement[bool]:
    return and_(
        operations.c.app_key == app_key,
        operations.c.state.in_([state.value for state in states]),
        operations.c.tend_at <= until,
    )


def _tended(
    connection: Connection, which: ColumnElement[bool], limit: int | None = None
) -> list[IdempotencyRecord]:
    rows = select(operations).where(which).order_by(operations.c.tend_at).limit(limit)
    return [_entry(row) for row in connection.execute(rows.with_for_update(skip_locked=True))]


def _drop_old(connection: Connection, app_key: str, now: float, retention: float) -> None:
    old = select(operations.c.app_key, operations.c.request_id).where(
        _tendable(app_key, _EVICTABLE, now - retention)
    )
    keys = connection.execute(old.limit(_DROPPED_AT_ONCE).with_for_update(skip_locked=True))
    rows = [_of(*key) for key in keys]
    if rows:
        connection.execute(_DELETE, rows)
    over = select(inbox.c.message).where(inbox.c.until <= now).limit(_DROPPED_AT_ONCE)
    messages = connection.scalars(over.with_for_update(skip_locked=True)).all()
    if messages:
        connection.execute(delete(inbox).where(inbox.c.message.in_(messages)))


def _save(connection: Connection, entries: Sequence[IdempotencyRecord]) -> None:
    rows = [_row(entry) for entry in entries]
    if rows:
        changed = [_of(row.pop("app_key"), row.pop("request_id")) | row for row in rows]
        connection.execute(_UPDATE, changed)


def _of(app_key: object, request_id: object) -> dict[str, object]:
    return {"of_app_key": app_key, "of_request_id": request_id}


def _row(entry: IdempotencyRecord) -> dict[str, object]:
    row = {name: getattr(entry, name) for name in _PLAIN}
    row["digest"] = entry.fingerprint.digest
    row["fields"] = json.dumps(dict(entry.fingerprint.fields))
    row["state"] = entry.state.value
    row["tend_at"] = _tend_at(entry)
    return row


def _tend_at(entry: IdempotencyRecord) -> float | None:
    if entry.state is State.SENDING:
        return entry.lease_until
    if entry.state in OPEN:
        return entry.next_check_at
    return entry.updated_at if entry.evictable() else None


def _entry(row: Row[*tuple[Any, ...]]) -> IdempotencyRecord:
    values: dict[str, Any] = dict(zip(operations.c.keys(), row, strict=True))
    del values["tend_at"]
    values["state"] = State(values["state"])
    fingerprint = Fingerprint(values.pop("digest"), json.loads(values.pop("fields")))
    return IdempotencyRecord(fingerprint=fingerprint, **values)


def receive(connection: Connection, message: str, *, now: float, lease: float) -> Receipt:
    """Do what `IdempotencyStore.receive` says."""
    at = inbox.c.message == _digest(message)
    row = connection.execute(select(inbox).where(at).with_for_update()).first()
    if row is not None and row.until > now:
        return Receipt.HANDLED if row.handled else Receipt.BUSY
    # One of two first comers inserts; for the other one it is a duplicate key, and begun again.
    noted = update(inbox).where(at) if row is not None else insert(inbox)
    values = {"message": _digest(message), "handled": False, "until": now + lease}
    connection.execute(noted.values(values))
    return Receipt.YOURS


def handled(connection: Connection, message: str, *, now: float) -> None:
    """Do what `IdempotencyStore.handled` says."""
    values = {"message": _digest(message), "handled": True, "until": now + INBOX_RETENTION}
    mine = update(inbox).where(inbox.c.message == values["message"])
    if not connection.execute(mine.values(values)).rowcount:
        connection.execute(insert(inbox).values(values))


def unhandled(connection: Connection, message: str) -> None:
    """Do what `IdempotencyStore.unhandled` says."""
    mine = and_(inbox.c.message == _digest(message), inbox.c.handled.is_(False))
    connection.execute(delete(inbox).where(mine))


def _digest(message: str) -> str:
    return hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()
