"""Check the statements of each database: what they read, and what an old server refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from tests.adapters.stores.old_mysql import OldMysql
from tests.contract.stores import RETENTION, TABLES, Place, open_place
from tests.support.records import NOW
from tests.support.services import MYSQL
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.sql_parts import turn
from wxpay_async.adapters.stores.sql_statements import _PostgresStatements
from wxpay_async.adapters.stores.sql_tables import _make_rows
from wxpay_async.policy.states import State


async def test_tending_reads_no_more_than_it_has_to(place: Place) -> None:
    """Each of its queries goes through the index, and so does a claim through the key."""
    store = place.make_store()
    assert isinstance(store, SqlStore)
    claimed = await store.reserve(place.make_record())
    session = await store._open_session()
    plans: list[str] = []

    def explain_queries(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert raw is not None
        statements: list[str] = []
        raw.set_trace_callback(statements.append)
        store._work.due(connection, place.app_key, NOW, limit=5)
        store._work.forget(connection, place.app_key, NOW - RETENTION, limit=5)
        store._work.forget_entries(connection, NOW, limit=5)
        store._work.fetch_records(connection, [claimed.key])
        keys = [claimed.key, (place.app_key, "r2"), ("k", "r")]
        store._work.fetch_records(connection, keys)
        raw.set_trace_callback(None)
        for statement in statements:
            if statement.startswith(("SELECT", "DELETE")):
                rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                plans.append(" | ".join(row[3] for row in rows))

    await session.transact(explain_queries)

    assert not [plan for plan in plans if "SCAN" in plan]
    wanted = ["tend"] * 3 + ["until"] + ["autoindex_wxpay_operations"] * 3
    assert [True] * 7 == [name in plan for name, plan in zip(wanted, plans, strict=True)]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
async def test_list_of_what_is_open_reads_nothing_that_has_ended(kind: str, tmp_path: Path) -> None:
    """However much has ended: what is open is found by its state."""
    async with open_place(kind, tmp_path) as place:
        store = place.make_store()
        assert isinstance(store, SqlStore)
        ended = [place.make_record(f"r{n}", state=State.SUCCEEDED) for n in range(2_000)]
        opened = [place.make_record(f"o{n}", state=State.UNKNOWN) for n in range(3)]
        await asyncio.gather(*map(store.reserve, [*ended, *opened]))
        session = await store._open_session()
        plans: list[str] = []

        def explain_list(connection: Connection) -> None:
            if kind != "sqlite":  # whose statistics nobody gathers
                word = "TABLE " if kind == "mariadb" else ""
                connection.exec_driver_sql(f"ANALYZE {word}{TABLES[0]}")
            explain = "EXPLAIN QUERY PLAN" if kind == "sqlite" else "EXPLAIN"
            queries: list[tuple[str, Any]] = []

            def note(*call: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
                queries.append((call[2], call[3]))

            event.listen(connection, "before_cursor_execute", note)
            store._work.fetch_open(connection, app_key=place.app_key, after="o", limit=100)
            event.remove(connection, "before_cursor_execute", note)
            ((query, parameters),) = queries
            rows = connection.exec_driver_sql(f"{explain} {query}", parameters)
            plans.extend(str(tuple(row)) for row in rows)

        await session.transact(explain_list)

        assert "_tend" in "".join(plans), plans


async def test_end_of_an_attempt_is_not_looked_for_by_its_state(tmp_path: Path) -> None:
    """While few are under way PostgreSQL would rather read all that are, or were, in this state."""
    async with open_place("postgres", tmp_path) as place:
        store = place.make_store()
        assert isinstance(store, SqlStore)
        ended = [place.make_record(f"r{n}", state=State.SUCCEEDED) for n in range(500)]
        await asyncio.gather(*map(store.reserve, ended))
        session = await store._open_session()
        plan: list[str] = []

        def explain_end(connection: Connection) -> None:
            statements = store._work.statements
            assert isinstance(statements, _PostgresStatements)
            rows = turn(_make_rows(ended[:3]))
            connection.exec_driver_sql(f"ANALYZE {TABLES[0]}")
            plan.extend(connection.exec_driver_sql(f"EXPLAIN {statements._end}", rows).scalars())

        await session.transact(explain_end)

        assert "Update on" in plan[0]
        assert "_tend" not in "".join(plan)


async def test_server_without_skip_locked_is_served(tmp_path: Path) -> None:
    """MySQL 5.7 and MariaDB 10.5 refuse the words; payments and recovery go on without them."""
    async with open_place("mariadb", tmp_path) as place:
        old = OldMysql(MYSQL.address)
        async with old.listen() as port:
            store = place.make_store(url=place.make_url(port))
            doubtful = place.make_record("r1", state=State.UNKNOWN, next_check_at=NOW)
            finished = place.make_record("r2", state=State.SUCCEEDED)
            await asyncio.gather(store.reserve(doubtful), store.reserve(finished))
            wrote = await asyncio.gather(store.record(doubtful), store.record(finished))

            assert [doubtful] == await store.due(place.app_key, NOW)
            assert 1 == await store.forget(place.app_key, NOW + RETENTION)
            assert ([True, True], 1) == (wrote, old.refused)
            await store.aclose()
