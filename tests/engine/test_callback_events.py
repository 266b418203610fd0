"""What log lines and the gateway's hooks tell of callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from tests.support.callbacks import OpenMerchant, order, paid, refunded
from tests.support.platform import FORM
from wxpay_async.engine.callback_events import Verdict
from wxpay_async.engine.telemetry import Event, EventKind

CALLBACKS = {EventKind.CALLBACK_STARTED, EventKind.CALLBACK_ENDED}


def list_told(events: list[Event]) -> list[tuple[str, str | None, str]]:
    """Return kind, number and verdict of what a gateway's hook heard of callbacks."""
    return [(e.kind.value, e.out_trade_no, e.verdict) for e in events if e.kind in CALLBACKS]


async def test_hooks_of_the_gateway_hear_start_and_end_of_a_callback(
    open_merchant: OpenMerchant,
) -> None:
    """With the number of the order or refund, and the verdict."""
    events: list[Event] = []
    merchant = open_merchant(hooks=[events.append])
    await merchant.deliver(paid())
    await merchant.deliver(refunded())
    merchant.failing = 1
    await merchant.deliver(paid(number="O-2"))

    assert [
        ("callback_started", "O-1", ""),
        ("callback_ended", "O-1", "handled"),
        ("callback_started", "R-1", ""),
        ("callback_ended", "R-1", "handled"),
        ("callback_started", "O-2", ""),
        ("callback_ended", "O-2", "failed"),
    ] == list_told(events)
    assert {("callback", merchant.gateway.app_key)} == {
        (event.operation, event.app_key) for event in events if event.kind in CALLBACKS
    }


async def test_hooks_of_the_gateway_hear_of_a_refused_callback_its_end_only(
    open_merchant: OpenMerchant,
) -> None:
    """What cannot be read has no number, and took no time worth a start."""
    events: list[Event] = []
    merchant = open_merchant(hooks=[events.append])
    await merchant.receiver.receive(FORM, b"out_trade_no=forged-order")

    assert [("callback_ended", None, "refused")] == list_told(events)


async def test_query_of_a_callback_lies_between_its_start_and_its_end(
    open_merchant: OpenMerchant,
) -> None:
    """So a span can be its parent."""
    events: list[Event] = []
    merchant = open_merchant([order()], "md5", hooks=[events.append])
    await merchant.deliver(paid())

    kinds = [event.kind.value for event in events]
    assert ("callback_started", "callback_ended") == (kinds[0], kinds[-1])
    assert "call_started" in kinds


async def test_seconds_of_a_callback_are_the_clocks(open_merchant: OpenMerchant) -> None:
    """How long the handler took, whatever the answer was."""
    events: list[Event] = []
    merchant = open_merchant(hooks=[events.append])

    def handle(_: Any) -> None:  # noqa: ANN401 - a notification
        merchant.clock.move(1.5)  # type: ignore[attr-defined] # it is a moved one

    await merchant.another(on_trade=handle).receive(FORM, merchant.body(paid()))

    assert [1.5] == [e.seconds for e in events if e.kind is EventKind.CALLBACK_ENDED]


async def test_callback_that_is_cancelled_has_an_end(open_merchant: OpenMerchant) -> None:
    """The loop ends while a handler runs: no span stays open."""
    events: list[Event] = []
    merchant = open_merchant(hooks=[events.append])
    merchant.gate = asyncio.Event()
    call = asyncio.create_task(merchant.deliver(paid()))
    await merchant.entered.wait()
    [task] = merchant.receiver._verified
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await call

    assert ("callback_ended", "O-1", "failed") == list_told(events)[-1]


@pytest.mark.parametrize(
    ("fields", "level", "verdict"),
    [
        (paid(), logging.INFO, Verdict.HANDLED),
        (paid(number="O-2"), logging.WARNING, Verdict.FAILED),
    ],
)
async def test_log_line_of_a_callback_names_order_and_verdict(
    open_merchant: OpenMerchant,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, str],
    level: int,
    verdict: Verdict,
) -> None:
    """In its text and for structured handlers; what failed needs a person."""
    caplog.set_level(logging.INFO, "wxpay_async")
    merchant = open_merchant()
    merchant.failing = verdict is Verdict.FAILED
    await merchant.deliver(fields)
    record = caplog.records[-1]

    number = fields["out_trade_no"]
    assert (level, number, verdict) == (
        record.levelno,
        getattr(record, "wxpay_out_trade_no", None),
        getattr(record, "wxpay_verdict", None),
    )
    assert all(number in line for line in caplog.messages)
