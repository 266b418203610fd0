"""Build the canonical string, which both signing schemes sign.

It holds all parameters but `sign` and those whose value is empty, sorted by name in ASCII order,
joined as `name=value` with `&`, values raw.

Nothing in it is quoted, so a value with `&` or `=` could stand for another set of parameters. Only
`bizContent` may hold them: it is one complete JSON object, and no prefix of a JSON object is one,
so the string stays unambiguous. In any other value they are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from wxpay_async.errors import InvalidRequestError

_JSON_PARAMETER: Final = "bizContent"
_JSON: Final = json.JSONDecoder()
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]+", re.ASCII)


def canonical_string(params: Mapping[str, str]) -> str:
    """Return the string that both schemes sign (the platform's page on signing).

    To find the cause of a signature mismatch, compare it with the platform's.

    Args:
        params: every parameter of the call; `sign` and empty values are left out by the rule.

    Raises:
        InvalidRequestError: a name or a value makes the string ambiguous, or has no UTF-8 form.
        TypeError: a name or a value is no text.
    """
    pairs: list[str] = []
    try:
        for name in sorted(params):
            value = params[name]
            if name == "sign" or value == "":
                continue
            # This test is cheaper than a call for each pair, and nearly always enough.
            plain = name.isascii() and name.isidentifier() and "&" not in value and "=" not in value
            if not plain or name == _JSON_PARAMETER:
                _check_unambiguous(name, value)
            pairs.append(name + "=" + value)  # an f-string would write a list as well
    except (TypeError, AttributeError) as error:
        raise _explain(params, error) from None
    text = "&".join(pairs)
    if not _has_utf8(text):  # a later encoding error would carry the text into a log
        raise InvalidRequestError("a value holds half of a surrogate pair", allowed="Unicode text")
    return text


def _explain(params: Mapping[str, str], error: Exception) -> Exception:
    """Return an error that names the parameter that is no text, or the error itself."""
    for name, value in cast("Mapping[object, object]", params).items():
        if not isinstance(name, str):
            return TypeError(f"{_show(repr(name))}: a parameter's name is a str")
        if not isinstance(value, str):
            return TypeError(f"{_show(name)}: a str, not {type(value).__name__}")
    return error


def _show(name: str) -> str:
    return ascii(name[:32])[1:-1]  # it may come from an unknown sender and end in a log


def _check_unambiguous(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            "not a parameter's name", field=_show(name), allowed="letters, digits, _ . -"
        )
    if name == _JSON_PARAMETER:
        if not _is_object(value):
            raise InvalidRequestError("no JSON object", field=name, allowed="one JSON object")
    elif "&" in value or "=" in value:
        raise InvalidRequestError(
            "holds & or =, which makes the signed string ambiguous",
            field=name,
            allowed=f"text without & and = (only {_JSON_PARAMETER} may hold them)",
        )


def _is_object(value: str) -> bool:
    # JSON that begins with a brace is an object. The parser runs in C and stops at its end.
    if not value.startswith("{"):
        return False
    try:
        end = _JSON.raw_decode(value)[1]
    except (ValueError, RecursionError):
        return False
    return end == len(value) or not value[end:].strip(" \t\r\n")


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
