"""Which JSON every reader understands alike, and which is refused."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from wxpay_async.protocol.strict_json import MAX_DEPTH, MAX_NUMBER, strict_json

DEEPEST = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\\\ud800"', "\\ud800"),
        ('["\\ud83d\\ude00", 1.50]', ["😀", Decimal("1.50")]),
        ("12345678901234567890", 12345678901234567890),
        ("-1234567890123456789", -1234567890123456789),
        ("0.10", Decimal("0.10")),
        ('{"a": 1}', {"a": 1}),
        (' \n{"a": 1}\t\r\n', {"a": 1}),
        ('{"a": {"a": 1}}', {"a": {"a": 1}}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('\ufeff\n{"a": 1}', {"a": 1}),
        ("null", None),
        ("[]", []),
    ],
)
def test_json_is_read_exactly(text: str, expected: object) -> None:
    """A pair of surrogates is one character, a number keeps its digits, blanks are skipped."""
    actual = strict_json(text.encode())

    assert expected == actual
    assert str(expected) == str(actual)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"   ", id="white space"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"a": 1', id="truncated"),
        pytest.param(b'{"a": 1}{}', id="two documents"),
        pytest.param(b'{"a": 1} x', id="more after the document"),
        pytest.param(b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}', id="two byte order marks"),
        pytest.param(b'{"a": 1}\xef\xbb\xbf', id="byte order mark at the end"),
        pytest.param(b' \xef\xbb\xbf{"a": 1}', id="byte order mark after a blank"),
        pytest.param(b"\xef\xbb\xbf", id="byte order mark alone"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"a": "错"}'.encode("gbk"), id="gbk"),
        pytest.param(b'{"a": "\xff"}', id="no utf-8"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": Infinity}', id="Infinity"),
        pytest.param(b'{"a": -Infinity}', id="-Infinity"),
        pytest.param(b'{"a": 1, "a": 1}', id="a name twice"),
        pytest.param(b'{"a": 1, "\\u0061": 1}', id="a name twice, escaped"),
        pytest.param(b'[{"b": {"a": 1, "a": 2}}]', id="a name twice, inside"),
        pytest.param(b'{"a": %b}' % (b"1" * (MAX_NUMBER + 1)), id="21 digits"),
        pytest.param(b'{"a": 0.%b}' % (b"1" * (MAX_NUMBER - 1)), id="19 places"),
        pytest.param(b'{"a": 1e%b}' % (b"9" * MAX_NUMBER), id="an exponent"),
        pytest.param(b'{"a": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"a": "\\ude00\\ud83d"}', id="halves the wrong way round"),
        pytest.param(b'{"\\uDFFF": 1}', id="lone surrogate in a name"),
        pytest.param(b"[" * 100_000, id="100,000 levels"),
    ],
)
def test_json_that_readers_may_understand_differently_is_refused(body: bytes) -> None:
    """A `ValueError`, whatever is wrong; none of another class."""
    with pytest.raises(ValueError, match=r"."):
        strict_json(body)


def test_json_of_32_levels_is_read() -> None:
    """Objects and lists count alike; brackets in texts and beside each other do not."""
    texts = b"[" * (MAX_DEPTH - 1) + b'"]}[{"' + b"]" * (MAX_DEPTH - 1)
    wide = b"[" + b",".join([b"{}"] * 100) + b"]"

    assert strict_json(DEEPEST)
    assert strict_json(texts)
    assert 100 == len(strict_json(wide))


@pytest.mark.parametrize("body", [b"[%b]" % DEEPEST, b'{"b":[1],"a":%b}' % DEEPEST])
def test_json_of_33_levels_is_refused(body: bytes) -> None:
    """Where they stand makes no difference."""
    with pytest.raises(ValueError, match="deeper than 32"):
        strict_json(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(value=JSON, ensure_ascii=st.booleans())
def test_json_of_any_writer_is_read(value: object, *, ensure_ascii: bool) -> None:
    """What the standard library writes comes back, escaped or not."""
    assert value == strict_json(json.dumps(value, ensure_ascii=ensure_ascii).encode())


@given(st.binary(max_size=60))
def test_json_or_a_value_error_is_all_that_comes(body: bytes) -> None:
    """No other exception, whatever the bytes are."""
    try:
        strict_json(body)
    except ValueError:
        return
