"""A shop with aiohttp: create an order, pay it, take the callback, show its status.

    python examples/aiohttp_shop.py

The environment configures the gateway (see `PayGateway.from_env`). The platform signs its callbacks
by MD5 here, with `WXPAY_APP_SECRET`; each is confirmed by a query before it counts.
"""

import os
import sqlite3
import uuid
from decimal import Decimal

from aiohttp import web

import wxpay_async as wx
from wxpay_async.integrations.aiohttp import (
    error_middleware,
    gateway_context,
    get_gateway,
    notification_route,
)

APP_ID = os.environ.get("SHOP_APP_ID", "wx9236b1e84ffbf10a")
PRICES = {"tea": Decimal("12.50"), "cup": Decimal("33.69")}  # never a price from the phone

# A real shop has its own database and driver; single statements on a local file block briefly.
db = sqlite3.connect(os.environ.get("SHOP_DB", "shop.db"), isolation_level=None, timeout=10)
db.execute(
    "CREATE TABLE IF NOT EXISTS orders (number PRIMARY KEY, item, amount, openid, ip, "
    "status DEFAULT 'pending', history DEFAULT '', latest)"
)
db.row_factory = sqlite3.Row


def find_order(number: str) -> sqlite3.Row:
    """Return an order, or raise 404."""
    found = db.execute("SELECT * FROM orders WHERE number = ?", [number])
    row: sqlite3.Row | None = found.fetchone()
    if row is None:
        raise web.HTTPNotFound
    return row


async def update_order(notification: wx.TradeNotification) -> None:
    """Write down the status that the platform reports, if the amount is the order's."""
    number, status = notification.out_trade_no, str(notification.state)
    order = find_order(number.partition("-")[0])
    if Decimal(order["amount"]) != notification.trade_amount:
        raise ValueError("another amount than the order's")
    # Conditional: nothing happens twice after a crash, or to an order that `reorder` has replaced.
    db.execute(
        "UPDATE orders SET status = ?1, history = history || ?1 || ' ' WHERE number = ?2 "
        "AND coalesce(latest, number) = ?3 AND status NOT IN ('paid', ?1)",
        [status, order["number"], number],
    )


def reorder(ended: str) -> str:
    """Return the number of the order that follows one that ended unpaid: N, N-2, N-3."""
    own, _, count = ended.partition("-")
    latest = f"{own}-{int(count or 1) + 1}"
    db.execute("UPDATE orders SET latest = ?, status = 'pending' WHERE number = ?", [latest, own])
    return latest


def make_gateway() -> wx.PayGateway:
    """Make the gateway; a load test against a sandbox needs no quota."""
    unlimited = os.environ.get("SHOP_QUOTA") == "off"
    return wx.PayGateway.from_env(limiter=wx.Unlimited() if unlimited else None)


async def create_order(request: web.Request) -> web.Response:
    """Save the order. A real server gets the openid from the code of `wx.login`."""
    try:
        purchase = await request.json()
        item, openid = str(purchase["item"]), str(purchase["openid"])
    except (ValueError, TypeError, KeyError):
        raise web.HTTPBadRequest from None
    if item not in PRICES:
        raise web.HTTPNotFound
    number, amount = uuid.uuid4().hex, str(PRICES[item])
    order = [number, item, amount, openid, request.remote]
    db.execute("INSERT INTO orders (number, item, amount, openid, ip) VALUES (?,?,?,?,?)", order)
    return web.json_response({"number": number, "amount": amount})


async def pay_order(request: web.Request) -> web.Response:
    """Return what `wx.requestPayment` takes, at every tap: an order has one live payment."""
    gateway, order = get_gateway(request), find_order(request.match_info["number"])
    number, amount, openid = order["number"], Decimal(order["amount"]), order["openid"]
    item = wx.TradeItem(
        out_trade_no=number,
        subject=order["item"],
        price=amount,
        quantity=1,
        total_amount=amount,
        payee_identity=os.environ.get("SHOP_SELLER", "1000"),
    )
    method = wx.PayMethod(pay_product_code="67", amount=amount, app_id=APP_ID, open_id=openid)
    trade = wx.InstantTrade(
        request_id=wx.derive_request_id(gateway.app_key, "trade", number),
        trade_info=[item],
        payer_ip=order["ip"],
        pay_method=method,
        timeout_express="30m",
    )
    prepay = await gateway.checkout(trade, openid=openid, app_id=APP_ID, reorder=reorder)
    return web.json_response(prepay.jsapi_params())


async def show_status(request: web.Request) -> web.Response:
    """Return the status of the order, as far as the platform has reported it."""
    order = find_order(request.match_info["number"])
    return web.json_response({name: order[name] for name in ("number", "amount", "status")})


if __name__ == "__main__":
    secret, app_key = os.environ["WXPAY_APP_SECRET"], os.environ["WXPAY_APP_KEY"]
    notifications = wx.Notifications(wx.Md5Verifier(secret), app_key=app_key, allow_unsigned=False)
    app = web.Application(middlewares=[error_middleware])
    app.cleanup_ctx.append(gateway_context(make_gateway))
    app.add_routes([notification_route("/notify", notifications, on_trade=update_order)])
    app.add_routes([web.post("/orders", create_order), web.post("/orders/{number}/pay", pay_order)])
    app.add_routes([web.get("/orders/{number}", show_status)])
    host = os.environ.get("HOST", "127.0.0.1")
    web.run_app(app, host=host, port=int(os.environ.get("PORT", "8000")))
