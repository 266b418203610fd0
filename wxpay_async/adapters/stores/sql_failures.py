"""Meanings of a database's errors, for the connection and for the transaction."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError

_TRANSIENT: Final = frozenset({"40001", "40P01", "42P07", 1205, 1213, 1317})
"""Serialization, deadlock, lock wait, a killed query; a table that was just made elsewhere."""

_READ_ONLY: Final = frozenset({"25006", 1290, 1792, 1836})
"""After a failover: the server was the primary when the connection was opened."""

_LOST: Final = frozenset(
    {
        *("25P03", "57P01", "57P02", "57P03", "57P05"),  # idle, shutdown, crash, starting, idle
        *(1047, 1053, 1152, 1158, 1159, 1160, 1161, 1927),  # Galera, shutdown, the line, KILL
        *(2006, 2013, 2014, 2055, 4031),  # the same, as the client sees it; idle
    }
)
_CONNECTION: Final = "08"
"""How SQLSTATEs about connections begin; PgBouncer gives one to each of its own errors."""


def is_transient(error: DBAPIError) -> bool:
    """Tell whether the same transaction is likely to succeed when it is repeated."""
    if isinstance(error, IntegrityError) or _is_lost(error):
        return True
    return any(code in _TRANSIENT for code in find_codes(error))


def is_of_no_use(error: DBAPIError) -> bool:
    """Tell whether the transaction may succeed over another connection, but not over this one."""
    return _is_lost(error) or any(code in _READ_ONLY for code in find_codes(error))


def _is_lost(error: DBAPIError) -> bool:
    codes = find_codes(error)
    return error.connection_invalidated or any(
        code in _LOST or (isinstance(code, str) and code.startswith(_CONNECTION)) for code in codes
    )


def find_codes(error: DBAPIError) -> list[str | int]:
    """Return the SQLSTATE of PostgreSQL, or the number of MySQL."""
    cause = error.orig
    codes = (getattr(cause, "sqlstate", None), *(cause.args[:1] if cause else ()))
    return [code for code in codes if isinstance(code, str | int)]
