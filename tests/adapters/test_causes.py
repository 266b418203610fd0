"""What is told of a failure of a database or a Redis, and what is not."""

from __future__ import annotations

import pytest

from wxpay_async.adapters.causes import describe_cause


class OperationalError(Exception):
    """One of a driver."""

    def __init__(self, text: str, orig: Exception | None = None) -> None:
        super().__init__(text)
        self.orig = orig


class IntegrityError(OperationalError):
    """One that repeats values."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OperationalError("database is locked"), ": database is locked"),
        (
            OperationalError(
                "(sqlite3.OperationalError) no\n[SQL: INSERT CANARY]\n[parameters: ('CANARY',)]",
                orig=OSError("unable to open database file"),
            ),
            ": unable to open database file",
        ),
        (
            OperationalError("unable to open [SQL: SELECT CANARY]\n[parameters: ('CANARY',)]"),
            ": unable to open",
        ),
        (
            OperationalError(
                "<class 'asyncpg.X'>: password authentication failed for user \"CANARY\""
            ),
            ": password authentication failed for user ***",
        ),
        (
            OperationalError(
                "(1045, \"Access denied for user 'CANARY'@'172.17.0.1' (using password: YES)\")"
            ),
            ": (1045, \"Access denied for user ***@'172.17.0.1' (using password: YES)\")",
        ),
        (
            OperationalError("cannot open redis://CANARY:CANARY@h:6379/0"),
            ": cannot open redis://***@h:6379/0",
        ),
        (OperationalError("user=CANARY password=CANARY host=h"), ": user=*** password=*** host=h"),
        (IntegrityError("Duplicate entry 'CANARY' for key"), ""),
        (OperationalError("x", orig=IntegrityError("CANARY")), ""),
        (ValueError("invalid literal: 'CANARY'"), ""),
        (TimeoutError(), ""),
        (
            OperationalError("No master found : <redis.asyncio.client.Redis(username=CANARY)>"),
            ": No master found",
        ),
        (OperationalError("a" * 1000), ": " + "a" * 160),
    ],
)
def test_cause_is_the_driver_s_first_line_without_what_is_secret(
    error: Exception, said: str
) -> None:
    """Neither a statement nor its parameters nor a login nor a stored value."""
    assert said == describe_cause(error)
    assert "CANARY" not in said
