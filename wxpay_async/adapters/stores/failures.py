"""Errors that a store raises when its database fails."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from typing import Final

from wxpay_async.errors import InDoubtError, NotSentError

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


class SetupError(Exception):
    """The store cannot be used as things are; the text says what a person has to do."""


class SchemaError(SetupError):
    """The tables are not as they must be."""


class NewerSchemaError(SchemaError):
    """A later release has laid the store out, and this one might misread it."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the store is of version {found}, this release of wxpay-async knows {known}:"
            " upgrade it"
        )


@contextlib.contextmanager
def map_failures(
    failures: tuple[type[Exception], ...], meaning: type[NotSentError | InDoubtError], task: str
) -> Generator[None]:
    """Raise a driver's failure as what it means for the operation.

    Args:
        failures: what the driver raises.
        meaning: what is raised instead.
        task: what the store was asked to do.
    """
    try:
        yield
    except SetupError as error:
        raise meaning(str(error), retryable=False) from error
    except failures as error:
        said = describe_cause(error)
        raise meaning(f"the store cannot {task} ({type(error).__name__}){said}") from error


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
