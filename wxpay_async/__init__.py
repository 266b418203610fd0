"""Take WeChat mini-program payments through an aggregating acquirer, asynchronously and safely.

    async with PayGateway("app-key", RsaSigner.from_file("merchant.pem")) as gateway:
        result = await gateway.pay(MiniProgramPay(...))
        result.jsapi_params()  # for wx.requestPayment

Every call is safe to repeat with the same `request_id`, and every error says in its `fate` whether
the request was not sent, refused, or may have been executed.

Import every public name from here. Deeper paths are private and may change in any release. A name
is loaded when it is first used, so that `import wxpay_async` is quick and an optional dependency is
needed only by the part that bears its name.
"""

import importlib
import logging
from typing import TYPE_CHECKING

from wxpay_async.version import __version__

if TYPE_CHECKING:
    from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Quota, Unlimited
    from wxpay_async.adapters.limiters.local import LocalLimiter
    from wxpay_async.adapters.limiters.redis import RedisLimiter
    from wxpay_async.adapters.signers.process import ProcessSigner
    from wxpay_async.adapters.stores.memory import MemoryStore
    from wxpay_async.adapters.stores.redis import RedisStore
    from wxpay_async.adapters.stores.sql import SqlStore
    from wxpay_async.adapters.stores.sql_schema import alembic_filter
    from wxpay_async.adapters.stores.store import IdempotencyStore, Store
    from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
    from wxpay_async.adapters.transports.httpx import HttpxTransport
    from wxpay_async.adapters.transports.memory import MemoryTransport
    from wxpay_async.adapters.transports.recording import RecordingTransport, ReplayTransport
    from wxpay_async.adapters.transports.reqwest import ReqwestTransport
    from wxpay_async.engine.callback_events import CallbackEvent, Verdict
    from wxpay_async.engine.callbacks import CallbackReceiver
    from wxpay_async.engine.clock import Clock
    from wxpay_async.engine.gateway import PayGateway
    from wxpay_async.engine.open_operations import LastAnswer, OpenOperation
    from wxpay_async.engine.retrying import RetryingTransport
    from wxpay_async.engine.streaming import Outcome, OutcomeStream
    from wxpay_async.engine.telemetry import Event, EventKind, Hook, logging_hook
    from wxpay_async.errors import (
        AccessDeniedError,
        AlreadyPaidError,
        ClockSkewError,
        ConfigurationRefusedError,
        DuplicateRequestError,
        FailedError,
        Fate,
        IdempotencyConflictError,
        InDoubtError,
        InDoubtTimeoutError,
        InProgressError,
        InvalidKeyError,
        InvalidRequestError,
        MalformedResponseError,
        NotExecutedError,
        NotificationError,
        NotPaidError,
        NotSentError,
        NotSentTimeoutError,
        OtherPayerError,
        PlatformConflictError,
        PrepayExpiredError,
        QuotaExhaustedError,
        RateLimitedError,
        RefusedError,
        SignatureRefusedError,
        TradeUnusableError,
        WxPayError,
    )
    from wxpay_async.integrations.opentelemetry import OpenTelemetryHook
    from wxpay_async.integrations.problems import Problem
    from wxpay_async.policy.retry import RetryBudget, RetryPolicy
    from wxpay_async.policy.review import ReviewVerdict
    from wxpay_async.protocol.builder import RequestBuilder
    from wxpay_async.protocol.canonical import canonical_string
    from wxpay_async.protocol.explain import Explanation
    from wxpay_async.protocol.idempotency_key import derive_request_id
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
        TradeQuery,
    )
    from wxpay_async.protocol.results import (
        CallResult,
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

__all__ = [
    "ACK_HANDLED",
    "ACK_NOT_HANDLED",
    "PRODUCTION",
    "TEST",
    "AccessDeniedError",
    "AiohttpTransport",
    "AlreadyPaidError",
    "CallResult",
    "CallbackEvent",
    "CallbackReceiver",
    "Clock",
    "ClockSkewError",
    "ConfigurationRefusedError",
    "DuplicateRequestError",
    "Event",
    "EventKind",
    "Explanation",
    "FailedError",
    "Fate",
    "Hook",
    "HttpRequest",
    "HttpResponse",
    "HttpxTransport",
    "IdempotencyConflictError",
    "IdempotencyStore",
    "InDoubtError",
    "InDoubtTimeoutError",
    "InProgressError",
    "InstantTrade",
    "InvalidKeyError",
    "InvalidRequestError",
    "Lane",
    "LastAnswer",
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
    "NotSentTimeoutError",
    "NotificationError",
    "Notifications",
    "OpenOperation",
    "OpenTelemetryHook",
    "OtherPayerError",
    "Outcome",
    "OutcomeStream",
    "PayGateway",
    "PayMethod",
    "PayResult",
    "PlatformConflictError",
    "PrepayExpiredError",
    "Problem",
    "ProcessSigner",
    "Quota",
    "QuotaExhaustedError",
    "RateLimitedError",
    "RecordingTransport",
    "RedisLimiter",
    "RedisStore",
    "Refund",
    "RefundNotification",
    "RefundResult",
    "RefusedError",
    "ReplayTransport",
    "RequestBuilder",
    "ReqwestTransport",
    "RetryBudget",
    "RetryPolicy",
    "RetryingTransport",
    "ReviewVerdict",
    "Royalty",
    "RsaSigner",
    "RsaVerifier",
    "SignatureRefusedError",
    "Signer",
    "SqlStore",
    "Store",
    "TerminalInfo",
    "Timeouts",
    "TradeItem",
    "TradeNotification",
    "TradeQuery",
    "TradeRef",
    "TradeResult",
    "TradeState",
    "TradeStatus",
    "TradeUnusableError",
    "Transport",
    "Unlimited",
    "Verdict",
    "Verifier",
    "WxPayError",
    "__version__",
    "alembic_filter",
    "canonical_string",
    "derive_request_id",
    "logging_hook",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())

if not TYPE_CHECKING:
    _MODULES = {
        "ACK_HANDLED": "protocol.notify",
        "ACK_NOT_HANDLED": "protocol.notify",
        "AccessDeniedError": "errors",
        "AiohttpTransport": "adapters.transports.aiohttp",
        "AlreadyPaidError": "errors",
        "CallResult": "protocol.results",
        "CallbackEvent": "engine.callback_events",
        "CallbackReceiver": "engine.callbacks",
        "Clock": "engine.clock",
        "ClockSkewError": "errors",
        "ConfigurationRefusedError": "errors",
        "DuplicateRequestError": "errors",
        "Event": "engine.telemetry",
        "EventKind": "engine.telemetry",
        "Explanation": "protocol.explain",
        "FailedError": "errors",
        "Fate": "errors",
        "Hook": "engine.telemetry",
        "HttpRequest": "protocol.wire",
        "HttpResponse": "protocol.wire",
        "HttpxTransport": "adapters.transports.httpx",
        "IdempotencyConflictError": "errors",
        "IdempotencyStore": "adapters.stores.store",
        "InDoubtError": "errors",
        "InDoubtTimeoutError": "errors",
        "InProgressError": "errors",
        "InstantTrade": "protocol.requests",
        "InvalidKeyError": "errors",
        "InvalidRequestError": "errors",
        "Lane": "adapters.limiters.limiter",
        "LastAnswer": "engine.open_operations",
        "Limiter": "adapters.limiters.limiter",
        "LocalLimiter": "adapters.limiters.local",
        "MalformedResponseError": "errors",
        "Md5Signer": "protocol.signing",
        "Md5Verifier": "protocol.signing",
        "MemoryStore": "adapters.stores.memory",
        "MemoryTransport": "adapters.transports.memory",
        "Merchant": "protocol.results",
        "MiniProgramPay": "protocol.requests",
        "NotExecutedError": "errors",
        "NotPaidError": "errors",
        "NotSentError": "errors",
        "NotSentTimeoutError": "errors",
        "NotificationError": "errors",
        "Notifications": "protocol.notify",
        "OpenOperation": "engine.open_operations",
        "OpenTelemetryHook": "integrations.opentelemetry",
        "OtherPayerError": "errors",
        "Outcome": "engine.streaming",
        "OutcomeStream": "engine.streaming",
        "PRODUCTION": "protocol.wire",
        "PayGateway": "engine.gateway",
        "PayMethod": "protocol.requests",
        "PayResult": "protocol.results",
        "PlatformConflictError": "errors",
        "PrepayExpiredError": "errors",
        "Problem": "integrations.problems",
        "ProcessSigner": "adapters.signers.process",
        "Quota": "adapters.limiters.limiter",
        "QuotaExhaustedError": "errors",
        "RateLimitedError": "errors",
        "RecordingTransport": "adapters.transports.recording",
        "RedisLimiter": "adapters.limiters.redis",
        "RedisStore": "adapters.stores.redis",
        "Refund": "protocol.requests",
        "RefundNotification": "protocol.notify",
        "RefundResult": "protocol.results",
        "RefusedError": "errors",
        "RequestBuilder": "protocol.builder",
        "ReplayTransport": "adapters.transports.recording",
        "ReqwestTransport": "adapters.transports.reqwest",
        "RetryBudget": "policy.retry",
        "RetryPolicy": "policy.retry",
        "RetryingTransport": "engine.retrying",
        "ReviewVerdict": "policy.review",
        "Royalty": "protocol.requests",
        "RsaSigner": "protocol.signing",
        "RsaVerifier": "protocol.signing",
        "SignatureRefusedError": "errors",
        "Signer": "protocol.signing",
        "SqlStore": "adapters.stores.sql",
        "Store": "adapters.stores.store",
        "TEST": "protocol.wire",
        "TerminalInfo": "protocol.requests",
        "Timeouts": "protocol.wire",
        "TradeItem": "protocol.requests",
        "TradeNotification": "protocol.notify",
        "TradeQuery": "protocol.requests",
        "TradeRef": "protocol.results",
        "TradeResult": "protocol.results",
        "TradeState": "protocol.results",
        "TradeStatus": "protocol.results",
        "TradeUnusableError": "errors",
        "Transport": "protocol.wire",
        "Unlimited": "adapters.limiters.limiter",
        "Verdict": "engine.callback_events",
        "Verifier": "protocol.signing",
        "WxPayError": "errors",
        "alembic_filter": "adapters.stores.sql_schema",
        "canonical_string": "protocol.canonical",
        "derive_request_id": "protocol.idempotency_key",
        "logging_hook": "engine.telemetry",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES})
