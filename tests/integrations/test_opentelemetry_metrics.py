"""Metrics, as an exporter reads them."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from tests.support import asking, replies
from tests.support.clock import MovedClock
from tests.support.merchant import OpenShop
from tests.support.platform import Script, answer_late
from tests.support.watch import Labels, Watch, answer_slowly
from wxpay_async.adapters.limiters.limiter import Lane, Quota, Slot, Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import (
    IdempotencyConflictError,
    InDoubtError,
    NotSentError,
    RefusedError,
    SignatureRefusedError,
)
from wxpay_async.policy.retry import RetryPolicy

HOST = "openapi.gongmall.com"
ONE_ATTEMPT = RetryPolicy(attempts=1)


def _of(
    operation: str, fate: str | None = None, code: str | None = None, waited_for: str | None = None
) -> Labels:
    labels = {
        "wxpay.operation": operation,
        "wxpay.fate": fate,
        "wxpay.code": code,
        "wxpay.waited_for": waited_for,
    }
    return tuple(sorted((name, value) for name, value in labels.items() if value))


async def test_attempts_and_outcomes_are_counted_by_fate_and_code(
    watch: Watch, open_shop: OpenShop
) -> None:
    """There is one outcome for each call, and one attempt for each try."""
    answers = [NotSentError("refused"), replies.prepay(), replies.no("CO_MSG_000006", "x")]
    shop = open_shop(answers, hooks=[watch.hook])
    await shop.gateway.pay(asking.pay())
    await shop.gateway.pay(asking.pay())
    with pytest.raises(RefusedError):
        await shop.gateway.refund(asking.refund())

    assert {
        _of("pay", "not_sent"): 1,
        _of("pay", "ok"): 1,
        _of("refund", "refused", "CO_MSG_000006"): 1,
    } == watch.values("wxpay.attempts")
    assert {
        _of("pay", "ok"): 2,
        _of("refund", "refused", "CO_MSG_000006"): 1,
    } == watch.values("wxpay.outcomes")


async def test_attempts_and_calls_are_timed(
    watch: Watch, open_shop: OpenShop, clock: MovedClock
) -> None:
    """Times are in seconds; an attempt's labels are those of the HTTP conventions."""
    shop = open_shop(answer_slowly(clock, replies.prepay(), 1.5), hooks=[watch.hook])
    await shop.gateway.pay(asking.pay())

    http = {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": HOST,
        "server.port": 443,
    }
    assert {tuple(sorted(http.items())): 1.5} == watch.values("http.client.request.duration")
    assert {_of("pay", "ok"): 1.5} == watch.values("wxpay.call.duration")


async def test_durations_fall_into_different_buckets(
    watch: Watch, open_shop: OpenShop, clock: MovedClock
) -> None:
    """A call of 60 ms and one of 600 ms fall into different buckets, which are in seconds."""
    shop = open_shop(answer_slowly(clock, replies.prepay(), 0.06, 0.6), hooks=[watch.hook])
    for request_id in ("a", "b"):
        await shop.gateway.pay(asking.pay(request_id))

    for name in ("http.client.request.duration", "wxpay.call.duration"):
        [point] = watch.points()[name]
        assert isinstance(point, HistogramDataPoint)
        assert [1, 1] == [count for count in point.bucket_counts if count]


async def test_failed_attempt_has_an_error_type(watch: Watch, open_shop: OpenShop) -> None:
    """`error.type` is the fate if the platform gave no code."""
    shop = open_shop([InDoubtError("timeout")], hooks=[watch.hook], retry=ONE_ATTEMPT)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    [labels] = watch.values("http.client.request.duration")

    assert "in_doubt" == dict(labels)["error.type"]
    assert "http.response.status_code" not in dict(labels)


async def test_wait_for_quota_is_measured(watch: Watch, open_shop: OpenShop) -> None:
    """It is the time for which the limiter made the call wait."""

    class Waiting(Unlimited):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            shop.clock.move(2.0)
            return await super().acquire(lane, timeout=timeout)

    shop = open_shop([replies.prepay()], hooks=[watch.hook], limiter=Waiting())
    await shop.gateway.pay(asking.pay())

    assert {_of("pay", waited_for="quota"): 2.0} == watch.values("wxpay.wait.duration")


