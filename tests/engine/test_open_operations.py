"""What no machine finds out: who hears of it, how it is listed, how a person settles it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest

from tests.support import asking, replies
from tests.support.clock import NOON
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import UNKNOWN_ORDER, Script
from wxpay_async.engine.open_operations import LastAnswer, OpenOperation
from wxpay_async.engine.telemetry import EventKind
from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    InDoubtError,
    InvalidRequestError,
    NotExecutedError,
    PlatformConflictError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.review import ReviewVerdict
from wxpay_async.policy.states import State
from wxpay_async.protocol.requests import Request

LOST = InDoubtError("read timeout")
DAY = 86_400.0
YES = ReviewVerdict(executed=True, by="小王", note="case 4711")
NO = ReviewVerdict(executed=False, by="小王")
ENDS = {EventKind.DOUBT_OPENED, EventKind.DOUBT_CLOSED, EventKind.SETTLED, EventKind.REVIEW_NEEDED}


async def give_up(shop: Shop, request: Request) -> None:
    """Lose the answer of an operation, and find nothing out for a day."""
    operation = {"refund-1": "refund", "trade-1": "trade", "pay-1": "pay"}[request.request_id]
    with contextlib.suppress(InDoubtError):
        await getattr(shop.gateway, operation)(request)
    for _ in range(2):
        shop.clock.move(DAY)
        await shop.gateway.recover()


def list_ends(shop: Shop) -> list[tuple[EventKind, str]]:
    """Return what the hooks heard of how operations ended."""
    return [(event.kind, event.state) for event in shop.events if event.kind in ENDS]


async def list_open(shop: Shop) -> list[OpenOperation]:
    """Return what is open."""
    return [operation async for operation in shop.gateway.open_operations()]


def open_lost(open_shop: OpenShop, *answers: Any, **query: Any) -> tuple[Shop, Script]:  # noqa: ANN401 - what a script takes
    """Open a shop whose operations get these answers, and whose queries get none at first."""
    script = Script(list(answers or [LOST]), query=query.get("query", LOST))
    return open_shop(script, retry=RetryPolicy(attempts=1)), script


# Who hears of it


@pytest.mark.parametrize("accepted", [False, True])
async def test_giving_up_asks_for_a_person(open_shop: OpenShop, *, accepted: bool) -> None:
    """Of an operation in doubt and of an accepted one: it is never called closed or settled."""
    shop, _ = open_lost(open_shop, replies.refunded("P") if accepted else LOST)
    await give_up(shop, asking.refund())

    opened = [] if accepted else [(EventKind.DOUBT_OPENED, "")]
    assert [*opened, (EventKind.REVIEW_NEEDED, "needs_review")] == list_ends(shop)
    assert "in_doubt" == (await shop.gateway.resolve("refund-1")).kind


async def test_giving_up_counts_as_no_end(open_shop: OpenShop) -> None:
    """Recovery says how many operations it settled; this one is not."""
    shop, _ = open_lost(open_shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())
    shop.clock.move(DAY)

    assert (0, State.NEEDS_REVIEW) == (
        await shop.gateway.recover(),
        await shop.state("refund-1"),
    )


@pytest.mark.parametrize(("text", "state"), [("退款成功", "succeeded"), ("退款失败", "failed")])
async def test_end_of_an_accepted_refund_is_told(
    text: str, state: str, open_shop: OpenShop
) -> None:
    """The call was not in doubt, and no other report says how it ended."""
    shop, script = open_lost(open_shop, replies.refunded("P"))
    await shop.gateway.refund(asking.refund())
    script.query = replies.order(text, "R-1")
    shop.clock.move(60)
    await shop.gateway.recover()

    assert [(EventKind.SETTLED, state)] == list_ends(shop)


async def test_refund_that_was_given_up_is_no_success_when_it_is_called_again(
    open_shop: OpenShop,
) -> None:
    """The platform said P a day ago: that is not repeated as if it were so today."""
    shop, _ = open_lost(open_shop, replies.refunded("P"))
    await give_up(shop, asking.refund())
    with pytest.raises(InDoubtError, match="a person must look") as caught:
        await shop.gateway.refund(asking.refund())

    assert not caught.value.retryable


# The list


async def test_list_says_what_is_open_and_what_needs_a_person(open_shop: OpenShop) -> None:
    """Without anything secret, until it is settled."""
    shop, _ = open_lost(open_shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())
    [before] = await list_open(shop)
    shop.clock.move(DAY)
    await shop.gateway.recover()
    [after] = await list_open(shop)
    await shop.gateway.resolve("refund-1", verdict=YES)

    assert before == OpenOperation(
        request_id="refund-1",
        operation="refund",
        state="unknown",
        needs_review=False,
        out_trade_no="R-1",
        since=datetime.fromtimestamp(NOON, UTC),
        attempts=1,
        checks=before.checks,
        next_check_at=datetime.fromtimestamp(NOON + 5, UTC),
        amount=Decimal("1.00"),
    )
    assert ("needs_review", True, None) == (after.state, after.needs_review, after.next_check_at)
    assert [] == await list_open(shop)


async def test_list_is_whole_beyond_a_page(open_shop: OpenShop) -> None:
    """Each once, in the order of the requestIds."""
    shop, _ = open_lost(open_shop)
    names = [f"refund-{number:03}" for number in range(205)]
    for name in names:
        with pytest.raises(InDoubtError):
            await shop.gateway.refund(asking.refund(name))

    assert names == [operation.request_id for operation in await list_open(shop)]


# What is wanted of it


async def open_many(open_shop: OpenShop) -> Shop:
    """Have a refund that waits for a person, one that is accepted, and a payment in doubt."""
    accepted = replies.refunded("P", requestId="refund-2", outTradeNo="R-2")
    shop, _ = open_lost(open_shop, LOST, accepted, LOST)
    await give_up(shop, asking.refund())
    await shop.gateway.refund(asking.refund("refund-2", out_trade_no="R-2"))
    shop.clock.move(60)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    return shop


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["pay-1", "refund-1", "refund-2"]),
        ({"state": "pending"}, ["refund-2"]),
        ({"state": ["unknown", "needs_review"]}, ["pay-1", "refund-1"]),
        ({"state": []}, []),
        ({"operation": "refund"}, ["refund-1", "refund-2"]),
        ({"operation": {"pay", "trade"}}, ["pay-1"]),
        ({"older_than": 60}, ["refund-1", "refund-2"]),
        ({"older_than": timedelta(hours=1)}, ["refund-1"]),
        ({"older_than": 0, "state": "unknown", "operation": "refund"}, []),
    ],
)
async def test_list_is_narrowed_by_state_operation_and_age(
    wanted: dict[str, Any], expected: list[str], open_shop: OpenShop
) -> None:
    """One or several of each; what is as old as that is among it."""
    shop = await open_many(open_shop)

    assert expected == [one.request_id async for one in shop.gateway.open_operations(**wanted)]


async def test_list_has_what_a_fast_clock_wrote(open_shop: OpenShop) -> None:
    """Another host's clock was ahead: what it left is not hidden by an age below 0."""
    shop = await open_many(open_shop)
    shop.clock.move(-3 * DAY)

    assert 3 == len(await list_open(shop))


