"""Check that every store finds what is open by the number that a callback tells."""

from __future__ import annotations

import pytest

from tests.contract.stores import Place, set_state
from tests.support.records import NOW
from wxpay_async.adapters.stores.store import Store
from wxpay_async.policy.record import OPEN
from wxpay_async.policy.states import State


@pytest.mark.parametrize("state", State)
async def test_only_what_is_open_is_found_by_its_number(
    place: Place, store: Store, state: State
) -> None:
    """A settled operation needs no callback, and nothing was sent of one that is reserved."""
    record = set_state(place.make_record(out_trade_no="订单-1", next_check_at=NOW + 5), state)
    await store.reserve(record)

    found = await place.make_store().find_open(place.app_key, "订单-1")

    assert ([record] if state in {*OPEN, State.SENDING} else []) == found


async def test_numbers_are_compared_exactly(place: Place, store: Store) -> None:
    """Case matters, a part is no number, and another appKey's order has nothing to do with it."""
    numbers = {"a": "O-1", "b": "o-1", "c": "O-11", "d": "O-", "e": None, "f": "O-1"}
    for name, number in numbers.items():
        await store.reserve(
            place.make_record(name, out_trade_no=number, state=State.UNKNOWN, next_check_at=NOW + 5)
        )

    found = await store.find_open(place.app_key, "O-1")

    assert ["a", "f"] == sorted(record.request_id for record in found)
    assert [] == await store.find_open(f"{place.app_key}x", "O-1")


async def test_number_without_operations_finds_nothing(place: Place, store: Store) -> None:
    """Most callbacks are about orders that are not in doubt."""
    await store.reserve(place.make_record(out_trade_no=None))

    assert [] == await store.find_open(place.app_key, "O-1")
    assert [] == await store.find_open(place.app_key, "")
