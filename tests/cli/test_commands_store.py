"""The command that writes the SQL of the tables, as an administrator meets it."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.cli.harness import Run
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_schema import VERSION
from wxpay_async.extras import how_to_install


async def test_printed_sql_makes_the_tables(run: Run, tmp_path: Path) -> None:
    """A shell of the database takes it as it is, and the store has all that it needs."""
    shown = run("store", "schema", "sqlite://", "--prefix", "shop_")
    assert (0, "") == (shown.code, shown.err)
    file = tmp_path / "store.db"
    with sqlite3.connect(file) as shell:
        shell.executescript(shown.out)
    shell.close()

    store = SqlStore(f"sqlite:///{file}", table_prefix="shop_", create=False)
    assert await store.load(("k", "r")) is None
    await store.aclose()


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("sqlite:///store.db", "content BLOB"),
        ("postgres://u:s3cr3t@db.example.com/shop", "content BYTEA"),
        ("postgresql+asyncpg://", "content BYTEA"),
        ("mysql://", "content MEDIUMBLOB"),
        ("mariadb+asyncmy://u:s3cr3t@db.example.com/shop?ssl=1", "COLLATE utf8mb4_bin"),
    ],
)
def test_sql_is_that_of_the_address(run: Run, url: str, written: str) -> None:
    """Nothing connects, so the host may be out of reach; a password is not shown."""
    shown = run("store", "schema", url)
    assert 0 == shown.code
    assert written in shown.out
    assert f"INSERT INTO wxpay_schema (version) VALUES ({VERSION});" in shown.out
    assert "s3cr3t" not in shown.out


def test_schema_and_prefix_are_in_every_statement(run: Run) -> None:
    """They are quoted where they have to be."""
    shown = run("store", "schema", "postgresql://", "--schema", "Pay", "--prefix", "shop_")
    assert 'CREATE TABLE "Pay".shop_operations (' in shown.out
    assert 'CREATE INDEX shop_operations_tend ON "Pay".shop_operations' in shown.out
    assert "wxpay_" not in shown.out


def test_upgrade_is_printed_from_a_version_on(run: Run) -> None:
    """Only what is new; from this release's version on there is nothing."""
    shown = run("store", "schema", "mysql://", "--from-version", "1", "--json").fields()
    assert VERSION == shown["version"]
    first, table, index, row = shown["statements"]
    assert first.startswith("ALTER TABLE wxpay_operations ADD COLUMN claim_token VARCHAR(64), ADD ")
    assert table.startswith("CREATE TABLE wxpay_callbacks (")
    assert index.startswith("CREATE INDEX wxpay_callbacks_until")
    assert row == f"INSERT INTO wxpay_schema (version) VALUES ({VERSION})"

    none = run("store", "schema", "mysql://", "--from-version", str(VERSION))
    assert (0, 1) == (none.code, len(none.out.splitlines()))
    assert none.out.endswith("nothing to do\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["redis://u:s3cr3t@h"], "error: URL: no address of a database; allowed: sqlite://"),
        (["u:s3cr3t@h"], "error: URL: "),
        (["sqlite://", "--schema", "pay"], "error: --schema: SQLite has no schemas"),
        (["mysql://", "--schema", "a;b"], "error: --schema: no name"),
        (["mysql://", "--prefix", "X"], "error: --prefix: no prefix"),
        (
            ["mysql://", "--from-version", "0"],
            f"--from-version: no version; allowed: 1 to {VERSION}",
        ),
        (["mysql://", "--from-version", "99"], "--from-version: no version"),
        ([], "Missing argument"),
    ],
)
def test_input_that_cannot_be_used_is_named(run: Run, arguments: list[str], named: str) -> None:
    """In one line, with exit code 2 and nothing on stdout."""
    shown = run("store", "schema", *arguments)
    assert 2 == shown.code
    assert named in shown.error()
    assert "s3cr3t" not in shown.err


def test_missing_library_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy belongs to an extra."""
    monkeypatch.setitem(sys.modules, "wxpay_async.adapters.stores.sql_schema", None)
    monkeypatch.delattr("wxpay_async.adapters.stores.sql_schema")
    assert how_to_install("sql") in run("store", "schema", "sqlite://").error()


def test_group_without_a_command_shows_its_help(run: Run) -> None:
    """As the program does."""
    shown = run("store")
    assert 0 == shown.code
    assert "schema" in shown.out


def test_json_is_one_line(run: Run) -> None:
    """Every statement is a text of its own, without a semicolon."""
    shown = run("store", "schema", "sqlite://", "--json")
    statements = json.loads(shown.out)["statements"]
    assert not any(each.endswith(";") for each in statements)
