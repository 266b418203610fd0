"""Callbacks: authentic or confirmed, in order, and each with one effect."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import attrs
import pytest

from tests.support import asking, replies
from tests.support.callbacks import BUSY, NOT_FOUND, OpenMerchant, order, paid, refunded
from tests.support.flaky_store import FlakyStore
from tests.support.platform import (
    APP_KEY,
    FORM,
    Script,
)
from tests.support.replies import Json
from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited
from wxpay_async.engine.callbacks import CallbackEvent, Verdict
from wxpay_async.errors import (
    AlreadyPaidError,
    InDoubtError,
    InvalidRequestError,
    NotSentError,
    NotSentTimeoutError,
)
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.notify import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    Notifications,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.protocol.results import TradeState

# Authentic, or confirmed


async def test_authentic_callback_is_handled_without_a_query(open_merchant: OpenMerchant) -> None:
    """A callback that was just signed by RSA is handled, and acknowledged with exact bytes."""
    merchant = open_merchant()

    assert b'{"status": 1}' == await merchant.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    [notification] = merchant.seen
    assert isinstance(notification, TradeNotification)
    assert (True, True, False) == (
        notification.authentic,
        notification.fresh,
        notification.confirmed,
    )


@pytest.mark.parametrize("scheme", ["md5", "none"])
async def test_hint_is_confirmed_by_a_query(open_merchant: OpenMerchant, scheme: str) -> None:
    """The notification is confirmed, but not authentic."""
    merchant = open_merchant([order()], scheme)

    assert ACK_HANDLED == await merchant.deliver(paid())
    [notification] = merchant.seen
    assert (False, True) == (notification.authentic, notification.confirmed)


@pytest.mark.parametrize("scheme", ["md5", "none"])
async def test_forged_number_of_a_paid_order_is_never_confirmed(
    open_merchant: OpenMerchant, scheme: str
) -> None:
    """The handler gets the number that the query tells, once, whichever callback comes first."""
    reply = order()
    reply["data"]["tradeNo"] = "T-real"
    merchant = open_merchant([reply, reply], scheme)

    for number in ("T-forged", "T-real"):
        assert ACK_HANDLED == await merchant.deliver(paid(inner_trade_no=number))

    [notification] = merchant.seen
    assert ("T-real", True) == (notification.inner_trade_no, notification.confirmed)
    assert [Verdict.HANDLED, Verdict.DUPLICATE] == merchant.verdicts


@pytest.mark.parametrize(
    ("scheme", "age", "expected"), [("rsa", 0, None), ("rsa", 400, "已退款"), ("md5", 0, "已退款")]
)
async def test_handler_gets_the_answer_of_the_query(
    open_merchant: OpenMerchant, scheme: str, age: float, expected: str | None
) -> None:
    """The answer may be further than the callback; without a query there is none."""
    merchant = open_merchant([order("已退款")], scheme)

    await merchant.deliver(paid(), age=age)

    [notification] = merchant.seen
    assert expected == (notification.queried and notification.queried.status)


async def test_old_authentic_callback_needs_a_query(open_merchant: OpenMerchant) -> None:
    """A delivery may be late, and must still be true."""
    merchant = open_merchant([order("待付款"), order()])

    assert ACK_NOT_HANDLED == await merchant.deliver(paid(), age=400)
    assert {} == merchant.effects
    assert ACK_HANDLED == await merchant.deliver(paid(), age=400)
    assert (True, True) == (merchant.seen[0].authentic, merchant.seen[0].confirmed)


@pytest.mark.parametrize(
    "answer",
    [
        order("待付款"),
        order("支付失败"),
        order("已关闭"),
        order("something new"),
        order(amount="1.01"),
        order(amount=None),
        order(number="O-2"),
        NOT_FOUND,
        {"success": False, "errorCode": "CO_MSG_000008", "errorMsg": "appKey"},
    ],
)
async def test_unconfirmed_hint_is_not_handled(open_merchant: OpenMerchant, answer: Json) -> None:
    """For another status, amount or order there is no effect, and the platform repeats it."""
    merchant = open_merchant([answer, order()], "md5")

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    assert ({}, [Verdict.UNCONFIRMED]) == (merchant.effects, merchant.verdicts)
    assert ACK_HANDLED == await merchant.deliver(paid())


@pytest.mark.parametrize("failure", [NotSentError("no route"), InDoubtError("timeout")])
async def test_unanswered_query_confirms_nothing(
    open_merchant: OpenMerchant, failure: NotSentError | InDoubtError
) -> None:
    """If the query fails, a hint stays a hint."""
    merchant = open_merchant(lambda _: failure, "md5")

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    assert ({}, [Verdict.UNCONFIRMED]) == (merchant.effects, merchant.verdicts)


@pytest.mark.parametrize("status", ["支付成功", "退款中", "已退款", "退款失败"])
async def test_refunded_order_confirms_its_payment(
    open_merchant: OpenMerchant, status: str
) -> None:
    """A payment's callback is still true after the refund."""
    merchant = open_merchant([order(status)], "md5")

    assert ACK_HANDLED == await merchant.deliver(paid())


