"""Read the parameters of a call from JSON or from a form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast
from urllib.parse import parse_qsl

from wxpay_async import InvalidRequestError
from wxpay_async.protocol.explain_texts import split_pairs
from wxpay_async.protocol.strict_json import strict_json

_ALLOWED: Final = (
    "a bizContent (JSON with requestId), JSON of the call's parameters, or the form that was sent"
)


def read_parameters(data: bytes) -> dict[str, str]:
    """Return the parameters of a call, those that are empty included.

    An object with `requestId` is a bizContent, and is written as the SDK writes it: in one line,
    without blanks, in its order. Any other object holds the parameters; what is no text in it is
    written so, too.

    Raises:
        InvalidRequestError: it is neither JSON nor a form, or a number has a fraction.
    """
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode().strip()
        if not text.startswith("{"):
            return _read_form(text)
        members = cast("dict[str, object]", strict_json(text.encode()))
    except ValueError:
        # Without its cause, which carries the whole text.
        raise InvalidRequestError("cannot be read", field="request", allowed=_ALLOWED) from None
    if "requestId" in members:
        return {"bizContent": _write(members)}
    return {name: _to_text(value) for name, value in members.items()}


def _read_form(text: str) -> dict[str, str]:
    # A canonical string is not quoted, and a blank or a % in it stands for itself.
    is_raw = "={" in text
    pairs = split_pairs(text) if is_raw else _parse(text)
    params = dict(pairs)
    if len(params) < len(pairs) or not params:
        raise ValueError("no form, or a name stands twice")
    return params


def _parse(text: str) -> list[tuple[str, str]]:
    return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")


def _to_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _write(value)


def _write(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_refuse)


def _refuse(value: Decimal | Mapping[str, object]) -> str:
    raise InvalidRequestError(
        "a number with a fraction", field="request", allowed=f'"{value}", as text'
    )
