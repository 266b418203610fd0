"""Check what a database's errors mean for the transaction and for its connection."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from wxpay_async.adapters.stores.sql_failures import is_of_no_use, is_transient


class _PostgresError(Exception):
    """As both drivers raise it."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("in words")
        self.sqlstate = sqlstate


def _make_error(code: str | int) -> DBAPIError:
    cause = _PostgresError(code) if isinstance(code, str) else Exception(code, "in words")
    return OperationalError("SELECT 1", None, cause)


@pytest.mark.parametrize(
    ("code", "transient", "of_no_use"),
    [
        ("40001", True, False),  # serialization
        ("40P01", True, False),  # deadlock
        (1205, True, False),  # a lock was waited for in vain
        (1213, True, False),
        (1317, True, False),  # KILL QUERY
        ("57P01", True, True),  # pg_terminate_backend, or a shutdown
        ("57P03", True, True),  # it starts
        ("08006", True, True),
        ("08P01", True, True),  # of PgBouncer
        ("25P03", True, True),
        (1053, True, True),  # a shutdown
        (1927, True, True),  # KILL
        (2006, True, True),
        (2013, True, True),
        (4031, True, True),  # idle for too long
        (1047, True, True),  # a node of Galera that is not ready
        ("25006", False, True),  # read-only, as after a failover
        (1290, False, True),
        (1792, False, True),
        (1836, False, True),
        ("42501", False, False),  # a right is missing
        ("22001", False, False),  # a value is too long
        (1406, False, False),
        ("57014", False, False),  # it took too long for the server's own limit
        (1045, False, False),  # a wrong password
    ],
)
def test_code_says_what_to_do(code: str | int, *, transient: bool, of_no_use: bool) -> None:
    """Repeat it over the same connection, over another one, or not at all."""
    error = _make_error(code)

    assert (transient, of_no_use) == (is_transient(error), is_of_no_use(error))


def test_duplicate_key_is_transient() -> None:
    """Somebody has inserted the row at the same time: it is found when the work is repeated."""
    error = IntegrityError("INSERT", None, Exception("duplicate"))

    assert (True, False) == (is_transient(error), is_of_no_use(error))


def test_connection_that_sqlalchemy_gave_up_is_of_no_use() -> None:
    """Whatever the driver said."""
    error = DBAPIError("SELECT 1", None, Exception(), connection_invalidated=True)

    assert (True, True) == (is_transient(error), is_of_no_use(error))
