"""The body of a callback: which bytes are read, alike in which spellings, and which are refused."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from tests.protocol.callbacks import JSON, TRADE, get_refusal, make_endpoint, parse_signed
from tests.support.platform import FORM, SECRET, encode_callback, sign_callback
from wxpay_async.errors import NotificationError
from wxpay_async.protocol.callback_body import read_fields
from wxpay_async.protocol.notify import MAX_BODY, MAX_FIELDS
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier


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


# Bodies with a signature


@pytest.mark.parametrize("body", ["a=1", {"out_trade_no": "1"}, bytearray(b"a=1"), None])
def test_parsed_body_is_a_type_error(body: object) -> None:
    """A parsed or decoded body is a programming mistake, and the error says why."""
    with pytest.raises(TypeError, match="raw bytes"):
        make_endpoint().parse(FORM, body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        'application/x-www-form-urlencoded;charset="UTF-8"',
        "application/x-www-form-urlencoded; charset=UTF8",
        "application/x-www-form-urlencoded; charset='utf-8'",
        "application/x-www-form-urlencoded; Charset = Utf_8 ;",
        "application/x-www-form-urlencoded; charset=UTF-8;charset=utf-8",
        "application/x-www-form-urlencoded;charset=csUTF8",
        "application/x-www-form-urlencoded;charset=unicode-1-1-utf-8",
        "application/x-www-form-urlencoded;",
        "; charset=utf-8",
        "",
    ],
)
@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_content_type_in_any_spelling_is_read(kind: str, name: str) -> None:
    """Case, quotes and other spellings of UTF-8 do not matter; without a type the bytes tell."""
    assert (
        make_endpoint()
        .parse({name: kind, "X-Other": "1"}, encode_callback(sign_callback(TRADE)))
        .authentic
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/x-www-form-urlencoded; charset=gbk"},
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-16"},
        {"Content-Type": "application/x-www-form-urlencoded; charset=iso-8859-1"},
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8; charset=gbk"},
        {"Content-Type": "application/x-www-form-urlencoded; charset="},
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8; x=1"},
        {"Content-Type": "application/x-www-form-urlencoded", "content-type": "application/json"},
        {**FORM, "Content-Encoding": "gzip"},
    ],
)
def test_another_content_type_is_refused(headers: dict[str, str]) -> None:
    """Only forms and JSON in UTF-8 are read."""
    assert get_refusal(encode_callback(sign_callback(TRADE)), headers)


def test_json_is_read_like_a_form() -> None:
    """Numbers keep their digits, null is absent, and the signature is that of the form."""
    fields = sign_callback({**TRADE, "trade_amount": "33.60", "count": "3"})
    text = json.dumps({**fields, "gmt_close": None}, ensure_ascii=False)
    body = text.replace('"33.60"', "33.60").replace('"3"', "3").encode()

    notification = make_endpoint().parse(JSON, body)

    assert b'"trade_amount": 33.60' in body
    assert notification == make_endpoint().parse(FORM, encode_callback(fields))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b'"text"',
        b"{",
        b"{}{}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1}}',
        b'{"a": [1]}',
        b'{"a": true}',
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b'{"a": ' + b"1" * 30 + b"}",
        b"[" * 60_000,
        '{"a": "1"}'.encode("utf-16"),
    ],
)
def test_only_flat_json_is_read(body: bytes) -> None:
    """A value that no form can hold, or that two readers read differently, is refused."""
    assert "content type" in get_refusal(body, JSON)


@pytest.mark.parametrize(
    "body",
    [b"a=%ff", b"a=\xff", b"%ff=1", b"a=%ed%a0%80", b"\xfe\xff\x00a\x00=\x001"],
)
@pytest.mark.parametrize("headers", [FORM, {}])
def test_broken_form_is_refused(body: bytes, headers: dict[str, str]) -> None:
    """Bytes that are not UTF-8 are refused, also where no content type is given."""
    assert "content type" in get_refusal(body, headers)


def break_lines(sign: str) -> str:
    """Write Base64 in lines, like the encoders of MIME."""
    return "\r\n".join(textwrap.wrap(sign, 76))


HARMLESS: dict[str, Callable[[dict[str, str]], bytes]] = {
    "an & at the end": lambda fields: encode_callback(fields) + b"&",
    "an & at the start": lambda fields: b"&" + encode_callback(fields),
    "two & in a row": lambda fields: encode_callback(fields).replace(b"&", b"&&", 1),
    "a name without =": lambda fields: encode_callback(fields) + b"&gmt_close",
    "a byte order mark": lambda fields: b"\xef\xbb\xbf" + encode_callback(fields),
    "a line break at the end": lambda fields: encode_callback(fields) + b"\r\n",
    "a sign in lines": lambda fields: encode_callback(
        {**fields, "sign": break_lines(fields["sign"])}
    ),
    "a sign in lines, not quoted": lambda fields: (
        encode_callback({**fields, "sign": ""}) + break_lines(fields["sign"]).encode()
    ),
    "a line break after the sign": lambda fields: encode_callback(
        {**fields, "sign": fields["sign"] + "\n"}
    ),
    "a sign whose plus signs are blanks": lambda fields: encode_callback(
        {**fields, "sign": fields["sign"].replace("+", " ")}
    ),
    "JSON with a byte order mark": lambda fields: b"\xef\xbb\xbf" + json.dumps(fields).encode(),
    "JSON with white space around it": lambda fields: f"\r\n {json.dumps(fields)}\n".encode(),
}


def sign_with_plus() -> dict[str, str]:
    """Sign a trade so that its signature has a plus sign."""
    signed = (sign_callback(TRADE, nonce=f"n{n}") for n in range(100))
    return next(fields for fields in signed if "+" in fields["sign"])


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.parametrize("typed", [True, False])
def test_harmless_change_is_read(change: str, *, typed: bool) -> None:
    """Platforms and proxies change a body and not its meaning; it is still authentic."""
    fields = sign_with_plus()
    headers = {} if not typed else JSON if change.startswith("JSON") else FORM

    notification = make_endpoint().parse(headers, HARMLESS[change](fields))

    assert notification.authentic
    assert notification == make_endpoint().parse(FORM, encode_callback(fields))


@pytest.mark.parametrize("change", [c for c in HARMLESS if "plus" not in c])
def test_harmless_change_in_the_md5_scheme_is_read(change: str) -> None:
    """The signature of the MD5 scheme has no plus signs; all else is the same."""
    fields = sign_callback(TRADE, signer=Md5Signer(SECRET))

    assert make_endpoint(Md5Verifier(SECRET)).parse({}, HARMLESS[change](fields)).verified


@pytest.mark.parametrize(
    "change",
    [
        lambda sign: f"{sign} ",
        lambda sign: f" {sign}",
        lambda sign: sign.replace("+", ""),
        lambda sign: sign.replace("+", "-").replace("/", "_"),
        lambda sign: sign.rstrip("="),
        lambda sign: f"{sign}\t",
        lambda sign: f"{sign[:9]}\u2028{sign[9:]}",
        lambda _: "\r\n",
    ],
)
def test_another_signature_is_refused(change: Callable[[str], str]) -> None:
    """Only line breaks and blanks for plus signs are undone; there is one signature."""
    fields = sign_with_plus()
    changed = {**fields, "sign": change(fields["sign"])}

    with pytest.raises(NotificationError, match="signature"):
        make_endpoint().parse(FORM, encode_callback(changed))


@pytest.mark.parametrize("body", [b"a&a=1", b"a=1&a", b"a&a", b"a=1&&a=1&", b'{"a": 1, "a": 1}'])
def test_name_without_a_value_counts_as_a_duplicate(body: bytes) -> None:
    """A field twice has two meanings, also without `=` and without a content type."""
    reason = get_refusal(body, {})

    assert "twice" in reason or "content type" in reason


@pytest.mark.parametrize("name", ["trade_amount", "sign", "memo"])
def test_duplicate_field_is_refused(name: str) -> None:
    """This holds even for the same value, and if one of the two is empty."""
    fields = sign_callback(TRADE)
    for again in (fields[name], "", "0.01"):
        body = encode_callback(fields) + b"&" + encode_callback({name: again})
        assert "twice" in get_refusal(body)


def test_lone_names_count_towards_the_limit() -> None:
    """64 of them are read, one more is refused; an `&` too many is no field."""
    names = b"&&".join(b"f%d" % n for n in range(MAX_FIELDS))

    assert "fields" not in get_refusal(names)
    assert "fields" in get_refusal(names + b"&x")


def test_body_over_the_limits_is_refused() -> None:
    """64 KB and 64 fields are read; more of either is refused."""
    fields = {**TRADE, **{f"f{n}": "1" for n in range(MAX_FIELDS - len(TRADE) - 5)}}
    body = encode_callback(sign_callback(fields))
    assert MAX_FIELDS == len(body.split(b"&"))
    assert make_endpoint().parse(FORM, body).authentic
    assert get_refusal(body + b"&x=")
    assert "fields" in get_refusal(json.dumps({f"f{n}": "" for n in range(65)}).encode(), JSON)

    room = MAX_BODY - len(encode_callback(sign_callback(TRADE))) - len("&note=")
    full = encode_callback(sign_callback({**TRADE, "note": "x" * room}))
    # A signature is Base64, and percent-encoding makes its length vary: fill up with an empty name.
    assert abs(len(full) - MAX_BODY) < 64
    assert "over 65536 bytes" in get_refusal(b"x" * (MAX_BODY + 1))
    assert "over" not in get_refusal(b"x" * MAX_BODY)


def test_field_without_a_value_is_absent() -> None:
    """It is not signed, so it must count like an absent field."""
    body = encode_callback({**sign_callback(TRADE), "failReason": "", "gmt_close": "", "new": ""})

    assert parse_signed(TRADE) == make_endpoint().parse(FORM, body)
