"""How a stop drains a batch: attempts end, and nothing else is waited for."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from attrs import define, field

from tests.support import replies
from tests.support.batches import LastingStore, Platform, iterate, make_limiter, make_refunds
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.limiters.limiter import Limiter, Unlimited
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.transports.memory import Answer, MemoryTransport
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.line import Line
from wxpay_async.batch.settling import Settling
from wxpay_async.batch.watched_calls import note_attempts
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome
from wxpay_async.engine.telemetry import Hook
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

HOOKS: tuple[Hook, ...] = (note_attempts,)


@define(eq=False)
class Network:
    """A network on which every answer takes a while.

    Attributes:
        platform: answers.
        seconds: how long that takes.
    """

    platform: Platform
    seconds: float = 0.0
    _transport: MemoryTransport = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._transport = MemoryTransport(self.platform)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Send a request, and wait."""
        response = await self._transport.send(request, timeout=timeout)
        await asyncio.sleep(self.seconds)
        return response

    async def aclose(self) -> None:
        """Close nothing."""


def open_gateway(
    network: Network, *, limiter: Limiter | None = None, hooks: tuple[Hook, ...] = HOOKS
) -> PayGateway:
    """Make a gateway with the platform's quota, unless another is given."""
    return PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        transport=network,
        store=SealedStore(LastingStore(), [b"s" * 32]),
        limiter=limiter or make_limiter(),
        clock=LoopClock(),
        hooks=hooks,
    )


async def stop_at(
    seconds: float, gateway: PayGateway, *, lines: int = 3_000
) -> tuple[list[Outcome[Line, Any]], float]:
    """Run a batch, and stop it after so many seconds.

    Returns:
        Its outcomes, and how long it drained.
    """
    batch = Batch(gateway, clock=LoopClock())
    asyncio.get_running_loop().call_later(seconds, batch.stop)
    outcomes = [outcome async for outcome in batch.run(make_refunds(lines))]
    return outcomes, loop_time() - seconds


async def count_doubts(gateway: PayGateway) -> int:
    """Return how many operations are open in the store, and may have been sent."""
    return len([each async for each in gateway.open_operations()])


@virtual
async def test_stop_waits_for_no_slot_of_the_quota() -> None:
    """It is full for half a minute still; nothing is sent any more, and nothing is in doubt."""
    network = Network(Platform())
    async with open_gateway(network) as gateway:
        outcomes, seconds = await stop_at(35.0, gateway)
        doubts = await count_doubts(gateway)

    assert 200 == network.platform.attempts
    assert {"ok": 200, "open": 64} == Counter(outcome.kind for outcome in outcomes)
    assert (0, True) == (doubts, seconds <= 0.5)


@virtual
async def test_stop_waits_for_attempts_under_way() -> None:
    """What was sent has its outcome; eight calls wait for a connection."""
    network = Network(Platform(), seconds=8.0)
    async with open_gateway(network, limiter=Unlimited()) as gateway:
        outcomes, seconds = await stop_at(10.0, gateway)

    assert 112 == network.platform.attempts
    assert {"ok": 112, "open": 8} == Counter(outcome.kind for outcome in outcomes)
    assert 6.0 <= seconds <= 6.5


@virtual
async def test_stop_without_the_hook_waits_for_all_calls() -> None:
    """Nobody tells which of them only wait."""
    network = Network(Platform())
    async with open_gateway(network, hooks=()) as gateway:
        outcomes, seconds = await stop_at(35.0, gateway)

    assert {"ok": 264} == Counter(outcome.kind for outcome in outcomes)
    assert seconds >= 25.0


@virtual
async def test_stop_waits_for_no_end_of_an_outage() -> None:
    """The pause before the next try takes a minute, and lines keep how their calls ended."""
    network = Network(Platform(down=True))
    async with open_gateway(network) as gateway:
        outcomes, seconds = await stop_at(200.0, gateway)

    assert {"not_sent"} == {outcome.kind for outcome in outcomes}
    assert len(outcomes) == len({outcome.request.number for outcome in outcomes}) >= 10
    assert seconds <= 0.5


@define(eq=False)
class Throttling(Platform):
    """A platform that says from some moment on that its quota is used up."""

    since: float = 60.0

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        if loop_time() > self.since:
            return replies.no("CO_MSG_000007", "too many calls")
        return super().__call__(request)


@virtual
async def test_stop_waits_for_no_other_attempt_of_a_call() -> None:
    """It could come hours later, as long as another program uses the quota up."""
    network = Network(Throttling())
    async with open_gateway(network) as gateway:
        outcomes, seconds = await stop_at(100.0, gateway)

    assert {"ok", "open"} == {outcome.kind for outcome in outcomes}
    assert seconds <= 1.5


@virtual
async def test_line_whose_answer_was_lost_is_open_after_a_stop() -> None:
    """It may have been executed, and the next run finds out."""
    network = Network(Platform(lost=10_000))
    async with open_gateway(network) as gateway:
        outcomes, seconds = await stop_at(35.0, gateway)

    assert {"open", "in_doubt"} >= {outcome.kind for outcome in outcomes}
    assert set(network.platform.executed) <= {outcome.request.request_id for outcome in outcomes}
    assert seconds <= 1.5


@define(eq=False)
class Silent(Platform):
    """A platform of which nothing is learnt: every answer is lost, and queries are interrupted."""

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        if request.url.endswith("/query"):
            return replies.no("CO_MSG_000003", "interrupted")
        return super().__call__(request)


@virtual
async def test_stop_while_doubts_are_asked_about_loses_no_outcome() -> None:
    """The lines that wait for their next call keep how the last one ended."""
    network = Network(Silent(lost=10_000), seconds=3.0)
    async with open_gateway(network, limiter=Unlimited()) as gateway:
        for seconds in range(20, 140, 7):
            outcomes, _ = await stop_at(seconds, gateway, lines=5)
            assert [1, 2, 3, 4, 5] == sorted(outcome.request.number for outcome in outcomes)


@virtual
async def test_run_whose_patience_is_over_gives_up_calls_that_wait() -> None:
    """Else those under way could hold it for a day, while no line ends."""
    network = Network(Throttling())
    async with open_gateway(network) as gateway:
        settling = Settling(
            gateway=gateway,
            operation="refund",
            concurrency=64,
            patience=600.0,
            clock=LoopClock(),
        )
        outcomes = [each async for each in settling.settle(iterate(make_refunds(3_000)))]

    assert {"ok", "open"} == {outcome.kind for outcome in outcomes}
    assert 660.0 <= loop_time() <= 60.0 + 660.0 + 2.0


@pytest.mark.parametrize("seconds", [0.0, 0.01, 30.0])
def test_run_goes_on_after_a_stop_and_executes_every_line_once(seconds: float) -> None:
    """Whenever the stop comes."""

    @virtual
    async def run() -> None:
        network = Network(Platform(), seconds=0.5)
        async with open_gateway(network) as gateway:
            await stop_at(seconds, gateway, lines=300)
            batch = Batch(gateway, clock=LoopClock())
            kinds = Counter([outcome.kind async for outcome in batch.run(make_refunds(300))])
        assert {"ok": 300} == kinds
        assert {1} == set(network.platform.executed.values())

    run()
