"""Batches longer than the quota: nothing is lost for want of a slot, and a timeout still binds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest

from wxpay_async.adapters.limiters.limiter import Lane, Quota, Slot
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import NotSentError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.signing import Md5Signer

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

LENGTH = 1_000


class LoopClock(Clock):
    """The time of the running loop, which jumps from timer to timer."""

    def monotonic(self) -> float:
        """Return the loop's seconds."""
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        """Return them as of a day in 2025."""
        return 1_763_870_400.0 + self.monotonic()


def _gateway(answer: object, **settings: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
    limiter = LocalLimiter(Quota(lease=35.0), clock=LoopClock().monotonic)
    given = {"transport": MemoryTransport(answer), "clock": LoopClock(), "limiter": limiter}
    return PayGateway("gmd930ea5d5a258f4f", Md5Signer("secret"), **(given | settings))


@attrs.define(eq=False)
class Watched(LocalLimiter):
    """A limiter that notes when it gives a slot."""

    given_at: list[float] = attrs.field(factory=list, kw_only=True)

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Give one."""
        slot = await super().acquire(lane, timeout=timeout)
        self.given_at.append(self.clock())
        return slot


async def _kinds(outcomes: AsyncIterator[Outcome[Any, Any]]) -> Counter[str]:
    return Counter([outcome.kind async for outcome in outcomes])


Batch = Callable[..., AsyncIterator[Outcome[Any, Any]]]


def _batch(
    gateway: PayGateway, operation: str, asking: Fixture, length: int = LENGTH, **more: float
) -> AsyncIterator[Outcome[Any, Any]]:
    asked = {
        "pay": lambda n: asking.pay(f"pay-{n}"),
        "refund": lambda n: asking.refund(f"refund-{n}", out_trade_no=f"R-{n}"),
        "query": lambda n: f"O-{n}",
    }[operation]
    batch: Batch = getattr(gateway, f"{operation}_many")
    return batch((asked(n) for n in range(length)), **more)


def _platform(operation: str, replies: Fixture) -> Callable[[Any], object]:
    """Answer at once, with the echo of whatever is asked."""

    def refunded(request: Any) -> object:  # noqa: ANN401 - an HttpRequest
        number = request.body.decode().partition("refund-")[2].partition("%22")[0]
        return replies.refunded(requestId=f"refund-{number}", outTradeNo=f"R-{number}")

    def found(request: Any) -> object:  # noqa: ANN401 - an HttpRequest
        return replies.order("待付款", request.body.decode().split("outTradeNo=")[1].split("&")[0])

    prepay = replies.prepay()
    return {"pay": lambda _: prepay, "refund": refunded, "query": found}[operation]


@pytest.mark.parametrize("operation", ["pay", "refund", "query"])
def test_a_batch_longer_than_the_quota_loses_nothing(
    operation: str, run_virtual: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """1,000 requests at 380 a minute take minutes, and every one of them is answered."""

    async def main() -> None:
        gateway = _gateway(_platform(operation, replies))
        kinds = await _kinds(_batch(gateway, operation, asking))
        assert Counter({"ok": LENGTH}) == kinds
        assert 120 <= asyncio.get_running_loop().time() <= 240
        await gateway.aclose()

    run_virtual(main())


def test_an_explicit_timeout_bounds_the_wait_for_quota(
    run_virtual: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Whoever names 30 s is told after 30 s: not sent."""

    async def main() -> None:
        gateway = _gateway(_platform("pay", replies))
        kinds = await _kinds(_batch(gateway, "pay", asking, 250, timeout=30.0))
        assert Counter({"ok": 200, "not_sent": 50}) == kinds
        assert 30 == asyncio.get_running_loop().time()
        await gateway.aclose()

    run_virtual(main())


def test_a_person_does_not_wait_as_long_as_a_batch(
    run_virtual: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """30 s without a slot: not sent, as somebody holds a phone."""

    async def main() -> None:
        limiter = LocalLimiter(Quota(limit=2), clock=LoopClock().monotonic)
        gateway = _gateway(_platform("pay", replies), limiter=limiter)
        await gateway.pay(asking.pay("a"))
        with pytest.raises(NotSentError):
            await gateway.pay(asking.pay("b"))
        assert 30 == asyncio.get_running_loop().time()
        await gateway.aclose()

    run_virtual(main())


def test_no_slot_is_held_for_longer_than_its_lease(
    run_virtual: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """What finds no connection gives its slot back after 30 s and waits for another."""

    async def slow(_: object) -> object:
        await asyncio.sleep(70)
        return replies.prepay()

    async def main() -> None:
        limiter = Watched(Quota(lease=35.0), idle=True, clock=LoopClock().monotonic)
        gateway = _gateway(slow, limiter=limiter, max_in_flight=1)
        kinds = await _kinds(_batch(gateway, "pay", asking, 2))
        assert Counter({"ok": 2}) == kinds
        held = [later - earlier for earlier, later in pairwise(limiter.given_at[1:])]
        assert held
        assert all(30 <= seconds < 35 for seconds in held), held
        await gateway.aclose()

    run_virtual(main())


@pytest.mark.parametrize(("attempts", "expected"), [(3, 6), (1, 1)])
async def test_a_batch_tries_twice_as_often(
    attempts: int, expected: int, open_shop: Fixture, asking: Fixture
) -> None:
    """6 attempts by default; who switched retrying off gets one."""
    shop = open_shop(
        lambda _: NotSentError("connection refused"), retry=RetryPolicy(attempts=attempts)
    )
    (outcome,) = [outcome async for outcome in shop.gateway.pay_many([asking.pay()])]

    assert ("not_sent", expected) == (outcome.kind, shop.transport.calls)