async def test_wait_that_ends_without_a_slot_is_measured_too(
    watch: Watch, open_shop: OpenShop
) -> None:
    """Calls that get no slot have waited longest: all the time but what an attempt needs."""

    class Full(Unlimited):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            del lane
            shop.clock.move(timeout)
            raise NotSentError("no slot came free")

    shop = open_shop(hooks=[watch.hook], limiter=Full(), retry=ONE_ATTEMPT)
    with pytest.raises(NotSentError):
        await shop.gateway.pay(asking.pay(), timeout=5.0)

    assert {_of("pay", waited_for="quota"): 2.0} == watch.values("wxpay.wait.duration")


async def test_quota_in_use_is_what_the_limiter_says(
    watch: Watch, open_shop: OpenShop, clock: MovedClock
) -> None:
    """It counts the slots that are taken then, by the limiter's own clock."""
    limiter = LocalLimiter(Quota(), idle=True, clock=clock.monotonic)
    shop = open_shop([replies.prepay()] * 3, hooks=[watch.hook], limiter=limiter)
    labels = (("wxpay.app_key", shop.gateway.app_key),)
    await shop.gateway.pay(asking.pay("a"))
    await shop.gateway.pay(asking.pay("b"))

    assert {labels: 2} == watch.values("wxpay.quota.in_use")
    clock.move(61.0)
    assert 0 == limiter.in_use
    await shop.gateway.pay(asking.pay("c"))
    assert {labels: 1} == watch.values("wxpay.quota.in_use")


def test_each_app_key_has_a_quota_and_doubts_of_its_own(watch: Watch) -> None:
    """Two gateways with one hook do not change each other's metrics."""
    for app_key, in_use in (("one", 10), ("two", 400)):
        event = Event(
            kind=EventKind.DOUBT_OPENED,
            operation="pay",
            app_key=app_key,
            request_id="the same",
            quota_in_use=in_use,
        )
        watch.hook(event)

    assert {(("wxpay.app_key", "one"),): 10, (("wxpay.app_key", "two"),): 400} == watch.values(
        "wxpay.quota.in_use"
    )
    assert {_of("pay"): 2} == watch.values("wxpay.in_doubt.open")
    watch.hook(
        Event(kind=EventKind.DOUBT_CLOSED, operation="pay", app_key="one", request_id="the same")
    )
    assert {_of("pay"): 1} == watch.values("wxpay.in_doubt.open")


async def test_quota_in_use_of_any_limiter_is_reported_once_known(
    watch: Watch, open_shop: OpenShop
) -> None:
    """It is read from any limiter with this attribute, also a wrapped one; None is not reported."""

    class Remote(Unlimited):
        in_use: int | None = None

        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            Remote.in_use = None if Remote.in_use is None else 7
            return await super().acquire(lane, timeout=timeout)

    shop = open_shop([replies.prepay()] * 2, hooks=[watch.hook], limiter=Remote())
    await shop.gateway.pay(asking.pay("a"))
    assert {} == watch.values("wxpay.quota.in_use")
    Remote.in_use = 0
    await shop.gateway.pay(asking.pay("b"))

    assert {(("wxpay.app_key", shop.gateway.app_key),): 7} == watch.values("wxpay.quota.in_use")


async def test_shared_calls_are_counted(watch: Watch, open_shop: OpenShop) -> None:
    """Three calls with one requestId are one attempt, which two of them share."""
    shop = open_shop(answer_late(replies.prepay()), hooks=[watch.hook])
    await asyncio.gather(*(shop.gateway.pay(asking.pay()) for _ in range(3)))

    assert {_of("pay"): 2} == watch.values("wxpay.calls.shared")
    assert {_of("pay", "ok"): 1} == watch.values("wxpay.attempts")


