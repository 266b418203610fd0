"""The contract of the web integrations: what an app does in every framework."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.contract.web_apps import (
    FRAMEWORKS,
    REFUND_BODY,
    TRADE_BODY,
    EndlessBody,
    Framework,
    Shop,
    make_gateway,
)
from wxpay_async import PayGateway
from wxpay_async.engine.callbacks import Verdict
from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    ClockSkewError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    InvalidKeyError,
    InvalidRequestError,
    MalformedResponseError,
    NotExecutedError,
    NotificationError,
    NotPaidError,
    NotSentError,
    PlatformConflictError,
    PrepayExpiredError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryPolicy

PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it
CANARY = "canary-5a1e"
HANDLED, NOT_HANDLED = b'{"status": 1}', b'{"status": 0}'
PAYERS_VIEW: dict[type[WxPayError], tuple[int, str]] = {
    AccessDeniedError: (502, "refused"),
    AlreadyPaidError: (409, "already_paid"),
    ClockSkewError: (503, "unavailable"),
    ConfigurationRefusedError: (502, "refused"),
    DuplicateRequestError: (504, "in_doubt"),
    FailedError: (409, "failed"),
    IdempotencyConflictError: (409, "conflict"),
    InDoubtError: (504, "in_doubt"),
    InProgressError: (409, "in_progress"),
    InvalidKeyError: (500, "internal"),
    InvalidRequestError: (400, "invalid"),
    MalformedResponseError: (504, "in_doubt"),
    NotExecutedError: (409, "not_executed"),
    NotPaidError: (409, "not_paid"),
    NotSentError: (503, "unavailable"),
    NotificationError: (400, "invalid"),
    PlatformConflictError: (504, "in_doubt"),
    PrepayExpiredError: (409, "expired"),
    RateLimitedError: (503, "unavailable"),
    RefusedError: (502, "refused"),
    SignatureRefusedError: (502, "refused"),
    WxPayError: (504, "in_doubt"),
}


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Take one of the frameworks."""
    return FRAMEWORKS[request.param]


@pytest.fixture
def shop() -> Shop:
    """Make the merchant's side of an app."""
    return Shop()


# The gateway


@pytest.mark.parametrize("path", ["/orders/O-1", "/inner/orders/O-1"])
async def test_request_has_the_gateway_of_its_app(
    framework: Framework, shop: Shop, path: str
) -> None:
    """An app inside another one uses the outer app's gateway."""
    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("GET", path)

    assert (200, {"status": "paid"}) == (reply.status, json.loads(reply.body))


async def test_factory_makes_the_gateway_when_the_app_starts(
    framework: Framework, shop: Shop
) -> None:
    """A function is accepted instead of a gateway."""
    made: list[PayGateway] = []

    def factory() -> PayGateway:
        made.append(shop.gateway)
        return shop.gateway

    app = framework.make_app(shop, factory)
    assert [] == made
    async with framework.run(app):
        assert [shop.gateway] == made


# Callbacks


async def test_callbacks_reach_their_handlers(framework: Framework, shop: Shop) -> None:
    """Each kind reaches its own handler once; the answer has the exact bytes, as JSON."""
    async with framework.run(framework.make_app(shop)) as send:
        replies = [
            await send("POST", "/notify", body) for body in (TRADE_BODY, REFUND_BODY, TRADE_BODY)
        ]

    assert [(200, HANDLED)] * 3 == [(reply.status, reply.body) for reply in replies]
    assert {"application/json"} == {reply.content_type for reply in replies}
    assert (["O-1"], ["R-1"]) == (
        [notification.out_trade_no for notification in shop.trades],
        [notification.out_trade_no for notification in shop.refunds],
    )


async def test_callback_of_an_inner_app_reaches_its_handler(
    framework: Framework, shop: Shop
) -> None:
    """The inner app's route uses the outer app's gateway."""
    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("POST", "/inner/notify", TRADE_BODY)

    assert (200, HANDLED) == (reply.status, reply.body)
    assert ["O-1"] == [notification.out_trade_no for notification in shop.trades]


