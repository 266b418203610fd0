"""Errors that a store raises when its database fails."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from wxpay_async.adapters.causes import describe_cause
from wxpay_async.errors import InDoubtError, NotSentError


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
