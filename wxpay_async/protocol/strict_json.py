"""JSON that every reader understands alike.

Every limit here (size of numbers, depth, duplicate names) closes a way to make two readers of the
same bytes see different things.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final

MAX_DEPTH: Final = 32
MAX_NUMBER: Final = 20
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def strict_json(body: bytes) -> Any:  # noqa: ANN401 - JSON is what it is
    """Decode JSON that every reader understands alike.

    Raises:
        ValueError: not UTF-8, a name twice, NaN or Infinity, a number of over 20 characters, a
            lone surrogate, or deeper than 32.
    """
    text = body.decode("utf-8")
    try:
        # Nearly every reply is plain: no escapes, no white space. Then `":` ends each name and
        # nothing else, and a name that appears twice leaves fewer names than there are ends.
        if "\\" not in text and text[:1] == "{":
            value, end = _PLAIN.raw_decode(text)
            if end == len(text) and _count_names(value, MAX_DEPTH) == text.count('":'):
                return value
        value = _PAIRWISE.decode(text)
    except RecursionError:
        raise ValueError(f"JSON deeper than {MAX_DEPTH}") from None
    _count_names(value, MAX_DEPTH)
    if _ESCAPED_SURROGATE.search(body):
        # Halves of a pair were joined by now; what is left cannot be encoded, stored or printed.
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    return value


def _count_names(value: Any, levels: int) -> int:  # noqa: ANN401 - decoded JSON
    """Return how many names of members there are, at all levels.

    Raises:
        ValueError: it is nested deeper than so many levels.
    """
    kind = type(value)
    if kind is not dict and kind is not list:
        return 0
    if not levels:
        raise ValueError(f"JSON deeper than {MAX_DEPTH}")
    found = len(value) if kind is dict else 0
    for item in value.values() if kind is dict else value:
        if type(item) is not str:
            found += _count_names(item, levels - 1)
    return found


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


def _decoder(*, pairwise: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_unique if pairwise else None,
        parse_constant=_no_constant,
        parse_float=_decimal,
        parse_int=_integer,
    )


_PLAIN: Final = _decoder(pairwise=False)
_PAIRWISE: Final = _decoder(pairwise=True)
