"""What is signed is what arrives: the bytes on the wire against the canonical string."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15
from hypothesis import example, given, settings, strategies as st

from tests.support import asking
from tests.support.examples import count_examples
from tests.support.platform import APP_KEY, SECRET
from tests.support.vectors import PRIVATE_KEY
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol import builder
from wxpay_async.protocol.builder import Draft, RequestBuilder
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund, TradeQuery
from wxpay_async.protocol.signing import Md5Signer, RsaSigner, Signer
from wxpay_async.protocol.wire import HttpRequest

EXAMPLES = count_examples(quick=400, full=2000)
NONCE = "76e71d31590d44f2aaa55fed6b3e267c"
NOW = 1_490_063_145_767
HOST = "https://pay.example:8443"
HARD = [
    "商品的标题",
    "a & b = c + d % e",
    "%E5%95%86%26sign%3Dx",
    "&sign=x&appSecret=y",
    "😀 \\ \" ' < > ; # ?",
    "  two  blanks  ",
    "\u2028\u00a0\u3000é",
]


@pytest.fixture(scope="module")
def key() -> RSA.RsaKey:
    """A merchant's key."""
    return RSA.import_key(PRIVATE_KEY.read_bytes())


def make_pay(subject: str = "tea") -> MiniProgramPay:
    """Make a request that holds a text."""
    return MiniProgramPay(
        request_id="r-1",
        pay_token="pay-token",
        terminal_payer_id="oUpF8uMuAJO",
        out_trade_no="o-1",
        extra={"subject": subject},
    )


def make_draft(params: dict[str, str], sign_type: str | None = None, **options: object) -> Draft:
    """Lay out a mini-program pay."""
    made = RequestBuilder(APP_KEY, sign_type, HOST, **options)
    return made.draft(builder.PAY, params, now_ms=NOW, nonce=NONCE)


def read_request(request: HttpRequest) -> dict[str, str]:
    """Decode what a server would see, by the standard library's strict reader."""
    encoded = request.body.decode("ascii") or urlsplit(request.url).query
    decoded = parse_qs(encoded, strict_parsing=True, keep_blank_values=True, errors="strict")
    assert all(len(values) == 1 for values in decoded.values())
    return {name: values[0] for name, values in decoded.items()}


def build_message(params: dict[str, str]) -> str:
    """Build the string to sign as the platform's page describes it, on its own."""
    kept = sorted((n, v) for n, v in params.items() if n != "sign" and v != "")
    return "&".join(f"{name}={value}" for name, value in kept)


def fits_md5(params: dict[str, str]) -> bool:
    """Verify as the platform does under the MD5 scheme."""
    text = f"{build_message(params)}&appSecret={SECRET}"
    return params["sign"] == hashlib.md5(text.encode()).hexdigest().upper()


def make_rsa_check(public_key: RSA.RsaKey) -> Callable[[dict[str, str]], bool]:
    """Verify as the platform does under the RSA scheme."""

    def fits(params: dict[str, str]) -> bool:
        digest = SHA256.new(build_message(params).encode())
        # Raises when it does not fit.
        pkcs1_15.new(public_key).verify(digest, base64.b64decode(params["sign"], validate=True))
        return params["signType"] == "RSA"

    return fits


# The signature


@pytest.mark.parametrize("placement", ["body", "query"])
@pytest.mark.parametrize("scheme", ["MD5", "RSA"])
@pytest.mark.parametrize("subject", HARD)
def test_signature_fits_what_arrives(
    key: RSA.RsaKey, subject: str, scheme: str, placement: str
) -> None:
    """The server's decoded parameters are the canonical ones, and the signature is over them."""
    signer: Signer = Md5Signer(SECRET) if scheme == "MD5" else RsaSigner(key)
    verify = fits_md5 if scheme == "MD5" else make_rsa_check(key.public_key())
    request = make_pay(subject)
    made = make_draft(builder.parameters(request), signer.sign_type, placement=placement)
    seen = read_request(made.signed(signer.sign(made.message)))

    assert made.message.decode() == build_message(seen) == canonical_string(seen)
    assert verify(seen)
    assert serialize(request) == seen["bizContent"].encode()
    assert subject == json.loads(seen["bizContent"])["subject"]
    assert (APP_KEY, NONCE, str(NOW)) == (seen["appKey"], seen["nonce"], seen["timestamp"])


