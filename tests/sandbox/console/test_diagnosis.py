"""Why a signature was refused: each usual mistake is named, and no secret is shown."""

import base64
import hashlib
import json
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest
from attrs import asdict
from Crypto.Hash import SHA1, SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from tests.sandbox.raw_merchant import canonical_text
from wxpay_async.protocol.signing import RsaVerifier
from wxpay_async.sandbox.auth import App
from wxpay_async.sandbox.console.diagnosis import Cause, Diagnosis, diagnose, find_difference

SECRET = "5f4dCC3b"
PARAMS = {
    "appKey": "app",
    "nonce": "n1",
    "timestamp": "1763870400000",
    "bizContent": '{"subject":"茶 / a+b","requestId":"r1"}',
    "Remark": "x",
    "empty": "",
}


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest().upper()


def _ending(text: str) -> str:
    return f"{text}&appSecret={SECRET}"


def _join(params: dict[str, str]) -> str:
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def _full() -> dict[str, str]:
    return {name: text for name, text in PARAMS.items() if text}


def _respaced() -> dict[str, str]:
    content = json.dumps(json.loads(PARAMS["bizContent"]))
    return {**_full(), "bizContent": content}


MD5_MISTAKES: dict[Cause, Callable[[], str]] = {
    Cause.URL_ENCODED: lambda: _md5(_ending(_join({n: quote_plus(t) for n, t in _full().items()}))),
    Cause.EMPTY_KEPT: lambda: _md5(_ending(_join(PARAMS))),
    Cause.NOT_SORTED: lambda: _md5(_ending("&".join(f"{n}={t}" for n, t in _full().items()))),
    Cause.JSON_REWRITTEN: lambda: _md5(_ending(_join(_respaced()))),
    Cause.LINE_BREAK: lambda: _md5(_ending(canonical_text(PARAMS) + "\n")),
    Cause.SECRET_MISSING: lambda: _md5(canonical_text(PARAMS)),
    Cause.SECRET_PLACED: lambda: _md5(canonical_text(PARAMS) + "&key=" + SECRET),
    Cause.SECRET_SPELLED: lambda: _md5(_ending(canonical_text(PARAMS)) + "\n"),
    Cause.LOWER_CASE: lambda: _md5(_ending(canonical_text(PARAMS))).lower(),
    Cause.OTHER_SCHEME: lambda: base64.b64encode(bytes(256)).decode(),
    Cause.UNKNOWN: lambda: _md5("something else"),
}
OF_TEXT = {
    Cause.URL_ENCODED,
    Cause.EMPTY_KEPT,
    Cause.NOT_SORTED,
    Cause.JSON_REWRITTEN,
    Cause.LINE_BREAK,
}


@pytest.mark.parametrize("cause", MD5_MISTAKES)
def test_md5_mistake_is_named(cause: Cause) -> None:
    """Each usual mistake is found by the signature that it makes."""
    found = _diagnose_md5(MD5_MISTAKES[cause]())
    assert found.cause is cause
    assert found.canonical == canonical_text(PARAMS)
    assert found.expected == _md5(_ending(canonical_text(PARAMS)))
    assert found.of_text == (cause in OF_TEXT)


@pytest.mark.parametrize("cause", MD5_MISTAKES)
def test_md5_diagnosis_shows_no_secret(cause: Cause) -> None:
    """What a person sees masks the secret."""
    found = _diagnose_md5(MD5_MISTAKES[cause]())
    assert SECRET not in json.dumps(asdict(found))
    assert found.hashed == canonical_text(PARAMS) + "&appSecret=******"


def test_difference_is_where_the_texts_part() -> None:
    """The first difference of the signed texts is shown, with what comes before it."""
    found = _diagnose_md5(MD5_MISTAKES[Cause.EMPTY_KEPT]())
    assert found.difference
    at = canonical_text(PARAMS).index("nonce=")
    assert (found.difference.offset, found.difference.ours[:6]) == (at, "nonce=")
    assert found.difference.theirs.startswith("empty=&nonce=")
    assert canonical_text(PARAMS)[:at].endswith(found.difference.before)


def test_difference_of_a_text_that_goes_on() -> None:
    """A text that ends earlier differs at its end; equal texts do not differ."""
    found = find_difference("abc", "abcd")
    assert found
    assert (found.offset, found.ours, found.theirs) == (3, "", "d")
    assert find_difference("abc", "abc") is None


def test_rsa_mistakes_are_named(merchant_key: RSA.RsaKey, pay_key: RSA.RsaKey) -> None:
    """The public key opens a signature, so the digest that was signed is known."""
    params = {**PARAMS, "signType": "RSA"}
    text = canonical_text(params)
    unsigned = canonical_text(PARAMS)
    signs = {
        Cause.SIGN_TYPE_LEFT_OUT: _sign(merchant_key, SHA256.new(unsigned.encode())),
        Cause.OTHER_KEY: _sign(pay_key, SHA256.new(text.encode())),
        Cause.OTHER_HASH: _sign(merchant_key, SHA1.new(text.encode())),
        Cause.OTHER_TEXT: _sign(merchant_key, SHA256.new(b"something else")),
        Cause.NOT_BASE64: _sign(merchant_key, SHA256.new(text.encode())) + "%3D",
        Cause.OTHER_SCHEME: _md5(_ending(text)),
    }
    app = _make_app(merchant_key)
    found = {cause: diagnose(app, {**params, "sign": sign}) for cause, sign in signs.items()}
    assert {cause: cause for cause in signs} == {cause: each.cause for cause, each in found.items()}
    left_out = found[Cause.SIGN_TYPE_LEFT_OUT]
    assert left_out.of_text
    assert left_out.expected == hashlib.sha256(text.encode()).hexdigest()
    assert left_out.received == hashlib.sha256(unsigned.encode()).hexdigest()


def test_rsa_without_a_registered_key_is_named() -> None:
    """A merchant that registered no public key cannot sign by RSA."""
    found = diagnose(_make_app(None), {**PARAMS, "signType": "RSA", "sign": "QUJD"})
    assert found.cause is Cause.NO_KEY


def _diagnose_md5(sign: str) -> Diagnosis:
    return diagnose(_make_app(None), {**PARAMS, "sign": sign})


def _make_app(key: RSA.RsaKey | None) -> App:
    pem = key.public_key().export_key("PEM") if key else None
    return App(app_key="app", app_secret=SECRET, rsa=RsaVerifier.from_pem(pem) if pem else None)


def _sign(key: RSA.RsaKey, digest: SHA256.SHA256Hash | SHA1.SHA1Hash) -> str:
    return base64.b64encode(pkcs1_15.new(key).sign(digest)).decode()
