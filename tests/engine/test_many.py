"""Batches longer than the quota: none is lost for want of a slot, and a timeout still binds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest

from tests.support import asking, replies
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.merchant import OpenShop
from tests.support.platform import APP_KEY, SECRET, answer_late
from tests.support.tasks import run_loop
from wxpay_async.adapters.limiters.limiter import Lane, Quota, Slot
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome, OutcomeStream
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import InDoubtError, NotSentError, QuotaExhaustedError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.signing import Md5Signer

LENGTH = 1_000


def make_gateway(answer: object, **settings: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
    """Make a gateway in the loop's time, with the platform's quota."""
    limiter = LocalLimiter(Quota(lease=35.0), clock=LoopClock().monotonic)
    given = {"transport": MemoryTransport(answer), "clock": LoopClock(), "limiter": limiter}
    return PayGateway(APP_KEY, Md5Signer(SECRET), **(given | settings))


@attrs.define(eq=False)
class NotingLimiter(LocalLimiter):
    """A limiter that notes when it gives a slot."""

    given_at: list[float] = attrs.field(factory=list, kw_only=True)

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Give one."""
        slot = await super().acquire(lane, timeout=timeout)
        self.given_at.append(self.clock())
        return slot


async def count_kinds(outcomes: AsyncIterator[Outcome[Any, Any]]) -> Counter[str]:
    """Count the outcomes by their kind."""
    return Counter([outcome.kind async for outcome in outcomes])


Batch = Callable[..., OutcomeStream[Any, Any]]


def start_batch(
    gateway: PayGateway, operation: str, length: int = LENGTH, **more: float
) -> OutcomeStream[Any, Any]:
    """Start a batch of so many operations."""
    asked = {
        "pay": lambda n: asking.pay(f"pay-{n}"),
        "refund": lambda n: asking.refund(f"refund-{n}", out_trade_no=f"R-{n}"),
        "query": lambda n: f"O-{n}",
    }[operation]
    batch: Batch = getattr(gateway, f"{operation}_many")
    return batch((asked(n) for n in range(length)), **more)


def start_consumer(
    outcomes: OutcomeStream[Any, Any],
) -> tuple[asyncio.Task[None], list[Outcome[Any, Any]]]:
    """Pull every outcome in a task; return it, and the list of what it heard."""
    heard: list[Outcome[Any, Any]] = []

    async def consume() -> None:
        async for outcome in outcomes:
            heard.append(outcome)  # noqa: PERF401 - one by one, since the stream may raise

    return asyncio.create_task(consume()), heard


def make_platform(operation: str) -> Callable[[Any], object]:
    """Make a platform that answers at once, with the right echo."""

    def refund(request: Any) -> object:  # noqa: ANN401 - an HttpRequest
        number = request.body.decode().partition("refund-")[2].partition("%22")[0]
        return replies.refunded(requestId=f"refund-{number}", outTradeNo=f"R-{number}")

    def query(request: Any) -> object:  # noqa: ANN401 - an HttpRequest
        return replies.order("待付款", request.body.decode().split("outTradeNo=")[1].split("&")[0])

    prepay = replies.prepay()
    return {"pay": lambda _: prepay, "refund": refund, "query": query}[operation]


@pytest.mark.parametrize("operation", ["pay", "refund", "query"])
@virtual
async def test_batch_longer_than_the_quota_loses_nothing(operation: str) -> None:
    """1,000 requests at 380 a minute take minutes, and every one of them is answered."""
    gateway = make_gateway(make_platform(operation))
    kinds = await count_kinds(start_batch(gateway, operation))
    assert Counter({"ok": LENGTH}) == kinds
    assert 120 <= loop_time() <= 240
    await gateway.aclose()


@virtual
async def test_batch_with_a_timeout_pauses_while_the_quota_is_full() -> None:
    """Calls that get no slot within 30 s are told at once; after ten of them the others wait."""
    gateway = make_gateway(make_platform("pay"))
    kinds = await count_kinds(start_batch(gateway, "pay", 250, timeout=30.0))
    assert Counter({"ok": 238, "not_sent": 12}) == kinds
    await gateway.aclose()