async def test_shared_call_that_fails_is_counted_as_shared(
    watch: Watch, open_shop: OpenShop
) -> None:
    """Three calls with one requestId are refused by one attempt, which two of them share."""
    shop = open_shop(answer_late(replies.no("CO_MSG_000006")), hooks=[watch.hook])
    calls = (shop.gateway.pay(asking.pay()) for _ in range(3))
    errors = await asyncio.gather(*calls, return_exceptions=True)

    assert [SignatureRefusedError] * 3 == [type(error) for error in errors]
    assert {_of("pay"): 2} == watch.values("wxpay.calls.shared")
    assert [False, True, True] == sorted(
        (span.attributes or {})["wxpay.replayed"] for span in watch.list_spans("wxpay pay")
    )


async def test_conflict_is_not_counted_as_shared(watch: Watch, open_shop: OpenShop) -> None:
    """A call with other content under the same requestId does not share the first one."""
    shop = open_shop([replies.prepay()], hooks=[watch.hook])
    calls = (shop.gateway.pay(asking.pay(pay_token=token)) for token in ("one", "two"))
    _, conflict = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(conflict, IdempotencyConflictError)
    assert {} == watch.values("wxpay.calls.shared")


async def test_doubts_are_counted_up_and_down_again(watch: Watch, open_shop: OpenShop) -> None:
    """It is open from the lost answer until a query resolves it."""
    answers = Script([InDoubtError("timeout")], query=InDoubtError("timeout"))
    shop = open_shop(answers, hooks=[watch.hook], retry=ONE_ATTEMPT)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))

    assert {_of("pay"): 1} == watch.values("wxpay.in_doubt.open")
    answers.query = replies.order("已付款")
    await shop.gateway.resolve("pay-1")
    assert {_of("pay"): 0} == watch.values("wxpay.in_doubt.open")


async def test_doubt_that_a_resend_resolves_is_closed(watch: Watch, open_shop: OpenShop) -> None:
    """The second attempt is answered, so no doubt remains."""
    shop = open_shop([InDoubtError("timeout"), replies.prepay()], hooks=[watch.hook])
    await shop.gateway.pay(asking.pay())

    assert {_of("pay"): 0} == watch.values("wxpay.in_doubt.open")


def test_doubts_of_others_do_not_count_below_zero(watch: Watch) -> None:
    """A doubt that another process opened, or that is reported twice, changes nothing."""
    opened = Event(kind=EventKind.DOUBT_OPENED, operation="pay", request_id="mine")
    closed = Event(kind=EventKind.DOUBT_CLOSED, operation="pay", request_id="another's")
    for event in (closed, opened, opened, closed):
        watch.hook(event)

    assert {_of("pay"): 1} == watch.values("wxpay.in_doubt.open")


def test_operations_that_need_a_person_are_counted(watch: Watch) -> None:
    """And their doubt stays open until the person has settled it."""
    opened = Event(kind=EventKind.DOUBT_OPENED, operation="refund", request_id="r1")
    review = Event(kind=EventKind.REVIEW_NEEDED, operation="refund", request_id="r1")
    for event in (opened, review):
        watch.hook(event)

    assert {_of("refund"): 1} == watch.values("wxpay.reviews.needed")
    assert {_of("refund"): 1} == watch.values("wxpay.in_doubt.open")


async def test_labels_are_bounded(watch: Watch, open_shop: OpenShop) -> None:
    """Neither a requestId nor a text of the platform becomes a label of a metric."""
    answers = [replies.no(f"free text {n}", "x") for n in range(5)]
    shop = open_shop(answers, hooks=[watch.hook], limiter=LocalLimiter(Quota(), idle=True))
    for n in range(5):
        with pytest.raises(RefusedError):
            await shop.gateway.pay(asking.pay(f"unique-{n}"))
    points = watch.points()
    said = repr([dict(p.attributes or {}) for some in points.values() for p in some])

    assert {_of("pay", "refused", "other"): 5} == watch.values("wxpay.outcomes")
    assert "unique" not in said
    assert "free text" not in said
    lanes = points.pop("wxpay.quota.held")
    assert len(Lane) == len(lanes)
    assert all(len(some) == 1 for some in points.values())
