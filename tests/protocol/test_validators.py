"""The limits of single fields."""

from decimal import Decimal, localcontext

import attrs
import pytest

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol import money, secrets, validators


@attrs.frozen(kw_only=True)
class Sample:
    """Fields for the branches that no request reaches."""

    some_name: str = attrs.field(default="a", validator=validators.text)
    renamed: str = attrs.field(
        default="a", validator=validators.text, metadata={"wire": "wire_name"}
    )
    extra: object = attrs.field(
        default=validators.NOTHING, converter=validators.freeze_json, validator=validators.extra
    )


def test_wire_name_is_camel_case_unless_the_page_writes_it_otherwise() -> None:
    """The platform's name is the attribute's name in camelCase, or the one in its metadata."""
    names = [validators.wire_name(attribute) for attribute in attrs.fields(Sample)]

    assert ["someName", "wire_name", "extra"] == names


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
def test_an_amount_is_converted_exactly(given: str | int | Decimal, expected: str) -> None:
    """Decimal, str and int become the same amount with two decimal places."""
    assert expected == str(money.as_amount(given, "amount"))


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
def test_an_invalid_amount_is_refused(given: str | int | Decimal) -> None:
    """The error names the field and the range, and is short for any input."""
    with pytest.raises(InvalidRequestError) as caught:
        money.as_amount(given, "refundAmount")

    assert "refundAmount" == caught.value.field
    assert money.AMOUNTS == caught.value.allowed
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("given", [1.0, 0.1, True, False, None, b"1", [1], 1 + 0j])
def test_an_amount_of_another_type_is_a_type_error(given: object) -> None:
    """A float would lose cents, and a bool is no amount."""
    with pytest.raises(TypeError, match=f"amount: .* not {type(given).__name__}"):
        money.as_amount(given, "amount")


@pytest.mark.parametrize("precision", [1, 4, 28])
def test_an_amount_does_not_depend_on_the_decimal_context(precision: int) -> None:
    """A context of the application, with low precision or traps, changes nothing."""
    with localcontext() as context:
        context.prec = precision
        context.traps = dict.fromkeys(context.traps, True)
        amount = money.as_amount("12345678901.23", "amount")

    assert "12345678901.23" == str(amount)


@pytest.mark.parametrize(
    ("given", "expected"), [("1", 1), (1, 1), ("30", 30), ("9" * 14, 10**14 - 1)]
)
def test_a_quantity_is_a_positive_integer_or_its_text(given: str | int, expected: int) -> None:
    """Both forms give the integer."""
    assert expected == validators.as_quantity(given)


@pytest.mark.parametrize(
    "given",
    [
        *(0, -1, 10**14, pytest.param(10**5000, id="huge")),
        *("", "0", "03", "1.0", "-1", "+1", " 1", "1e3", "３", "9" * 5000),
    ],
)
def test_an_invalid_quantity_is_refused(given: str | int) -> None:
    """Even a number that is too long for Python is an `InvalidRequestError`."""
    with pytest.raises(InvalidRequestError, match="an integer above 0") as caught:
        validators.as_quantity(given)

    assert "quantity" == caught.value.field


@pytest.mark.parametrize("given", [True, 1.0, None, Decimal(1)])
def test_a_quantity_of_another_type_is_a_type_error(given: object) -> None:
    """A bool is an int in Python, but no quantity."""
    with pytest.raises(TypeError, match="quantity"):
        validators.as_quantity(given)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**53 - 1), "", "中文 & = + % 😀", "a\nb", [], {}),
        *([1, ["2"]], {"a": {"b": [None]}}, ("a", "b"), validators.freeze_json({"a": 1})),
    ],
)
def test_unknown_fields_of_any_json_kind_are_accepted(value: validators.Json) -> None:
    """Text, integers, booleans, null, lists and objects pass."""
    copied = validators.freeze_json({"newField": value})["newField"]

    expected = list(value) if isinstance(value, tuple) else value
    assert expected == copied


