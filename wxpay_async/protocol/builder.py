"""An operation, its parameters and a moment become a draft; a signature makes it a request.

Signing may be I/O (a key-management service), so it stands between the two steps and outside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import quote_plus

from attrs import field, frozen

from wxpay_async.protocol import secrets, validators
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.codec import biz_content
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund, Request, TradeQuery
from wxpay_async.protocol.wire import HttpRequest, checked_base_url

Placement = Literal["body", "query"]

_QUOTED: Final = re.compile(r"[A-Za-z0-9_.~%+-]*", re.ASCII)
# What stands in nearly every bizContent or signature, in an order in which no replacement hits
# another's result.
_QUOTING: Final = (
    *(("%", "%25"), ("+", "%2B"), (" ", "+"), ('"', "%22"), (",", "%2C"), (":", "%3A")),
    *(("{", "%7B"), ("}", "%7D"), ("[", "%5B"), ("]", "%5D"), ("/", "%2F"), ("=", "%3D")),
)

_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Accept": "application/json",
        # A compressed answer could be a bomb; an honest one is two kilobytes.
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "User-Agent": "wxpay-async",
    }
)


@frozen
class Operation:
    """One endpoint of the acquiring chapter.

    Attributes:
        name: how stores, events and errors call it.
        path: where it is posted.
        moves_money: whether an undocumented refusal leaves it in doubt.
    """

    name: str
    path: str
    moves_money: bool


PAY: Final = Operation("pay", "/api/instant/pay/wxminiprogram", moves_money=False)
TRADE: Final = Operation("trade", "/api/instant/trade", moves_money=True)
REFUND: Final = Operation("refund", "/api/instant/refund", moves_money=True)
QUERY: Final = Operation("query", "/api/instant/query", moves_money=False)
MERCHANTS: Final = Operation("merchants", "/api/company/merchants", moves_money=False)

OPERATIONS: Final[Mapping[type, Operation]] = MappingProxyType(
    {MiniProgramPay: PAY, InstantTrade: TRADE, Refund: REFUND}
)
"""The operation of each request that carries a requestId."""


@frozen
class Draft:
    """A request that lacks only its signature.

    Attributes:
        message: the bytes to sign.
    """

    message: bytes = field(repr=False)
    _url: str
    _params: Mapping[str, str] = field(repr=False)
    _placement: Placement

    def signed(self, signature: str) -> HttpRequest:
        """Return the request with its signature."""
        encoded = _form({**self._params, "sign": signature})
        if self._placement == "query":
            return HttpRequest(f"{self._url}?{encoded}", b"", _HEADERS)
        return HttpRequest(self._url, secrets.SecretBytes(encoded, "ascii"), _HEADERS)


def _form(params: Mapping[str, str]) -> str:
    """Encode as a form. Most values need no quoting, and looking is cheaper than quoting."""
    return "&".join(
        [
            f"{name}={value if value.isalnum() and value.isascii() else _quoted(value)}"
            for name, value in params.items()
        ]
    )


def _quoted(value: str) -> str:
    """Do what `quote_plus` does, in a third of its time where the value is JSON in ASCII."""
    quoted = value
    for character, escape in _QUOTING:
        if character in quoted:
            quoted = quoted.replace(character, escape)
    return quoted if _QUOTED.fullmatch(quoted) else quote_plus(value)


@frozen
class RequestBuilder:
    """Builds the calls of one appKey.

    Attributes:
        app_key: the merchant's developer id.
        sign_type: what the signer announces, None for nothing.
        base_url: the platform's origin.
        placement: parameters in a form body, or in the query string.
    """

    app_key: str = field(validator=validators.plain)
    sign_type: str | None
    base_url: str = field(converter=checked_base_url)
    placement: Placement = field(default="body", validator=validators.one_of("body", "query"))

    def draft(
        self, operation: Operation, params: Mapping[str, str], *, now_ms: int, nonce: str
    ) -> Draft:
        """Lay out one attempt.

        Args:
            operation: which endpoint.
            params: the business parameters; values are text.
            now_ms: milliseconds since the epoch; the platform takes it for 5 minutes.
            nonce: unpredictable, at most 32 characters, never used before.
        """
        full = {
            **params,
            "appKey": self.app_key,
            "nonce": nonce,
            "timestamp": str(now_ms),
        }
        if self.sign_type:
            full["signType"] = self.sign_type
        message = secrets.SecretBytes(canonical_string(full), "utf-8")
        return Draft(message, self.base_url + operation.path, full, self.placement)


def parameters(request: Request) -> dict[str, str]:
    """Return the business parameters of a request that carries a requestId."""
    return {"bizContent": biz_content(request).decode()}


def query_parameters(query: TradeQuery) -> dict[str, str]:
    """Return the plain parameters of a trade query."""
    if query.out_trade_no is not None:
        return {"outTradeNo": query.out_trade_no}
    return {"tradeNo": query.trade_no or ""}