@virtual
async def test_person_who_would_wait_in_vain_is_told_at_once() -> None:
    """No slot in 30 s: not sent, and with a phone in hand it is better to know it now."""
    limiter = LocalLimiter(Quota(limit=2), clock=LoopClock().monotonic)
    gateway = make_gateway(make_platform("pay"), limiter=limiter)
    await gateway.pay(asking.pay("a"))
    with pytest.raises(QuotaExhaustedError) as caught:
        await gateway.pay(asking.pay("b"))
    assert 0 == loop_time()
    assert 60.25 == caught.value.retry_after
    await gateway.aclose()


@virtual
async def test_slot_is_held_no_longer_than_its_lease() -> None:
    """A call that finds no connection gives its slot back after 30 s and waits for another."""
    limiter = NotingLimiter(Quota(lease=35.0), idle=True, clock=LoopClock().monotonic)
    gateway = make_gateway(answer_late(replies.prepay(), 70), limiter=limiter, max_in_flight=1)
    kinds = await count_kinds(start_batch(gateway, "pay", 2))
    assert Counter({"ok": 2}) == kinds
    held = [later - earlier for earlier, later in pairwise(limiter.given_at[1:])]
    assert held
    assert all(30 <= seconds < 35 for seconds in held), held
    await gateway.aclose()


@pytest.mark.parametrize(("attempts", "expected"), [(3, 6), (1, 1)])
async def test_batch_tries_twice_as_often(
    attempts: int, expected: int, open_shop: OpenShop
) -> None:
    """6 attempts by default; with retrying switched off there is one."""
    shop = open_shop(
        lambda _: NotSentError("connection refused"), retry=RetryPolicy(attempts=attempts)
    )
    (outcome,) = [outcome async for outcome in shop.gateway.pay_many([asking.pay()])]

    assert ("not_sent", expected) == (outcome.kind, shop.transport.calls)


# The end of the gateway


def make_hanging_platform(operation: str) -> Callable[[Any], Any]:
    """Make a platform that answers the first two requests and is silent afterwards."""
    answer, asked = make_platform(operation), 0

    async def respond(request: object) -> object:
        nonlocal asked
        asked += 1
        if asked > 2:
            await asyncio.Event().wait()
        return answer(request)

    return respond


@pytest.mark.parametrize("operation", ["pay", "refund", "query"])
async def test_batch_of_a_gateway_that_closes_ends(operation: str, open_shop: OpenShop) -> None:
    """A caller left it by `break` and kept its name: no call goes on, and no task is left."""
    before = asyncio.all_tasks()
    shop = open_shop(make_hanging_platform(operation))
    outcomes = start_batch(shop.gateway, operation, concurrency=4)
    async for _ in outcomes:
        break
    await run_loop(20)
    await shop.gateway.aclose()
    sent = shop.transport.calls
    await run_loop(20)

    assert (before, sent) == (asyncio.all_tasks(), shop.transport.calls)
    await outcomes.aclose()


@pytest.mark.parametrize("operation", ["pay", "refund", "query"])
async def test_batch_of_a_gateway_that_closes_tells_what_was_on_its_way(
    operation: str, open_shop: OpenShop
) -> None:
    """Two are done, four in doubt; then the loop hears that requests were left, not an end."""
    shop = open_shop(make_hanging_platform(operation))
    outcomes = start_batch(shop.gateway, operation, concurrency=4)
    consumer, heard = start_consumer(outcomes)
    await run_loop(30)
    await shop.gateway.aclose()
    with pytest.raises(NotSentError, match="closed before every request was pulled"):
        await consumer

    assert Counter(ok=2, in_doubt=4) == Counter(outcome.kind for outcome in heard)
    assert shop.transport.calls == len(heard)


async def test_batch_that_was_pulled_to_its_end_hears_no_error_of_a_closed_gateway(
    open_shop: OpenShop,
) -> None:
    """Every request has its outcome, and the doubts can be resolved."""
    shop = open_shop(make_hanging_platform("pay"))
    outcomes = start_batch(shop.gateway, "pay", 3, concurrency=4)
    consumer, heard = start_consumer(outcomes)
    await run_loop(30)
    await shop.gateway.aclose()
    await consumer

    assert Counter(ok=2, in_doubt=1) == Counter(outcome.kind for outcome in heard)
    (doubt,) = [outcome.error for outcome in heard if outcome.error]
    assert doubt.request_id is not None
    assert isinstance(doubt, InDoubtError)
    assert "in_doubt" == getattr(await doubt.resolve(), "kind", None)


