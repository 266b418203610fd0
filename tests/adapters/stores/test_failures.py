"""Check what a store raises when its database fails."""

from __future__ import annotations

import pytest

from wxpay_async.adapters.stores.failures import NewerSchemaError, map_failures
from wxpay_async.errors import InDoubtError, NotSentError


@pytest.mark.parametrize("meaning", [NotSentError, InDoubtError])
def test_driver_failure_is_raised_as_its_meaning(
    meaning: type[NotSentError | InDoubtError],
) -> None:
    """The text names the task and the kind of failure, and what the driver says."""
    cause = ConnectionError("[Errno 111] Connect call failed ('127.0.0.1', 5432)\nand more")
    said = r"^the store cannot sweep \(ConnectionError\): .*failed \('127\.0\.0\.1', 5432\)$"
    with (
        pytest.raises(meaning, match=said) as raised,
        map_failures((OSError,), meaning, "sweep"),
    ):
        raise cause

    assert raised.value.__cause__ is cause
    assert raised.value.retryable


def test_newer_schema_is_not_retryable() -> None:
    """Only an upgrade helps, and the text says so."""
    with (
        pytest.raises(NotSentError, match=r"version 3.* knows 1: upgrade it") as raised,
        map_failures((OSError,), NotSentError, "sweep"),
    ):
        raise NewerSchemaError(3, 1)

    assert not raised.value.retryable


def test_other_error_passes() -> None:
    """A mistake in the package is not taken for a failure of the database."""
    with pytest.raises(ZeroDivisionError), map_failures((OSError,), NotSentError, "sweep"):
        raise ZeroDivisionError
