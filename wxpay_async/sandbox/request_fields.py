"""The fields of requests, by the tables of the platform's documentation.

`request_parsing` checks each request by these tables, and `openapi` describes them. Nothing here is
shared with the client's request classes: if the client forgets a field or writes it in another
form, the sandbox refuses it instead of making the same mistake. Limits that no table gives are not
invented. Enumerations hold the documented values only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from attrs import field, frozen

from wxpay_async.sandbox.error_codes import Code, MalformedError, RefusalError

Json = None | bool | int | Decimal | str | list["Json"] | dict[str, "Json"]
Fields = Mapping[str, Json]

AMOUNT: Final = r"(?:0|[1-9][0-9]{0,11})\.[0-9]{2}"
MIN_AMOUNT: Final = Decimal("0.01")
MAX_AMOUNT: Final = Decimal("100000000000.00")
SCANNED: Final = ("64", "65")
JSAPI: Final = ("66", "67")

_IN_YUAN: Final = "is not yuan from 0.01 to 100000000000.00 with two places"


@frozen(kw_only=True)
class Field:
    """One field of a JSON object that holds text.

    Attributes:
        name: the platform's.
        about: what it is.
        required: whether it must be there and not be empty.
        choices: the values that it may hold; any when there is none.
        pattern: of the whole value, empty for any.
        problem: what is said of a value that the pattern does not fit.
        max_length: characters, None for no limit.
        amount: whether it is an amount in yuan.
    """

    name: str
    about: str
    required: bool = True
    choices: tuple[str, ...] = ()
    pattern: str = ""
    problem: str = ""
    max_length: int | None = None
    amount: bool = False

    def check(self, fields: Fields) -> None:
        """Check it; raise `RefusalError` if it is wrong."""
        value = fields.get(self.name)
        if value is not None and not isinstance(value, str):
            raise MalformedError(self.name, "is not a string")
        if not value:
            if self.required:
                raise self._build_missing()
            return
        if self.choices and value not in self.choices:
            raise MalformedError(self.name, f"is none of {', '.join(self.choices)}")
        if self.max_length is not None and len(value) > self.max_length:
            raise MalformedError(self.name, f"has over {self.max_length} characters")
        if self.pattern and not re.fullmatch(self.pattern, value, re.ASCII):
            raise MalformedError(self.name, self.problem)
        if self.amount and not MIN_AMOUNT <= Decimal(value) <= MAX_AMOUNT:
            raise MalformedError(self.name, self.problem)

    def _build_missing(self) -> RefusalError:
        if self.name == "requestId":
            return RefusalError(Code.REQUEST_ID_EMPTY)
        return MalformedError(self.name, "is missing or empty")


@frozen(kw_only=True)
class Group:
    """A field that holds a JSON object, or a list of them.

    Attributes:
        name: the platform's; empty for a whole bizContent.
        about: what it is.
        fields: its fields.
        rows: how many objects at least and at most; None for one object and no list.
    """

    name: str
    about: str
    fields: Sequence[Field | Group] = field(repr=False)
    rows: tuple[int, int | None] | None = None

    def check(self, fields: Fields) -> None:
        """Check it; raise `RefusalError` if it is wrong."""
        value = fields.get(self.name)
        if self.rows is None:
            if not isinstance(value, dict):
                raise MalformedError(self.name, "is missing or not a JSON object")
            self.check_members(value)
            return
        if value is not None and not isinstance(value, list):
            raise MalformedError(self.name, "is not a list")
        least, most = self.rows
        found = value or []
        if len(found) < least:
            raise MalformedError(self.name, "is missing or empty")
        if most is not None and len(found) > most:
            raise MalformedError(self.name, f"has over {most} rows")
        for row in found:
            if not isinstance(row, dict):
                raise MalformedError(self.name, "holds something that is not a JSON object")
            self.check_members(row)

    def check_members(self, fields: Fields) -> None:
        """Check the fields of one object; raise `RefusalError` if one is wrong."""
        for member in self.fields:
            member.check(fields)


def _amount(name: str, about: str, *, max_length: int | None = None) -> Field:
    return Field(
        name=name,
        about=f"{about}, in yuan",
        pattern=AMOUNT,
        problem=_IN_YUAN,
        amount=True,
        max_length=max_length,
    )


_REQUEST_ID: Final = Field(
    name="requestId", about="the merchant's id of the request, one for each", max_length=32
)
_CURRENCY: Final = Field(name="currency", about="CNY", required=False)
_ROYALTIES: Final = Group(
    name="royaltyInfo",
    about="who gets a share",
    rows=(0, 10),
    fields=(
        Field(name="payeeMemberId", about="who gets it"),
        _amount("amount", "the share"),
    ),
)
_ITEM: Final = (
    _CURRENCY,
    Field(
        name="quantity",
        about="an integer above 0, as text",
        pattern="[1-9][0-9]{0,13}",
        problem="is not the text of an integer above 0",
    ),
    _amount("price", "of one piece"),
    _amount("totalAmount", "price × quantity"),
    Field(name="outTradeNo", about="the merchant's number of the order"),
    Field(name="subject", about="what is sold"),
    Field(name="payeeIdentity", about="the seller's member id"),
    _ROYALTIES,
)
_PAY_METHOD: Final = (
    Field(
        name="payProductCode",
        about="64 and 65 are scanned by the payer; 66 and 67 are paid inside WeChat",
        choices=SCANNED + JSAPI,
    ),
    Field(name="targetOrganization", about="who collects", choices=("WECHAT", "ALIPAY", "UPOP")),
    Field(name="openId", about="the payer; required for 66 and 67 of WECHAT", required=False),
    Field(name="buyerId", about="the payer; required for ALIPAY", required=False),
    _amount("amount", "what is paid"),
    Field(name="appId", about="the mini program", required=False),
)

TRADE: Final = Group(
    name="",
    about="creates orders that can be paid",
    fields=(
        _REQUEST_ID,
        Field(name="payerIp", about="the payer's address"),
        Field(name="bizProductCode", about="20701 is the instant trade", choices=("20701",)),
        Field(name="cashierType", about="how it is collected", choices=("API", "SDK")),
        Group(
            name="terminalInfo",
            about="the payer's device",
            fields=(
                Field(
                    name="terminal_type",
                    about="computer, phone, tablet, wearable, television, other",
                    choices=("00", "01", "02", "03", "04", "99"),
                ),
            ),
        ),
        Group(name="tradeInfo", about="the orders", fields=_ITEM, rows=(1, None)),
        Group(name="payMethod", about="how it is paid", fields=_PAY_METHOD),
        Field(
            name="timeoutExpress",
            about="when the orders close: 0 for never, or 10m to 7d with unit m, h or d",
            required=False,
            pattern="0|[1-9][0-9]{0,4}[mhd]",
            problem="is neither 0 nor 10m to 7d with unit m, h or d",
        ),
    ),
)
"""The bizContent of `/api/instant/trade`."""

PAY: Final = Group(
    name="",
    about="issues what a mini program hands to wx.requestPayment",
    fields=(
        _REQUEST_ID,
        Field(name="targetOrganization", about="who collects", choices=("WECHAT",)),
        Field(name="terminalPayerId", about="the payer's openid"),
        Field(name="payToken", about="of the instant trade"),
        Field(name="appId", about="the mini program", required=False),
    ),
)
"""The bizContent of `/api/instant/pay/wxminiprogram`."""

REFUND: Final = Group(
    name="",
    about="gives money back",
    fields=(
        _REQUEST_ID,
        _CURRENCY,
        _ROYALTIES,
        _amount(
            "refundAmount", "what goes back, not above what is left of the order", max_length=15
        ),
        Field(name="outTradeNo", about="the merchant's number of the refund"),
        Field(name="origOutTradeNo", about="the number of the order that was paid"),
    ),
)
"""The bizContent of `/api/instant/refund`."""
