"""Issue prepays: the credentials with which a payer confirms on the phone. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

from wxpay_async.sandbox.responses import Reply
from wxpay_async.sandbox.state import Prepay, Purchase

PREPAY_LIFE: Final = 1200
"""Seconds for which a prepay is valid (the mini-program pay page)."""

PLATFORM_APP_ID: Final = "wx5a4db0c0de000001"
"""The mini program of a prepay if its request names none."""


@define(kw_only=True, eq=False)
class PrepayIssuer:
    """Issue signed prepays.

    Attributes:
        now: seconds since the epoch.
        token: returns unguessable text.
        sign: signs the four lines of the mini-program pay page, in Base64.
        issued: all prepays, by prepayId.
    """

    now: Callable[[], float] = field(repr=False)
    token: Callable[[], str] = field(repr=False)
    sign: Callable[[bytes], str] = field(repr=False)
    issued: dict[str, Prepay] = field(repr=False)

    def issue(self, purchase: Purchase, app_id: str) -> Reply:
        """Add a prepay to a purchase, and return the fields of a reply about it.

        Args:
            purchase: what it pays.
            app_id: the mini program that it is for; the platform's own when empty.
        """
        prepay_id, app_id = f"wx{self.token()}", app_id or PLATFORM_APP_ID
        seconds, nonce, package = str(int(self.now())), self.token(), f"prepay_id={prepay_id}"
        sign = self.sign(f"{app_id}\n{seconds}\n{nonce}\n{package}\n".encode())
        signed = {"appId": app_id, "timeStamp": seconds, "nonceStr": nonce}
        method = {"signType": "RSA", "paySign": sign}
        prepay = self.issued[prepay_id] = Prepay(
            prepay_id=prepay_id,
            app_id=app_id,
            expires_at=self.now() + PREPAY_LIFE,
            app_key=purchase.app_key,
            out_trade_no=purchase.trades[0].out_trade_no,
            jsapi={**signed, "package": package, **method},
        )
        purchase.prepays.append(prepay)
        return {**signed, "prepayId": prepay_id, "extPackage": package, **method}
