"""Callbacks above the gateway: believed or confirmed, in order, and each with one effect."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited
from wxpay_async.adapters.stores.inbox import Receipt
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.callbacks import CallbackEvent, CallbackReceiver, Verdict
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.notify import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    Notification,
    Notifications,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier, RsaSigner, RsaVerifier

KEYS = Path(__file__).parents[1] / "vectors" / "keys"
SIGNER = RsaSigner.from_pem((KEYS / "pkcs8.pem").read_bytes())
VERIFIER = RsaVerifier.from_pem((KEYS / "public.pem").read_bytes())
SECRET = "192006250b4c09247ec02edce69f6a2d"
APP_KEY = "gmd930ea5d5a258f4f"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NOT_FOUND = {"success": False, "errorCode": "GM_API_BUS_000099", "errorMsg": "no such order"}

Json = dict[str, Any]
OpenShop = Callable[..., Any]


def paid(number: str = "O-1", **changes: str) -> dict[str, str]:
    """Write what a trade's callback says."""
    return {
        "out_trade_no": number,
        "inner_trade_no": f"T-{number}",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "1.00",
        **changes,
    }


def refunded(**changes: str) -> dict[str, str]:
    """Write what a refund's callback says."""
    return {
        "orig_outer_trade_no": "O-1",
        "out_trade_no": "R-1",
        "inner_trade_no": "T-9",
        "refund_status": "REFUND_SUCCESS",
        "refund_amount": "0.40",
        **changes,
    }


def order(status: str = "支付成功", number: str = "O-1", amount: str | None = "1.00") -> Json:
    """Write how a query answers."""
    data = {"outTradeNo": number, "status": status, "totalAmount": amount}
    return {"success": True, "data": data}


