"""Check how the tables of `SqlStore` are named, and how an administrator makes them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.contract.stores import Place, open_place
from tests.support.sql_databases import (
    ADDRESSES,
    open_store,
    read_layout,
    run_sql,
    set_up_version_1,
    write_current,
    write_version_1,
)
from tests.support.vectors import ROOT
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_schema import VERSION, find_dialect, make_tables
from wxpay_async.errors import InvalidRequestError, NotSentError

# An administrator makes the tables


async def test_store_that_may_not_create_says_which_command_does(anywhere: Place) -> None:
    """It changes nothing; when the SQL has been run, the same store works."""
    async with open_store(anywhere.url, create=False) as store:
        with pytest.raises(NotSentError, match="table wxpay_operations") as raised:
            await store.reserve(anywhere.make_record())
        assert "`wxpay-async store schema URL` prints the SQL" in str(raised.value)
        assert not raised.value.retryable
        assert {} == await read_layout(anywhere.url)

        await run_sql(anywhere.url, *write_current(anywhere.kind))
        record = await store.reserve(anywhere.make_record())
        assert record == await store.load(record.key)


async def test_printed_sql_makes_what_the_store_makes(anywhere: Place, tmp_path: Path) -> None:
    """The tables are the same, so a store that may create finds nothing to do."""
    await run_sql(anywhere.url, *write_current(anywhere.kind))
    printed = await read_layout(anywhere.url)
    (tmp_path / "new").mkdir()
    async with open_place(anywhere.kind, tmp_path / "new") as fresh:
        await fresh.make_store().load(("k", "r"))
        assert printed == await read_layout(fresh.url)


async def test_store_that_may_not_create_says_how_to_upgrade(anywhere: Place) -> None:
    """It names both versions and the command; the printed steps are enough."""
    record = await set_up_version_1(anywhere)
    before = await read_layout(anywhere.url)
    async with open_store(anywhere.url, create=False) as store:
        with pytest.raises(NotSentError, match="version 2, the tables are of version 1") as raised:
            await store.load(record.key)
        assert "store schema URL --from-version 1`" in str(raised.value)
        assert before == await read_layout(anywhere.url)

        await run_sql(anywhere.url, *write_current(anywhere.kind, version=1))
        assert record == await store.load(record.key)


async def test_store_that_may_not_create_names_what_is_missing(anywhere: Place) -> None:
    """Also one column, and one table that came without a version of its own."""
    await run_sql(
        anywhere.url,
        *write_current(anywhere.kind),
        "ALTER TABLE wxpay_operations DROP COLUMN verdict",
        "DROP TABLE wxpay_callbacks",
    )
    async with open_store(anywhere.url, create=False) as store:
        with pytest.raises(NotSentError) as raised:
            await store.load(("k", "r"))
    assert "columns verdict of wxpay_operations" in str(raised.value)
    assert "table wxpay_callbacks" in str(raised.value)


# Roles


@contextlib.asynccontextmanager
async def open_role(place: Place) -> AsyncGenerator[tuple[str, str]]:
    """Make a role that may connect, and nothing else; yields its address and its name for GRANT."""
    name = f"wxpay_{uuid.uuid4().hex[:16]}"
    url = make_url(place.url)
    if place.kind == "postgres":
        role, make = name, f"CREATE ROLE {name} LOGIN"
        drop = [f"DROP OWNED BY {name}", f"DROP ROLE {name}"]
    else:
        role = f"'{name}'@'%'"
        make, drop = f"CREATE USER {role}", [f"DROP USER {role}"]
    await run_sql(place.url, make)
    try:
        yield url.set(username=name, password=None).render_as_string(), role
    finally:
        await run_sql(place.url, *drop)


async def grant(place: Place, role: str, *rights: str) -> None:
    """Give the role what the error names."""
    await run_sql(place.url, *(f"GRANT {right} TO {role}" for right in rights))


READ_AND_WRITE: Final = (
    "SELECT, INSERT, UPDATE, DELETE ON wxpay_operations",
    "SELECT, INSERT, UPDATE, DELETE ON wxpay_callbacks",
    "SELECT ON wxpay_schema",
)


@pytest.mark.parametrize("create", [True, False])
async def test_role_that_may_not_create_tables_works(server: Place, *, create: bool) -> None:
    """The tables are there, and it may read and write their rows."""
    await run_sql(server.url, *write_current(server.kind))
    async with open_role(server) as (url, role):
        await grant(server, role, *READ_AND_WRITE)
        async with open_store(url, create=create) as store:
            record = await store.reserve(server.make_record())
            assert record == await store.load(record.key)
            assert await store.swap("m", version=None, value="", now=0.0)
            assert [] == await store.due(server.app_key, 0.0)


async def test_role_without_rights_is_told_what_to_grant(server: Place) -> None:
    """Right at the first call, whichever right is missing; once it is granted the store works."""
    await run_sql(server.url, *write_current(server.kind))
    async with open_role(server) as (url, role), open_store(url, create=False) as store:
        rights = [*READ_AND_WRITE]
        if server.kind == "mariadb":  # a role without any right does not see the database
            await grant(server, role, rights.pop())
        else:
            await run_sql(server.url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
            rights.insert(0, "USAGE ON SCHEMA public")
        for right in rights:
            with pytest.raises(NotSentError, match="SELECT, INSERT, UPDATE and DELETE on") as told:
                await store.reserve(server.make_record())
            assert "wxpay_operations and wxpay_callbacks" in str(told.value)
            assert not told.value.retryable
            await grant(server, role, right)
        assert await store.reserve(server.make_record())


async def test_rights_of_the_page_are_enough(tmp_path: Path) -> None:
    """As they are printed in `docs/database.md`, for a schema that the role does not own."""
    page = (ROOT / "docs" / "database.md").read_text(encoding="utf-8")
    [rights] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    async with (
        open_place("postgres", tmp_path) as place,
        open_schema(place, "pay") as schema,
        open_role(place) as (url, role),
    ):
        await run_sql(place.url, *write_current("postgres", tables=make_tables(schema=schema)))
        await run_sql(place.url, *rights.replace("TO shop", f"TO {role}").strip(";\n").split(";"))
        async with open_store(url, schema=schema, create=False) as store:
            record = await store.reserve(place.make_record())
            assert record == await store.load(record.key)


async def test_each_right_is_tried_before_the_first_payment(server: Place) -> None:
    """A role that may not delete does not learn it in the middle of a night."""
    await run_sql(server.url, *write_current(server.kind))
    async with open_role(server) as (url, role), open_store(url) as store:
        await grant(server, role, *READ_AND_WRITE)
        for table in ("wxpay_operations", "wxpay_callbacks"):
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                await run_sql(server.url, f"REVOKE {right} ON {table} FROM {role}")
                with pytest.raises(NotSentError, match="may not do this: grant the store"):
                    await store.load(("k", "r"))
                await grant(server, role, f"{right} ON {table}")
        assert await store.load(("k", "r")) is None


async def test_role_that_should_create_and_may_not_is_told_the_command(server: Place) -> None:
    """Also when it would have to upgrade."""
    async with open_role(server) as (url, role), open_store(url) as store:
        if server.kind == "mariadb":
            database = make_url(server.url).database
            await grant(server, role, f"SELECT ON {database}.*")
        with pytest.raises(NotSentError, match="may not do this: the store needs table") as told:
            await store.load(("k", "r"))
        assert "`wxpay-async store schema URL` prints the SQL" in str(told.value)

        await run_sql(server.url, *write_version_1(server.kind))
        await grant(server, role, "SELECT, INSERT ON wxpay_schema", "SELECT ON wxpay_operations")
        with pytest.raises(NotSentError, match="--from-version 1` prints the SQL"):
            await store.load(("k", "r"))


# Names


async def test_tables_can_have_another_prefix(anywhere: Place) -> None:
    """Two prefixes are two stores in one database, each with its own tables and indexes."""
    record = anywhere.make_record()
    async with open_store(anywhere.url, table_prefix="shop_") as shop:
        await shop.reserve(record)
        assert await anywhere.make_store().load(record.key) is None
        assert record == await shop.load(record.key)
        assert [] == await shop.due(anywhere.app_key, 0.0)
    layout = await read_layout(anywhere.url)
    assert {"shop_schema", "shop_operations", "shop_callbacks"} < set(layout)
    assert ["shop_operations_tend"] == [name for name, _ in layout["shop_operations"][2]]


@contextlib.asynccontextmanager
async def open_schema(place: Place, name: str) -> AsyncGenerator[str]:
    """Make a schema, which with MariaDB is a database."""
    quote = '"' if place.kind == "postgres" else "`"
    await run_sql(place.url, f"CREATE SCHEMA {quote}{name}{quote}")
    try:
        yield name
    finally:
        await place.close()
        cascade = " CASCADE" if place.kind == "postgres" else ""
        await run_sql(place.url, f"DROP SCHEMA {quote}{name}{quote}{cascade}")


@pytest.mark.parametrize("name", ["pay{}", "Order-{}"])
async def test_tables_can_be_in_another_schema(server: Place, name: str) -> None:
    """Made and upgraded there, with names that need quotes, too."""
    async with open_schema(server, name.format(uuid.uuid4().hex[:8])) as schema:
        tables = make_tables(schema=schema, prefix="p_")
        record = server.make_record()
        stores = [SqlStore(server.url, schema=schema, table_prefix="p_") for _ in range(4)]
        try:
            await asyncio.gather(*(store.reserve(record) for store in stores))
            await stores[0].aclose()
            quoted = find_dialect(ADDRESSES[server.kind]).identifier_preparer.format_table
            await run_sql(
                server.url,
                f"ALTER TABLE {quoted(tables.operations)} DROP COLUMN verdict",
                f"DROP TABLE {quoted(tables.callbacks)}",
                f"UPDATE {quoted(tables.version)} SET version = 1",
            )
            assert record == await stores[0].load(record.key)
        finally:
            for store in stores:
                await store.aclose()
        assert {"p_schema", "p_operations", "p_callbacks"} == set(
            await read_layout(server.url, schema)
        )
        assert {} == await read_layout(server.url)


@pytest.mark.parametrize("create", [True, False])
async def test_schema_that_does_not_exist_is_named(server: Place, *, create: bool) -> None:
    """It is for the administrator to make."""
    async with open_store(server.url, schema="nowhere", create=create) as store:
        with pytest.raises(NotSentError, match="nowhere") as told:
            await store.load(("k", "r"))
    assert "wxpay-async store schema URL --schema nowhere`" in str(told.value)


@pytest.mark.parametrize("prefix", ["", "Shop_", "1_", "a-b", 'x"', "a" * 41, "订单_"])
def test_prefix_that_cannot_be_used_is_refused(prefix: str) -> None:
    """The error names the field and what is allowed."""
    with pytest.raises(InvalidRequestError, match=r"table_prefix: .*allowed: 1 to 40 of a-z"):
        SqlStore("sqlite:///never-opened.db", table_prefix=prefix)


@pytest.mark.parametrize("schema", ["", "1", "a.b", 'x"; --', "a" * 64, "支付", "a'b", "a\n"])
def test_schema_that_cannot_be_used_is_refused(schema: str) -> None:
    """The error names the field and what is allowed."""
    with pytest.raises(InvalidRequestError, match=r"schema: .*allowed: 1 to 63 of A-Z"):
        SqlStore("postgresql://h/d", schema=schema)


def test_sqlite_has_no_schema() -> None:
    """It says what to use instead."""
    with pytest.raises(InvalidRequestError, match="SQLite has no schemas; allowed: none; name"):
        SqlStore("sqlite:///never-opened.db", schema="pay")


# A merchant's engine


async def test_engine_of_a_merchant_is_used(server: Place) -> None:
    """With the tables in his schema; closing the store leaves the engine to him."""
    engine = create_async_engine(server.url, pool_size=2, max_overflow=0)
    async with open_schema(server, f"pay_{uuid.uuid4().hex[:8]}") as schema:
        store = SqlStore(engine=engine, schema=schema)
        records = [server.make_record(f"r{n}") for n in range(20)]
        assert records == await asyncio.gather(*(store.reserve(each) for each in records))
        await store.aclose()
        assert records[0] == await store.load(records[0].key)
        await store.aclose()
        async with engine.connect() as connection:
            assert 1 == await connection.scalar(text("SELECT 1"))
        await engine.dispose()


async def test_engine_that_may_cut_values_is_refused(tmp_path: Path) -> None:
    """MySQL without strict mode would store the beginning of a value that is too long."""
    async with open_place("mariadb", tmp_path) as place:
        lax = {"init_command": "SET SESSION sql_mode = ''"}
        engine = create_async_engine(place.url, connect_args=lax)
        store = SqlStore(engine=engine)
        with pytest.raises(NotSentError, match="need STRICT_ALL_TABLES in their sql_mode"):
            await store.reserve(place.make_record())
        await store.aclose()
        await engine.dispose()


async def test_store_needs_an_address_or_an_engine() -> None:
    """One of them: the other one would be passed over without a word."""
    engine = create_async_engine("postgresql+asyncpg://u:s3cr3t@h:1/d")
    for store in ({}, {"url": "sqlite://", "engine": engine}):
        with pytest.raises(InvalidRequestError, match="url: give either an address or an engine"):
            SqlStore(**store)  # type: ignore[arg-type]
    shown = repr(SqlStore(engine=engine))
    assert "postgresql+asyncpg://h:1/d" in shown
    assert "s3cr3t" not in shown


def test_address_may_be_a_url_of_sqlalchemy() -> None:
    """So a password needs no quoting."""
    store = SqlStore(URL.create("postgresql", username="u", password="p@s", host="h", database="d"))
    assert "postgresql+asyncpg" == store.url.drivername
    assert "p@s" == store.url.password


# The SQL


@pytest.mark.parametrize("kind", ADDRESSES)
def test_upgrade_from_this_version_has_no_steps(kind: str) -> None:
    """And one from version 1 has no CREATE of what version 1 had."""
    assert [] == write_current(kind, version=VERSION)
    upgrade = write_current(kind, version=1)
    assert 1 == sum("CREATE TABLE" in each for each in upgrade)
    assert "INSERT INTO wxpay_schema (version) VALUES (2)" == upgrade[-1]


def test_statements_quote_the_names() -> None:
    """A schema may be a word of SQL."""
    tables = make_tables(schema="order", prefix="p_")
    script = "\n".join(write_current("postgres", tables=tables))
    assert 'CREATE TABLE "order".p_operations' in script
    assert 'INSERT INTO "order".p_schema (version) VALUES (2)' in script
    assert not re.search(r"(?<!\")order\.", script)


def test_sqlite_shell_takes_the_printed_sql() -> None:
    """Each statement ends with a semicolon when they are joined."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(";\n".join(write_current("sqlite")))
    connection.executescript(";\n".join(write_current("sqlite", version=VERSION)))
    assert [(VERSION,)] == connection.execute("SELECT version FROM wxpay_schema").fetchall()
    connection.close()
