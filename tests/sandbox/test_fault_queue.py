"""Which call and which callback meets which fault, alone and with callbacks over HTTP."""

import asyncio
from collections import Counter
from collections.abc import Iterator
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
from tests.sandbox.raw_merchant import Merchant
from tests.support.clock import MovedClock
from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox import Fault, FaultKind, Forgery, Sandbox
from wxpay_async.sandbox.fault_kinds import Operation, Place
from wxpay_async.sandbox.fault_queue import CallbackFault, Faults


@pytest.fixture
def settings(callback_settings: Settings) -> dict[str, object]:
    """Let the sandbox send callbacks to the shop."""
    return callback_settings


def take(faults: Faults, *operations: Operation) -> list[FaultKind | None]:
    """Return what happens to calls on their arrival."""
    taken = (faults.take(Place.ARRIVAL, operation) for operation in operations)
    return [fault.kind if fault else None for fault in taken]


def iter_hits(faults: Faults, calls: int) -> Iterator[int]:
    """Yield the numbers of the calls to which something happens, from 1."""
    for number in range(1, calls + 1):
        if faults.take(Place.ARRIVAL, "pay"):
            yield number


# The queue


def test_faults_without_an_order_do_nothing() -> None:
    """Where nothing is ordered, nothing goes wrong."""
    faults = Faults()
    assert faults.take(Place.ARRIVAL, "pay") is None
    assert faults.take_callback_fault() == CallbackFault()


def test_faults_happen_once_each_in_their_order() -> None:
    """One call meets one of them, and each is counted."""
    faults = Faults()
    faults.inject_all([Fault.drop_before_commit(), Fault.delay(seconds=2)])
    assert take(faults, "pay", "pay", "pay") == ["drop_before_commit", "delay", None]
    assert faults.injected == {"drop_before_commit": 1, "delay": 1}
    assert faults.list_ordered() == []


def test_fault_of_one_operation_skips_others() -> None:
    """It leaves other calls to the faults after it."""
    faults = Faults()
    faults.inject_all([Fault.reset(operation="query"), Fault.cut_body(operation="query")])
    assert take(faults, "pay") == [None]
    faults.inject(Fault.drop_after_commit())
    assert take(faults, "pay", "query", "query", "query") == [
        "drop_after_commit",
        "reset",
        "cut_body",
        None,
    ]


@pytest.mark.parametrize(
    ("fault", "hits"),
    [
        (Fault.drop_after_commit(every=5), [5, 10, 15, 20]),
        (Fault.drop_after_commit(every=5, times=2), [5, 10]),
        (Fault.drop_after_commit(every=5, after=3), [8, 13, 18]),
        (Fault.drop_after_commit(after=3), [4]),
        (Fault.drop_after_commit(times=3), [1, 2, 3]),
        (Fault.drop_after_commit(times=None, after=17), [18, 19, 20]),
        (Fault.drop_after_commit(chance=0.0), []),
        (Fault.drop_after_commit(chance=1.0, after=18), [19, 20]),
    ],
)
def test_fault_happens_to_the_calls_that_it_names(fault: Fault, hits: list[int]) -> None:
    """`every`, `after` and `times` count the calls of its operation."""
    faults = Faults()
    faults.inject(fault)
    assert list(iter_hits(faults, 20)) == hits


def test_chance_is_drawn_from_the_seed() -> None:
    """The same seed hits the same calls; another one hits others."""
    hits: list[list[int]] = []
    for seed in (7, 7, 8):
        faults = Faults(seed)
        faults.inject(Fault.drop_after_commit(chance=0.3))
        hits.append(list(iter_hits(faults, 200)))
    assert hits[0] == hits[1]
    assert hits[0] != hits[2]
    assert 30 < len(hits[0]) < 90


def test_chance_of_a_fault_does_not_depend_on_those_after_it() -> None:
    """Each fault draws for itself."""
    alone, beside = Faults(7), Faults(7)
    alone.inject(Fault.drop_after_commit(chance=0.3, operation="pay"))
    beside.inject(Fault.drop_after_commit(chance=0.3, operation="pay"))
    beside.inject(Fault.delay(chance=0.5, operation="refund"))
    hits: list[list[bool]] = [[], []]
    for _ in range(100):
        hits[0].append(alone.take(Place.ARRIVAL, "pay") is not None)
        hits[1].append(beside.take(Place.ARRIVAL, "pay") is not None)
        beside.take(Place.ARRIVAL, "refund")
    assert hits[0] == hits[1]


def test_fault_counts_the_calls_that_no_earlier_one_took() -> None:
    """So that what stands behind another is not used up unseen."""
    faults = Faults()
    faults.inject_all([Fault.reset(), Fault.cut_body(every=2)])
    assert take(faults, "pay", "pay", "pay") == ["reset", None, "cut_body"]
    (left,) = faults.list_ordered()
    assert (left.seen, left.happened) == (2, 1)


def test_each_place_has_a_fault_of_its_own() -> None:
    """A call can be delayed and answered wrongly at once."""
    faults = Faults()
    faults.inject_all([Fault.delay(), Fault.wrong_echo()])
    arrival, admitted = (faults.take(place, "pay") for place in (Place.ARRIVAL, Place.ADMITTED))
    assert arrival is not None
    assert admitted is not None
    assert (arrival.kind, admitted.kind) == (FaultKind.DELAY, FaultKind.WRONG_ECHO)


