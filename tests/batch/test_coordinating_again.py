"""What is out at workers: how much at once, what of it is sent again, and what a stop leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from tests.support.batches import LastingStore, Office, make_refunds, run_office
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.chunks import unseal
from wxpay_async.batch.coordinating import CHUNK, SEND_AGAIN, WINDOW
from wxpay_async.batch.line import Line
from wxpay_async.errors import NotSentError


@define(eq=False)
class AbsentStore(LastingStore):
    """A store of which a test decides whether it can be read."""

    away: bool = field(default=False, init=False)

    def leave(self) -> None:
        """Be away from now on."""
        self.away = True

    async def load_many(self, keys: Sequence[tuple[str, str]]) -> Any:  # noqa: ANN401 - the store's
        """Read, or fail."""
        if self.away:
            raise NotSentError("the store is away")
        return await super().load_many(keys)


async def settle_here(office: Office, lines: Sequence[Line]) -> None:
    """Bring lines to an end as a worker would."""
    async with office.open() as gateway:
        async for _ in Batch(gateway, clock=LoopClock()).run(lines):
            pass


def numbers_in(message: str) -> list[int]:
    """Return the numbers of a message's lines."""
    return [line.number for line in unseal(message, [b"s" * 32], app_key=APP_KEY)]


async def stop_after(office: Office, lines: list[Line], seconds: float) -> Counter[str]:
    """Coordinate for so long; return how many lines ended how."""
    async with office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        asyncio.get_running_loop().call_later(seconds, batch.stop)
        return Counter([outcome.kind async for outcome in batch.run(lines, send=office.send)])


@virtual
async def test_only_a_window_of_chunks_is_out_while_none_ends() -> None:
    """A short queue is fair to the next file, and soon empty after a stop."""
    async with Office(workers=0) as office:
        await stop_after(office, make_refunds((WINDOW + 20) * CHUNK), 100.0)

    assert [CHUNK] * WINDOW == [len(numbers_in(message)) for message in office.messages]


@virtual
async def test_only_lines_without_an_end_are_sent_again() -> None:
    """A worker died amid its chunk: the next one gets the rest."""
    lines = make_refunds(CHUNK)
    async with Office(workers=0) as office:
        run = asyncio.create_task(run_office(office, lines))
        await asyncio.sleep(10.0)
        await settle_here(office, lines[:20])
        await asyncio.sleep(SEND_AGAIN)
        await settle_here(office, lines[20:])
        outcomes = await run

    assert {"ok": CHUNK} == Counter(outcome.kind for outcome in outcomes)
    assert [[*range(1, 51)], [*range(21, 51)]] == [numbers_in(each) for each in office.messages]


@virtual
async def test_chunk_of_which_a_line_ended_has_all_its_tries_again() -> None:
    """It is given up where no worker takes it, not where one is slow."""
    lines = make_refunds(2)
    async with Office(workers=0) as office:
        run = asyncio.create_task(run_office(office, lines))
        await asyncio.sleep(SEND_AGAIN + 102.0)
        await settle_here(office, lines[:1])
        outcomes = await run

        ended_at = loop_time()

    assert 4 * SEND_AGAIN <= ended_at <= 4 * SEND_AGAIN + 20.0
    assert {"ok": 1, "open": 1} == Counter(outcome.kind for outcome in outcomes)
    assert [[1, 2], [1, 2], [2], [2]] == [numbers_in(message) for message in office.messages]


@virtual
async def test_stop_ends_a_run_whose_store_is_away_and_sends_nothing() -> None:
    """Also not what would have been due to be sent again by then."""
    store = AbsentStore()
    async with Office(workers=0, store=store) as office:
        asyncio.get_running_loop().call_later(12.0, store.leave)
        kinds = await stop_after(office, make_refunds(120), SEND_AGAIN + 102.0)
        ended_at = loop_time()

    assert ({}, 3) == (kinds, len(office.messages))
    assert SEND_AGAIN + 102.0 == round(ended_at, 3)


@virtual
async def test_stop_waits_two_seconds_for_a_broker_that_does_not_answer() -> None:
    """A message may be on its way to it; what it holds is sent again by the next run."""

    async def hang(_: str) -> None:
        await asyncio.sleep(3_600.0)

    async with Office(workers=0) as office, office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        asyncio.get_running_loop().call_later(10.0, batch.stop)
        assert [] == [outcome async for outcome in batch.run(make_refunds(60), send=hang)]
        assert 12 == round(loop_time())
