"""Check what a gateway is made of before it is used: a wrong part is told with its name.

Parts are known by what they can do, so that a merchant's own need no class of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from wxpay_async.errors import InvalidRequestError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.validators import check_number
from wxpay_async.protocol.wire import Timeouts

_METHODS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = MappingProxyType(
    {
        "signer": (
            ("sign", "sign_type"),
            "Md5Signer(secret), RsaSigner.from_file(path), or a part with sign_type and sign()",
        ),
        "transport": (("send",), "AiohttpTransport(), or a part with send() and aclose()"),
        "store": (
            ("reserve", "claim"),
            "SqlStore(url), RedisStore(url), MemoryStore(), or the address in WXPAY_STORE_URL",
        ),
        "limiter": (
            ("acquire",),
            "LocalLimiter(), RedisLimiter(url, app_key), or the address in WXPAY_QUOTA_URL",
        ),
        "clock": (("time", "monotonic", "sleep"), "Clock(), or a part with these methods"),
    }
)


def check_parts(parts: Mapping[str, object]) -> None:
    """Refuse parts that are none.

    Args:
        parts: the constructor's arguments under their names; None is one's own part.

    Raises:
        InvalidRequestError: it names the argument, and what it may be.
    """
    for name, part in parts.items():
        methods, allowed = _METHODS[name]
        fits = not isinstance(part, type) and all(hasattr(part, each) for each in methods)
        if part is not None and not fits:
            # Only the kind: a text may hold a secret, or a password in an address.
            raise InvalidRequestError(_tell_kind(part), field=name, allowed=allowed)


def check_settings(
    *,
    retry: object,
    timeouts: object,
    hooks: object,
    max_in_flight: object,
) -> None:
    """Refuse settings of a wrong kind.

    Raises:
        InvalidRequestError: it names the argument, and what it may be.
    """
    if not isinstance(retry, RetryPolicy | None):
        raise InvalidRequestError(_tell_kind(retry), field="retry", allowed="RetryPolicy(...)")
    if not isinstance(timeouts, Timeouts | None):
        raise InvalidRequestError(
            _tell_kind(timeouts), field="timeouts", allowed="Timeouts(...), in seconds"
        )
    if isinstance(hooks, str) or callable(hooks) or not isinstance(hooks, Iterable):
        raise InvalidRequestError(
            _tell_kind(hooks), field="hooks", allowed="a list of functions, as [logging_hook()]"
        )
    check_number(max_in_flight, "max_in_flight", "a whole number, 1 or above", least=1, whole=True)


def _tell_kind(value: object) -> str:
    if isinstance(value, type):  # the usual slip
        return f"got the class {value.__name__}"
    return f"got {type(value).__name__}"