async def test_narrowed_list_is_whole_beyond_pages_without_a_match(open_shop: OpenShop) -> None:
    """What is wanted may come after hundreds that are not."""
    shop, _ = open_lost(open_shop)
    for number in range(250):
        with pytest.raises(InDoubtError):
            await shop.gateway.refund(asking.refund(f"refund-{number:03}"))
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade("trade-1"))
    found = [one async for one in shop.gateway.open_operations(operation="trade")]

    assert ["trade-1"] == [one.request_id for one in found]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"state": "done"}, "state"),
        ({"state": ["pending", "succeeded"]}, "state"),
        ({"operation": "query"}, "operation"),
        ({"older_than": -1}, "older_than"),
        ({"older_than": float("nan")}, "older_than"),
        ({"older_than": timedelta(seconds=-1)}, "older_than"),
    ],
)
async def test_list_of_what_cannot_be_open_is_refused(
    wanted: dict[str, Any], field: str, open_shop: OpenShop
) -> None:
    """At once: an empty list would look as if all were well."""
    with pytest.raises(InvalidRequestError) as caught:
        open_shop().gateway.open_operations(**wanted)

    assert field == caught.value.field


# What the record knows of it


async def test_list_has_the_amount_that_the_request_names(open_shop: OpenShop) -> None:
    """Of a trade that of all orders; a payment names none."""
    shop, _ = open_lost(open_shop)
    items = [asking.item("O-1", "1.00"), asking.item("O-2", "23.45")]
    for call in (
        shop.gateway.pay(asking.pay()),
        shop.gateway.refund(asking.refund(refund_amount="0.40")),
        shop.gateway.trade(asking.trade(trade_info=items)),
    ):
        with pytest.raises(InDoubtError):
            await call
    found = {one.operation: one.amount for one in await list_open(shop)}

    assert {"pay": None, "refund": Decimal("0.40"), "trade": Decimal("24.45")} == found


