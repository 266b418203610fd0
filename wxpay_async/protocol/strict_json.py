"""Decode JSON that every reader understands alike.

Every limit here (size of numbers, depth, duplicate names) closes a way to make two readers of the
same bytes see different things.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final, cast

MAX_DEPTH: Final = 32
MAX_NUMBER: Final = 20
_BYTE_ORDER_MARK: Final = "\ufeff"
_BYTES_ORDER_MARK: Final = _BYTE_ORDER_MARK.encode()
_LOOK: Final = 1024
_HTML: Final = (b"<!doctype html", b"<html", b"<head", b"<body")
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def strict_json(body: bytes) -> Any:  # noqa: ANN401 - JSON is what it is
    """Decode JSON that every reader understands alike.

    One byte order mark before it means nothing, and proxies and templates of servers put it there
    (`protocol.md`, decision 16).

    Raises:
        ValueError: not UTF-8, a name twice, NaN or Infinity, a number of over 20 characters, a
            lone surrogate, or deeper than 32.
    """
    text = body.decode("utf-8")
    try:
        # Nearly every reply is one object with no white space around it.
        value, end = _DECODER.raw_decode(text) if text[:1] == "{" else (None, -1)
        if end != len(text):
            value = _DECODER.decode(text.removeprefix(_BYTE_ORDER_MARK))
    except RecursionError:
        raise ValueError(f"JSON deeper than {MAX_DEPTH}") from None
    # Counting brackets is cheap and nearly always enough; only a candidate is walked.
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    if "\\" in text and _ESCAPED_SURROGATE.search(body):
        # Halves of a pair were joined by now; what is left cannot be encoded, stored or printed.
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    return value


def describe_body(body: bytes, error: ValueError) -> str:
    """Say what came in place of JSON, in words that repeat nothing of it.

    Args:
        body: what `strict_json` did not read.
        error: what it raised.
    """
    start = body[:_LOOK].removeprefix(_BYTES_ORDER_MARK).lstrip().lower()
    if not start:
        return "an empty body"
    if start.startswith(b"<"):
        return "an HTML page" if any(mark in start for mark in _HTML) else "XML or another page"
    if isinstance(error, UnicodeDecodeError):
        return "bytes that are not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        if start.startswith((b"{", b"[")):
            return f"JSON that is cut short or damaged (at character {error.pos + 1})"
        return "text that is not JSON"
    reason = "a lone surrogate" if isinstance(error, UnicodeEncodeError) else error
    return f"JSON that readers may understand differently ({reason})"


def _check_depth(value: object, left: int) -> None:
    if isinstance(value, dict):
        items = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        items = cast("list[object]", value)
    else:
        return
    if not left:
        raise ValueError(f"JSON deeper than {MAX_DEPTH}")
    for item in items:
        _check_depth(item, left - 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one JSON object")
    return members


def _no_constant(name: str) -> Any:  # noqa: ANN401 - json's own signature
    raise ValueError(f"{name} is no JSON number")


def _decimal(digits: str) -> Decimal:
    _check_length(digits)
    return Decimal(digits)


def _integer(digits: str) -> int:
    _check_length(digits)
    return int(digits)


def _check_length(digits: str) -> None:
    if len(digits) > MAX_NUMBER:
        raise ValueError(f"a number of {len(digits)} characters")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_no_constant,
    parse_float=_decimal,
    parse_int=_integer,
)
