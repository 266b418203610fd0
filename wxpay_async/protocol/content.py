"""Write a request's `bizContent`: the bytes that are signed, and their form, which is sent.

Nearly every payment consists of texts that both take as they are. Then both are filled in around
the same values, and nothing is escaped or quoted character by character.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any, Final

from yarl import URL

from wxpay_async.protocol.codec import encode_fields, wire_fields
from wxpay_async.protocol.requests import Request
from wxpay_async.protocol.secrets import SecretBytes

_UNQUOTED: Final = re.compile(r"[A-Za-z0-9_.~:,-]*")
"""What neither JSON escapes nor a form quotes."""


def write_content(request: Request) -> tuple[bytes, str]:
    """Return what `serialize` makes of a request, and what `quote` makes of that."""
    fields = wire_fields(request)
    values = [*fields.values()]
    if not _are_unquoted(values):
        content = encode_fields(fields)
        return content, quote(content.decode())
    plain, quoted = _layouts(*fields)
    return SecretBytes(_fill(plain, values), "utf-8"), _fill(quoted, values)


def quote(value: str) -> str:
    """Quote a value for a form; looking first takes a quarter of the time that yarl takes."""
    if _UNQUOTED.fullmatch(value):
        return value
    return URL.build(path="/", query={"": value}).raw_query_string[1:]


def _are_unquoted(values: list[Any]) -> bool:
    try:
        return _UNQUOTED.fullmatch("".join(values)) is not None
    except TypeError:  # a list or an object is among them
        return False


@functools.lru_cache(maxsize=64)  # the names of `extra` are the merchant's
def _layouts(*names: str) -> tuple[list[str], list[str]]:
    """Return a JSON object of texts in pieces, and its form: every second one is for a value."""
    plain = ["{"]
    for name in names:
        plain[-1] += f'{json.dumps(name, ensure_ascii=False)}:"'
        plain += ["", '",']
    plain[-1] = '"}'
    return plain, [quote(piece) for piece in plain]


def _fill(layout: list[str], values: list[str]) -> str:
    pieces = layout.copy()
    pieces[1::2] = values
    return "".join(pieces)