async def test_unknown_status_is_only_believed_when_authentic(open_merchant: OpenMerchant) -> None:
    """A query cannot confirm an unknown status, but a signature proves its text."""
    new = paid(trade_status="TRADE_PONDERED")
    hint, authentic = open_merchant([order()], "md5"), open_merchant()

    assert ACK_NOT_HANDLED == await hint.deliver(new)
    assert ACK_HANDLED == await authentic.deliver(new)
    assert [TradeState.UNKNOWN] == [notification.state for notification in authentic.seen]


@pytest.mark.parametrize(
    ("scheme", "age", "answer", "expected"),
    [
        ("rsa", 0, None, Verdict.HANDLED),
        ("rsa", 400, order("退款成功", "R-1", "0.40"), Verdict.HANDLED),
        ("rsa", 400, NOT_FOUND, Verdict.HANDLED),
        ("rsa", 400, BUSY, Verdict.UNCONFIRMED),
        ("rsa", 400, NotSentError("no route"), Verdict.UNCONFIRMED),
        ("rsa", 400, order("退款成功", "R-1", "0.41"), Verdict.UNCONFIRMED),
        ("md5", 0, order("退款成功", "R-1", "0.40"), Verdict.HANDLED),
        ("md5", 0, order("退款中", "R-1", "0.40"), Verdict.UNCONFIRMED),
        ("md5", 0, order("支付成功", "O-1", "1.00"), Verdict.UNCONFIRMED),
        ("md5", 0, NOT_FOUND, Verdict.UNCONFIRMED),
        ("none", 0, NOT_FOUND, Verdict.UNCONFIRMED),
    ],
)
async def test_refund_is_believed_by_a_query_or_a_signature(
    open_merchant: OpenMerchant, scheme: str, age: float, answer: object, expected: Verdict
) -> None:
    """If the platform does not find a refund by its number, only a signature counts."""
    merchant = open_merchant(lambda _: answer, scheme)

    await merchant.deliver(refunded(), age=age)

    assert [expected] == merchant.verdicts
    assert all(isinstance(seen, RefundNotification) for seen in merchant.seen)
    assert (expected is Verdict.HANDLED) == bool(merchant.effects)


