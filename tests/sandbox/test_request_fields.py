"""The tables of the fields, alone. What they refuse in a request is in test_request_parsing."""

import pytest

from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.request_fields import PAY, REFUND, TRADE, Field, Group


def iter_fields(group: Group) -> list[Field]:
    """Return all fields of a table, at any depth."""
    found: list[Field] = []
    for each in group.fields:
        found += [each] if isinstance(each, Field) else iter_fields(each)
    return found


@pytest.mark.parametrize("table", [TRADE, PAY, REFUND])
def test_each_field_says_what_it_is(table: Group) -> None:
    """A pattern has words for what does not fit it; an amount has a pattern."""
    for field in iter_fields(table):
        assert field.about
        assert bool(field.pattern) is bool(field.problem)
        assert field.pattern or not field.amount


def test_optional_field_may_be_absent_null_or_empty() -> None:
    """Three ways to say nothing; a value is checked all the same."""
    field = Field(name="kind", about="of it", required=False, choices=("a", "b"))
    for fields in ({}, {"kind": None}, {"kind": ""}, {"kind": "b"}):
        field.check(fields)
    with pytest.raises(RefusalError, match="kind is none of a, b"):
        field.check({"kind": "c"})


def test_pattern_fits_the_whole_value() -> None:
    """Neither a line break nor a foreign digit passes."""
    field = Field(name="count", about="of it", pattern=r"\d+", problem="is no number")
    field.check({"count": "12"})
    for value in ("12\n", " 12", "\u0661", "1x"):
        with pytest.raises(RefusalError, match="count is no number"):
            field.check({"count": value})


def test_rows_are_counted() -> None:
    """A list that must have rows, and may not have more."""
    group = Group(name="rows", about="of it", rows=(1, 2), fields=(Field(name="a", about="b"),))
    group.check({"rows": [{"a": "1"}, {"a": "2"}]})
    for value, words in (
        (None, "missing or empty"),
        ([], "missing or empty"),
        ([{"a": "1"}] * 3, "over 2 rows"),
        ("[]", "not a list"),
        ([1], "not a JSON object"),
        ([{}], "a is missing"),
    ):
        with pytest.raises(RefusalError, match=words):
            group.check({"rows": value})
