"""What the examples of the documents take for given: names that the text around them tells of."""

import logging
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


def yours(*asked: object) -> bool:
    """Stand for a filter of the reader's."""
    raise NotImplementedError


async def mark_paid(number: str) -> None:
    """Stand for the shop's own."""
    raise NotImplementedError


async def paid(notification: wx.TradeNotification) -> None:
    """Stand for a handler."""
    raise NotImplementedError


async def ship(notification: wx.TradeNotification) -> None:
    """Stand for a handler."""
    raise NotImplementedError
