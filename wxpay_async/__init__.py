"""Take WeChat mini-program payments through an aggregating acquirer, asynchronously and safely.

    async with PayGateway("app-key", RsaSigner.from_file("merchant.pem")) as gateway:
        result = await gateway.pay(MiniProgramPay(...))
        result.jsapi_params()  # for wx.requestPayment

Every call is safe to repeat with the same `request_id`, and every error says in its `fate` whether
the request was not sent, refused, or may have been executed.
"""

import logging

from wxpay_async.errors import (
    AccessDeniedError,
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
    NotificationError,
    NotPaidError,
    NotSentError,
    PrepayExpiredError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.gateway import PayGateway
from wxpay_async.idempotency.store import IdempotencyStore, MemoryStore
from wxpay_async.limits.limiter import Limiter, Unlimited
from wxpay_async.policy.retry import RetryBudget, RetryPolicy
from wxpay_async.protocol.builder import RequestBuilder
from wxpay_async.protocol.identity import derive_request_id
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
    canonical_string,
)
from wxpay_async.protocol.wire import (
    PRODUCTION,
    TEST,
    HttpRequest,
    HttpResponse,
    Timeouts,
    Transport,
)
from wxpay_async.stream import Outcome
from wxpay_async.telemetry import Event, EventKind, Hook
from wxpay_async.transports.memory import MemoryTransport
from wxpay_async.transports.retrying import RetryingTransport

__all__ = [
    "PRODUCTION",
    "TEST",
    "AccessDeniedError",
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
    "MalformedResponseError",
    "Md5Signer",
    "Md5Verifier",
    "MemoryStore",
    "MemoryTransport",
    "Merchant",
    "MiniProgramPay",
    "NotPaidError",
    "NotSentError",
    "NotificationError",
    "Outcome",
    "PayGateway",
    "PayMethod",
    "PayResult",
    "PrepayExpiredError",
    "RateLimitedError",
    "Refund",
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
    "TradeRef",
    "TradeResult",
    "TradeState",
    "TradeStatus",
    "Transport",
    "Unlimited",
    "Verifier",
    "WxPayError",
    "canonical_string",
    "derive_request_id",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
