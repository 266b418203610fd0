"""A platform whose prepays can be told apart, and a person who taps "pay"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.support import asking, replies
from tests.support.merchant import Shop
from tests.support.replies import Json
from wxpay_async.errors import InDoubtError, NotSentError, WxPayError
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.wire import HttpRequest

LIFE = 20 * 60.0
APP = "wx9236b1e84ffbf10a"


class PrepayPlatform:
    """Creates orders and prepays; each prepay has a number of its own.

    Attributes:
        lost: how many of the next answers to `pay` get lost, after the prepay was made.
        status: what a query says.
        refusal: what `pay` is told in place of a prepay.
        unreachable: whether no connection to `pay` comes about.
        issued: the requestIds of the prepays that were made.
    """

    def __init__(self) -> None:
        self.lost, self.status, self.refusal = 0, "待付款", None
        self.unreachable = False
        self.issued: list[str] = []
        self._numbers: Iterator[int] = count(1)

    def __call__(self, request: HttpRequest) -> Json | WxPayError:
        """Answer one request."""
        if request.url.endswith("query"):
            return replies.order(self.status)
        return replies.created() if request.url.endswith("trade") else self._pay(request)

    def _pay(self, request: HttpRequest) -> Json | WxPayError:
        if self.unreachable:
            return NotSentError("refused")
        if self.refusal is not None:
            return self.refusal
        request_id = read_request_id(request)
        if request_id in self.issued:
            return replies.no("GM_API_BUS_0000015", "requestId重复")
        self.issued.append(request_id)
        if self.lost:
            self.lost -= 1
            return InDoubtError("reset")
        number = f"wx{next(self._numbers)}"
        changes = {"requestId": request_id, "prepayId": number, "extPackage": f"prepay_id={number}"}
        return replies.prepay(**changes)


def read_request_id(request: HttpRequest) -> str:
    """Return the requestId of a payment that went out."""
    content: dict[str, str] = json.loads(parse_qs(request.body.decode())["bizContent"][0])
    return content["requestId"]


async def tap(shop: Shop, openid: str = "openid-1", **changes: Any) -> str:  # noqa: ANN401 - checkout's
    """Tap "pay"; return the prepayId."""
    result = await shop.gateway.checkout(asking.trade(), openid=openid, app_id=APP, **changes)
    return result.prepay_id


def first_id(shop: Shop) -> str:
    """Return the requestId of the order's first payment."""
    return derive_request_id(shop.gateway.app_key, "pay", "trade-1")


def make_first_pay(shop: Shop, openid: str = "openid-1") -> MiniProgramPay:
    """Make the order's first payment as checkout makes it."""
    payer = {"terminal_payer_id": openid, "app_id": APP}
    return asking.pay(first_id(shop), **payer, out_trade_no="O-1")


async def outlive_prepay(shop: Shop) -> None:
    """Tap "pay", and do not pay for as long as the credential lives."""
    await tap(shop)
    shop.clock.move(LIFE)


async def lose_prepay(shop: Shop, platform: PrepayPlatform) -> MiniProgramPay:
    """Make a payment whose answer gets lost."""
    platform.lost = 1
    request = asking.pay(out_trade_no="O-1")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)
    return request
