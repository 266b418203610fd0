"""Find out why a signature was refused, from the sandbox's side. No I/O, and no secret in it.

The sandbox knows the parameters, the secret or the public key, and the signature that arrived. It
signs the strings that are signed by mistake, one mistake at a time, and looks which of them made
the signature. An RSA signature is opened by the public key instead, which shows the digest that was
signed. This is written apart from the client's explanation, so that one does not repeat the errors
of the other.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from attrs import frozen
from Crypto.PublicKey import RSA

from wxpay_async.sandbox.auth import App, Scheme, canonical_bytes

MASK: Final = "******"
_AROUND: Final = 24
_MD5_DIGITS: Final = 32

# The beginnings of DigestInfo (RFC 8017, 9.2), which say by which hash a text was signed.
_DIGEST_INFOS: Final[Mapping[str, bytes]] = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "md5": bytes.fromhex("3020300c06082a864886f70d020505000410"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


class Cause(enum.StrEnum):
    """Why a signature is wrong."""

    URL_ENCODED = "url_encoded"
    EMPTY_KEPT = "empty_kept"
    NOT_SORTED = "not_sorted"
    SIGN_INCLUDED = "sign_included"
    JSON_REWRITTEN = "json_rewritten"
    SIGN_TYPE_LEFT_OUT = "sign_type_left_out"
    LINE_BREAK = "line_break"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - a cause's name
    SECRET_PLACED = "secret_placed"  # noqa: S105 - a cause's name
    SECRET_SPELLED = "secret_spelled"  # noqa: S105 - a cause's name
    LOWER_CASE = "lower_case"
    OTHER_SCHEME = "other_scheme"
    NO_KEY = "no_key"
    OTHER_KEY = "other_key"
    OTHER_HASH = "other_hash"
    NOT_BASE64 = "not_base64"
    OTHER_TEXT = "other_text"
    UNKNOWN = "unknown"


@frozen(kw_only=True)
class Difference:
    """Where two texts differ first.

    Attributes:
        offset: characters before it.
        before: the end of what both have in common.
        ours: what follows in the sandbox's text.
        theirs: what follows in the other one.
    """

    offset: int
    before: str
    ours: str
    theirs: str


@frozen(kw_only=True)
class Diagnosis:
    """Why a signature was refused.

    Attributes:
        scheme: by which it was checked.
        canonical: what is signed, in the sandbox's eyes.
        hashed: the text that is hashed, with the secret masked.
        expected: the MD5 signature; of RSA the SHA-256 digest that the signature must contain.
        received: what arrived in its place.
        cause: the likely cause.
        difference: between the canonical string and what was signed, as far as that is known;
            else between the expected signature and the received one.
        of_text: whether the difference is one of the signed texts.
    """

    scheme: Scheme
    canonical: str
    hashed: str
    expected: str
    received: str
    cause: Cause
    difference: Difference | None
    of_text: bool


def diagnose(app: App, params: Mapping[str, str]) -> Diagnosis:
    """Explain why the signature of a call was refused.

    Args:
        app: the merchant of the appKey.
        params: all parameters of the call.
    """
    if params.get("signType"):
        return _diagnose_rsa(app, params)
    return _diagnose_md5(app, params)


def _diagnose_md5(app: App, params: Mapping[str, str]) -> Diagnosis:
    canonical, received = canonical_bytes(params).decode(), params["sign"]
    expected = _hash_md5(f"{canonical}&appSecret={app.app_secret}")
    cause, text = _find_md5_cause(app, params, canonical, received)
    return Diagnosis(
        scheme="md5",
        canonical=canonical,
        hashed=f"{canonical}&appSecret={MASK}",
        expected=expected,
        received=received,
        cause=cause,
        difference=find_difference(canonical, text) or find_difference(expected, received),
        of_text=find_difference(canonical, text) is not None,
    )


def _find_md5_cause(
    app: App, params: Mapping[str, str], canonical: str, received: str
) -> tuple[Cause, str]:
    """Return the cause, and the text that was signed in place of the canonical string."""
    digest = received.strip().upper()
    if len(digest) != _MD5_DIGITS:
        return (Cause.OTHER_SCHEME if len(digest) > _MD5_DIGITS else Cause.UNKNOWN), canonical
    if digest == _hash_md5(f"{canonical}&appSecret={app.app_secret}"):
        return Cause.LOWER_CASE, canonical
    for cause, text in _write_endings(canonical, app.app_secret):
        if digest == _hash_md5(text):
            return cause, canonical
    for cause, text in write_mistakes(params):
        if digest == _hash_md5(f"{text}&appSecret={app.app_secret}"):
            return cause, text
    return Cause.UNKNOWN, canonical


def _diagnose_rsa(app: App, params: Mapping[str, str]) -> Diagnosis:
    canonical, received = canonical_bytes(params).decode(), params["sign"]
    cause, text, digest = _find_rsa_cause(app, params, received)
    expected = hashlib.sha256(canonical.encode()).hexdigest()
    difference = find_difference(canonical, text or canonical)
    return Diagnosis(
        scheme="rsa",
        canonical=canonical,
        hashed=canonical,
        expected=expected,
        received=digest or received,
        cause=cause,
        difference=difference or (find_difference(expected, digest) if digest else None),
        of_text=difference is not None,
    )


def _find_rsa_cause(app: App, params: Mapping[str, str], received: str) -> tuple[Cause, str, str]:
    """Return the cause, the text that was signed, and its digest, as far as they are known."""
    if params["signType"] != "RSA" or len(received) == _MD5_DIGITS:
        return Cause.OTHER_SCHEME, "", ""
    if app.rsa is None:
        return Cause.NO_KEY, "", ""
    try:
        signature = base64.b64decode(received, validate=True)
    except (binascii.Error, ValueError):
        return Cause.NOT_BASE64, "", ""
    name, digest = _open_signature(RSA.import_key(app.rsa.public_der()), signature)
    cause, text = _find_signed_text(params, name, digest) if name else (Cause.OTHER_KEY, "")
    return cause, text, digest


def _find_signed_text(params: Mapping[str, str], name: str, digest: str) -> tuple[Cause, str]:
    """Return what the right key signed in place of the canonical string."""
    if hashlib.new(name, canonical_bytes(params)).hexdigest() == digest:
        return Cause.OTHER_HASH, ""
    for cause, text in write_mistakes(params):
        if hashlib.new(name, text.encode()).hexdigest() == digest:
            return cause, text
    return (Cause.OTHER_TEXT if name == "sha256" else Cause.OTHER_HASH), ""


def _open_signature(key: RSA.RsaKey, signature: bytes) -> tuple[str, str]:
    """Return hash and digest that a signature contains; empty if another key made it."""
    size = key.size_in_bytes()
    opened = pow(int.from_bytes(signature, "big"), key.e, key.n).to_bytes(size, "big")
    for name, beginning in _DIGEST_INFOS.items():
        length = hashlib.new(name).digest_size
        if opened[:2] == b"\x00\x01" and opened[: size - length].endswith(b"\x00" + beginning):
            return name, opened[-length:].hex()
    return "", ""


def write_mistakes(params: Mapping[str, str]) -> Iterator[tuple[Cause, str]]:
    """Yield the texts that are signed by mistake, each with one mistake."""
    signed = {name: text for name, text in params.items() if text and name != "sign"}
    for encode in (quote, quote_plus, _encode_all):
        yield Cause.URL_ENCODED, _join({name: encode(text) for name, text in signed.items()})
    yield Cause.EMPTY_KEPT, _join({n: t for n, t in params.items() if n != "sign"})
    yield Cause.NOT_SORTED, "&".join(f"{name}={text}" for name, text in signed.items())
    yield Cause.NOT_SORTED, "&".join(f"{n}={signed[n]}" for n in sorted(signed, key=str.lower))
    yield Cause.SIGN_INCLUDED, _join({**signed, "sign": params.get("sign", "")})
    yield Cause.SIGN_TYPE_LEFT_OUT, _join({n: t for n, t in signed.items() if n != "signType"})
    yield Cause.LINE_BREAK, _join(signed) + "\n"
    for content in _rewrite_json(params.get("bizContent", "")):
        yield Cause.JSON_REWRITTEN, _join({**signed, "bizContent": content})


def find_difference(ours: str, theirs: str) -> Difference | None:
    """Return where two texts differ first; None if they do not."""
    if ours == theirs:
        return None
    pairs = zip(ours, theirs, strict=False)
    shared = min(len(ours), len(theirs))
    offset = next((i for i, (one, other) in enumerate(pairs) if one != other), shared)
    return Difference(
        offset=offset,
        before=ours[max(0, offset - _AROUND) : offset],
        ours=ours[offset : offset + _AROUND],
        theirs=theirs[offset : offset + _AROUND],
    )


def _write_endings(text: str, secret: str) -> Iterator[tuple[Cause, str]]:
    """Yield what is hashed by mistake, with the right text and the right secret."""
    yield Cause.SECRET_MISSING, text
    for name in ("appsecret", "AppSecret", "app_secret", "secret", "key", "appKey"):
        yield Cause.SECRET_PLACED, f"{text}&{name}={secret}"
    for joined in (text + secret, secret + text, secret + text + secret, f"{text}&{secret}"):
        yield Cause.SECRET_PLACED, joined
    for other in (f"{secret}\n", f" {secret}", f"{secret} ", f'"{secret}"', secret.upper()):
        yield Cause.SECRET_SPELLED, f"{text}&appSecret={other}"


def _rewrite_json(content: str) -> Iterator[str]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_only in (False, True):
            for sort in (False, True):
                yield json.dumps(
                    value, ensure_ascii=ascii_only, separators=separators, sort_keys=sort
                )


def _encode_all(text: str) -> str:
    return quote(text, safe="")


def _join(params: Mapping[str, str]) -> str:
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def _hash_md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