@define(eq=False)
class Desk:
    """A receiver, who signs to it, and what came of it.

    Attributes:
        effects: how often the handler ran to its end, by order and state.
        seen: the notifications that it got.
        events: what the hook heard.
        failing: how often the handler still has to raise.
        gate: the handler waits for it.
        entered: the handler has begun.
    """

    gateway: PayGateway
    clock: Clock
    scheme: str = "rsa"
    effects: Counter[tuple[str, TradeState]] = field(factory=Counter)
    seen: list[Notification] = field(factory=list)
    events: list[CallbackEvent] = field(factory=list)
    failing: int = 0
    gate: asyncio.Event | None = None
    entered: asyncio.Event = field(factory=asyncio.Event)
    receiver: CallbackReceiver = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.receiver = self.another()

    def another(self, **changes: Any) -> CallbackReceiver:  # noqa: ANN401 - the receiver's
        """Make a receiver as another worker has one."""
        given = {
            "on_trade": self.handle,
            "on_refund": self.handle,
            "hooks": [self.events.append],
            "clock": self.clock,
        }
        verifier = VERIFIER if self.scheme == "rsa" else Md5Verifier(SECRET)
        notifications = Notifications(verifier, app_key=APP_KEY, clock=self.clock.time)
        return CallbackReceiver(self.gateway, notifications, **(given | changes))

    async def handle(self, notification: Notification) -> None:
        """Have an effect, unless this time it shall fail."""
        self.seen.append(notification)
        self.entered.set()
        await (self.gate.wait() if self.gate else asyncio.sleep(0))
        if self.failing:
            self.failing -= 1
            raise LookupError("the shop's database is away")
        self.effects[notification.out_trade_no, notification.state] += 1

    def body(self, fields: dict[str, str], *, age: float = 0) -> bytes:
        """Sign in the desk's scheme, or not at all."""
        if self.scheme == "none":
            return urlencode(fields).encode()
        signer = SIGNER if self.scheme == "rsa" else Md5Signer(SECRET)
        full = {
            "appKey": APP_KEY,
            "nonce": "n",
            "timestamp": str(round((self.clock.time() - age) * 1000)),
            **({"signType": "RSA"} if self.scheme == "rsa" else {}),
            **fields,
        }
        message = "&".join(f"{name}={full[name]}" for name in sorted(full) if full[name])
        return urlencode({**full, "sign": str(signer.sign(message.encode()))}).encode()

    async def deliver(self, fields: dict[str, str], *, age: float = 0) -> bytes:
        """Deliver once."""
        return await self.receiver.receive(FORM, self.body(fields, age=age))

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of each delivery."""
        return [event.verdict for event in self.events]


OpenDesk = Callable[..., Desk]


@pytest.fixture
def open_desk(open_shop: OpenShop) -> OpenDesk:
    """Return a function that opens a desk over the answers of a platform."""

    def opened(answers: Any = (), scheme: str = "rsa", **settings: Any) -> Desk:  # noqa: ANN401
        shop = open_shop(answers, **settings)
        return Desk(shop.gateway, shop.clock, scheme)

    return opened


# Believed, or confirmed


async def test_an_authentic_callback_is_handled_without_a_query(open_desk: OpenDesk) -> None:
    """What the platform signed by RSA just now is handed on, and acknowledged with exact bytes."""
    desk = open_desk()

    assert b'{"status": 1}' == await desk.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == desk.effects
    [notification] = desk.seen
    assert isinstance(notification, TradeNotification)
    assert (True, True, False) == (
        notification.authentic,
        notification.fresh,
        notification.confirmed,
    )


@pytest.mark.parametrize("scheme", ["md5", "none"])
async def test_a_hint_is_confirmed_by_a_query(open_desk: OpenDesk, scheme: str) -> None:
    """The handler learns that a query said the same, and that no RSA signature did."""
    desk = open_desk([order()], scheme)

    assert ACK_HANDLED == await desk.deliver(paid())
    [notification] = desk.seen
    assert (False, True) == (notification.authentic, notification.confirmed)


@pytest.mark.parametrize(
    ("scheme", "age", "expected"), [("rsa", 0, None), ("rsa", 400, "已退款"), ("md5", 0, "已退款")]
)
async def test_the_handler_learns_what_the_query_said(
    open_desk: OpenDesk, scheme: str, age: float, expected: str | None
) -> None:
    """The truth may have gone further than the callback; without a query there is none."""
    desk = open_desk([order("已退款")], scheme)

    await desk.deliver(paid(), age=age)

    [notification] = desk.seen
    assert expected == (notification.queried and notification.queried.status)


async def test_an_old_authentic_callback_needs_a_query(open_desk: OpenDesk) -> None:
    """Redelivery may be late; what it says must still be true."""
    desk = open_desk([order("待付款"), order()])

    assert ACK_NOT_HANDLED == await desk.deliver(paid(), age=400)
    assert {} == desk.effects
    assert ACK_HANDLED == await desk.deliver(paid(), age=400)
    assert (True, True) == (desk.seen[0].authentic, desk.seen[0].confirmed)


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
async def test_what_a_query_does_not_confirm_is_not_handled(
    open_desk: OpenDesk, answer: Json
) -> None:
    """Another status, amount or order: no effect, no acknowledgement, and it may come again."""
    desk = open_desk([answer, order()], "md5")

    assert ACK_NOT_HANDLED == await desk.deliver(paid())
    assert ({}, [Verdict.UNCONFIRMED]) == (desk.effects, desk.verdicts)
    assert ACK_HANDLED == await desk.deliver(paid())


@pytest.mark.parametrize("failure", [NotSentError("no route"), InDoubtError("timeout")])
async def test_without_an_answer_nothing_is_confirmed(
    open_desk: OpenDesk, failure: NotSentError | InDoubtError
) -> None:
    """A platform that cannot be asked leaves a hint a hint."""
    desk = open_desk(lambda _: failure, "md5")

    assert ACK_NOT_HANDLED == await desk.deliver(paid())
    assert ({}, [Verdict.UNCONFIRMED]) == (desk.effects, desk.verdicts)


@pytest.mark.parametrize("status", ["支付成功", "退款中", "已退款", "退款失败"])
async def test_what_was_refunded_was_paid(open_desk: OpenDesk, status: str) -> None:
    """A payment's callback that comes after the refund is still true."""
    desk = open_desk([order(status)], "md5")

    assert ACK_HANDLED == await desk.deliver(paid())


async def test_an_unknown_status_is_only_believed_when_authentic(open_desk: OpenDesk) -> None:
    """A query cannot confirm what nobody understands; a signature can vouch for the words."""
    new = paid(trade_status="TRADE_PONDERED")
    hint, authentic = open_desk([order()], "md5"), open_desk()

    assert ACK_NOT_HANDLED == await hint.deliver(new)
    assert ACK_HANDLED == await authentic.deliver(new)
    assert [TradeState.UNKNOWN] == [notification.state for notification in authentic.seen]


