"""The FastAPI integration, driven over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from wxpay_async import PayGateway, WxPayError
from wxpay_async.engine.callbacks import CallbackReceiver, Verdict
from wxpay_async.integrations import service
from wxpay_async.integrations.fastapi import (
    GatewayDependency,
    gateway_lifespan,
    notification_router,
    register_error_handlers,
)
from wxpay_async.policy.retry import RetryPolicy

PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Start an app, and end it."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield client


def make_app(shop: Any, **changes: Any) -> FastAPI:  # noqa: ANN401 - the conftest's Shop
    """Build an app as the module's documentation does."""
    app = FastAPI(lifespan=gateway_lifespan(shop.gateway))
    given = {"on_trade": shop.on_trade, "on_refund": shop.on_refund, "hooks": (shop.events.append,)}
    app.include_router(notification_router("/notify", shop.notifications, **(given | changes)))
    register_error_handlers(app)

    @app.get("/orders/{number}")
    async def status(number: str, gateway: GatewayDependency) -> dict[str, str]:
        return {"status": (await gateway.query(out_trade_no=number)).state}

    return app


async def test_the_gateway_is_handed_in(shop: Any) -> None:  # noqa: ANN401
    """A parameter annotated with the dependency is the gateway of the lifespan."""
    async with running(make_app(shop)) as client:
        reply = await client.get("/orders/O-1")

    assert (200, {"status": "paid"}) == (reply.status_code, reply.json())


async def test_a_factory_makes_a_gateway_for_each_run(shop: Any) -> None:  # noqa: ANN401
    """What is given may be the gateway or what makes it, and the app may run twice."""
    made: list[PayGateway] = []

    def factory() -> PayGateway:
        made.append(shop.gateway)
        return shop.gateway

    app = FastAPI(lifespan=gateway_lifespan(factory))
    for _ in range(2):
        async with running(app):
            pass

    assert 2 == len(made)


async def test_an_app_without_a_gateway_says_so() -> None:
    """The mistake is named."""
    app = FastAPI()

    @app.get("/")
    async def root(gateway: GatewayDependency) -> str:
        return gateway.app_key

    async with running(app) as client:
        with pytest.raises(RuntimeError, match="gateway_lifespan"):
            await client.get("/")


async def test_a_mounted_app_has_the_gateway_around_it(
    shop: Any,  # noqa: ANN401
    trade_body: bytes,
) -> None:
    """A sub-application, and one in it, need not open one of their own."""
    app, inner, innermost = make_app(shop), FastAPI(), FastAPI()
    router = notification_router("/notify", shop.notifications, on_trade=shop.on_trade)
    innermost.include_router(router)
    inner.mount("/b", innermost)
    app.mount("/a", inner)

    async with running(app) as client:
        reply = await client.post("/a/b/notify", content=trade_body, headers=FORM)

    assert (200, b'{"status": 1}') == (reply.status_code, reply.content)


async def test_hooks_and_the_limit_are_the_app_s_choice(
    shop: Any,  # noqa: ANN401
    trade_body: bytes,
) -> None:
    """Hooks come as any sequence; a handler that takes longer than the limit has failed."""

    async def slow(_: object) -> None:
        await asyncio.sleep(PATIENCE)

    shop.gateway._dispatcher.retry = RetryPolicy(min_left=0.01)
    app = make_app(shop, on_trade=slow, hooks=[shop.events.append], limit=0.01)
    async with running(app) as client:
        reply = await client.post("/notify", content=trade_body, headers=FORM)

    assert b'{"status": 0}' == reply.content
    assert ["it took over 0.01 s"] == [event.reason for event in shop.events]


