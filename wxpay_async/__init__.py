"""Take WeChat mini-program payments through an aggregating acquirer, asynchronously and safely.

    async with PayGateway("app-key", RsaSigner.from_file("merchant.pem")) as gateway:
        result = await gateway.pay(MiniProgramPay(...))
        result.jsapi_params()  # for wx.requestPayment

Every call is safe to repeat with the same `request_id`, and every error says in its `fate` whether
the request was not sent, refused, or may have been executed.
"""

import importlib
import logging
from typing import TYPE_CHECKING

from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    ClockSkewError,
    DuplicateRequestError,
    FailedError,
    Fate,
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
from wxpay_async.policy.retry import RetryBudget, RetryPolicy
from wxpay_async.protocol.builder import RequestBuilder
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.identity import derive_request_id
from wxpay_async.protocol.notify import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    Notifications,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    Royalty,
    TerminalInfo,
    TradeItem,
)
from wxpay_async.protocol.results import (
    Merchant,
    PayResult,
    RefundResult,
    TradeRef,
    TradeResult,
    TradeState,
    TradeStatus,
)
from wxpay_async.protocol.signing import (
    Md5Signer,
    Md5Verifier,
    RsaSigner,
    RsaVerifier,
    Signer,
    Verifier,
)
from wxpay_async.protocol.wire import (
    PRODUCTION,
    TEST,
    HttpRequest,
    HttpResponse,
    Timeouts,
    Transport,
)
from wxpay_async.telemetry import Event, EventKind, Hook, logging_hook

if TYPE_CHECKING:
    from wxpay_async.callbacks import CallbackEvent, CallbackReceiver, Verdict
    from wxpay_async.gateway import PayGateway
    from wxpay_async.idempotency.store import IdempotencyStore, MemoryStore
    from wxpay_async.limits.limiter import Limiter, Quota, Unlimited
    from wxpay_async.limits.local import LocalLimiter
    from wxpay_async.process_signer import ProcessSigner
    from wxpay_async.stream import Outcome
    from wxpay_async.transports.memory import MemoryTransport
    from wxpay_async.transports.retrying import RetryingTransport

__all__ = [
    "ACK_HANDLED",
    "ACK_NOT_HANDLED",
    "PRODUCTION",
    "TEST",
    "AccessDeniedError",
    "AlreadyPaidError",
    "CallbackEvent",
    "CallbackReceiver",
    "ClockSkewError",
    "DuplicateRequestError",
    "Event",
    "EventKind",
    "FailedError",
    "Fate",
    "Hook",
    "HttpRequest",
    "HttpResponse",
    "IdempotencyConflictError",
    "IdempotencyStore",
    "InDoubtError",
    "InProgressError",
    "InstantTrade",
    "InvalidKeyError",
    "InvalidRequestError",
    "Limiter",
    "LocalLimiter",
    "MalformedResponseError",
    "Md5Signer",
    "Md5Verifier",
    "MemoryStore",
    "MemoryTransport",
    "Merchant",
    "MiniProgramPay",
    "NotExecutedError",
    "NotPaidError",
    "NotSentError",
    "NotificationError",
    "Notifications",
    "Outcome",
    "PayGateway",
    "PayMethod",
    "PayResult",
    "PrepayExpiredError",
    "ProcessSigner",
    "Quota",
    "RateLimitedError",
    "Refund",
    "RefundNotification",
    "RefundResult",
    "RefusedError",
    "RequestBuilder",
    "RetryBudget",
    "RetryPolicy",
    "RetryingTransport",
    "Royalty",
    "RsaSigner",
    "RsaVerifier",
    "SignatureRefusedError",
    "Signer",
    "TerminalInfo",
    "Timeouts",
    "TradeItem",
    "TradeNotification",
    "TradeRef",
    "TradeResult",
    "TradeState",
    "TradeStatus",
    "Transport",
    "Unlimited",
    "Verdict",
    "Verifier",
    "WxPayError",
    "canonical_string",
    "derive_request_id",
    "logging_hook",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())

if not TYPE_CHECKING:
    # What runs in an event loop is imported when it is asked for: asyncio alone takes as long to
    # import as all of the above, and who only signs or verifies need not wait for it.
    _RUNNING = {
        "CallbackEvent": "callbacks",
        "CallbackReceiver": "callbacks",
        "IdempotencyStore": "idempotency.store",
        "Limiter": "limits.limiter",
        "LocalLimiter": "limits.local",
        "MemoryStore": "idempotency.store",
        "MemoryTransport": "transports.memory",
        "Outcome": "stream",
        "PayGateway": "gateway",
        "ProcessSigner": "process_signer",
        "Quota": "limits.limiter",
        "RetryingTransport": "transports.retrying",
        "Unlimited": "limits.limiter",
        "Verdict": "callbacks",
    }

    def __getattr__(name: str) -> object:
        if name not in _RUNNING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_RUNNING[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return [*globals(), *_RUNNING]
