"""One operation on its way: the order of its steps, what each failure leaves behind, the clock."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs
import pytest
from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import (
    ClockSkewError,
    InDoubtError,
    InProgressError,
    NotSentError,
    RateLimitedError,
)
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpResponse

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

LOST = InDoubtError("read timeout")


@define(eq=False)
class CountedSlot:
    """A slot that notes how it ended."""

    endings: list[str]

    async def answered(self) -> None:
        """Note."""
        self.endings.append("answered")

    async def doubtful(self) -> None:
        """Note."""
        self.endings.append("doubtful")

    async def unsent(self) -> None:
        """Note."""
        self.endings.append("unsent")


@define(eq=False)
class CountedLimiter:
    """A limiter that knows what became of its slots, and can take its time."""

    clock: Fixture = None
    wait: float = 0.0
    endings: list[str] = field(factory=list)
    lanes: list[Lane] = field(factory=list)
    timeouts: list[float] = field(factory=list)
    throttles: int = 0

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Hand out a slot."""
        self.lanes.append(lane)
        self.timeouts.append(timeout)
        if self.wait:
            self.clock.move(self.wait)
        return CountedSlot(self.endings)

    async def throttled(self) -> None:
        """Note."""
        self.throttles += 1

    async def aclose(self) -> None:
        """Release nothing."""


@define(eq=False)
class Diary(MemoryStore):
    """A store that writes down in which order it is used."""

    steps: list[str] = field(factory=list)

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Note and reserve."""
        self.steps.append("reserve")
        return await super().reserve(entry)

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Note and claim."""
        self.steps.append("claim")
        return await super().claim(key, now=now, signed_at=signed_at, lease=lease)

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Note and record."""
        self.steps.append(f"record {entry.state}")
        return await super().record(entry)


@define(eq=False)
class SlowSigner:
    """A key-management service: signing is I/O, and may take its time or fail."""

    diary: list[str]
    clock: Fixture = None
    takes: float = 0.0
    error: Exception | None = None
    sign_type: str | None = None

    async def sign(self, message: bytes) -> str:
        """Sign elsewhere."""
        await asyncio.sleep(0)
        self.diary.append("sign")
        if self.takes:
            self.clock.move(self.takes)
        if self.error:
            raise self.error
        return Md5Signer("secret").sign(message)


def _signed_by(shop: Fixture, signer: SlowSigner) -> None:
    shop.gateway._dispatcher.signing.signer = signer


async def test_the_order_of_the_steps(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Reserve, wait for quota, claim, sign, send, record: each arrow is a commit (§3)."""
    diary = Diary()

    class Limiter(CountedLimiter):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            diary.steps.append("quota")
            return await super().acquire(lane, timeout=timeout)

    def answer(_: object) -> object:
        diary.steps.append("send")
        return replies.prepay()

    shop = open_shop(answer, store=diary, limiter=Limiter())
    _signed_by(shop, SlowSigner(diary.steps))
    await shop.gateway.pay(asking.pay())

    assert [
        "reserve",
        "quota",
        "claim",
        "sign",
        "send",
        "record succeeded",
    ] == diary.steps


async def test_the_attempt_is_committed_before_a_byte_is_sent(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """While the request is out the row says SENDING, with its timestamp and content."""
    seen: list[IdempotencyRecord] = []

    async def look(_: object) -> object:
        seen.append(await shop.entry("refund-1"))
        return replies.refunded()

    shop = open_shop(look)
    await shop.gateway.refund(asking.refund())
    (entry,) = seen
    (sent,) = shop.sent()

    assert (State.SENDING, int(sent["timestamp"]), 1, 1) == (
        entry.state,
        entry.signed_at,
        entry.epoch,
        entry.attempts,
    )
    assert sent["bizContent"].encode() == entry.content
    assert entry.lease_until == shop.clock.time() + LEASE


@pytest.mark.parametrize(
    ("answers", "endings"),
    [
        ([HttpResponse(400, b"")], ["answered"]),
        ([NotSentError("refused", retryable=False)], ["unsent"]),
        ([InDoubtError("timeout", retryable=False)], ["doubtful"]),
        (
            [HttpResponse(502, b""), LOST, HttpResponse(400, b"")],
            ["answered", "doubtful", "answered"],
        ),
    ],
)
async def test_every_slot_ends_once_as_it_should(
    answers: list[object], endings: list[str], open_shop: Fixture, asking: Fixture
) -> None:
    """Answered, given back or doubtful: the interval log lives on it."""
    limiter = CountedLimiter()
    shop = open_shop(answers, limiter=limiter)
    with pytest.raises(Exception, match=r"."):
        await shop.gateway.pay(asking.pay())

    assert endings == limiter.endings


async def test_queries_in_doubt_go_in_their_own_lane(
    open_shop: Fixture, asking: Fixture, script: Fixture
) -> None:
    """People first; the query that resolves a doubt does not stand in their way."""
    limiter = CountedLimiter()
    shop = open_shop(script(InDoubtError("timeout", retryable=False)), limiter=limiter)
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())

    assert [Lane.PEOPLE, Lane.RESOLVING] == limiter.lanes


