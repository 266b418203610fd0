"""The strings that other code signs by mistake."""

from __future__ import annotations

import json

import pytest

from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.explain_causes import Cause
from wxpay_async.protocol.explain_variants import JsonStyle, Recipe, write_variants

TEXT = '{"b":"a/b&c","a":{"z":"茶","y":1.5},"zero":"0","list":[{"n":"0"}]}'
PARAMS = {"appKey": "gm1", "bizContent": TEXT, "nonce": "n", "timestamp": "1490063145767"}


def test_first_variant_is_the_canonical_string() -> None:
    """No recipe that is right has a cause."""
    first = next(write_variants(PARAMS, []))

    assert ((), 0, canonical_string(PARAMS).encode()) == (
        first.causes,
        first.mistakes,
        first.message,
    )


def test_no_variant_comes_twice() -> None:
    """One mistake at most comes before two, and every other one has a cause."""
    found = list(write_variants(PARAMS, ["A"]))

    assert len(found) == len({each.message for each in found})
    assert [each.mistakes for each in found] == sorted(each.mistakes for each in found)
    assert all(each.causes for each in found[1:])


def test_variant_shows_nothing_of_its_string() -> None:
    """It holds the payer's credentials."""
    first = next(write_variants({"a": "canary"}, []))

    assert "canary" not in repr(first)


@pytest.mark.parametrize(
    ("style", "written"),
    [
        (JsonStyle(), TEXT),
        (
            JsonStyle((", ", ": ")),
            '{"b": "a/b&c", "a": {"z": "茶", "y": 1.5}, "zero": "0", "list": [{"n": "0"}]}',
        ),
        (
            JsonStyle(order="sorted"),
            '{"a":{"y":1.5,"z":"茶"},"b":"a/b&c","list":[{"n":"0"}],"zero":"0"}',
        ),
        (
            JsonStyle(order="outermost sorted"),
            '{"a":{"z":"茶","y":1.5},"b":"a/b&c","list":[{"n":"0"}],"zero":"0"}',
        ),
        (JsonStyle(escape="lower"), TEXT.replace("茶", "\\u8336")),
        (JsonStyle(escape="php"), TEXT.replace("茶", "\\u8336").replace("/", "\\/")),
        (JsonStyle(escape="html"), TEXT.replace("&", "\\u0026")),
    ],
)
def test_json_is_written_in_every_style(style: JsonStyle, written: str) -> None:
    """As the libraries of other languages write it."""
    assert written == style.write(TEXT)


def test_escapes_in_capitals_keep_the_rest() -> None:
    """Only the four digits are raised."""
    assert '{"a":"\\u8BE2abc"}' == JsonStyle(escape="upper").write('{"a":"询abc"}')


@pytest.mark.parametrize("text", ["", "no JSON", '{"a":1,"a":2}', "[" * 1000])
def test_text_that_is_no_json_stays(text: str) -> None:
    """There is nothing to write again."""
    assert text == JsonStyle((", ", ": "), order="outermost sorted").write(text)
    written = Recipe(keeps_zero=False).write({"bizContent": text})
    assert (f"bizContent={text}".encode() if text else b"") == written


def test_list_keeps_its_order() -> None:
    """Only objects have names."""
    assert "[2,1]" == JsonStyle(order="outermost sorted").write("[2,1]")


def test_zeros_are_dropped_from_every_object() -> None:
    """And from the parameters."""
    written = Recipe(keeps_zero=False).write({"bizContent": TEXT, "n": "0", "o": "1"})
    content = json.loads(written.decode().removeprefix("bizContent=").partition("&o=")[0])

    assert {"b": "a/b&c", "a": {"z": "茶", "y": 1.5}, "list": [{}]} == content
    assert written.endswith(b"&o=1")


def test_mistake_of_json_has_a_cause_of_its_own() -> None:
    """Several come together in one style."""
    style = JsonStyle((", ", ": "), order="sorted", escape="lower")

    assert (Cause.JSON_SPACES, Cause.JSON_KEY_ORDER, Cause.JSON_ESCAPED) == style.causes
    assert (Cause.JSON_SPACES,) == JsonStyle(indent=2).causes
    assert () == JsonStyle().causes
