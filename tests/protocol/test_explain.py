"""Why a signature differs: every usual mistake is made here by hand, and has to be named."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

import pytest
from Crypto.Hash import SHA1, SHA256, SHA512
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15, pss

from tests.protocol.samples import OPENID, TOKEN, pay, refund, trade
from tests.support.platform import APP_KEY, SECRET
from tests.support.vectors import KEYS, PRIVATE_KEY, PUBLIC_KEY
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.builder import PAY, QUERY, REFUND, TRADE, RequestBuilder, parameters
from wxpay_async.protocol.explain import Explanation, explain, explain_request
from wxpay_async.protocol.explain_causes import Cause, Dropped, Verdict
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.signing import Md5Signer, RsaSigner, RsaVerifier, Signer
from wxpay_async.protocol.wire import PRODUCTION

KEY: Final = RSA.import_key(PRIVATE_KEY.read_bytes())
OTHER_KEY: Final = RSA.import_key((KEYS / "rsa3072.pem").read_bytes())
MD5: Final = Md5Signer(SECRET)
RSA_SIGNER: Final = RsaSigner(KEY)
RSA_VERIFIER: Final = RsaVerifier.from_pem(PUBLIC_KEY.read_bytes())
OTHER_SIGNER: Final = RsaSigner(OTHER_KEY)

CONTENT: Final = {
    "requestId": "r-1",
    "payToken": TOKEN,
    "terminalPayerId": OPENID,
    "subject": "春茶 a/b & c",
    "items": [{"price": "1.50", "count": "1"}],
    "delay": "0",
}
MOMENT: Final = "1490063145767"
Params = dict[str, str]


def write_json(value: object, **style: object) -> str:
    """Write JSON compactly, unless a style says otherwise."""
    usual = {"ensure_ascii": False, "separators": (",", ":")}
    return json.dumps(value, **{**usual, **style})


def make_params(*, rsa: bool) -> Params:
    """Make a call with a value for every rule: an empty one, a zero, and what sorts differently."""
    return {
        "timestamp": MOMENT,
        "appKey": APP_KEY,
        "bizContent": write_json(CONTENT),
        "nonce": "76e71d31590d44f2",
        "Zone": "cn",
        "memo": "",
        "offset": "0",
        "sign": "0123456789ABCDEF0123456789ABCDEF",
        **({"signType": "RSA"} if rsa else {}),
    }


def join(params: Mapping[str, str], encode: Callable[[str], str] = str) -> str:
    """Join in the order that is given."""
    return "&".join(f"{name}={encode(value)}" for name, value in params.items())


def choose(params: Mapping[str, str], **changes: str) -> Params:
    """Return what is signed, sorted, with changes."""
    kept = {name: value for name, value in params.items() if value and name != "sign"}
    return dict(sorted({**kept, **changes}.items()))


def change_json(change: Callable[[], str]) -> Callable[[Params], str]:
    """Make the string with another text of bizContent."""
    return lambda params: join(choose(params, bizContent=change()))


def lower_hex(value: str) -> str:
    """Quote with lower-case digits."""
    first, *rest = quote_plus(value, safe="!()*").split("%")
    return first + "".join("%" + each[:2].lower() + each[2:] for each in rest)


STRINGS: Final[dict[str, tuple[Cause, Callable[[Params], str]]]] = {
    "quoted": (Cause.URL_ENCODED, lambda p: join(choose(p), lambda v: quote(v, safe=""))),
    "quoted with plus": (Cause.URL_ENCODED, lambda p: join(choose(p), quote_plus)),
    "quoted in lower case": (Cause.URL_ENCODED, lambda p: join(choose(p), lower_hex)),
    "quoted as a whole": (Cause.URL_ENCODED, lambda p: quote(join(choose(p)), safe="")),
    "spaces": (
        Cause.JSON_SPACES,
        change_json(lambda: write_json(CONTENT, separators=(", ", ": "))),
    ),
    "lines": (Cause.JSON_SPACES, change_json(lambda: json_lines(2))),
    "keys sorted": (Cause.JSON_KEY_ORDER, change_json(lambda: write_json(CONTENT, sort_keys=True))),
    "outer keys sorted": (
        Cause.JSON_KEY_ORDER,
        change_json(lambda: write_json(dict(sorted(CONTENT.items())))),
    ),
    "chinese escaped": (
        Cause.JSON_ESCAPED,
        change_json(lambda: write_json(CONTENT, ensure_ascii=True)),
    ),
    "chinese escaped in capitals": (
        Cause.JSON_ESCAPED,
        change_json(lambda: write_json(CONTENT).replace("春茶", "\\u6625\\u8336")),
    ),
    "slashes escaped": (
        Cause.JSON_ESCAPED,
        change_json(lambda: write_json(CONTENT, ensure_ascii=True).replace("/", "\\/")),
    ),
    "html escaped": (
        Cause.JSON_ESCAPED,
        change_json(lambda: write_json(CONTENT).replace("&", "\\u0026")),
    ),
    "empty kept": (Cause.EMPTY_KEPT, lambda p: join(choose(p, memo=""))),
    "empty as null": (Cause.EMPTY_KEPT, lambda p: join(choose(p, memo="null"))),
    "zero dropped": (
        Cause.ZERO_DROPPED,
        lambda p: join(
            {
                name: value.replace(',"delay":"0"', "")
                for name, value in choose(p).items()
                if name != "offset"
            }
        ),
    ),
    "seconds": (Cause.TIMESTAMP_SECONDS, lambda p: join(choose(p, timestamp=MOMENT[:-3]))),
    "sign included": (Cause.SIGN_INCLUDED, lambda p: join(choose(p, sign=p["sign"]))),
    "not sorted": (Cause.NOT_SORTED, lambda p: join({n: p[n] for n in p if n in choose(p)})),
    "sorted without case": (
        Cause.NOT_SORTED,
        lambda p: join(dict(sorted(choose(p).items(), key=lambda pair: pair[0].lower()))),
    ),
    "line break": (Cause.LINE_BREAK_AT_END, lambda p: join(choose(p)) + "\n"),
    "questions": (
        Cause.CHARSET,
        lambda p: join(choose(p)).encode("latin-1", "replace").decode(),
    ),
    "mojibake": (Cause.CHARSET, lambda p: join(choose(p)).encode().decode("latin-1")),
}
"""Mistakes in the string that is signed, whatever signs it."""


def json_lines(indent: int) -> str:
    """Write JSON on several lines."""
    return json.dumps(CONTENT, ensure_ascii=False, indent=indent)


def sign_rsa(message: bytes, kind: object = SHA256, key: RSA.RsaKey = KEY) -> str:
    """Sign by pycryptodome, by any hash."""
    made = pkcs1_15.new(key).sign(kind.new(message))  # type: ignore[attr-defined] # a module of Crypto.Hash
    return base64.b64encode(made).decode()


def sign_md5(message: bytes, suffix: str = f"&appSecret={SECRET}", name: str = "md5") -> str:
    """Sign by hashlib."""
    return hashlib.new(name, message + suffix.encode()).hexdigest().upper()


@pytest.mark.parametrize("rsa", [False, True], ids=["md5", "rsa"])
@pytest.mark.parametrize("name", STRINGS)
def test_mistake_in_the_string_is_named(name: str, *, rsa: bool) -> None:
    """By its signature as well as by the string itself."""
    cause, write = STRINGS[name]
    params = make_params(rsa=rsa)
    wrong = write(params)
    signature = sign_rsa(wrong.encode()) if rsa else sign_md5(wrong.encode())

    for against in (signature, wrong):
        found = explain(params, RSA_SIGNER if rsa else MD5, against=against).comparison
        assert found is not None
        assert (Verdict.EXPLAINED, (cause,)) == (found.verdict, found.causes)
        assert found.difference is not None


MD5_MISTAKES: Final[dict[str, tuple[Cause, Callable[[bytes], str]]]] = {
    "secret with a line break": (
        Cause.WRONG_SECRET,
        lambda m: sign_md5(m, f"&appSecret={SECRET}\n"),
    ),
    "no secret": (Cause.WRONG_SECRET, lambda m: sign_md5(m, "&appSecret=")),
    "secret in capitals": (
        Cause.WRONG_SECRET,
        lambda m: sign_md5(m, f"&appSecret={SECRET.upper()}"),
    ),
    "former secret": (Cause.WRONG_SECRET, lambda m: sign_md5(m, "&appSecret=former-secret")),
    "named key": (Cause.SECRET_PLACED, lambda m: sign_md5(m, f"&key={SECRET}")),
    "appended bare": (Cause.SECRET_PLACED, lambda m: sign_md5(m, SECRET)),
    "in front": (Cause.SECRET_PLACED, lambda m: sign_md5(SECRET.encode() + m, "")),
    "left out": (Cause.SECRET_PLACED, lambda m: sign_md5(m, "")),
    "sorted in": (
        Cause.SECRET_PLACED,
        lambda m: sign_md5(m.replace(b"&bizC", f"&appSecret={SECRET}&bizC".encode()), ""),
    ),
    "sha256": (Cause.WRONG_HASH, lambda m: sign_md5(m, name="sha256")),
    "sha1": (Cause.WRONG_HASH, lambda m: sign_md5(m, name="sha1")),
    "hmac": (
        Cause.WRONG_HASH,
        lambda m: hmac.digest(SECRET.encode(), m, "sha256").hex().upper(),
    ),
    "hmac with the suffix": (
        Cause.WRONG_HASH,
        lambda m: (
            hmac.digest(SECRET.encode(), m + f"&appSecret={SECRET}".encode(), "md5").hex().upper()
        ),
    ),
    "16 digits": (Cause.WRONG_HASH, lambda m: sign_md5(m)[8:24]),
    "twice": (
        Cause.HASHED_TWICE,
        lambda m: hashlib.md5(sign_md5(m).lower().encode()).hexdigest().upper(),
    ),
    "lower case": (Cause.LOWER_CASE_HEX, lambda m: sign_md5(m).lower()),
    "base64": (
        Cause.OTHER_ENCODING,
        lambda m: base64.b64encode(bytes.fromhex(sign_md5(m))).decode(),
    ),
    "line break": (Cause.LINE_BREAKS, lambda m: sign_md5(m) + "\n"),
    "an rsa signature": (Cause.WRONG_SCHEME, sign_rsa),
    "a hash of unknown text": (Cause.WRONG_HASH, lambda _: sign_md5(b"?", name="sha512")),
}


@pytest.mark.parametrize("name", MD5_MISTAKES)
def test_mistake_of_the_md5_scheme_is_named(name: str) -> None:
    """The secret, the hash, and how the signature is written."""
    cause, sign = MD5_MISTAKES[name]
    params = make_params(rsa=False)
    against = sign(join(choose(params)).encode())

    found = explain(
        params, MD5, against=against, others=[Md5Signer("former-secret"), RSA_SIGNER]
    ).comparison
    assert found is not None
    allowed = {(cause,), (cause, Cause.OTHER_ENCODING), (Cause.OTHER_ENCODING, cause)}
    assert found.verdict is Verdict.EXPLAINED
    assert found.causes in allowed
    assert found.difference is None


def sign_number(number: bytes) -> str:
    """Apply the private key to a padded block."""
    block = b"\x00\x01" + b"\xff" * (256 - 3 - len(number)) + b"\x00" + number
    return base64.b64encode(pow(int.from_bytes(block), KEY.d, KEY.n).to_bytes(256)).decode()


RSA_MISTAKES: Final[dict[str, tuple[tuple[Cause, ...], Callable[[bytes], str]]]] = {
    "sha1": ((Cause.WRONG_HASH,), lambda m: sign_rsa(m, SHA1)),
    "sha512": ((Cause.WRONG_HASH,), lambda m: sign_rsa(m, SHA512)),
    "digest signed": (
        (Cause.HASHED_TWICE,),
        lambda m: sign_rsa(hashlib.sha256(m).digest()),
    ),
    "digits signed": (
        (Cause.HASHED_TWICE,),
        lambda m: sign_rsa(hashlib.sha256(m).hexdigest().encode()),
    ),
    "bare digest": (
        (Cause.WRONG_PADDING,),
        lambda m: sign_number(hashlib.sha256(m).digest()),
    ),
    "bare digits": (
        (Cause.WRONG_PADDING,),
        lambda m: sign_number(hashlib.sha256(m).hexdigest().encode()),
    ),
    "bare digest of another text": (
        (Cause.OTHER_TEXT, Cause.WRONG_PADDING),
        lambda _: sign_number(b"?" * 32),
    ),
    "pss": (
        (Cause.WRONG_PADDING,),
        lambda m: base64.b64encode(pss.new(KEY).sign(SHA256.new(m))).decode(),
    ),
    "pss by sha1": (
        (Cause.WRONG_PADDING, Cause.WRONG_HASH),
        lambda m: base64.b64encode(pss.new(KEY).sign(SHA1.new(m))).decode(),
    ),
    "another key": ((Cause.WRONG_KEY,), lambda m: sign_rsa(m, key=OTHER_KEY)),
    "line breaks": (
        (Cause.LINE_BREAKS,),
        lambda m: base64.encodebytes(base64.b64decode(sign_rsa(m))).decode(),
    ),
    "url-safe": (
        (Cause.BASE64_SPELLING,),
        lambda m: sign_rsa(m).replace("+", "-").replace("/", "_"),
    ),
    "not padded": ((Cause.BASE64_SPELLING,), lambda m: sign_rsa(m).rstrip("=")),
    "quoted": ((Cause.SIGNATURE_URL_ENCODED,), lambda m: quote(sign_rsa(m), safe="")),
    "plus lost": ((Cause.PLUS_AS_BLANK,), lambda m: sign_rsa(m).replace("+", " ")),
    "hexadecimal": ((Cause.OTHER_ENCODING,), lambda m: base64.b64decode(sign_rsa(m)).hex()),
    "an md5 signature": ((Cause.OTHER_ENCODING, Cause.WRONG_SCHEME), sign_md5),
    "another text by sha1": (
        (Cause.OTHER_TEXT, Cause.WRONG_HASH),
        lambda _: sign_rsa(b"another", SHA1),
    ),
}


@pytest.mark.parametrize("name", RSA_MISTAKES)
def test_mistake_of_the_rsa_scheme_is_named(name: str) -> None:
    """The key, the hash, the padding, and how the signature is written."""
    causes, sign = RSA_MISTAKES[name]
    params = make_params(rsa=True)
    against = sign(join(choose(params)).encode())

    for key in (RSA_SIGNER, RSA_VERIFIER):
        found = explain(params, key, against=against, others=[MD5, OTHER_SIGNER]).comparison
        assert found is not None
        assert (Verdict.EXPLAINED, causes) == (found.verdict, found.causes)


@pytest.mark.parametrize("rsa", [False, True], ids=["md5", "rsa"])
def test_two_mistakes_are_both_named(*, rsa: bool) -> None:
    """As spaces and escaped Chinese, which Python's json writes, with a timestamp in seconds."""
    params = make_params(rsa=rsa)
    text = json.dumps(CONTENT)
    wrong = join(choose(params, bizContent=text, timestamp=MOMENT[:-3])).encode()
    against = sign_rsa(wrong) if rsa else sign_md5(wrong).lower()

    found = explain(params, RSA_SIGNER if rsa else MD5, against=against).comparison
    assert found is not None
    expected = (Cause.JSON_SPACES, Cause.JSON_ESCAPED, Cause.TIMESTAMP_SECONDS)
    assert (() if rsa else (Cause.LOWER_CASE_HEX,)) + expected == found.causes


