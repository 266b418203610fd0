"""One call: the order of its steps, what each failure leaves behind, the clock."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from decimal import Decimal
from typing import Any, Unpack

import attrs
import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.clock import MovedClock
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import HeldPlatform, Script
from tests.support.records import Claim
from tests.support.tasks import run_loop
from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import (
    ClockSkewError,
    InDoubtError,
    InProgressError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
    RateLimitedError,
)
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.results import PayResult
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpResponse, Transport

LOST = InDoubtError("read timeout")


@define(eq=False)
class NotingSlot:
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
class NotingLimiter:
    """A limiter that notes what became of its slots, and may let time pass."""

    clock: MovedClock | None = None
    wait: float = 0.0
    endings: list[str] = field(factory=list)
    lanes: list[Lane] = field(factory=list)
    timeouts: list[float] = field(factory=list)
    throttles: int = 0

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Hand out a slot."""
        self.lanes.append(lane)
        self.timeouts.append(timeout)
        if self.clock:
            self.clock.move(self.wait)
        return NotingSlot(self.endings)

    async def throttled(self) -> None:
        """Note."""
        self.throttles += 1

    async def aclose(self) -> None:
        """Release nothing."""


@define(eq=False)
class ReadyLimiter(NotingLimiter):
    """One that can tell that a slot is free, so that a reservation may be a claim."""

    async def acquire_now(self, lane: Lane) -> Slot:
        """Hand out a slot."""
        return await self.acquire(lane, timeout=0)


both_ways = pytest.mark.parametrize(
    "limit", [ReadyLimiter, NotingLimiter], ids=["one commit", "two commits"]
)


