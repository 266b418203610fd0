"""What ends connections: restarts, crashes, an operator's `KILL`; a server that comes late."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.rigs import REACHED, Rig, Rigs
from tests.faults.till import AT_ONCE, RECOVERED_WITHIN, open_till
from tests.support.servers import wait_until
from wxpay_async.adapters.stores.redis import RedisStore

by_every_way = pytest.mark.parametrize("rig", REACHED, indirect=True)


@pytest.mark.slow
@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
@by_every_way
async def test_server_that_ends_comes_back(rig: Rig, *, crash: bool) -> None:
    """While it is away every word is true, and afterwards all goes on by itself."""
    store = rig.make_store()
    async with open_till(store) as till:
        async with till.busy():
            await rig.stop(crash=crash)
            await till.wait_for_failures()
            await rig.start()
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind} crash" if crash else f"{rig.kind} restart", recovery)
    await store.aclose()

    assert recovery < RECOVERED_WITHIN


@by_every_way
async def test_restart_between_two_calls_is_not_noticed(rig: Rig) -> None:
    """Connections that died while nobody used them are replaced, and no refund is lost to it."""
    store = rig.make_store()
    async with open_till(store) as till:
        async with till.busy():
            pass
        await rig.stop()
        await rig.start()
        given = await asyncio.gather(*(till.give_back() for _ in range(AT_ONCE)))
        await till.check_words()
    await store.aclose()

    assert [None] * AT_ONCE == [told.error for told in given]


@by_every_way
async def test_every_connection_is_ended(rig: Rig) -> None:
    """They are replaced in the midst of work, and every word stays true."""
    store = rig.make_store()
    async with open_till(store) as till:
        async with till.busy():
            for _ in range(3):
                await rig.end_connections()
                await asyncio.sleep(0.05)
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind} connections ended", recovery)
    await store.aclose()

    assert recovery < RECOVERED_WITHIN


@by_every_way
async def test_server_that_is_absent_at_the_start_is_noticed_when_it_comes(rig: Rig) -> None:
    """Until then nothing is sent, and every word says so or leaves it open."""
    await rig.stop()
    store = rig.make_store()
    async with open_till(store) as till:
        async with till.busy(healthy=False):
            await till.wait_for_failures()
            sent = [told for told in till.told if till.executed(told)]
            await rig.start()
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind} absent at the start", recovery)
    await store.aclose()

    assert [] == sent
    assert recovery < RECOVERED_WITHIN


@pytest.mark.slow
@by_every_way
async def test_server_that_is_held_for_a_moment_goes_on(rig: Rig) -> None:
    """A server may stop for seconds (a snapshot, a swapping host); no word is wrong by that."""
    store = rig.make_store()
    async with open_till(store) as till:
        async with till.busy():
            rig.server.hold()
            await asyncio.sleep(2.0)
            rig.server.go_on()
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind} held for 2 s", recovery)
    await store.aclose()

    assert recovery < RECOVERED_WITHIN


@pytest.mark.slow
async def test_node_of_a_cluster_ends_and_comes_back(rigs: Rigs) -> None:
    """Each node is away for a moment, the one that holds the shop's operations among them."""
    store = RedisStore(rigs.cluster.url)
    async with open_till(store) as till:
        recoveries = list[float]()
        async with till.busy():
            for node in rigs.cluster.nodes:
                await asyncio.to_thread(node.kill)
                await asyncio.sleep(1.0)
                await asyncio.to_thread(node.start)
                await asyncio.to_thread(wait_until, rigs.cluster.is_settled)
                recoveries.append(await till.recover())
        await till.check_words()
        till.report("node of a cluster", max(recoveries))
    await store.aclose()

    assert max(recoveries) < RECOVERED_WITHIN


@pytest.mark.slow
async def test_database_behind_a_pgbouncer_ends_and_comes_back(rigs: Rigs) -> None:
    """PgBouncer keeps the connections of its clients, and has none to serve them by."""
    rig = await rigs.open("pgbouncer")
    store = rig.make_store()
    async with open_till(store) as till:
        async with till.busy():
            await asyncio.to_thread(rigs.postgres.stop)
            await till.wait_for_failures()
            await asyncio.to_thread(rigs.postgres.start)
            recovery = await till.recover()
        await till.check_words()
        till.report("PostgreSQL behind a PgBouncer", recovery)
    await store.aclose()

    assert recovery < RECOVERED_WITHIN
