"""The queues of faults, alone and applied to callbacks over HTTP."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.sandbox.callback_shop import (
    ACKNOWLEDGED,
    REFUSED,
    CallbackShop,
    Settings,
    is_genuine,
    is_signed_by_md5,
)
from tests.sandbox.raw_merchant import PAY, QUERY, Merchant
from tests.support.clock import MovedClock
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.faults import CallbackFault, Faults, Forgery, ReplyFault, ReplyFaultKind


@pytest.fixture
def settings(callback_settings: Settings) -> dict[str, object]:
    """Let the sandbox send callbacks to the shop."""
    return callback_settings


# The queues


def test_faults_empty_apply_nothing() -> None:
    """Empty queues have no fault."""
    faults = Faults()
    assert faults.take_reply_fault(PAY) is None
    assert faults.take_callback_fault() == CallbackFault()


def test_reply_faults_apply_to_one_call_each_in_order() -> None:
    """One fault applies to one call, in order; a kind can be given as text."""
    faults = Faults()
    faults.inject("drop", executed=False)
    faults.inject(ReplyFaultKind.DELAY, seconds=2)
    taken = [faults.take_reply_fault(PAY) for _ in range(3)]
    assert taken == [
        ReplyFault(ReplyFaultKind.DROP, executed=False),
        ReplyFault(ReplyFaultKind.DELAY, seconds=2),
        None,
    ]
    assert faults.injected == {"drop": 1, "delay": 1}


def test_reply_fault_of_one_path_skips_other_paths() -> None:
    """A fault of one path leaves other paths to the faults after it."""
    faults = Faults()
    faults.inject("reset", path=QUERY)
    faults.inject("truncated", path=QUERY)
    assert faults.take_reply_fault(PAY) is None
    faults.inject("drop")
    taken = [faults.take_reply_fault(path) for path in (PAY, QUERY, QUERY, QUERY)]
    assert [fault and fault.kind for fault in taken] == ["drop", "reset", "truncated", None]


@pytest.mark.parametrize(
    "ask",
    [
        lambda faults: faults.inject("explode"),
        lambda faults: faults.inject("delay", seconds=-1),
        lambda faults: faults.inject("delay", seconds=float("inf")),
        lambda faults: faults.inject("delay", seconds=float("nan")),
        lambda faults: faults.double(copies=0),
        lambda faults: faults.reorder(1),
        lambda faults: faults.late(-1),
        lambda faults: faults.pause(float("nan")),
        lambda faults: faults.pause(float("inf")),
        lambda faults: faults.forge("blue"),
    ],
)
def test_faults_of_wrong_arguments_are_refused(ask: Callable[[Faults], object]) -> None:
    """A wrong name or figure is refused at once, and nothing is queued."""
    faults = Faults()
    with pytest.raises(ValueError, match=r".+"):
        ask(faults)
    assert faults.take_callback_fault() == CallbackFault()
    assert faults.take_reply_fault(PAY) is None


def test_callback_faults_of_several_kinds_combine() -> None:
    """Each kind applies to the next callbacks by itself."""
    faults = Faults()
    faults.double(2, copies=3)
    faults.reorder(3)
    faults.late(60)
    faults.pause(5)
    faults.forge("amount")
    assert [faults.take_callback_fault() for _ in range(4)] == [
        CallbackFault(copies=3, held=True, stale=60, pause=5, forgery=Forgery.AMOUNT),
        CallbackFault(copies=3, held=True),
        CallbackFault(releases=True),
        CallbackFault(),
    ]


# Faults of callbacks, over HTTP


async def test_double_sends_copies_at_once_each_with_its_own_nonce(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """The copies of a doubled callback arrive at once, each signed for itself."""
    together = asyncio.Barrier(3)

    async def wait_for_others(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        await together.wait()
        return ACKNOWLEDGED

    shop.answers.extend([wait_for_others] * 3)
    sandbox.faults.double(copies=3)
    for number in ("A1", "A2"):
        await merchant.complete(number)
    assert shop.numbers == ["A1", "A1", "A1", "A2"]
    assert len({dict(form)["nonce"] for form in shop.forms}) == 4


async def test_reorder_sends_the_last_first(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Held callbacks arrive the last first; later ones arrive as they arise."""
    sandbox.faults.reorder(3)
    numbers = ["A1", "A2", "A3", "A4"]
    for number in numbers:
        await merchant.trade(number)
    for number in numbers[:2]:
        sandbox.confirm(number)
    await asyncio.sleep(0)
    held = list(shop.forms)
    sandbox.confirm("A3")
    await sandbox.callbacks_idle()
    sandbox.confirm("A4")
    await sandbox.callbacks_idle()
    assert held == []
    assert shop.numbers == ["A3", "A2", "A1", "A4"]