@define(eq=False)
class NotingStore(MemoryStore):
    """A store that notes in which order it is used."""

    steps: list[str] = field(factory=list)

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Note and reserve."""
        self.steps.append("reserve")
        return await super().reserve(entry)

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Note and claim."""
        self.steps.append("claim")
        return await super().claim(key, **claim)

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Note and record."""
        self.steps.append(f"record {entry.state}")
        return await super().record(entry)


@define(eq=False)
class SlowSigner:
    """A key-management service: signing is I/O, and may take its time or fail."""

    steps: list[str]
    clock: MovedClock | None = None
    takes: float = 0.0
    error: Exception | None = None
    sign_type: str | None = None

    async def sign(self, message: bytes) -> str:
        """Sign elsewhere."""
        await asyncio.sleep(0)
        self.steps.append("sign")
        if self.clock:
            self.clock.move(self.takes)
        if self.error:
            raise self.error
        return Md5Signer("secret").sign(message)


@define(eq=False)
class FailingSigner:
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


def set_signer(shop: Shop, signer: SlowSigner) -> None:
    """Let the shop sign by this signer."""
    shop.gateway._dispatcher.signing.signer = signer


# The steps of an attempt


async def test_steps_of_an_attempt_are_in_order(open_shop: OpenShop) -> None:
    """Reserve, wait for quota, claim, sign, send, record: each arrow is a commit (§3)."""
    store = NotingStore()

    class StepLimiter(NotingLimiter):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            store.steps.append("quota")
            return await super().acquire(lane, timeout=timeout)

    def answer(_: object) -> object:
        store.steps.append("send")
        return replies.prepay()

    shop = open_shop(answer, store=store, limiter=StepLimiter())
    set_signer(shop, SlowSigner(store.steps))
    await shop.gateway.pay(asking.pay())

    assert [
        "reserve",
        "quota",
        "claim",
        "sign",
        "send",
        "record succeeded",
    ] == store.steps


async def test_steps_of_an_attempt_whose_turn_has_come_are_in_order(open_shop: OpenShop) -> None:
    """With a slot at hand the record is SENDING from its first commit on, and never RESERVED."""
    store = NotingStore()

    class StepLimiter(ReadyLimiter):
        async def acquire_now(self, lane: Lane) -> Slot:
            store.steps.append("quota")
            return await super().acquire_now(lane)

    async def answer(_: object) -> object:
        store.steps.append(f"send what is {await shop.state('pay-1')}")
        return replies.prepay()

    shop = open_shop(answer, store=store, limiter=StepLimiter())
    set_signer(shop, SlowSigner(store.steps))
    await shop.gateway.pay(asking.pay())

    assert ["quota", "reserve", "sign", "send what is sending", "record succeeded"] == store.steps


@pytest.mark.parametrize("lane", [Lane.BATCH, Lane.RESOLVING, Lane.POLLING])
async def test_machines_claim_when_their_turn_has_come(lane: Lane, open_shop: OpenShop) -> None:
    """A lease must not run while a call waits, and their pace lets them wait."""
    store = NotingStore()
    shop = open_shop([replies.prepay()], store=store, limiter=ReadyLimiter())
    await shop.gateway._dispatcher.executor.execute(
        asking.pay(), PayResult, timeout=None, lane=lane
    )

    assert ["reserve", "claim", "record succeeded"] == store.steps


async def test_call_that_finds_no_connection_claims_when_it_has_one(open_shop: OpenShop) -> None:
    """It gives the slot back, and is reserved without a lease meanwhile."""
    platform = HeldPlatform(replies.prepay())
    limiter = ReadyLimiter()
    shop = open_shop(platform, limiter=limiter, max_in_flight=1)
    first = asyncio.create_task(shop.gateway.pay(asking.pay("first")))
    await platform.asked.wait()
    second = asyncio.create_task(shop.gateway.pay(asking.pay()))
    await run_loop()
    waiting = await shop.get_record("pay-1")
    platform.gate.set()
    await asyncio.gather(first, second)

    assert (State.RESERVED, 0, 0.0) == (waiting.state, waiting.epoch, waiting.lease_until)
    assert sorted([*["answered"] * 2, "unsent"]) == sorted(limiter.endings)
    assert State.SUCCEEDED is await shop.state("pay-1")


async def test_calls_that_come_at_once_are_claimed_as_they_are_reserved(
    open_shop: OpenShop,
) -> None:
    """They start in several iterations of the loop, and none has to wait for an end."""
    store = NotingStore()
    shop = open_shop(lambda _: replies.prepay(), store=store, limiter=ReadyLimiter())
    await asyncio.gather(*(shop.gateway.pay(asking.pay(f"pay-{n}")) for n in range(50)))

    assert {"reserve": 50, "record succeeded": 50} == Counter(store.steps)


async def test_call_whose_transport_cannot_be_made_claims_nothing(open_shop: OpenShop) -> None:
    """A file of certificates that is not there is met before anything is held."""
    limiter = ReadyLimiter()
    shop = open_shop([], limiter=limiter)

    def fail() -> Transport:
        raise InvalidRequestError("no such file")

    shop.gateway._dispatcher.make_transport = fail
    with pytest.raises(InvalidRequestError, match="no such file"):
        await shop.gateway.pay(asking.pay())

    assert (None, []) == (await shop.state("pay-1"), limiter.lanes)


async def test_call_whose_limiter_fails_waits_for_its_slot(open_shop: OpenShop) -> None:
    """What is settled needs no quota, so a limiter out of reach is met after the reservation."""

    class LostLimiter(NotingLimiter):
        async def acquire_now(self, lane: Lane) -> Slot:
            del lane
            raise NotSentError("Redis is away")

    store = NotingStore()
    shop = open_shop([replies.prepay()], store=store, limiter=LostLimiter())
    first = await shop.gateway.pay(asking.pay())
    again = await shop.gateway.pay(asking.pay())

    assert ["reserve", "claim", "record succeeded", "reserve"] == store.steps
    assert (False, True, 1) == (first.replayed, again.replayed, shop.transport.calls)


@both_ways
async def test_attempt_is_committed_before_a_byte_is_sent(
    limit: type[NotingLimiter], open_shop: OpenShop
) -> None:
    """While the request is out the record says SENDING, with its timestamp and content."""
    seen: list[IdempotencyRecord] = []

    async def look(_: object) -> object:
        seen.append(await shop.get_record("refund-1"))
        return replies.refunded()

    shop = open_shop(look, limiter=limit())
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


@both_ways
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
async def test_slot_ends_once_by_the_end_of_its_attempt(
    answers: list[object],
    endings: list[str],
    limit: type[NotingLimiter],
    open_shop: OpenShop,
) -> None:
    """Answered, given back or doubtful: the sliding window lives on it."""
    limiter = limit()
    shop = open_shop(answers, limiter=limiter)
    with pytest.raises(Exception, match=r"."):
        await shop.gateway.pay(asking.pay())

    assert endings == limiter.endings


async def test_query_about_a_doubt_takes_its_own_lane(open_shop: OpenShop) -> None:
    """People come first; the query that resolves a doubt does not delay them."""
    limiter = NotingLimiter()
    shop = open_shop(Script([InDoubtError("timeout", retryable=False)]), limiter=limiter)
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())

    assert [Lane.PEOPLE, Lane.RESOLVING] == limiter.lanes


async def test_refusal_for_too_many_calls_slows_the_limiter(open_shop: OpenShop) -> None:
    """CO_MSG_000007 pauses the whole appKey, and the slot counts as answered."""
    limiter = NotingLimiter()
    shop = open_shop([replies.no("CO_MSG_000007")], limiter=limiter)
    with pytest.raises(RateLimitedError):
        await shop.gateway.pay(asking.pay())

    assert (1, ["answered"]) == (limiter.throttles, limiter.endings)


async def test_doubt_is_continued_with_the_same_bytes(open_shop: OpenShop) -> None:
    """The content is stored, not rebuilt: a second call sends what the first one signed (§1.4)."""
    shop = open_shop(Script([LOST, LOST, LOST, replies.prepay()]))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(extra={"a": "1", "b": "2"}))
    await shop.gateway.pay(asking.pay(extra={"b": "2", "a": "1"}))
    sent = shop.sent()

    assert 4 == len(sent)
    assert 1 == len({attempt["bizContent"] for attempt in sent})
    assert 4 == len({attempt["nonce"] for attempt in sent})


async def test_content_that_cannot_be_opened_is_made_again(open_shop: OpenShop) -> None:
    """A seal that does not open (the secret was changed) does not send an empty bizContent."""
    shop = open_shop(Script([LOST, LOST, LOST, replies.prepay()]))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    entry = await shop.get_record("pay-1")
    await shop.store.record(attrs.evolve(entry, content=None))
    await shop.gateway.pay(asking.pay())

    assert 1 == len({sent["bizContent"] for sent in shop.sent()})


async def test_unsent_operation_is_sent_by_the_next_call(open_shop: OpenShop) -> None:
    """RESERVED is where a call starts, however often."""
    unsent = [NotSentError("refused") for _ in range(3)]
    shop = open_shop([*unsent, replies.prepay()])
    with pytest.raises(NotSentError):
        await shop.gateway.pay(asking.pay())

    assert (
        "wx061644162685653f3da37a5a1589465200" == (await shop.gateway.pay(asking.pay())).prepay_id
    )


async def test_doubt_of_an_earlier_call_outlives_a_refusal_of_the_next(open_shop: OpenShop) -> None:
    """The second call ends in doubt, with the platform's code, and the record stays UNKNOWN."""
    shop = open_shop(Script([LOST, LOST, LOST, replies.no("CO_MSG_000006")]))
    for _ in range(2):
        with pytest.raises(InDoubtError) as caught:
            await shop.gateway.refund(asking.refund())

    assert ("CO_MSG_000006", State.UNKNOWN) == (caught.value.code, await shop.state("refund-1"))


