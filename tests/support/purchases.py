"""Buy at a sandbox with the parts of the plugin."""

from __future__ import annotations

from Crypto.PublicKey import RSA

from tests.support import asking
from tests.support.vectors import PRIVATE_KEY
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.protocol.requests import InstantTrade

KEY = RSA.import_key(PRIVATE_KEY.read_bytes())
"""The platform's key: making one takes seconds."""


def make_trade(number: str = "O-1") -> InstantTrade:
    """Make a trade of one order, which closes after half an hour."""
    items = [asking.item(number)]
    return asking.trade(f"trade-{number}", trade_info=items, timeout_express="30m")


async def buy(gateway: PayGateway, number: str = "O-1") -> None:
    """Create an order that can be paid."""
    trade = await gateway.trade(make_trade(number))
    assert trade.pay_token is not None
    await gateway.pay(asking.pay(f"pay-{number}", pay_token=trade.pay_token, out_trade_no=number))
