"""A merchant's shop, and the same app for it in each web framework."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import define, field, frozen
from fastapi import FastAPI

from tests.support.clock import NOON
from tests.support.platform import (
    APP_KEY,
    FORM,
    SIGNER,
    VERIFIER,
    encode_callback,
    sign_callback,
)
from wxpay_async import MemoryTransport, PayGateway, Unlimited
from wxpay_async.engine.callbacks import CallbackEvent
from wxpay_async.errors import WxPayError
from wxpay_async.integrations.aiohttp import (
    error_middleware,
    gateway_context,
    get_gateway,
    notification_route,
)
from wxpay_async.integrations.fastapi import (
    GatewayDependency,
    gateway_lifespan,
    notification_router,
    register_error_handlers,
)
from wxpay_async.protocol.notify import Notifications, RefundNotification, TradeNotification
from wxpay_async.protocol.wire import HttpRequest

TRADE_BODY: Final = encode_callback(
    sign_callback(
        {
            "out_trade_no": "O-1",
            "inner_trade_no": "T-1",
            "trade_status": "TRADE_SUCCESS",
            "trade_amount": "1.00",
        }
    )
)
"""An authentic callback of a trade."""
REFUND_BODY: Final = encode_callback(
    sign_callback(
        {
            "orig_outer_trade_no": "O-1",
            "out_trade_no": "R-1",
            "inner_trade_no": "T-2",
            "refund_status": "REFUND_SUCCESS",
            "refund_amount": "1.00",
        }
    )
)
"""An authentic callback of a refund."""

Gateway = PayGateway | Callable[[], PayGateway]
Body = bytes | AsyncIterator[bytes] | None


def _answer_query(request: HttpRequest) -> dict[str, object]:
    assert request.url.endswith("/api/instant/query")
    return {"success": True, "data": {"outTradeNo": "O-1", "status": "支付成功"}}


def make_gateway(**settings: Any) -> PayGateway:  # noqa: ANN401 - the gateway's
    """Make a gateway over memory, for which every order is paid."""
    transport = MemoryTransport(_answer_query)
    return PayGateway(APP_KEY, SIGNER, transport=transport, limiter=Unlimited(), **settings)


def _make_notifications() -> Notifications:
    return Notifications(VERIFIER, app_key=APP_KEY, clock=lambda: NOON)


@define(eq=False)
class Shop:
    """The merchant's side of an app under test.

    Attributes:
        gateway: the gateway of `make_gateway`, unless a test brings another.
        notifications: by RSA, at a fixed time.
        trades: the notifications of the trade handler.
        refunds: the notifications of the refund handler.
        events: the events of the hook.
        error: the error that the route `/fail` raises.
    """

    gateway: PayGateway = field(factory=make_gateway)
    notifications: Notifications = field(factory=_make_notifications)
    trades: list[TradeNotification] = field(factory=list)
    refunds: list[RefundNotification] = field(factory=list)
    events: list[CallbackEvent] = field(factory=list)
    error: WxPayError | None = None

    async def on_trade(self, notification: TradeNotification) -> None:
        """Record a trade."""
        self.trades.append(notification)

    async def on_refund(self, notification: RefundNotification) -> None:
        """Record a refund."""
        self.refunds.append(notification)

    def route_options(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a callback route, with changes."""
        options = {
            "on_trade": self.on_trade,
            "on_refund": self.on_refund,
            "hooks": (self.events.append,),
        }
        return options | changes


@frozen
class Reply:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str
    headers: str


Send = Callable[..., Awaitable[Reply]]
"""Sends a request to an app: `send(method, path, body)`."""


# FastAPI


class FastApi:
    """FastAPI, driven by ASGI."""

    def make_app(
        self,
        shop: Shop,
        gateway: Gateway | None = None,
        *,
        at: str = "/notify",
        **options: Any,  # noqa: ANN401 - the route's
    ) -> FastAPI:
        """Make an app as the integration's documentation shows.

        It has the routes `/notify`, `/orders/{number}` and `/fail`; an app inside it has the first
        two again, below `/inner`.

        Args:
            shop: the merchant's side.
            gateway: a gateway, or a function that makes one; the shop's by default.
            at: the path of the callback route.
            options: other options for the callback route.
        """
        app, inner = FastAPI(lifespan=gateway_lifespan(gateway or shop.gateway)), FastAPI()
        for each in (app, inner):
            given = shop.route_options(options)
            each.include_router(notification_router(at, shop.notifications, **given))
            each.add_api_route("/orders/{number}", _get_status)
        register_error_handlers(app)

        @app.get("/fail")
        async def fail() -> None:
            raise shop.error or AssertionError

        app.mount("/inner", inner)
        return app

    @asynccontextmanager
    async def run(self, app: FastAPI) -> AsyncGenerator[Send]:
        """Start an app, and end it."""
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
        ):

            async def send(method: str, path: str, body: Body = None) -> Reply:
                reply = await client.request(method, path, content=body, headers=FORM)
                kind = reply.headers["content-type"]
                return Reply(reply.status_code, reply.content, kind, str(reply.headers))

            yield send


async def _get_status(number: str, gateway: GatewayDependency) -> dict[str, str]:
    return {"status": (await gateway.query(out_trade_no=number)).state}


# aiohttp


class Aiohttp:
    """aiohttp.web, over loopback."""

    def make_app(
        self,
        shop: Shop,
        gateway: Gateway | None = None,
        *,
        at: str = "/notify",
        **options: Any,  # noqa: ANN401 - the route's
    ) -> Any:  # noqa: ANN401 - an app; its type is the framework's
        """Make an app; see `FastApi`."""

        async def fail(request: web.Request) -> web.Response:
            del request
            raise shop.error or AssertionError

        app, inner = web.Application(middlewares=[error_middleware]), web.Application()
        app.cleanup_ctx.append(gateway_context(gateway or shop.gateway))
        for each in (app, inner):
            given = shop.route_options(options)
            each.add_routes([notification_route(at, shop.notifications, **given)])
            each.add_routes([web.get("/orders/{number}", _get_status_json)])
        app.add_routes([web.get("/fail", fail)])
        app.add_subapp("/inner/", inner)
        return app

    @asynccontextmanager
    async def run(self, app: web.Application) -> AsyncGenerator[Send]:
        """Start an app, and end it."""
        async with TestClient(TestServer(app)) as client:

            async def send(method: str, path: str, body: Body = None) -> Reply:
                async with client.request(method, path, data=body, headers=FORM) as reply:
                    content, kind = await reply.read(), reply.content_type
                    return Reply(reply.status, content, kind, str(reply.headers))

            yield send


async def _get_status_json(request: web.Request) -> web.Response:
    found = await get_gateway(request).query(out_trade_no=request.match_info["number"])
    return web.json_response({"status": found.state})


Framework = FastApi | Aiohttp
FRAMEWORKS: Final[dict[str, Framework]] = {"fastapi": FastApi(), "aiohttp": Aiohttp()}


@define(eq=False)
class EndlessBody:
    """A body of a megabyte, far longer than a callback, that counts how much of it is read."""

    taken: int = 0

    def __aiter__(self) -> EndlessBody:
        """Start."""
        return self

    async def __anext__(self) -> bytes:
        """Return another 4 KB, up to a megabyte."""
        if self.taken >= 1 << 20:
            raise StopAsyncIteration
        self.taken += 4096
        return b"x" * 4096
