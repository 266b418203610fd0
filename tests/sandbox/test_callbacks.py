"""The delivery of callbacks to a merchant's server, over HTTP."""

import asyncio
from collections import Counter

import aiohttp
import pytest
from aiohttp import web
from Crypto.PublicKey import RSA

from tests.sandbox.callback_shop import (
    REFUSED,
    CallbackShop,
    Settings,
    business_fields,
    is_signed_by_md5,
)
from tests.sandbox.raw_merchant import Merchant
from tests.support.clock import MovedClock
from wxpay_async.sandbox import Fault, Sandbox, callbacks
from wxpay_async.sandbox.callback_payloads import Callback


@pytest.fixture
def settings(callback_settings: Settings) -> dict[str, object]:
    """Let the sandbox send callbacks to the shop."""
    return callback_settings


# Acknowledgement and retries


async def test_delivery_is_a_marked_form(merchant: Merchant, shop: CallbackShop) -> None:
    """A callback is a POST of a form, with the sandbox's marker."""
    await merchant.complete("A1")
    (headers,) = shop.headers
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["x-wxpay-sandbox"] == "1"


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        (200, b'{"status": true}'),
        (200, b'{"status": 1.0}'),
        (200, b'{"status": "1"}'),
        (200, b'{"status": 1, "more": 1}'),
        (200, b'{"code": 1}'),
        (200, b"[1]"),
        (200, b"1"),
        (200, b"success"),
        (200, b""),
        (200, b"\xff"),
        (200, b"[" * 4000),
        (200, b'{"status": 1}' + b" " * 5000),
        (201, b'{"status": 1}'),
        (302, b'{"status": 1}'),
        (500, b'{"status": 1}'),
    ],
    ids=lambda answer: f"{answer[0]}-{answer[1][:24]!r}",
)
async def test_answer_other_than_the_acknowledgement_is_retried(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, answer: tuple[int, bytes]
) -> None:
    """Only 200 with the object {"status": 1} acknowledges; any other answer is retried."""
    shop.answers.extend([answer, answer])
    await merchant.complete("A1")
    trials = [(delivery.attempt, delivery.acknowledged) for delivery in sandbox.callbacks.log]
    assert trials == [(1, False), (2, False), (3, True)]
    assert (sandbox.callbacks.delivered, sandbox.callbacks.acknowledged) == (3, 1)
    assert (sandbox.callbacks.given_up, sandbox.callbacks.waiting) == (0, 0)


async def test_answer_redirect_is_not_followed(merchant: Merchant, shop: CallbackShop) -> None:
    """A merchant's redirect must not lead to another machine."""
    shop.answers.append((302, b""))
    await merchant.complete("A1")
    assert shop.paths == ["/notify", "/notify"]


@pytest.mark.parametrize("answer", [b'{"status":1}', b' { "status" : 1 }\n'])
async def test_answer_with_blanks_acknowledges(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, answer: bytes
) -> None:
    """Blanks in the acknowledgement do not matter."""
    shop.answers.append((200, answer))
    await merchant.complete("A1")
    assert [delivery.acknowledged for delivery in sandbox.callbacks.log] == [True]


