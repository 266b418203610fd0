"""Define the tables of `SqlStore`: columns, version, and the SQL that makes or upgrades them.

`make_tables` makes them as values, since a merchant may keep them in a schema of his own or under
another prefix. `tend_at` says when a sweep must look at a row (`rows.find_tend_time`); a row that
must be left alone has none. One index serves all of these times.

What is executed and what `wxpay-async store schema` prints is the same SQL, by `write_sql`. To
change the tables: change `make_tables`, raise `VERSION`, and say in `_UPGRADES` what is new. An
upgrade leaves out what is there already, because MySQL commits each statement by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import attrs
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.dialects.mysql import MEDIUMBLOB
from sqlalchemy.schema import CreateIndex, CreateTable

from wxpay_async.errors import InvalidRequestError

VERSION: Final = 2
"""The version of the tables. A release that changes them raises it."""

PREFIX: Final = "wxpay_"

Layout = Mapping[str, Collection[str]]
"""The tables that exist by their names, each with the names of its columns and indexes."""

_NAMES: Final = frozenset({"schema", "operations", "callbacks", "inbox"})
"""Every table that a version has had, without the prefix.

Version 1 had `inbox`. An upgrade leaves it to the processes that still run the earlier release.
"""

_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}")
_PREFIX: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")  # with the name of an index: 63 at most

# A binary collation, because requestIds that differ in case are two ids. MEDIUMBLOB below, because
# a plain BLOB of MySQL holds one byte less than 64 KB.
_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
_BYTES: Final = LargeBinary().with_variant(MEDIUMBLOB(), "mysql")


@attrs.frozen(kw_only=True)
class _Upgrade:
    """What a version has that the one before did not have.

    Attributes:
        tables: by their names without the prefix.
        columns: for each table what is written after ADD COLUMN, in words that every database
            knows. It stays as it is when a later version changes the column again.
    """

    tables: tuple[str, ...]
    columns: Mapping[str, Mapping[str, str]]


_UPGRADES: Final = {
    2: _Upgrade(
        tables=("callbacks",),
        columns={
            "operations": {
                "claim_token": "VARCHAR(64)",
                "deviates_at": "DOUBLE PRECISION",
                "deviation": "VARCHAR(16)",
                "verdict": "TEXT",
            }
        },
    ),
}


@attrs.frozen(kw_only=True)
class Tables:
    """The tables, as SQLAlchemy knows them.

    Attributes:
        metadata: all of them, and the schema that they are in.
        prefix: how their names begin.
        version: which version they have.
        operations: one row for each operation.
        callbacks: what callbacks have told, one row for each order.
    """

    metadata: MetaData
    prefix: str
    version: Table
    operations: Table
    callbacks: Table

    def find(self, name: str) -> Table:
        """Return a table by its name without the prefix."""
        return next(t for t in self.metadata.sorted_tables if t.name == f"{self.prefix}{name}")


def make_tables(*, schema: str | None = None, prefix: str = PREFIX) -> Tables:
    """Define the tables.

    Args:
        schema: where they are; None is where the connection is.
        prefix: how their names, and those of their indexes, begin.
    """
    metadata = MetaData(schema=schema)
    return Tables(
        metadata=metadata,
        prefix=prefix,
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


def check_names(backend: str, *, schema: str | None, prefix: str) -> None:
    """Check the names that a merchant chose.

    Raises:
        InvalidRequestError: the database has no such names.
    """
    if schema is not None and backend == "sqlite":
        raise InvalidRequestError(
            "SQLite has no schemas", field="schema", allowed="none; name another file instead"
        )
    if schema is not None and not _SCHEMA.fullmatch(schema):
        raise InvalidRequestError(
            "no name of a schema",
            field="schema",
            allowed="1 to 63 of A-Z, a-z, 0-9, _, $ and -, the first a letter or _",
        )
    if not _PREFIX.fullmatch(prefix):
        raise InvalidRequestError(
            "no prefix of tables",
            field="table_prefix",
            allowed="1 to 40 of a-z, 0-9 and _, the first a letter or _",
        )


def find_dialect(url: str) -> Dialect:
    """Return the dialect of a database's address; no driver is needed.

    Raises:
        InvalidRequestError: it is no address of a database. It is not repeated in the text, since
            it may hold a password.
    """
    backend = url.partition(":")[0].partition("+")[0].lower()
    makers: dict[str, Callable[[], Dialect]] = {
        "sqlite": sqlite.dialect,
        "postgresql": postgresql.dialect,
        "postgres": postgresql.dialect,
        "mysql": mysql.dialect,
        "mariadb": mysql.dialect,
    }
    if backend not in makers:
        allowed = ", ".join(f"{name}://" for name in makers)
        raise InvalidRequestError("no address of a database", field="url", allowed=allowed)
    return makers[backend]()


def write_sql(
    tables: Tables, dialect: Dialect, *, version: int = 0, found: Layout | None = None
) -> list[str]:
    """Write the statements that make the tables, or upgrade them.

    The row of the version is the last one, so that it is there only if all of them are.

    Args:
        tables: what shall be there.
        dialect: for which database.
        version: which version is there; 0 is none.
        found: what is there; by default what belongs to that version.
    """
    there = _find_layout(tables, version) if found is None else found
    statements: list[str] = []
    for number in sorted(_UPGRADES):
        for name, columns in _UPGRADES[number].columns.items():
            table = tables.find(name)
            has = there.get(table.name)
            new = {} if has is None else {c: kind for c, kind in columns.items() if c not in has}
            statements += _write_columns(table, dialect, new)
    for table in tables.metadata.sorted_tables:
        if table.name not in there:
            statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        statements += [
            str(CreateIndex(index).compile(dialect=dialect)).strip()
            for index in table.indexes
            if index.name not in there.get(table.name, ())
        ]
    if version < VERSION:
        name = dialect.identifier_preparer.format_table(tables.version)
        statements.append(f"INSERT INTO {name} (version) VALUES ({VERSION})")  # noqa: S608 - quoted
    return statements


def write_command(tables: Tables, *, version: int = 0) -> str:
    """Write the command that prints the same for an administrator."""
    words = ["wxpay-async store schema URL"]
    if tables.metadata.schema is not None:
        words.append(f"--schema {tables.metadata.schema}")
    if tables.prefix != PREFIX:
        words.append(f"--prefix {tables.prefix}")
    if version:
        words.append(f"--from-version {version}")
    return " ".join(words)


def list_missing(tables: Tables, found: Layout) -> list[str]:
    """List the tables and columns that are not there, in words."""
    missing: list[str] = []
    for table in tables.metadata.sorted_tables:
        columns = [c.name for c in table.columns if c.name not in found.get(table.name, ())]
        if table.name not in found:
            missing.append(f"table {table.fullname}")
        elif columns:
            missing.append(f"columns {', '.join(columns)} of {table.fullname}")
    return missing


def _write_columns(table: Table, dialect: Dialect, columns: Mapping[str, str]) -> list[str]:
    name = dialect.identifier_preparer.format_table(table)
    words = [f"ADD COLUMN {column} {kind}" for column, kind in columns.items()]
    if words and dialect.name != "sqlite":
        words = [", ".join(words)]  # an old MySQL copies the table for each statement
    return [f"ALTER TABLE {name} {each}" for each in words]


def _find_layout(tables: Tables, version: int) -> Layout:
    """Tell what belongs to a version."""
    if not version:
        return {}
    later = [upgrade for number, upgrade in _UPGRADES.items() if number > version]
    layout: dict[str, Collection[str]] = {}
    for table in tables.metadata.sorted_tables:
        name = table.name.removeprefix(tables.prefix)
        if not any(name in upgrade.tables for upgrade in later):
            new = {column for upgrade in later for column in upgrade.columns.get(name, ())}
            indexes = {str(index.name) for index in table.indexes}
            layout[table.name] = {*table.c.keys(), *indexes} - new
    return layout


def alembic_filter(table_prefix: str = PREFIX) -> Callable[..., bool]:
    """Make a function that keeps Alembic from dropping the tables of `SqlStore`.

    They are in the merchant's database, but not in his models, so `alembic revision --autogenerate`
    takes them for tables that were removed. In the `env.py` of the migrations:

        context.configure(..., include_object=alembic_filter())

    Args:
        table_prefix: as `SqlStore` has it.

    Returns:
        What Alembic's `include_object` takes: it tells that a table is not to be compared.
    """
    names = {f"{table_prefix}{name}" for name in _NAMES}

    def include_object(_item: object, name: str | None, kind: str, *_: object) -> bool:
        return not (kind == "table" and name in names)

    return include_object
