"""Amounts of money are converted exactly, or refused."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given, strategies as st

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.money import AMOUNTS, as_amount, as_decimal


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0.01", "0.01"),
        ("1", "1.00"),
        ("1.5", "1.50"),
        ("100000000000.00", "100000000000.00"),
        ("100000000000", "100000000000.00"),
        (1, "1.00"),
        (100_000_000_000, "100000000000.00"),
        (Decimal("1E+2"), "100.00"),
        (Decimal("0.010"), "0.01"),
        (Decimal("33.69"), "33.69"),
    ],
)
def test_amount_is_converted_exactly(given: str | int | Decimal, expected: str) -> None:
    """Decimal, str and int become the same amount with two decimal places."""
    assert expected == str(as_amount(given, "amount"))


@pytest.mark.parametrize(
    "given",
    [
        *("", "0", "0.00", "0.009", "0.001", "100000000000.01", "1000000000000", "1e+06", "1E2"),
        *("1,000", " 1", "1 ", "1\n", "１", "+1", "-1", "-0.01", "1.", ".5", "01", "1_000", "0x1"),
        *("NaN", "Infinity", "1.234", "٣", "1" * 5000),
        *(0, -1, 100_000_000_001, pytest.param(10**5000, id="huge")),
        *(Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity")),
        *(Decimal(0), Decimal(-1), Decimal("0.009"), Decimal("1.001"), Decimal("1E+999999")),
        *(Decimal("100000000000.01"), Decimal("1E-999999"), Decimal("1." + "0" * 5000 + "1")),
    ],
)
def test_amount_that_is_invalid_is_refused(given: str | int | Decimal) -> None:
    """The error names the field and the range, and is short for any input."""
    with pytest.raises(InvalidRequestError) as caught:
        as_amount(given, "refundAmount")

    assert "refundAmount" == caught.value.field
    assert AMOUNTS == caught.value.allowed
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("given", [1.0, 0.1, True, False, None, b"1", [1], 1 + 0j])
def test_amount_of_another_type_is_a_type_error(given: object) -> None:
    """A float would lose cents, and a bool is no amount."""
    with pytest.raises(TypeError, match=f"amount: .* not {type(given).__name__}"):
        as_amount(given, "amount")


@pytest.mark.parametrize("precision", [1, 4, 28])
def test_amount_does_not_depend_on_the_decimal_context(precision: int) -> None:
    """A context of the application, with low precision or traps, changes nothing."""
    with localcontext() as context:
        context.prec = precision
        context.traps = dict.fromkeys(context.traps, True)
        amount = as_amount("12345678901.23", "amount")

    assert "12345678901.23" == str(amount)


@given(st.integers(1, 10**13))
def test_amount_of_any_cents_is_the_same_however_it_is_given(cents: int) -> None:
    """As text with and without places, and as `Decimal` of any exponent."""
    exact = Decimal(cents).scaleb(-2)
    text = f"{cents // 100}.{cents % 100:02d}"

    assert text == str(as_amount(text, "amount")) == str(as_amount(exact, "amount"))
    assert text == str(as_amount(exact.normalize(), "amount"))


@pytest.mark.parametrize("given", ["-0.5", "0.123456789", 0, Decimal("-1E+3")])
def test_decimal_has_no_limits(given: str | int | Decimal) -> None:
    """Only the kinds are checked: fees may be negative, and finer than a cent."""
    assert Decimal(given) == as_decimal(given, "payerFee")


@pytest.mark.parametrize("given", [0.5, True, None, b"1"])
def test_decimal_of_another_type_is_a_type_error(given: object) -> None:
    """It names the field and the type, and not the value."""
    with pytest.raises(TypeError, match=f"payerFee: .* not {type(given).__name__}"):
        as_decimal(given, "payerFee")
