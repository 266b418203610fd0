"""A call that sends nothing, of an operation that may have been sent before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Unpack

import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.claims import QueueLimiter, both_ways
from tests.support.merchant import OpenShop
from tests.support.platform import HeldPlatform
from tests.support.records import Claim
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Slot, Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import Fate, InDoubtError, NotSentError, WxPayError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State

LOST = InDoubtError("read timeout")


@define(eq=False)
class UnreachableStore(MemoryStore):
    """A store that goes away: `down` names the methods that fail from then on."""

    down: set[str] = field(factory=set[str])

    def _check(self, method: str) -> None:
        if method in self.down:
            raise NotSentError(f"the store cannot {method} (ConnectionError)")

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Reserve."""
        self._check("reserve")
        return await super().reserve(record)

    async def claim(self, key: tuple[str, str], **more: Unpack[Claim]) -> IdempotencyRecord | None:
        """Claim."""
        self._check("claim")
        return await super().claim(key, **more)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Load."""
        self._check("load")
        return await super().load(key)


@define(eq=False)
class ClosedLimiter(Unlimited):
    """A limiter without a slot; `meanwhile` is awaited while a call waits for one."""

    meanwhile: Callable[[], Awaitable[object]]

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:  # noqa: ARG002 - every limiter takes it
        """Wait in vain."""
        await self.meanwhile()
        raise NotSentError("no slot of the quota in time")


@pytest.mark.parametrize("down", [{"reserve"}, {"reserve", "claim", "load"}, {"claim", "load"}])
async def test_operation_in_doubt_stays_so_when_the_store_is_gone(
    down: set[str], open_shop: OpenShop
) -> None:
    """It was executed and its answer was lost: nothing of a later call makes it "not sent"."""
    store = UnreachableStore()
    shop = open_shop(lambda _: LOST, store=store, retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    store.down = down
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (Fate.IN_DOUBT, 1) == (caught.value.fate, shop.transport.calls)


@both_ways
async def test_reservation_that_fails_is_in_doubt_and_holds_nothing(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """The only connection that was taken for it is free again."""
    store = UnreachableStore(down={"reserve", "load"})
    shop = open_shop([replies.prepay()], store=store, limiter=limit(), max_in_flight=1)
    for _ in range(2):
        with pytest.raises(InDoubtError, match="nothing was sent now"):
            await shop.gateway.pay(asking.pay())
    store.down = set()

    assert 1 == (await shop.gateway.pay(asking.pay())).attempts


@pytest.mark.parametrize("down", [{"reserve"}, {"claim", "load"}])
async def test_operation_of_which_the_store_cannot_tell_is_in_doubt(
    down: set[str], open_shop: OpenShop
) -> None:
    """Another process may have sent it; it says so, and the same request may go again."""
    store = UnreachableStore(down=down)
    shop = open_shop([], store=store, limiter=QueueLimiter())
    with pytest.raises(InDoubtError, match="nothing was sent now") as caught:
        await shop.gateway.pay(asking.pay())

    assert (True, "pay-1", 0) == (
        caught.value.retryable,
        caught.value.request_id,
        shop.transport.calls,
    )
    assert caught.value.resolver is not None


async def test_operation_that_was_never_claimed_is_not_sent_when_its_claim_fails(
    open_shop: OpenShop,
) -> None:
    """The record can be read and says that no attempt was ever begun."""
    store = UnreachableStore(down={"claim"})
    shop = open_shop([], store=store, limiter=QueueLimiter())
    with pytest.raises(NotSentError):
        await shop.gateway.pay(asking.pay())

    assert State.RESERVED is await shop.state("pay-1")


@pytest.mark.parametrize("sending", [True, False], ids=["claims it", "does nothing"])
async def test_call_without_quota_is_in_doubt_if_another_process_began_meanwhile(
    *, sending: bool, open_shop: OpenShop
) -> None:
    """While it waits it holds no lease, so another process may send the operation."""
    store = MemoryStore()
    other = open_shop([replies.prepay()], store=store)

    async def meanwhile() -> None:
        if sending:
            await other.gateway.pay(asking.pay())

    shop = open_shop([], store=store, limiter=ClosedLimiter(meanwhile))
    with pytest.raises(WxPayError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (Fate.IN_DOUBT if sending else Fate.NOT_SENT) is caught.value.fate


async def test_call_without_quota_is_in_doubt_while_another_process_sends(
    open_shop: OpenShop,
) -> None:
    """The other had begun before this call did: its record says SENDING, and no doubt yet."""
    store, platform = MemoryStore(), HeldPlatform()
    other = open_shop(platform, store=store)
    task = asyncio.create_task(other.gateway.pay(asking.pay()))
    await platform.asked.wait()
    shop = open_shop([], store=store, limiter=ClosedLimiter(lambda: asyncio.sleep(0)))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    task.cancel()
    await asyncio.wait([task])


async def test_call_whose_record_was_forgotten_meanwhile_is_in_doubt(open_shop: OpenShop) -> None:
    """What is finished may be forgotten, so a record that is gone proves nothing."""
    store = MemoryStore()

    async def forget() -> None:
        store._active.clear()

    shop = open_shop([], store=store, limiter=ClosedLimiter(forget))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())


@both_ways
async def test_refused_connections_are_not_sent_though_they_were_claimed(
    limit: type[Limiter], open_shop: OpenShop
) -> None:
    """The claims were ours, and each attempt is proven not to have left."""
    shop = open_shop(lambda _: NotSentError("connection refused"), limiter=limit())
    with pytest.raises(NotSentError) as caught:
        await shop.gateway.pay(asking.pay())

    assert 3 == caught.value.attempts
