"""What was never sent does not fill the memory, however many callers are told to come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import asking, replies
from tests.support.clock import LoopClock, virtual
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.limiters.limiter import Quota
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import IdempotencyConflictError, NotSentError, QuotaExhaustedError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.protocol.signing import Md5Signer

REMEMBERED = 10
TAPS = 50


def make_gateway(answer: object = None, *, quota: int = 400) -> PayGateway:
    """Make a gateway whose store remembers 10 operations, in the loop's time."""
    return PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        transport=MemoryTransport(lambda _: answer or replies.prepay()),
        clock=LoopClock(),
        limiter=LocalLimiter(Quota(limit=quota), idle=True, clock=LoopClock().monotonic),
        store=MemoryStore(max_finished=REMEMBERED),
    )


async def find_remembered(gateway: PayGateway) -> list[int]:
    """Return the taps whose operations are remembered."""
    rows: list[IdempotencyRecord | None] = [
        await gateway.store.load((APP_KEY, f"pay-{n}")) for n in range(TAPS)
    ]
    return [n for n, row in enumerate(rows) if row is not None]


async def tap(gateway: PayGateway, number: int, **changes: Any) -> BaseException | None:  # noqa: ANN401 - fields
    """Pay, and return how it failed."""
    (outcome,) = await asyncio.gather(
        gateway.pay(asking.pay(f"pay-{number}", **changes), timeout=5.0), return_exceptions=True
    )
    return outcome if isinstance(outcome, BaseException) else None


@virtual
async def test_taps_without_a_slot_leave_no_more_than_the_limit() -> None:
    """The last ones are remembered: a tap of one of them for something else is a conflict."""
    gateway = make_gateway(quota=1)
    await gateway.pay(asking.pay("first"))
    for number in range(TAPS):
        assert isinstance(await tap(gateway, number), QuotaExhaustedError)
    assert [*range(TAPS - REMEMBERED, TAPS)] == await find_remembered(gateway)

    assert isinstance(await tap(gateway, TAPS - 1, pay_token="x"), IdempotencyConflictError)
    assert not isinstance(await tap(gateway, 0, pay_token="x"), IdempotencyConflictError)
    await gateway.aclose()


@virtual
async def test_taps_that_are_cancelled_leave_no_more_than_the_limit() -> None:
    """A web server cancels the call of a person who went away."""
    gateway = make_gateway(quota=1)
    await gateway.pay(asking.pay("first"))
    await asyncio.sleep(58.0)
    for number in range(TAPS):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await gateway.pay(asking.pay(f"pay-{number}"), timeout=5.0)

    assert REMEMBERED == len(await find_remembered(gateway))
    await gateway.aclose()


@virtual
async def test_taps_that_cannot_connect_leave_no_more_than_the_limit() -> None:
    """Each attempt was proven not to be sent."""
    gateway = make_gateway(NotSentError("connection refused"))
    for number in range(TAPS):
        assert isinstance(await tap(gateway, number), NotSentError)

    assert REMEMBERED == len(await find_remembered(gateway))
    await gateway.aclose()


@virtual
async def test_call_that_waits_is_not_forgotten() -> None:
    """Hundreds come and go meanwhile; a conflict with it does not end it either."""
    gateway = make_gateway(quota=1)
    await gateway.pay(asking.pay("first"))
    waiting = asyncio.ensure_future(gateway.pay(asking.pay("waits"), timeout=100.0))
    await asyncio.sleep(1.0)
    with pytest.raises(IdempotencyConflictError):
        await gateway.pay(asking.pay("waits", pay_token="x"))
    for number in range(TAPS):
        await tap(gateway, number)

    assert (await waiting).prepay_id
    await gateway.aclose()
