"""Failovers: connections that live on, and lead to a server that takes no writes any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator

import pytest

from tests.faults.line import Line
from tests.faults.rigs import SHOP, SQL, Rig, Rigs
from tests.faults.till import RECOVERED_WITHIN, open_till
from tests.support.servers import Sentinel, wait_until
from wxpay_async.adapters.stores.redis import RedisStore


@pytest.fixture
def sentinel(rigs: Rigs) -> Iterator[Sentinel]:
    """Give two Redis servers and their Sentinel, who agree with each other."""
    yield rigs.sentinel
    for node in rigs.sentinel.nodes:
        if not node.is_running():
            node.start()
    wait_until(rigs.sentinel.is_settled)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["switched", "killed"])
async def test_failover_by_sentinel(sentinel: Sentinel, *, killed: bool) -> None:
    """The store asks for the new master by itself; what was lost with the old one is no lie."""
    former = sentinel.master
    store = RedisStore(sentinel.url)
    async with open_till(store) as till:
        async with till.busy():
            if killed:
                former.kill()
                await asyncio.to_thread(wait_until, lambda: sentinel.master is not former)
            else:
                await asyncio.to_thread(sentinel.fail_over)
            recovery = await till.recover()
        await till.check_words(lost=True)
        till.report(f"sentinel, master {'killed' if killed else 'switched'}", recovery)
    await store.aclose()

    assert recovery < RECOVERED_WITHIN


@pytest.mark.slow
async def test_failover_behind_one_address_of_redis(sentinel: Sentinel) -> None:
    """A pooled connection that answers READONLY is left for a new one, which leads elsewhere."""
    async with Line(sentinel.master.port) as line:
        store = RedisStore(f"redis://127.0.0.1:{line.port}/0")
        async with open_till(store) as till:
            async with till.busy():
                await asyncio.to_thread(sentinel.fail_over)
                line.target = sentinel.master.port
                recovery = await till.recover()
            await till.check_words(lost=True)
            till.report("redis, failover behind one address", recovery)
        await store.aclose()

    assert recovery < RECOVERED_WITHIN


@pytest.mark.parametrize("rig", SQL, indirect=True)
async def test_failover_behind_one_address_of_a_database(rig: Rig) -> None:
    """Sessions that are read-only for ever are left for new ones, which may write."""
    store = rig.make_store()
    async with open_till(store) as till:
        async with till.busy(), open_sessions_read_only(rig):
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind}, failover behind one address", recovery)
    await store.aclose()

    assert recovery < RECOVERED_WITHIN


@contextlib.asynccontextmanager
async def open_sessions_read_only(rig: Rig) -> AsyncGenerator[None]:
    """Make the sessions that are open read-only, and those that are opened later not."""
    if rig.is_postgres:
        begin = (
            f"ALTER ROLE {SHOP} SET default_transaction_read_only = off",
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        )
        end = (
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
            f"ALTER ROLE {SHOP} RESET default_transaction_read_only",
        )
    else:
        begin = (f"GRANT READ_ONLY ADMIN ON *.* TO {SHOP}@'%'", "SET GLOBAL read_only = 1")
        end = ("SET GLOBAL read_only = 0", f"REVOKE READ_ONLY ADMIN ON *.* FROM {SHOP}@'%'")
    await rig.run(*begin)
    try:
        yield
    finally:
        await rig.run(*end)
