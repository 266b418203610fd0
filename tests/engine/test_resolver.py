"""What a check of an operation in doubt records, and what a query that is refused may prove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.clock import NOON, MovedClock
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import Script
from tests.support.records import make_record
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.clock import PlatformTime
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.resolver import Resolver
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import InDoubtError, NotExecutedError, RefusedError, WxPayError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.resolution import QUARANTINE, Finding, says_absent
from wxpay_async.policy.states import State
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.results import TradeStatus
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.sandbox import Sandbox

LOST = InDoubtError("read timeout")
REPEATED = "GM_API_BUS_0000015"


# A refused query


async def resolve_twice(shop: Shop, request_id: str) -> Outcome[str, Any]:
    """Resolve after the quarantine, and again a minute later."""
    for seconds in (QUARANTINE + 1, 61):
        shop.clock.move(seconds)
        outcome = await shop.gateway.resolve(request_id)
    return outcome


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("GM_API_BUS_000005", "requestId is empty"),
        ("GM_API_BUS_000007", "requestId expired: 订单不存在"),
        (REPEATED, "requestId repeated"),
        ("GM_API_BUS_000500", "系统繁忙，请稍后再试"),
        ("GM_API_BUS_000099", ""),
        ("CO_MSG_000001", "not found"),
    ],
)
async def test_refused_query_that_does_not_say_absent_proves_nothing(
    code: str, text: str, open_shop: OpenShop
) -> None:
    """The order was made and its answer got lost: a new generation would be a second order."""
    shop = open_shop(Script([LOST], query=replies.no(code, text)))
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade())

    assert "in_doubt" == (await resolve_twice(shop, "trade-1")).kind
    assert State.UNKNOWN is await shop.state("trade-1")


async def test_refused_query_with_a_code_that_the_merchant_named_proves_absence(
    open_shop: OpenShop,
) -> None:
    """The merchant has seen on the test host what it means."""
    answers = Script([LOST], query=replies.no("GM_API_BUS_000500"))
    shop = open_shop(answers, absent_codes=["GM_API_BUS_000500"])
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade())

    assert NotExecutedError is type((await resolve_twice(shop, "trade-1")).error)


async def test_sandbox_says_absent_of_an_order_that_it_does_not_know() -> None:
    """What merchants test against fits the rule."""
    async with Sandbox() as sandbox:
        signer = Md5Signer(sandbox.app_secret)
        async with PayGateway(sandbox.app_key, signer, base_url=sandbox.url) as gateway:
            with pytest.raises(RefusedError) as caught:
                await gateway.query(out_trade_no="O-1")

    assert says_absent(caught.value)


# One check


@define(eq=False)
class Check:
    """A resolver over a store, with a query that answers as the test says.

    Attributes:
        answers: what each query is answered, in order.
        asked: the orders that were asked for.
        deadlines: of each query.
        moved: the states that were reported, before and after.
        overtaken: whether another process claims the operation while it is asked about.
    """

    clock: MovedClock
    answers: list[TradeStatus | WxPayError]
    store: MemoryStore = field(factory=MemoryStore)
    asked: list[str] = field(factory=list)
    deadlines: list[Deadline] = field(factory=list)
    moved: list[tuple[State, State]] = field(factory=list)
    overtaken: bool = False

    async def query(self, number: str, deadline: Deadline) -> tuple[TradeStatus, datetime | None]:
        """Answer one query."""
        self.asked.append(number)
        self.deadlines.append(deadline)
        if self.overtaken:
            await self.store.claim(("k", "r1"), now=self.clock.time(), signed_at=1)
        answer = self.answers.pop(0)
        if isinstance(answer, WxPayError):
            raise answer
        return answer, None

    async def run(self, record: IdempotencyRecord) -> tuple[IdempotencyRecord, Finding]:
        """Put a record into the store and check it."""
        await self.store.reserve(record)
        resolver = Resolver(
            store=self.store,
            clock=self.clock,
            time=PlatformTime(self.clock),
            query=self.query,
            on_changed=lambda before, after: self.moved.append((before.state, after.state)),
        )
        return await resolver.check(record, Deadline.after(30.0, self.clock.monotonic))


def make_doubt(state: State = State.UNKNOWN, **changes: object) -> IdempotencyRecord:
    """Make the record of a payment whose answer was lost at noon."""
    doubt = {"in_doubt": True, "out_trade_no": "O-1", "doubt_since": NOON, "epoch": 1}
    return make_record(state=state, signed_at=int(NOON * 1000), **(doubt | changes))


PAID = TradeStatus(out_trade_no="O-1", status="已付款")


async def test_check_of_a_settled_record_asks_nothing(clock: MovedClock) -> None:
    """There is nothing to find out."""
    check, record = Check(clock, []), make_doubt(State.SUCCEEDED)

    assert (record, Finding.NO_ANSWER) == await check.run(record)
    assert [] == check.asked


async def test_check_records_what_it_proves_and_reports_it(clock: MovedClock) -> None:
    """Within the deadline that it is given."""
    check = Check(clock, [PAID])
    checked, finding = await check.run(make_doubt())

    assert (State.SUCCEEDED, Finding.EXECUTED) == (checked.state, finding)
    assert checked == await check.store.load(checked.key)
    assert (["O-1"], [(State.UNKNOWN, State.SUCCEEDED)]) == (check.asked, check.moved)
    assert [30.0] == [deadline.remaining() for deadline in check.deadlines]


async def test_check_of_a_pending_record_reports_its_end(clock: MovedClock) -> None:
    """What was accepted has ended; nothing else tells of it."""
    check = Check(clock, [PAID])
    await check.run(make_doubt(State.PENDING))

    assert [(State.PENDING, State.SUCCEEDED)] == check.moved


async def test_check_without_an_answer_plans_the_next(clock: MovedClock) -> None:
    """The record stays in doubt, with one check more and the time of the next."""
    clock.move(6.0)
    check = Check(clock, [LOST])
    checked, finding = await check.run(make_doubt())

    assert (State.UNKNOWN, Finding.NO_ANSWER, 1) == (checked.state, finding, checked.checks)
    assert (NOON + 15.0, []) == (checked.next_check_at, check.moved)


async def test_check_that_is_overtaken_returns_what_is_stored(clock: MovedClock) -> None:
    """Another process claimed meanwhile: what this query found settles nothing."""
    check = Check(clock, [PAID], overtaken=True)
    checked, finding = await check.run(make_doubt())

    assert (State.SENDING, 2, Finding.EXECUTED) == (checked.state, checked.epoch, finding)
    assert [] == check.moved


@pytest.mark.parametrize(("late_by", "counts"), [(0.0, True), (1.0, False)])
async def test_check_counts_absence_by_the_time_of_a_refusal(
    late_by: float, clock: MovedClock, *, counts: bool
) -> None:
    """The `Date` of "not found" holds back a clock that is fast, too."""
    absent = RefusedError("no", code="GM_API_BUS_000099", message="订单不存在")
    absent.server_time = datetime.fromtimestamp(NOON + QUARANTINE - late_by, UTC)
    clock.move(QUARANTINE + 60.0)
    checked, finding = await Check(clock, [absent]).run(make_doubt())

    assert Finding.NOT_FOUND is finding
    assert (NOON + QUARANTINE if counts else None) == checked.absent_at


async def test_check_of_a_trade_stops_at_the_first_order_without_an_answer(
    clock: MovedClock,
) -> None:
    """The others could not settle it."""
    items = [asking.item(f"O-{n}") for n in range(3)]
    content = serialize(asking.trade(trade_info=items))
    found = TradeStatus(out_trade_no="O-0", status="待付款")
    check = Check(clock, [found, LOST])
    checked, _ = await check.run(make_doubt(operation="trade", content=content))

    assert (["O-0", "O-1"], State.UNKNOWN) == (check.asked, checked.state)