async def test_delivery_again_has_a_new_nonce_time_and_signature(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """The business fields stay the same, and the new signature is right."""

    async def later(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        clock.move(15)
        return REFUSED

    shop.answers.append(later)
    await merchant.complete("A1")
    first, second = map(dict, shop.forms)
    assert business_fields(shop.forms[0]) == business_fields(shop.forms[1])
    assert int(second["timestamp"]) - int(first["timestamp"]) == 15_000
    assert first["nonce"] != second["nonce"]
    assert is_signed_by_md5(shop.forms[1], sandbox.app_secret)


@pytest.mark.parametrize("how", ["hang", "reset"])
async def test_delivery_without_an_answer_is_retried(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, how: str
) -> None:
    """A merchant that hangs or resets gets it again; the log says why."""

    async def hang(request: web.BaseRequest) -> tuple[int, bytes]:
        sandbox.callbacks.timeout = 5.0  # the next delivery has time, however busy the machine is
        return await shop.hang(request)

    if how == "hang":
        sandbox.callbacks.timeout = 0.3
    shop.answers.append(hang if how == "hang" else shop.reset)
    await merchant.complete("A1")
    first, second = sandbox.callbacks.log
    assert (first.status, first.acknowledged, bool(first.problem)) == (None, False, True)
    assert (second.status, second.acknowledged, second.problem) == (200, True, "")
    assert sandbox.callbacks.delivered == 1


async def test_delivery_after_the_whole_schedule_is_given_up(
    merchant: Merchant, sandbox: Sandbox, unused_tcp_port: int
) -> None:
    """After the last delivery of the schedule a callback is given up."""
    sandbox.notify_url = f"http://127.0.0.1:{unused_tcp_port}/"
    await merchant.complete("A1")
    assert [delivery.attempt for delivery in sandbox.callbacks.log] == [1, 2, 3]
    assert {delivery.problem for delivery in sandbox.callbacks.log} == {"ClientConnectorError"}
    assert (sandbox.callbacks.given_up, sandbox.callbacks.delivered) == (1, 0)


async def test_delivery_waits_as_the_schedule_says(
    clock: MovedClock,
    shop: CallbackShop,
    pay_key: RSA.RsaKey,
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before each delivery it waits as long as the schedule says."""
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real_sleep(0)

    shop.answers.extend([REFUSED] * 3)
    async with Sandbox(
        pay_key=pay_key, clock=clock.time, notify_url=shop.url, callback_schedule=[2, 15, 60]
    ) as sandbox:
        await Merchant(session, sandbox).trade("A1")
        monkeypatch.setattr(asyncio, "sleep", sleep)
        sandbox.confirm("A1")
        await sandbox.callbacks_idle()
    assert [seconds for seconds in slept if seconds] == [2, 15, 60]
    assert sandbox.callbacks.given_up == 1


@pytest.mark.parametrize("schedule", [(), (-1,), (float("inf"),), (float("nan"),)])
def test_schedule_empty_or_impossible_is_refused(schedule: tuple[float, ...]) -> None:
    """A schedule has at least one time, and each is 0 or more and finite."""
    with pytest.raises(ValueError, match="schedule"):
        Sandbox(callback_schedule=schedule)


def test_schedule_by_default_begins_at_once_and_lasts_over_an_hour() -> None:
    """The default schedule begins at once and lasts over an hour."""
    sandbox = Sandbox()
    assert sandbox.callbacks.schedule[0] == 0
    assert sum(sandbox.callbacks.schedule) > 3600
    assert 4 < sandbox.callbacks.timeout <= 5


async def test_time_limit_is_delivered_once_when_the_status_is_read(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """The callback of a time limit has the time of the limit."""
    await merchant.trade("A1", timeoutExpress="30m")
    clock.move(3600)
    await sandbox.callbacks_idle()
    before = list(shop.forms)
    for _ in range(3):
        assert await merchant.status("A1") == "已关闭"
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert before == []
    assert shop.outcomes == [("A1", "TRADE_CLOSED")]
    assert dict(shop.forms[0])["gmt_close"] == "2025-11-23 12:30:00"


async def test_refund_that_is_refused_is_not_delivered(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """A refused refund has no callback."""
    await merchant.trade("A1")
    await merchant.refund("B1", "A1", "3.60")
    await sandbox.callbacks_idle()
    assert shop.forms == []


# Addresses


async def test_address_none_drops_callbacks(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Without an address nothing is pending; one that is set later gets later callbacks."""
    sandbox.notify_url = None
    await merchant.trade("A1")
    await merchant.trade("A2")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    sandbox.notify_url = shop.url
    sandbox.confirm("A2")
    await sandbox.callbacks_idle()
    assert sandbox.notify_url == shop.url
    assert shop.outcomes == [("A2", "TRADE_SUCCESS")]


async def test_address_changed_applies_to_pending_callbacks(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """A pending callback goes to the present address."""

    async def move(request: web.BaseRequest) -> tuple[int, bytes]:
        sandbox.notify_url = str(request.url.with_path("/moved"))
        return REFUSED

    shop.answers.append(move)
    await merchant.complete("A1")
    assert shop.paths == ["/notify", "/moved"]


async def test_address_removed_gives_pending_callbacks_up(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """A pending callback without an address is given up after its schedule."""

    async def leave(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        sandbox.notify_url = None
        return REFUSED

    shop.answers.append(leave)
    await merchant.complete("A1")
    assert [delivery.problem for delivery in sandbox.callbacks.log] == ["", *["no address"] * 2]


async def test_merchants_have_their_own_address_and_secret(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Another merchant's callback has its appKey and its signature."""
    sandbox.notify_url = None
    merchant.switch_to(sandbox.add_app("other", app_secret="its-secret", notify_url=shop.url))
    await merchant.complete("A1")
    (form,) = shop.forms
    assert dict(form)["appKey"] == "other"
    assert is_signed_by_md5(form, "its-secret")


# Start and close


async def test_close_keeps_pending_callbacks(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Closing ends every task; pending callbacks are sent after the next start."""
    shop.answers.append(shop.hang)
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await shop.arrived.acquire()
    await sandbox.aclose()
    waiting = sandbox.callbacks.waiting
    with pytest.raises(RuntimeError, match="not running"):
        await sandbox.callbacks_idle()
    await sandbox.start()
    await sandbox.callbacks_idle()
    assert (waiting, shop.outcomes) == (1, [("A1", "TRADE_SUCCESS")] * 2)


async def test_start_delivers_callbacks_of_the_closed_time(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Callbacks that arose while it was closed are sent at the start, unless they are held."""
    await merchant.trade("A1")
    await merchant.trade("A2")
    await sandbox.aclose()
    sandbox.confirm("A1")
    sandbox.faults.inject(Fault.callback_reordered())
    sandbox.cancel("A2")
    await sandbox.start()
    await shop.arrived.acquire()
    assert shop.outcomes == [("A1", "TRADE_SUCCESS")]
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRADE_SUCCESS"), ("A2", "TRANSFER_FAIL")]


async def test_close_right_after_a_confirmation_keeps_its_callback(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """A callback whose task has not started is not lost by closing."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.aclose()
    await asyncio.sleep(0)
    assert (sandbox.callbacks.waiting, shop.forms) == (1, [])
    await sandbox.start()
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRADE_SUCCESS")]


async def test_idle_without_callbacks_returns() -> None:
    """A sandbox that was never started has no pending callbacks."""
    sandbox = Sandbox()
    await sandbox.callbacks_idle()
    assert sandbox.callbacks.waiting == 0


def test_pending_callback_of_one_loop_is_delivered_in_the_next(
    pay_key: RSA.RsaKey, clock: MovedClock
) -> None:
    """A sandbox can be used in one event loop after another."""
    sandbox = Sandbox(pay_key=pay_key, clock=clock.time, callback_schedule=(0, 0, 0))

    async def fail() -> None:
        async with sandbox:
            sandbox.notify_url = "http://127.0.0.1:1/"
            fields = {"out_trade_no": "A1", "trade_status": "TRADE_SUCCESS"}
            sandbox.callbacks.enqueue(
                Callback(app_key=sandbox.app_key, kind="trade", out_trade_no="A1", fields=fields)
            )
            await asyncio.sleep(0)

    async def succeed() -> list[tuple[str, str]]:
        shop = CallbackShop()
        await shop.start()
        sandbox.notify_url = shop.url
        async with sandbox:
            await sandbox.callbacks_idle()
        await shop.aclose()
        return shop.outcomes

    asyncio.run(fail())
    assert asyncio.run(succeed()) == [("A1", "TRADE_SUCCESS")]


async def test_payer_in_another_thread_is_delivered(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """The payer may act in a thread that has no event loop."""
    await merchant.trade("A1")
    await asyncio.to_thread(sandbox.confirm, "A1")
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRADE_SUCCESS")]


async def test_close_with_many_pending_callbacks_leaves_no_task(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Closing leaves no task behind, however many callbacks wait."""
    sandbox.callbacks.schedule = (60.0,)
    for number in range(20):
        await merchant.trade(f"A{number}")
        sandbox.confirm(f"A{number}")
    await asyncio.sleep(0)
    began = len(sandbox.callbacks._tasks)
    await sandbox.aclose()
    assert (began, sandbox.callbacks._tasks, shop.forms) == (20, set(), [])


# Limits, and the log


async def test_queue_over_its_limit_drops_and_counts(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callbacks over the limit are dropped and counted; the others are sent."""
    monkeypatch.setattr(callbacks, "_MAX_PENDING", 2)
    for number in ("A1", "A2", "A3"):
        await merchant.trade(number)
    for number in ("A1", "A2", "A3"):
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert (sandbox.callbacks.dropped, len(shop.forms)) == (1, 2)


def test_log_keeps_the_last_1000_deliveries(sandbox: Sandbox) -> None:
    """The log forgets its oldest lines."""
    assert sandbox.callbacks.log.maxlen == 1000


async def test_log_shows_no_signature_and_no_secret(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """The repr of a delivery leaves its form out."""
    await merchant.complete("A1")
    shown = repr(sandbox.callbacks.log)
    assert dict(shop.forms[0])["sign"] not in shown
    assert sandbox.app_secret not in shown + repr(sandbox.callbacks)


async def test_deliveries_of_300_orders_at_once_arrive_once_each(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """300 payers at once: each order has one callback."""
    numbers = [f"A{number}" for number in range(300)]
    for number in numbers:
        await merchant.trade(number)
    for number in numbers:
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert Counter(shop.outcomes) == Counter((number, "TRADE_SUCCESS") for number in numbers)
    assert sandbox.callbacks.acknowledged == 300