@pytest.mark.parametrize("added", [True, False])
def test_sign_type_that_is_added_or_left_out_is_named(*, added: bool) -> None:
    """RSA signs it; the MD5 scheme has none."""
    params = make_params(rsa=not added)
    wrong = {name: value for name, value in choose(params).items() if name != "signType"}
    text = join(dict(sorted({**wrong, **({"signType": "MD5"} if added else {})}.items())))
    against = sign_md5(text.encode()) if added else sign_rsa(text.encode())

    for each in (text, against):
        found = explain(params, MD5 if added else RSA_SIGNER, against=each).comparison
        assert found is not None
        assert (Cause.SIGN_TYPE,) == found.causes


@pytest.mark.parametrize("rsa", [False, True], ids=["md5", "rsa"])
def test_gbk_is_named(*, rsa: bool) -> None:
    """Also by the bytes of the string."""
    params = make_params(rsa=rsa)
    wrong = join(choose(params)).encode("gbk")
    signature = sign_rsa(wrong) if rsa else sign_md5(wrong)

    for against in (signature, wrong):
        found = explain(params, RSA_SIGNER if rsa else MD5, against=against).comparison
        assert found is not None
        assert (Cause.CHARSET,) == found.causes


@pytest.mark.parametrize("rsa", [False, True], ids=["md5", "rsa"])
def test_right_text_is_confirmed(*, rsa: bool) -> None:
    """The signature, the canonical string, what is hashed, and bizContent alone."""
    params = make_params(rsa=rsa)
    key: Signer = RSA_SIGNER if rsa else MD5
    text = join(choose(params))
    signature = sign_rsa(text.encode()) if rsa else sign_md5(text.encode())
    hashed = text if rsa else f"{text}&appSecret={SECRET}"

    for against in (signature, text, hashed, params["bizContent"], f"sign={signature}"):
        found = explain(params, key, against=against).comparison
        assert found is not None
        assert (Verdict.MATCHES, (), None) == (found.verdict, found.causes, found.difference)
    assert signature == explain(params, key).signature


