"""Keep credentials out of logs, errors and tracebacks."""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote_plus

_CREDENTIAL: Final = re.compile(
    r'"(?:payToken|terminalPayerId|openId|buyerId)":"((?:[^"\\]|\\.)+)"', re.DOTALL
)
_SHORTEST_CREDENTIAL: Final = 6  # a shorter text may stand in the platform's words by chance


class SecretBytes(bytes):
    """Bytes that hold credentials: logs and tracebacks with locals show only their number."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__


def mask(value: str | None) -> str:
    """Show just enough of a person's identifier to recognise it in a log."""
    long_enough = 8
    if value is None:
        return "None"
    return f"'{value[:3]}…{value[-2:]}'" if len(value) > long_enough else "'…'"


def hide(value: object) -> str:
    """Show whether a credential is there, and nothing of it."""
    return "None" if value is None else "'***'"


def without_credentials(message: str | None, content: bytes | None) -> str | None:
    """Blank the request's own credentials in the platform's message about it.

    Args:
        message: the platform's errorMsg.
        content: the `bizContent` that was sent, empty for none. If it is no longer known (None),
            the credentials are not known either, and the whole message is dropped.
    """
    if message is None or content is None:
        return None
    encoded = set(_CREDENTIAL.findall(content.decode()))
    values = {text: json.loads(f'"{text}"') for text in encoded}
    forms = {
        form
        for text, value in values.items()
        if len(value) >= _SHORTEST_CREDENTIAL
        for form in (text, value, quote_plus(value))
    }
    if not forms:
        return message
    # The longest first: one credential may be the beginning of another.
    longest_first = map(re.escape, sorted(forms, key=len, reverse=True))
    return re.sub("|".join(longest_first), "***", message, flags=re.IGNORECASE)