async def test_html_page_is_in_doubt(open_shop: OpenShop) -> None:
    """A 502 in HTML is no refusal (lesson 3); the same requestId brings the answer later."""
    page = HttpResponse(502, b"<html>")
    shop = open_shop(Script([page, page, page, replies.refunded()]))
    with pytest.raises(MalformedResponseError):
        await shop.gateway.refund(asking.refund())

    assert "S" == (await shop.gateway.refund(asking.refund())).status


async def test_amount_is_sent_exactly(open_shop: OpenShop) -> None:
    """What is sent has two places, and no exponent (lesson 2)."""
    shop = open_shop([replies.refunded()])
    await shop.gateway.refund(asking.refund(refund_amount=Decimal(100000000000)))

    assert '"refundAmount":"100000000000.00"' in shop.sent()[0]["bizContent"]


@pytest.mark.parametrize(
    ("operation", "changes"),
    [
        ("pay", {"requestId": "another"}),
        ("pay", {"appId": "wx-another"}),
        ("pay", {"extPackage": "prepay_id=another"}),
        ("trade", {"requestId": "another"}),
        ("refund", {"requestId": "another"}),
        ("refund", {"outTradeNo": "another"}),
    ],
)
async def test_answer_to_another_request_is_withheld(
    operation: str, changes: dict[str, str], open_shop: OpenShop
) -> None:
    """In doubt, sent once, and the credential is nowhere in the error."""
    verb = {"pay": "prepay", "trade": "created", "refund": "refunded"}[operation]
    shop = open_shop(Script([getattr(replies, verb)(**changes)]))
    more = {"app_id": "wx9236b1e84ffbf10a"} if operation == "pay" else {}
    request = getattr(asking, operation)(**more)
    with pytest.raises(MalformedResponseError) as caught:
        await getattr(shop.gateway, operation)(request)

    assert ("in_doubt", State.UNKNOWN) == (
        caught.value.fate,
        await shop.state(request.request_id),
    )
    assert "wx0616441" not in str(caught.value)
    assert "token-1" not in str(caught.value)


