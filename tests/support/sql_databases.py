"""Databases past the store: SQL of any kind, what a release executes, what is there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.contract.stores import RETENTION, Place
from tests.support.records import EVERY_FIELD, make_record
from wxpay_async.adapters.stores.rows import to_row
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_schema import Tables, find_dialect, make_tables, write_sql
from wxpay_async.policy.record import IdempotencyRecord

T = TypeVar("T")

VERSION_1: Final = """
CREATE TABLE wxpay_inbox (
    message VARCHAR(64) NOT NULL,
    handled BOOLEAN NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (message)
);
CREATE INDEX wxpay_inbox_until ON wxpay_inbox (until);
CREATE TABLE wxpay_operations (
    app_key VARCHAR(128) NOT NULL,
    request_id VARCHAR(64) NOT NULL,
    operation VARCHAR(32) NOT NULL,
    digest VARCHAR(64) NOT NULL,
    fields TEXT NOT NULL,
    out_trade_no TEXT,
    state VARCHAR(16) NOT NULL,
    epoch BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    in_doubt BOOLEAN NOT NULL,
    signed_at BIGINT,
    lease_until DOUBLE PRECISION NOT NULL,
    content BYTEA,
    status INTEGER,
    reply BYTEA,
    doubt_since DOUBLE PRECISION,
    next_check_at DOUBLE PRECISION,
    checks INTEGER NOT NULL,
    absent_at DOUBLE PRECISION,
    created_at DOUBLE PRECISION NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    tend_at DOUBLE PRECISION,
    PRIMARY KEY (app_key, request_id)
);
CREATE INDEX wxpay_operations_tend ON wxpay_operations (app_key, state, tend_at);
CREATE TABLE wxpay_schema (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
INSERT INTO wxpay_schema (version) VALUES (1)
"""
"""What release 0.1.0 executes on PostgreSQL; `write_version_1` knows the other databases."""

NEW_IN_2: Final = ("claim_token", "deviates_at", "deviation", "verdict")


def write_version_1(kind: str) -> list[str]:
    """Return what release 0.1.0 executes."""
    script = VERSION_1
    if kind == "sqlite":
        script = script.replace("DOUBLE PRECISION", "DOUBLE").replace("BYTEA", "BLOB")
    if kind == "mariadb":
        script = script.replace("DOUBLE PRECISION", "DOUBLE").replace("BYTEA", "MEDIUMBLOB")
        script = script.replace("BOOLEAN", "BOOL").replace(
            "\n);", "\n)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;"
        )
    return script.split(";\n")


ADDRESSES: Final = {"sqlite": "sqlite://", "postgres": "postgresql://", "mariadb": "mariadb://"}


def write_current(kind: str, *, version: int = 0, tables: Tables | None = None) -> list[str]:
    """Return what the command prints."""
    return write_sql(tables or make_tables(), find_dialect(ADDRESSES[kind]), version=version)


async def run_sql(url: str, *statements: str, **values: object) -> list[Any]:
    """Execute statements past the store; return the rows of the last one."""

    def work(connection: Connection) -> list[Any]:
        rows: list[Any] = []
        for statement in statements:
            result = connection.execute(text(statement), values)
            rows = list(result.all()) if result.returns_rows else []
        connection.commit()
        return rows

    return await use_connection(url, work)


async def read_layout(url: str, schema: str | None = None) -> dict[str, Any]:
    """Read what the tables are like: columns in any order, keys and indexes."""

    def work(connection: Connection) -> dict[str, Any]:
        look = inspect(connection)
        return {
            table: (
                {
                    (each["name"], each["type"]._type_affinity, each["nullable"])
                    for each in look.get_columns(table, schema)
                },
                look.get_pk_constraint(table, schema)["constrained_columns"],
                [(each["name"], each["column_names"]) for each in look.get_indexes(table, schema)],
            )
            for table in look.get_table_names(schema)
        }

    return await use_connection(url, work)


async def use_connection(url: str, work: Callable[[Connection], T]) -> T:
    """Do the work over a connection past the store."""
    if url.startswith("sqlite"):
        engine = create_engine(url)
        with engine.connect() as connection:
            found = work(connection)
        engine.dispose()
        return found
    there = create_async_engine(make_url(url))
    async with there.connect() as opened:
        found = await opened.run_sync(work)
    await there.dispose()
    return found


async def insert_version_1(place: Place, record: IdempotencyRecord) -> None:
    """Write a row as release 0.1.0 writes it."""
    row = {name: value for name, value in to_row(record).items() if name not in NEW_IN_2}
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    await run_sql(place.url, f"INSERT INTO wxpay_operations ({columns}) VALUES ({values})", **row)


def make_version_1_record(place: Place) -> IdempotencyRecord:
    """Make a record that has everything that version 1 keeps."""
    fields = {name: value for name, value in EVERY_FIELD.items() if name not in NEW_IN_2}
    return make_record("旧", app_key=place.app_key, **fields)


async def set_up_version_1(place: Place) -> IdempotencyRecord:
    """Leave the place as release 0.1.0 does, with one operation; return it."""
    await run_sql(place.url, *write_version_1(place.kind))
    record = make_version_1_record(place)
    await insert_version_1(place, record)
    return record


@contextlib.asynccontextmanager
async def open_store(url: str, **options: Any) -> AsyncGenerator[SqlStore]:  # noqa: ANN401 - the store's
    """Make a store and close it afterwards."""
    store = SqlStore(url, retention=RETENTION, **options)
    try:
        yield store
    finally:
        await store.aclose()