async def test_list_has_the_last_answer_that_was_kept(open_shop: OpenShop) -> None:
    """Of an accepted refund its status, of a repeated one the refusal; of a lost one nothing."""
    answers = [replies.refunded("P"), replies.no("GM_API_BUS_0000015", "重复请求"), LOST]
    shop, _ = open_lost(open_shop, *answers)
    await shop.gateway.refund(asking.refund("refund-1"))
    for number in (2, 3):
        with pytest.raises(InDoubtError):
            await shop.gateway.refund(asking.refund(f"refund-{number}", out_trade_no=f"R-{number}"))
    found = [one.last_answer for one in await list_open(shop)]

    refusal = LastAnswer(code="GM_API_BUS_0000015", message="重复请求")
    assert [LastAnswer(status="P"), refusal, None] == found


async def test_last_answer_repeats_no_credential(open_shop: OpenShop) -> None:
    """Neither whole nor cut by the length of what is told."""
    token = "token-canary-0123456789"
    shop, _ = open_lost(open_shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(pay_token=token))
    message = "x" * 190 + token + "y" * 100
    reply = json.dumps(replies.no("GM_API_BUS_0000015", message)).encode()
    record = await shop.get_record("pay-1")
    shop.store._keep(attrs.evolve(record, status=200, reply=reply))
    [found] = await list_open(shop)

    assert found.last_answer is not None
    assert "x" * 190 + "***" + "y" * 7 == found.last_answer.message


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"data": [1]}', b'{"refundAmount"'])
async def test_list_has_what_no_release_of_ours_wrote(text: bytes, open_shop: OpenShop) -> None:
    """Where the content or the reply cannot be read, the operation is listed all the same."""
    shop, _ = open_lost(open_shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())
    record = await shop.get_record("refund-1")
    shop.store._keep(attrs.evolve(record, content=text, reply=text, status=200))
    [found] = await list_open(shop)

    assert ("refund-1", None) == (found.request_id, found.amount)


# Asked again


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize(
    ("text", "state", "kind"),
    [("退款成功", State.SUCCEEDED, "ok"), ("退款失败", State.FAILED, "refused")],
)
async def test_resolve_asks_again_for_what_was_given_up(
    text: str, state: State, kind: str, open_shop: OpenShop, *, accepted: bool
) -> None:
    """The platform knows it by now: that settles it, and hooks hear of it."""
    shop, script = open_lost(open_shop, replies.refunded("P") if accepted else LOST)
    await give_up(shop, asking.refund())
    script.query = replies.order(text, "R-1")
    outcome = await shop.gateway.resolve("refund-1")

    assert (kind, state) == (outcome.kind, await shop.state("refund-1"))
    assert (EventKind.DOUBT_CLOSED, state.value) == list_ends(shop)[-1]


async def test_resolve_finds_absence_of_what_was_given_up_only_when_seen_twice(
    open_shop: OpenShop,
) -> None:
    """The platform was out of reach all day; afterwards the same rule holds as before."""
    shop, script = open_lost(open_shop)
    await give_up(shop, asking.trade())
    script.query = dict(UNKNOWN_ORDER)
    outcomes = []
    for _ in range(3):
        outcomes.append(type((await shop.gateway.resolve("trade-1")).error))
        shop.clock.move(31)

    assert [InDoubtError, InDoubtError, NotExecutedError] == outcomes


async def test_resolve_never_finds_absence_of_what_was_accepted(open_shop: OpenShop) -> None:
    """The platform has said that it has it."""
    shop, script = open_lost(open_shop, replies.refunded("P"))
    shop = open_shop(script, refunds_queryable=True, store=shop.store)
    await give_up(shop, asking.refund())
    script.query = dict(UNKNOWN_ORDER)
    for _ in range(3):
        await shop.gateway.resolve("refund-1")
        shop.clock.move(61)

    assert State.NEEDS_REVIEW is await shop.state("refund-1")


async def test_resolve_of_a_refund_that_was_repeated_at_first_takes_no_other_for_it(
    open_shop: OpenShop,
) -> None:
    """After a day as before: no query tells which order the money went back to."""
    shop, script = open_lost(open_shop, replies.no("GM_API_BUS_0000015"))
    await give_up(shop, asking.refund())
    script.query = replies.order("退款成功", "R-1")

    assert "in_doubt" == (await shop.gateway.resolve("refund-1")).kind
    assert State.NEEDS_REVIEW is await shop.state("refund-1")


async def test_resolve_asks_again_for_a_conflict(open_shop: OpenShop) -> None:
    """Of a trade the query echoes all that was asked for; of a refund it does not."""
    for request, state in ((asking.trade(), State.SUCCEEDED), (asking.refund(), State.CONFLICT)):
        shop, script = open_lost(open_shop)
        await give_up(shop, request)
        record = await shop.get_record(request.request_id)
        shop.store._keep(attrs.evolve(record, state=State.CONFLICT))
        number = "R-1" if state is State.CONFLICT else "O-1"
        script.query = replies.order("退款成功", number)
        queries = script.queries
        await shop.gateway.resolve(request.request_id)

        assert (1, state) == (script.queries - queries, await shop.state(request.request_id))


# A person's word


@pytest.mark.parametrize("state", [State.NEEDS_REVIEW, State.CONFLICT])
@pytest.mark.parametrize(
    ("operation", "verdict", "error"),
    [
        ("refund", YES, None),
        ("trade", YES, None),
        ("pay", YES, AlreadyPaidError),
        ("refund", NO, NotExecutedError),
        ("trade", NO, NotExecutedError),
        ("pay", NO, NotExecutedError),
    ],
)
async def test_verdict_settles_what_waits_for_a_person(
    operation: str,
    verdict: ReviewVerdict,
    error: type[WxPayError] | None,
    state: State,
    open_shop: OpenShop,
) -> None:
    """For this call, for every later one, and for every reader of the store."""
    more = {"out_trade_no": "O-1"} if operation == "pay" else {}
    request = getattr(asking, operation)(**more)
    shop, _ = open_lost(open_shop)
    await give_up(shop, request)
    shop.store._keep(attrs.evolve(await shop.get_record(request.request_id), state=state))
    outcome = await shop.gateway.resolve(request.request_id, verdict=verdict)
    again = await shop.gateway.resolve(request.request_id)

    assert error is (type(outcome.error) if outcome.error else None)
    assert outcome.kind == again.kind
    record = await shop.get_record(request.request_id)
    assert (verdict.executed, verdict.by) == (
        record.state is State.SUCCEEDED,
        json.loads(record.verdict or "")["by"],
    )
    assert (EventKind.DOUBT_CLOSED, record.state.value) == list_ends(shop)[-1]
    if error is None:
        assert (await getattr(shop.gateway, operation)(request)).replayed


async def test_verdict_yields_to_what_the_platform_says(open_shop: OpenShop) -> None:
    """A person who errs must not have money given back twice."""
    shop, script = open_lost(open_shop)
    await give_up(shop, asking.refund())
    script.query = replies.order("退款成功", "R-1")
    outcome = await shop.gateway.resolve("refund-1", verdict=NO)

    assert ("ok", None) == (outcome.kind, (await shop.get_record("refund-1")).verdict)


async def test_verdict_on_what_is_open_is_refused(open_shop: OpenShop) -> None:
    """The request may still be executed after the person looked."""
    shop, script = open_lost(open_shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())
    queries = script.queries
    with pytest.raises(InvalidRequestError) as caught:
        await shop.gateway.resolve("refund-1", verdict=NO)

    assert ("verdict", 0) == (caught.value.field, script.queries - queries)
    assert State.UNKNOWN is await shop.state("refund-1")


async def test_verdict_that_is_overtaken_changes_nothing(open_shop: OpenShop) -> None:
    """While the platform was asked for the last time, another process found the end."""
    shop, script = open_lost(open_shop)
    await give_up(shop, asking.refund())
    failed = attrs.evolve(await shop.get_record("refund-1"), state=State.FAILED, reply=None)

    def end_elsewhere() -> object:
        shop.store._keep(failed)
        return replies.no("GM_API_BUS_000500", "busy")

    script.query = end_elsewhere
    outcome = await shop.gateway.resolve("refund-1", verdict=YES)

    assert FailedError is type(outcome.error)
    assert failed == await shop.get_record("refund-1")


async def test_conflict_is_in_doubt_until_it_is_settled(open_shop: OpenShop) -> None:
    """Its error says that a person must look."""
    shop, _ = open_lost(open_shop)
    await give_up(shop, asking.trade())
    shop.store._keep(attrs.evolve(await shop.get_record("trade-1"), state=State.CONFLICT))
    outcome = await shop.gateway.resolve("trade-1")

    assert ("in_doubt", PlatformConflictError) == (outcome.kind, type(outcome.error))
