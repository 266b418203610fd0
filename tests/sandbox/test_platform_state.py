"""What a platform knows: merchants, numbers, and the ledger."""

from decimal import Decimal

import pytest

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox.platform_state import PlatformState


@pytest.fixture
def state() -> PlatformState:
    """A platform at 08:00 in China on the first day of 1970."""
    return PlatformState(clock=lambda: 0.0, token=lambda: "t")


def test_number_is_never_given_twice(state: PlatformState) -> None:
    """It begins with the day of the platform's own time."""
    first = state.give_number()
    state.advance(86_400)
    assert [first, state.give_number()] == ["1970010100000001", "1970010200000002"]


def test_record_keeps_who_did_what_under_its_request_id(state: PlatformState) -> None:
    """Each appKey has ids of its own; a charge has none."""
    for app_key in ("a", "b"):
        state.add_app(app_key, app_secret="s")
        state.record("pay", app_key, amount=Decimal(1), numbers=["A1"], request_id="r")
    state.record("charge", "a", amount=Decimal(1), numbers=["A1"])
    assert [entry.app_key for entry in state.find_entries("r")] == ["a", "b"]
    assert [entry.kind for entry in state.ledger] == ["pay", "pay", "charge"]
    assert state.find_entries("") == ()


@pytest.mark.parametrize("app_key", ["", "a"])
def test_app_key_empty_or_taken_is_refused(state: PlatformState, app_key: str) -> None:
    """The merchant that is there stays."""
    state.add_app("a", app_secret="s")
    with pytest.raises(InvalidRequestError, match="appKey"):
        state.add_app(app_key, app_secret="other")
    assert state.apps["a"].app_secret == "s"


def test_unknown_app_key_has_an_empty_account(state: PlatformState) -> None:
    """And no order of it is found."""
    assert state.find_account("nobody").trades == {}
    with pytest.raises(InvalidRequestError, match="no such order"):
        state.find_purchase("A1", "nobody")
    with pytest.raises(InvalidRequestError, match="no such order"):
        state.build_callback("A1")