async def test_reorder_sends_a_refund_before_its_payment(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """The callback of a refund can arrive before that of its payment."""
    sandbox.faults.reorder()
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "1.00")
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("B1", "REFUND_SUCCESS"), ("A1", "TRADE_SUCCESS")]


async def test_reorder_waits_for_each_answer(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """A reordered callback is sent after the answer to the one before it, good or bad."""
    events: list[str] = []

    async def refuse_slowly_once(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        number = shop.numbers[-1]
        if shop.numbers.count(number) > 1:
            return ACKNOWLEDGED
        events.append(f"{number} came")
        await asyncio.sleep(0.02)  # time in which the other one would arrive if it did not wait
        events.append(f"{number} was answered")
        return REFUSED

    shop.answers.extend([refuse_slowly_once] * 4)
    sandbox.faults.reorder(2)
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert events == ["A2 came", "A2 was answered", "A1 came", "A1 was answered"]
    assert Counter(shop.numbers) == {"A1": 2, "A2": 2}


async def test_reorder_of_too_few_is_released_by_waiting(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Held callbacks are sent when a test waits until all are done."""
    sandbox.faults.reorder(3)
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert shop.numbers == ["A2", "A1"]


async def test_late_callback_has_an_old_timestamp(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """It is correctly signed, and has the same age at each delivery."""
    shop.answers.append(REFUSED)
    sandbox.faults.late(3600)
    await merchant.complete("A1")
    expected = str(round((clock.time() - 3600) * 1000))
    assert [dict(form)["timestamp"] for form in shop.forms] == [expected] * 2
    assert is_signed_by_md5(shop.forms[0], sandbox.app_secret)


async def test_pause_delays_the_first_delivery_only(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Other callbacks pass a paused one."""
    sandbox.faults.pause(60)
    await merchant.trade("A1")
    await merchant.trade("A2")
    sandbox.confirm("A1")
    sandbox.confirm("A2")
    await shop.arrived.acquire()
    assert shop.outcomes == [("A2", "TRADE_SUCCESS")]


async def test_forge_sends_the_forgery_first_and_once(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, tmp_path: Path
) -> None:
    """A forgery is answered before the genuine callback is sent, and is not repeated."""
    shop.answers.append(REFUSED)
    sandbox.faults.forge("amount")
    await merchant.complete("A1")
    genuine = [is_genuine(form, sandbox, tmp_path, rsa=False) for form in shop.forms]
    assert genuine == [False, True]
    assert [dict(form)["trade_amount"] for form in shop.forms] == ["3369.00", "33.69"]
    assert [line.forgery for line in sandbox.callbacks.log] == [Forgery.AMOUNT, None]
    assert (sandbox.callbacks.forgeries_acknowledged, sandbox.callbacks.acknowledged) == (0, 1)


async def test_forge_counts_acknowledged_forgeries(merchant: Merchant, sandbox: Sandbox) -> None:
    """A merchant that acknowledges a forgery is found out."""
    sandbox.faults.forge(Forgery.UNSIGNED)
    await merchant.complete("A1")
    assert (sandbox.callbacks.forgeries_acknowledged, sandbox.callbacks.acknowledged) == (1, 1)


async def test_faults_of_callbacks_combine(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """One callback can be doubled, late and out of order."""
    sandbox.faults.double(2)
    sandbox.faults.late(60, 2)
    sandbox.faults.reorder(2)
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert shop.numbers == ["A2", "A2", "A1", "A1"]
    stamps = {int(dict(form)["timestamp"]) for form in shop.forms}
    assert stamps == {round((clock.time() - 60) * 1000)}
