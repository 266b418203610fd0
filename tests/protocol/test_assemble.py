"""Values that are made of all their fields at once."""

from __future__ import annotations

import attrs
import pytest

from wxpay_async.protocol.assemble import assemble
from wxpay_async.protocol.results import TradeRef

_FIELDS = {"out_trade_no": "O-1", "trade_no": "T-1", "status": "S"}


def test_assembled_value_equals_one_made_by_its_class() -> None:
    """It is shown, compared, hashed and changed like any other."""
    made, usual = assemble(TradeRef, dict(_FIELDS)), TradeRef(**_FIELDS)

    assert made == usual
    assert hash(made) == hash(usual)
    assert repr(made) == repr(usual)
    assert attrs.evolve(made, status="P") == attrs.evolve(usual, status="P")


def test_assembled_value_is_frozen() -> None:
    """What protects a frozen value is its class, not how it was made."""
    made = assemble(TradeRef, dict(_FIELDS))

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.status = "F"  # type: ignore[misc] # that is the question
