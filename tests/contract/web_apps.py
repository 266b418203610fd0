"""A merchant's shop, and the same app for it in each web framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import httpx
from aiohttp import WSServerHandshakeError, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler
from attrs import define, field, frozen
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.requests import HTTPConnection
from starlette.types import Message

from tests.support.clock import NOON
from tests.support.platform import (
    APP_KEY,
    FORM,
    SIGNER,
    VERIFIER,
    encode_callback,
    sign_callback,
)
from wxpay_async import (
    Md5Signer,
    Md5Verifier,
    MemoryTransport,
    Notifications,
    PayGateway,
    RefundNotification,
    TradeNotification,
    Unlimited,
)
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
    gateway_dependency,
    gateway_lifespan,
    notification_router,
    register_error_handlers,
)
from wxpay_async.protocol.wire import HttpRequest

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

OTHER_KEY: Final = "gm-of-the-other-merchant"
OTHER_SECRET: Final = "the other merchant's own secret"

Gateway = PayGateway | Callable[[], PayGateway]
Gateways = Gateway | Mapping[str, Gateway]
Body = bytes | AsyncIterator[bytes] | None


def _answer_query(request: HttpRequest) -> dict[str, object]:
    assert request.url.endswith("/api/instant/query")
    data = {"outTradeNo": "O-1", "status": "支付成功", "totalAmount": "1.00"}
    return {"success": True, "data": data}


def make_gateway(app_key: str = APP_KEY, **settings: Any) -> PayGateway:  # noqa: ANN401 - its own
    """Make a gateway over memory, for which every order is paid."""
    transport = MemoryTransport(_answer_query)
    return PayGateway(app_key, SIGNER, transport=transport, limiter=Unlimited(), **settings)


def make_other_shop() -> Shop:
    """Make the shop of another merchant, whose callbacks are signed by MD5."""
    verifier = Md5Verifier(OTHER_SECRET)
    return Shop(
        make_gateway(OTHER_KEY), Notifications(verifier, app_key=OTHER_KEY, clock=lambda: NOON)
    )


def sign_paid(app_key: str = APP_KEY, **changes: str) -> bytes:
    """Sign the callback of a paid order as the platform signs for that merchant."""
    fields = {
        "out_trade_no": "O-1",
        "inner_trade_no": "T-1",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "1.00",
        **changes,
    }
    signer = SIGNER if app_key == APP_KEY else Md5Signer(OTHER_SECRET)
    return encode_callback(sign_callback(fields, signer=signer, app_key=app_key))


def _make_notifications() -> Notifications:
    return Notifications(VERIFIER, app_key=APP_KEY, clock=lambda: NOON)


TRADE_BODY: Final = sign_paid()
"""An authentic callback of a trade."""


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


@frozen
class Heard:
    """What a websocket heard until its end.

    Attributes:
        status: 101, or the HTTP status that it was denied with.
        content_type: of the answer that denied it.
        texts: the messages.
        code: of its end; 1006 for none.
        reason: of its end.
    """

    status: int
    content_type: str = ""
    texts: tuple[str, ...] = ()
    code: int = 1006
    reason: str = ""


Send = Callable[..., Awaitable[Reply]]
"""Sends a request to an app: `send(method, path, body)`."""
Listen = Callable[[str], Awaitable[Heard]]
"""Opens a websocket, and listens until its end."""


# FastAPI


def _choose_gateway(shop: str, connection: HTTPConnection) -> PayGateway:
    return gateway_dependency(shop)(connection)


_ShopGateway = Annotated[PayGateway, Depends(_choose_gateway)]


class FastApi:
    """FastAPI, driven by ASGI."""

    def make_app(
        self,
        shop: Shop,
        gateway: Gateways | None = None,
        *,
        at: str = "/notify",
        **options: Any,  # noqa: ANN401 - the route's
    ) -> FastAPI:
        """Make an app as the integration's documentation shows.

        It has the routes `/notify`, `/orders/{number}` and `/fail`, and for websockets
        `/orders/{number}/live`, `/fail/denied` and `/fail/open`; an app inside it has those without
        `/fail` again, below `/inner`.

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
            each.add_api_websocket_route("/orders/{number}/live", _tell_status)
        register_error_handlers(app)

        @app.get("/fail")
        @app.websocket("/fail/denied")
        async def fail() -> None:
            raise shop.error or AssertionError

        @app.websocket("/fail/open")
        async def fail_openly(socket: WebSocket) -> None:
            await socket.accept()
            raise shop.error or AssertionError

        app.mount("/inner", inner)
        return app

    def make_market(
        self, shops: Mapping[str, Shop], *, gateways: Gateways | None = None
    ) -> FastAPI:
        """Make an app of several merchants, whose callbacks come to one address.

        It has the routes `/notify`, `/{shop}/orders/{number}`, a websocket's `/{shop}/live`, and
        `/orders/{number}`, which does not say whose. A mistake is answered 500, with its text.

        Args:
            shops: by name; the handlers of the first one take all callbacks.
            gateways: the shops' by default.
        """
        own = {name: shop.gateway for name, shop in shops.items()}
        app = FastAPI(lifespan=gateway_lifespan(gateways or own))
        first, *_ = shops.values()
        notifications = [shop.notifications for shop in shops.values()]
        app.include_router(notification_router("/notify", notifications, **first.route_options({})))
        for mistake in (RuntimeError, LookupError):
            app.add_exception_handler(mistake, _show_mistake)

        @app.get("/{shop}/orders/{number}")  # noqa: FAST003 - the dependency takes the shop
        async def show(gateway: _ShopGateway) -> str:
            return gateway.app_key

        @app.websocket("/{shop}/live")
        async def tell(socket: WebSocket, gateway: _ShopGateway) -> None:
            await socket.accept()
            await socket.send_text(gateway.app_key)
            await socket.close()

        app.add_api_route("/orders/{number}", _get_status)
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

    @asynccontextmanager
    async def run_live(self, app: FastAPI) -> AsyncGenerator[Listen]:
        """Start an app for websockets, and end it."""

        async def listen(path: str) -> Heard:
            sent: list[Message] = []
            coming = [{"type": "websocket.connect"}]

            async def receive() -> Message:
                return coming.pop() if coming else await asyncio.Future[Message]()

            async def send(message: Message) -> None:
                sent.append(message)

            scope = {
                "type": "websocket",
                "path": path,
                "headers": [],
                "query_string": b"",
                "extensions": {"websocket.http.response": {}},
            }
            await app(scope, receive, send)
            return _read_messages(sent)

        async with app.router.lifespan_context(app):
            yield listen


