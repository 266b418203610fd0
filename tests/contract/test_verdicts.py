"""A person's verdict, over every durable store: a process that begins later knows it."""

from __future__ import annotations

import json

import pytest

from tests.contract.stores import DURABLE, Place
from wxpay_async import (
    Event,
    EventKind,
    HttpRequest,
    HttpResponse,
    InDoubtError,
    Md5Signer,
    MemoryTransport,
    PayGateway,
    ReviewVerdict,
    Unlimited,
)
from wxpay_async.policy.states import State


def lose(_: HttpRequest) -> HttpResponse:
    """Let no query find anything out."""
    raise InDoubtError("read timeout")


def open_gateway(place: Place, app_key: str, events: list[Event]) -> PayGateway:
    """Begin a process: with a store of its own, over the place that others have."""
    return PayGateway(
        app_key,
        Md5Signer("secret"),
        store=place.make_store(),
        transport=MemoryTransport(lose),
        limiter=Unlimited(),
        hooks=[events.append],
    )


@pytest.mark.parametrize("place", DURABLE, indirect=True)
async def test_verdict_of_a_person_survives_a_restart_and_is_told(place: Place) -> None:
    """What was found, by whom and why; the hooks hear of the end."""
    record = place.make_record(
        operation="refund", state=State.NEEDS_REVIEW, in_doubt=True, out_trade_no="R-1"
    )
    events: list[Event] = []
    verdict = ReviewVerdict(executed=False, by="小王", note="case 4711")
    async with open_gateway(place, record.app_key, events) as gateway:
        await gateway.store.reserve(record)
        outcome = await gateway.resolve(record.request_id, verdict=verdict)
    async with open_gateway(place, record.app_key, []) as gateway:
        again = await gateway.resolve(record.request_id)
        stored = await gateway.store.load(record.key)

    assert ("refused", "refused") == (outcome.kind, again.kind)
    assert stored is not None
    assert State.NOT_EXECUTED is stored.state
    kept = json.loads(stored.verdict or "")
    assert (False, "小王", "case 4711") == (kept["executed"], kept["by"], kept["note"])
    ends = [event.state for event in events if event.kind is EventKind.DOUBT_CLOSED]
    assert [State.NOT_EXECUTED.value] == ends
