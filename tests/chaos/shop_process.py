"""The FastAPI shop of the examples on the clock of `timepiece.py`; `shop.py` starts it by uvicorn.

`SHOP_BREAK` names a mistake to make in it.
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import wxpay_async as wx
from tests.chaos.timepiece import MerchantClock, Timepiece
from wxpay_async.engine import doubts, reissue
from wxpay_async.engine.checkout import Checkout
from wxpay_async.errors import NotPaidError, WxPayError


def _forget_next_ids() -> None:
    reissue.next_request_id = doubts.next_request_id = lambda *_: uuid.uuid4().hex


def _reorder_at_once() -> None:
    async def explain(checkout: Checkout) -> WxPayError:
        return NotPaidError(f"order {checkout.trade.request_id} cannot be paid any more")

    Checkout._explain_lost_token = explain


BREAKS: Final[Mapping[str, Callable[[], None]]] = {
    "random-next-id": _forget_next_ids,
    "reorder-at-once": _reorder_at_once,
}
"""name -> what makes the mistake."""


def _prepare() -> None:
    clock = MerchantClock(Timepiece(Path(os.environ["SHOP_TIME"])), 0)
    wx.Notifications = functools.partial(wx.Notifications, clock=clock.time)
    wx.PayGateway.from_env = functools.partial(
        wx.PayGateway.from_env,
        clock=clock,
        retry=wx.RetryPolicy(base=0.01, cap=0.05, min_left=0.05),
        timeouts=wx.Timeouts(connect=1.0, read=1.0, attempt=2.0, call=6.0),
    )
    BREAKS.get(os.environ.get("SHOP_BREAK", ""), lambda: None)()


def __getattr__(name: str) -> object:
    """Make the app when uvicorn asks for it; `shop.py` asks for the names of the mistakes only."""
    if name != "app":
        raise AttributeError(name)
    _prepare()
    import fastapi_shop  # noqa: PLC0415 - it reads its settings when it is imported

    return fastapi_shop.app
