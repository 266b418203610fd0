"""What happens on the way to a server: silence, a hung connection, a failover behind an address."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.line import Line
from tests.faults.rigs import REACHED, Rig
from tests.faults.till import AT_ONCE, RECOVERED_WITHIN, open_till
from wxpay_async.errors import NotSentError

pytestmark = pytest.mark.parametrize("rig", REACHED, indirect=True)

IDLE = 6.0
"""Seconds; connections that were used just now need no look."""


@pytest.mark.slow
async def test_idle_connections_that_were_dropped_in_silence_cost_no_refund(rig: Rig) -> None:
    """A firewall forgets them without a word; the next calls find out and take others."""
    async with Line(rig.server.port) as line:
        store = rig.make_store(port=line.port)
        async with open_till(store) as till:
            async with till.busy():
                pass
            await asyncio.sleep(IDLE)
            line.swallow()
            began = time.monotonic()
            given = await asyncio.gather(*(till.give_back() for _ in range(AT_ONCE)))
            took = time.monotonic() - began
            await till.check_words()
            till.report(f"{rig.kind} idle connections dropped", took)
        await store.aclose()

    assert [None] * AT_ONCE == [told.error for told in given]
    assert took < RECOVERED_WITHIN


async def test_connections_that_fall_silent_at_work_are_left(rig: Rig) -> None:
    """What was on its way may be in doubt; new connections serve what comes after."""
    async with Line(rig.server.port) as line:
        store = rig.make_store(port=line.port)
        async with open_till(store) as till:
            async with till.busy():
                line.swallow()
                recovery = await till.recover()
            line.end_swallowed()  # else the last refunds may find their rows locked
            await till.check_words()
            till.report(f"{rig.kind} connections fell silent", recovery)
        await store.aclose()

    assert recovery < RECOVERED_WITHIN


@pytest.mark.slow
async def test_hung_connection_costs_one_timeout_and_not_one_for_each_call(rig: Rig) -> None:
    """A hundred calls at once wait for one attempt; when the server serves again, so does all."""
    timeout = 1.0
    async with Line(rig.server.port, hanging=True) as line:
        store = rig.make_store(port=line.port, timeout=timeout)
        began = time.monotonic()
        calls = (store.load(("k", str(number))) for number in range(100))
        found = await asyncio.gather(*calls, return_exceptions=True)
        took = time.monotonic() - began
        line.hanging = False
        async with open_till(store) as till:
            async with till.busy(healthy=False):
                recovery = await till.recover()
            await till.check_words()
            till.report(f"{rig.kind} hung at connect: 100 calls took {took:.2f} s", recovery)
        await store.aclose()

    assert {NotSentError} == {type(each) for each in found}
    assert took < 5 * timeout
    assert recovery < RECOVERED_WITHIN