async def test_doubt_is_due_for_a_query_in_five_seconds(open_shop: OpenShop) -> None:
    """Recovery finds it by itself, and finds its content to compare with."""
    shop = open_shop([LOST, LOST, LOST])
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    entry = await shop.get_record("pay-1")

    assert entry.next_check_at == shop.clock.time() + 5
    assert entry.doubt_since is not None
    assert entry.content is not None


async def test_settled_operation_keeps_no_openid(open_shop: OpenShop) -> None:
    """The content of a finished operation is dropped."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())

    assert (await shop.get_record("pay-1")).content is None


async def test_operation_that_another_process_sends_is_left_alone(open_shop: OpenShop) -> None:
    """The lease of another process is respected: in doubt, nothing sent, nothing held."""
    limiter = NotingLimiter()
    shop = open_shop([LOST, LOST, LOST], limiter=limiter, max_in_flight=1)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    entry = await shop.get_record("pay-1")
    await shop.store.record(attrs.evolve(entry, state=State.UNKNOWN))
    await shop.store.claim(entry.key, now=shop.clock.time(), signed_at=1)
    calls = shop.transport.calls
    for _ in range(2):
        with pytest.raises(InProgressError):
            await shop.gateway.pay(asking.pay())

    assert (calls, "unsent") == (shop.transport.calls, limiter.endings[-1])


# The platform's clock


async def test_clock_is_corrected_by_the_answer_that_says_expired(open_shop: OpenShop) -> None:
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


async def test_clock_is_not_corrected_by_any_other_answer(open_shop: OpenShop) -> None:
    """Its `Date` may come from a cache."""
    date = {"date": "Sun, 23 Nov 2025 04:10:00 GMT"}
    ok = HttpResponse(200, json.dumps(replies.prepay()).encode(), date)
    shop = open_shop([ok, ok])
    await shop.gateway.pay(asking.pay("a"))
    await shop.gateway.pay(asking.pay("b"))

    assert {"1763870400000"} == {sent["timestamp"] for sent in shop.sent()}


async def test_clock_is_corrected_once(open_shop: OpenShop) -> None:
    """Then the caller hears of its clock, and may try again later."""
    body = json.dumps(replies.no("CO_MSG_000005")).encode()
    expired = HttpResponse(200, body, {"date": "Sun, 23 Nov 2025 04:10:00 GMT"})
    shop = open_shop([expired, expired])
    with pytest.raises(ClockSkewError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (2, State.RESERVED) == (caught.value.attempts, await shop.state("pay-1"))


# Signers


@both_ways
async def test_process_paused_between_claim_and_sending_does_not_send(
    limit: type[NotingLimiter], open_shop: OpenShop
) -> None:
    """An attempt that could outlast its claim is abandoned (the model's fourth mistake)."""
    limiter = limit()
    shop = open_shop(limiter=limiter, max_in_flight=1)
    set_signer(shop, SlowSigner([], shop.clock, takes=30.001))
    with pytest.raises(NotSentError, match="paused"):
        await shop.gateway.pay(asking.pay(), timeout=120)

    assert (0, State.RESERVED) == (shop.transport.calls, await shop.state("pay-1"))
    assert {"unsent"} == set(limiter.endings)


async def test_signer_may_take_what_its_claim_leaves_beside_the_attempt(
    open_shop: OpenShop,
) -> None:
    """A slow key-management service is not a pause yet."""
    shop = open_shop([replies.prepay()])
    set_signer(shop, SlowSigner([], shop.clock, takes=30.0))

    assert 1 == (await shop.gateway.pay(asking.pay(), timeout=120)).attempts


@both_ways
async def test_signer_that_raises_leaves_nothing_behind(
    limit: type[NotingLimiter], open_shop: OpenShop
) -> None:
    """No claim, no slot, no connection: the next call goes through, with one connection."""
    limiter = limit()
    shop = open_shop([replies.prepay()], limiter=limiter, max_in_flight=1)
    set_signer(shop, SlowSigner([], error=ConnectionResetError("the key service is down")))
    with pytest.raises(NotSentError, match="ConnectionResetError") as caught:
        await shop.gateway.pay(asking.pay())
    assert (True, ConnectionResetError) == (caught.value.retryable, type(caught.value.__cause__))
    assert (["unsent"] * 3, State.RESERVED) == (limiter.endings, await shop.state("pay-1"))
    set_signer(shop, SlowSigner([]))

    assert (await shop.gateway.pay(asking.pay())).prepay_id


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_signer_that_raises_ends_no_batch(
    asynchronous: bool,  # noqa: FBT001 - the parameter
    open_shop: OpenShop,
) -> None:
    """It is tried again, as nothing was sent; every request has its outcome."""
    shop = open_shop(lambda _: replies.prepay())
    set_signer(shop, FailingSigner(asynchronous, {1, 4}, RuntimeError("kms throttled")))
    payments = (asking.pay(f"pay-{n}") for n in range(5))
    outcomes = [o async for o in shop.gateway.pay_many(payments, concurrency=1)]

    assert ["ok"] * 5 == [outcome.kind for outcome in outcomes]


async def test_signer_s_words_are_not_repeated(open_shop: OpenShop) -> None:
    """A key service may quote what it was asked to sign; the cause has it for debugging."""
    shop = open_shop()
    set_signer(
        shop, FailingSigner(asynchronous=False, fails={1, 2, 3}, error=RuntimeError("canary"))
    )
    with pytest.raises(NotSentError) as caught:
        await shop.gateway.refund(asking.refund())

    assert "canary" not in str(caught.value)
    assert (0, State.RESERVED) == (shop.transport.calls, await shop.state("refund-1"))


async def test_signer_s_own_error_stands(open_shop: OpenShop) -> None:
    """A WxPayError says by itself whether another attempt can help."""
    shop = open_shop()
    final = NotSentError("the key is revoked", retryable=False)
    signer = FailingSigner(asynchronous=True, fails={1}, error=final)
    set_signer(shop, signer)
    with pytest.raises(NotSentError, match="revoked"):
        await shop.gateway.pay(asking.pay())

    assert 1 == signer.calls


# The deadline


@pytest.mark.parametrize("waited", [27.1, 28.0])
async def test_no_attempt_starts_with_less_than_three_seconds_left(
    waited: float, open_shop: OpenShop
) -> None:
    """A call that waited for quota until its deadline has no time left to be answered in.

    Sent all the same, it would nearly always end in doubt.
    """
    limiter = NotingLimiter(wait=waited)
    shop = open_shop(lambda _: LOST, limiter=limiter)
    limiter.clock = shop.clock
    with pytest.raises(NotSentError):
        await shop.gateway.refund(asking.refund())

    assert (0, State.RESERVED) == (shop.transport.calls, await shop.state("refund-1"))


@both_ways
@pytest.mark.parametrize("waited", [27.1, 28.0])
async def test_no_attempt_starts_when_its_claim_took_too_long(
    waited: float, limit: type[NotingLimiter], open_shop: OpenShop
) -> None:
    """The commit that claims it may be the one that reserves it."""

    class LateStore(MemoryStore):
        async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
            shop.clock.move(waited if record.claim_token else 0.0)
            return await super().reserve(record)

        async def claim(
            self, key: tuple[str, str], **more: Unpack[Claim]
        ) -> IdempotencyRecord | None:
            shop.clock.move(waited)
            return await super().claim(key, **more)

    limiter = limit()
    shop = open_shop(lambda _: LOST, store=LateStore(), limiter=limiter)
    with pytest.raises(NotSentError, match="too little time"):
        await shop.gateway.refund(asking.refund())

    assert (0, State.RESERVED) == (shop.transport.calls, await shop.state("refund-1"))
    assert ["unsent"] == limiter.endings


async def test_shortest_timeout_is_enough_for_one_attempt(open_shop: OpenShop) -> None:
    """A call with three seconds has a little less of them when its attempt starts."""
    limiter = NotingLimiter(wait=0.4)
    shop = open_shop(lambda _: replies.refunded(), limiter=limiter)
    limiter.clock = shop.clock
    result = await shop.gateway.refund(asking.refund(), timeout=3.0)

    assert ("S", 1) == (result.status, shop.transport.calls)


async def test_call_that_waited_for_a_connection_has_three_seconds_left(
    open_shop: OpenShop,
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


async def test_outage_of_a_thousand_calls_sends_a_thousand_and_ten_requests(
    open_shop: OpenShop,
) -> None:
    """Retries and queries for what is in doubt have budgets that together bound an outage (§5)."""
    shop = open_shop(Script([LOST], query=lambda: InDoubtError("read timeout")))
    outcomes = [
        outcome
        async for outcome in shop.gateway.refund_many(
            (asking.refund(f"r-{n}", out_trade_no=f"R-{n}") for n in range(1_000)), concurrency=64
        )
    ]

    assert {"in_doubt"} == {outcome.kind for outcome in outcomes}
    assert 1_000 <= shop.transport.calls <= 1_010
