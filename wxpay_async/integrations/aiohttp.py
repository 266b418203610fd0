"""Integrate with aiohttp.web: a cleanup context, a callback route, a middleware for errors.

notifications = Notifications(RsaVerifier.from_file("platform.pem"), app_key="app-key")
app = web.Application(middlewares=[error_middleware])
app.cleanup_ctx.append(gateway_context(PayGateway.from_env))
app.add_routes([notification_route("/notify", notifications, on_trade=ship)])

async def pay(request: web.Request) -> web.Response:
    gateway = get_gateway(request)

`docs/web.md` has more: several merchants, websockets, and what payers are told of errors.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from wxpay_async.engine.callback_events import CallbackHook
from wxpay_async.engine.callbacks import (
    LIMIT,
    CallbackReceiver,
    RefundHandler,
    TradeHandler,
)
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import WxPayError
from wxpay_async.integrations.problems import answer_to
from wxpay_async.integrations.service import (
    ACK_TYPE,
    CallbackRoute,
    Gateways,
    Services,
    toggle_slash,
)
from wxpay_async.protocol.notify import Notifications

_SERVICES: Final = web.AppKey("wxpay_async", Services)
_TO_OPEN: Final = "append gateway_context(...) to the app's cleanup_ctx"
_TO_CHOOSE: Final = "by get_gateway(request, name)"
_BROKEN: Final = (ConnectionError, web.RequestPayloadError)


def gateway_context(
    gateway: Gateways,
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Open the gateway as the app starts and close it as the app ends.

    At the end it first waits for handlers of callbacks that are still running.

    Args:
        gateway: a gateway, or a function that makes one, such as `PayGateway.from_env`; or several
            of them by name, for `get_gateway`.

    Returns:
        A function for `app.cleanup_ctx`. The app does not start (`RuntimeError`) with two gateways
        under one name or appKey.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        if _SERVICES not in app:  # another context may have come before
            app[_SERVICES] = Services(_TO_OPEN, _TO_CHOOSE)
        async with app[_SERVICES].open(gateway):
            yield

    return context


def get_gateway(request: web.Request, key: str | None = None) -> PayGateway:
    """Return the gateway of the app, or of the app around it, in a websocket's handler too.

    Args:
        request: the request.
        key: of several gateways, the name in `gateway_context`, or the appKey.

    Raises:
        LookupError: no gateway has this name or appKey.
        RuntimeError: no key, and the app has no gateway or several.
    """
    return _services(request).pick(key).gateway


def _services(request: web.Request) -> Services:
    services: Services | None = request.config_dict.get(_SERVICES)
    return Services(_TO_OPEN, _TO_CHOOSE) if services is None else services


def notification_route(
    path: str,
    notifications: Notifications | Sequence[Notifications],
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

    async def receive(request: web.Request) -> web.Response:
        answer = await _services(request).answer(
            route, request.headers, request.content.iter_any(), broken=_BROKEN
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
    """Answer errors of the SDK with what a payer may see: problem details (`docs/web.md`).

    Once an answer has begun, or a websocket is open, the error is raised: the server ends the
    connection.
    """
    try:
        return await handler(request)
    except WxPayError as error:
        if request.writer.output_size > 0:
            raise
        problem = answer_to(error)
    return web.Response(body=problem.body, status=problem.status, headers=problem.headers)
