"""List the error codes of the sandbox, with the text of each.

The codes up to `REQUEST_ID_REPEATED` are documented. The platform's other business refusals are
`GM_API_BUS_…` codes that no page lists, so the codes from 21 on are our own choice. A client must
not depend on their numbers, only on the fact that they refuse.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


class Code(enum.StrEnum):
    """An errorCode."""

    MALFORMED = "CO_MSG_000001"
    DATA_FAILED = "CO_MSG_000002"
    INTERRUPTED = "CO_MSG_000003"
    APP_UNKNOWN = "CO_MSG_000004"
    EXPIRED = "CO_MSG_000005"
    BAD_SIGNATURE = "CO_MSG_000006"
    RATE_EXCEEDED = "CO_MSG_000007"
    APP_INVALID = "CO_MSG_000008"
    LOGGED_OUT = "CO_MSG_0000011"
    MEDIA_TYPE = "CO_MSG_0000015"
    METHOD = "CO_MSG_0000016"
    ADDRESS = "CO_MSG_0000017"
    REQUEST_ID_EMPTY = "GM_API_BUS_000005"
    REQUEST_ID_EXPIRED = "GM_API_BUS_000007"
    REQUEST_ID_REPEATED = "GM_API_BUS_0000015"
    # Ours from here on.
    UNKNOWN_PURCHASE = "GM_API_BUS_0000021"
    UNKNOWN_ORDER = "GM_API_BUS_0000022"
    ORDER_REPEATED = "GM_API_BUS_0000023"
    ORDER_PAID = "GM_API_BUS_0000024"
    ORDER_ENDED = "GM_API_BUS_0000025"
    ORDER_UNPAID = "GM_API_BUS_0000026"
    REFUND_TOO_HIGH = "GM_API_BUS_0000027"
    OTHER_PAYER = "GM_API_BUS_0000028"


MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        Code.MALFORMED: "malformed parameters",
        Code.DATA_FAILED: "data operation failed",
        Code.INTERRUPTED: "server interrupted",
        Code.APP_UNKNOWN: "the appKey does not exist",
        Code.EXPIRED: "the request has expired",
        Code.BAD_SIGNATURE: "bad signature",
        Code.RATE_EXCEEDED: "call rate exceeded",
        Code.APP_INVALID: "the appKey is no longer valid",
        Code.LOGGED_OUT: "the token is no longer valid, log in again",
        Code.MEDIA_TYPE: "unsupported media type",
        Code.METHOD: "unsupported request method",
        Code.ADDRESS: "the caller's address is not allowed",
        Code.REQUEST_ID_EMPTY: "the requestId is empty",
        Code.REQUEST_ID_EXPIRED: "the requestId has expired",
        Code.REQUEST_ID_REPEATED: "the requestId is repeated",
        Code.UNKNOWN_PURCHASE: "the payToken is unknown",
        Code.UNKNOWN_ORDER: "the order does not exist",
        Code.ORDER_REPEATED: "the outTradeNo is repeated",
        Code.ORDER_PAID: "the order is paid already",
        Code.ORDER_ENDED: "the order is closed or has failed",
        Code.ORDER_UNPAID: "the order is not paid",
        Code.REFUND_TOO_HIGH: "the refund exceeds what is left of the payment",
        Code.OTHER_PAYER: "the openid is another one than that of the trade",
    }
)


class RefusalError(Exception):
    """A call is answered with an errorCode.

    Args:
        code: one of `Code`, or any other text that a test wants to see.
        detail: what was wrong, for the developer who reads errorMsg.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        message = MESSAGES.get(code, "injected by the test")
        self.code = str(code)
        self.message = f"{message}: {detail}" if detail else message
        super().__init__(f"{self.code} {self.message}")


class MalformedError(RefusalError):
    """A parameter or field has the wrong form.

    Args:
        name: which one.
        problem: what is wrong with it.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(Code.MALFORMED, f"{name} {problem}")


class ReplayedError(RefusalError):
    """The same signed request arrived before."""

    def __init__(self) -> None:
        super().__init__(Code.MALFORMED, "nonce was used before: a replayed request")
