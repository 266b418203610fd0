"""Read the fields of a callback from its raw bytes (`docs/money-safety.md` §7.1 and §7.5).

Platforms and proxies change a body without changing its meaning. Such changes are read:

- a byte order mark before the body, a line break after it;
- a `&` too many, a name without `=`;
- any spelling of the charset UTF-8, and no content type at all.

What could have two meanings is refused: a name twice, bytes that are not UTF-8, JSON that is not
flat.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, cast
from urllib.parse import parse_qsl

from wxpay_async.errors import NotificationError
from wxpay_async.protocol.strict_json import strict_json

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_CHARSET: Final = re.compile(r"charset\s*=(.*)", re.ASCII)
_NO_LETTER: Final = re.compile(r"[^a-z0-9]", re.ASCII)
_UTF_8: Final = frozenset({"utf8", "csutf8", "unicode11utf8", "unicode20utf8", "xunicode20utf8"})
"""The registered names of UTF-8 and those that browsers know, without their punctuation."""


def read_fields(headers: Mapping[str, str], body: bytes, *, at_most: int) -> dict[str, str]:
    """Return the fields that have a value; an empty one counts as absent, and is not signed.

    Args:
        headers: of the HTTP request, names in upper or lower case.
        body: the raw bytes.
        at_most: how many fields it may have.

    Raises:
        NotificationError: compressed, not what its content type says, too many fields, or a name
            twice.
    """
    if _read_header(headers, "content-encoding") not in {"", "identity"}:
        raise NotificationError("the body is compressed")
    text = body.removeprefix(codecs.BOM_UTF8).strip(b"\r\n")
    parse = _choose_parser(_read_header(headers, "content-type"), text)
    try:
        pairs = parse(text)
    except ValueError:
        pairs = None  # the error would carry the whole body into tracebacks
    if pairs is None:
        raise NotificationError("the body is not what its content type says")
    if len(pairs) > at_most:
        raise NotificationError(f"over {at_most} fields")
    params = dict(pairs)
    if len(params) < len(pairs):
        raise NotificationError("a field stands twice")
    return {name: value for name, value in params.items() if value}


def _read_header(headers: Mapping[str, str], name: str) -> str:
    found = {value.strip().lower() for key, value in headers.items() if key.lower() == name}
    if len(found) > 1:
        raise NotificationError(f"{name} stands twice")
    return found.pop() if found else ""


def _choose_parser(content_type: str, body: bytes) -> Callable[[bytes], list[tuple[str, str]]]:
    kind, *options = (part.strip() for part in content_type.split(";"))
    if not all(_is_utf_8(option) for option in options if option):
        raise NotificationError("another charset than UTF-8, or an unknown option")
    # Without a type the bytes tell: the name of no field begins with a brace.
    match kind or (_JSON if body.lstrip().startswith(b"{") else _FORM):
        case "application/x-www-form-urlencoded":
            return _parse_form
        case "application/json":
            return _parse_json
        case _:
            raise NotificationError(f"the content type is neither {_FORM} nor {_JSON}")


def _is_utf_8(option: str) -> bool:
    found = _CHARSET.fullmatch(option)
    return found is not None and _NO_LETTER.sub("", found[1]) in _UTF_8


def _parse_form(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict")


def _parse_json(body: bytes) -> list[tuple[str, str]]:
    if body.startswith(codecs.BOM_UTF8):
        raise ValueError("a second byte order mark")
    value = strict_json(body)
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - the data is bad, not the call
    return [(name, _to_text(item)) for name, item in cast("dict[str, object]", value).items()]


def _to_text(item: object) -> str:
    """Convert a JSON value to the text that a form would hold."""
    if item is None:
        return ""
    if isinstance(item, bool) or not isinstance(item, str | int | Decimal):
        raise ValueError("a value that no form can hold")  # noqa: TRY004 - the same
    return str(item)
