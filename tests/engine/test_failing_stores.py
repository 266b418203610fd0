"""A store that fails in the middle of a call: an outcome that is not recorded is not final."""

from __future__ import annotations

import asyncio
from typing import Unpack

import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.claims import both_ways
from tests.support.merchant import OpenShop
from tests.support.platform import HeldPlatform, Script
from tests.support.records import Claim
from tests.support.tasks import run_loop
from wxpay_async.adapters.limiters.limiter import Limiter, Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import AccessDeniedError, Fate, InDoubtError, NotSentError, WxPayError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.results import PayResult
from wxpay_async.protocol.wire import HttpResponse

LOST = InDoubtError("read timeout")
DENIED = HttpResponse(200, b'{"success":false,"errorCode":"CO_MSG_0000017","errorMsg":""}')


@define(eq=False)
class UnclaimableStore(MemoryStore):
    """A store that can read but not claim, not even what it reserves."""

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Fail if it is a claim, too."""
        self._check(record.claim_token)
        return await super().reserve(record)

    async def claim(self, key: tuple[str, str], **more: Unpack[Claim]) -> IdempotencyRecord | None:
        """Fail."""
        self._check(more["token"])
        return await super().claim(key, **more)

    def _check(self, token: str | None) -> None:
        if token is not None:
            raise NotSentError("the store is down", retryable=False)


@define(eq=False)
class UnwritableStore(MemoryStore):
    """A store that takes claims and no outcomes."""

    async def record(self, record: IdempotencyRecord) -> bool:  # noqa: ARG002 - the store's
        """Fail."""
        raise InDoubtError("the store cannot record an outcome (ConnectionError)")


@define(eq=False)
class UnreadableStore(MemoryStore):
    """A store that records, and cannot load."""

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:  # noqa: ARG002 - the store's
        """Fail."""
        raise NotSentError("the store cannot load an operation (ConnectionError)")


@define(eq=False)
class FencedStore(UnreadableStore):
    """A store in which another process claims after the first attempt, and which cannot load."""

    records: int = 0

    async def record(self, record: IdempotencyRecord) -> bool:
        """Record the first outcome, and refuse every later one."""
        self.records += 1
        return self.records == 1 and await super().record(record)


@define(eq=False)
class AnswerLosingStore(MemoryStore):
    """A store over a network, whose first answer to `record` gets lost after the commit."""

    answers: bool = False
    claimed: asyncio.Event = field(factory=asyncio.Event)

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Reserve; if that is a claim, too, answer a few iterations of the loop later."""
        stored = await super().reserve(record)
        if stored.claim_token is not None:
            await self._linger()
        return stored

    async def claim(self, key: tuple[str, str], **more: Unpack[Claim]) -> IdempotencyRecord | None:
        """Claim, and answer a few iterations of the loop later."""
        record = await super().claim(key, **more)
        await self._linger()
        return record

    async def _linger(self) -> None:
        self.claimed.set()
        await run_loop(5)

    async def record(self, record: IdempotencyRecord) -> bool:
        """Record."""
        written = await super().record(record)
        if not self.answers:
            self.answers = True
            raise InDoubtError("the store cannot record an outcome (TimeoutError)")
        return written


@pytest.mark.parametrize("refused", [True, False], ids=["a refusal", "a success"])
async def test_outcome_that_cannot_be_recorded_is_in_the_error(
    refused: bool,  # noqa: FBT001 - a parameter
    open_shop: OpenShop,
) -> None:
    """It is not final, since another process may claim the record; nothing is sent again."""
    shop = open_shop([DENIED if refused else replies.prepay()], store=UnwritableStore())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())
    outcome = caught.value.outcome

    assert (Fate.IN_DOUBT, 1) == (caught.value.fate, shop.transport.calls)
    assert (AccessDeniedError if refused else PayResult) is type(outcome)
    assert State.SENDING is await shop.state("pay-1")


async def test_doubt_stays_one_when_the_store_fails_in_its_query(open_shop: OpenShop) -> None:
    """That a record cannot be read says nothing of the request that was sent before."""
    shop = open_shop(Script([LOST]), store=FencedStore())
    with pytest.raises(WxPayError) as caught:
        await shop.gateway.refund(asking.refund())

    assert Fate.IN_DOUBT is caught.value.fate
    assert len(shop.sent("refund")) >= 1


async def test_doubt_stays_one_when_the_store_cannot_load_it(open_shop: OpenShop) -> None:
    """`resolve` without a store knows nothing, which is not "not sent"; it may be asked again."""
    shop = open_shop(lambda _: InDoubtError("read timeout"), store=UnreadableStore())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())
    with pytest.raises(InDoubtError, match="nothing is known") as again:
        await caught.value.resolve()

    assert (Fate.IN_DOUBT, "pay-1") == (again.value.fate, again.value.request_id)
    assert again.value.resolver is not None


async def test_doubt_stays_one_when_its_record_is_claimed_and_cannot_be_loaded(
    open_shop: OpenShop,
) -> None:
    """What `resolve` found is not recorded, and what stands there instead cannot be read."""

    @define(eq=False)
    class OvertakenStore(MemoryStore):
        looks: int = 0

        async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
            self.looks += 1
            if self.looks > 1:
                raise NotSentError("the store cannot load an operation (ConnectionError)")
            return await super().load(key)

        async def record(self, record: IdempotencyRecord) -> bool:
            return not record.checks and await super().record(record)

    shop = open_shop(Script([LOST]), store=OvertakenStore())
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    with pytest.raises(InDoubtError, match="nothing is known"):
        await shop.gateway.resolve("pay-1")


@both_ways
async def test_cancelled_call_whose_claim_cannot_be_released_sends_nothing(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """The cancellation comes first: the lease that is left behind ends by itself."""
    shop = open_shop([replies.refunded()], store=AnswerLosingStore(), limiter=limit())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await shop.store.claimed.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 0 == shop.transport.calls


async def test_cancelled_call_whose_doubt_cannot_be_recorded_is_cancelled(
    open_shop: OpenShop,
) -> None:
    """`asyncio.timeout` around a call still works while the store is down."""
    platform = HeldPlatform()
    shop = open_shop(platform, store=UnwritableStore())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await platform.asked.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 1 == shop.transport.calls


@both_ways
async def test_unsent_call_whose_claim_cannot_be_released_tells_its_reason(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """A process that was paused has sent nothing, whatever becomes of its lease."""

    class PausedSigner:
        sign_type = None

        async def sign(self, _: bytes) -> str:
            shop.clock.move(31.0)
            return "ABC"

    once = RetryPolicy(attempts=1)
    shop = open_shop([], store=UnwritableStore(), retry=once, limiter=limit())
    shop.gateway._dispatcher.signing.signer = PausedSigner()
    with pytest.raises(NotSentError, match="paused"):
        await shop.gateway.refund(asking.refund(), timeout=120)

    assert 0 == shop.transport.calls


@both_ways
async def test_claim_that_cannot_be_committed_sends_nothing(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """No byte leaves and the connection is free again.

    Where the reservation was to be the claim, the store did not say what was sent before, either.
    """
    shop = open_shop(store=UnclaimableStore(), max_in_flight=1, limiter=limit())
    heard = InDoubtError if limit is Unlimited else NotSentError
    for number in range(3):
        with pytest.raises(heard, match="the store is down"):
            await shop.gateway.pay(asking.pay(f"pay-{number}"))

    assert 0 == shop.transport.calls
