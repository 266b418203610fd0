"""No call outlasts its deadline, whatever it waits for, and none is cut short before it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.claims import QueueLimiter, both_ways
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.merchant import Shop, make_shop
from tests.support.platform import Script, answer_late
from wxpay_async.adapters.limiters.limiter import Limiter, Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.telemetry import EventKind
from wxpay_async.errors import (
    InDoubtError,
    InDoubtTimeoutError,
    NotSentError,
    NotSentTimeoutError,
    QuotaExhaustedError,
    WxPayError,
)
from wxpay_async.policy.lanes import Lane
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import Timeouts

ONE_ATTEMPT = RetryPolicy(attempts=1)
LOST = InDoubtError("read timeout")
SLACK = 0.5
"""Seconds beyond its time that a call has to say its last word."""


@define(eq=False)
class SlowStore(MemoryStore):
    """A store each of whose methods takes so many seconds, like a server's that hangs."""

    takes: dict[str, float] = field(factory=dict)

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert, late."""
        await asyncio.sleep(self.takes.get("reserve", 0.0))
        return await super().reserve(record)

    async def claim(self, key: tuple[str, str], **named: Any) -> IdempotencyRecord | None:  # noqa: ANN401 - the protocol's
        """Claim, late."""
        await asyncio.sleep(self.takes.get("claim", 0.0))
        return await super().claim(key, **named)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Read, late."""
        await asyncio.sleep(self.takes.get("load", 0.0))
        return await super().load(key)

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write, late."""
        await asyncio.sleep(self.takes.get("record", 0.0))
        return await super().record(record)


@define(eq=False)
class HangingStore(MemoryStore):
    """A store that answers so many questions, and none after them."""

    answers: int = 0

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert."""
        await self._hang()
        return await super().reserve(record)

    async def claim(self, key: tuple[str, str], **named: Any) -> IdempotencyRecord | None:  # noqa: ANN401 - the protocol's
        """Claim."""
        await self._hang()
        return await super().claim(key, **named)

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write."""
        await self._hang()
        return await super().record(record)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Read."""
        await self._hang()
        return await super().load(key)

    async def _hang(self) -> None:
        self.answers -= 1
        if self.answers < 0:
            await asyncio.sleep(1_000)


@define(eq=False)
class SlowSigner:
    """A key service that takes so many seconds."""

    takes: float
    sign_type: str | None = None

    async def sign(self, message: bytes) -> str:
        """Sign elsewhere."""
        await asyncio.sleep(self.takes)
        return Md5Signer("secret").sign(message)


def open_virtual(answers: Any, **settings: Any) -> Shop:  # noqa: ANN401 - those of a shop
    """Make a shop that lives by the event loop's time."""
    return make_shop(answers, LoopClock(), **settings)


async def hear(shop: Shop, timeout: float | None = None) -> tuple[object, float]:
    """Pay, and tell what came of it, and when."""
    began = loop_time()
    try:
        result: object = await shop.gateway.pay(asking.pay(), timeout=timeout)
    except WxPayError as error:
        result = type(error)
    return result, loop_time() - began


# Before sending


@virtual
async def test_store_that_hangs_at_the_reservation_ends_the_call_in_time() -> None:
    """Whether it was sent before is known by the store alone."""
    shop = open_virtual([], store=SlowStore(takes={"reserve": 60}))

    assert (InDoubtTimeoutError, 0.5) == await hear(shop, timeout=3)
    assert (InDoubtTimeoutError, 27.0) == await hear(shop)


@virtual
async def test_store_that_hangs_at_the_claim_ends_the_call_in_time() -> None:
    """Nothing was sent; the claim, which comes late, is released behind the caller's back."""
    shop = open_virtual([], store=SlowStore(takes={"claim": 60}), limiter=QueueLimiter())

    assert (NotSentTimeoutError, 27.0) == await hear(shop)
    await asyncio.sleep(40)
    assert State.RESERVED is await shop.state("pay-1")


