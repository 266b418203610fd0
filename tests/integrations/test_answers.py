"""What a payer is told of an order that can be paid later only, in every framework."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from tests.contract.web_apps import FRAMEWORKS, Framework, Shop
from wxpay_async.errors import OtherPayerError, QuotaExhaustedError, TradeUnusableError

LATER = datetime(2026, 11, 27, 8, 9, 10, 500_000, UTC)
_RETRY_AFTER = re.compile(r"retry-after\W+(\w+, [\w :]+)", re.IGNORECASE)


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Take one of the frameworks."""
    return FRAMEWORKS[request.param]


@pytest.mark.parametrize(
    ("kind", "word"), [(OtherPayerError, "other_payer"), (TradeUnusableError, "unusable")]
)
@pytest.mark.parametrize(
    ("retry_at", "told"), [(LATER, ["Fri, 27 Nov 2026 08:09:11 GMT"]), (None, [])]
)
async def test_answer_to_an_order_that_can_be_paid_later_says_when(
    *,
    kind: type[OtherPayerError | TradeUnusableError],
    word: str,
    retry_at: datetime | None,
    told: list[str],
    framework: Framework,
) -> None:
    """In `Retry-After`, a whole second and none too early; without a time there is no header."""
    shop = Shop(error=kind("order O-1", retry_at=retry_at))
    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("GET", "/fail")

    assert (409, {"error": word}) == (reply.status, json.loads(reply.body))
    assert told == _RETRY_AFTER.findall(reply.headers)


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (41.2, "42")])
async def test_answer_without_a_slot_says_when_to_come_back(
    seconds: float, told: str, framework: Framework
) -> None:
    """In whole seconds, none too early: the payer's page asks again by itself."""
    shop = Shop(error=QuotaExhaustedError("full", retry_after=seconds))
    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("GET", "/fail")

    assert (503, {"error": "unavailable"}) == (reply.status, json.loads(reply.body))
    assert [told] == re.findall(r"retry-after\W+(\d+)", reply.headers, re.IGNORECASE)