@pytest.mark.parametrize("scheme", ["MD5", "RSA"])
def test_signature_does_not_fit_a_changed_amount(key: RSA.RsaKey, scheme: str) -> None:
    """The check of this suite can fail."""
    signer: Signer = Md5Signer(SECRET) if scheme == "MD5" else RsaSigner(key)
    made = make_draft(builder.parameters(make_pay("1.00")), signer.sign_type)
    seen = read_request(made.signed(signer.sign(made.message)))
    seen["bizContent"] = seen["bizContent"].replace("1.00", "9.00")

    if scheme == "MD5":
        assert not fits_md5(seen)
    else:
        with pytest.raises(ValueError, match="Invalid signature"):
            make_rsa_check(key.public_key())(seen)


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip))
@example("a&b=c")
def test_text_of_any_kind_arrives_as_it_was_signed(subject: str) -> None:
    """Encoding for the wire neither loses nor adds a byte."""
    made = make_draft(builder.parameters(make_pay(subject)))

    assert made.message.decode() == build_message(read_request(made.signed("S")))


def test_signature_of_the_published_example() -> None:
    """The platform's own example, from parameters to signature."""
    made = make_draft({"processNum": "wi123456789"})
    request = made.signed(Md5Signer(SECRET).sign(made.message))

    assert "93E1D6AF003B1061DF01CEB93523F142" == read_request(request)["sign"]


@pytest.mark.parametrize("placement", ["body", "query"])
@pytest.mark.parametrize("sign_type", [None, "RSA"])
@pytest.mark.parametrize("subject", HARD)
def test_content_is_laid_out_as_its_parameters_are(
    subject: str, sign_type: str | None, placement: str
) -> None:
    """The short way for a call whose only parameter is `bizContent` signs and sends the same."""
    made, request = RequestBuilder(APP_KEY, sign_type, HOST, placement), make_pay(subject)
    templates = (
        made.prepare(builder.PAY, builder.parameters(request)),
        made.prepare_content(builder.PAY, serialize(request)),
        made.prepare_request(builder.PAY, request),
    )
    drafts = [template.draft(now_ms=NOW, nonce=NONCE) for template in templates]
    messages = {draft.message for draft in drafts}
    sent = [read_request(draft.signed("S+/=")) for draft in drafts]

    assert 1 == len(messages)
    assert [sent[0]] * 3 == sent


# The request


def test_resend_differs_in_nonce_timestamp_and_signature_only() -> None:
    """The same bizContent bytes, signed afresh."""
    params = builder.parameters(make_pay(HARD[1]))
    made = RequestBuilder(APP_KEY, "RSA", HOST)
    first, second = (
        read_request(
            made.draft(builder.PAY, params, now_ms=NOW + n, nonce=f"nonce-{n}").signed(f"S{n}")
        )
        for n in (1, 2)
    )

    assert {"nonce", "timestamp", "sign"} == {n for n in first if first[n] != second[n]}
    assert first.keys() == second.keys()


def test_form_body_goes_to_the_bare_address() -> None:
    """A POST with the headers of a form; nothing compressed is asked for."""
    request = make_draft({"a": "b c"}).signed("S+/=")

    assert f"{HOST}/api/instant/pay/wxminiprogram" == request.url
    assert b"a=b+c&" == request.body[:6]
    assert request.body.endswith(b"&sign=S%2B/%3D")
    assert "application/x-www-form-urlencoded; charset=utf-8" == request.headers["Content-Type"]
    assert "identity" == request.headers["Accept-Encoding"]


def test_query_string_goes_with_an_empty_body() -> None:
    """The same parameters, the other placement."""
    request = make_draft({"a": "b c"}, placement="query").signed("S")

    assert b"" == request.body
    assert request.url.startswith(f"{HOST}/api/instant/pay/wxminiprogram?a=b+c&appKey=")
    assert dict(parse_qsl(urlsplit(request.url).query)) == read_request(
        make_draft({"a": "b c"}).signed("S")
    )


def test_sign_type_is_sent_only_where_it_is_announced() -> None:
    """It is signed itself; the published MD5 scheme announces nothing."""
    assert b"&signType=RSA&" in make_draft({"x": "1"}, "RSA").message
    assert b"signType" not in make_draft({"x": "1"}, None).message


def test_envelope_cannot_be_set_from_outside() -> None:
    """Business parameters of the envelope's names lose against the envelope."""
    params = dict.fromkeys(("appKey", "nonce", "timestamp", "signType", "sign"), "evil")
    seen = read_request(make_draft(params, "RSA").signed("S"))

    assert "evil" not in seen.values()
    assert "S" == seen["sign"]


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text('{}[]":, +%&=a1~', max_size=40))
@example('{"subject":"a+b & c=d 100%","名":"😀"}')
@example("\x00\x1f\x7f")
def test_form_value_decodes_to_what_was_encoded(value: str) -> None:
    """By the standard library's reader, whatever the value holds."""
    form = builder._form({"name": value})

    assert [("name", value)] == parse_qsl(form, keep_blank_values=True, strict_parsing=True)
    assert form.isascii()


