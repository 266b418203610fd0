"""A store that fails in the middle of a call: what was not written down settles nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import define

from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.recovery import RECOVER_EVERY
from wxpay_async.errors import Fate, InDoubtError, NotSentError, WxPayError
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import fingerprint
from wxpay_async.protocol.wire import HttpResponse

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

LOST = InDoubtError("read timeout")
TURNED_AWAY = HttpResponse(200, b'{"success":false,"errorCode":"CO_MSG_0000017","errorMsg":""}')


@define(eq=False)
class Unwritable(MemoryStore):
    """A store that takes claims and no outcomes."""

    async def record(self, entry: IdempotencyRecord) -> bool:  # noqa: ARG002 - the store's
        """Fail."""
        raise InDoubtError("the store cannot record an outcome (ConnectionError)")


@define(eq=False)
class Unreadable(MemoryStore):
    """A store that keeps what it has to itself."""

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:  # noqa: ARG002 - the store's
        """Fail."""
        raise NotSentError("the store cannot load an operation (ConnectionError)")


@define(eq=False)
class Fenced(Unreadable):
    """A store in which somebody claims after the first attempt, and which is gone thereafter."""

    records: int = 0

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Write the first outcome, and let no later one in."""
        self.records += 1
        return self.records == 1 and await super().record(entry)


@define(eq=False)
class Mute(MemoryStore):
    """A store over a network, whose first answer to `record` gets lost after the commit."""

    answers: bool = False

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Claim, and take a turn to say so."""
        entry = await super().claim(key, now=now, signed_at=signed_at, lease=lease)
        await asyncio.sleep(0.01)
        return entry

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Record."""
        written = await super().record(entry)
        if not self.answers:
            self.answers = True
            raise InDoubtError("the store cannot record an outcome (TimeoutError)")
        return written


@pytest.mark.parametrize("refused", [True, False], ids=["a refusal", "a success"])
async def test_an_outcome_that_is_not_written_down_is_not_final(
    refused: bool,  # noqa: FBT001 - a parameter
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
) -> None:
    """The caller hears of a doubt, with the outcome inside: the row may be claimed by others."""
    shop = open_shop([TURNED_AWAY if refused else replies.refunded()], store=Unwritable())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.refund(asking.refund())
    outcome = caught.value.outcome

    assert (Fate.IN_DOUBT, 1) == (caught.value.fate, shop.transport.calls)
    assert isinstance(outcome, WxPayError) is refused
    assert State.SENDING is await shop.state("refund-1")


async def test_a_doubt_stays_one_when_the_store_fails_in_its_inquiry(
    open_shop: Fixture, asking: Fixture, script: Fixture
) -> None:
    """That a row cannot be read says nothing of the request that was sent before."""
    shop = open_shop(script(LOST), store=Fenced())
    with pytest.raises(WxPayError) as caught:
        await shop.gateway.refund(asking.refund())

    assert Fate.IN_DOUBT is caught.value.fate
    assert len(shop.sent("refund")) >= 1


async def test_a_doubt_stays_one_when_it_cannot_be_looked_up(
    open_shop: Fixture, asking: Fixture
) -> None:
    """`resolve` without a store knows nothing, which is not "not sent"; it may be asked again."""
    shop = open_shop(lambda _: InDoubtError("read timeout"), store=Unreadable())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())
    with pytest.raises(InDoubtError, match="nothing is known") as again:
        await caught.value.resolve()

    assert (Fate.IN_DOUBT, "pay-1") == (again.value.fate, again.value.request_id)
    assert again.value.resolver is not None


async def test_a_doubt_stays_one_when_somebody_claims_and_the_store_fails(
    open_shop: Fixture, asking: Fixture, script: Fixture
) -> None:
    """What `resolve` found is not taken, and what stands there instead cannot be read."""

    @define(eq=False)
    class Overtaken(MemoryStore):
        looks: int = 0

        async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
            self.looks += 1
            if self.looks > 1:
                raise NotSentError("the store cannot load an operation (ConnectionError)")
            return await super().load(key)

        async def record(self, entry: IdempotencyRecord) -> bool:
            return not entry.checks and await super().record(entry)

    shop = open_shop(script(LOST), store=Overtaken())
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    with pytest.raises(InDoubtError, match="nothing is known"):
        await shop.gateway.resolve("pay-1")


