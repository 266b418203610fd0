"""Integrate with aiohttp.web: a cleanup context, a callback route, a middleware for errors.

notifications = Notifications(RsaVerifier.from_file("platform.pem"), app_key="app-key")
app = web.Application(middlewares=[error_middleware])
app.cleanup_ctx.append(gateway_context(PayGateway.from_env))
app.add_routes([notification_route("/notify", notifications, on_trade=ship)])

async def pay(request: web.Request) -> web.Response:
    gateway = get_gateway(request)
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

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

_SERVICE: Final = web.AppKey("wxpay_async", Service)
_BROKEN: Final = (ConnectionError, web.RequestPayloadError)


def gateway_context(
    gateway: PayGateway | Callable[[], PayGateway],
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Open the gateway as the app starts and close it as the app ends.

    At the end it first waits for handlers of callbacks that are still running.

    Args:
        gateway: a gateway, or a function that makes one, such as `PayGateway.from_env`.

    Returns:
        A function for `app.cleanup_ctx`.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with open_service(gateway) as app[_SERVICE]:
            yield

    return context


def get_gateway(request: web.Request) -> PayGateway:
    """Return the gateway of the app, or of the app around it.

    Raises:
        RuntimeError: neither has a `gateway_context`.
    """
    return _service(request).gateway


def _service(request: web.Request) -> Service:
    service: Service | None = request.config_dict.get(_SERVICE)
    if service is None:
        raise RuntimeError("no gateway: append gateway_context(...) to the app's cleanup_ctx")
    return service


def notification_route(
    path: str,
    notifications: Notifications,
    *,
    on_trade: TradeHandler | None = None,
    on_refund: RefundHandler | None = None,
    endpoint: str = "default",
    hooks: Sequence[CallbackHook] = (),
    limit: float = LIMIT,
) -> web.RouteDef:
    """Make the route for the platform's callbacks, for `app.add_routes`.

    Args:
        path: as it is registered with the platform. It is answered with a slash at its end and
            without.
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

    async def receive(request: web.Request) -> web.Response:
        answer = await _service(request).answer(
            make, request.headers, request.content.iter_any(), broken=_BROKEN
        )
        return web.Response(body=answer, content_type=ACK_TYPE)

    return _CallbackRoute(hdrs.METH_POST, path, receive, {})


class _CallbackRoute(web.RouteDef):
    """Registers a path with a slash at its end and without."""

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        paths = (self.path, toggle_slash(self.path))
        return [router.add_route(self.method, path, self.handler) for path in paths]


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors of the SDK with what a payer may see (`integrations/answers.py`)."""
    try:
        return await handler(request)
    except WxPayError as error:
        status, content = answer_to(error)
        headers = make_headers(error)
    return web.Response(
        status=status,
        text=json.dumps(content),
        content_type="application/json",
        headers=headers,
    )
