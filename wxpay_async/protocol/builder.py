"""Lay out a call of the platform: what is signed, and what is posted.

Three steps, since signing may be I/O (a key-management service) and stands between the last two:

    template = builder.prepare(operation, params)         # once for a call
    draft = template.draft(now_ms=..., nonce=...)         # once for each attempt
    request = draft.signed(signer.sign(draft.message))

All attempts of a call share the template, so only the moment, the nonce and the signature are new
each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from attrs import define, field, frozen

from wxpay_async.protocol import validators
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.content import quote, write_content
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund, Request, TradeQuery
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.wire import HttpRequest, check_base_url
from wxpay_async.version import __version__

Placement = Literal["body", "query"]

_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Accept": "application/json",
        # A compressed answer could be a bomb; an honest one is two kilobytes.
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "User-Agent": f"wxpay-async/{__version__}",
    }
)

_OWN: Final = frozenset({"nonce", "timestamp", "sign"})
"""What each attempt has of its own."""


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


@define(eq=False)
class Draft:
    """A request that lacks only its signature.

    Attributes:
        message: the bytes to sign.
    """

    message: bytes = field(repr=False)
    _url: str
    _form: str = field(repr=False)
    _placement: Placement

    def signed(self, signature: str) -> HttpRequest:
        """Return the request with its signature."""
        form = f"{self._form}&sign={quote(signature)}"
        if self._placement == "query":
            return HttpRequest(f"{self._url}?{form}", b"", _HEADERS)
        return HttpRequest(self._url, SecretBytes(form, "ascii"), _HEADERS)


@define(eq=False)
class Template:
    """What all attempts of one call share.

    Attributes:
        url: where the call is posted.
        content: its `bizContent`, where that is its only parameter.
    """

    url: str
    _placement: Placement
    _message: tuple[str, str, str] = field(repr=False)
    _form: str = field(repr=False)
    content: bytes = field(default=b"", repr=False)

    def draft(self, *, now_ms: int, nonce: str) -> Draft:
        """Lay out one attempt.

        Args:
            now_ms: milliseconds since the epoch; the platform takes it for 5 minutes.
            nonce: unpredictable, at most 32 letters and digits, never used before.
        """
        before, between, after = self._message
        message = SecretBytes(f"{before}{nonce}{between}{now_ms}{after}", "utf-8")
        form = f"{self._form}&nonce={nonce}&timestamp={now_ms}"
        return Draft(message, self.url, form, self._placement)


def _form(params: Mapping[str, str]) -> str:
    """Encode as a form."""
    return "&".join([f"{name}={quote(value)}" for name, value in params.items()])


def _split_at(names: Iterable[str], first: str, second: str) -> tuple[list[str], ...]:
    """Divide names by ASCII order: before `first`, between both, and after `second`."""
    before, between, after = list[str](), list[str](), list[str]()
    for name in names:
        (before if name < first else between if name < second else after).append(name)
    return before, between, after


@frozen
class RequestBuilder:
    """Builds the calls of one appKey.

    Attributes:
        app_key: the merchant's developer id.
        sign_type: what the signer announces, None for nothing.
        base_url: the platform's address, or that of what stands in front of it; see
            `check_base_url`.
        placement: parameters in a form body, or in the query string.
        allow_insecure: plain HTTP beyond loopback, too.
    """

    app_key: str = field(validator=validators.plain)
    sign_type: str | None
    base_url: str
    placement: Placement = field(default="body", validator=validators.one_of("body", "query"))
    allow_insecure: bool = field(default=False, kw_only=True)
    _between: str = field(init=False, repr=False)
    _fixed_form: str = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        base_url = check_base_url(self.base_url, allow_insecure=self.allow_insecure)
        object.__setattr__(self, "base_url", base_url)
        fixed = {"signType": self.sign_type} if self.sign_type else {}
        between = f"&{canonical_string(fixed)}&timestamp=" if fixed else "&timestamp="
        object.__setattr__(self, "_between", between)
        object.__setattr__(self, "_fixed_form", _form({"appKey": self.app_key, **fixed}))

    def prepare(self, operation: Operation, params: Mapping[str, str]) -> Template:
        """Lay out what all attempts of a call share.

        Args:
            operation: which endpoint.
            params: the business parameters; values are text.

        Raises:
            InvalidRequestError: a parameter would make the signed string ambiguous.
        """
        fixed = {name: value for name, value in params.items() if name not in _OWN}
        fixed["appKey"] = self.app_key
        if self.sign_type:
            fixed["signType"] = self.sign_type
        before, between, after = (
            canonical_string({name: fixed[name] for name in names})
            for names in _split_at(fixed, "nonce", "timestamp")
        )
        message = (
            f"{before}&nonce=" if before else "nonce=",
            f"&{between}&timestamp=" if between else "&timestamp=",
            f"&{after}" if after else "",
        )
        return Template(self.base_url + operation.path, self.placement, message, _form(fixed))

    def prepare_request(self, operation: Operation, request: Request) -> Template:
        """Lay out what all attempts share of a request that carries a requestId."""
        return self._prepare_content(operation, *write_content(request))

    def prepare_content(self, operation: Operation, content: bytes) -> Template:
        """Lay out what all attempts share of a call whose only parameter is `bizContent`.

        Args:
            operation: which endpoint.
            content: what `serialize` made, which is one JSON object: nothing is left to check.
        """
        return self._prepare_content(operation, content, quote(content.decode()))

    def _prepare_content(self, operation: Operation, content: bytes, quoted: str) -> Template:
        message = f"appKey={self.app_key}&bizContent={content.decode()}&nonce=", self._between, ""
        form = f"{self._fixed_form}&bizContent={quoted}"
        url = self.base_url + operation.path
        return Template(url, self.placement, message, form, content)

    def draft(
        self, operation: Operation, params: Mapping[str, str], *, now_ms: int, nonce: str
    ) -> Draft:
        """Lay out the only attempt of a call; see `prepare` and `Template.draft`."""
        return self.prepare(operation, params).draft(now_ms=now_ms, nonce=nonce)


def parameters(request: Request) -> dict[str, str]:
    """Return the business parameters of a request that carries a requestId."""
    return {"bizContent": serialize(request).decode()}


def query_parameters(query: TradeQuery) -> dict[str, str]:
    """Return the plain parameters of a trade query."""
    if query.out_trade_no is not None:
        return {"outTradeNo": query.out_trade_no}
    return {"tradeNo": query.trade_no or ""}
