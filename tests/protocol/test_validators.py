"""The limits of single fields."""

from decimal import Decimal

import attrs
import pytest

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol import validators


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
    ("given", "expected"), [("1", 1), (1, 1), ("30", 30), ("9" * 14, 10**14 - 1)]
)
def test_quantity_as_a_positive_integer_or_its_text_is_that_integer(
    given: str | int, expected: int
) -> None:
    """Both forms give the integer."""
    assert expected == validators.as_quantity(given)


@pytest.mark.parametrize(
    "given",
    [
        *(0, -1, 10**14, pytest.param(10**5000, id="huge")),
        *("", "0", "03", "1.0", "-1", "+1", " 1", "1e3", "３", "9" * 5000),
    ],
)
def test_invalid_quantity_is_refused(given: str | int) -> None:
    """Even a number that is too long for Python is an `InvalidRequestError`."""
    with pytest.raises(InvalidRequestError, match="an integer above 0") as caught:
        validators.as_quantity(given)

    assert "quantity" == caught.value.field


@pytest.mark.parametrize("given", [True, 1.0, None, Decimal(1)])
def test_quantity_of_another_type_is_a_type_error(given: object) -> None:
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
def test_unknown_field_of_inexact_json_is_a_type_error(value: validators.Json) -> None:
    """A float, or a value that is no JSON, is refused with the field's name."""
    with pytest.raises(TypeError, match="newField"):
        validators.freeze_json({"newField": value})


def test_json_name_that_is_no_text_is_a_type_error() -> None:
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


def test_copy_that_was_checked_cannot_be_assigned_to() -> None:
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


def test_show_names_shows_no_values() -> None:
    """The value of an unknown field may be a secret, so only its name is shown."""
    assert "{'a', 'b'}" == validators.show_names({"a": "secret", "b": 1})
