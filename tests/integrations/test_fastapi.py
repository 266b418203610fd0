"""FastAPI alone: what its lifespan, its routes and ASGI add to the contract of all frameworks."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive

from tests.contract.web_apps import TRADE_BODY, EndlessBody, FastApi, Shop
from tests.support.platform import FORM
from wxpay_async import PayGateway
from wxpay_async.integrations.fastapi import (
    GatewayDependency,
    gateway_lifespan,
    notification_router,
)

FASTAPI = FastApi()


async def call_notify(app: FastAPI, receive: Receive) -> Message:
    """Call the callback route by ASGI, and return the last message of its response."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/notify",
        "headers": [(b"content-type", FORM["Content-Type"].encode())],
        "query_string": b"",
    }
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)
    return sent[-1]


async def test_factory_makes_a_gateway_for_each_run() -> None:
    """An app may run twice."""
    shop, made = Shop(), list[PayGateway]()

    def factory() -> PayGateway:
        made.append(shop.gateway)
        return shop.gateway

    app = FASTAPI.make_app(shop, factory)
    for _ in range(2):
        async with FASTAPI.run(app):
            pass

    assert 2 == len(made)


async def test_app_without_a_gateway_names_the_mistake() -> None:
    """The error names the lifespan that is missing."""
    app = FastAPI()

    @app.get("/")
    async def root(gateway: GatewayDependency) -> str:
        return gateway.app_key

    async with FASTAPI.run(app) as send:
        with pytest.raises(RuntimeError, match="gateway_lifespan"):
            await send("GET", "/")


async def test_gateway_is_known_in_an_app_two_levels_inside() -> None:
    """A mounted app may mount another one."""
    shop = Shop()
    app, inner = FASTAPI.make_app(shop), FASTAPI.make_app(shop)
    middle = FastAPI()
    middle.mount("/b", inner)
    app.mount("/a", middle)

    async with FASTAPI.run(app) as send:
        reply = await send("GET", "/a/b/orders/O-1")

    assert 200 == reply.status


async def test_endless_callback_is_read_up_to_64_kb() -> None:
    """Reading stops with the chunk that is too many."""
    shop, body = Shop(), EndlessBody()

    async def receive() -> Message:
        return {"type": "http.request", "body": await anext(body), "more_body": True}

    last = await call_notify(FASTAPI.make_app(shop), receive)

    assert b'{"status": 0}' == last["body"]
    assert ((64 << 10) + 4096, []) == (body.taken, shop.events)


async def test_sender_that_disconnects_is_no_error() -> None:
    """Half a body is no callback."""
    shop = Shop()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    last = await call_notify(FASTAPI.make_app(shop), receive)

    assert ([], b'{"status": 0}') == (shop.events, last["body"])


@pytest.mark.parametrize("path", ["/pay/notify", "/pay/notify/"])
async def test_prefix_may_be_the_whole_path(path: str) -> None:
    """The router's own path may be empty then."""
    shop = Shop()
    app = FastAPI(lifespan=gateway_lifespan(shop.gateway))
    router = notification_router("", shop.notifications, on_trade=shop.on_trade)
    app.include_router(router, prefix="/pay/notify")

    async with FASTAPI.run(app) as send:
        reply = await send("POST", path, TRADE_BODY)

    assert (200, b'{"status": 1}') == (reply.status, reply.body)


async def test_callback_route_is_not_in_the_schema() -> None:
    """It is for the platform only."""
    paths = FASTAPI.make_app(Shop()).openapi()["paths"]

    assert not {"/notify", "/notify/"} & paths.keys()
