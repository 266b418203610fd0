"""Define the tables of `SqlStore`: their columns, their version, and how they are made.

`make_tables` makes them as values, since a merchant may keep them in a schema of his own or under
another prefix. `tend_at` says when a sweep must look at a row (`rows.find_tend_time`); a row that
must be left alone has none. One index serves all of these times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, Final

import attrs
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects.mysql import MEDIUMBLOB

from wxpay_async.adapters.stores.failures import NewerSchemaError

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

# A binary collation, because requestIds that differ in case are two ids. MEDIUMBLOB below, because
# a plain BLOB of MySQL holds one byte less than 64 KB.
_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
_BYTES: Final = LargeBinary().with_variant(MEDIUMBLOB(), "mysql")

_DURABLE: Final = {
    "postgresql": "SELECT current_setting('synchronous_commit') <> 'off'"
    " AND current_setting('fsync') = 'on'",
    "mysql": "SELECT @@innodb_flush_log_at_trx_commit = 1",
}
"""Asks a server whether it writes every commit through before it reports it."""


@attrs.frozen(kw_only=True)
class Tables:
    """The tables, as SQLAlchemy knows them.

    Attributes:
        metadata: all of them.
        version: which version they have.
        operations: one row for each operation.
        callbacks: what callbacks have told, one row for each order.
    """

    metadata: MetaData
    version: Table
    operations: Table
    callbacks: Table


def make_tables(*, schema: str | None = None, prefix: str = "wxpay_") -> Tables:
    """Define the tables.

    Args:
        schema: where they are; None is where the connection is.
        prefix: how their names, and those of their indexes, begin.
    """
    metadata = MetaData(schema=schema)
    return Tables(
        metadata=metadata,
        version=Table(
            f"{prefix}schema",
            metadata,
            Column("version", Integer, primary_key=True, autoincrement=False),
            **_OPTIONS,
        ),
        operations=Table(
            f"{prefix}operations",
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
            Index(f"{prefix}operations_tend", "app_key", "state", "tend_at"),
            **_OPTIONS,
        ),
        callbacks=Table(
            f"{prefix}callbacks",
            metadata,
            Column("digest", String(64), primary_key=True),  # of the key
            Column("version", BigInteger, nullable=False),
            Column("value", Text, nullable=False),
            Column("until", Double, nullable=False),
            Index(f"{prefix}callbacks_until", "until"),
            **_OPTIONS,
        ),
    )


def prepare_tables(connection: Connection, tables: Tables) -> bool:
    """Create the tables that are missing; tell whether the server keeps its commits.

    Raises:
        NewerSchemaError: the tables are of a later version.
    """
    with _schema_lock(connection):
        _create_tables(connection, tables)
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


def _create_tables(connection: Connection, tables: Tables) -> None:
    schema = tables.version
    found = inspect(connection).has_table(schema.name, schema=schema.schema)
    # The highest: an upgrade may leave the row of the version before beside its own.
    version = connection.scalar(select(func.max(schema.c.version))) if found else None
    if version is not None and version > VERSION:
        raise NewerSchemaError(version, VERSION)
    tables.metadata.create_all(connection)  # those that are missing
    if version is None:
        connection.execute(insert(schema).values(version=VERSION))
    elif version < VERSION:
        _upgrade_tables(connection, tables, version)


def _upgrade_tables(connection: Connection, tables: Tables, version: int) -> None:
    # First the row: of two processes that upgrade at once the later one meets a duplicate key,
    # begins again and finds nothing left to do.
    connection.execute(insert(tables.version).values(version=VERSION))
    for later in range(version + 1, VERSION + 1):
        for column in _ADDED[later]:
            connection.execute(
                text(f"ALTER TABLE {tables.operations.fullname} ADD COLUMN {column}")
            )
