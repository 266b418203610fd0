"""Know the platform's error codes, and what each of them means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxpay_async.errors import (
    AccessDeniedError,
    ClockSkewError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    InDoubtError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)

CODES: Final[Mapping[str, tuple[type[WxPayError], str]]] = MappingProxyType(
    {
        "CO_MSG_000001": (RefusedError, "malformed parameters"),
        "CO_MSG_000002": (InDoubtError, "the platform's data operation failed"),
        "CO_MSG_000003": (InDoubtError, "the platform was interrupted"),
        "CO_MSG_000004": (AccessDeniedError, "the appKey does not exist"),
        "CO_MSG_000005": (ClockSkewError, "the request had expired on arrival"),
        "CO_MSG_000006": (SignatureRefusedError, "the signature was refused"),
        "CO_MSG_000007": (RateLimitedError, "more than 400 calls in 60 s for the appKey"),
        "CO_MSG_000008": (AccessDeniedError, "the appKey is no longer valid"),
        "CO_MSG_0000011": (AccessDeniedError, "the token is no longer valid"),
        "CO_MSG_0000015": (ConfigurationRefusedError, "unsupported media type"),
        "CO_MSG_0000016": (ConfigurationRefusedError, "unsupported request method"),
        "CO_MSG_0000017": (AccessDeniedError, "the caller's address is not on the allow-list"),
        "GM_API_BUS_000005": (RefusedError, "the requestId is empty"),
        "GM_API_BUS_000007": (RefusedError, "the requestId has expired"),
        "GM_API_BUS_0000015": (DuplicateRequestError, "the requestId was used before"),
    }
)
"""errorCode -> (what is raised, what it means). See `protocol.md`, "Error codes"."""

_BUSINESS_CODE: Final = re.compile(r"GM_API_BUS_[0-9]+", re.ASCII)


def is_business_code(code: str | None) -> bool:
    """Tell whether a refusal comes from the platform's business logic.

    Only a few of these codes are documented, but each means that a well-formed request was refused.
    """
    return code is not None and _BUSINESS_CODE.fullmatch(code) is not None
