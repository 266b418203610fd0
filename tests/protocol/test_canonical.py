"""A canonical string has one meaning; an ambiguous parameter is refused by name."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.examples import count_examples
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.canonical import canonical_string


def test_names_are_sorted_as_ascii() -> None:
    """Digits come before capitals before small letters, for any order of the input."""
    params = {"b": "1", "a": "2", "B": "3", "_": "4", "aa": "5", "1": "6", "a.b": "7", "a-b": "8"}

    assert canonical_string(params) == "1=6&B=3&_=4&a=2&a-b=8&a.b=7&aa=5&b=1"


def test_only_empty_values_and_the_signature_are_left_out() -> None:
    """Zero, false and a blank are values; other SDKs dropped them."""
    params = {"a": "0", "b": "", "c": "false", "d": " ", "sign": "X", "signType": "RSA"}

    assert canonical_string(params) == "a=0&c=false&d= &signType=RSA"


def test_signature_is_left_out_by_its_exact_name() -> None:
    """`Sign` is a parameter like any other."""
    assert canonical_string({"Sign": "1", "sign": "2"}) == "Sign=1"


def test_empty_input_gives_the_empty_string() -> None:
    """Having no parameters, or none with a value, is no error."""
    assert canonical_string({}) == ""
    assert canonical_string({"a": "", "sign": "x"}) == ""


def test_input_is_not_touched() -> None:
    """The caller's mapping keeps its signature, its empty values and its order."""
    params = {"b": "1", "sign": "x", "a": ""}

    canonical_string(params)

    assert list(params.items()) == [("b", "1"), ("sign", "x"), ("a", "")]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"a": 1}, "a: a str, not int"),
        ({"a": "1", "b": None}, "b: a str, not NoneType"),
        ({"a": ["x"]}, "a: a str, not list"),
        ({"a": []}, "a: a str, not list"),
        ({"a": b"1"}, "a: a str, not bytes"),
        ({"bizContent": {}}, "bizContent: a str, not dict"),
        ({1: "a"}, "1: a parameter's name is a str"),
        ({"a": "1", 2: "b"}, "2: a parameter's name is a str"),
        ({b"a": "1"}, "b'a': a parameter's name is a str"),
    ],
)
def test_parameter_that_is_no_text_is_named(params: dict[str, str], words: str) -> None:
    """The error names the parameter, but does not show its value."""
    with pytest.raises(TypeError, match=f"^{words}$"):
        canonical_string(params)


def test_error_of_the_mapping_itself_is_raised() -> None:
    """An error that the mapping raises is not changed."""

    class Broken(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            raise TypeError(f"cannot look {name} up")

    with pytest.raises(TypeError, match="cannot look a up"):
        canonical_string(Broken(a="1"))


def test_values_are_raw() -> None:
    """Nothing is URL-encoded, normalised or trimmed."""
    value = " 商品/100%+e\u0301\n\U0001f600 "

    assert canonical_string({"subject": value}) == f"subject={value}"


@pytest.mark.parametrize("value", ["a&b", "a=b", "&", "=", "1&nonce=2", "YQ=="])
def test_ambiguous_values_are_refused(value: str) -> None:
    """A value that could stand for another set of parameters names its field."""
    with pytest.raises(InvalidRequestError, match="ambiguous") as caught:
        canonical_string({"failReason": value})

    assert caught.value.field == "failReason"
    assert value not in str(caught.value).partition(";")[0].removeprefix("failReason: holds & or =")


@pytest.mark.parametrize("name", ["a&b", "a=b", "", "a b", "名", "a\n", "[0]", "a\u0661"])
def test_ambiguous_names_are_refused(name: str) -> None:
    """A name is ASCII letters, digits, underscore, point and hyphen."""
    with pytest.raises(InvalidRequestError, match="not a parameter's name"):
        canonical_string({name: "1"})


def test_foreign_name_is_shown_short_and_escaped() -> None:
    """A name from outside cannot write lines of its own into a log."""
    with pytest.raises(InvalidRequestError) as caught:
        canonical_string({"x\n2026-01-01 INFO paid" + "y" * 5000: "1"})

    assert caught.value.field == "x\\n2026-01-01 INFO paid" + "y" * 10


@pytest.mark.parametrize("value", ["{}", '{"a":"b&c=d"}', '{"a":{"b":[1]}}', '{"a":1} \r\n\t'])
def test_biz_content_may_hold_anything_inside_its_object(value: str) -> None:
    """Inside one complete JSON object & and = are not ambiguous."""
    params = {"bizContent": value, "nonce": "n"}

    assert canonical_string(params) == f"bizContent={value}&nonce=n"


@pytest.mark.parametrize(
    "value",
    [
        "a&b",
        "text",
        "[]",
        '"a"',
        "1",
        "null",
        "{",
        '{"a":"1',
        '{"a":"1}',
        "{}{}",
        "{}&nonce=2",
        "{} x",
        "{}\u00a0",
        " {}",
        "\ufeff{}",
        "{'a':1}",
        '{"a":' * 100_000,
        '{"a":' + "1" * 5000 + "}",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_biz_content_is_one_complete_object(value: str) -> None:
    """A text that is no complete JSON object could end elsewhere, so it is refused."""
    with pytest.raises(InvalidRequestError, match="no JSON object") as caught:
        canonical_string({"bizContent": value})

    assert caught.value.field == "bizContent"


def test_lone_surrogate_is_refused_and_not_repeated() -> None:
    """JSON can hold a lone surrogate, which has no bytes to sign."""
    with pytest.raises(InvalidRequestError, match="half of a surrogate pair") as caught:
        canonical_string({"payToken": "tr0ub4dor", "subject": "\ud83d"})

    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [0, 1.5, None, True, b"a"])
def test_values_of_another_type_are_type_errors(value: object) -> None:
    """A number would be signed as it prints; other SDKs lost money by 1e+06."""
    with pytest.raises(TypeError):
        canonical_string({"amount": value})  # type: ignore[dict-item]


def read_back(text: str) -> dict[str, str]:
    """Read a canonical string from the left, the way an independent verifier would."""
    params = {}
    while text:
        name, _, text = text.partition("=")
        if name == "bizContent":
            end = json.JSONDecoder().raw_decode(text)[1]
            end += len(text[end:]) - len(text[end:].lstrip(" \t\r\n"))
            value, text = text[:end], text[end:].removeprefix("&")
        else:
            value, _, text = text.partition("&")
        params[name] = value
    return params


TRICKY = st.text(alphabet='ab1&={}[]":,\\ \n商', max_size=12)
OBJECTS = st.dictionaries(TRICKY, TRICKY, max_size=2).map(json.dumps)


@settings(max_examples=count_examples(quick=100, full=400))
@given(
    st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=3), TRICKY, max_size=4),
    st.one_of(st.just(""), OBJECTS, TRICKY.map(lambda text: "{" + text)),
)
def test_canonical_string_can_be_read_back(params: dict[str, str], content: str) -> None:
    """No two sets of parameters that are accepted have the same canonical string."""
    full = {**params, "bizContent": content}
    try:
        text = canonical_string(full)
    except InvalidRequestError:
        return

    signed = {name: value for name, value in full.items() if value and name != "sign"}
    assert signed == read_back(text)


def test_canonical_string_without_its_checks_fails_this_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If & and = are not refused, both tests find two meanings of one string."""
    monkeypatch.setattr("wxpay_async.protocol.canonical._check_unambiguous", lambda *_: None)

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_ambiguous_values_are_refused("1&nonce=2")
    with pytest.raises((AssertionError, ValueError, ExceptionGroup)):
        test_canonical_string_can_be_read_back()
