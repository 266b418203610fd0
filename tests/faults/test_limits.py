"""Servers that refuse: a full disk, a read-only database, a login without rights."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from attrs import define
from sqlalchemy import event
from sqlalchemy.pool import Pool

from tests.contract.stores import claim_new
from tests.faults.rigs import SHOP, SQL, Rig, Rigs
from tests.faults.till import AT_ONCE, PATIENCE, RECOVERED_WITHIN, Till, open_till
from tests.support.records import make_record
from tests.support.sql_servers import find_disk, open_mariadb, open_postgres
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.errors import NotSentError
from wxpay_async.policy.states import State

TABLES = ("wxpay_operations", "wxpay_callbacks", "wxpay_schema")


@contextlib.asynccontextmanager
async def serve(store: Store) -> AsyncGenerator[Till]:
    """Open a till over a store, and close both."""
    async with open_till(store) as till:
        yield till
    await store.aclose()


# SQLite


@define(eq=False)
class Pragmas:
    """What is set in every connection to a SQLite file before it is used."""

    commands: tuple[str, ...] = ()

    def apply(self, connection: Any, *_: object) -> None:  # noqa: ANN401 - a driver's
        """Set it."""
        for command in self.commands:
            connection.execute(f"PRAGMA {command}")


@pytest.fixture
def pragmas() -> Iterator[Pragmas]:
    """Give settings that a test changes while a store is at work."""
    made = Pragmas()
    event.listen(Pool, "checkout", made.apply)
    yield made
    event.remove(Pool, "checkout", made.apply)


@pytest.mark.parametrize(
    ("fault", "cure"),
    [
        pytest.param(("max_page_count = 1",), ("max_page_count = 1000000",), id="full disk"),
        pytest.param(("query_only = ON",), ("query_only = OFF",), id="read-only"),
    ],
)
async def test_file_that_takes_no_writes(
    tmp_path: Path, pragmas: Pragmas, fault: tuple[str, ...], cure: tuple[str, ...]
) -> None:
    """A file that is full or read-only: no word is wrong, and with its end all goes on."""
    async with serve(SqlStore(f"sqlite:///{tmp_path / 'store.db'}")) as till:
        async with till.busy():
            pragmas.commands = fault
            await till.wait_for_failures()
            pragmas.commands = cure
            recovery = await till.recover()
        await till.check_words()
        till.report(f"sqlite {fault[0]}", recovery)

    assert recovery < RECOVERED_WITHIN


# Servers


async def test_redis_that_is_full(rigs: Rigs) -> None:
    """It refuses writes and evicts nothing (`noeviction`): no word is wrong."""
    rig = await rigs.open("redis")
    async with serve(rig.make_store()) as till:
        try:
            async with till.busy():
                await rig.run("CONFIG SET maxmemory 1")
                await till.wait_for_failures()
                await rig.run("CONFIG SET maxmemory 0")
                recovery = await till.recover()
        finally:
            await rig.run("CONFIG SET maxmemory 0")
        await till.check_words()
        till.report("redis full", recovery)

    assert recovery < RECOVERED_WITHIN


async def test_redis_that_is_full_takes_outcomes_and_no_new_operations(rigs: Rigs) -> None:
    """What was sent already is written down; what could not be is not begun."""
    rig = await rigs.open("redis")
    store = rig.make_store()
    claimed = await claim_new(store, make_record("begun"))
    done = attrs.evolve(claimed, state=State.SUCCEEDED, reply=b"ok")
    try:
        await rig.run("CONFIG SET maxmemory 1")
        with pytest.raises(NotSentError):
            await store.reserve(make_record("new"))
        written = await store.record(done)
    finally:
        await rig.run("CONFIG SET maxmemory 0")
    new, begun = [await store.load(make_record(name).key) for name in ("new", "begun")]
    await store.aclose()

    assert (True, None, done) == (written, new, begun)


@contextlib.contextmanager
def full_disk(disk: Path) -> Iterator[None]:
    """Take what room there is, until the end of the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1_000_000, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    try:
        yield
    finally:
        ballast.unlink()


