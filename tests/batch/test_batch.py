"""Whole batches: what they refuse to begin with, two at once, and what the store alone says."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from attrs import define

from tests.support.batches import LastingStore, Office, Platform, make_gateway, make_refunds
from tests.support.clock import LoopClock, virtual
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.chunks import seal
from wxpay_async.batch.line import Line
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.requests import TradeQuery


@virtual
async def test_two_runs_at_once_execute_every_line_once() -> None:
    """Each has the outcome of every line."""
    lines = make_refunds(1_000)
    async with Office(workers=0) as office, office.open() as one, office.open() as other:

        async def run_here(gateway: PayGateway) -> Counter[str]:
            batch = Batch(gateway, clock=LoopClock())
            return Counter([outcome.kind async for outcome in batch.run(lines)])

        kinds = await asyncio.gather(run_here(one), run_here(other))
    assert kinds == [{"ok": 1_000}, {"ok": 1_000}]
    assert set(office.platform.executed.values()) == {1}


@virtual
async def test_recall_yields_every_line_in_order_without_a_call() -> None:
    """What was not called yet is open."""
    lines = make_refunds(1_200)
    async with Office(workers=0) as office, office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        async for _ in batch.run(lines[:700]):
            pass
        attempts = office.platform.attempts
        outcomes = [outcome async for outcome in batch.recall(lines)]
    assert [o.request.number for o in outcomes] == list(range(1, 1_201))
    assert Counter(o.kind for o in outcomes) == {"ok": 700, "open": 500}
    assert office.platform.attempts == attempts


@virtual
async def test_store_that_forgets_with_the_process_is_refused() -> None:
    """Nothing is sent."""
    platform = Platform()
    async with make_gateway(platform) as gateway:
        batch = Batch(gateway, clock=LoopClock())
        with pytest.raises(InvalidRequestError) as caught:
            [o async for o in batch.run(make_refunds(1))]
        with pytest.raises(InvalidRequestError):
            await batch.work("message")
    assert caught.value.field == "store"
    assert platform.attempts == 0


@define(eq=False)
class LateStore(LastingStore):
    """A store that knows only once it is open whether it survives, as Redis does."""

    def __attrs_post_init__(self) -> None:
        self.durable = False

    async def open(self) -> None:
        """Look at the server's settings."""
        self.durable = True


@virtual
async def test_store_is_opened_before_it_is_refused() -> None:
    """By a run as by a worker that was just started."""
    office = Office(workers=0, store=LateStore())
    async with office, office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        [outcome] = [o async for o in batch.run(make_refunds(1))]
    assert outcome.kind == "ok"
    office.store.durable = False
    async with office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        message = seal(make_refunds(1), [b"s" * 32], app_key=gateway.app_key)
        tally = await batch.work(message)
    assert tally.counts == {"ok": 1}


@virtual
async def test_queries_go_here_and_not_to_workers() -> None:
    """They leave nothing in the store by which a coordinator could look after them."""
    lines = [Line(number=1, request=TradeQuery(out_trade_no="O-1"))]
    async with Office(workers=0) as office, office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        with pytest.raises(InvalidRequestError):
            [o async for o in batch.run(lines, send=office.send)]
        [outcome] = [o async for o in batch.run(lines)]
    assert outcome.kind == "refused"


@virtual
async def test_message_of_another_merchant_is_refused() -> None:
    """It does not open, and nothing is sent for it."""
    async with Office(workers=0) as office:
        async with office.open() as gateway:
            batch = Batch(gateway, clock=LoopClock())
            task = asyncio.create_task(_collect(batch, office))
            await asyncio.sleep(1.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        other = make_gateway(office.platform, store=SealedStore(office.store, [b"k" * 32]))
        async with other:
            with pytest.raises(InvalidRequestError):
                await Batch(other, clock=LoopClock()).work(office.messages[0])
    assert office.platform.attempts == 0


async def _collect(batch: Batch, office: Office) -> list[Outcome[Line, Any]]:
    return [o async for o in batch.run(make_refunds(1), send=office.send)]


async def test_no_lines_are_no_outcomes() -> None:
    """An empty source ends at once."""
    async with Office(workers=0) as office, office.open() as gateway:
        assert [o async for o in Batch(gateway).run([])] == []