async def test_batch_that_has_not_begun_outlives_a_close(open_shop: OpenShop) -> None:
    """Closing is not the end: like any call, it opens new connections."""
    shop = open_shop(make_platform("pay"))
    outcomes = start_batch(shop.gateway, "pay", 3)
    await shop.gateway.aclose()

    assert Counter(ok=3) == await count_kinds(outcomes)


# Outages


@attrs.define(eq=False)
class Outage:
    """A platform that ends every attempt badly until a moment, and then answers.

    Attributes:
        answer: what it says afterwards.
        error: makes what an attempt ends with before.
        until: the moment, in seconds of the loop.
        asked_at: when each attempt came during the outage.
    """

    answer: Callable[[Any], object]
    error: Callable[[], object]
    until: float = 120.0
    asked_at: list[float] = attrs.field(factory=list)

    def __call__(self, request: object) -> object:
        """Answer, or not."""
        if loop_time() >= self.until:
            return self.answer(request)
        self.asked_at.append(loop_time())
        return self.error()


@pytest.mark.parametrize("operation", ["pay", "refund", "query"])
@virtual
async def test_batch_in_an_outage_pauses_and_keeps_what_is_left(operation: str) -> None:
    """Refused for 2 minutes: 73 had begun by the tenth failure; then one probe at a time.

    Those that had begun go at the pace of the lane, and the first probe after them.
    """
    platform = Outage(
        make_platform(operation),
        lambda: NotSentError("connection refused", retryable=False),
    )
    gateway = make_gateway(platform)
    kinds = await count_kinds(start_batch(gateway, operation))

    begun, probes = platform.asked_at[:73], platform.asked_at[73:]
    paced = [number * 60 / 380 for number in range(73)]
    assert pytest.approx(paced, abs=0.1) == begun
    last = begun[-1] + 60 / 380
    assert pytest.approx([last, last + 4, last + 12, last + 28, last + 60], abs=0.1) == probes
    assert Counter(ok=LENGTH - 78, not_sent=78) == kinds
    await gateway.aclose()


@virtual
async def test_batch_in_an_outage_retries_within_its_budget() -> None:
    """With retries, too, few attempts are made, and the others of 1,000 succeed."""
    platform = Outage(make_platform("refund"), lambda: NotSentError("connection refused"))
    gateway = make_gateway(platform)
    kinds = await count_kinds(start_batch(gateway, "refund"))

    assert len(platform.asked_at) <= 73 + 7 + 5
    assert kinds["ok"] >= LENGTH - 78
    assert LENGTH == kinds.total()
    await gateway.aclose()


@virtual
async def test_batch_whose_address_is_refused_pauses_after_three() -> None:
    """An access refusal settles nothing and hits the next request, too; mended, all others go."""
    platform = Outage(
        make_platform("refund"),
        lambda: replies.no("CO_MSG_0000017", "address not allowed"),
    )
    gateway = make_gateway(platform)
    kinds = await count_kinds(start_batch(gateway, "refund", concurrency=1))

    third = 2 * 60 / 380
    probes = [third + 2, third + 6, third + 14, third + 30, third + 62]
    assert pytest.approx([0.0, third / 2, third, *probes], abs=0.01) == platform.asked_at
    assert Counter(ok=LENGTH - 8, refused=8) == kinds
    await gateway.aclose()


@virtual
async def test_batch_in_an_outage_tells_its_pauses() -> None:
    """A hook hears of each pause and how long it is, and of the end of the last one."""
    events = list[Event]()
    platform = Outage(make_platform("pay"), lambda: InDoubtError("reset"), until=20.0)
    gateway = make_gateway(platform, hooks=[events.append], retry=RetryPolicy(attempts=1))
    await count_kinds(start_batch(gateway, "pay", 100))
    told = [event for event in events if event.kind in {EventKind.PAUSED, EventKind.RESUMED}]

    assert [("paused", 2.0), ("paused", 4.0), ("paused", 8.0), ("resumed", 0.0)] == [
        (event.kind.value, event.seconds) for event in told
    ]
    assert {("pay", APP_KEY)} == {(event.operation, event.app_key) for event in told}
    await gateway.aclose()


