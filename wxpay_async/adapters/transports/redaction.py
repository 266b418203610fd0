"""Redact what a cassette must not hold: credentials, signatures, data of persons. No I/O.

1. Only texts and numbers under a name in `CLEAR` (or in `keep`) are written. Any other becomes a
   placeholder, so that a field that is not known yet is not written by mistake.
2. One value has one placeholder, whatever its name: `redacted-payToken-1` in the reply of a trade
   is the same in the request that pays it.
3. A value that is redacted at one place is redacted inside every other text, too.
4. The platform's words about an error (`errorMsg`) lose what looks like a signature, a key, a token
   or an address of the network, besides.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Final
from urllib.parse import quote, quote_plus

from attrs import define, field

Json = None | bool | int | Decimal | str | list["Json"] | dict[str, "Json"]
"""Decoded JSON, with numbers as they were written."""

PLACEHOLDER: Final = re.compile(r"redacted-[A-Za-z_$][A-Za-z0-9_]{0,23}-[0-9]+", re.ASCII)

CLEAR: Final = frozenset(
    {
        # what identifies an operation, and what it is about
        *("requestId", "outTradeNo", "origOutTradeNo", "tradeNo", "subject", "currency", "appId"),
        *("price", "quantity", "amount", "totalAmount", "refundAmount", "instAmount"),
        *("partnerFee", "payeeFee", "payerFee"),
        *("payeeIdentity", "payeeIdentityType", "payeeMemberId", "merchantId"),
        # codes
        *("bizProductCode", "payProductCode", "targetOrganization", "cashierType"),
        *("timeoutExpress", "terminal_type", "signType", "timeStamp"),
        # the envelope of a reply, and its pages
        *("errorCode", "errorMsg", "status"),
        *("pageSize", "currentPage", "total", "totalPage"),
    }
)
"""The platform's names of the fields that are written as they are."""

_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_]{0,23}", re.ASCII)
"""A longer name than any of the platform's may be a value, such as an openid."""
_SHORTEST: Final = 6  # a shorter text may stand in another one by chance
_WORDS: Final = "errorMsg"
_PACKAGE, _PREPAY, _PREFIX = "extPackage", "prepayId", "prepay_id="
_RUN: Final = re.compile(rf"{PLACEHOLDER.pattern}|[A-Za-z0-9+/_-]{{20,}}", re.ASCII)
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{3,}", re.ASCII)


@define(eq=False)
class Redactor:
    """Replaces secrets by placeholders, and remembers which secret has which.

    Args:
        keep: names of further fields that are written as they are.
    """

    keep: frozenset[str] = frozenset()
    _placeholders: dict[str, str] = field(init=False, factory=dict[str, str], repr=False)
    _numbers: Counter[str] = field(init=False, factory=Counter[str])

    def skip_numbers(self, text: str) -> None:
        """Give no placeholder again that stands in a text, which another process wrote."""
        for found in PLACEHOLDER.findall(text):
            _, name, number = found.split("-")
            self._numbers[name] = max(self._numbers[name], int(number))

    def add(self, value: str, name: str = "secret") -> str:
        """Remember a secret, and return its placeholder."""
        if PLACEHOLDER.fullmatch(value):
            return value
        if value not in self._placeholders:
            self._numbers[name] += 1
            self._placeholders[value] = f"redacted-{name}-{self._numbers[name]}"
        return self._placeholders[value]

    def redact(self, *values: Json) -> list[Json]:
        """Return copies without secrets: those of any of these values are in none of them."""
        for value in values:
            self._collect(value, "")
        return [self._copy(value, "") for value in values]

    def blank(self, text: str) -> str:
        """Replace the secrets that are known in a text."""
        for secret in sorted(self._placeholders, key=len, reverse=True):
            for form in _list_forms(secret):
                if form.casefold() in text.casefold():
                    text = re.sub(
                        re.escape(form), self._placeholders[secret], text, flags=re.IGNORECASE
                    )
        return text

    def _collect(self, value: Json, name: str) -> None:
        match value:
            case dict():
                for key, item in value.items():
                    self._copy_name(key)
                    self._collect(item, key)
            case list():
                for item in value:
                    self._collect(item, name)
            case _ if self._is_secret(value, name):
                self._replace(str(value), name)
            case _:
                pass

    def _copy(self, value: Json, name: str) -> Json:
        match value:
            case dict():
                return {self._copy_name(key): self._copy(item, key) for key, item in value.items()}
            case list():
                return [self._copy(item, name) for item in value]
            case _ if self._is_secret(value, name):
                return self._replace(str(value), name)
            case str():
                text = self.blank(value)
                return _mask(text) if name == _WORDS else text
            case _:
                return value

    def _is_secret(self, value: Json, name: str) -> bool:
        if value is None or isinstance(value, bool) or value == "":
            return False
        return name not in CLEAR and name not in self.keep

    def _replace(self, value: str, name: str) -> str:
        if name == _PACKAGE and value.startswith(_PREFIX):  # both must stay the same prepay
            return _PREFIX + self._replace(value.removeprefix(_PREFIX), _PREPAY)
        return self.add(value, name if _NAME.fullmatch(name) else "value") if value else value

    def _copy_name(self, name: str) -> str:
        return name if _NAME.fullmatch(name) or not name else self.add(name, "name")


def _list_forms(secret: str) -> Iterable[str]:
    """Return how a secret may stand in a text; a short one might do so by chance."""
    return {secret, quote_plus(secret), quote(secret, safe="")} if len(secret) >= _SHORTEST else ()


def _mask(text: str) -> str:
    """Mask what looks like a signature, a key, a token or an address of the network."""
    text = _RUN.sub(lambda found: found[0] if PLACEHOLDER.fullmatch(found[0]) else "***", text)
    return _ADDRESS.sub(lambda found: "***" if _is_address(found[0]) else found[0], text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("."))
    except ValueError:
        return False
    return True
