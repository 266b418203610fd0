"""What the platform posts to a shop, whatever framework the shop is made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from attrs import define, field

from wxpay_async import MemoryTransport, PayGateway, RsaSigner, RsaVerifier, Unlimited
from wxpay_async.engine.callbacks import CallbackEvent
from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    ClockSkewError,
    DuplicateRequestError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    InvalidKeyError,
    InvalidRequestError,
    MalformedResponseError,
    NotExecutedError,
    NotificationError,
    NotPaidError,
    NotSentError,
    PrepayExpiredError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.protocol.notify import Notifications, RefundNotification, TradeNotification
from wxpay_async.protocol.wire import HttpRequest

KEYS = Path(__file__).parents[1] / "vectors" / "keys"
APP_KEY = "gmd930ea5d5a258f4f"
NOW = 1_763_870_400.0
CANARY = "canary-5a1e"

PAYERS_VIEW: dict[type[WxPayError], tuple[int, str]] = {
    AccessDeniedError: (502, "refused"),
    AlreadyPaidError: (409, "already_paid"),
    ClockSkewError: (503, "unavailable"),
    DuplicateRequestError: (504, "in_doubt"),
    FailedError: (409, "failed"),
    IdempotencyConflictError: (409, "conflict"),
    InDoubtError: (504, "in_doubt"),
    InProgressError: (409, "in_progress"),
    InvalidKeyError: (500, "internal"),
    InvalidRequestError: (400, "invalid"),
    MalformedResponseError: (504, "in_doubt"),
    NotExecutedError: (409, "not_executed"),
    NotPaidError: (409, "not_paid"),
    NotSentError: (503, "unavailable"),
    NotificationError: (400, "invalid"),
    PrepayExpiredError: (409, "expired"),
    RateLimitedError: (503, "unavailable"),
    RefusedError: (502, "refused"),
    SignatureRefusedError: (502, "refused"),
    WxPayError: (500, "internal"),
}


def telling_error(kind: type[WxPayError]) -> WxPayError:
    """Make an error that says too much wherever it can."""
    error = kind(f"{CANARY}-reason")
    error.code, error.message, error.request_id = f"{CANARY}-code", f"{CANARY}-text", CANARY
    return error


@define(eq=False)
class Shop:
    """The merchant's side of an app under test.

    Attributes:
        gateway: over memory; every query answers that the order is paid.
        notifications: by RSA, at a time that stands still.
        trades: what the handler of trades got.
        refunds: what the handler of refunds got.
        events: what the hook heard.
    """

    gateway: PayGateway
    notifications: Notifications
    trades: list[TradeNotification] = field(factory=list)
    refunds: list[RefundNotification] = field(factory=list)
    events: list[CallbackEvent] = field(factory=list)

    async def on_trade(self, notification: TradeNotification) -> None:
        """Take note."""
        self.trades.append(notification)

    async def on_refund(self, notification: RefundNotification) -> None:
        """Take note."""
        self.refunds.append(notification)


def signed(fields: dict[str, str]) -> bytes:
    """Sign as the platform does."""
    signer = RsaSigner.from_pem((KEYS / "pkcs8.pem").read_bytes())
    full = {
        "appKey": APP_KEY,
        "nonce": "n",
        "timestamp": str(round(NOW * 1000)),
        "signType": "RSA",
        **fields,
    }
    message = "&".join(f"{name}={full[name]}" for name in sorted(full))
    return urlencode({**full, "sign": signer.sign(message.encode())}).encode()


TRADE = {
    "out_trade_no": "O-1",
    "inner_trade_no": "T-1",
    "trade_status": "TRADE_SUCCESS",
    "trade_amount": "1.00",
}
REFUND = {
    "orig_outer_trade_no": "O-1",
    "out_trade_no": "R-1",
    "inner_trade_no": "T-2",
    "refund_status": "REFUND_SUCCESS",
    "refund_amount": "1.00",
}


@pytest.fixture
def trade_body() -> bytes:
    """Return an authentic callback of a trade."""
    return signed(TRADE)


@pytest.fixture
def refund_body() -> bytes:
    """Return an authentic callback of a refund."""
    return signed(REFUND)


@pytest.fixture
def shop() -> Shop:
    """Return what an app under test is built from."""

    def answer(request: HttpRequest) -> dict[str, object]:
        assert request.url.endswith("/api/instant/query")
        return {"success": True, "data": {"outTradeNo": "O-1", "status": "支付成功"}}

    signer = RsaSigner.from_pem((KEYS / "pkcs8.pem").read_bytes())
    gateway = PayGateway(APP_KEY, signer, transport=MemoryTransport(answer), limiter=Unlimited())
    verifier = RsaVerifier.from_pem((KEYS / "public.pem").read_bytes())
    return Shop(gateway, Notifications(verifier, app_key=APP_KEY, clock=lambda: NOW))


@pytest.fixture(params=PAYERS_VIEW, ids=lambda kind: kind.__name__)
def told(request: pytest.FixtureRequest) -> tuple[WxPayError, int, bytes]:
    """Return an error, and the status and the body that a payer gets for it."""
    status, word = PAYERS_VIEW[request.param]
    return telling_error(request.param), status, json.dumps({"error": word}).encode()


@pytest.fixture
def endless() -> Callable[[], object]:
    """Return what makes a body of a megabyte that counts what was taken of it."""
    return Endless


@define(eq=False)
class Endless:
    """A body that is longer than anybody should read."""

    taken: int = 0

    def __aiter__(self) -> Endless:
        """Start."""
        return self

    async def __anext__(self) -> bytes:
        """Return another 4 KB, up to a megabyte."""
        if self.taken >= 1 << 20:
            raise StopAsyncIteration
        self.taken += 4096
        return b"x" * 4096
