"""The purchases of a run. They follow from the seed: a merchant that restarts makes the same."""

from __future__ import annotations

import random
from decimal import Decimal

from attrs import frozen

from wxpay_async import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    TradeItem,
    derive_request_id,
)

_OPENID = "openid-of-a-payer"
_APP_ID = "wx9236b1e84ffbf10a"


@frozen(kw_only=True)
class Job:
    """One purchase, and what is given back of it.

    Attributes:
        app_key: whose it is.
        index: its place in the list.
        number: its outTradeNo.
        amount: yuan.
        refunded: yuan to give back in the end, None for nothing.
    """

    app_key: str
    index: int
    number: str
    amount: Decimal
    refunded: Decimal | None

    @property
    def refund_number(self) -> str:
        """The refund's own outTradeNo."""
        return f"{self.number}-R"

    @property
    def request_ids(self) -> dict[str, str]:
        """What may be sent for it, by operation; a payment may be issued once more."""
        ids = {name: self._id(name) for name in ("trade", "pay")}
        ids["reissue"] = derive_request_id(self.app_key, "pay", ids["pay"], generation=1)
        return ids | ({"refund": self._id("refund")} if self.refunded else {})

    def _id(self, operation: str, again: int = 0) -> str:
        return derive_request_id(self.app_key, operation, self.number, again)

    def trade(self, again: int = 0) -> InstantTrade:
        """Return the order; `again` above 0 is the mistake of making another one after a doubt."""
        item = TradeItem(
            out_trade_no=_numbered(self.number, again),
            subject="chaos",
            price=self.amount,
            quantity=1,
            total_amount=self.amount,
            payee_identity="1000",
        )
        return InstantTrade(
            request_id=self._id("trade", again),
            trade_info=[item],
            payer_ip="127.0.0.1",
            pay_method=PayMethod(pay_product_code="65", amount=self.amount),
        )

    def pay(self, token: str) -> MiniProgramPay:
        """Return the payment of the order that the token belongs to."""
        return MiniProgramPay(
            request_id=self._id("pay"),
            pay_token=token,
            terminal_payer_id=_OPENID,
            app_id=_APP_ID,
            out_trade_no=self.number,
        )

    def refund(self, again: int = 0) -> Refund:
        """Return the refund; `again` as for the trade."""
        return Refund(
            request_id=self._id("refund", again),
            out_trade_no=_numbered(self.refund_number, again),
            orig_out_trade_no=self.number,
            refund_amount=self.refunded or Decimal("0.01"),
        )


def _numbered(number: str, again: int) -> str:
    return f"{number}.{again}" if again else number


def jobs(app_key: str, seed: int, count: int) -> list[Job]:
    """Make up purchases; half of them are given back in part."""
    dice = random.Random(f"jobs {seed}")
    return [_job(app_key, index, dice) for index in range(count)]


def _job(app_key: str, index: int, dice: random.Random) -> Job:
    cents = dice.randint(100, 100_000)
    back = dice.randint(1, cents // 3) if dice.random() < 0.5 else None
    return Job(
        app_key=app_key,
        index=index,
        number=f"order-{index:06d}",
        amount=Decimal(cents) / 100,
        refunded=None if back is None else Decimal(back) / 100,
    )