async def test_forged_callback_has_no_effect(
    open_merchant: OpenMerchant, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered with 0 and reported, and no value of it is logged."""
    caplog.set_level(logging.DEBUG, "wxpay_async")
    merchant = open_merchant()
    body = merchant.body(paid()).replace(b"O-1", b"forged-order")

    assert ACK_NOT_HANDLED == await merchant.receiver.receive(FORM, body)
    assert [Verdict.REFUSED] == merchant.verdicts
    assert merchant.events[0].notification is None
    assert "signature" in merchant.events[0].reason
    assert "forged-order" not in caplog.text
    assert ACK_HANDLED == await merchant.deliver(paid())


async def test_parsed_body_is_a_type_error(open_merchant: OpenMerchant) -> None:
    """It is the only error that is raised, and no sender can cause it."""
    with pytest.raises(TypeError, match="raw bytes"):
        await open_merchant().receiver.receive(FORM, paid())  # type: ignore[arg-type]


async def test_callback_without_a_handler_is_not_acknowledged(open_merchant: OpenMerchant) -> None:
    """Otherwise it would be lost. Once there is a handler, it is handled."""
    merchant = open_merchant()
    without_handler = merchant.another(on_trade=None)

    assert ACK_NOT_HANDLED == await without_handler.receive(FORM, merchant.body(paid()))
    assert [Verdict.UNWANTED] == merchant.verdicts
    assert ACK_HANDLED == await merchant.deliver(paid())


# What is in doubt


IN_DOUBT = InDoubtError("the answer was lost")


@pytest.mark.parametrize("age", [0, 400])
@pytest.mark.parametrize("answer", [replies.refunded("P"), IN_DOUBT])
@pytest.mark.parametrize(
    ("status", "expected"),
    [("REFUND_SUCCESS", State.SUCCEEDED), ("REFUND_FAIL", State.FAILED)],
)
async def test_genuine_callback_settles_an_open_refund(
    open_merchant: OpenMerchant, *, answer: object, status: str, expected: State, age: float
) -> None:
    """It needs no query, which may never find a refund; an old one counts as well."""
    merchant = open_merchant(Script([answer]), retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.refund(asking.refund()))
    merchant.clock.move(age)

    await merchant.deliver(refunded(refund_amount="1.00", refund_status=status), age=age)

    assert expected is await merchant.state("refund-1")
    assert [Verdict.HANDLED] == merchant.verdicts


async def test_callback_of_a_refund_that_is_being_sent_comes_again(
    open_merchant: OpenMerchant,
) -> None:
    """Its answer may get lost, and then the callback is all that can settle it."""

    async def answer(_: object) -> object:
        if not delivered:
            delivered.append(await merchant.deliver(refunded(refund_amount="1.00")))
        return IN_DOUBT

    delivered: list[object] = []
    merchant = open_merchant(answer, retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.refund(asking.refund()))

    assert [Verdict.BUSY] == merchant.verdicts
    assert State.UNKNOWN is await merchant.state("refund-1")
    await merchant.deliver(refunded(refund_amount="1.00"))
    assert State.SUCCEEDED is await merchant.state("refund-1")
    assert [Verdict.BUSY, Verdict.HANDLED] == merchant.verdicts


async def test_refund_that_a_callback_settled_is_answered(open_merchant: OpenMerchant) -> None:
    """The call that had no answer gets one, and nothing is sent again."""
    merchant = open_merchant(Script([IN_DOUBT]), retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.refund(asking.refund()))

    await merchant.deliver(refunded(refund_amount="1.00"))
    result = await merchant.gateway.refund(asking.refund())

    assert ("S", "T-9", True) == (result.status, result.trade_no, result.replayed)


async def test_genuine_callback_settles_a_payment_and_its_order(
    open_merchant: OpenMerchant,
) -> None:
    """Both are about the order that was paid; an order of another number stays open."""
    merchant = open_merchant(Script([IN_DOUBT]), retry=RetryPolicy(attempts=1))
    for call in (
        merchant.gateway.pay(asking.pay(out_trade_no="O-1")),
        merchant.gateway.pay(asking.pay("pay-2", out_trade_no="O-2")),
        merchant.gateway.trade(asking.trade()),
    ):
        await merchant.attempt(call)

    await merchant.deliver(paid())

    assert [State.SUCCEEDED, State.UNKNOWN, State.SUCCEEDED] == [
        await merchant.state(name) for name in ("pay-1", "pay-2", "trade-1")
    ]
    with pytest.raises(AlreadyPaidError):
        await merchant.gateway.pay(asking.pay(out_trade_no="O-1"))


@pytest.mark.parametrize("scheme", ["md5", "none"])
async def test_confirmed_callback_settles_what_the_query_proves(
    open_merchant: OpenMerchant, scheme: str
) -> None:
    """The answer of its query is the proof."""
    script = Script([IN_DOUBT])
    merchant = open_merchant(script, scheme, retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.pay(asking.pay(out_trade_no="O-1")))
    script.query = order()

    await merchant.deliver(paid())

    assert State.SUCCEEDED is await merchant.state("pay-1")


@pytest.mark.parametrize(
    "fields",
    [
        refunded(refund_amount="0.40"),
        refunded(refund_amount="1.00", orig_outer_trade_no="O-2"),
        refunded(refund_amount="1.00", refund_status="REFUND_NEW"),
        refunded(out_trade_no="O-1", refund_amount="1.00"),
        paid("R-1"),
        paid("O-1", trade_status="TRADE_CLOSED"),
        paid("O-1", trade_status="TRANSFER_FAIL"),
    ],
)
async def test_callback_settles_nothing_that_it_does_not_prove(
    open_merchant: OpenMerchant, fields: dict[str, str]
) -> None:
    """Another amount, order or kind: what is open stays so, and is asked about soon."""
    merchant = open_merchant(Script([IN_DOUBT]), retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.refund(asking.refund()))
    await merchant.attempt(merchant.gateway.pay(asking.pay(out_trade_no="O-1")))

    assert ACK_HANDLED == await merchant.deliver(fields)

    assert [State.UNKNOWN] * 2 == [await merchant.state(name) for name in ("refund-1", "pay-1")]


async def test_unproven_callback_of_an_open_operation_makes_it_due(
    open_merchant: OpenMerchant,
) -> None:
    """The next recovery asks what became of it."""
    merchant = open_merchant(Script([IN_DOUBT]), retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.pay(asking.pay(out_trade_no="O-1")))

    await merchant.deliver(paid(trade_status="TRADE_CLOSED"))

    record = await merchant.gateway.store.load((APP_KEY, "pay-1"))
    assert record is not None
    assert merchant.clock.time() == record.next_check_at


async def test_failure_that_was_told_before_the_attempt_is_not_its_own(
    open_merchant: OpenMerchant,
) -> None:
    """A late callback of an earlier refund of the same number says nothing of this one."""
    merchant = open_merchant(Script([IN_DOUBT]), retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.refund(asking.refund()))

    await merchant.deliver(refunded(refund_amount="1.00", refund_status="REFUND_FAIL"), age=1)

    assert State.UNKNOWN is await merchant.state("refund-1")


async def test_trade_of_two_orders_is_not_settled_by_one(open_merchant: OpenMerchant) -> None:
    """One order of several does not speak for the others."""
    [item] = asking.trade().trade_info
    request = asking.trade(trade_info=[item, attrs.evolve(item, out_trade_no="O-2")])
    merchant = open_merchant(Script([IN_DOUBT]), retry=RetryPolicy(attempts=1))
    await merchant.attempt(merchant.gateway.trade(request))

    await merchant.deliver(paid())

    assert State.UNKNOWN is await merchant.state("trade-1")


async def test_hint_is_refused_as_a_proof(open_merchant: OpenMerchant) -> None:
    """A merchant with a receiver of its own cannot settle anything by what anyone may write."""
    merchant = open_merchant(scheme="md5")
    hint = merchant.receiver.notifications.parse(FORM, merchant.body(paid()))

    with pytest.raises(InvalidRequestError) as caught:
        await merchant.gateway.apply_notification(hint)
    assert "notification" == caught.value.field


# Once


async def test_thousand_copies_at_once_have_one_effect(open_merchant: OpenMerchant) -> None:
    """One handler runs, after one query; later copies are acknowledged."""
    shop_calls: list[object] = []

    def answer(request: object) -> Json:
        shop_calls.append(request)
        return order()

    merchant = open_merchant(answer, "md5")
    body = merchant.body(paid())

    at_once = await asyncio.gather(*(merchant.receiver.receive(FORM, body) for _ in range(1000)))
    later = await asyncio.gather(*(merchant.receiver.receive(FORM, body) for _ in range(1000)))

    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert 1 == len(shop_calls) == at_once.count(ACK_HANDLED)
    assert [ACK_HANDLED] * 1000 == later
    assert {Verdict.HANDLED: 1, Verdict.BUSY: 999, Verdict.DUPLICATE: 1000} == Counter(
        merchant.verdicts
    )


async def test_two_workers_on_one_store_have_one_effect(open_merchant: OpenMerchant) -> None:
    """The inbox belongs to the store, not to the receiver."""
    merchant = open_merchant()
    workers, body = [merchant.another(), merchant.another()], merchant.body(paid())

    answers = await asyncio.gather(*(worker.receive(FORM, body) for worker in workers * 10))

    assert (1, 1) == (answers.count(ACK_HANDLED), merchant.effects.total())


async def test_handler_that_raises_gets_the_callback_again(
    open_merchant: OpenMerchant, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 0 until the handler succeeds; then the effect has happened once."""
    merchant = open_merchant()
    merchant.failing = 2

    answers = [await merchant.deliver(paid()) for _ in range(4)]

    assert [ACK_NOT_HANDLED, ACK_NOT_HANDLED, ACK_HANDLED, ACK_HANDLED] == answers
    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert "the handler raised LookupError" == merchant.events[0].reason
    assert "the shop's database is away" in caplog.text


async def test_endpoints_have_effects_of_their_own(open_merchant: OpenMerchant) -> None:
    """Two endpoints may each have an effect."""
    merchant = open_merchant()
    other = merchant.another(endpoint="bookkeeping")

    assert ACK_HANDLED == await merchant.deliver(paid())
    assert ACK_HANDLED == await other.receive(FORM, merchant.body(paid()))
    assert {("O-1", TradeState.PAID): 2} == merchant.effects


async def test_orders_with_odd_names_are_not_confused(open_merchant: OpenMerchant) -> None:
    """The keys of the inbox quote texts that the sender chooses."""
    merchant = open_merchant()
    first = paid('O", "T', inner_trade_no="1")
    second = paid("O", inner_trade_no='T", "1')

    for fields in (first, second, paid("O", inner_trade_no="T"), paid("商品", inner_trade_no="T")):
        await merchant.deliver(fields)

    assert [Verdict.HANDLED, Verdict.HANDLED, Verdict.LATE, Verdict.HANDLED] == merchant.verdicts


# Unsigned callbacks


async def test_queries_of_unsigned_callbacks_wait_behind_people(
    open_merchant: OpenMerchant,
) -> None:
    """An unsigned callback is queried in a lane of its own, a signed one in that of doubts."""
    lanes: list[Lane] = []

    class RecordingLimiter(Unlimited):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            lanes.append(lane)
            return await super().acquire(lane, timeout=timeout)

    for scheme, age in (("none", 0), ("md5", 0), ("rsa", 400)):
        await open_merchant([order()], scheme, limiter=RecordingLimiter()).deliver(paid(), age=age)

    assert [Lane.UNVERIFIED, Lane.RESOLVING, Lane.RESOLVING] == lanes


async def test_signature_without_a_verifier_is_not_verified(open_merchant: OpenMerchant) -> None:
    """Without a verifier the four signature fields prove nothing."""
    merchant = open_merchant()
    unchecked = Notifications(None, app_key=APP_KEY, clock=merchant.clock.time)
    body = merchant.body(paid())

    assert [False, True] == [
        notifications.parse(FORM, body).verified
        for notifications in (unchecked, merchant.receiver.notifications)
    ]


# Forward only


async def test_closed_after_paid_changes_nothing(
    open_merchant: OpenMerchant, caplog: pytest.LogCaptureFixture
) -> None:
    """It is acknowledged and reported, and does not reach the handler; nor does its copy."""
    merchant = open_merchant()
    closed = paid(trade_status="TRADE_CLOSED")

    answers = [await merchant.deliver(fields) for fields in (paid(), closed, closed, paid())]

    assert [ACK_HANDLED] * 4 == answers
    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert [
        Verdict.HANDLED,
        Verdict.LATE,
        Verdict.LATE,
        Verdict.DUPLICATE,
    ] == merchant.verdicts
    assert "callback O-1: late" in caplog.text


@pytest.mark.parametrize("status", ["TRADE_CLOSED", "TRANSFER_FAIL"])
async def test_hint_is_late_if_the_query_is_further(
    open_merchant: OpenMerchant, status: str
) -> None:
    """A hint does not close an order that is paid, even if no callback of the payment came."""
    merchant = open_merchant([order()], "md5")

    assert ACK_HANDLED == await merchant.deliver(paid(trade_status=status))
    assert ({}, [Verdict.LATE]) == (merchant.effects, merchant.verdicts)


async def test_statuses_move_forward(open_merchant: OpenMerchant) -> None:
    """Closed is further than failed, paid is further than closed, and none is handled twice."""
    merchant = open_merchant()
    steps = ("TRANSFER_FAIL", "TRADE_CLOSED", "TRADE_SUCCESS")

    for status in (*steps, *reversed(steps)):
        await merchant.deliver(
            paid(trade_status=status, inner_trade_no=f"T-{len(merchant.events)}")
        )

    assert [TradeState.FAILED, TradeState.CLOSED, TradeState.PAID] == [
        n.state for n in merchant.seen
    ]
    assert [Verdict.HANDLED] * 3 + [Verdict.LATE] * 3 == merchant.verdicts


async def test_failed_refund_after_a_success_is_late(open_merchant: OpenMerchant) -> None:
    """The states of a refund are independent of those of an order."""
    merchant = open_merchant()
    failed = refunded(refund_status="REFUND_FAIL")

    for fields in (paid("R-1"), refunded(), failed):
        await merchant.deliver(fields)

    assert [Verdict.HANDLED, Verdict.HANDLED, Verdict.LATE] == merchant.verdicts


async def test_second_payment_is_reported(open_merchant: OpenMerchant) -> None:
    """The same order paid under another platform number has no second effect."""
    merchant = open_merchant()

    await merchant.deliver(paid())
    assert ACK_HANDLED == await merchant.deliver(paid(inner_trade_no="T-other"))

    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert [Verdict.HANDLED, Verdict.LATE] == merchant.verdicts


async def test_one_callback_of_an_order_at_a_time(open_merchant: OpenMerchant) -> None:
    """While "paid" is in progress, "closed" must come again, and is then late."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    first = asyncio.create_task(merchant.deliver(paid()))
    await merchant.entered.wait()

    assert ACK_NOT_HANDLED == await merchant.deliver(paid(trade_status="TRADE_CLOSED"))
    merchant.gate.set()
    assert ACK_HANDLED == await first
    assert ACK_HANDLED == await merchant.deliver(paid(trade_status="TRADE_CLOSED"))
    assert [TradeState.PAID] == [notification.state for notification in merchant.seen]


async def test_refund_does_not_wait_for_an_order_of_its_number(open_merchant: OpenMerchant) -> None:
    """An order and a refund with the same number are different."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    first = asyncio.create_task(merchant.deliver(paid("R-1")))
    await merchant.entered.wait()

    merchant.entered.clear()
    second = asyncio.create_task(merchant.deliver(refunded()))
    entered = asyncio.create_task(merchant.entered.wait())
    await asyncio.wait([second, entered], return_when=asyncio.FIRST_COMPLETED)
    merchant.gate.set()
    assert [ACK_HANDLED, ACK_HANDLED] == await asyncio.gather(first, second)


async def test_failed_handler_does_not_count_as_reached(open_merchant: OpenMerchant) -> None:
    """If the handler of a payment failed, a later "closed" is still handled."""
    merchant = open_merchant()
    merchant.failing = 1

    await merchant.deliver(paid())
    await merchant.deliver(paid(trade_status="TRADE_CLOSED"))

    assert [Verdict.FAILED, Verdict.HANDLED] == merchant.verdicts


# In time


async def test_slow_handler_goes_on_after_the_answer(open_merchant: OpenMerchant) -> None:
    """The answer is 0 in time, and 1 for the next delivery; the effect happens once."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    hasty = merchant.another(answer_within=0.01)
    body = merchant.body(paid())

    assert ACK_NOT_HANDLED == await hasty.receive(FORM, body)
    assert ACK_NOT_HANDLED == await hasty.receive(FORM, body)
    merchant.gate.set()
    await hasty.aclose()

    assert ACK_HANDLED == await hasty.receive(FORM, body)
    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert [Verdict.SLOW, Verdict.BUSY, Verdict.HANDLED, Verdict.DUPLICATE] == merchant.verdicts


async def test_time_counts_from_the_first_byte(open_merchant: OpenMerchant) -> None:
    """After 4 s of reading the body no time is left to wait for the handler."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    began = asyncio.get_running_loop().time() - 4.0

    async with asyncio.timeout(2.0):
        answer = await merchant.receiver.receive(FORM, merchant.body(paid()), began=began)
    merchant.gate.set()
    await merchant.receiver.aclose()

    assert (ACK_NOT_HANDLED, [Verdict.SLOW, Verdict.HANDLED]) == (answer, merchant.verdicts)


async def test_handler_that_never_ends_is_cancelled(open_merchant: OpenMerchant) -> None:
    """It is cancelled before its lease ends, so that no other one runs beside it."""
    merchant = open_merchant(retry=RetryPolicy(min_left=0.01))
    merchant.gate = asyncio.Event()
    strict = merchant.another(limit=0.01)

    assert ACK_NOT_HANDLED == await strict.receive(FORM, merchant.body(paid()))
    assert "it took over 0.01 s" == merchant.events[0].reason
    merchant.gate = None
    assert ACK_HANDLED == await merchant.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == merchant.effects


async def test_cancelled_receive_does_not_stop_the_handler(open_merchant: OpenMerchant) -> None:
    """The platform may close its connection, and half an effect would be worse than no answer."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    call = asyncio.create_task(merchant.deliver(paid()))
    await merchant.entered.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    merchant.gate.set()
    await merchant.receiver.aclose()

    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert ACK_HANDLED == await merchant.deliver(paid())


@pytest.mark.parametrize(
    "setting",
    [
        {"limit": 2.9},
        {"limit": float("inf")},
        {"limit": float("nan")},
        {"answer_within": -1.0},
        {"answer_within": 4.1},
        {"answer_within": float("nan")},
    ],
)
def test_impossible_times_are_refused(
    open_merchant: OpenMerchant, setting: dict[str, float]
) -> None:
    """A shorter limit would send no query, and the platform waits no longer than 4 s."""
    merchant = open_merchant()
    [name] = setting

    with pytest.raises(InvalidRequestError, match=name):
        merchant.another(**setting)


async def test_least_times_work(open_merchant: OpenMerchant) -> None:
    """The query of a hint is possible within the gateway's own shortest time."""
    merchant = open_merchant([order()], "md5")
    least = merchant.another(limit=merchant.gateway.min_left, answer_within=4.0)

    assert ACK_HANDLED == await least.receive(FORM, merchant.body(paid()))


async def test_plain_function_may_be_a_handler(open_merchant: OpenMerchant) -> None:
    """Its effect happens once and is acknowledged; if it raises, the callback comes again."""
    merchant = open_merchant()
    failing = [LookupError("the shop's database is away")]

    def handle(notification: TradeNotification) -> None:
        if failing:
            raise failing.pop()
        merchant.effects[notification.out_trade_no, notification.state] += 1

    receiver, body = merchant.another(on_trade=handle), merchant.body(paid())
    answers = [await receiver.receive(FORM, body) for _ in range(3)]

    assert [ACK_NOT_HANDLED, ACK_HANDLED, ACK_HANDLED] == answers
    assert {("O-1", TradeState.PAID): 1} == merchant.effects


async def test_handler_that_is_cancelled_from_elsewhere_has_failed(
    open_merchant: OpenMerchant,
) -> None:
    """Something that it waits for was cancelled, not the callback: the callback comes again."""
    merchant = open_merchant()

    async def handle(_: TradeNotification) -> None:
        job = asyncio.ensure_future(asyncio.sleep(3600))
        job.cancel()
        await job

    receiver = merchant.another(on_trade=handle)

    assert ACK_NOT_HANDLED == await receiver.receive(FORM, merchant.body(paid()))
    assert [Verdict.FAILED] == merchant.verdicts
    assert ACK_HANDLED == await merchant.deliver(paid())


# When parts fail


async def test_callback_has_its_effect_though_nothing_can_be_settled(
    open_merchant: OpenMerchant, caplog: pytest.LogCaptureFixture
) -> None:
    """Recovery asks about what stays open; the merchant need not wait for it."""
    merchant = open_merchant(store=FlakyStore(failing={"find_open"}))

    assert ACK_HANDLED == await merchant.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert "stays open: the store is away" in caplog.text


async def test_store_that_gave_up_is_told_as_such(open_merchant: OpenMerchant) -> None:
    """Its error is a `TimeoutError`, too; yet the callback itself took no time."""
    error = NotSentTimeoutError("the store did not answer")
    merchant = open_merchant(store=FlakyStore(failing={"load_entries"}, error=error))

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    assert ["the store did not answer"] == [event.reason for event in merchant.events]


async def test_unexpected_error_is_answered_and_logged(
    open_merchant: OpenMerchant, caplog: pytest.LogCaptureFixture
) -> None:
    """Even a store with a bug does not break the endpoint."""
    merchant = open_merchant(
        store=FlakyStore(failing={"load_entries"}, error=ZeroDivisionError("a bug"))
    )

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    assert "ZeroDivisionError" in caplog.text


async def test_failing_hook_does_not_change_the_answer(
    open_merchant: OpenMerchant, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that raises is logged, and the other hooks still run."""

    def broken(event: CallbackEvent) -> None:
        raise RuntimeError(f"no {event.verdict}")

    merchant = open_merchant()
    watched = merchant.another(hooks=[broken, merchant.events.append])

    assert ACK_HANDLED == await watched.receive(FORM, merchant.body(paid()))
    assert [Verdict.HANDLED] == merchant.verdicts
    assert "no handled" in caplog.text


async def test_cancelled_task_releases_the_callback(open_merchant: OpenMerchant) -> None:
    """A loop that ends before the handler does leaves no claim behind."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    call = asyncio.create_task(merchant.deliver(paid()))
    await merchant.entered.wait()
    [task] = merchant.receiver._verified

    task.cancel()
    assert ACK_NOT_HANDLED == await call
    merchant.gate = None

    assert ACK_HANDLED == await merchant.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == merchant.effects