def test_repr_shows_no_parameters() -> None:
    """Neither of the draft nor of the request, in both placements."""
    for placement in ("body", "query"):
        made = make_draft(builder.parameters(make_pay("canary-token")), placement=placement)
        shown = repr((made, made.signed("canary-signature")))
        assert "canary" not in shown
        assert "oUpF8uMuAJO" not in shown
        assert "/api/instant/pay/wxminiprogram" in shown


# Settings


@pytest.mark.parametrize("app_key", ["", "a&b", "a=b", "a\nb", "\ud800"])
def test_app_key_that_would_vanish_or_confuse_is_refused(app_key: str) -> None:
    """An empty one would be dropped from the canonical string without a word."""
    with pytest.raises(InvalidRequestError) as caught:
        RequestBuilder(app_key, None, HOST)

    assert "appKey" == caught.value.field


def test_placement_that_is_mistyped_is_refused() -> None:
    """It must not fall back to the other one."""
    with pytest.raises(InvalidRequestError, match="body, query") as caught:
        RequestBuilder(APP_KEY, None, HOST, "qurey")

    assert "placement" == caught.value.field


@pytest.mark.parametrize(
    "base_url",
    [
        *("http://pay.example", "ftp://pay.example", "pay.example", "", "https://", "file:///etc"),
        *("https://user@pay.example", "https://user:canary@pay.example", "https://@pay.example"),
        *("https://pay.example?a=b", "https://pay.example?", "https://pay.example#a"),
        *("https://pay.example#", "https://pay.example:0", "https://pay.example:65536"),
        *("https://pay.example:x", "https://pay.example/api?a", "https://[::1", "http://[::2]"),
    ],
)
def test_base_url_of_no_platform_is_refused(base_url: str) -> None:
    """At construction, long before a payment; a password in it is not repeated."""
    with pytest.raises(InvalidRequestError, match="https://host") as caught:
        RequestBuilder(APP_KEY, None, base_url)

    assert "base_url" == caught.value.field
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("placement", ["body", "query"])
@pytest.mark.parametrize("sign_type", [None, "RSA"])
def test_path_of_the_base_url_comes_first_and_is_not_signed(
    sign_type: str | None, placement: str
) -> None:
    """A front machine takes its own path away; the platform gets what was signed."""
    plain, front = (
        RequestBuilder(APP_KEY, sign_type, url, placement) for url in (HOST, f"{HOST}/gongmall/v1/")
    )
    for prepared in (
        lambda made: made.prepare(builder.PAY, builder.parameters(make_pay())),
        lambda made: made.prepare_content(builder.PAY, serialize(make_pay())),
        lambda made: made.prepare_request(builder.PAY, make_pay()),
    ):
        direct, through = (prepared(made).draft(now_ms=NOW, nonce=NONCE) for made in (plain, front))
        assert direct.message == through.message
        sent, forwarded = direct.signed("S"), through.signed("S")
        assert sent.body == forwarded.body
        assert forwarded.url == sent.url.replace(f"{HOST}/", f"{HOST}/gongmall/v1/")


def test_base_url_of_plain_http_needs_its_switch() -> None:
    """Beyond loopback, and for a front machine in the intranet."""
    with pytest.raises(InvalidRequestError, match="allow_insecure=True"):
        RequestBuilder(APP_KEY, None, "http://10.0.0.7:9000")

    made = RequestBuilder(APP_KEY, None, "http://10.0.0.7:9000", allow_insecure=True)
    assert "http://10.0.0.7:9000" == made.base_url


# Operations


def test_request_with_a_request_id_has_its_operation() -> None:
    """Paths and seriousness as the documentation has them."""
    expected = {
        MiniProgramPay: ("pay", "/api/instant/pay/wxminiprogram", False),
        InstantTrade: ("trade", "/api/instant/trade", True),
        Refund: ("refund", "/api/instant/refund", True),
    }

    assert expected == {
        kind: (operation.name, operation.path, operation.moves_money)
        for kind, operation in builder.OPERATIONS.items()
    }
    assert ("/api/instant/query", False) == (builder.QUERY.path, builder.QUERY.moves_money)
    assert "/api/company/merchants" == builder.MERCHANTS.path


def test_query_travels_as_plain_parameters() -> None:
    """One of the two numbers, no bizContent."""
    assert {"outTradeNo": "1"} == builder.query_parameters(TradeQuery(out_trade_no="1"))
    assert {"tradeNo": "2"} == builder.query_parameters(TradeQuery(trade_no="2"))


def test_request_is_sent_as_biz_content_only() -> None:
    """The local order number stays here."""
    assert {"bizContent"} == builder.parameters(asking.trade()).keys()
    assert "o-1" not in builder.parameters(make_pay())["bizContent"]
