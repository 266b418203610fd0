"""Make replies as bytes, and read them as the client does."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.support.vectors import SEED_REPLY
from wxpay_async.errors import WxPayError
from wxpay_async.protocol import codec
from wxpay_async.protocol.results import PayResult
from wxpay_async.protocol.wire import PRODUCTION, HttpResponse

SEED: Final = SEED_REPLY.read_bytes()
"""The reply to a payment that the platform's page shows."""
PAID: Final[dict[str, Any]] = json.loads(SEED)["data"]
URL: Final = PRODUCTION + "/api/instant/pay/wxminiprogram"


def make_reply(body: object, status: int = 200, **headers: str) -> HttpResponse:
    """Make a reply; what is not bytes becomes JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, raw, headers)


def make_success(**data: object) -> HttpResponse:
    """Make a success with the sample's data, with changes."""
    return make_reply({"success": True, "data": {**PAID, **data}})


def make_failure(code: object, *, message: object = "出错了", status: int = 200) -> HttpResponse:
    """Make a failure envelope."""
    body = {"success": False, "errorCode": code, "errorMsg": message, "data": None}
    return make_reply(body, status)


def read_reply(response: HttpResponse, into: type = PayResult, *, moves_money: bool = False) -> Any:  # noqa: ANN401 - any of the results
    """Read a reply of the production host."""
    return codec.decode(response, into, url=URL, moves_money=moves_money)


def get_error(response: HttpResponse, into: type = PayResult, *, moves_money: bool) -> WxPayError:
    """Return what reading a reply raises."""
    with pytest.raises(WxPayError) as caught:
        read_reply(response, into, moves_money=moves_money)
    return caught.value