async def test_callbacks_reach_their_handlers(
    shop: Any,  # noqa: ANN401
    trade_body: bytes,
    refund_body: bytes,
) -> None:
    """Each kind its own, once, answered with the exact bytes as JSON."""
    async with running(make_app(shop)) as client:
        replies = [
            await client.post("/notify", content=body, headers=FORM)
            for body in (trade_body, refund_body, trade_body)
        ]

    assert [(200, b'{"status": 1}')] * 3 == [(r.status_code, r.content) for r in replies]
    assert {"application/json"} == {reply.headers["content-type"] for reply in replies}
    assert (["O-1"], ["R-1"]) == (
        [notification.out_trade_no for notification in shop.trades],
        [notification.out_trade_no for notification in shop.refunds],
    )


async def test_a_forged_callback_is_answered_0(shop: Any, trade_body: bytes) -> None:  # noqa: ANN401
    """Nothing of it is handed on."""
    async with running(make_app(shop)) as client:
        forged = trade_body.replace(b"1.00", b"0.01")
        reply = await client.post("/notify", content=forged, headers=FORM)

    assert (200, b'{"status": 0}') == (reply.status_code, reply.content)
    assert ([], [Verdict.REFUSED]) == (shop.trades, [event.verdict for event in shop.events])


async def test_a_body_without_end_is_not_read(
    shop: Any,  # noqa: ANN401
    endless: Callable[[], Any],
) -> None:
    """Reading stops behind 64 KB, and nothing is parsed."""
    body = endless()
    app, sent = make_app(shop), []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": await anext(body), "more_body": True}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/notify",
        "headers": [(b"content-type", FORM["Content-Type"].encode())],
        "query_string": b"",
    }
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)  # type: ignore[arg-type]

    assert b'{"status": 0}' == sent[-1]["body"]
    assert ((64 << 10) + 4096, []) == (body.taken, shop.events)


async def test_a_sender_that_goes_away_is_no_error(shop: Any) -> None:  # noqa: ANN401
    """Half a body is no callback."""
    app, sent = make_app(shop), []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/notify",
        "headers": [],
        "query_string": b"",
    }
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)  # type: ignore[arg-type]

    assert ([], b'{"status": 0}') == (shop.events, sent[-1]["body"])


async def test_a_body_that_never_ends_is_answered_in_time(
    shop: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reading takes of the seconds that the platform waits."""
    monkeypatch.setattr(service, "ANSWER_WITHIN", 0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(PATIENCE)

    receiver = service.Service(shop.gateway)
    async with asyncio.timeout(PATIENCE / 2):
        answer = await receiver.answer(_unused, FORM, endless(), broken=())

    assert b'{"status": 0}' == answer


def _unused(gateway: PayGateway) -> CallbackReceiver:
    raise AssertionError(gateway)


async def test_the_end_waits_for_handlers(shop: Any, trade_body: bytes) -> None:  # noqa: ANN401
    """A handler that is still running when the app ends has its effect."""
    entered, gate, done = asyncio.Event(), asyncio.Event(), []

    async def slow(_: object) -> None:
        entered.set()
        await gate.wait()
        done.append(1)

    async with running(make_app(shop, on_trade=slow)) as client:
        call = asyncio.create_task(client.post("/notify", content=trade_body, headers=FORM))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        call.cancel()
        asyncio.get_running_loop().call_later(0.05, gate.set)

    assert [1] == done


async def test_payers_learn_a_word_and_no_more(
    shop: Any,  # noqa: ANN401
    told: tuple[WxPayError, int, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every error of the SDK has a status and one word; the rest is in the log."""
    error, status, content = told
    app = make_app(shop)

    @app.get("/fail")
    async def fail() -> None:
        raise error

    async with running(app) as client:
        reply = await client.get("/fail")

    assert status == reply.status_code
    assert content.replace(b" ", b"") == reply.content.replace(b" ", b"")
    assert "canary" not in f"{reply.headers} {reply.text}"
    assert "canary-5a1e-reason" in caplog.text


async def test_the_callback_route_is_not_in_the_schema(shop: Any) -> None:  # noqa: ANN401
    """It is between the platform and the merchant."""
    assert "/notify" not in make_app(shop).openapi()["paths"]
