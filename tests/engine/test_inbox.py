"""The inbox of callbacks: what they cost, races, lost answers, and claims of the dead."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.callbacks import Merchant, OpenMerchant, order, paid, refunded
from tests.support.flaky_store import FlakyStore
from tests.support.platform import APP_KEY, FORM, Script
from tests.support.tasks import wait_until
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine.callbacks import Verdict
from wxpay_async.engine.inbox import TRIES
from wxpay_async.errors import InDoubtError
from wxpay_async.policy.progress import Claim, Message, Progress, order_key
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.notify import ACK_HANDLED, ACK_NOT_HANDLED, TradeNotification
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.results import TradeState

ORDER = order_key(APP_KEY, "trade", "O-1")
CLOSED = paid(trade_status="TRADE_CLOSED")
ONCE = {("O-1", TradeState.PAID): 1}
LEASE = 20.0


async def load_progress(store: Store, key: str = ORDER) -> tuple[int, Progress]:
    """Return the version and the progress of an order."""
    entry = (await store.load_entries([key]))[key]
    return entry.version, Progress.decode(entry.value)


async def claim_elsewhere(
    merchant: Merchant, state: TradeState = TradeState.PAID, endpoint: str = "default"
) -> None:
    """Claim the order as a process does that is killed afterwards."""
    store, now = merchant.gateway.store, merchant.clock.time()
    message = Message(endpoint=endpoint, state=state, identity="another")
    entry = (await store.load_entries([ORDER])).get(ORDER)
    progress = Progress.decode(entry.value) if entry else Progress()
    claimed = progress.begin(message, Claim("another", now + LEASE), now=now)
    assert isinstance(claimed, Progress)
    version = entry.version if entry else None
    assert await store.swap(ORDER, version=version, value=claimed.encode(), now=now)


# What it costs


async def test_callback_costs_one_read_and_two_commits(open_merchant: OpenMerchant) -> None:
    """A claim and its end; a duplicate or a late one costs a read and no commit."""
    store = FlakyStore()
    merchant = open_merchant(store=store)
    costs = []

    for fields in (paid(), paid(), CLOSED, paid(inner_trade_no="T-other")):
        store.calls.clear()
        await merchant.deliver(fields)
        costs.append((store.calls["load_entries"], store.calls["swap"]))

    assert [(1, 2), (1, 0), (1, 0), (1, 0)] == costs
    assert [
        Verdict.HANDLED,
        Verdict.DUPLICATE,
        Verdict.LATE,
        Verdict.LATE,
    ] == merchant.verdicts


async def test_hint_that_is_not_confirmed_costs_no_commit(open_merchant: OpenMerchant) -> None:
    """Anyone may send one: it must not fill the store."""
    store = FlakyStore()
    merchant = open_merchant([order("待付款")], "none", store=store)

    await merchant.deliver(paid())

    assert [Verdict.UNCONFIRMED] == merchant.verdicts
    assert {} == await store.load_entries([ORDER])


async def test_late_hint_needs_no_query(open_merchant: OpenMerchant) -> None:
    """The order has come so far already, whatever a query would say of the hint."""
    merchant = open_merchant([order()], "md5")

    for fields in (paid(), CLOSED, paid(inner_trade_no="T-forged")):
        assert ACK_HANDLED == await merchant.deliver(fields)

    assert [Verdict.HANDLED, Verdict.LATE, Verdict.LATE] == merchant.verdicts


async def test_late_callback_that_is_believed_settles_a_doubt(
    open_merchant: OpenMerchant,
) -> None:
    """It has no effect, and proves all the same what became of a payment that came after."""
    merchant = open_merchant(
        Script([InDoubtError("the answer was lost")]), retry=RetryPolicy(attempts=1)
    )
    await merchant.deliver(paid())
    request = MiniProgramPay(
        request_id="pay-1",
        pay_token="token-1",
        terminal_payer_id="openid-0123456789",
        out_trade_no="O-1",
    )
    await merchant.attempt(merchant.gateway.pay(request))

    await merchant.deliver(paid(inner_trade_no="T-other"))

    assert [Verdict.HANDLED, Verdict.LATE] == merchant.verdicts
    assert State.SUCCEEDED is await merchant.state("pay-1")


# What it tells


async def test_what_is_told_is_written_before_the_handler_runs(
    open_merchant: OpenMerchant,
) -> None:
    """Another process may wait for it."""
    merchant = open_merchant()
    told = []

    async def handle(notification: TradeNotification) -> None:
        _, progress = await load_progress(merchant.gateway.store)
        told.append(progress.told)
        raise LookupError(f"{notification.state} is told even so")

    receiver = merchant.another(on_trade=handle)
    await receiver.receive(FORM, merchant.body(paid()))

    assert [TradeState.PAID] == told
    _, progress = await load_progress(merchant.gateway.store)
    assert TradeState.PAID is progress.told


async def test_refund_has_a_row_of_its_own(open_merchant: OpenMerchant) -> None:
    """Its number may be an order's as well."""
    merchant = open_merchant()

    await merchant.deliver(paid("R-1"))
    await merchant.deliver(refunded())

    store = merchant.gateway.store
    found = [
        (await load_progress(store, order_key(APP_KEY, kind, "R-1")))[1].told
        for kind in ("trade", "refund")
    ]
    assert [TradeState.PAID, TradeState.REFUNDED] == found


