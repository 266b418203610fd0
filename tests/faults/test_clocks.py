"""Hosts whose clocks are wrong by a minute: nobody sends beside a claim that runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.faults.clocks import SENT, Host
from tests.faults.rigs import Rig
from tests.faults.till import PATIENCE, PassingClock
from tests.support.platform import APP_KEY
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.states import State

AHEAD = 60  # seconds
BEHIND = -60
ROOT = Path(__file__).parents[2]
HELD_BACK = {"told": "InProgressError", "requests": 0}


@contextlib.asynccontextmanager
async def open_host(rig: Rig, wrong_by: float, *hold: str) -> AsyncGenerator[Process]:
    """Run a host with a wrong clock; it is killed at the end if it still runs."""
    command = ("-m", "tests.faults.clocks", str(wrong_by), rig.make_url(), APP_KEY, *hold)
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, cwd=ROOT)
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_line(process: Process) -> str:
    """Return the next line that it prints."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize(
    "wrong_by",
    [AHEAD, pytest.param(BEHIND, marks=pytest.mark.slow)],  # which is harmless there
)
async def test_host_with_a_wrong_clock_leaves_a_running_claim_alone(
    rig: Rig, wrong_by: int
) -> None:
    """It neither takes over what this host sends, nor calls it a doubt."""
    here = Host(rig.make_store(), APP_KEY, holds=True)
    call = asyncio.create_task(here.refund())
    await here.sent.wait()

    async with open_host(rig, wrong_by) as there:
        told = json.loads(await read_line(there))
    record = await here.store.load((APP_KEY, "refund-1"))
    here.gate.set()
    made = await call
    await here.aclose()

    assert record is not None
    assert (HELD_BACK, State.SENDING) == (told, record.state)
    assert {"told": "ok", "requests": 1} == made


@pytest.mark.parametrize("wrong_by", [BEHIND, pytest.param(AHEAD, marks=pytest.mark.slow)])
async def test_claim_of_a_host_with_a_wrong_clock_is_left_alone_while_it_runs(
    rig: Rig, wrong_by: int
) -> None:
    """This host does not take over what that one sends; when that one is dead, its lease ends."""
    clock = PassingClock()
    here = Host(rig.make_store(), APP_KEY, clock)
    async with open_host(rig, wrong_by, "hold") as there:
        assert SENT == await read_line(there)
        told = await here.refund()
    running = await here.store.load((APP_KEY, "refund-1"))
    clock.passed = LEASE + 1
    await here.gateway.recover()
    lapsed = await here.store.load((APP_KEY, "refund-1"))
    await here.aclose()

    assert running is not None
    assert lapsed is not None
    assert (HELD_BACK, State.SENDING) == (told, running.state)
    assert State.UNKNOWN is lapsed.state
