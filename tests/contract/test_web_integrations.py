"""The contract of the web integrations: what an app does in every framework."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from tests.contract.web_apps import (
    FRAMEWORKS,
    OTHER_KEY,
    REFUND_BODY,
    TRADE_BODY,
    EndlessBody,
    Framework,
    Gateways,
    Shop,
    make_gateway,
    make_other_shop,
    sign_paid,
)
from tests.support.platform import APP_KEY, encode_callback
from wxpay_async import PayGateway
from wxpay_async.engine.callbacks import Verdict
from wxpay_async.errors import (
    InProgressError,
    InvalidRequestError,
    NotSentError,
    OtherPayerError,
    QuotaExhaustedError,
    RefusedError,
    TradeUnusableError,
    WxPayError,
)
from wxpay_async.integrations.problems import PROBLEM_TYPES, Problem
from wxpay_async.policy.retry import RetryPolicy

PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it
CANARY = "canary-5a1e"
HANDLED, NOT_HANDLED = b'{"status": 1}', b'{"status": 0}'


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


async def test_doubled_callback_has_one_effect(framework: Framework, shop: Shop) -> None:
    """A copy that comes while the first is being handled has to come again."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def handle_slowly(notification: object) -> None:
        entered.set()
        await gate.wait()
        shop.trades.append(notification)  # type: ignore[arg-type] # a trade's

    async with framework.run(framework.make_app(shop, on_trade=handle_slowly)) as send:
        first = asyncio.create_task(send("POST", "/notify", TRADE_BODY))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        copy = await send("POST", "/notify", TRADE_BODY)
        gate.set()
        replies = [await first, copy, await send("POST", "/notify", TRADE_BODY)]

    assert [HANDLED, NOT_HANDLED, HANDLED] == [reply.body for reply in replies]
    assert ["O-1"] == [notification.out_trade_no for notification in shop.trades]


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

LATER = datetime(2026, 11, 27, 8, 9, 10, 500_000, UTC)


@pytest.mark.parametrize("kind", PROBLEM_TYPES, ids=lambda kind: kind.__name__)
async def test_payer_gets_a_problem_of_every_error(
    framework: Framework, shop: Shop, kind: type[WxPayError], caplog: pytest.LogCaptureFixture
) -> None:
    """Status, type and requestId; the error's own text is in the log only."""
    caplog.set_level("INFO", "wxpay_async")
    error = shop.error = kind(f"{CANARY}-reason")
    error.code, error.message, error.request_id = f"{CANARY}-code", f"{CANARY}-text", "pay-1"

    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("GET", "/fail")

    told, row = json.loads(reply.body), PROBLEM_TYPES[kind]
    assert "application/problem+json" == reply.content_type
    assert (row.status, row.status, row.uri) == (reply.status, told["status"], told["type"])
    assert ("pay-1", "other") == (told["requestId"], told["code"])
    assert "canary" not in f"{reply.headers} {reply.body!r}"
    assert f"{CANARY}-reason" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        InProgressError("x"),
        NotSentError("x"),
        NotSentError("x", retryable=False),
        QuotaExhaustedError("x", retry_after=41.2),
        OtherPayerError("x", retry_at=LATER),
        TradeUnusableError("x", retry_at=LATER),
        RefusedError("x"),
    ],
)
async def test_answer_says_when_to_try_again_or_never(
    framework: Framework, error: WxPayError
) -> None:
    """In the header `Retry-After`; without it, never."""
    shop, told = Shop(error=error), Problem.of(error).retry_after
    async with framework.run(framework.make_app(shop)) as send:
        reply = await send("GET", "/fail")

    assert (told is not None) is json.loads(reply.body)["retryable"]
    assert (told is not None) is ("retry-after" in reply.headers.lower())
    assert told is None or told in reply.headers


# Websockets


@pytest.mark.parametrize("path", ["/orders/O-1/live", "/inner/orders/O-1/live"])
async def test_websocket_has_the_gateway_of_its_app(
    framework: Framework, shop: Shop, path: str
) -> None:
    """Like a request: the app's, or that of the app around it."""
    async with framework.run_live(framework.make_app(shop)) as listen:
        heard = await listen(path)

    assert (101, ("paid",), 1000) == (heard.status, heard.texts, heard.code)


async def test_websocket_that_is_not_open_yet_is_denied_with_a_problem(
    framework: Framework, shop: Shop
) -> None:
    """The handshake is an HTTP request and has an HTTP answer."""
    shop.error = RefusedError(CANARY)
    async with framework.run_live(framework.make_app(shop)) as listen:
        heard = await listen("/fail/denied")

    assert (502, "application/problem+json") == (heard.status, heard.content_type)


async def test_open_websocket_ends_with_an_error(framework: Framework, shop: Shop) -> None:
    """No second answer is written into it, and nothing of the error's text."""
    shop.error = RefusedError(CANARY)
    async with framework.run_live(framework.make_app(shop)) as listen:
        heard = await asyncio.wait_for(listen("/fail/open"), PATIENCE)

    assert (101, ()) == (heard.status, heard.texts)
    assert heard.code in {1006, 1011}
    assert CANARY not in heard.reason


# Several merchants


@pytest.fixture
def other() -> Shop:
    """Make another merchant's side."""
    return make_other_shop()