@virtual
async def test_reservation_that_comes_late_is_released() -> None:
    """It was a claim, too: nothing was sent under it, and what the call held is free at once."""
    limiter = LocalLimiter(clock=loop_time)
    store = SlowStore(takes={"reserve": 60})
    shop = open_virtual([replies.prepay()], store=store, limiter=limiter, max_in_flight=1)
    before = limiter.in_use

    assert (InDoubtTimeoutError, 27.0) == await hear(shop)
    assert before == limiter.in_use
    await asyncio.sleep(40)
    record = await shop.get_record("pay-1")
    assert (State.RESERVED, False, 1, 0.0) == (
        record.state,
        record.in_doubt,
        record.epoch,
        record.lease_until,
    )
    store.takes = {}
    result, _ = await hear(shop)
    assert (1, 1) == (getattr(result, "attempts", result), shop.transport.calls)


@both_ways
@virtual
async def test_gateway_that_closes_waits_for_the_late_claim(limit: type[Limiter]) -> None:
    """Else it would be in doubt for nothing."""
    late = "reserve" if limit is Unlimited else "claim"
    shop = open_virtual([], store=SlowStore(takes={late: 60}), limiter=limit())
    await hear(shop)
    await shop.gateway.aclose()
    record = await shop.get_record("pay-1")

    assert (60.0, State.RESERVED, 1) == (loop_time(), record.state, record.epoch)


@both_ways
@virtual
async def test_store_that_is_slow_stops_no_payment(limit: type[Limiter]) -> None:
    """A commit of over 2 s is no pause of the process (faults/slow_store)."""
    store = SlowStore(takes={"reserve": 2.1, "claim": 2.1, "record": 2.1})
    shop = open_virtual([replies.prepay()], store=store, limiter=limit())
    result, seconds = await hear(shop)

    commits = 2 if limit is Unlimited else 3
    assert (1, pytest.approx(commits * 2.1)) == (getattr(result, "attempts", result), seconds)


@virtual
async def test_signer_that_hangs_ends_the_call_in_time() -> None:
    """It is cancelled, and what it held is given back."""
    shop = open_virtual([], max_in_flight=1)
    shop.gateway._dispatcher.signing.signer = SlowSigner(60)

    assert (NotSentTimeoutError, 27.0) == await hear(shop)
    assert State.RESERVED is await shop.state("pay-1")


@virtual
async def test_signer_that_is_slow_stops_no_payment() -> None:
    """A key service of over 2 s is no pause of the process (review/14)."""
    shop = open_virtual([replies.prepay()])
    shop.gateway._dispatcher.signing.signer = SlowSigner(2.1)
    result, seconds = await hear(shop)

    assert (1, pytest.approx(2.1)) == (getattr(result, "attempts", result), seconds)


@virtual
async def test_quota_that_is_full_is_told_at_once_and_is_a_timeout_too() -> None:
    """Whoever catches `TimeoutError` meets everything for which the time did not suffice."""
    limiter = LocalLimiter(clock=loop_time)
    shop = open_virtual([], limiter=limiter)
    for _ in range(200):
        await limiter.acquire(Lane.PEOPLE, timeout=1)

    assert (QuotaExhaustedError, 0.0) == await hear(shop)
    assert issubclass(QuotaExhaustedError, TimeoutError)


# Connections


@virtual
async def test_wait_for_a_connection_lasts_as_long_as_was_asked_for() -> None:
    """Twelve calls of a second each over one connection (faults/timeout_cut_short)."""
    shop = open_virtual(
        answer_late(replies.prepay(), 1),
        max_in_flight=1,
        timeouts=Timeouts(call=4),
        retry=ONE_ATTEMPT,
    )
    calls = [shop.gateway.pay(asking.pay(f"pay-{n}"), timeout=30) for n in range(12)]
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [1] * 12 == [getattr(result, "attempts", result) for result in results]


@virtual
async def test_wait_for_a_connection_ends_in_time() -> None:
    """The slot of the quota is given back."""
    limiter = LocalLimiter(clock=loop_time)
    shop = open_virtual(answer_late(replies.prepay(), 14), max_in_flight=1, limiter=limiter)
    first = asyncio.create_task(shop.gateway.pay(asking.pay("first")))
    await asyncio.sleep(0.1)
    with pytest.raises(NotSentTimeoutError, match="no connection"):
        await shop.gateway.pay(asking.pay(), timeout=10)

    assert (7.1, 201) == (loop_time(), limiter.in_use)
    await first


# After sending