def _read_messages(sent: list[Message]) -> Heard:
    by_kind = {message["type"]: message for message in sent}
    if denied := by_kind.get("websocket.http.response.start"):
        headers = dict(denied["headers"])
        return Heard(denied["status"], headers[b"content-type"].decode())
    texts = tuple(message["text"] for message in sent if message["type"] == "websocket.send")
    end = by_kind.get("websocket.close", {})
    return Heard(101, "", texts, end.get("code", 1006), end.get("reason") or "")


def _show_mistake(_: object, error: Exception) -> PlainTextResponse:
    return PlainTextResponse(str(error), 500)


async def _tell_status(socket: WebSocket, number: str, gateway: GatewayDependency) -> None:
    await socket.accept()
    await socket.send_text((await gateway.query(out_trade_no=number)).state)
    await socket.close()


async def _get_status(number: str, gateway: GatewayDependency) -> dict[str, str]:
    return {"status": (await gateway.query(out_trade_no=number)).state}


# aiohttp


class Aiohttp:
    """aiohttp.web, over loopback."""

    def make_app(
        self,
        shop: Shop,
        gateway: Gateways | None = None,
        *,
        at: str = "/notify",
        **options: Any,  # noqa: ANN401 - the route's
    ) -> Any:  # noqa: ANN401 - an app; its type is the framework's
        """Make an app; see `FastApi`."""

        async def fail(request: web.Request) -> web.Response:
            del request
            raise shop.error or AssertionError

        async def fail_openly(request: web.Request) -> web.WebSocketResponse:
            await web.WebSocketResponse().prepare(request)
            raise shop.error or AssertionError

        app, inner = web.Application(middlewares=[error_middleware]), web.Application()
        app.cleanup_ctx.append(gateway_context(gateway or shop.gateway))
        for each in (app, inner):
            given = shop.route_options(options)
            each.add_routes([notification_route(at, shop.notifications, **given)])
            each.add_routes([web.get("/orders/{number}", _get_status_json)])
            each.add_routes([web.get("/orders/{number}/live", _tell_status_live)])
        app.add_routes([web.get("/fail", fail), web.get("/fail/denied", fail)])
        app.add_routes([web.get("/fail/open", fail_openly)])
        app.add_subapp("/inner/", inner)
        return app

    def make_market(
        self, shops: Mapping[str, Shop], *, gateways: Gateways | None = None
    ) -> web.Application:
        """Make an app of several merchants; see `FastApi`."""
        own = {name: shop.gateway for name, shop in shops.items()}
        app = web.Application(middlewares=[_mistake_middleware])
        app.cleanup_ctx.append(gateway_context(gateways or own))
        first, *_ = shops.values()
        notifications = [shop.notifications for shop in shops.values()]
        app.add_routes([notification_route("/notify", notifications, **first.route_options({}))])

        async def show(request: web.Request) -> web.Response:
            gateway = get_gateway(request, request.match_info["shop"])
            return web.json_response(gateway.app_key)

        async def tell(request: web.Request) -> web.WebSocketResponse:
            gateway = get_gateway(request, request.match_info["shop"])
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str(gateway.app_key)
            await socket.close()
            return socket

        app.add_routes([web.get("/orders/{number}", _get_status_json)])
        app.add_routes([web.get("/{shop}/orders/{number}", show), web.get("/{shop}/live", tell)])
        return app

    @asynccontextmanager
    async def run(self, app: web.Application) -> AsyncGenerator[Send]:
        """Start an app, and end it."""
        async with TestServer(app) as server, TestClient(server) as client:

            async def send(method: str, path: str, body: Body = None) -> Reply:
                async with client.request(method, path, data=body, headers=FORM) as reply:
                    content, kind = await reply.read(), reply.content_type
                    return Reply(reply.status, content, kind, str(reply.headers))

            yield send

    @asynccontextmanager
    async def run_live(self, app: web.Application) -> AsyncGenerator[Listen]:
        """Start an app for websockets, and end it."""
        async with TestServer(app) as server, TestClient(server) as client:

            async def listen(path: str) -> Heard:
                try:
                    async with client.ws_connect(path) as socket:
                        texts = tuple([message.data async for message in socket])
                        return Heard(101, "", texts, socket.close_code or 1006)
                except WSServerHandshakeError as denied:
                    headers = denied.headers or {}
                    return Heard(denied.status, headers["Content-Type"])

            yield listen


@web.middleware
async def _mistake_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (RuntimeError, LookupError) as error:
        return web.Response(text=str(error), status=500)


async def _tell_status_live(request: web.Request) -> web.WebSocketResponse:
    found = await get_gateway(request).query(out_trade_no=request.match_info["number"])
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(found.state)
    await socket.close()
    return socket


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
