"""A shop with FastAPI: create an order, pay it, take the callback, show its status.

    uvicorn --app-dir examples fastapi_shop:app

The environment configures the gateway (see `PayGateway.from_env`). The platform signs its callbacks
by RSA here: `WXPAY_PLATFORM_KEY_FILE` holds its public key.
"""

import os
import sqlite3
import uuid
from decimal import Decimal

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

import wxpay_async as wx
from wxpay_async.integrations.fastapi import (
    GatewayDependency,
    gateway_lifespan,
    notification_router,
    register_error_handlers,
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
        raise HTTPException(404)
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


verifier = wx.RsaVerifier.from_file(os.environ["WXPAY_PLATFORM_KEY_FILE"])
app_key = os.environ["WXPAY_APP_KEY"]
notifications = wx.Notifications(verifier, app_key=app_key, allow_unsigned=False)
app = FastAPI(lifespan=gateway_lifespan(make_gateway))
app.include_router(notification_router("/notify", notifications, on_trade=update_order))
register_error_handlers(app)


class Purchase(BaseModel):
    """The order of a payer. A real server gets the openid from the code of `wx.login`."""

    item: str
    openid: str


@app.post("/orders")
async def create_order(body: Purchase, request: Request) -> dict[str, str]:
    """Save the order. Nothing is sent yet."""
    if body.item not in PRICES:
        raise HTTPException(404)
    number, amount = uuid.uuid4().hex, str(PRICES[body.item])
    order = [number, body.item, amount, body.openid, request.client.host if request.client else ""]
    db.execute("INSERT INTO orders (number, item, amount, openid, ip) VALUES (?,?,?,?,?)", order)
    return {"number": number, "amount": amount}


@app.post("/orders/{number}/pay")
async def pay_order(number: str, gateway: GatewayDependency) -> dict[str, str]:
    """Return what `wx.requestPayment` takes, at every tap: an order has one live payment."""
    order = find_order(number)
    amount, openid = Decimal(order["amount"]), order["openid"]
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
    return prepay.jsapi_params()


@app.get("/orders/{number}")
async def show_status(number: str) -> dict[str, str]:
    """Return the status of the order, as far as the platform has reported it."""
    row = find_order(number)
    return {name: row[name] for name in ("number", "amount", "status")}
