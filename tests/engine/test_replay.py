"""Settled operations are answered from the store, and nothing is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from tests.support import asking, replies
from tests.support.clock import NOON
from tests.support.merchant import OpenShop
from tests.support.platform import Script
from tests.support.records import make_record
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.engine.replay import replay
from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    Fate,
    InDoubtError,
    MalformedResponseError,
    NotExecutedError,
    NotSentError,
    PlatformConflictError,
    PrepayExpiredError,
    RefusedError,
    WxPayError,
)
from wxpay_async.integrations.problems import Problem
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.requests import Request
from wxpay_async.protocol.wire import PRODUCTION, HttpResponse

LOST = InDoubtError("read timeout")
NOON_MS = int(NOON * 1000)
JSAPI = {
    "appId": "wx1",
    "timeStamp": "1763870400",
    "nonceStr": "n",
    "prepayId": "wx201410272009395522657",
    "extPackage": "prepay_id=wx201410272009395522657",
    "signType": "RSA",
    "paySign": "oR9d8PuhnIc",
}


async def test_result_is_replayed(open_shop: OpenShop) -> None:
    """The second call sends nothing, returns an equal result and says that it is a replay."""
    shop = open_shop([NotSentError("refused"), replies.prepay()])
    first = await shop.gateway.pay(asking.pay())
    again = await shop.gateway.pay(asking.pay())

    assert (False, True, 2, 2) == (first.replayed, again.replayed, first.attempts, again.attempts)
    assert first == attrs.evolve(again, replayed=False)
    assert (2, first.raw, first.expires_at) == (shop.transport.calls, again.raw, again.expires_at)
    assert first.jsapi_params() == again.jsapi_params()


async def test_refusal_is_replayed(open_shop: OpenShop) -> None:
    """The platform's code and text are kept, and nothing is sent."""
    shop = open_shop([replies.no("CO_MSG_000001", "参数错误")])
    for replayed in (False, True):
        with pytest.raises(RefusedError) as caught:
            await shop.gateway.pay(asking.pay())
        assert ("CO_MSG_000001", "参数错误", replayed, 1) == (
            caught.value.code,
            caught.value.message,
            caught.value.replayed,
            caught.value.attempts,
        )

    assert 1 == shop.transport.calls


async def test_failure_is_replayed(open_shop: OpenShop) -> None:
    """Status F stays F."""
    shop = open_shop([replies.refunded("F")])
    for _ in range(2):
        with pytest.raises(FailedError):
            await shop.gateway.refund(asking.refund())

    assert 1 == shop.transport.calls


async def test_refund_under_way_is_replayed(open_shop: OpenShop) -> None:
    """PENDING is polled, and never sent again."""
    shop = open_shop([replies.refunded("P")])
    for _ in range(2):
        assert "P" == (await shop.gateway.refund(asking.refund())).status

    assert (1, State.PENDING) == (shop.transport.calls, await shop.state("refund-1"))


async def test_settled_operation_without_a_reply_is_not_sent(open_shop: OpenShop) -> None:
    """A person must look at it, so the caller hears of a doubt and nothing is sent."""
    shop = open_shop(Script([LOST]))
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())
    record = await shop.get_record("refund-1")
    await shop.store.record(attrs.evolve(record, state=State.NEEDS_REVIEW))
    calls = shop.transport.calls
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())

    assert calls == shop.transport.calls


# The age of a prepay