@virtual
async def test_batch_repeated_in_an_outage_replays_what_is_done() -> None:
    """What the store knows needs no platform, and is no answer of it either."""
    platform = Outage(make_platform("refund"), lambda: InDoubtError("reset"), until=0.0)
    gateway = make_gateway(platform)
    await count_kinds(start_batch(gateway, "refund", 100))
    platform.until = loop_time() + 3_600
    kinds = await count_kinds(start_batch(gateway, "refund", 100))

    assert (Counter(ok=100), []) == (kinds, platform.asked_at)
    await gateway.aclose()


@pytest.mark.parametrize("closer", ["stream", "gateway", "cancelled"])
@virtual
async def test_batch_that_pauses_ends_at_once(closer: str) -> None:
    """Nobody waits for the end of a pause to leave; what was pulled has its outcome, or is left."""
    platform = Outage(make_platform("pay"), lambda: NotSentError("refused", retryable=False))
    gateway = make_gateway(platform)
    outcomes = start_batch(gateway, "pay", concurrency=4)
    consumer, heard = start_consumer(outcomes)
    await asyncio.sleep(31)  # in the pause of 32 s
    before = loop_time()
    if closer == "stream":
        await outcomes.aclose()
        await consumer
    elif closer == "gateway":
        await gateway.aclose()
        with pytest.raises(NotSentError, match="closed before every request was pulled"):
            await consumer
    else:
        consumer.cancel()
        await asyncio.wait([consumer])
        await outcomes.aclose()

    held = 1 if closer == "gateway" else 0
    assert before == loop_time()
    assert (len(platform.asked_at), held) == tuple(
        Counter(outcome.kind for outcome in heard)[kind] for kind in ("not_sent", "in_doubt")
    )
    assert 1 == len(asyncio.all_tasks())
    await gateway.aclose()


@pytest.mark.parametrize("operation", ["pay", "trade", "refund"])
async def test_single_call_of_a_machine_takes_the_lane_of_machines(operation: str) -> None:
    """A loop of one's own keeps nobody waiting who pays, when it says what it is."""
    lanes: list[Lane] = []

    class Noting(LocalLimiter):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            lanes.append(lane)
            return await super().acquire(lane, timeout=timeout)

    reply = {"pay": replies.prepay(), "trade": replies.created(), "refund": replies.refunded()}
    gateway = make_gateway(lambda _: reply[operation], limiter=Noting(Quota(lease=35.0)))
    request = getattr(asking, operation)()

    await getattr(gateway, operation)(request, lane=Lane.BATCH)

    assert lanes == [Lane.BATCH]
    await gateway.aclose()


async def test_stream_of_own_calls_ends_with_the_gateway() -> None:
    """What is under way when the gateway closes has its outcome, in doubt."""
    gateway = make_gateway(lambda _: replies.refunded())
    began = asyncio.Event()

    async def call(item: int) -> int:
        began.set()
        await asyncio.sleep(item)
        return item

    outcomes = gateway.stream([3_600, 3_600], call, operation="refund", concurrency=1)
    consumer, heard = start_consumer(outcomes)
    await began.wait()
    await gateway.aclose()

    with pytest.raises(NotSentError):
        await consumer
    assert [(outcome.kind, outcome.request) for outcome in heard] == [("in_doubt", 3_600)]


async def test_call_without_a_slot_is_refused_before_it_lets_another_one_go_on() -> None:
    """Of a thousand who come at once, none waits for the others to hear that it is full."""
    limiter = LocalLimiter(Quota(lease=75.0))  # a fresh one has half of its 400 slots
    gateway = make_gateway(lambda _: replies.prepay(), limiter=limiter)
    for number in range(200):
        await gateway.pay(asking.pay(f"pay-{number}"))

    call = gateway.pay(asking.pay("pay-200"), timeout=5.0)
    with pytest.raises(QuotaExhaustedError):
        call.send(None)

    await gateway.aclose()
