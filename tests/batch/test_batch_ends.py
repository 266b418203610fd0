"""How batches end: by a stop, by a consumer that leaves, by patience; and calls at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import pytest
from attrs import define, field

from tests.support.batches import LastingStore, Platform, make_gateway, make_refunds
from tests.support.clock import LoopClock, loop_time, virtual
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.batch.batch import WORKER_PATIENCE, Batch
from wxpay_async.batch.chunks import seal
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

KEY: Final = b"s" * 32


@define(eq=False)
class Line5s:
    """A network on which every answer takes five seconds.

    Attributes:
        transport: answers.
        under_way: requests without an answer now.
        most: the most of them.
    """

    transport: MemoryTransport
    under_way: int = field(default=0, init=False)
    most: int = field(default=0, init=False)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Send a request, and wait."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(5.0)
            return await self.transport.send(request, timeout=timeout)
        finally:
            self.under_way -= 1

    async def aclose(self) -> None:
        """Close nothing."""


def open_slow(platform: Platform, store: Store | None = None) -> tuple[PayGateway, Line5s]:
    """Make a gateway without a quota over such a network."""
    network = Line5s(MemoryTransport(platform))
    sealed = SealedStore(store or LastingStore(), [KEY])
    made = make_gateway(platform, transport=network, limiter=Unlimited(), store=sealed)
    return made, network


@virtual
async def test_as_many_calls_go_at_once_as_were_asked_for() -> None:
    """The quota alone would let more go."""
    gateway, network = open_slow(Platform())
    async with gateway:
        batch = Batch(gateway, concurrency=3, clock=LoopClock())
        [_ async for _ in batch.run(make_refunds(30))]

    assert 3 == network.most
    assert set() == batch._running


@virtual
async def test_consumer_that_leaves_ends_the_calls() -> None:
    """When the run is closed, none is under way any more."""
    gateway, network = open_slow(Platform())
    async with gateway:
        batch = Batch(gateway, clock=LoopClock())
        async with contextlib.aclosing(batch.run(make_refunds(300))) as outcomes:
            async for _ in outcomes:
                break
        left = network.under_way

    assert network.most > 1
    assert 0 == left
    assert set() == batch._running


@virtual
async def test_worker_that_is_stopped_ends_what_is_under_way_and_begins_nothing_more() -> None:
    """Its message has 50 lines, of which three go at once."""
    platform = Platform()
    gateway, _ = open_slow(platform)
    async with gateway:
        batch = Batch(gateway, concurrency=3, clock=LoopClock())
        asyncio.get_running_loop().call_later(7.0, batch.stop)
        tally = await batch.work(seal(make_refunds(50), [KEY], app_key=gateway.app_key))

    assert tally.counts["ok"] == platform.attempts
    assert 6 <= platform.attempts <= 9
    assert set() == batch._running


@virtual
async def test_worker_gives_lines_up_before_its_queue_takes_the_message_away() -> None:
    """RabbitMQ waits for half an hour."""
    gateway, _ = open_slow(Platform(down=True))
    async with gateway:
        batch = Batch(gateway, clock=LoopClock())
        tally = await batch.work(seal(make_refunds(2), [KEY], app_key=gateway.app_key))

    assert {"not_sent": 2} == tally.counts
    assert WORKER_PATIENCE <= loop_time() <= 1_500.0


@virtual
async def test_worker_refuses_a_store_that_forgets() -> None:
    """Also a message that opens: the lines would go twice."""
    platform = Platform()
    gateway, _ = open_slow(platform, MemoryStore())
    async with gateway:
        message = seal(make_refunds(1), [KEY], app_key=gateway.app_key)
        with pytest.raises(InvalidRequestError) as caught:
            await Batch(gateway, clock=LoopClock()).work(message)

    assert ("store", 0) == (caught.value.field, platform.attempts)