def test_signature_of_the_request_itself_is_compared_by_default() -> None:
    """So a request that was sent needs nothing more to be verified."""
    params = make_params(rsa=False)
    right = sign_md5(join(choose(params)).encode())

    assert (
        explain({**params, "sign": right}, MD5).comparison
        == explain(params, MD5, against=right).comparison
    )
    assert explain(choose(params), MD5).comparison is None
    assert explain({**params, "sign": ""}, MD5).comparison is None


@pytest.mark.parametrize("seed", range(5))
def test_random_signature_is_unknown(seed: int) -> None:
    """Nothing is guessed."""
    dice = random.Random(seed)
    digest, block = dice.randbytes(16).hex().upper(), dice.randbytes(255)
    number = base64.b64encode(b"\0" + block).decode()

    for key, against in ((MD5, digest), (RSA_SIGNER, number), (RSA_VERIFIER, number)):
        found = explain(make_params(rsa=key is not MD5), key, against=against).comparison
        assert found is not None
        assert (Verdict.UNKNOWN, ()) == (found.verdict, found.causes)
        assert found.difference is None


@pytest.mark.parametrize("against", ["x", "no signature!", "zz==", "!" * 32, "a" * 31])
def test_text_that_is_no_signature_is_unknown(against: str) -> None:
    """In both schemes."""
    for key in (MD5, RSA_SIGNER):
        found = explain(make_params(rsa=key is not MD5), key, against=against).comparison
        assert found is not None
        assert (Verdict.UNKNOWN, ()) == (found.verdict, found.causes)