@virtual
async def test_attempt_that_is_cut_by_the_deadline_is_a_timeout() -> None:
    """A transport says "read timeout"; that the call's time is over is said by the class."""
    shop = open_virtual(lambda _: InDoubtError("read timeout"), retry=ONE_ATTEMPT)
    lost, _ = await hear(shop)

    late = open_virtual(answer_late(InDoubtError("read timeout"), 10), retry=ONE_ATTEMPT)

    assert InDoubtError is lost
    assert InDoubtTimeoutError is (await hear(late, timeout=10))[0]


@virtual
async def test_store_that_hangs_with_the_answer_keeps_nobody_beyond_the_deadline() -> None:
    """The caller hears a doubt; what was answered is written behind its back, and replayed."""
    shop = open_virtual([replies.prepay()], store=SlowStore(takes={"record": 60}))

    assert (InDoubtTimeoutError, 5 + SLACK) == await hear(shop, timeout=5)
    assert (InDoubtTimeoutError, 5.0) == await hear(shop, timeout=5)
    await asyncio.sleep(60)
    result, _ = await hear(shop)
    assert (1, True) == (shop.transport.calls, getattr(result, "replayed", result))


@virtual
async def test_last_word_about_what_was_not_sent_is_had_from_the_store() -> None:
    """A healthy store says it at once, also when the time is over."""
    shop = open_virtual(
        answer_late(NotSentError("connect timeout"), 10),
        store=SlowStore(takes={"load": 0.1}),
        retry=ONE_ATTEMPT,
    )

    assert (NotSentTimeoutError, 10.1) == await hear(shop, timeout=10)


@virtual
async def test_call_after_one_whose_time_is_over_waits_for_what_it_still_records() -> None:
    """It is replayed then, and not taken for an operation that was given up."""
    shop = open_virtual([replies.prepay()], store=SlowStore(takes={"record": 7}))
    await hear(shop, timeout=5)
    result, _ = await hear(shop)

    assert (7.0, True) == (loop_time(), getattr(result, "replayed", result))


# Hooks


@both_ways
@virtual
async def test_hooks_hear_how_long_a_call_waited_and_for_what(limit: type[Limiter]) -> None:
    """For the store with each commit: to reserve, to claim unless that was one, and to write."""
    store = SlowStore(takes={"reserve": 1, "claim": 2, "record": 3})
    shop = open_virtual([replies.prepay()], store=store, limiter=limit())
    shop.gateway._dispatcher.signing.signer = SlowSigner(4)
    await shop.gateway.pay(asking.pay())
    waits = [(e.waited_for, e.seconds) for e in shop.events if e.kind is EventKind.WAITED]

    claim = [] if limit is Unlimited else [("store", 2.0)]
    assert [("store", 1.0), *claim, ("signer", 4.0), ("store", 3.0)] == waits


@virtual
async def test_hooks_hear_of_the_wait_for_a_connection_and_who_holds_the_quota() -> None:
    """A gauge of the slots by lane, with each attempt."""
    limiter = LocalLimiter(clock=loop_time)
    shop = open_virtual(answer_late(replies.prepay(), 2), max_in_flight=1, limiter=limiter)
    await asyncio.gather(*(shop.gateway.pay(asking.pay(f"pay-{n}")) for n in range(2)))
    waits = [(e.waited_for, e.seconds) for e in shop.events if e.kind is EventKind.WAITED]

    assert [("connection", 2.0)] == waits
    attempts = [e for e in shop.events if e.kind is EventKind.ATTEMPT_STARTED]
    assert [1, 2] == [event.quota_held["people"] for event in attempts]


# Several requests in one call


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "lost"])
@pytest.mark.parametrize("answers", range(10))
@both_ways
@virtual
async def test_checkout_over_a_store_that_hangs_ends_in_time(
    answers: int,
    lost: bool,  # noqa: FBT001 - a case of the test
    limit: type[Limiter],
) -> None:
    """Whichever of its questions the store does not answer, the word is in doubt."""
    script = Script([LOST] if lost else [replies.created(), replies.prepay()], query=lambda: LOST)
    store = HangingStore(answers=answers)
    shop = open_virtual(script, store=store, retry=ONE_ATTEMPT, limiter=limit())
    began = loop_time()
    with contextlib.suppress(InDoubtError):
        result = await shop.gateway.checkout(
            asking.trade(), openid="openid-0123456789", app_id="wx1", timeout=10
        )
        assert not lost
        assert answers >= 6, result

    assert loop_time() - began <= 10 + 2 * SLACK
