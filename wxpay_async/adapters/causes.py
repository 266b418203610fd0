"""Describe what a database or a Redis said, without what is secret."""

from __future__ import annotations

import re
from typing import Final

_WITH_VALUES: Final = ("IntegrityError", "DataError")
"""Drivers write what was to be stored into the texts of these."""

_NO_TEXT: Final = (ValueError, OverflowError)
"""These are raised over values: of a row, a number, an address."""

_LONGEST: Final = 160
_PREFIX: Final = re.compile(r"^\s*<class '[\w.]+'>:\s*")
_LOGIN: Final = re.compile(r"//[^/\s]*@")
_NAMED: Final = re.compile(
    r"\b(user|role|username|password|passwd)\b(\s*[=:]?\s*)(\"[^\"]*\"|'[^']*'|(?<=[=:])\S+)",
    re.IGNORECASE,
)
_STATEMENT: Final = re.compile(r"\s*\[(?:SQL|parameters)\b.*", re.DOTALL)
_OBJECT: Final = re.compile(r"[\s:]*<redis\..*", re.DOTALL)
"""A client of Redis, as Python shows it: it says nothing to people."""


def describe_cause(error: Exception) -> str:
    """Return the first line of what the driver says, after a colon; nothing where it says nothing.

    Statements, their parameters, logins, and texts that may repeat a stored value are left out.
    """
    cause: object = getattr(error, "orig", None) or error
    names = {type(each).__name__ for each in (error, cause)}
    if isinstance(cause, _NO_TEXT) or not names.isdisjoint(_WITH_VALUES):
        return ""
    text = _OBJECT.sub("", _STATEMENT.sub("", _PREFIX.sub("", str(cause)))).strip()
    first = text.splitlines()[0].strip() if text else ""
    shown = _NAMED.sub(r"\1\2***", _LOGIN.sub("//***@", first))[:_LONGEST]
    return f": {shown}" if shown else ""
