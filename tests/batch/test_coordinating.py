"""Workers that are looked after: what is sent, what is sent again, and what is believed."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.batches import Office, make_refunds, run_office
from tests.support.clock import LoopClock, loop_time, virtual
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.coordinating import CHUNK, LOOK_EVERY, MOST_SENT, SEND_AGAIN, WINDOW


@virtual
async def test_workers_bring_every_line_to_one_outcome() -> None:
    """2,100 lines on four machines, every message twice: each executed once."""
    async with Office(twice=True) as office:
        outcomes = await run_office(office, make_refunds(2_100))
    assert Counter(o.kind for o in outcomes) == {"ok": 2_100}
    assert sorted(o.request.number for o in outcomes) == list(range(1, 2_101))
    assert set(office.platform.executed.values()) == {1}
    assert len(office.messages) == 2_100 // CHUNK
    assert office.most <= 2 * WINDOW + office.workers


@virtual
async def test_message_that_gets_lost_is_sent_again() -> None:
    """No queue is believed."""
    async with Office(drop=3) as office:
        outcomes = await run_office(office, make_refunds(500))
    assert Counter(o.kind for o in outcomes) == {"ok": 500}
    assert len(office.messages) == 13
    assert SEND_AGAIN <= loop_time() <= SEND_AGAIN + 120.0


@virtual
async def test_lines_that_no_worker_takes_are_open_in_the_end() -> None:
    """After three tries the run says so."""
    async with Office(workers=0) as office:
        outcomes = await run_office(office, make_refunds(60))
    assert Counter(o.kind for o in outcomes) == {"open": 60}
    assert len(office.messages) == 2 * MOST_SENT


@virtual
async def test_finished_lines_need_no_message() -> None:
    """The same command again."""
    lines = make_refunds(700)
    async with Office() as office:
        await run_office(office, lines)
        office.messages.clear()
        attempts = office.platform.attempts
        outcomes = await run_office(office, lines)
    assert Counter(o.kind for o in outcomes) == {"ok": 700}
    assert (office.messages, office.platform.attempts) == ([], attempts)


@virtual
async def test_broker_that_is_away_for_a_while_ends_no_run() -> None:
    """The first message of all must go; later ones are tried again."""
    async with Office() as office:
        away = 0

        async def send(message: str) -> None:
            nonlocal away
            if len(office.messages) >= 2 and away < 5:
                away += 1
                raise ConnectionError("no broker")
            await office.send(message)

        async with office.open() as gateway:
            batch = Batch(gateway, clock=LoopClock())
            outcomes = [o async for o in batch.run(make_refunds(300), send=send)]
    assert Counter(o.kind for o in outcomes) == {"ok": 300}
    assert away == 5


@virtual
async def test_broker_that_never_was_there_ends_the_run() -> None:
    """Nothing was handed to anybody."""

    async def send(message: str) -> None:
        del message
        raise ConnectionError("no broker")

    async with Office(workers=0) as office, office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        with pytest.raises(ConnectionError):
            [o async for o in batch.run(make_refunds(3), send=send)]


@virtual
async def test_stop_leaves_what_is_out_to_the_workers() -> None:
    """The coordinator ends at its next look, and the same lines later find what was done."""
    lines = make_refunds(2_100)
    async with Office() as office:
        async with office.open() as gateway:
            batch = Batch(gateway, clock=LoopClock())
            outcomes = []
            async for outcome in batch.run(lines, send=office.send):
                outcomes.append(outcome)
                batch.stop()
            stopped_at = loop_time()
        assert stopped_at <= 4 * LOOK_EVERY
        await asyncio.sleep(600.0)
        again = await run_office(office, lines)
    assert Counter(o.kind for o in again) == {"ok": 2_100}
    assert set(office.platform.executed.values()) == {1}
