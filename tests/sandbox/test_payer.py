"""What the payer does, and the payer of a magic value by itself."""

from decimal import Decimal

import pytest

from wxpay_async.errors import PrepayExpiredError
from wxpay_async.sandbox.magic import PayerEnd
from wxpay_async.sandbox.payer import NO_FUNDS, cancel_purchase, confirm_purchase, end_purchase
from wxpay_async.sandbox.platform_state import PlatformState
from wxpay_async.sandbox.state import Purchase, Status


@pytest.fixture
def state() -> PlatformState:
    """A platform that knows nothing yet."""
    return PlatformState(clock=lambda: 0.0, token=lambda: "t")


def make_purchase(*, scannable: bool = True) -> Purchase:
    """Make a purchase that awaits payment."""
    return Purchase(
        app_key="app",
        pay_token="t",
        amount=Decimal("1.00"),
        closes_at=None,
        scannable=scannable,
        clock=lambda: 0.0,
    )


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (PayerEnd.CONFIRM, Status.PAID, ""),
        (PayerEnd.CANCEL, Status.FAILED, ""),
        (PayerEnd.INSUFFICIENT, Status.FAILED, NO_FUNDS),
        (PayerEnd.EXPIRE, Status.CLOSED, ""),
    ],
)
def test_each_end_has_its_status(
    state: PlatformState, end: PayerEnd, status: Status, reason: str
) -> None:
    """And its reason, where the payer has not enough money."""
    purchase = make_purchase()
    end_purchase(state, purchase, end)
    assert (purchase.status, purchase.fail_reason) == (status, reason)


def test_payer_without_prepay_or_code_cannot_confirm(state: PlatformState) -> None:
    """There is nothing to tap on."""
    purchase = make_purchase(scannable=False)
    with pytest.raises(PrepayExpiredError):
        confirm_purchase(state, purchase)
    assert purchase.status is Status.AWAITING


def test_reason_of_a_purchase_that_has_ended_stays(state: PlatformState) -> None:
    """A later refusal does not rewrite it."""
    purchase = make_purchase()
    cancel_purchase(purchase, reason="first")
    cancel_purchase(purchase, reason="second")
    assert purchase.fail_reason == "first"
    assert confirm_purchase(state, purchase) is Status.FAILED