@pytest.mark.parametrize(
    ("key", "whose"),
    [("a", APP_KEY), ("b", OTHER_KEY), (APP_KEY, APP_KEY), (OTHER_KEY, OTHER_KEY)],
)
async def test_gateway_is_found_by_its_name_and_by_its_app_key(
    framework: Framework, shop: Shop, other: Shop, key: str, whose: str
) -> None:
    """In requests and in websockets."""
    market = framework.make_market({"a": shop, "b": other})
    async with framework.run(market) as send:
        assert whose == json.loads((await send("GET", f"/{key}/orders/O-1")).body)

    market = framework.make_market({"a": shop, "b": other})
    async with framework.run_live(market) as listen:
        assert (whose,) == (await listen(f"/{key}/live")).texts


async def test_gateway_of_an_unknown_name_is_a_mistake_that_lists_the_names(
    framework: Framework, shop: Shop, other: Shop
) -> None:
    """It is not taken for one of the others."""
    async with framework.run(framework.make_market({"a": shop, "b": other})) as send:
        reply = await send("GET", "/c/orders/O-1")

    assert (500, True, True) == (reply.status, b"'a'" in reply.body, b"'b'" in reply.body)


async def test_route_that_does_not_say_which_gateway_is_a_mistake(
    framework: Framework, shop: Shop, other: Shop
) -> None:
    """The last one that was opened does not serve by accident; with one it is clear."""
    async with framework.run(framework.make_market({"a": shop, "b": other})) as send:
        reply = await send("GET", "/orders/O-1")
    assert (500, True) == (reply.status, b"several gateways" in reply.body)

    async with framework.run(framework.make_market({"a": Shop()})) as send:
        assert 200 == (await send("GET", "/orders/O-1")).status


async def test_callbacks_of_one_address_reach_the_gateway_of_their_app_key(
    framework: Framework, shop: Shop, other: Shop
) -> None:
    """Verified by its merchant's key, confirmed by its merchant's query; the handler is told."""
    queries = {APP_KEY: list[str](), OTHER_KEY: list[str]()}
    for each in (shop, other):
        watch_queries(each, queries[each.gateway.app_key])
    async with framework.run(framework.make_market({"a": shop, "b": other})) as send:
        replies = [await send("POST", "/notify", sign_paid(key)) for key in (APP_KEY, OTHER_KEY)]

    assert [HANDLED] * 2 == [reply.body for reply in replies]
    assert [APP_KEY, OTHER_KEY] == [each.raw["appKey"] for each in shop.trades]
    assert ([], ["query"]) == (queries[APP_KEY], queries[OTHER_KEY])  # RSA needs none, MD5 does


def watch_queries(shop: Shop, calls: list[str]) -> None:
    """Note the operations of a shop's gateway."""
    telemetry = shop.gateway.telemetry
    telemetry.hooks = [
        lambda event: calls.append(event.operation) if event.kind == "call_started" else None
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (sign_paid(OTHER_KEY, appKey=APP_KEY), "signature"),
        (sign_paid("gm-of-nobody"), "another appKey"),
        (encode_callback({"out_trade_no": "O-1", "trade_status": "TRADE_SUCCESS"}), "no appKey"),
        (b"appKey=a&appKey=b", "twice"),
    ],
    ids=["signed by the other", "nobody's", "no appKey", "two appKeys"],
)
async def test_callback_that_is_no_merchants_is_refused(
    framework: Framework, shop: Shop, other: Shop, body: bytes, reason: str
) -> None:
    """No merchant's key stands for another one, and none is guessed."""
    async with framework.run(framework.make_market({"a": shop, "b": other})) as send:
        reply = await send("POST", "/notify", body)

    assert (200, NOT_HANDLED, []) == (reply.status, reply.body, shop.trades)
    [event] = shop.events
    assert (Verdict.REFUSED, True) == (event.verdict, reason in event.reason)


async def test_callbacks_without_the_gateway_of_their_app_key_are_a_mistake(
    framework: Framework, shop: Shop, other: Shop
) -> None:
    """Another merchant's gateway must not confirm them."""
    market = framework.make_market({"a": shop, "b": other}, gateways=shop.gateway)
    async with framework.run(market) as send:
        reply = await send("POST", "/notify", sign_paid())

    assert (500, True) == (reply.status, OTHER_KEY.encode() in reply.body)


@pytest.mark.parametrize("name", ["b", APP_KEY])
async def test_app_with_two_gateways_under_one_name_does_not_start(
    framework: Framework, shop: Shop, name: str
) -> None:
    """Under one appKey, or where one's name is the other's appKey."""
    app_key = APP_KEY if name == "b" else OTHER_KEY
    gateways: Gateways = {"a": shop.gateway, name: make_gateway(app_key)}
    market = framework.make_market({"a": shop}, gateways=gateways)
    with pytest.raises(RuntimeError, match="two gateways in one app"):
        async with framework.run(market):
            pass


def test_two_verifiers_of_one_app_key_are_refused(framework: Framework, shop: Shop) -> None:
    """Which one a callback is for could not be known."""
    with pytest.raises(InvalidRequestError, match="two for one appKey"):
        framework.make_market({"a": shop, "b": Shop()})