async def test_a_cancelled_call_sends_nothing_when_its_claim_cannot_be_given_back(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The cancellation comes first: the lease that is left behind ends by itself."""
    shop = open_shop([replies.refunded()], store=Mute())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 0 == shop.transport.calls


async def test_a_cancellation_is_heard_when_the_doubt_cannot_be_written_down(
    open_shop: Fixture, asking: Fixture
) -> None:
    """`asyncio.timeout` around a call still gets its turn while the store is down."""
    asked = asyncio.Event()

    async def never(_: object) -> object:
        asked.set()
        await asyncio.Event().wait()
        return {}

    shop = open_shop(never, store=Unwritable())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 1 == shop.transport.calls


async def test_what_kept_a_request_back_is_said_when_the_claim_cannot_be_given_back(
    open_shop: Fixture, asking: Fixture
) -> None:
    """A process that was paused has sent nothing, whatever becomes of its lease."""

    class Paused:
        sign_type = None

        async def sign(self, _: bytes) -> str:
            shop.clock.move(3.0)
            return "ABC"

    shop = open_shop([], store=Unwritable(), retry=RetryPolicy(attempts=1))
    shop.gateway._dispatcher.signing.signer = Paused()
    with pytest.raises(NotSentError, match="paused"):
        await shop.gateway.refund(asking.refund())

    assert 0 == shop.transport.calls


# Recovery


def _doubt(shop: Fixture, number: int) -> IdempotencyRecord:
    return IdempotencyRecord(
        app_key=shop.gateway.app_key,
        request_id=f"refund-{number}",
        operation="refund",
        fingerprint=fingerprint("refund", b"{}"),
        out_trade_no=f"R-{number}",
        state=State.UNKNOWN,
        in_doubt=True,
        signed_at=1,
        doubt_since=shop.clock.time(),
        next_check_at=0.0,
        updated_at=shop.clock.time(),
    )


async def test_one_look_that_fails_leaves_the_others_to_their_end(
    open_shop: Fixture, replies: Fixture
) -> None:
    """150 are due, the first cannot be written down: the rest is, before the error comes out."""

    @define(eq=False)
    class Spotted(MemoryStore):
        async def record(self, entry: IdempotencyRecord) -> bool:
            if entry.request_id == "refund-0":
                raise InDoubtError("the store cannot record an outcome (ConnectionError)")
            return await super().record(entry)

    async def answer(_: object) -> object:
        await asyncio.sleep(0)
        return replies.no("GM_API_BUS_000099")

    shop = open_shop(answer, store=Spotted())
    for number in range(150):
        shop.store._put(_doubt(shop, number))
    with pytest.raises(InDoubtError, match="cannot record"):
        await shop.gateway.recover()
    checks = [(await shop.entry(f"refund-{number}")).checks for number in range(150)]

    assert [0, *[1] * 149] == checks


async def test_recovery_outlives_a_driver_s_bug(
    open_shop: Fixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that is none of ours is logged, and the next look is made."""
    looked = asyncio.Event()

    @define(eq=False)
    class Buggy(MemoryStore):
        looks: int = 0

        async def sweep(
            self, app_key: str, now: float, *, limit: int = 100
        ) -> list[IdempotencyRecord]:
            self.looks += 1
            if self.looks == 1:
                raise RuntimeError("a driver's bug")
            looked.set()
            return await super().sweep(app_key, now, limit=limit)

    monkeypatch.setattr("wxpay_async.engine.recovery.RECOVER_EVERY", 0.001)
    async with open_shop([], store=Buggy()).gateway:
        async with asyncio.timeout(5.0):
            await looked.wait()

    assert "recovery could not look" in caplog.text
    assert 30.0 == RECOVER_EVERY