@pytest.mark.parametrize("at", ["/notify", "/notify/"])
@pytest.mark.parametrize("sent_to", ["/notify", "/notify/", "/inner/notify", "/inner/notify/"])
async def test_callback_is_taken_with_a_slash_and_without(
    framework: Framework, shop: Shop, at: str, sent_to: str
) -> None:
    """The address at the platform may end otherwise than the route; no redirect is followed."""
    async with framework.run(framework.make_app(shop, at=at)) as send:
        reply = await send("POST", sent_to, TRADE_BODY)

    assert (200, HANDLED) == (reply.status, reply.body)
    assert ["O-1"] == [notification.out_trade_no for notification in shop.trades]


@pytest.mark.parametrize("at", ["/", "/{shop}/notify"])
async def test_path_of_any_shape_is_answered(framework: Framework, shop: Shop, at: str) -> None:
    """The root has no other spelling; a path may have a variable."""
    path = at.replace("{shop}", "s-1")
    async with framework.run(framework.make_app(shop, at=at)) as send:
        replies = [await send("POST", each, TRADE_BODY) for each in (path, path.rstrip("/") or "/")]

    assert [(200, HANDLED)] * 2 == [(reply.status, reply.body) for reply in replies]


async def test_forged_callback_is_answered_0(framework: Framework, shop: Shop) -> None:
    """It does not reach a handler."""
    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("POST", "/notify", TRADE_BODY.replace(b"1.00", b"0.01"))

    assert (200, NOT_HANDLED) == (reply.status, reply.body)
    assert ([], [Verdict.REFUSED]) == (shop.trades, [event.verdict for event in shop.events])


async def test_endless_callback_is_answered_0(framework: Framework, shop: Shop) -> None:
    """Reading stops after 64 KB, and nothing is parsed."""
    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("POST", "/notify", EndlessBody())

    assert (200, NOT_HANDLED, []) == (reply.status, reply.body, shop.events)


async def test_hooks_and_limit_are_options_of_the_route(framework: Framework) -> None:
    """Hooks may be any sequence; a handler that takes longer than the limit has failed."""
    shop = Shop(make_gateway(retry=RetryPolicy(min_left=0.01)))

    async def handle_slowly(_: object) -> None:
        await asyncio.sleep(PATIENCE)

    app = framework.make_app(shop, on_trade=handle_slowly, hooks=[shop.events.append], limit=0.01)
    async with framework.run(app) as send:
        reply = await send("POST", "/notify", TRADE_BODY)

    assert NOT_HANDLED == reply.body
    assert ["it took over 0.01 s"] == [event.reason for event in shop.events]


async def test_app_that_ends_waits_for_handlers(framework: Framework, shop: Shop) -> None:
    """A handler that is still running when the app ends has its effect."""
    entered, gate, done = asyncio.Event(), asyncio.Event(), list[int]()

    async def handle_slowly(_: object) -> None:
        entered.set()
        await gate.wait()
        done.append(1)

    async with framework.run(framework.make_app(shop, on_trade=handle_slowly)) as send:
        call = asyncio.create_task(send("POST", "/notify", TRADE_BODY))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        call.cancel()
        asyncio.get_running_loop().call_later(0.05, gate.set)

    assert [1] == done


# Errors


@pytest.mark.parametrize("kind", PAYERS_VIEW, ids=lambda kind: kind.__name__)
async def test_payer_gets_a_status_and_one_word_of_an_error(
    framework: Framework, shop: Shop, kind: type[WxPayError], caplog: pytest.LogCaptureFixture
) -> None:
    """Every error of the SDK has a status and a word; only the log has the rest."""
    status, word = PAYERS_VIEW[kind]
    error = shop.error = kind(f"{CANARY}-reason")
    error.code, error.message, error.request_id = f"{CANARY}-code", f"{CANARY}-text", CANARY

    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("GET", "/fail")

    assert (status, {"error": word}) == (reply.status, json.loads(reply.body))
    assert "application/json" == reply.content_type
    assert "canary" not in f"{reply.headers} {reply.body!r}"
    assert f"{CANARY}-reason" in caplog.text