def test_signature_of_another_text_is_known_to_be_of_this_key() -> None:
    """RSA shows that much, but not what was signed."""
    found = explain(make_params(rsa=True), RSA_SIGNER, against=sign_rsa(b"another")).comparison

    assert found is not None
    assert (Verdict.UNKNOWN, (Cause.OTHER_TEXT,)) == (found.verdict, found.causes)


def test_number_above_the_modulus_is_no_signature() -> None:
    """It opens to the same as the right one, but verifiers refuse it."""
    for nonce in range(1000):
        params = {**make_params(rsa=True), "nonce": f"{nonce}"}
        right = int.from_bytes(base64.b64decode(RSA_SIGNER.sign(join(choose(params)).encode())))
        if right + KEY.n < 1 << 2048:
            break
    against = base64.b64encode((right + KEY.n).to_bytes(256)).decode()
    found = explain(params, RSA_SIGNER, against=against).comparison

    assert found is not None
    assert Verdict.UNKNOWN is found.verdict


class ForeignSigner:
    """A key-management service: it signs, and does not show how."""

    def __init__(self, signer: Signer) -> None:
        self.sign_type = signer.sign_type
        self._signer = signer

    async def sign(self, message: bytes) -> str:
        """Sign later."""
        return str(self._signer.sign(message))


