"""Lines that are brought to an end: what is called again and when, and what never."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs
from attrs import define

from tests.support import asking, replies
from tests.support.batches import Platform, claim, iterate, make_gateway, make_refunds
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY
from wxpay_async.adapters.transports.memory import Answer
from wxpay_async.batch.line import Line, OperationName
from wxpay_async.batch.settling import MOST_GENERATIONS, Settling, recall_lines
from wxpay_async.batch.tally import Tally
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import (
    IdempotencyConflictError,
    NotExecutedError,
    PrepayExpiredError,
)
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.wire import HttpRequest


def make_settling(
    gateway: PayGateway, *, operation: OperationName = "refund", patience: float = 3_600.0
) -> Settling:
    """Make what settles lines in the loop's time."""
    return Settling(
        gateway=gateway,
        operation=operation,
        concurrency=64,
        patience=patience,
        clock=LoopClock(),
    )


async def settle(
    gateway: PayGateway,
    lines: Iterable[Line],
    *,
    operation: OperationName = "refund",
    patience: float = 3_600.0,
) -> list[Outcome[Line, Any]]:
    """Settle lines and return their outcomes."""
    settling = make_settling(gateway, operation=operation, patience=patience)
    return [outcome async for outcome in settling.settle(iterate(lines))]


@virtual
async def test_every_line_has_one_outcome_and_is_executed_once() -> None:
    """1,000 lines go at the quota's pace."""
    platform = Platform()
    async with make_gateway(platform) as gateway:
        outcomes = await settle(gateway, make_refunds(1_000))
    assert Counter(o.kind for o in outcomes) == {"ok": 1_000}
    assert sorted(o.request.number for o in outcomes) == list(range(1, 1_001))
    assert set(platform.executed.values()) == {1}


@virtual
async def test_lines_settled_before_are_not_called_again() -> None:
    """The same lines again: the same outcomes, and no call."""
    platform, lines = Platform(), make_refunds(700)
    async with make_gateway(platform) as gateway:
        first = await settle(gateway, lines)
        attempts = platform.attempts
        second = await settle(gateway, lines)
    assert platform.attempts == attempts == 700
    assert {o.request.number: o.result for o in first} == {
        o.request.number: o.result for o in second
    }
    assert all(o.result.replayed and o.settled_at is not None for o in second)


@virtual
async def test_outage_of_ten_minutes_costs_few_attempts_and_no_line() -> None:
    """The platform cannot be reached for ten minutes in the middle of 5,000 lines."""
    platform, lines = Platform(), make_refunds(5_000)
    down_at: float | None = None
    attempts = 0
    async with make_gateway(platform) as gateway:
        settling = make_settling(gateway)
        count = 0
        async for outcome in settling.settle(iterate(lines)):
            assert outcome.kind == "ok"
            count += 1
            if count == 2_000:
                platform.down, down_at, attempts = True, loop_time(), platform.attempts
                loop = asyncio.get_running_loop()

                def come_back() -> None:
                    nonlocal attempts
                    platform.down, attempts = False, platform.attempts - attempts

                loop.call_later(600.0, come_back)
    assert count == 5_000
    assert down_at is not None
    assert attempts <= 300
    assert set(platform.executed.values()) == {1}


@virtual
async def test_line_whose_answer_is_lost_is_asked_about_and_ends() -> None:
    """A doubt is no outcome as long as it can be cleared up."""
    platform = Platform(lost=30)
    async with make_gateway(platform) as gateway:
        outcomes = await settle(gateway, make_refunds(100))
    assert Counter(o.kind for o in outcomes) == {"ok": 100}


@virtual
async def test_line_proven_not_executed_goes_under_the_next_generation() -> None:
    """The id is derived, so that every repetition finds the same one."""
    platform, [line] = Platform(), make_refunds(1)
    async with make_gateway(platform) as gateway:
        await _settle_as_not_executed(gateway, line)
        [outcome] = await settle(gateway, [line])
        [again] = await settle(gateway, [line])
        [recalled] = await recall_lines(gateway, [line])
    expected = derive_request_id(APP_KEY, "refund", "refund-1", 1)
    assert outcome.kind == "ok"
    assert outcome.request.request_id == expected
    assert outcome.request.generation == 1
    assert platform.executed == {expected: 1}
    assert again.request == outcome.request
    assert recalled is not None
    assert recalled.request == outcome.request