@pytest.mark.parametrize(
    ("scheme", "age", "answer", "expected"),
    [
        ("rsa", 0, None, Verdict.HANDLED),
        ("rsa", 400, order("退款成功", "R-1", "0.40"), Verdict.HANDLED),
        ("rsa", 400, NOT_FOUND, Verdict.HANDLED),
        ("rsa", 400, NotSentError("no route"), Verdict.UNCONFIRMED),
        ("rsa", 400, order("退款成功", "R-1", "0.41"), Verdict.UNCONFIRMED),
        ("md5", 0, order("退款成功", "R-1", "0.40"), Verdict.HANDLED),
        ("md5", 0, order("退款中", "R-1", "0.40"), Verdict.UNCONFIRMED),
        ("md5", 0, order("支付成功", "O-1", "1.00"), Verdict.UNCONFIRMED),
        ("md5", 0, NOT_FOUND, Verdict.UNCONFIRMED),
        ("none", 0, NOT_FOUND, Verdict.UNCONFIRMED),
    ],
)
async def test_refunds_are_believed_as_far_as_they_can_be(
    open_desk: OpenDesk, scheme: str, age: float, answer: object, expected: Verdict
) -> None:
    """Where the platform does not find a refund by its number, only a signature counts."""
    desk = open_desk(lambda _: answer, scheme)

    await desk.deliver(refunded(), age=age)

    assert [expected] == desk.verdicts
    assert all(isinstance(seen, RefundNotification) for seen in desk.seen)
    assert (expected is Verdict.HANDLED) == bool(desk.effects)