@pytest.mark.parametrize("value", [1.5, [1.5], {"a": 1.5}, Decimal("1.5"), b"a", {1, 2}])
def test_an_unknown_field_of_inexact_json_is_a_type_error(value: validators.Json) -> None:
    """A float, or a value that is no JSON, is refused with the field's name."""
    with pytest.raises(TypeError, match="newField"):
        validators.freeze_json({"newField": value})


def test_a_json_name_is_a_text() -> None:
    """`json` would write the keys 1 and "1" as the same name twice."""
    with pytest.raises(TypeError, match="keys of a JSON object are str, not int"):
        validators.freeze_json({1: "a", "1": "b"})
    with pytest.raises(TypeError, match="outer: the keys"):
        validators.freeze_json({"outer": {1: "a"}})


@pytest.mark.parametrize(
    "extra",
    [
        *({"\ud800": "a"}, {"a": "\udfff"}, {"a": ["\ud800"]}, {"a": {"\ud800": 1}}),
        *({"a": 2**53}, {"a": -(2**53)}, pytest.param({"a": [10**5000]}, id="huge")),
    ],
)
def test_ambiguous_json_is_refused(
    extra: dict[str, validators.Json],
) -> None:
    """Lone surrogates cannot be encoded, and some readers round integers beyond 2**53."""
    with pytest.raises(InvalidRequestError):
        validators.freeze_json(extra)


def test_nesting_ends_at_sixteen() -> None:
    """A list that contains itself, or an absurd depth, must not exhaust the stack."""
    deepest: validators.Json = "end"
    for _ in range(16):
        deepest = [deepest]
    endless: list[validators.Json] = []
    endless.append(endless)

    assert deepest == validators.freeze_json({"a": deepest})["a"]
    for value in ([deepest], endless):
        with pytest.raises(InvalidRequestError, match="16 levels"):
            validators.freeze_json({"a": value})


def test_later_changes_do_not_reach_the_copy() -> None:
    """Neither the mapping nor its nested values are shared with the caller."""
    inner: dict[str, validators.Json] = {"b": [1]}
    given: dict[str, validators.Json] = {"a": inner}
    frozen = validators.freeze_json(given)
    inner["b"] = 2
    given["c"] = 3

    assert {"a": {"b": [1]}} == frozen


def test_the_copy_cannot_be_assigned_to() -> None:
    """The values that were checked are the values that are sent."""
    with pytest.raises(TypeError):
        validators.freeze_json({"a": 1})["b"] = 2


def test_extra_may_not_shadow_a_known_field() -> None:
    """The model's own wire names are refused; others pass."""
    assert {"some_name": "a"} == Sample(extra={"some_name": "a"}).extra
    for name in ("someName", "wire_name"):
        with pytest.raises(InvalidRequestError, match="does not have") as caught:
            Sample(extra={name: "a"})
        assert name == caught.value.field


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "None"), ("", "'…'"), ("12345678", "'…'"), ("oUpF8uMuAJO", "'oUp…JO'")],
)
def test_mask_shows_five_characters_at_most(value: str | None, expected: str) -> None:
    """A short identifier is not shown at all."""
    assert expected == secrets.mask(value)


def test_hide_shows_only_whether_there_is_a_value() -> None:
    """A credential is not shown, not even its length."""
    assert ["None", "'***'", "'***'"] == [secrets.hide(value) for value in (None, "", "token")]


def test_show_names_shows_no_values() -> None:
    """The value of an unknown field may be a secret, so only its name is shown."""
    assert "{'a', 'b'}" == validators.show_names({"a": "secret", "b": 1})


def test_secret_bytes_show_only_their_number() -> None:
    """Only the repr differs from other bytes."""
    secret = secrets.SecretBytes(b"token")

    assert ("<5 bytes>", "<5 bytes>", b"token") == (repr(secret), str(secret), secret)
