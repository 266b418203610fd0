"""Integrate with FastAPI (extra `fastapi`): lifespan, dependency, callback route, error handlers.

notifications = Notifications(RsaVerifier.from_file("platform.pem"), app_key="app-key")
app = FastAPI(lifespan=gateway_lifespan(PayGateway.from_env))
app.include_router(notification_router("/notify", notifications, on_trade=ship))
register_error_handlers(app)

@app.post("/pay")
async def pay(order: Order, gateway: GatewayDependency) -> dict[str, str]: ...
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Final

from wxpay_async.engine.callbacks import (
    LIMIT,
    CallbackHook,
    CallbackReceiver,
    RefundHandler,
    TradeHandler,
)
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import WxPayError
from wxpay_async.integrations.answers import ACK_TYPE, answer_to, make_headers
from wxpay_async.integrations.service import Service, open_service, toggle_slash
from wxpay_async.protocol.notify import Notifications

try:
    from fastapi import APIRouter, Depends, FastAPI, Request, Response
    from fastapi.responses import JSONResponse
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect
    from starlette.routing import BaseRoute, Mount
except ImportError as error:
    raise ImportError("FastAPI is missing: pip install 'wxpay-async[fastapi]'") from error

_STATE: Final = "wxpay_async"


def gateway_lifespan(
    gateway: PayGateway | Callable[[], PayGateway],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Open the gateway as the app starts and close it as the app ends.

    Mounted apps get it too. At the end it first waits for handlers of callbacks that are still
    running.

    Args:
        gateway: a gateway, or a function that makes one, such as `PayGateway.from_env`.

    Returns:
        A function for `FastAPI(lifespan=...)`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_service(gateway) as service:
            # A mounted app has a state of its own, and its requests see no other. A lifespan's
            # state would reach them, but not every server supports it.
            for each in (app, *_find_mounted(app.routes)):
                setattr(each.state, _STATE, service)
            yield

    return lifespan


def _find_mounted(routes: Iterable[BaseRoute]) -> Iterator[Starlette]:
    for route in routes:
        if isinstance(route, Mount):
            if isinstance(route.app, Starlette):
                yield route.app
            yield from _find_mounted(route.routes)


def _service(request: Request) -> Service:
    service = getattr(request.app.state, _STATE, None)
    if not isinstance(service, Service):
        raise RuntimeError(  # noqa: TRY004 - the app lacks something, no value is wrong
            "no gateway: make the app with lifespan=gateway_lifespan(...)"
        )
    return service


def get_gateway(request: Request) -> PayGateway:
    """Return the gateway of the app, or of the app around it.

    Raises:
        RuntimeError: neither has a `gateway_lifespan`.
    """
    return _service(request).gateway


GatewayDependency = Annotated[PayGateway, Depends(get_gateway)]
"""FastAPI passes the gateway to a parameter with this annotation."""


def notification_router(
    path: str,
    notifications: Notifications,
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
        notifications: reads and verifies.
        on_trade: called once for each status that an order reaches; see `CallbackReceiver`.
        on_refund: called once for each status that a refund reaches.
        endpoint: the address's name in the inbox.
        hooks: called with every `CallbackEvent`.
        limit: seconds that a confirmation and its handler may take together.
    """
    make = functools.partial(
        CallbackReceiver,
        notifications=notifications,
        on_trade=on_trade,
        on_refund=on_refund,
        endpoint=endpoint,
        hooks=hooks,
        limit=limit,
    )

    async def receive(request: Request) -> Response:
        answer = await _service(request).answer(
            make, request.headers, request.stream(), broken=(ClientDisconnect,)
        )
        return Response(answer, media_type=ACK_TYPE)

    router = APIRouter()
    # FastAPI refuses an empty path without a prefix, and no request can ask for one.
    for each in (path, toggle_slash(path)) if path != "/" else (path,):
        router.add_api_route(each, receive, methods=["POST"], include_in_schema=False)
    return router


def register_error_handlers(app: FastAPI) -> None:
    """Answer errors of the SDK with what a payer may see (`integrations/answers.py`)."""

    async def answer(request: Request, error: Exception) -> Response:
        del request
        if not isinstance(error, WxPayError):  # pragma: no cover - registered for no other
            raise error
        status, content = answer_to(error)
        return JSONResponse(content, status_code=status, headers=make_headers(error))

    app.add_exception_handler(WxPayError, answer)
