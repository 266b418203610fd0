"""Take the platform's callbacks in Django, under an ASGI server.

    uvicorn --app-dir examples --lifespan on django_callback:app

The environment configures the gateway (see `PayGateway.from_env`). The platform signs its callbacks
by RSA here: `WXPAY_PLATFORM_KEY_FILE` holds its public key. For views that are not async, see
`docs/sync-code.md`.
"""

# pyright: basic
import os
import sqlite3
from typing import Any

from django.conf import settings  # type: ignore[import-untyped]  # it has no types
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import (  # type: ignore[import-untyped]
    HttpRequest,
    HttpResponse,
    JsonResponse,
)
from django.urls import path  # type: ignore[import-untyped]
from django.views.decorators.csrf import csrf_exempt  # type: ignore[import-untyped]
from django.views.decorators.http import require_POST  # type: ignore[import-untyped]

import wxpay_async as wx

# A project has these in its settings.py.
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY=os.urandom(32))

# A real shop has its own database and driver; single statements on a local file block briefly.
db = sqlite3.connect(os.environ.get("SHOP_DB", "shop.db"), isolation_level=None, timeout=10)
db.execute("CREATE TABLE IF NOT EXISTS orders (number PRIMARY KEY, status)")

verifier = wx.RsaVerifier.from_file(os.environ["WXPAY_PLATFORM_KEY_FILE"])
notifications = wx.Notifications(
    verifier, app_key=os.environ["WXPAY_APP_KEY"], allow_unsigned=False
)
receivers: list[wx.CallbackReceiver] = []  # one, while the server runs


async def update_order(notification: wx.TradeNotification) -> None:
    """Write down the status that the platform reports. Compare the amount with the order's, too."""
    db.execute(
        "INSERT INTO orders VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET status = "
        "excluded.status WHERE status <> 'paid'",
        [notification.out_trade_no, str(notification.state)],
    )


@csrf_exempt  # type: ignore[untyped-decorator]  # the platform has no cookie, but a signature
@require_POST  # type: ignore[untyped-decorator]
async def notify(request: HttpRequest) -> HttpResponse:
    """Answer the platform. The signature is made over the raw bytes, so nothing is parsed here."""
    headers = dict(request.headers.items())  # pyright: ignore[reportAttributeAccessIssue]
    answer = await receivers[0].receive(headers, request.body)
    return HttpResponse(answer, content_type="application/json")


async def show_status(_: HttpRequest, number: str) -> JsonResponse:
    """Return the status of the order, as far as the platform has reported it."""
    row = db.execute("SELECT status FROM orders WHERE number = ?", [number]).fetchone()
    return JsonResponse({"number": number, "status": row[0] if row else "pending"})


urlpatterns = [path("notify", notify), path("orders/<str:number>", show_status)]
django = get_asgi_application()


async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
    """Serve Django, and open the gateway for as long: Django does not hear of the lifespan."""
    if scope["type"] != "lifespan":
        await django(scope, receive, send)
        return
    await receive()  # the server starts
    async with wx.PayGateway.from_env() as gateway:
        receivers[:] = [wx.CallbackReceiver(gateway, notifications, on_trade=update_order)]
        await send({"type": "lifespan.startup.complete"})
        await receive()  # the server ends
        await receivers[0].aclose()
    await send({"type": "lifespan.shutdown.complete"})
