"""Integrate with FastAPI (extra `fastapi`): lifespan, dependency, callback route, error handlers.

notifications = Notifications(RsaVerifier.from_file("platform.pem"), app_key="app-key")
app = FastAPI(lifespan=gateway_lifespan(PayGateway.from_env))
app.include_router(notification_router("/notify", notifications, on_trade=ship))
register_error_handlers(app)

@app.post("/pay")
async def pay(order: Order, gateway: GatewayDependency) -> dict[str, str]: ...

`docs/web.md` has an app of two merchants, and the table of what payers are told of errors.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Final, cast

from wxpay_async.engine.callback_events import CallbackHook
from wxpay_async.engine.callbacks import (
    LIMIT,
    CallbackReceiver,
    RefundHandler,
    TradeHandler,
)
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import WxPayError
from wxpay_async.extras import how_to_install
from wxpay_async.integrations.problems import answer_to
from wxpay_async.integrations.service import (
    ACK_TYPE,
    CallbackRoute,
    Gateways,
    Services,
    toggle_slash,
)
from wxpay_async.protocol.notify import Notifications

try:
    from fastapi import APIRouter, Depends, FastAPI, Request, Response
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, HTTPConnection
    from starlette.routing import BaseRoute, Mount
    from starlette.types import HTTPExceptionHandler
    from starlette.websockets import WebSocket, WebSocketState
except ImportError as error:
    raise ImportError(f"FastAPI is missing: {how_to_install('fastapi')}") from error

_STATE: Final = "wxpay_async"
_TO_OPEN: Final = "make the app with lifespan=gateway_lifespan(...)"
_TO_CHOOSE: Final = "by Depends(gateway_dependency(name))"
_INTERNAL_ERROR: Final = 1011
"""The code of a websocket that the server ends because of an error."""


def gateway_lifespan(
    gateway: Gateways,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Open the gateway as the app starts and close it as the app ends.

    Mounted apps get it too. At the end it first waits for handlers of callbacks that are still
    running.

    Args:
        gateway: a gateway, or a function that makes one, such as `PayGateway.from_env`; or several
            of them by name, for `gateway_dependency`.

    Returns:
        A function for `FastAPI(lifespan=...)`. The app does not start (`RuntimeError`) with two
        gateways under one name or appKey.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        services = getattr(app.state, _STATE, None)  # of another lifespan around this one
        if not isinstance(services, Services):
            services = Services(_TO_OPEN, _TO_CHOOSE)
        # A mounted app has a state of its own, and its requests see no other. A lifespan's
        # state would reach them, but not every server supports it.
        for each in (app, *_find_mounted(app.routes)):
            setattr(each.state, _STATE, services)
        async with services.open(gateway):
            yield

    return lifespan


def _find_mounted(routes: Iterable[BaseRoute]) -> Iterator[Starlette]:
    for route in routes:
        if isinstance(route, Mount):
            if isinstance(route.app, Starlette):
                yield route.app
            yield from _find_mounted(route.routes)


def _services(connection: HTTPConnection) -> Services:
    services = getattr(connection.app.state, _STATE, None)
    return services if isinstance(services, Services) else Services(_TO_OPEN, _TO_CHOOSE)


def get_gateway(connection: HTTPConnection) -> PayGateway:
    """Return the gateway of the app, or of the app around it, in a route or a websocket's.

    Raises:
        RuntimeError: neither has a `gateway_lifespan`, or it has several gateways.
    """
    return _services(connection).pick().gateway


GatewayDependency = Annotated[PayGateway, Depends(get_gateway)]
"""FastAPI passes the gateway to a parameter with this annotation, in websocket routes too."""


def gateway_dependency(key: str) -> Callable[[HTTPConnection], PayGateway]:
    """Make a dependency for one of several gateways.

    ShopA = Annotated[PayGateway, Depends(gateway_dependency("shop-a"))]

    Args:
        key: the gateway's name in `gateway_lifespan`, or its appKey.

    Returns:
        A function for `Depends`. It may also be called with the request, where the name is known
        only then; it raises `LookupError` if there is no such gateway.
    """

    def get_named_gateway(connection: HTTPConnection) -> PayGateway:
        return _services(connection).pick(key).gateway

    return get_named_gateway


def notification_router(
    path: str,
    notifications: Notifications | Sequence[Notifications],
    *,
    on_trade: TradeHandler | None = None,
    on_refund: RefundHandler | None = None,
    endpoint: str = "default",
    hooks: Sequence[CallbackHook] = (),
    limit: float = LIMIT,
) -> APIRouter:
    """Make the route for the platform's callbacks.

    Args:
        path: as it is registered with the platform. It is answered with a slash at its end and
            without. Where `include_router` adds a prefix that is the whole path, give `""`.
        notifications: reads and verifies. The gateway is the one of its appKey. Several of them
            serve several merchants at one address: the appKey of a callback chooses, which stands
            in the handler's `notification.raw["appKey"]`; a callback without one is refused.
        on_trade: called once for each status that an order reaches; see `CallbackReceiver`.
        on_refund: called once for each status that a refund reaches.
        endpoint: the address's name in the inbox.
        hooks: called with every `CallbackEvent`.
        limit: seconds that a confirmation and its handler may take together.

    Raises:
        InvalidRequestError: two `notifications` for one appKey, or none.
    """
    make = functools.partial(
        CallbackReceiver,
        on_trade=on_trade,
        on_refund=on_refund,
        endpoint=endpoint,
        hooks=hooks,
        limit=limit,
    )

    route = CallbackRoute.new(notifications, make)

    async def receive(request: Request) -> Response:
        answer = await _services(request).answer(
            route, request.headers, request.stream(), broken=(ClientDisconnect,)
        )
        return Response(answer, media_type=ACK_TYPE)

    router = APIRouter()
    # FastAPI refuses an empty path without a prefix, and no request can ask for one.
    for each in (path, toggle_slash(path)) if path != "/" else (path,):
        router.add_api_route(each, receive, methods=["POST"], include_in_schema=False)
    return router


def register_error_handlers(app: FastAPI) -> None:
    """Answer errors of the SDK with what a payer may see: problem details (`docs/web.md`).

    A websocket that is not accepted yet gets the same answer. An open one is closed with the code
    1011; the reason is the member `error` of the problem.
    """
    app.add_exception_handler(WxPayError, cast("HTTPExceptionHandler", _answer))


async def _answer(connection: HTTPConnection, error: WxPayError) -> Response | None:
    problem = answer_to(error)
    if not isinstance(connection, WebSocket) or _is_waiting(connection):
        return Response(problem.body, problem.status, headers=problem.headers)
    states = {connection.application_state, connection.client_state}
    if states == {WebSocketState.CONNECTED}:
        await connection.close(_INTERNAL_ERROR, problem.kind.word)
    return None


def _is_waiting(socket: WebSocket) -> bool:
    return socket.application_state is WebSocketState.CONNECTING