@pytest.mark.parametrize("signer", [MD5, RSA_SIGNER, ForeignSigner(MD5), ForeignSigner(RSA_SIGNER)])
async def test_explained_request_is_what_the_builder_signs(signer: Signer) -> None:
    """For each kind of request, byte for byte."""
    builder = RequestBuilder(APP_KEY, signer.sign_type, PRODUCTION)
    known: Signer = RSA_SIGNER if signer.sign_type else MD5
    for request, operation in ((pay(), PAY), (trade(), TRADE), (refund(), REFUND)):
        draft = builder.draft(operation, parameters(request), now_ms=1, nonce="n")
        sent = draft.signed(str(known.sign(draft.message)))
        found = await explain_request(request, builder=builder, signer=signer, now_ms=1, nonce="n")
        again = await explain_request(sent, builder=builder, signer=signer, now_ms=2, nonce="m")

        assert (operation.path, len(draft.message)) == (found.path, found.size)
        assert known.sign(draft.message) == found.signature == again.signature
        assert again.comparison is not None
        assert Verdict.MATCHES is again.comparison.verdict
        assert (found.path, found.canonical) == (again.path, again.canonical)


async def test_request_in_the_query_string_is_read() -> None:
    """Where the parameters travel changes nothing."""
    builder = RequestBuilder(APP_KEY, None, PRODUCTION, "query")
    draft = builder.draft(PAY, parameters(pay()), now_ms=1, nonce="n")
    sent = draft.signed(MD5.sign(draft.message))
    found = await explain_request(sent, builder=builder, signer=MD5, now_ms=2, nonce="m")

    assert found.comparison is not None
    assert Verdict.MATCHES is found.comparison.verdict