SMALL_DISK: Final = 160
"""Megabytes; either database needs most of them for itself."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", SQL)
async def test_disk_of_a_database_that_is_full(rigs: Rigs, kind: str) -> None:
    """Tables cannot grow: no word is wrong, and when there is room again all goes on by itself."""
    start = open_mariadb if kind == "mariadb" else open_postgres
    with start(disk=SMALL_DISK) as server:
        rig = await rigs.open(kind, server)
        async with serve(rig.make_store()) as till:
            async with till.busy():
                with full_disk(find_disk(server)):
                    await till.wait_for_failures(5 * AT_ONCE)
                recovery = await till.recover()
            await till.check_words()
            till.report(f"{kind} full disk", recovery)
        assert server.is_running()

    assert recovery < RECOVERED_WITHIN


@pytest.mark.slow
async def test_mariadb_that_waits_for_room_in_its_binary_log(rigs: Rigs) -> None:
    """It stops, and looks again every 60 s; calls end by their own time, with words that are true.

    When it goes on, so does the same store.
    """
    with open_mariadb("--log-bin", disk=SMALL_DISK) as server:
        rig = await rigs.open("mariadb", server)
        async with serve(rig.make_store()) as till:
            await till.give_back()
            with full_disk(find_disk(server)):
                async with asyncio.timeout(PATIENCE):  # a call has 30 s
                    told = await asyncio.gather(*(till.give_back() for _ in range(AT_ONCE)))
            async with asyncio.timeout(2 * PATIENCE):
                while (await till.give_back()).error:
                    pass
            await till.check_words()
        assert server.is_running()

    assert None not in {each.error for each in told}


READ_ONLY = {
    "postgres": (
        ("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"),
        (
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        ),
    ),
    "mariadb": (("SET GLOBAL read_only = 1",), ("SET GLOBAL read_only = 0",)),
    "redis": (("REPLICAOF 127.0.0.1 1",), ("REPLICAOF NO ONE",)),
}
READ_ONLY["psycopg"] = READ_ONLY["postgres"]


async def test_server_that_is_read_only_for_a_while(rig: Rig) -> None:
    """Old connections and new ones answer that nothing can be written; later they can."""
    begin, end = READ_ONLY[rig.kind]
    async with serve(rig.make_store()) as till:
        try:
            async with till.busy():
                await rig.run(*begin)
                await till.wait_for_failures()
                await rig.run(*end)
                recovery = await till.recover()
        finally:
            await rig.run(*end)
        await till.check_words()
        till.report(f"{rig.kind} read-only", recovery)

    assert recovery < RECOVERED_WITHIN


@pytest.mark.parametrize("rig", SQL, indirect=True)
async def test_login_whose_rights_are_taken_away(rig: Rig) -> None:
    """Nothing is sent that could not be written down; when the rights are back, all goes on."""
    store = rig.make_store()
    async with serve(store) as till:
        async with till.busy():
            await take_rights(rig)
            await till.wait_for_failures()
            await give_rights(rig)
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind} rights taken away", recovery)

    assert recovery < RECOVERED_WITHIN


async def take_rights(rig: Rig) -> None:
    """Leave the shop nothing but to read."""
    if rig.is_postgres:
        await rig.run(*(f"REVOKE INSERT, UPDATE, DELETE ON {name} FROM {SHOP}" for name in TABLES))
    else:
        await rig.run(
            f"REVOKE ALL ON {rig.database}.* FROM {SHOP}@'%'",
            f"GRANT SELECT ON {rig.database}.* TO {SHOP}@'%'",
        )
        await rig.end_connections()  # rights are looked up when a connection begins


async def give_rights(rig: Rig) -> None:
    """Give the rights back."""
    if rig.is_postgres:
        await rig.run(*(f"GRANT ALL ON {name} TO {SHOP}" for name in TABLES))
    else:
        await rig.run(f"GRANT ALL ON {rig.database}.* TO {SHOP}@'%'")
        await rig.end_connections()


async def test_redis_login_whose_rights_are_taken_away(rigs: Rigs) -> None:
    """A login that may run no scripts: nothing is sent that could not be written down."""
    rig = await rigs.open("redis")
    async with serve(rig.make_store()) as till:
        try:
            async with till.busy():
                await rig.run("ACL SETUSER default -@scripting")
                await till.wait_for_failures()
                await rig.run("ACL SETUSER default +@all")
                recovery = await till.recover()
        finally:
            await rig.run("ACL SETUSER default +@all")
        await till.check_words()
        till.report("redis rights taken away", recovery)

    assert recovery < RECOVERED_WITHIN


@pytest.mark.parametrize("rig", SQL, indirect=True)
async def test_login_that_may_not_make_tables(rig: Rig) -> None:
    """Nothing is sent, and it is noticed when an operator has made them."""
    await make_guest(rig)
    async with serve(rig.make_store(user=GUEST)) as till:
        async with till.busy(healthy=False):
            await till.wait_for_failures()
            sent = [told for told in till.told if till.executed(told)]
            operator = rig.make_store()
            await operator.load(("k", "r"))  # makes the tables
            await operator.aclose()
            await welcome_guest(rig)
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind} tables made later", recovery)

    assert [] == sent
    assert recovery < RECOVERED_WITHIN


GUEST = "guest"


async def make_guest(rig: Rig) -> None:
    """Make a login that may read and write what is there, and make nothing."""
    if rig.is_postgres:
        [[known]] = await rig.run(f"SELECT count(*) FROM pg_roles WHERE rolname = '{GUEST}'")
        await rig.run(*(() if known else (f"CREATE ROLE {GUEST} LOGIN",)))
    else:
        await rig.run(
            f"CREATE USER IF NOT EXISTS {GUEST}@'%'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {rig.database}.* TO {GUEST}@'%'",
        )


async def welcome_guest(rig: Rig) -> None:
    """Let the guest use the tables that are there by now."""
    if rig.is_postgres:
        await rig.run(*(f"GRANT ALL ON {name} TO {GUEST}" for name in TABLES))
