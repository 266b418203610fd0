"""What a hook hears, and what it never hears (lesson 21)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import attrs
import pytest

from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import InDoubtError, NotSentError, RefusedError, WxPayError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

SECRET = "192006250b4c09247ec02edce69f6a2d"
CANARIES = {
    "the secret": SECRET,
    "the payToken": "token-canary-7731",
    "the openid": "openid-canary-7731",
    "the prepay": "wx061644162685653f3da37a5a1589465200",
    "the paySign": "tEwMVv5wrcgvrMG4U5kF",
}


def _told(shop: Fixture) -> list[tuple[str, int, str, str | None]]:
    return [(e.kind.value, e.attempt, str(e.fate), e.code) for e in shop.events]


async def test_a_success_in_two_attempts(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The start, started and ended for each attempt, then the outcome."""
    shop = open_shop([NotSentError("refused"), replies.prepay()])
    await shop.gateway.pay(asking.pay())

    assert [
        ("call_started", 0, "", None),
        ("attempt_started", 1, "", None),
        ("attempt_ended", 1, "not_sent", None),
        ("attempt_started", 2, "", None),
        ("attempt_ended", 2, "ok", None),
        ("outcome", 2, "ok", None),
    ] == _told(shop)
    assert {("pay", "pay-1")} == {(event.operation, event.request_id) for event in shop.events}


async def test_a_refusal(open_shop: Fixture, asking: Fixture, replies: Fixture) -> None:
    """The platform's code is told."""
    shop = open_shop([replies.no("CO_MSG_000006", "x")])
    with pytest.raises(RefusedError):
        await shop.gateway.refund(asking.refund())

    assert [
        ("call_started", 0, "", None),
        ("attempt_started", 1, "", None),
        ("attempt_ended", 1, "refused", "CO_MSG_000006"),
        ("outcome", 1, "refused", "CO_MSG_000006"),
    ] == _told(shop)


async def test_a_replay_has_no_attempt(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Only start and outcome, and it says where it came from."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())
    shop.events.clear()
    await shop.gateway.pay(asking.pay())

    assert [(EventKind.CALL_STARTED, "", False), (EventKind.OUTCOME, "ok", True)] == [
        (e.kind, e.fate, e.replayed) for e in shop.events
    ]


@pytest.mark.parametrize("operation", ["pay", "query"])
async def test_a_caller_who_gives_up_is_told_of(
    operation: str, open_shop: Fixture, asking: Fixture
) -> None:
    """Every call that started has an outcome, and this one's is that nobody waited for it."""
    arrived = asyncio.Event()

    async def never(_: object) -> object:
        arrived.set()
        await asyncio.sleep(3600)

    shop = open_shop(never)
    call = {
        "pay": lambda: shop.gateway.pay(asking.pay()),
        "query": lambda: shop.gateway.query(out_trade_no="O-1"),
    }[operation]
    task = asyncio.create_task(call())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    told = [(kind, fate) for kind, _, fate, _ in _told(shop)]
    assert [("call_started", ""), ("outcome", "cancelled")] == [told[0], told[-1]]
    assert 1 == [kind for kind, _ in told].count("outcome")


async def test_a_broken_part_is_told_of(open_shop: Fixture, asking: Fixture) -> None:
    """What is no error of the SDK's goes through as it is, and the call has an outcome."""

    def broken(_: object) -> object:
        raise ZeroDivisionError

    shop = open_shop(broken)
    with pytest.raises(ZeroDivisionError):
        await shop.gateway.pay(asking.pay())

    assert ("outcome", 0, "broken", None) == _told(shop)[-1]


async def test_seconds_are_the_clock_s(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """How long an attempt was on its way, and the whole call with what came before."""

    async def slow(_: object) -> object:
        shop.clock.move(1.5)
        return replies.prepay()

    class SlowStore(MemoryStore):
        async def claim(self, *key: tuple[str, str], **more: float) -> IdempotencyRecord | None:
            shop.clock.move(0.5)
            return await super().claim(*key, **more)

    shop = open_shop(slow, store=SlowStore())
    await shop.gateway.pay(asking.pay())

    assert [0.0, 0.0, 1.5, 2.0] == [event.seconds for event in shop.events]


async def test_a_wait_for_quota_is_told_only_where_there_was_one(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """An event for each call that did not wait would drown the one that did."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())

    assert EventKind.WAITED_FOR_QUOTA not in {event.kind for event in shop.events}


async def test_what_only_reads_is_told_too(open_shop: Fixture, replies: Fixture) -> None:
    """A query has no requestId."""
    shop = open_shop([replies.order("待付款")])
    await shop.gateway.query(out_trade_no="O-1")

    assert {("query", None)} == {(event.operation, event.request_id) for event in shop.events}


async def test_no_event_error_result_or_log_holds_a_secret(
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
    script: Fixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Planted everywhere, found nowhere: not in a repr, a str, an event, a row or a log line."""
    caplog.set_level(logging.DEBUG)
    pay = asking.pay(
        "canary",
        pay_token=CANARIES["the payToken"],
        terminal_payer_id=CANARIES["the openid"],
    )
    answers = script(InDoubtError("timeout"), replies.prepay(), replies.prepay(requestId="other"))
    shop = open_shop(answers)
    said: list[object] = [pay, shop.gateway._dispatcher.signing]
    said.append(await shop.gateway.pay(pay))
    said.extend([await shop.entry("canary"), *shop.transport.requests])
    with pytest.raises(WxPayError) as caught:
        await shop.gateway.pay(attrs.evolve(pay, request_id="second"))
    said.extend([caught.value, caught.value.__cause__, shop.transport, shop.gateway])
    said.extend(attrs.astuple(event) for event in shop.events)
    text = "\n".join([*map(repr, said), *map(str, said), caplog.text])

    assert [] == [name for name, canary in CANARIES.items() if canary in text]
    assert [] == [sent["sign"] for sent in shop.sent() if sent["sign"] in text]


class Falling:
    """A hook that breaks its promise not to raise, on one kind of event."""

    def __init__(self, kind: EventKind) -> None:
        self.kind = kind

    def __call__(self, event: Event) -> None:
        """Raise."""
        if event.kind is self.kind:
            raise ZeroDivisionError


@pytest.mark.parametrize("kind", [*list(EventKind)[:3], EventKind.OUTCOME])
async def test_a_hook_that_raises_costs_nobody_money(
    kind: EventKind, open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Somebody's metrics must not lose the answer, the claim or the connection."""
    shop = open_shop([replies.prepay(), replies.prepay()], hooks=[Falling(kind)], max_in_flight=1)
    for request_id in ("a", "b"):
        result = await shop.gateway.pay(asking.pay(request_id), timeout=3.0)
        assert "wx061644162685653f3da37a5a1589465200" == result.prepay_id

    assert State.SUCCEEDED is await shop.state("a")
