"""What the examples of the documents take for given: names that the text around them tells of."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI

import wxpay_async as wx
from wxpay_async import CallbackReceiver, Notifications, PayGateway, ReviewVerdict
from wxpay_async.sandbox import Sandbox

app: FastAPI
app_key: str
sandbox: Sandbox
body: bytes
connection: Any
context: Any
gateway: PayGateway
gateways: dict[str, PayGateway]
log: logging.Logger
merchants: dict[str, str]
notifications: Notifications
old: Any
new: Any
outcome: Any
pending_numbers: list[str]
raw_body: bytes
receiver: CallbackReceiver
request: Any
request_id: str
seal_key: bytes
secret: str
service: Any
signer: Any
target_metadata: Any
verdict: ReviewVerdict
KmsSigner: Any
mark_paid: Callable[[str], Awaitable[None]]
paid: Callable[[wx.TradeNotification], Awaitable[None]]
ship: Callable[[wx.TradeNotification], Awaitable[None]]
yours: Callable[..., bool]