async def test_query_has_plain_parameters() -> None:
    """It has no bizContent."""
    builder = RequestBuilder(APP_KEY, None, PRODUCTION)
    query = TradeQuery(out_trade_no="O-1")
    found = await explain_request(query, builder=builder, signer=MD5, now_ms=1, nonce="n")

    assert QUERY.path == found.path
    assert f"appKey={APP_KEY}&nonce=n&outTradeNo=O-1&timestamp=1" == found.canonical


@pytest.mark.parametrize("moment", [MOMENT, MOMENT[:-3]])
async def test_nonce_and_timestamp_are_those_of_the_other_string(moment: str) -> None:
    """Else every comparison would end at the nonce."""
    builder = RequestBuilder(APP_KEY, None, PRODUCTION)
    theirs = f"appKey={APP_KEY}&nonce=theirs1&outTradeNo=O-1&timestamp={moment}"
    found = await explain_request(
        {"outTradeNo": "O-1"}, builder=builder, signer=MD5, now_ms=1, nonce="n", against=theirs
    )

    assert "nonce=theirs1&" in found.canonical
    assert found.comparison is not None
    expected = () if moment == MOMENT else (Cause.TIMESTAMP_SECONDS,)
    assert expected == found.comparison.causes


async def test_own_nonce_and_timestamp_stay_where_the_other_s_cannot_be_used() -> None:
    """They would make the string ambiguous."""
    builder = RequestBuilder(APP_KEY, None, PRODUCTION)
    found = await explain_request(
        {"outTradeNo": "O-1"},
        builder=builder,
        signer=MD5,
        now_ms=1,
        nonce="n",
        against=f"appKey={APP_KEY}&nonce=a=b&timestamp=today",
    )

    assert f"appKey={APP_KEY}&nonce=n&outTradeNo=O-1&timestamp=1" == found.canonical


