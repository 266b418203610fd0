"""The claim of an attempt: its answer gets lost, or another claim comes first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Unpack

import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.callbacks import NOT_FOUND
from tests.support.claims import QueueLimiter, both_ways
from tests.support.merchant import OpenShop
from tests.support.platform import HeldPlatform, Script
from tests.support.records import Claim
from tests.support.tasks import run_loop
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Slot, Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import (
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    NotSentError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State

LOST = InDoubtError("read timeout")


@define(eq=False)
class AnswerLosingStore(MemoryStore):
    """A store over a network: claims are committed, and the answers of the first ones get lost.

    A reservation that is a claim, too, counts as one.

    Attributes:
        losses: how many.
        unreadable: how many loads fail after that.
        retryable: what the error says.
        tokens: of the claims so far.
    """

    losses: int = 0
    unreadable: int = 0
    retryable: bool = True
    tokens: list[str | None] = field(factory=list)

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Reserve; the answer may get lost if it is a claim, too."""
        stored = await super().reserve(record)
        await asyncio.sleep(0)
        if record.claim_token is not None:
            self.tokens.append(record.claim_token)
            self._lose("reserve")
        return stored

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Claim; the answer may get lost."""
        self.tokens.append(claim.get("token"))
        claimed = await super().claim(key, **claim)
        await asyncio.sleep(0)
        self._lose("claim")
        return claimed

    def _lose(self, what: str) -> None:
        if self.losses:
            self.losses -= 1
            raise NotSentError(f"the store cannot {what} (TimeoutError)", retryable=self.retryable)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Load, if it can be read again."""
        if self.unreadable:
            self.unreadable -= 1
            raise NotSentError("the store cannot load an operation (ConnectionError)")
        return await super().load(key)


