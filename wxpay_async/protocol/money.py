"""Convert amounts of money: exact, in yuan, within the platform's limits."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Final

from wxpay_async.errors import InvalidRequestError

MIN_AMOUNT: Final = Decimal("0.01")
MAX_AMOUNT: Final = Decimal("100000000000.00")
AMOUNTS: Final = "yuan from 0.01 to 100000000000.00 with at most two decimal places"
EXACT: Final = Context(prec=40, traps=[])
"""For arithmetic on money: the thread's own context may round to any precision, or trap."""

_AMOUNT: Final = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,2})?", re.ASCII)


def as_amount(value: object, name: str) -> Decimal:
    """Convert to an exact amount of yuan; a float is a `TypeError`."""
    if isinstance(value, str) and not _AMOUNT.fullmatch(value):
        raise InvalidRequestError(f"{value[:24]!r} is no amount", field=name, allowed=AMOUNTS)
    amount = as_decimal(value, name)
    if not amount.is_finite() or not MIN_AMOUNT <= amount <= MAX_AMOUNT:
        raise InvalidRequestError(f"{amount:.24} is out of range", field=name, allowed=AMOUNTS)
    cents = amount.quantize(MIN_AMOUNT, context=EXACT)
    if cents != amount:
        shown = str(amount)[:24]
        raise InvalidRequestError(f"{shown} has too many places", field=name, allowed=AMOUNTS)
    return cents


def as_decimal(value: object, name: str) -> Decimal:
    """Convert to `Decimal` exactly; a float, which would lose or invent cents, is refused."""
    if isinstance(value, bool) or not isinstance(value, Decimal | str | int):
        raise TypeError(f"{name}: an amount is Decimal, str or int, not {type(value).__name__}")
    return value if isinstance(value, Decimal) else Decimal(value)