async def test_the_limiter_hears_of_a_refusal_for_too_many_calls(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """CO_MSG_000007 pauses the whole appKey, and the slot counts as answered."""
    limiter = CountedLimiter()
    shop = open_shop([replies.no("CO_MSG_000007")], limiter=limiter)
    with pytest.raises(RateLimitedError):
        await shop.gateway.pay(asking.pay())

    assert (1, ["answered"]) == (limiter.throttles, limiter.endings)


async def test_the_clock_is_corrected_by_the_answer_that_says_expired(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The second attempt carries the platform's time, and so does the next call."""
    expired = HttpResponse(
        200,
        json.dumps(replies.no("CO_MSG_000005")).encode(),
        {"date": "Sun, 23 Nov 2025 04:10:00 GMT"},
    )
    shop = open_shop([expired, replies.prepay(), replies.prepay()])
    await shop.gateway.pay(asking.pay("a"))
    await shop.gateway.pay(asking.pay("b"))
    first, second, third = (int(sent["timestamp"]) for sent in shop.sent())

    assert (1_763_870_400_000, 1_763_871_000_000, 1_763_871_000_000) == (first, second, third)


async def test_a_date_on_any_other_answer_moves_nothing(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """It may come from a cache."""
    date = {"date": "Sun, 23 Nov 2025 04:10:00 GMT"}
    ok = HttpResponse(200, json.dumps(replies.prepay()).encode(), date)
    shop = open_shop([ok, ok])
    await shop.gateway.pay(asking.pay("a"))
    await shop.gateway.pay(asking.pay("b"))

    assert {"1763870400000"} == {sent["timestamp"] for sent in shop.sent()}


async def test_expired_twice_is_the_end(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Corrected once; then the caller hears of its clock, and may try again later."""
    body = json.dumps(replies.no("CO_MSG_000005")).encode()
    expired = HttpResponse(200, body, {"date": "Sun, 23 Nov 2025 04:10:00 GMT"})
    shop = open_shop([expired, expired])
    with pytest.raises(ClockSkewError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (2, State.RESERVED) == (caught.value.attempts, await shop.state("pay-1"))


async def test_a_worker_that_was_paused_between_claim_and_sending_does_not_send(
    open_shop: Fixture, asking: Fixture
) -> None:
    """Over 2 s after the claim the attempt is abandoned as unsent (the model's fourth mistake)."""
    limiter, diary = CountedLimiter(), list[str]()
    shop = open_shop(limiter=limiter, max_in_flight=1)
    _signed_by(shop, SlowSigner(diary, shop.clock, takes=2.001))
    with pytest.raises(NotSentError, match="paused"):
        await shop.gateway.pay(asking.pay())

    assert (0, State.RESERVED) == (shop.transport.calls, await shop.state("pay-1"))
    assert {"unsent"} == set(limiter.endings)


async def test_a_signer_may_take_two_seconds(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """A slow key-management service is not a pause yet."""
    shop = open_shop([replies.prepay()])
    _signed_by(shop, SlowSigner([], shop.clock, takes=2.0))

    assert 1 == (await shop.gateway.pay(asking.pay())).attempts


async def test_a_signer_that_raises_leaves_nothing_behind(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """No claim, no slot, no connection: the next call goes through, with one connection."""
    limiter = CountedLimiter()
    shop = open_shop([replies.prepay()], limiter=limiter, max_in_flight=1)
    _signed_by(shop, SlowSigner([], error=ConnectionResetError("the key service is down")))
    with pytest.raises(NotSentError, match="ConnectionResetError") as caught:
        await shop.gateway.pay(asking.pay())
    assert (True, ConnectionResetError) == (caught.value.retryable, type(caught.value.__cause__))
    assert (["unsent"] * 3, State.RESERVED) == (limiter.endings, await shop.state("pay-1"))
    _signed_by(shop, SlowSigner([]))

    assert (await shop.gateway.pay(asking.pay())).prepay_id


@define(eq=False)
class Moody:
    """A signer that fails for some calls, in a coroutine or not."""

    asynchronous: bool
    fails: set[int]
    error: BaseException
    calls: int = 0
    sign_type: str | None = None

    def sign(self, message: bytes) -> Any:  # noqa: ANN401 - a text, or what will be one
        """Sign."""
        self.calls += 1
        return self._later(message, self.calls) if self.asynchronous else self._now(self.calls)

    async def _later(self, _: bytes, number: int) -> str:
        await asyncio.sleep(0)
        return self._now(number)

    def _now(self, number: int) -> str:
        if number in self.fails:
            raise self.error
        return "A" * 32


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_signer_that_raises_does_not_end_a_batch(
    asynchronous: bool,  # noqa: FBT001 - the parameter
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
) -> None:
    """Tried again, as nothing was sent; every request has its outcome."""
    shop = open_shop(lambda _: replies.prepay())
    _signed_by(shop, Moody(asynchronous, {1, 4}, RuntimeError("kms throttled")))
    payments = (asking.pay(f"pay-{n}") for n in range(5))
    outcomes = [o async for o in shop.gateway.pay_many(payments, concurrency=1)]

    assert ["ok"] * 5 == [outcome.kind for outcome in outcomes]


async def test_what_a_signer_says_is_not_repeated(open_shop: Fixture, asking: Fixture) -> None:
    """A key service may quote what it was asked to sign; the cause has it for who looks."""
    shop = open_shop()
    _signed_by(shop, Moody(asynchronous=False, fails={1, 2, 3}, error=RuntimeError("canary")))
    with pytest.raises(NotSentError) as caught:
        await shop.gateway.refund(asking.refund())

    assert "canary" not in str(caught.value)
    assert (0, State.RESERVED) == (shop.transport.calls, await shop.state("refund-1"))


async def test_a_signer_s_own_verdict_stands(open_shop: Fixture, asking: Fixture) -> None:
    """A WxPayError says by itself whether another attempt can help."""
    shop = open_shop()
    final = NotSentError("the key is revoked", retryable=False)
    signer = Moody(asynchronous=True, fails={1}, error=final)
    _signed_by(shop, signer)
    with pytest.raises(NotSentError, match="revoked"):
        await shop.gateway.pay(asking.pay())

    assert 1 == signer.calls


@pytest.mark.parametrize("waited", [27.1, 28.0])
async def test_no_attempt_starts_with_less_than_three_seconds_left(
    waited: float, open_shop: Fixture, asking: Fixture
) -> None:
    """A call that waited for quota until its deadline has no time left to be answered in.

    Sent all the same, it would nearly always end in doubt.
    """
    shop = open_shop(lambda _: LOST)
    shop.gateway._dispatcher.limiter = CountedLimiter(shop.clock, wait=waited)
    with pytest.raises(NotSentError):
        await shop.gateway.refund(asking.refund())

    assert (0, State.RESERVED) == (shop.transport.calls, await shop.state("refund-1"))


async def test_the_shortest_timeout_is_enough_for_one_attempt(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Who asks for three seconds has a little less of them when the attempt starts."""
    shop = open_shop(lambda _: replies.refunded())
    shop.gateway._dispatcher.limiter = CountedLimiter(shop.clock, wait=0.4)
    result = await shop.gateway.refund(asking.refund(), timeout=3.0)

    assert ("S", 1) == (result.status, shop.transport.calls)


async def test_a_call_that_waited_for_a_connection_is_bound_by_the_same(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """One connection, held for 28 s by another call: the second has 2 s left and is not sent."""
    began = asyncio.Event()

    async def slow(_: object) -> object:
        began.set()
        for _ in range(10):
            await asyncio.sleep(0)
        shop.clock.move(28)
        return replies.prepay()

    shop = open_shop(slow, max_in_flight=1)
    first = asyncio.create_task(shop.gateway.pay(asking.pay("first")))
    await began.wait()
    with pytest.raises(NotSentError):
        await shop.gateway.pay(asking.pay("second"))
    await first

    assert (1, State.RESERVED) == (shop.transport.calls, await shop.state("second"))


async def test_somebody_else_is_sending(open_shop: Fixture, asking: Fixture) -> None:
    """The lease of another process is respected: in doubt, nothing sent, nothing held."""
    limiter = CountedLimiter()
    shop = open_shop([LOST, LOST, LOST], limiter=limiter, max_in_flight=1)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    entry = await shop.entry("pay-1")
    await shop.store.record(attrs.evolve(entry, state=State.UNKNOWN))
    await shop.store.claim(entry.key, now=shop.clock.time(), signed_at=1)
    calls = shop.transport.calls
    for _ in range(2):
        with pytest.raises(InProgressError):
            await shop.gateway.pay(asking.pay())

    assert (calls, "unsent") == (shop.transport.calls, limiter.endings[-1])


async def test_a_thousand_calls_in_an_outage_send_a_thousand_and_ten_requests(
    open_shop: Fixture, asking: Fixture, script: Fixture
) -> None:
    """Queries for what is in doubt come out of the same budget as retries (§5)."""
    shop = open_shop(script(LOST, query=lambda: InDoubtError("read timeout")))
    outcomes = [
        outcome
        async for outcome in shop.gateway.refund_many(
            (asking.refund(f"r-{n}", out_trade_no=f"R-{n}") for n in range(1_000)), concurrency=64
        )
    ]

    assert {"in_doubt"} == {outcome.kind for outcome in outcomes}
    assert 1_000 <= shop.transport.calls <= 1_010


async def test_what_is_in_doubt_is_due_for_a_query_in_five_seconds(
    open_shop: Fixture, asking: Fixture
) -> None:
    """Recovery finds it by itself, and finds its content to compare with."""
    shop = open_shop([LOST, LOST, LOST])
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    entry = await shop.entry("pay-1")

    assert entry.next_check_at == shop.clock.time() + 5
    assert entry.doubt_since is not None
    assert entry.content is not None


async def test_what_is_settled_keeps_no_openid(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The content of a finished operation is dropped."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())

    assert (await shop.entry("pay-1")).content is None