async def test_signature_without_its_nonce_cannot_be_compared() -> None:
    """It would always differ, for no reason that could be told."""
    builder = RequestBuilder(APP_KEY, None, PRODUCTION)
    for request, against in ((pay(), "A" * 32), ({"sign": "A" * 32}, None)):
        with pytest.raises(InvalidRequestError, match="nonce, timestamp") as caught:
            await explain_request(
                request, builder=builder, signer=MD5, now_ms=1, nonce="n", against=against
            )
        assert "nonce, timestamp" == caught.value.field


@pytest.mark.parametrize(
    ("signer", "cause"),
    [(ForeignSigner(MD5), Cause.LOWER_CASE_HEX), (ForeignSigner(RSA_SIGNER), Cause.LINE_BREAKS)],
)
async def test_signer_of_one_s_own_is_compared_by_its_signature(
    signer: Signer, cause: Cause
) -> None:
    """How it is written can be told; what else was signed cannot, but a string can be compared."""
    builder = RequestBuilder(APP_KEY, signer.sign_type, PRODUCTION)
    params = make_params(rsa=signer.sign_type is not None)

    async def compare(against: str) -> tuple[Verdict, tuple[Cause, ...]]:
        found = await explain_request(
            params, builder=builder, signer=signer, now_ms=1, nonce="n", against=against
        )
        assert found.comparison is not None
        return found.comparison.verdict, found.comparison.causes

    message = join(choose(params)).encode()
    right = sign_rsa(message) if signer.sign_type else sign_md5(message)
    wrong = right.lower() if cause is Cause.LOWER_CASE_HEX else f"{right[:64]}\n{right[64:]}"
    assert (Verdict.MATCHES, ()) == await compare(right)
    assert (Verdict.EXPLAINED, (cause,)) == await compare(wrong)
    other = sign_rsa(b"other") if signer.sign_type else sign_md5(b"other")
    assert (Verdict.UNKNOWN, ()) == await compare(other)
    assert (Verdict.EXPLAINED, (Cause.LINE_BREAK_AT_END,)) == await compare(f"{message.decode()}\n")
    assert (Verdict.EXPLAINED, (Cause.OTHER_VALUE,)) == await compare(
        message.decode().replace("Zone=cn", "Zone=hk")
    )


def test_parameters_are_told_in_their_order_with_the_reasons() -> None:
    """Those that are signed first, sorted as they are signed."""
    found = explain(make_params(rsa=True), RSA_SIGNER)

    signed = ["Zone", "appKey", "bizContent", "nonce", "offset", "signType", "timestamp"]
    assert signed == [each.name for each in found.parameters if each.dropped is None]
    dropped = [(each.name, each.dropped) for each in found.parameters[len(signed) :]]
    assert [("memo", Dropped.EMPTY), ("sign", Dropped.SIGN)] == dropped


def test_digest_is_what_is_signed() -> None:
    """MD5 hashes the secret too; RSA signs the SHA-256 of the canonical string."""
    params = make_params(rsa=True)
    message = join(choose(params)).encode()
    by_md5, by_rsa = explain(params, MD5), explain(params, RSA_SIGNER)

    assert ("MD5", sign_md5(message).lower()) == (by_md5.scheme, by_md5.digest)
    assert ("RSA", hashlib.sha256(message).hexdigest()) == (by_rsa.scheme, by_rsa.digest)
    assert f"{by_md5.canonical}&appSecret=***" == by_md5.digest_input
    assert by_rsa.canonical == by_rsa.digest_input
    assert len(message) == by_md5.size
    assert explain(params, RSA_VERIFIER).signature is None


@pytest.mark.parametrize(
    ("moment", "notes"), [(MOMENT, ()), ("1490063145", (Cause.TIMESTAMP_SECONDS,))]
)
def test_timestamp_in_seconds_is_noted(moment: str, notes: tuple[Cause, ...]) -> None:
    """Such a request has a right signature, and is refused all the same."""
    found = explain({"appKey": APP_KEY, "nonce": "n", "timestamp": moment}, MD5)

    assert notes == found.notes


def show(explanation: Explanation) -> str:
    """Return everything that an explanation shows."""
    return f"{explanation!r} {explanation}"


