"""The fields of a callback's body; `test_notify.py` has what a harmless change may be."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tests.support.platform import FORM
from wxpay_async.errors import NotificationError
from wxpay_async.protocol.callback_body import read_fields

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (FORM, b"a=1&b=%E5%95%86+x"),
        (FORM, b"\xef\xbb\xbf&a=1&&b=%e5%95%86%20x&c&d=&\r\n"),
        (JSON, '{"b": "商 x", "a": 1, "c": null, "d": ""}'.encode()),
        ({}, b'\xef\xbb\xbf\n {"b": "\\u5546 x", "a": "1"}'),
        ({}, b"b=%E5%95%86+x&a=1"),
    ],
)
def test_one_meaning_gives_the_same_fields(headers: dict[str, str], body: bytes) -> None:
    """Whatever the spelling; a field without a value is absent."""
    assert {"a": "1", "b": "商 x"} == read_fields(headers, body, at_most=9)


def test_type_that_is_given_is_not_guessed() -> None:
    """JSON that calls itself a form is one name without a value, and a form is no JSON."""
    assert {} == read_fields(FORM, b'{"a": "1"}', at_most=9)
    with pytest.raises(NotificationError, match="content type"):
        read_fields(JSON, b"a=1", at_most=9)


@given(
    fields=st.dictionaries(
        st.text("abc", min_size=1), st.text("xyz \r\n&=+", min_size=1), max_size=4
    ),
    more=st.sampled_from([b"", b"&", b"&d", b"&&d="]),
)
def test_quoted_values_survive_every_harmless_change(fields: dict[str, str], more: bytes) -> None:
    """What is quoted is no line break, `&` or plus sign of the form: it belongs to the value."""
    quoted = "&".join(
        f"{name}=" + "".join(f"%{ord(c):02X}" for c in value) for name, value in fields.items()
    )

    assert fields == read_fields(FORM, b"\xef\xbb\xbf" + quoted.encode() + more, at_most=9)
