"""Tables and layouts of other releases, met by a shop that opens."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.rigs import SHOP, SQL, Rig
from tests.faults.till import RECOVERED_WITHIN, open_till
from tests.support.sql_databases import write_version_1
from wxpay_async.adapters.stores.redis_layout import VERSION_KEY


@pytest.mark.parametrize("rig", SQL, indirect=True)
async def test_tables_of_the_first_release_are_upgraded_at_work(rig: Rig) -> None:
    """Two processes that begin with old tables upgrade them, and no refund is lost to it."""
    old = write_version_1("postgres" if rig.is_postgres else rig.kind)
    await rig.run(*([f"SET ROLE {SHOP}"] if rig.is_postgres else ()), *old)
    stores = [rig.make_store(), rig.make_store()]
    async with open_till(stores[0]) as first, open_till(stores[1]) as second:
        async with first.busy(), second.busy():
            pass
        for till in (first, second):
            await till.check_words()
    await asyncio.gather(*(store.aclose() for store in stores))

    assert {None} == {told.error for till in (first, second) for told in till.told}


async def test_layout_of_a_later_release_is_left_alone(rig: Rig) -> None:
    """Nothing is sent while it is there, and it is noticed when it goes."""
    store = rig.make_store()
    await store.load(("k", "r"))  # makes what is there
    await store.aclose()
    await set_version(rig, 99)
    async with open_till(store) as till:
        async with till.busy(healthy=False):
            await till.wait_for_failures()
            sent = [told for told in till.told if till.executed(told)]
            await set_version(rig, None)
            recovery = await till.recover()
        await till.check_words()
        till.report(f"{rig.kind} layout of a later release", recovery)
    await store.aclose()

    assert [] == sent
    assert recovery < RECOVERED_WITHIN


async def set_version(rig: Rig, version: int | None) -> None:
    """Note that a later release was here, or that none was."""
    if rig.is_redis:
        await rig.run(f"SET {VERSION_KEY} {version}" if version else f"DEL {VERSION_KEY}")
    elif version:
        await rig.run(f"INSERT INTO wxpay_schema (version) VALUES ({version})")
    else:
        await rig.run("DELETE FROM wxpay_schema WHERE version > 50")