# Claims


@pytest.mark.parametrize("state", [TradeState.PAID, TradeState.CLOSED, TradeState.UNKNOWN])
async def test_claim_of_a_killed_process_runs_out(
    open_merchant: OpenMerchant, state: TradeState
) -> None:
    """It keeps other workers away for one lease, and no longer."""
    merchant = open_merchant()
    await claim_elsewhere(merchant, state)

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    await merchant.clock.sleep(LEASE - 0.001)
    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    await merchant.clock.sleep(0.001)
    assert ACK_HANDLED == await merchant.deliver(paid())
    assert ONCE == merchant.effects
    assert [Verdict.BUSY, Verdict.BUSY, Verdict.HANDLED] == merchant.verdicts


async def test_own_claim_runs_out_after_the_handler_is_cancelled(
    open_merchant: OpenMerchant,
) -> None:
    """It outlasts `limit` by 5 s, and is given back at the end."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    call = asyncio.create_task(merchant.deliver(paid()))
    await merchant.entered.wait()

    _, progress = await load_progress(merchant.gateway.store)
    claim = progress.endpoints["default"].claim
    assert claim is not None
    assert merchant.receiver.limit + 5.0 == claim.until - merchant.clock.time() == LEASE
    merchant.gate.set()
    await call
    _, progress = await load_progress(merchant.gateway.store)
    assert progress.endpoints["default"].claim is None


async def test_claim_of_another_endpoint_keeps_nobody_waiting(
    open_merchant: OpenMerchant,
) -> None:
    """They have effects of their own."""
    merchant = open_merchant()
    await claim_elsewhere(merchant, endpoint="books")

    assert ACK_HANDLED == await merchant.deliver(paid())


async def test_late_end_of_a_handler_leaves_the_claim_of_its_heir(
    open_merchant: OpenMerchant,
) -> None:
    """A process that was paused notes its effect, and the heir goes on undisturbed."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    call = asyncio.create_task(merchant.deliver(paid()))
    await merchant.entered.wait()
    await merchant.clock.sleep(LEASE)
    await claim_elsewhere(merchant)

    merchant.gate.set()
    assert ACK_HANDLED == await call

    _, progress = await load_progress(merchant.gateway.store)
    here = progress.endpoints["default"]
    assert (TradeState.PAID, "another") == (here.reached, here.claim and here.claim.token)


# Races


async def test_endpoints_that_work_at_once_both_have_their_effects(
    open_merchant: OpenMerchant,
) -> None:
    """One row is written by both; neither overwrites what the other has noted."""
    merchant = open_merchant()
    merchant.gate = asyncio.Event()
    receivers = [merchant.another(endpoint=f"e{number}") for number in range(TRIES)]
    body = merchant.body(paid())
    calls = [asyncio.create_task(receiver.receive(FORM, body)) for receiver in receivers]
    await wait_until(lambda: len(merchant.seen) >= TRIES)
    merchant.gate.set()

    assert [ACK_HANDLED] * TRIES == await asyncio.gather(*calls)
    version, progress = await load_progress(merchant.gateway.store)
    assert 2 * TRIES == version
    assert [TradeState.PAID] * TRIES == [e.reached for e in progress.endpoints.values()]


async def test_order_that_another_process_claims_first_is_left_to_it(
    open_merchant: OpenMerchant,
) -> None:
    """Both have read that it is free; one of them writes."""
    store = FlakyStore()
    merchant = open_merchant(store=store)

    async def win() -> None:
        await claim_elsewhere(merchant)

    store.rivals = [win]

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    assert ([Verdict.BUSY], []) == (merchant.verdicts, merchant.seen)


@pytest.mark.parametrize(
    ("changes", "expected"), [(TRIES - 1, ACK_HANDLED), (TRIES, ACK_NOT_HANDLED)]
)
async def test_race_that_is_lost_again_and_again_ends(
    open_merchant: OpenMerchant, changes: int, expected: bytes
) -> None:
    """Other endpoints may win a few times; nothing is tried for ever."""
    store = FlakyStore()
    merchant = open_merchant(store=store)
    endpoints = iter(range(changes))

    async def win() -> None:
        await claim_elsewhere(merchant, endpoint=f"e{next(endpoints)}")

    async def look_on() -> None:
        pass

    # The rival's own swap is preceded by the next one in the list.
    store.rivals = [step for _ in range(changes) for step in (win, look_on)]

    assert expected == await merchant.deliver(paid())
    assert (expected is ACK_HANDLED) == bool(merchant.effects)
    if not merchant.effects:
        assert "all the time" in merchant.events[0].reason


# Lost answers