async def test_prepay_that_is_old_is_reported_as_expired(open_shop: OpenShop) -> None:
    """20 minutes less one, counted from the signing: a prepay about to expire is not handed out."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())
    shop.clock.move(19 * 60 - 1)
    assert (await shop.gateway.pay(asking.pay())).replayed
    shop.clock.move(1)
    with pytest.raises(PrepayExpiredError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (True, "in_doubt", 1) == (caught.value.replayed, caught.value.fate, shop.transport.calls)


async def test_prepay_expires_by_the_timestamp_that_was_answered(open_shop: OpenShop) -> None:
    """An attempt that was signed ahead of time, and refused for it, does not lengthen its life."""
    expired = json.dumps(replies.no("CO_MSG_000005")).encode()
    an_hour_ago = {"date": "Sun, 23 Nov 2025 03:00:00 GMT"}
    shop = open_shop([HttpResponse(200, expired, an_hour_ago), replies.prepay()])

    first = await shop.gateway.pay(asking.pay())
    again = await shop.gateway.pay(asking.pay())

    assert datetime(2025, 11, 23, 3, tzinfo=UTC) == first.signed_at == again.signed_at


async def test_prepay_of_a_trade_is_dropped_when_it_is_old(open_shop: OpenShop) -> None:
    """The order stands and can be paid by its payToken; the old prepay is shown nowhere."""
    shop = open_shop([replies.created(**JSAPI)])
    first = await shop.gateway.trade(asking.trade())
    shop.clock.move(19 * 60 - 1)
    young = await shop.gateway.trade(asking.trade())
    shop.clock.move(1)
    old = await shop.gateway.trade(asking.trade())

    assert first == attrs.evolve(young, replayed=False)
    assert (True, "token-1", "wx1") == (old.replayed, old.pay_token, old.app_id)
    assert {None} == {
        old.prepay_id,
        old.ext_package,
        old.pay_sign,
        old.time_stamp,
        old.nonce_str,
        old.sign_type,
    }
    assert not {*JSAPI} - {"appId"} & {*old.raw}
    assert 1 == shop.transport.calls


async def test_refund_does_not_expire(open_shop: OpenShop) -> None:
    """Only a prepay expires after 20 minutes."""
    shop = open_shop([replies.refunded()])
    await shop.gateway.refund(asking.refund())
    shop.clock.move(12 * 3600)

    assert (await shop.gateway.refund(asking.refund())).replayed


# One record


def make_settled(**changes: object) -> IdempotencyRecord:
    """Make the record of a refund that took two attempts."""
    settled: dict[str, object] = {
        "operation": "refund",
        "state": State.SUCCEEDED,
        "attempts": 2,
        "signed_at": NOON_MS,
        "status": 200,
        "reply": json.dumps(replies.refunded()).encode(),
    }
    return make_record("refund-1", **(settled | changes))


def replay_now(record: IdempotencyRecord, asked: Request | None = None) -> Any:  # noqa: ANN401 - a result
    """Replay a record at noon."""
    return replay(record, url=PRODUCTION, now_ms=NOON_MS, asked=asked)


def test_replay_returns_the_result_with_its_attempts() -> None:
    """As it was read from the wire, and marked as a replay."""
    result = replay_now(make_settled())

    assert ("S", 2, True) == (result.status, result.attempts, result.replayed)


@pytest.mark.parametrize(
    ("state", "operation", "kind"),
    [
        (State.NOT_EXECUTED, "refund", NotExecutedError),
        (State.CONFLICT, "refund", PlatformConflictError),
        (State.FAILED, "refund", FailedError),
        (State.NEEDS_REVIEW, "refund", InDoubtError),
        (State.SUCCEEDED, "pay", AlreadyPaidError),
        (State.SUCCEEDED, "refund", InDoubtError),
    ],
)
def test_replay_without_a_reply_raises_what_the_state_means(
    state: State, operation: str, kind: type[WxPayError]
) -> None:
    """Neither a refusal of what was executed, nor a conflict that says "not sent"."""
    with pytest.raises(kind) as caught:
        replay_now(make_settled(state=state, operation=operation, status=None, reply=None))

    refused = state in {State.NOT_EXECUTED, State.FAILED}
    assert (kind, Fate.REFUSED if refused else Fate.IN_DOUBT) == (
        type(caught.value),
        caught.value.fate,
    )
    assert (2, True, False) == (
        caught.value.attempts,
        caught.value.replayed,
        caught.value.retryable,
    )


@pytest.mark.parametrize("operation", ["pay", "trade", "refund"])
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.PENDING, State.REJECTED])
def test_replay_of_a_reply_that_does_not_open_is_in_doubt_and_says_why(
    state: State, operation: str
) -> None:
    """A `pay` that succeeded only issued a prepay: nobody said that it was paid."""
    with pytest.raises(InDoubtError, match="sealed with a key") as caught:
        replay_now(make_settled(state=state, operation=operation, reply=None))

    assert (InDoubtError, Fate.IN_DOUBT, False, True) == (
        type(caught.value),
        caught.value.fate,
        caught.value.retryable,
        caught.value.replayed,
    )


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.NOT_EXECUTED, NotExecutedError),
        (State.CONFLICT, PlatformConflictError),
        (State.FAILED, FailedError),
        (State.NEEDS_REVIEW, InDoubtError),
    ],
)
def test_replay_of_what_is_proven_needs_no_reply_that_opens(
    state: State, kind: type[WxPayError]
) -> None:
    """The state itself was proven; only the platform's own words are lost."""
    with pytest.raises(kind) as caught:
        replay_now(make_settled(state=state, reply=None))

    assert "sealed" not in str(caught.value)


async def test_prepay_whose_reply_does_not_open_is_never_called_paid(open_shop: OpenShop) -> None:
    """The secret was changed, and the person taps "pay" again: neither call nor resolve knows."""
    below = MemoryStore()
    before = open_shop([replies.prepay()], store=SealedStore(below, [bytes(32)]))
    await before.gateway.pay(asking.pay(out_trade_no="O-1"))
    after = open_shop([replies.prepay()], store=SealedStore(below, [b"k" * 32]))
    with pytest.raises(InDoubtError, match="sealed with a key") as caught:
        await after.gateway.pay(asking.pay(out_trade_no="O-1"))
    outcome = await after.gateway.resolve("pay-1")

    assert (InDoubtError, InDoubtError) == (type(caught.value), type(outcome.error))
    assert ("in_doubt", 0) == (outcome.kind, after.transport.calls)
    problem = Problem.of(caught.value)
    assert (504, "in_doubt") == (problem.status, problem.kind.word)


def test_replay_of_a_reply_that_cannot_be_read_is_in_doubt() -> None:
    """It was damaged in the store; that is no refusal."""
    with pytest.raises(MalformedResponseError) as caught:
        replay_now(make_settled(reply=b"<html>"))

    assert (Fate.IN_DOUBT, 2, True) == (
        caught.value.fate,
        caught.value.attempts,
        caught.value.replayed,
    )


def test_replay_of_an_answer_to_another_request_is_withheld() -> None:
    """The echo is checked again, and its error is marked as a replay."""
    other = asking.refund("refund-1", out_trade_no="R-2")
    with pytest.raises(MalformedResponseError, match="withheld") as caught:
        replay_now(make_settled(), asked=other)

    assert (2, True) == (caught.value.attempts, caught.value.replayed)