async def test_what_is_refused_touches_nothing(
    open_desk: OpenDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """A forgery is answered 0 and reported; no value of it is logged."""
    caplog.set_level(logging.DEBUG, "wxpay_async")
    desk = open_desk()
    body = desk.body(paid()).replace(b"O-1", b"forged-order")

    assert ACK_NOT_HANDLED == await desk.receiver.receive(FORM, body)
    assert [Verdict.REFUSED] == desk.verdicts
    assert desk.events[0].notification is None
    assert "signature" in desk.events[0].reason
    assert "forged-order" not in caplog.text
    assert ACK_HANDLED == await desk.deliver(paid())


async def test_a_parsed_body_is_a_mistake_of_the_program(open_desk: OpenDesk) -> None:
    """The one thing that is raised, and nothing that is sent can cause it."""
    with pytest.raises(TypeError, match="raw bytes"):
        await open_desk().receiver.receive(FORM, paid())  # type: ignore[arg-type]


async def test_a_callback_without_a_handler_is_not_acknowledged(open_desk: OpenDesk) -> None:
    """It would be lost; and once there is a handler, it is handled."""
    desk = open_desk()
    deaf = desk.another(on_trade=None)

    assert ACK_NOT_HANDLED == await deaf.receive(FORM, desk.body(paid()))
    assert [Verdict.UNWANTED] == desk.verdicts
    assert ACK_HANDLED == await desk.deliver(paid())


# Once


async def test_a_thousand_copies_at_once_have_one_effect(open_desk: OpenDesk) -> None:
    """One handler ran, after one query; all that come later are acknowledged."""
    shop_calls: list[object] = []

    def answer(request: object) -> Json:
        shop_calls.append(request)
        return order()

    desk = open_desk(answer, "md5")
    body = desk.body(paid())

    at_once = await asyncio.gather(*(desk.receiver.receive(FORM, body) for _ in range(1000)))
    later = await asyncio.gather(*(desk.receiver.receive(FORM, body) for _ in range(1000)))

    assert {("O-1", TradeState.PAID): 1} == desk.effects
    assert 1 == len(shop_calls) == at_once.count(ACK_HANDLED)
    assert [ACK_HANDLED] * 1000 == later
    assert {Verdict.HANDLED: 1, Verdict.BUSY: 999, Verdict.DUPLICATE: 1000} == Counter(
        desk.verdicts
    )


async def test_two_workers_on_one_store_have_one_effect(open_desk: OpenDesk) -> None:
    """The inbox is the store's, not the receiver's."""
    desk = open_desk()
    workers, body = [desk.another(), desk.another()], desk.body(paid())

    answers = await asyncio.gather(*(worker.receive(FORM, body) for worker in workers * 10))

    assert (1, 1) == (answers.count(ACK_HANDLED), desk.effects.total())


async def test_a_handler_that_raises_gets_it_again(
    open_desk: OpenDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """Answered 0 until the handler succeeds, then the effect has happened once."""
    desk = open_desk()
    desk.failing = 2

    answers = [await desk.deliver(paid()) for _ in range(4)]

    assert [ACK_NOT_HANDLED, ACK_NOT_HANDLED, ACK_HANDLED, ACK_HANDLED] == answers
    assert {("O-1", TradeState.PAID): 1} == desk.effects
    assert "the handler raised LookupError" == desk.events[0].reason
    assert "the shop's database is away" in caplog.text


async def test_endpoints_have_effects_of_their_own(open_desk: OpenDesk) -> None:
    """Two addresses that are both told may both act."""
    desk = open_desk()
    other = desk.another(endpoint="bookkeeping")

    assert ACK_HANDLED == await desk.deliver(paid())
    assert ACK_HANDLED == await other.receive(FORM, desk.body(paid()))
    assert {("O-1", TradeState.PAID): 2} == desk.effects


async def test_orders_with_odd_names_are_not_confused(open_desk: OpenDesk) -> None:
    """The inbox's keys quote what strangers choose."""
    desk = open_desk()
    first = paid('O", "T', inner_trade_no="1")
    second = paid("O", inner_trade_no='T", "1')

    for fields in (first, second, paid("O", inner_trade_no="T"), paid("商品", inner_trade_no="T")):
        await desk.deliver(fields)

    assert [Verdict.HANDLED, Verdict.HANDLED, Verdict.LATE, Verdict.HANDLED] == desk.verdicts


@pytest.mark.parametrize("kind", ["callback", "order", "reached"])
async def test_what_a_killed_process_held_is_free_again(open_desk: OpenDesk, kind: str) -> None:
    """Its claims keep others away for the length of a lease, and no longer."""
    desk = open_desk()
    receiver = desk.receiver
    notification = receiver.notifications.parse(FORM, desk.body(paid()))
    more = {"callback": ("T-O-1", "TRADE_SUCCESS"), "order": (), "reached": ("paid",)}
    key = receiver._key(notification, kind, *more[kind])
    assert Receipt.ACQUIRED is await receiver._begin(key)

    # A process that died while it asked how far the order is held no handler up.
    expected = ACK_HANDLED if kind == "reached" else ACK_NOT_HANDLED
    assert expected == await desk.deliver(paid())
    await desk.clock.sleep(receiver.limit + 5.0)
    assert ACK_HANDLED == await desk.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == desk.effects


# When strangers send


async def test_hints_of_strangers_wait_behind_people(open_desk: OpenDesk) -> None:
    """What nobody signed is asked about as a batch is, what was signed as a doubt is."""
    lanes: list[Lane] = []

    class Noting(Unlimited):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            lanes.append(lane)
            return await super().acquire(lane, timeout=timeout)

    for scheme, age in (("none", 0), ("md5", 0), ("rsa", 400)):
        await open_desk([order()], scheme, limiter=Noting()).deliver(paid(), age=age)

    assert [Lane.BATCH, Lane.RESOLVING, Lane.RESOLVING] == lanes


async def test_a_signature_that_nobody_checks_is_none(open_desk: OpenDesk) -> None:
    """Where there is no verifier, the four fields make a stranger's hint no better."""
    desk = open_desk()
    unchecked = Notifications(None, app_key=APP_KEY, clock=desk.clock.time)
    body = desk.body(paid())

    assert [False, True] == [
        notifications.parse(FORM, body).verified
        for notifications in (unchecked, desk.receiver.notifications)
    ]


async def test_a_flood_is_bounded(open_desk: OpenDesk) -> None:
    """A thousand at a time; further ones are answered at once, and asked about later."""
    asked, gate = Counter[str](), asyncio.Event()

    async def answer(_: object) -> Json:
        asked["all"] += 1
        await gate.wait()
        return order(number="another")

    desk = open_desk(answer, "none", max_in_flight=5_000)
    bodies = [desk.body(paid(f"O-{number}")) for number in range(1_200)]
    calls = [asyncio.create_task(desk.receiver.receive(FORM, body)) for body in bodies]
    while asked["all"] < 1_000:  # noqa: ASYNC110 - requests have no event
        await asyncio.sleep(0)

    assert [ACK_NOT_HANDLED] * 200 == [call.result() for call in calls if call.done()]
    assert [Verdict.BUSY] * 200 == desk.verdicts
    gate.set()
    await asyncio.gather(*calls)
    assert 1_000 == asked["all"]
    assert ACK_NOT_HANDLED == await desk.receiver.receive(FORM, bodies[-1])
    assert 1_001 == asked["all"]


# Forward only


async def test_a_late_closed_after_paid_changes_nothing(
    open_desk: OpenDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """It is acknowledged and reported, and the handler does not hear of it; nor of its copies."""
    desk = open_desk()
    closed = paid(trade_status="TRADE_CLOSED")

    answers = [await desk.deliver(fields) for fields in (paid(), closed, closed, paid())]

    assert [ACK_HANDLED] * 4 == answers
    assert {("O-1", TradeState.PAID): 1} == desk.effects
    assert [
        Verdict.HANDLED,
        Verdict.LATE,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ] == desk.verdicts
    assert "callback O-1: late" in caplog.text


@pytest.mark.parametrize("status", ["TRADE_CLOSED", "TRANSFER_FAIL"])
async def test_a_query_knows_that_it_went_further(open_desk: OpenDesk, status: str) -> None:
    """An order that is paid is not closed by a hint, even if nobody was told of the payment."""
    desk = open_desk([order()], "md5")

    assert ACK_HANDLED == await desk.deliver(paid(trade_status=status))
    assert ({}, [Verdict.LATE]) == (desk.effects, desk.verdicts)


async def test_statuses_move_forward(open_desk: OpenDesk) -> None:
    """Failed, then closed, then paid is each further than the one before; none of them twice."""
    desk = open_desk()
    steps = ("TRANSFER_FAIL", "TRADE_CLOSED", "TRADE_SUCCESS")

    for status in (*steps, *reversed(steps)):
        await desk.deliver(paid(trade_status=status, inner_trade_no=f"T-{len(desk.events)}"))

    assert [TradeState.FAILED, TradeState.CLOSED, TradeState.PAID] == [n.state for n in desk.seen]
    assert [Verdict.HANDLED] * 3 + [Verdict.LATE] * 3 == desk.verdicts


async def test_a_refund_that_succeeded_has_not_failed(open_desk: OpenDesk) -> None:
    """And the refund's statuses have nothing to do with the order's."""
    desk = open_desk()
    failed = refunded(refund_status="REFUND_FAIL")

    for fields in (paid("R-1"), refunded(), failed):
        await desk.deliver(fields)

    assert [Verdict.HANDLED, Verdict.HANDLED, Verdict.LATE] == desk.verdicts


async def test_a_second_payment_is_reported(open_desk: OpenDesk) -> None:
    """The same order paid under another platform number has no second effect."""
    desk = open_desk()

    await desk.deliver(paid())
    assert ACK_HANDLED == await desk.deliver(paid(inner_trade_no="T-other"))

    assert {("O-1", TradeState.PAID): 1} == desk.effects
    assert [Verdict.HANDLED, Verdict.LATE] == desk.verdicts


async def test_one_callback_of_an_order_at_a_time(open_desk: OpenDesk) -> None:
    """While paid is being handled, closed has to come again, and is then late."""
    desk = open_desk()
    desk.gate = asyncio.Event()
    first = asyncio.create_task(desk.deliver(paid()))
    await desk.entered.wait()

    assert ACK_NOT_HANDLED == await desk.deliver(paid(trade_status="TRADE_CLOSED"))
    desk.gate.set()
    assert ACK_HANDLED == await first
    assert ACK_HANDLED == await desk.deliver(paid(trade_status="TRADE_CLOSED"))
    assert [TradeState.PAID] == [notification.state for notification in desk.seen]


async def test_a_refund_does_not_wait_for_an_order_of_its_number(open_desk: OpenDesk) -> None:
    """Orders and refunds have numbers of their own, even where they look the same."""
    desk = open_desk()
    desk.gate = asyncio.Event()
    first = asyncio.create_task(desk.deliver(paid("R-1")))
    await desk.entered.wait()

    desk.entered.clear()
    second = asyncio.create_task(desk.deliver(refunded()))
    entered = asyncio.create_task(desk.entered.wait())
    await asyncio.wait([second, entered], return_when=asyncio.FIRST_COMPLETED)
    desk.gate.set()
    assert [ACK_HANDLED, ACK_HANDLED] == await asyncio.gather(first, second)


async def test_a_failed_handler_does_not_count_as_reached(open_desk: OpenDesk) -> None:
    """An order whose payment could not be handled may still be told that it is closed."""
    desk = open_desk()
    desk.failing = 1

    await desk.deliver(paid())
    await desk.deliver(paid(trade_status="TRADE_CLOSED"))

    assert [Verdict.FAILED, Verdict.HANDLED] == desk.verdicts


# In time


async def test_a_slow_handler_goes_on_behind_the_answer(open_desk: OpenDesk) -> None:
    """The platform is told 0 in time, and 1 when it comes again; the effect happens once."""
    desk = open_desk()
    desk.gate = asyncio.Event()
    hasty = desk.another(answer_within=0.01)
    body = desk.body(paid())

    assert ACK_NOT_HANDLED == await hasty.receive(FORM, body)
    assert ACK_NOT_HANDLED == await hasty.receive(FORM, body)
    desk.gate.set()
    await hasty.aclose()

    assert ACK_HANDLED == await hasty.receive(FORM, body)
    assert {("O-1", TradeState.PAID): 1} == desk.effects
    assert [Verdict.SLOW, Verdict.BUSY, Verdict.HANDLED, Verdict.DUPLICATE] == desk.verdicts


async def test_the_time_counts_from_the_first_byte(open_desk: OpenDesk) -> None:
    """Whoever took 4 s to read the body has none left to wait for the handler."""
    desk = open_desk()
    desk.gate = asyncio.Event()
    began = asyncio.get_running_loop().time() - 4.0

    async with asyncio.timeout(2.0):
        answer = await desk.receiver.receive(FORM, desk.body(paid()), began=began)
    desk.gate.set()
    await desk.receiver.aclose()

    assert (ACK_NOT_HANDLED, [Verdict.SLOW, Verdict.HANDLED]) == (answer, desk.verdicts)


async def test_a_handler_that_never_ends_is_cancelled(open_desk: OpenDesk) -> None:
    """Before its lease is over, so that no other one runs beside it; then it may come again."""
    desk = open_desk(retry=RetryPolicy(min_left=0.01))
    desk.gate = asyncio.Event()
    strict = desk.another(limit=0.01)

    assert ACK_NOT_HANDLED == await strict.receive(FORM, desk.body(paid()))
    assert "it took over 0.01 s" == desk.events[0].reason
    desk.gate = None
    assert ACK_HANDLED == await desk.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == desk.effects


async def test_whoever_hangs_up_does_not_stop_the_handler(open_desk: OpenDesk) -> None:
    """The platform closes its connection; half an effect would be worse than an unheard answer."""
    desk = open_desk()
    desk.gate = asyncio.Event()
    call = asyncio.create_task(desk.deliver(paid()))
    await desk.entered.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    desk.gate.set()
    await desk.receiver.aclose()

    assert {("O-1", TradeState.PAID): 1} == desk.effects
    assert ACK_HANDLED == await desk.deliver(paid())


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
def test_times_that_cannot_work_are_refused(open_desk: OpenDesk, setting: dict[str, float]) -> None:
    """With less than an attempt needs no query is sent; the platform waits no longer than 4 s."""
    desk = open_desk()
    [name] = setting

    with pytest.raises(InvalidRequestError, match=name):
        desk.another(**setting)


async def test_the_least_times_work(open_desk: OpenDesk) -> None:
    """The query of a hint is sent and answered within the gateway's own least time."""
    desk = open_desk([order()], "md5")
    least = desk.another(limit=desk.gateway.min_left, answer_within=4.0)

    assert ACK_HANDLED == await least.receive(FORM, desk.body(paid()))


async def test_a_plain_function_is_a_handler_too(open_desk: OpenDesk) -> None:
    """Its effect happens once, and is acknowledged; if it raises, the callback comes again."""
    desk = open_desk()
    failing = [LookupError("the shop's database is away")]

    def handle(notification: TradeNotification) -> None:
        if failing:
            raise failing.pop()
        desk.effects[notification.out_trade_no, notification.state] += 1

    receiver, body = desk.another(on_trade=handle), desk.body(paid())
    answers = [await receiver.receive(FORM, body) for _ in range(3)]

    assert [ACK_NOT_HANDLED, ACK_HANDLED, ACK_HANDLED] == answers
    assert {("O-1", TradeState.PAID): 1} == desk.effects


async def test_a_handler_that_is_cancelled_from_elsewhere_has_failed(open_desk: OpenDesk) -> None:
    """What it waited for was cancelled, not the callback: reported, and it comes again."""
    desk = open_desk()

    async def handle(_: TradeNotification) -> None:
        job = asyncio.ensure_future(asyncio.sleep(3600))
        job.cancel()
        await job

    receiver = desk.another(on_trade=handle)

    assert ACK_NOT_HANDLED == await receiver.receive(FORM, desk.body(paid()))
    assert [Verdict.FAILED] == desk.verdicts
    assert ACK_HANDLED == await desk.deliver(paid())


# When parts fail


@define(eq=False)
class FlakyStore(MemoryStore):
    """Raises from the methods that are named in `failing`."""

    failing: set[str] = field(factory=set)
    error: Exception = field(factory=lambda: NotSentError("the store is away"))

    async def begin(self, message: str, *, now: float, lease: float = 45.0) -> Receipt:
        """Acquire a callback."""
        self._fail("begin")
        return await super().begin(message, now=now, lease=lease)

    async def complete(self, message: str, *, now: float) -> None:
        """Note it."""
        self._fail("complete")
        await super().complete(message, now=now)

    async def release(self, message: str) -> None:
        """Give it back."""
        self._fail("release")
        await super().release(message)

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise self.error


async def test_without_a_store_nothing_is_handled(open_desk: OpenDesk) -> None:
    """Nobody can tell whether it is new, so it has to come again."""
    store = FlakyStore(failing={"begin"})
    desk = open_desk(store=store)

    assert ACK_NOT_HANDLED == await desk.deliver(paid())
    store.failing.clear()
    assert ACK_HANDLED == await desk.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == desk.effects


@pytest.mark.parametrize("lost", ["complete", "release"])
async def test_what_has_happened_is_acknowledged(
    open_desk: OpenDesk, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that fails after the effect does not make the platform ask for another one."""
    store = FlakyStore(failing={lost}, error=InDoubtError("the store went away"))
    desk = open_desk(store=store)

    assert ACK_HANDLED == await desk.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == desk.effects
    assert "the inbox cannot be written" in caplog.text
    await desk.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == desk.effects


async def test_an_unexpected_error_is_answered_and_logged(
    open_desk: OpenDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """Even a store with a bug of its own does not break the endpoint."""
    desk = open_desk(store=FlakyStore(failing={"begin"}, error=ZeroDivisionError("a bug")))

    assert ACK_NOT_HANDLED == await desk.deliver(paid())
    assert "ZeroDivisionError" in caplog.text


async def test_a_watcher_does_not_change_the_answer(
    open_desk: OpenDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that raises is logged, and the others are still told."""

    def broken(event: CallbackEvent) -> None:
        raise RuntimeError(f"no {event.verdict}")

    desk = open_desk()
    watched = desk.another(hooks=[broken, desk.events.append])

    assert ACK_HANDLED == await watched.receive(FORM, desk.body(paid()))
    assert [Verdict.HANDLED] == desk.verdicts
    assert "no handled" in caplog.text


async def test_a_cancelled_shutdown_gives_the_callback_back(open_desk: OpenDesk) -> None:
    """A loop that ends in the middle leaves no claim behind."""
    desk = open_desk()
    desk.gate = asyncio.Event()
    call = asyncio.create_task(desk.deliver(paid()))
    await desk.entered.wait()
    [under_way] = desk.receiver._tasks

    under_way.cancel()
    assert ACK_NOT_HANDLED == await call
    desk.gate = None

    assert ACK_HANDLED == await desk.deliver(paid())
    assert {("O-1", TradeState.PAID): 1} == desk.effects
