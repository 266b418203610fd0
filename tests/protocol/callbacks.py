"""A trade's and a refund's callback, and the endpoint that reads them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clock import NOON
from tests.support.platform import APP_KEY, FORM, VERIFIER, encode_callback, sign_callback
from wxpay_async.errors import NotificationError
from wxpay_async.protocol.notify import Notification, Notifications
from wxpay_async.protocol.signing import Verifier

JSON = {"content-type": "application/json; charset=UTF-8"}

TRADE = {
    "out_trade_no": "201910170001",
    "inner_trade_no": "2019101700000001",
    "trade_status": "TRADE_SUCCESS",
    "trade_amount": "33.69",
    "gmt_payment": "2019-10-17 12:30:00",
    "memo": "商品的标题 + 1/3",
}
REFUND = {
    "orig_outer_trade_no": "201910170001",
    "out_trade_no": "R-201910170001",
    "inner_trade_no": "2019101800000002",
    "refund_status": "REFUND_SUCCESS",
    "refund_amount": "3.69",
    "gmt_refund": "2019-10-18 12:30:00",
}


def make_endpoint(verifier: Verifier | None = VERIFIER, **changes: bool) -> Notifications:
    """Configure an endpoint, by default for RSA."""
    return Notifications(verifier, app_key=APP_KEY, clock=lambda: NOON, **changes)


def get_refusal(
    body: bytes, headers: dict[str, str] = FORM, verifier: Verifier | None = VERIFIER
) -> str:
    """Return the reason of a refusal; the body must be refused."""
    with pytest.raises(NotificationError) as caught:
        make_endpoint(verifier).parse(headers, body)
    assert caught.value.__cause__ is None
    return caught.value.reason


def parse_signed(fields: dict[str, str], **signing: Any) -> Notification:  # noqa: ANN401 - of `sign_callback`
    """Sign the fields of a callback, and read it."""
    return make_endpoint().parse(FORM, encode_callback(sign_callback(fields, **signing)))


def refuse_signed(fields: dict[str, str], **signing: Any) -> str:  # noqa: ANN401 - of `sign_callback`
    """Sign the fields of a callback that must be refused, and return the reason."""
    return get_refusal(encode_callback(sign_callback(fields, **signing)))
