"""A request's `bizContent` and its form, which are filled in around plain texts."""

from __future__ import annotations

import json
import string
from enum import Enum
from urllib.parse import unquote_plus

import pytest

from tests.protocol.samples import trade
from wxpay_async.protocol import content as content_module
from wxpay_async.protocol.codec import serialize, wire_fields
from wxpay_async.protocol.content import quote, write_content
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.validators import Json

PLAIN = f"{string.ascii_letters}{string.digits}_.~:,-"
PRINTABLE = [chr(code) for code in range(0x20, 0x7F)]


class _Kind(str, Enum):  # noqa: UP042 - a `StrEnum` would be its text by `str()`, too
    """A text whose `str()` is another one."""

    TEA = "tea"


def make_pay(**extra: Json) -> MiniProgramPay:
    """Make a request with fields that the page does not know."""
    return MiniProgramPay(
        request_id="r-1", pay_token="t-1", terminal_payer_id="o-1", app_id="wx1", extra=extra
    )


@pytest.mark.parametrize("text", [PLAIN, *PRINTABLE, "茶", "😀", "\u2028", "tea\n", ""])
def test_content_is_what_serialize_writes_and_its_form_reads_back(text: str) -> None:
    """For texts that are filled in, and for those that have to be escaped or quoted."""
    request = make_pay(subject=text)
    content, form = write_content(request)

    assert serialize(request) == content
    assert quote(content.decode()) == form
    assert content.decode() == unquote_plus(form)
    assert text == json.loads(content)["subject"]


@pytest.mark.parametrize("name", [*PRINTABLE, "茶", "a%sb", "%%"])
def test_names_are_escaped_and_quoted_once(name: str) -> None:
    """Names of unknown fields are the merchant's and may hold anything."""
    request = make_pay(**{name: "tea"})
    content, form = write_content(request)

    assert serialize(request) == content
    assert content.decode() == unquote_plus(form)
    assert "tea" == json.loads(content)[name]


def test_values_that_are_no_texts_are_written_as_json() -> None:
    """A list of orders, a number, a truth value."""
    for request in (make_pay(count=3, there=True, nothing=None, list=["a", {"b": "c"}]), trade()):
        content, form = write_content(request)

        assert serialize(request) == content
        assert content.decode() == unquote_plus(form)


def test_text_of_another_class_is_written_by_its_characters() -> None:
    """A member of an enumeration is a text, and `str()` of it need not be that text."""
    content, form = write_content(make_pay(kind=_Kind.TEA))

    assert "tea" == json.loads(content)["kind"]
    assert content.decode() == unquote_plus(form)


def test_later_request_leaves_no_trace_of_an_earlier_one() -> None:
    """The pieces around the texts are shared by all requests with the same names."""
    first, second = (write_content(make_pay(subject=text)) for text in ("green", "black"))

    assert first == write_content(make_pay(subject="green"))
    assert b"green" not in second[0]


def test_pieces_that_are_kept_hold_no_text() -> None:
    """They outlive the request, whose token is a credential, and other threads fill them, too."""
    request = make_pay()
    write_content(request)

    kept = content_module._layouts(*wire_fields(request))
    assert not [piece for pieces in kept for piece in pieces if "t-1" in piece]


def test_content_shows_no_credential() -> None:
    """Logs and tracebacks with locals print it."""
    assert "t-1" not in repr(write_content(make_pay())[0])