@define(eq=False)
class HeldLimiter:
    """A limiter whose slots come when the gate opens."""

    gate: asyncio.Event = field(factory=asyncio.Event)

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Wait for the gate."""
        await self.gate.wait()
        return await Unlimited().acquire(lane, timeout=timeout)

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


# Its answer gets lost


@pytest.mark.parametrize("unreadable", [0, 1], ids=["store is back", "store comes back later"])
async def test_claim_whose_answer_is_lost_is_found_by_the_next_attempt(
    unreadable: int, open_shop: OpenShop
) -> None:
    """The payment goes out; the first claim keeps nobody waiting for the end of its lease."""
    store = AnswerLosingStore(losses=1, unreadable=unreadable)
    shop = open_shop([replies.refunded()], store=store, limiter=QueueLimiter())

    result = await shop.gateway.refund(asking.refund())

    record = await shop.get_record("refund-1")
    assert ("S", 1, State.SUCCEEDED) == (result.status, shop.transport.calls, record.state)
    assert not record.in_doubt


async def test_reservation_whose_answer_is_lost_is_released(open_shop: OpenShop) -> None:
    """It was a claim, too. The store did not say whether anything was sent before."""
    store = AnswerLosingStore(losses=1)
    shop = open_shop([replies.refunded()], store=store)
    with pytest.raises(InDoubtError, match="nothing was sent now") as caught:
        await shop.gateway.refund(asking.refund())
    left = await shop.get_record("refund-1")
    result = await shop.gateway.refund(asking.refund())

    assert (True, State.RESERVED, False, None) == (
        caught.value.retryable,
        left.state,
        left.in_doubt,
        left.claim_token,
    )
    assert ("S", 1, 3) == (result.status, shop.transport.calls, len(set(store.tokens)))


async def test_reservation_that_cannot_be_released_is_asked_about(open_shop: OpenShop) -> None:
    """The store is out of reach for longer: the lease ends by itself, and a query settles it."""
    store = AnswerLosingStore(losses=1, unreadable=1)
    shop = open_shop(Script([], query=lambda: NOT_FOUND), store=store)
    with pytest.raises(InDoubtError, match="nothing was sent now"):
        await shop.gateway.refund(asking.refund())
    assert State.SENDING is await shop.state("refund-1")
    shop.clock.move(LEASE)
    await shop.gateway.recover()
    record = await shop.get_record("refund-1")

    assert (State.UNKNOWN, True, 1) == (record.state, record.in_doubt, record.checks)
    assert 0 == len(shop.sent("refund"))


@both_ways
async def test_attempts_claim_with_tokens_of_their_own(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """An attempt that was sent is over: the next one must not find its claim."""
    store = AnswerLosingStore()
    answers = Script([LOST, LOST, replies.prepay()])
    shop = open_shop(answers, store=store, limiter=limit())
    await shop.gateway.pay(asking.pay())

    assert (3, 3) == (len(store.tokens), len(set(store.tokens)))


async def test_claim_whose_answer_is_lost_for_good_is_released(open_shop: OpenShop) -> None:
    """Nothing was sent: the operation is as before, and the next call sends it at once."""
    store = AnswerLosingStore(losses=1, retryable=False)
    shop = open_shop([replies.refunded()], store=store, limiter=QueueLimiter())
    with pytest.raises(NotSentError) as caught:
        await shop.gateway.refund(asking.refund())
    left = await shop.get_record("refund-1")
    result = await shop.gateway.refund(asking.refund())

    assert (Fate.NOT_SENT, State.RESERVED, False) == (
        caught.value.fate,
        left.state,
        left.in_doubt,
    )
    assert "S" == result.status


@both_ways
async def test_claim_whose_answer_is_lost_leaves_an_earlier_doubt(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """An attempt before it may have been executed: it is back in doubt, and is asked about."""
    store = AnswerLosingStore(retryable=False)
    shop = open_shop(Script([LOST]), store=store, limiter=limit())
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    store.losses = 1
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())

    assert State.UNKNOWN == await shop.state("pay-1")


@both_ways
async def test_claim_of_another_is_not_released_when_ours_is_lost(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """A refusal whose answer got lost leaves the other process its claim."""
    platform = HeldPlatform(replies.refunded())
    store = AnswerLosingStore(retryable=False)
    here = open_shop(platform, store=store)
    there = open_shop([], store=store, limiter=limit())
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await run_loop()
    store.losses = 1
    with pytest.raises(WxPayError):
        await there.gateway.refund(asking.refund())
    left = await here.get_record("refund-1")
    platform.gate.set()

    assert State.SENDING == left.state
    assert "S" == (await first).status


@both_ways
@pytest.mark.parametrize("iterations", range(1, 12))
async def test_cancelled_claim_whose_answer_is_lost_is_released(
    iterations: int, limit: type[Limiter], open_shop: OpenShop
) -> None:
    """Wherever the call is cut off, no lease is left behind."""
    store = AnswerLosingStore(losses=1, retryable=False)
    shop = open_shop([replies.refunded()], store=store, limiter=limit())
    call = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await run_loop(iterations)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, NotSentError, InDoubtError):
        await call

    assert await shop.state("refund-1") in {None, State.RESERVED}


# Another claim comes first


@define(eq=False)
class CountingLimiter:
    """A limiter whose slots are free at once, and counted."""

    taken: int = 0

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Take a slot."""
        del timeout
        return await self.acquire_now(lane)

    async def acquire_now(self, lane: Lane) -> Slot:  # noqa: ARG002 - the protocol's
        """Take a slot."""
        self.taken += 1
        return CountedSlot(self)

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


@define(eq=False)
class CountedSlot:
    """A slot that is over with its report."""

    limiter: CountingLimiter

    async def answered(self) -> None:
        """End."""
        self.limiter.taken -= 1

    doubtful = unsent = answered