SECRET_TEXTS: Final[dict[str, Callable[[str], str]]] = {
    "appended": lambda text: f"{text}&appSecret={SECRET}",
    "another": lambda text: f"{text}&appSecret=canary-of-another",
    "named key": lambda text: f"{text}&key={SECRET}",
    "bare": lambda text: f"{text}{SECRET}",
    "another bare": lambda text: f"{text}canary-of-another",
    "another bare after seconds": lambda text: f"{text[:-3]}canary-of-another",
    "in front": lambda text: f"{SECRET}{text}",
    "another in front": lambda text: f"canary-of-another{text}",
    "another in front with &": lambda text: f"canary-of-another&{text}",
    "sorted in": lambda text: text.replace("&bizC", f"&appSecret={SECRET}&bizC"),
    "in a value": lambda text: text.replace("&nonce=", f"&nonce={SECRET}"),
    "unknown name": lambda text: f"{text}&token=canary-of-another",
    "quoted": lambda text: quote(f"{text}&appSecret={SECRET}", safe=""),
    "alone": lambda _: f"appSecret={SECRET}",
    "spaced": lambda text: text.replace('":"', '": "') + f"&appSecret={SECRET}",
    "other token": lambda text: text.replace(TOKEN, "canary-of-another"),
    "other token, quoted": lambda text: join_quoted(text.replace(TOKEN, "canary-of-another")),
    "plain token": lambda text: f"{text}&payToken=canary-of-another",
    "python's dict": lambda text: text.replace(write_json(CONTENT), str(CONTENT)).replace(
        TOKEN, "canary-of-another"
    ),
    "java's map": lambda text: text.replace('"', "").replace(":", "=").replace(TOKEN, "canary-9"),
    "another behind another value": lambda text: text.partition("&offset")[0].replace(
        "76e71d31590d44f2", "xcanary-of-another"
    ),
    "cut": lambda text: text[: text.index(OPENID) + 8] + "canary-of-another",
}


def join_quoted(text: str) -> str:
    """Quote the value of bizContent."""
    before, _, rest = text.partition("bizContent=")
    value, _, after = rest.partition("&nonce=")
    return f"{before}bizContent={quote(value, safe='')}&nonce={after}"


@pytest.mark.parametrize("rsa", [False, True], ids=["md5", "rsa"])
@pytest.mark.parametrize("name", SECRET_TEXTS)
def test_explanation_holds_no_secret(name: str, *, rsa: bool) -> None:
    """Neither ours, nor one that the other side's text holds, nor the payer's credentials."""
    params = make_params(rsa=rsa)
    against = SECRET_TEXTS[name](join(choose(params)))
    shown = show(explain(params, RSA_SIGNER if rsa else MD5, against=against))

    if not rsa or "appSecret" in against or "key=" in against:
        assert SECRET[:8] not in shown  # a part of it is too much
    assert not [each for each in (TOKEN[:14], OPENID[:8], "canary") if each in shown]
    assert f"{KEY.d}" not in shown


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("another", Cause.WRONG_SECRET),
        ("named key", Cause.SECRET_PLACED),
        ("bare", Cause.SECRET_PLACED),
        ("in front", Cause.SECRET_PLACED),
        ("sorted in", Cause.SECRET_PLACED),
    ],
)
def test_secret_in_the_other_string_is_compared(name: str, cause: Cause) -> None:
    """A colleague may give what is hashed, secret and all."""
    params = make_params(rsa=False)
    found = explain(params, MD5, against=SECRET_TEXTS[name](join(choose(params)))).comparison

    assert found is not None
    assert (Verdict.EXPLAINED, (cause,)) == (found.verdict, found.causes)


def test_string_with_a_secret_is_of_the_other_scheme_for_rsa() -> None:
    """RSA has no secret in its string."""
    params = make_params(rsa=True)
    against = join(choose(params)) + f"&appSecret={SECRET}"
    found = explain(params, RSA_SIGNER, against=against).comparison

    assert found is not None
    assert (Cause.WRONG_SCHEME,) == found.causes
