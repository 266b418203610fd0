"""A store that fails in the middle of a call: an outcome that is not recorded is not final."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import define, field

from tests.support.merchant import Asking, OpenShop
from tests.support.platform import Replies, Script
from tests.support.tasks import run_loop
from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited
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
    """A store that can read but not claim."""

    async def claim(self, key: tuple[str, str], **more: float) -> IdempotencyRecord | None:
        """Fail."""
        del key, more
        raise NotSentError("the store is down", retryable=False)


@define(eq=False)
class UnwritableStore(MemoryStore):
    """A store that takes claims and no outcomes."""

    async def record(self, entry: IdempotencyRecord) -> bool:  # noqa: ARG002 - the store's
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

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Record the first outcome, and refuse every later one."""
        self.records += 1
        return self.records == 1 and await super().record(entry)


@define(eq=False)
class AnswerLosingStore(MemoryStore):
    """A store over a network, whose first answer to `record` gets lost after the commit."""

    answers: bool = False
    claimed: asyncio.Event = field(factory=asyncio.Event)

    async def claim(self, key: tuple[str, str], **more: Any) -> IdempotencyRecord | None:  # noqa: ANN401 - the store's
        """Claim, and answer a few iterations of the loop later."""
        entry = await super().claim(key, **more)
        self.claimed.set()
        await run_loop(5)
        return entry

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Record."""
        written = await super().record(entry)
        if not self.answers:
            self.answers = True
            raise InDoubtError("the store cannot record an outcome (TimeoutError)")
        return written


@pytest.mark.parametrize("refused", [True, False], ids=["a refusal", "a success"])
async def test_outcome_that_cannot_be_recorded_is_in_the_error(
    refused: bool,  # noqa: FBT001 - a parameter
    open_shop: OpenShop,
    asking: Asking,
    replies: Replies,
) -> None:
    """It is not final, since another process may claim the record; nothing is sent again."""
    shop = open_shop([DENIED if refused else replies.prepay()], store=UnwritableStore())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())
    outcome = caught.value.outcome

    assert (Fate.IN_DOUBT, 1) == (caught.value.fate, shop.transport.calls)
    assert (AccessDeniedError if refused else PayResult) is type(outcome)
    assert State.SENDING is await shop.state("pay-1")


async def test_doubt_stays_one_when_the_store_fails_in_its_query(
    open_shop: OpenShop, asking: Asking
) -> None:
    """That a record cannot be read says nothing of the request that was sent before."""
    shop = open_shop(Script([LOST]), store=FencedStore())
    with pytest.raises(WxPayError) as caught:
        await shop.gateway.refund(asking.refund())

    assert Fate.IN_DOUBT is caught.value.fate
    assert len(shop.sent("refund")) >= 1


async def test_doubt_stays_one_when_the_store_cannot_load_it(
    open_shop: OpenShop, asking: Asking
) -> None:
    """`resolve` without a store knows nothing, which is not "not sent"; it may be asked again."""
    shop = open_shop(lambda _: InDoubtError("read timeout"), store=UnreadableStore())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())
    with pytest.raises(InDoubtError, match="nothing is known") as again:
        await caught.value.resolve()

    assert (Fate.IN_DOUBT, "pay-1") == (again.value.fate, again.value.request_id)
    assert again.value.resolver is not None


async def test_doubt_stays_one_when_its_record_is_claimed_and_cannot_be_loaded(
    open_shop: OpenShop, asking: Asking
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

        async def record(self, entry: IdempotencyRecord) -> bool:
            return not entry.checks and await super().record(entry)

    shop = open_shop(Script([LOST]), store=OvertakenStore())
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    with pytest.raises(InDoubtError, match="nothing is known"):
        await shop.gateway.resolve("pay-1")


async def test_cancelled_call_whose_claim_cannot_be_released_sends_nothing(
    open_shop: OpenShop, asking: Asking, replies: Replies
) -> None:
    """The cancellation comes first: the lease that is left behind ends by itself."""
    shop = open_shop([replies.refunded()], store=AnswerLosingStore())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await shop.store.claimed.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 0 == shop.transport.calls


async def test_cancelled_call_whose_doubt_cannot_be_recorded_is_cancelled(
    open_shop: OpenShop, asking: Asking
) -> None:
    """`asyncio.timeout` around a call still works while the store is down."""
    asked = asyncio.Event()

    async def never(_: object) -> object:
        asked.set()
        await asyncio.Event().wait()
        return {}

    shop = open_shop(never, store=UnwritableStore())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 1 == shop.transport.calls


async def test_unsent_call_whose_claim_cannot_be_released_tells_its_reason(
    open_shop: OpenShop, asking: Asking
) -> None:
    """A process that was paused has sent nothing, whatever becomes of its lease."""

    class PausedSigner:
        sign_type = None

        async def sign(self, _: bytes) -> str:
            shop.clock.move(3.0)
            return "ABC"

    shop = open_shop([], store=UnwritableStore(), retry=RetryPolicy(attempts=1))
    shop.gateway._dispatcher.signing.signer = PausedSigner()
    with pytest.raises(NotSentError, match="paused"):
        await shop.gateway.refund(asking.refund())

    assert 0 == shop.transport.calls


async def test_claim_that_cannot_be_committed_sends_nothing(
    open_shop: OpenShop, asking: Asking
) -> None:
    """No byte leaves and the connection is free again."""
    shop = open_shop(store=UnclaimableStore(), max_in_flight=1)
    for number in range(3):
        with pytest.raises(NotSentError):
            await shop.gateway.pay(asking.pay(f"pay-{number}"))

    assert 0 == shop.transport.calls


# A call that sends nothing, of an operation that may have been sent before


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

    async def claim(self, key: tuple[str, str], **more: Any) -> IdempotencyRecord | None:  # noqa: ANN401 - the store's
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

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:  # noqa: ARG002 - the limiter's
        """Wait in vain."""
        await self.meanwhile()
        raise NotSentError("no slot of the quota in time")


@pytest.mark.parametrize("down", [{"reserve"}, {"reserve", "claim", "load"}, {"claim", "load"}])
async def test_operation_in_doubt_stays_so_when_the_store_is_gone(
    down: set[str], open_shop: OpenShop, asking: Asking
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


@pytest.mark.parametrize("down", [{"reserve"}, {"claim", "load"}])
async def test_operation_of_which_the_store_cannot_tell_is_in_doubt(
    down: set[str], open_shop: OpenShop, asking: Asking
) -> None:
    """Another process may have sent it; it says so, and the same request may go again."""
    store = UnreachableStore(down=down)
    shop = open_shop([], store=store)
    with pytest.raises(InDoubtError, match="nothing was sent now") as caught:
        await shop.gateway.pay(asking.pay())

    assert (True, "pay-1", 0) == (
        caught.value.retryable,
        caught.value.request_id,
        shop.transport.calls,
    )
    assert caught.value.resolver is not None


async def test_operation_that_was_never_claimed_is_not_sent_when_its_claim_fails(
    open_shop: OpenShop, asking: Asking
) -> None:
    """The record can be read and says that no attempt was ever begun."""
    shop = open_shop([], store=UnreachableStore(down={"claim"}))
    with pytest.raises(NotSentError):
        await shop.gateway.pay(asking.pay())

    assert State.RESERVED is await shop.state("pay-1")


@pytest.mark.parametrize("sending", [True, False], ids=["claims it", "does nothing"])
async def test_call_without_quota_is_in_doubt_if_another_process_began_meanwhile(
    sending: bool,  # noqa: FBT001 - a parameter
    open_shop: OpenShop,
    asking: Asking,
    replies: Replies,
) -> None:
    """While it waits it holds no lease, so the operation may be sent by somebody else."""
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
    open_shop: OpenShop, asking: Asking
) -> None:
    """The other had begun before this call did: its record says SENDING, and no doubt yet."""
    store, asked = MemoryStore(), asyncio.Event()

    async def never(_: object) -> object:
        asked.set()
        return await asyncio.Event().wait()

    other = open_shop(never, store=store)
    task = asyncio.create_task(other.gateway.pay(asking.pay()))
    await asked.wait()
    shop = open_shop([], store=store, limiter=ClosedLimiter(lambda: asyncio.sleep(0)))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    task.cancel()
    await asyncio.wait([task])


async def test_call_whose_record_was_forgotten_meanwhile_is_in_doubt(
    open_shop: OpenShop, asking: Asking
) -> None:
    """What is finished may be forgotten, so a record that is gone proves nothing."""
    store = MemoryStore()

    async def forget() -> None:
        store._active.clear()

    shop = open_shop([], store=store, limiter=ClosedLimiter(forget))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())


async def test_refused_connections_are_not_sent_though_they_were_claimed(
    open_shop: OpenShop, asking: Asking
) -> None:
    """The claims were ours, and each attempt is proven not to have left."""
    shop = open_shop(lambda _: NotSentError("connection refused"))
    with pytest.raises(NotSentError) as caught:
        await shop.gateway.pay(asking.pay())

    assert 3 == caught.value.attempts
