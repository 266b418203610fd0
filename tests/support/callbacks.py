"""The merchant's side of callbacks: what arrives, a receiver, and a handler that keeps count."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field

from tests.support.platform import (
    APP_KEY,
    FORM,
    SECRET,
    SIGNER,
    VERIFIER,
    encode_callback,
    sign_callback,
)
from wxpay_async.engine.callbacks import CallbackEvent, CallbackReceiver, Verdict
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InDoubtError
from wxpay_async.policy.states import State
from wxpay_async.protocol.notify import Notification, Notifications
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier

BUSY = {"success": False, "errorCode": "GM_API_BUS_000500", "errorMsg": "系统繁忙"}
NOT_FOUND = {"success": False, "errorCode": "GM_API_BUS_000099", "errorMsg": "订单不存在"}

Json = dict[str, Any]


def paid(number: str = "O-1", **changes: str) -> dict[str, str]:
    """Make the fields of a trade's callback."""
    return {
        "out_trade_no": number,
        "inner_trade_no": f"T-{number}",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "1.00",
        **changes,
    }


def refunded(**changes: str) -> dict[str, str]:
    """Make the fields of a refund's callback."""
    return {
        "orig_outer_trade_no": "O-1",
        "out_trade_no": "R-1",
        "inner_trade_no": "T-9",
        "refund_status": "REFUND_SUCCESS",
        "refund_amount": "0.40",
        **changes,
    }


def order(status: str = "支付成功", number: str = "O-1", amount: str | None = "1.00") -> Json:
    """Make the reply to a query, by default of an order that is paid."""
    data = {"outTradeNo": number, "status": status, "totalAmount": amount}
    return {"success": True, "data": data}


@define(eq=False)
class Merchant:
    """A receiver with a handler that records its calls, and the platform that signs.

    Attributes:
        effects: how often the handler ran to its end, by order and state.
        seen: the notifications that the handler got.
        events: the events of the hook.
        failing: how many more times the handler raises.
        gate: an event that the handler waits for.
        entered: set when the handler has begun.
    """

    gateway: PayGateway
    clock: Clock
    scheme: str = "rsa"
    effects: Counter[tuple[str, TradeState]] = field(factory=Counter)
    seen: list[Notification] = field(factory=list)
    events: list[CallbackEvent] = field(factory=list)
    failing: int = 0
    gate: asyncio.Event | None = None
    entered: asyncio.Event = field(factory=asyncio.Event)
    receiver: CallbackReceiver = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.receiver = self.another()

    def another(self, **changes: Any) -> CallbackReceiver:  # noqa: ANN401 - the receiver's
        """Make another receiver on the same gateway."""
        given = {
            "on_trade": self.handle,
            "on_refund": self.handle,
            "hooks": [self.events.append],
            "clock": self.clock,
        }
        verifier = VERIFIER if self.scheme == "rsa" else Md5Verifier(SECRET)
        notifications = Notifications(verifier, app_key=APP_KEY, clock=self.clock.time)
        return CallbackReceiver(self.gateway, notifications, **(given | changes))

    async def handle(self, notification: Notification) -> None:
        """Have an effect, unless it shall fail this time."""
        self.seen.append(notification)
        self.entered.set()
        await (self.gate.wait() if self.gate else asyncio.sleep(0))
        if self.failing:
            self.failing -= 1
            raise LookupError("the shop's database is away")
        self.effects[notification.out_trade_no, notification.state] += 1

    def body(self, fields: dict[str, str], *, age: float = 0) -> bytes:
        """Sign a callback by the merchant's scheme, or not at all."""
        if self.scheme == "none":
            return encode_callback(fields)
        signer = SIGNER if self.scheme == "rsa" else Md5Signer(SECRET)
        return encode_callback(sign_callback(fields, signer=signer, at=self.clock.time() - age))

    async def deliver(self, fields: dict[str, str], *, age: float = 0) -> bytes:
        """Deliver once."""
        return await self.receiver.receive(FORM, self.body(fields, age=age))

    async def attempt(self, call: Awaitable[object]) -> None:
        """Make a call that may stay in doubt."""
        with contextlib.suppress(InDoubtError):
            await call

    async def state(self, request_id: str) -> State:
        """Return where an operation stands."""
        record = await self.gateway.store.load((APP_KEY, request_id))
        assert record is not None
        return record.state

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdict of each delivery."""
        return [event.verdict for event in self.events]


OpenMerchant = Callable[..., Merchant]
