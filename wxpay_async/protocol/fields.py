"""What a single field may hold: the limits of the platform's tables as converters and validators.

Every check raises `InvalidRequestError` with the platform's name of the field and what is allowed.
A value is never repeated in an error unless it is an amount or a code: the rest may be a person's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import attrs

from wxpay_async.errors import InvalidRequestError

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]
Json = bool | int | str | Sequence["Json"] | Mapping[str, "Json"] | None

MIN_AMOUNT: Final = Decimal("0.01")
MAX_AMOUNT: Final = Decimal("100000000000.00")
AMOUNTS: Final = "yuan from 0.01 to 100000000000.00 with at most two decimal places"

_AMOUNT: Final = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,2})?", re.ASCII)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_QUANTITY: Final = re.compile(r"[1-9][0-9]*", re.ASCII)
_TIMEOUT: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_DASHED_UUID: Final = 36
_MAX_ROYALTIES: Final = 10


def wire_name(attribute: attrs.Attribute[Any]) -> str:
    """Return the platform's name: the `wire` metadata, else the attribute's name in camelCase."""
    return attribute.metadata.get("wire") or _camel(attribute.name)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def as_amount(value: Decimal | str | int, name: str) -> Decimal:
    """Convert to an exact amount of yuan; a float is a `TypeError`."""
    if isinstance(value, str) and not _AMOUNT.fullmatch(value):
        raise InvalidRequestError(f"{value[:24]!r} is no amount", field=name, allowed=AMOUNTS)
    amount = exact(value, name)
    if not amount.is_finite() or not MIN_AMOUNT <= amount <= MAX_AMOUNT:
        raise InvalidRequestError(f"{amount:.24} is out of range", field=name, allowed=AMOUNTS)
    cents = amount.quantize(MIN_AMOUNT)
    if cents != amount:
        raise InvalidRequestError(f"{amount} has too many places", field=name, allowed=AMOUNTS)
    return cents


def exact(value: Decimal | str | int, name: str) -> Decimal:
    """Convert to `Decimal` without going through a float, which would lose or invent cents."""
    if isinstance(value, bool) or not isinstance(value, Decimal | str | int):
        raise TypeError(f"{name}: an amount is Decimal, str or int, not {type(value).__name__}")
    return value if isinstance(value, Decimal) else Decimal(value)


def as_quantity(value: str | int) -> int:
    """Convert a quantity: an integer above 0, or its text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"quantity: an int or its text, not {type(value).__name__}")
    if not _QUANTITY.fullmatch(str(value)):
        raise InvalidRequestError("not a quantity", field="quantity", allowed="an integer above 0")
    return int(value)


def frozen_json(extra: Mapping[str, Json]) -> Mapping[str, Json]:
    """Copy the fields that the page does not know, so that a later change cannot reach the wire."""
    return MappingProxyType(dict(extra))


def text(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Accept a non-empty text without control characters."""
    del instance
    name = wire_name(attribute)
    if not isinstance(value, str):
        raise TypeError(f"{name}: a str, not {type(value).__name__}")
    if not value or _CONTROL.search(value):
        raise InvalidRequestError(
            "empty, or holds control characters or lone surrogates",
            field=name,
            allowed="a non-empty text",
        )


def text_or_empty(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Accept the empty text too, where the platform reads it as absent."""
    if value != "":
        text(instance, attribute, value)


def plain(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Accept a text that may stand in a signed parameter by itself: no `&` and no `=`."""
    text(instance, attribute, value)
    if "&" in str(value) or "=" in str(value):
        raise InvalidRequestError(
            "holds & or =, which makes the signed string ambiguous",
            field=wire_name(attribute),
            allowed="a non-empty text without & and =",
        )


def request_id(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """Accept a requestId: at most 32 characters of an alphabet that is safe anywhere."""
    text(instance, attribute, value)
    if not _REQUEST_ID.fullmatch(value):
        hint = (
            "; a dashed UUID does not fit, uuid4().hex does" if len(value) == _DASHED_UUID else ""
        )
        raise InvalidRequestError(
            f"{len(value)} characters do not fit{hint}",
            field=wire_name(attribute),
            allowed="1 to 32 characters of A-Z a-z 0-9 _ -",
        )


def one_of(*allowed: str) -> Validator:
    """Accept only the listed values."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        del instance
        if value not in allowed:
            raise InvalidRequestError(
                f"{value!r:.40} is unknown",
                field=wire_name(attribute),
                allowed=", ".join(allowed),
            )

    return check


def code(digits: int, known: str) -> Validator:
    """Accept a numeric code by its shape: codes newer than the documentation must pass."""
    shape = re.compile(rf"[0-9]{{{digits}}}", re.ASCII)

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        del instance
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise InvalidRequestError(
                f"{value!r:.40} is no code",
                field=wire_name(attribute),
                allowed=f"{digits} digits; documented: {known}",
            )

    return check


def ip_address(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """Accept an IPv4 or IPv6 address."""
    text(instance, attribute, value)
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        raise InvalidRequestError(
            "not an IP address", field=wire_name(attribute), allowed="an IPv4 or IPv6 address"
        ) from error


def timeout_express(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """Accept `0`, or 10m to 7d with unit m, h or d."""
    text(instance, attribute, value)
    match = _TIMEOUT.fullmatch(value)
    span = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if value != "0" and not timedelta(minutes=10) <= span <= timedelta(days=7):
        raise InvalidRequestError(
            f"{value[:16]!r} does not fit",
            field=wire_name(attribute),
            allowed="0, or 10m to 7d with unit m, h or d",
        )


def at_most_ten(instance: object, attribute: attrs.Attribute[Any], value: Sequence[object]) -> None:
    """Accept up to 10 royalties."""
    del instance
    if len(value) > _MAX_ROYALTIES:
        raise InvalidRequestError(
            f"{len(value)} royalties", field=wire_name(attribute), allowed="at most 10"
        )


def extra(instance: Any, attribute: attrs.Attribute[Any], value: Mapping[str, Json]) -> None:  # noqa: ANN401 - any attrs value
    """Accept JSON values under names that the model itself does not use."""
    del attribute
    known = {wire_name(other) for other in attrs.fields(type(instance)) if other.name != "extra"}
    for name, item in value.items():
        if name in known:
            raise InvalidRequestError("is a known field; set it by its own name", field=name)
        _check_json(name, item)


def _check_json(name: str, value: object) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{name}: the keys of a JSON object are str")
            _check_json(name, item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json(name, item)
    elif isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidRequestError("holds a lone surrogate", field=name)
    elif value is not None and not isinstance(value, int):
        raise TypeError(f"{name}: {type(value).__name__} is not exact JSON; write amounts as str")


def masked(value: str | None) -> str:
    """Show enough of a person's identifier to recognise it in a log, and no more."""
    long_enough = 8
    if value is None:
        return "None"
    return f"'{value[:3]}…{value[-2:]}'" if len(value) > long_enough else "'…'"


def hidden(value: object) -> str:
    """Show that a credential is there, and nothing of it."""
    return "None" if value is None else "'***'"