@pytest.mark.parametrize("answer", [replies.prepay(), replies.no("GM_API_BUS_0000020")])
async def test_operation_found_settled_is_not_sent_again(
    answer: object, open_shop: OpenShop
) -> None:
    """The slot and the only connection that were taken for it are free again."""
    there = open_shop([answer])
    first = await catch(there.gateway.pay(asking.pay()))
    limiter = CountingLimiter()
    here = open_shop([replies.prepay()], store=there.store, limiter=limiter, max_in_flight=1)
    for _ in range(2):
        again = await catch(here.gateway.pay(asking.pay()))
        assert (type(first), 0, 0) == (type(again), here.transport.calls, limiter.taken)

    assert (await here.gateway.pay(asking.pay("next"))).prepay_id


async def test_operation_that_another_sends_is_not_taken_for_ones_own(open_shop: OpenShop) -> None:
    """A reservation finds its claim, which has a token of its own."""
    platform = HeldPlatform(replies.refunded())
    there = open_shop(platform)
    first = asyncio.create_task(there.gateway.refund(asking.refund()))
    await platform.asked.wait()
    limiter = CountingLimiter()
    here = open_shop([], store=there.store, limiter=limiter, max_in_flight=1)
    for _ in range(2):
        with pytest.raises(InProgressError):
            await here.gateway.refund(asking.refund())
        assert (0, 0) == (here.transport.calls, limiter.taken)
    platform.gate.set()

    assert "S" == (await first).status


async def test_other_content_under_a_known_id_leaves_nothing_behind(open_shop: OpenShop) -> None:
    """It is found by the commit that would have claimed it."""
    limiter = CountingLimiter()
    shop = open_shop([replies.prepay()], limiter=limiter, max_in_flight=1)
    await shop.gateway.pay(asking.pay())
    for _ in range(2):
        with pytest.raises(IdempotencyConflictError):
            await shop.gateway.pay(asking.pay(pay_token="another"))

    assert (1, 0, State.SUCCEEDED) == (
        shop.transport.calls,
        limiter.taken,
        await shop.state("pay-1"),
    )


async def catch(call: Awaitable[object]) -> object:
    """Return what a caller gets."""
    try:
        return await call
    except WxPayError as error:
        return error


async def test_operation_settled_while_a_call_waits_for_quota_is_replayed(
    open_shop: OpenShop,
) -> None:
    """The answer that another process got is the answer; nothing is sent again."""
    limiter = HeldLimiter()
    here = open_shop([], limiter=limiter)
    there = open_shop([replies.prepay()], store=here.store)
    waiting = asyncio.create_task(here.gateway.pay(asking.pay()))
    await run_loop()
    paid = await there.gateway.pay(asking.pay())
    limiter.gate.set()
    replayed = await waiting

    assert (paid.prepay_id, False) == (replayed.prepay_id, paid.replayed)
    assert (True, 0) == (replayed.replayed, here.transport.calls)


async def test_operation_refused_while_a_call_waits_for_quota_is_refused(
    open_shop: OpenShop,
) -> None:
    """A stored refusal is replayed, too."""
    limiter = HeldLimiter()
    here = open_shop([], limiter=limiter)
    there = open_shop([replies.no("GM_API_BUS_0000020")], store=here.store)
    waiting = asyncio.create_task(here.gateway.pay(asking.pay()))
    await run_loop()
    with pytest.raises(RefusedError):
        await there.gateway.pay(asking.pay())
    limiter.gate.set()

    with pytest.raises(RefusedError) as caught:
        await waiting
    assert ("GM_API_BUS_0000020", 0) == (caught.value.code, here.transport.calls)


async def test_refused_claim_whose_record_cannot_be_read_is_in_progress(
    open_shop: OpenShop,
) -> None:
    """That another process holds it is known; "not sent" would be said of the wrong thing."""
    platform = HeldPlatform(replies.refunded())
    store = AnswerLosingStore()
    here, there = open_shop(platform, store=store), open_shop([], store=store)
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await run_loop()
    store.unreadable = 99
    with pytest.raises(InProgressError) as caught:
        await there.gateway.refund(asking.refund())
    platform.gate.set()

    assert Fate.IN_DOUBT == caught.value.fate
    assert "S" == (await first).status