@virtual
async def test_line_whose_generations_are_used_up_ends_as_not_executed() -> None:
    """Three ids that were proven not executed are enough to have a person look."""
    platform, [line] = Platform(), make_refunds(1)
    async with make_gateway(platform) as gateway:
        current = line
        for _ in range(MOST_GENERATIONS + 1):
            await _settle_as_not_executed(gateway, current)
            current = current.next_generation(APP_KEY)
        [outcome] = await settle(gateway, [line])
    assert isinstance(outcome.error, NotExecutedError)
    assert outcome.request.generation == MOST_GENERATIONS
    assert platform.attempts == 0


@virtual
async def test_line_that_another_process_holds_is_called_again_when_its_lease_is_over() -> None:
    """Being under way elsewhere is no outcome."""
    platform, [line] = Platform(), make_refunds(1)
    async with make_gateway(platform) as gateway:
        await claim(gateway, line)
        [outcome] = await settle(gateway, [line])
    assert outcome.kind == "ok"
    assert loop_time() >= LEASE
    assert platform.executed == {"refund-1": 1}


@virtual
async def test_changed_line_is_a_conflict_and_is_not_called() -> None:
    """Its outcome names what differs."""
    platform, [line] = Platform(), make_refunds(1)
    other = attrs.evolve(line, request=asking.refund(out_trade_no="R-1", refund_amount="2.00"))
    async with make_gateway(platform) as gateway:
        await settle(gateway, [line])
        [outcome] = await settle(gateway, [other])
    assert isinstance(outcome.error, IdempotencyConflictError)
    assert outcome.error.fields == ("refundAmount",)
    assert platform.attempts == 1


@virtual
async def test_payment_issued_in_an_earlier_run_is_not_issued_again() -> None:
    """Half an hour later its credential is dead, which is no reason for another."""
    platform = Platform()
    line = Line(number=1, request=asking.pay(out_trade_no="O-1"))
    async with make_gateway(platform) as gateway:
        [first] = await settle(gateway, [line], operation="pay")
        await asyncio.sleep(1_800.0)
        [second] = await settle(gateway, [line], operation="pay")
    assert first.kind == "ok"
    assert isinstance(second.error, PrepayExpiredError)
    assert platform.attempts == 1


@define(eq=False)
class PaidPlatform(Platform):
    """A platform that finds the order of every payment paid."""

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        if request.url.endswith("/query"):
            return replies.order("已付款")
        return super().__call__(request)


@virtual
async def test_payment_whose_order_is_found_paid_is_already_paid() -> None:
    """In the run that lost its answer as in the next one, by call and by recall: no failure."""
    platform = PaidPlatform(lost=1)
    line = Line(number=1, request=asking.pay(out_trade_no="O-1"))
    async with make_gateway(platform) as gateway:
        [first] = await settle(gateway, [line], operation="pay")
        [again] = await settle(gateway, [line], operation="pay")
        [recalled] = await recall_lines(gateway, [line])
    tally = Tally()
    for outcome in (first, again, recalled):
        assert outcome is not None
        tally.add(outcome)
    assert tally.counts == {"already_paid": 3}
    assert (tally.exit_code, tally.person_total, tally.reasons) == (0, 0, {})
    assert platform.attempts == 1


@virtual
async def test_lines_that_never_end_are_given_up_when_patience_is_over() -> None:
    """Each with how its last call ended."""
    platform = Platform(down=True)
    async with make_gateway(platform) as gateway:
        outcomes = await settle(gateway, make_refunds(3), patience=600.0)
    assert [o.kind for o in outcomes] == ["not_sent"] * 3
    assert 600.0 <= loop_time() <= 1_000.0


@virtual
async def test_stop_ends_what_is_under_way_and_begins_nothing_more() -> None:
    """No line is left in the middle."""
    platform, lines = Platform(), make_refunds(1_000)
    async with make_gateway(platform) as gateway:
        settling = make_settling(gateway)
        outcomes = []
        async for outcome in settling.settle(iterate(lines)):
            outcomes.append(outcome)
            if len(outcomes) == 100:
                settling.stop()
        open_operations = [each async for each in gateway.open_operations()]
    assert Counter(o.kind for o in outcomes) == {"ok": platform.attempts}
    assert 100 <= platform.attempts <= 100 + 3 * 64
    assert open_operations == []


async def _settle_as_not_executed(gateway: PayGateway, line: Line) -> None:
    claimed = await claim(gateway, line)
    assert await gateway.store.record(attrs.evolve(claimed, state=State.NOT_EXECUTED))