def test_clear_takes_one_back_or_all() -> None:
    """By the number that ordering it returned."""
    faults = Faults()
    numbers = [faults.inject(Fault.reset()) for _ in range(3)]
    faults.clear(numbers[1])
    assert [ordered.number for ordered in faults.list_ordered()] == [1, 3]
    with pytest.raises(InvalidRequestError, match="number: 2; allowed: 1, 3"):
        faults.clear(2)
    faults.clear()
    assert take(faults, "pay") == [None]
    with pytest.raises(InvalidRequestError, match="no fault is ordered"):
        faults.clear(1)


def test_callback_faults_of_several_kinds_combine() -> None:
    """Each kind applies to the next callbacks by itself."""
    faults = Faults()
    faults.inject_all(
        [
            Fault.callback_doubled(copies=3, times=2),
            Fault.callback_reordered(size=3),
            Fault.callback_stale(seconds=60),
            Fault.callback_late(seconds=5),
            Fault.callback_forged(forgery="amount"),
        ]
    )
    assert [faults.take_callback_fault() for _ in range(4)] == [
        CallbackFault(copies=3, held=True, stale=60, pause=5, forgery=Forgery.AMOUNT),
        CallbackFault(copies=3, held=True),
        CallbackFault(releases=True),
        CallbackFault(),
    ]


def test_callback_that_is_lost_does_not_complete_a_reordered_group() -> None:
    """The group waits for one that can be sent."""
    faults = Faults()
    faults.inject_all([Fault.callback_reordered(), Fault.callback_lost(after=1)])
    assert [faults.take_callback_fault() for _ in range(3)] == [
        CallbackFault(held=True),
        CallbackFault(lost=True),
        CallbackFault(releases=True),
    ]


def test_own_fault_of_a_callback_wins_over_its_kind() -> None:
    """A magic value's fault; the one that was ordered meets the next callback."""
    faults = Faults()
    faults.inject(Fault.callback_doubled(copies=5))
    own = Fault.callback_doubled(copies=2)
    assert [faults.take_callback_fault(own), faults.take_callback_fault()] == [
        CallbackFault(copies=2),
        CallbackFault(copies=5),
    ]


# Callbacks over HTTP


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
    sandbox.faults.inject(Fault.callback_doubled(copies=3))
    for number in ("A1", "A2"):
        await merchant.complete(number)
    assert shop.numbers == ["A1", "A1", "A1", "A2"]
    assert len({dict(form)["nonce"] for form in shop.forms}) == 4


async def test_reorder_sends_the_last_first(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Held callbacks arrive the last first; later ones arrive as they arise."""
    sandbox.faults.inject(Fault.callback_reordered(size=3))
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
    sandbox.faults.inject(Fault.callback_reordered())
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
    sandbox.faults.inject(Fault.callback_reordered(size=2))
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
    sandbox.faults.inject(Fault.callback_reordered(size=3))
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert shop.numbers == ["A2", "A1"]


async def test_stale_callback_has_an_old_timestamp(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """It is correctly signed, and has the same age at each delivery."""
    shop.answers.append(REFUSED)
    sandbox.faults.inject(Fault.callback_stale(seconds=3600))
    await merchant.complete("A1")
    expected = str(round((clock.time() - 3600) * 1000))
    assert [dict(form)["timestamp"] for form in shop.forms] == [expected] * 2
    assert is_signed_by_md5(shop.forms[0], sandbox.app_secret)


async def test_late_callback_waits_before_its_first_delivery_only(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Other callbacks pass a paused one."""
    sandbox.faults.inject(Fault.callback_late(seconds=60))
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
    sandbox.faults.inject(Fault.callback_forged(forgery="amount"))
    await merchant.complete("A1")
    genuine = [is_genuine(form, sandbox, tmp_path, rsa=False) for form in shop.forms]
    assert genuine == [False, True]
    assert [dict(form)["trade_amount"] for form in shop.forms] == ["3369.00", "33.69"]
    assert [line.forgery for line in sandbox.callbacks.log] == [Forgery.AMOUNT, None]
    assert (sandbox.callbacks.forgeries_acknowledged, sandbox.callbacks.acknowledged) == (0, 1)


async def test_forge_counts_acknowledged_forgeries(merchant: Merchant, sandbox: Sandbox) -> None:
    """A merchant that acknowledges a forgery is found out."""
    sandbox.faults.inject(Fault.callback_forged(forgery=Forgery.UNSIGNED))
    await merchant.complete("A1")
    assert (sandbox.callbacks.forgeries_acknowledged, sandbox.callbacks.acknowledged) == (1, 1)


async def test_faults_of_callbacks_combine(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """One callback can be doubled, late and out of order."""
    sandbox.faults.inject(Fault.callback_doubled(times=2))
    sandbox.faults.inject(Fault.callback_stale(seconds=60, times=2))
    sandbox.faults.inject(Fault.callback_reordered(size=2))
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert shop.numbers == ["A2", "A2", "A1", "A1"]
    stamps = {int(dict(form)["timestamp"]) for form in shop.forms}
    assert stamps == {round((clock.time() - 60) * 1000)}


async def test_lost_callback_is_never_sent(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """The order is paid, and its merchant learns of it by a query only; the next one arrives."""
    sandbox.faults.inject(Fault.callback_lost())
    await merchant.complete("A1")
    await merchant.complete("A2")
    assert shop.numbers == ["A2"]
    assert (sandbox.callbacks.lost, sandbox.callbacks.waiting) == (1, 0)
    assert await merchant.status("A1") == "支付成功"