@pytest.mark.parametrize("lost", [1, TRIES - 1])
async def test_claim_whose_answer_got_lost_is_found(open_merchant: OpenMerchant, lost: int) -> None:
    """It was written, so the handler runs, once; to write it again would be a second claim."""
    store = FlakyStore(losing=lost)
    merchant = open_merchant(store=store)

    assert ACK_HANDLED == await merchant.deliver(paid())
    assert ACK_HANDLED == await merchant.deliver(paid())
    assert ONCE == merchant.effects
    assert [Verdict.HANDLED, Verdict.DUPLICATE] == merchant.verdicts
    assert 2 == (await load_progress(store))[0]


@pytest.mark.parametrize("failing", [0, 1])
async def test_end_whose_answer_got_lost_is_found(
    open_merchant: OpenMerchant, failing: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Be it of a handler that succeeded or failed."""
    store = FlakyStore()
    merchant = open_merchant(store=store)
    merchant.failing = failing

    async def lose() -> None:
        store.losing = 1

    async def pass_on() -> None:
        pass

    store.rivals = [pass_on, lose]
    await merchant.deliver(paid())

    assert "cannot be written" not in caplog.text
    assert 2 == (await load_progress(store))[0]
    assert ACK_HANDLED == await merchant.deliver(paid())
    assert ONCE == merchant.effects


# A store that is away


@pytest.mark.parametrize("away", ["load_entries", "swap"])
async def test_failing_store_handles_nothing(open_merchant: OpenMerchant, away: str) -> None:
    """Without the store the callback may be old, so it must come again."""
    store = FlakyStore(failing={away}, error=InDoubtError("the store is away"))
    merchant = open_merchant(store=store)

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    assert ([Verdict.FAILED], "the store is away") == (merchant.verdicts, merchant.events[0].reason)
    store.failing.clear()
    assert ACK_HANDLED == await merchant.deliver(paid())
    assert ONCE == merchant.effects


async def test_claim_that_cannot_be_looked_up_again_handles_nothing(
    open_merchant: OpenMerchant,
) -> None:
    """It may be written: then it runs out like that of a process that was killed."""
    store = FlakyStore(losing=1)
    merchant = open_merchant(store=store)

    async def go_away() -> None:
        store.failing.add("load_entries")

    store.rivals = [go_away]
    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    store.failing.clear()
    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    await merchant.clock.sleep(LEASE)
    assert ACK_HANDLED == await merchant.deliver(paid())

    assert [Verdict.FAILED, Verdict.BUSY, Verdict.HANDLED] == merchant.verdicts
    assert ONCE == merchant.effects


@pytest.mark.parametrize("away", ["load_entries", "swap"])
async def test_effect_is_acknowledged_though_the_store_fails(
    open_merchant: OpenMerchant, away: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that fails after the effect must not cause another one at once."""
    store = FlakyStore(error=InDoubtError("the store went away"))
    merchant = open_merchant(store=store)

    async def handle(notification: TradeNotification) -> None:
        await merchant.handle(notification)
        store.failing |= {"swap", away}

    receiver, body = merchant.another(on_trade=handle), merchant.body(paid())

    assert ACK_HANDLED == await receiver.receive(FORM, body)
    assert "the inbox cannot be written for callback O-1: the store went away" in caplog.text
    store.failing.clear()
    assert ACK_NOT_HANDLED == await receiver.receive(FORM, body)
    assert ONCE == merchant.effects


async def test_store_that_hangs_takes_no_longer_than_the_limit(
    open_merchant: OpenMerchant,
) -> None:
    """The callback has failed, and comes again."""

    class HungStore(MemoryStore):
        async def load_entries(self, keys: object) -> dict[str, object]:  # type: ignore[override] # it never returns
            await asyncio.Event().wait()
            raise AssertionError(keys)

    merchant = open_merchant(store=HungStore(), retry=RetryPolicy(min_left=0.01))
    receiver = merchant.another(limit=0.01)

    assert ACK_NOT_HANDLED == await receiver.receive(FORM, merchant.body(paid()))
    assert "it took over 0.01 s" == merchant.events[0].reason


async def test_row_that_cannot_be_read_is_an_error_that_says_so(
    open_merchant: OpenMerchant,
) -> None:
    """Nobody knows what has happened of the order, so a person must look; others go on."""
    merchant = open_merchant()
    await merchant.gateway.store.swap(ORDER, version=None, value='{"told', now=0.0)

    assert ACK_NOT_HANDLED == await merchant.deliver(paid())
    assert ACK_HANDLED == await merchant.deliver(paid("O-2"))
    assert [Verdict.FAILED, Verdict.HANDLED] == merchant.verdicts
    assert (
        "what the store holds of an order's callbacks cannot be read" == merchant.events[0].reason
    )


async def test_orders_of_two_app_keys_are_two(open_merchant: OpenMerchant) -> None:
    """They may share a store, and have the same numbers."""
    merchant = open_merchant()
    await merchant.deliver(paid())

    assert {ORDER} == set(
        await merchant.gateway.store.load_entries([ORDER, order_key("another", "trade", "O-1")])
    )
