"""Find out how a signature was made, by trying: MD5 is computed again, RSA is opened.

The public half of an RSA key opens a signature that the private half made: what comes out names the
hash and holds the digest, which is then compared with that of every string that may have been
signed. A signature that does not open was made by another key, or is none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable
from urllib.parse import unquote

import attrs

from wxpay_async.protocol.explain_causes import Cause
from wxpay_async.protocol.explain_variants import Variant
from wxpay_async.protocol.keys import load_private_key, load_public_key
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.signing import Md5Signer, RsaVerifier

if TYPE_CHECKING:
    from Crypto.PublicKey import RSA

Scheme = Literal["MD5", "RSA"]
Variants = Callable[[], Iterator[Variant]]
"""Starts to write the strings that may have been signed; most searches end with the first ones."""

_Text = tuple[tuple[Cause, ...], tuple[bytes, ...]]
"""What is wrong with a text that is hashed, and its parts."""
_Reading = tuple[tuple[Cause, ...], bytes]
"""What is wrong with a digest, and the digest."""

SECRET_NAME: Final = b"&appSecret="
_OTHER_NAMES: Final = (b"&key=", b"&secret=", b"&appsecret=", b"&app_secret=", b"&AppSecret=")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MD5_BYTES: Final = 16
_DIGEST_BYTES: Final = frozenset({20, 28, 32, 48, 64})
_LEAST_RSA_BYTES: Final = 128
_PADDING: Final = b"\x00\x01" + b"\xff" * 8
_DIGEST_INFOS: Final = {
    "sha256": "3031300d060960864801650304020105000420",
    "sha1": "3021300906052b0e03021a05000414",
    "md5": "3020300c06082a864886f70d020505000410",
    "sha512": "3051300d060960864801650304020305000440",
    "sha384": "3041300d060960864801650304020205000430",
    "sha224": "302d300d06096086480165030402040500041c",
}
"""What stands before the digest of each hash (RFC 8017, section 9.2, note 1)."""


@attrs.frozen
class WrittenSignature:
    """A signature as the other side wrote it.

    Attributes:
        raw: its bytes; none where the text is neither hexadecimal nor Base64.
        causes: what is wrong with how it is written.
    """

    raw: bytes
    causes: tuple[Cause, ...]


@attrs.frozen
class Finding:
    """How a signature was made.

    Attributes:
        causes: what is wrong; nothing with a signature that is right.
        variant: what was signed, where that was found.
    """

    causes: tuple[Cause, ...]
    variant: Variant | None = None


class Probe(Protocol):
    """Tries how a signature was made."""

    def find(self, raw: bytes, variants: Variants) -> Finding | None:
        """Return how it was made, None if nothing makes it."""
        ...

    def find_text(self, text: bytes, variants: Variants) -> Finding | None:
        """Return how a text was made that is hashed, the secret included; None if it is none."""
        ...

    def hide_secret(self, text: str, mask: str) -> str:
        """Replace each character of the secret, wherever it stands in a text."""
        ...


@runtime_checkable
class PrivateKeyHolder(Protocol):
    """A signer that holds an RSA key, as `RsaSigner` does."""

    @property
    def private_der(self) -> Callable[[], bytes]:
        """Return the private key in DER."""
        ...


def read_signature(text: str, scheme: Scheme) -> WrittenSignature:
    """Read a signature, however it is written.

    Args:
        text: the signature, or `sign=` and the signature.
        scheme: MD5 is written in upper-case hexadecimal, RSA in Base64.
    """
    causes = list[Cause]()
    text = text.removeprefix("sign=")
    if "%" in text:
        text = unquote(text)
        causes.append(Cause.SIGNATURE_URL_ENCODED)
    core = text.strip()
    if not _HEX.fullmatch(core) and len(text.strip("\r\n")) % 4 == 0:
        core = text.strip("\r\n")  # a blank at an end may have been a +
    if core != text or "\n" in core:
        core = "".join(core.splitlines())
        causes.append(Cause.LINE_BREAKS)
    if " " in core:
        core = core.replace(" ", "+")
        causes.append(Cause.PLUS_AS_BLANK)
    if _HEX.fullmatch(core):
        if scheme == "RSA":
            causes.append(Cause.OTHER_ENCODING)
        elif core != core.upper():
            causes.append(Cause.LOWER_CASE_HEX)
        return WrittenSignature(bytes.fromhex(core), tuple(causes))
    if scheme == "MD5":
        causes.append(Cause.OTHER_ENCODING)
    plain = core.replace("-", "+").replace("_", "/").rstrip("=")
    plain += "=" * (-len(plain) % 4)
    if plain != core:
        causes.append(Cause.BASE64_SPELLING)
    return WrittenSignature(_decode_base64(plain), tuple(causes))


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text) if _BASE64.fullmatch(text) else b""


def is_plausible(raw: bytes, scheme: Scheme) -> bool:
    """Tell whether a signature of the scheme may have these bytes."""
    return len(raw) == _MD5_BYTES if scheme == "MD5" else len(raw) >= _LEAST_RSA_BYTES


def judge_length(raw: bytes, scheme: Scheme) -> Cause | None:
    """Return what the mere length of a signature proves, if it proves anything."""
    if scheme == "RSA":
        return Cause.WRONG_SCHEME if len(raw) == _MD5_BYTES else None
    if len(raw) >= _LEAST_RSA_BYTES:
        return Cause.WRONG_SCHEME
    return Cause.WRONG_HASH if len(raw) in _DIGEST_BYTES else None


def make_probe(key: object, others: Iterable[object]) -> Probe | None:
    """Make what tries signatures by a key.

    Args:
        key: an `Md5Signer`, `RsaSigner` or `RsaVerifier`; other signers do not
            show how they sign.
        others: of the same kinds, which the other side may have used in its place.
    """
    if isinstance(key, Md5Signer):
        suffixes = [each.private_suffix() for each in others if isinstance(each, Md5Signer)]
        return Md5Probe(key.private_suffix(), suffixes)
    own = _find_public_key(key)
    if own is None:
        return None
    found = [_find_public_key(each) for each in others]
    return RsaProbe([own, *(each for each in found if each is not None)])


def _find_public_key(key: object) -> RSA.RsaKey | None:
    if isinstance(key, PrivateKeyHolder):
        return load_private_key(key.private_der()).public_key()
    if isinstance(key, RsaVerifier):
        return load_public_key(key.public_der())
    return None


def _digest(name: str, *parts: bytes) -> bytes:
    made = hashlib.new(name, usedforsecurity=False)
    for part in parts:
        made.update(part)
    return made.digest()


class Md5Probe:
    """Tries signatures of the MD5 scheme.

    Args:
        suffix: `&appSecret=` and the secret.
        others: the same of secrets that the other side may have used.
    """

    def __init__(self, suffix: bytes, others: Iterable[bytes]) -> None:
        given = tuple(others)
        # Closures, as in `Md5Signer`: vars() and debuggers' dumps do not show a secret.
        self._list_readings: Callable[[bytes], Iterator[_Reading]] = lambda message: (
            _list_md5_readings(message, suffix, given)
        )
        self._list_texts: Callable[[bytes], Iterator[_Text]] = lambda message: _list_md5_texts(
            message, suffix, given
        )
        self._sign: Callable[[bytes], bytes] = lambda message: _digest("md5", message, suffix)
        self._hide: Callable[[str, str], str] = lambda text, mask: text.replace(
            suffix.removeprefix(SECRET_NAME).decode(), mask * (len(suffix) - len(SECRET_NAME))
        )

    def hide_secret(self, text: str, mask: str) -> str:
        """Replace each character of the secret, wherever it stands in a text."""
        return self._hide(text, mask)

    def find_text(self, text: bytes, variants: Variants) -> Finding | None:
        """Return how a text was made that is hashed, the secret included; None if it is none."""
        for variant in _take_likely(variants):
            for causes, parts in self._list_texts(variant.message):
                if b"".join(SecretBytes(part) for part in parts) == text:
                    return Finding((*variant.causes, *causes), variant)
        return None

    def find(self, raw: bytes, variants: Variants) -> Finding | None:
        """Return how a signature was made, None if nothing makes it."""
        for variant in variants():
            if self._sign(variant.message) == raw:
                return Finding(variant.causes, variant)
            if variant.mistakes > 1:  # beside two mistakes everything else is right
                continue
            for causes, digest in self._list_readings(variant.message):
                if digest == raw:
                    return Finding((*variant.causes, *causes), variant)
        return None


def _list_md5_texts(message: bytes, suffix: bytes, others: Sequence[bytes]) -> Iterator[_Text]:
    """List the parts of what other code may hash for one string, and what is wrong with each."""
    secret = SecretBytes(suffix.removeprefix(SECRET_NAME))
    yield (), (message, suffix)
    for wrong in (*others, *_list_wrong_suffixes(secret)):
        yield (Cause.WRONG_SECRET,), (message, wrong)
    for parts in _place_secret(message, secret):
        yield (Cause.SECRET_PLACED,), parts


def _list_md5_readings(
    message: bytes, suffix: bytes, others: Sequence[bytes]
) -> Iterator[_Reading]:
    """List the digests that other code may make of one string, and what is wrong with each."""
    secret = SecretBytes(suffix.removeprefix(SECRET_NAME))
    for causes, parts in _list_md5_texts(message, suffix, others):
        yield causes, _digest("md5", *parts)
        for name in ("sha1", "sha256", "sha512"):
            yield (*causes, Cause.WRONG_HASH), _digest(name, *parts)
    right = _digest("md5", message, suffix)
    yield (Cause.WRONG_HASH,), right[4:12]  # MD5 of 16 digits
    for digits in (right.hex(), right.hex().upper()):
        yield (Cause.HASHED_TWICE,), _digest("md5", digits.encode())
    for name in ("md5", "sha1", "sha256"):
        for signed in (message, SecretBytes(message + suffix)):
            yield (Cause.WRONG_HASH,), hmac.digest(secret, signed, name)


def _list_wrong_suffixes(secret: bytes) -> list[bytes]:
    wrong = [
        *(secret + end for end in (b"\n", b"\r\n", b" ")),
        *(b" " + secret, secret.lower(), secret.upper(), b'"' + secret + b'"', b"", b"null"),
    ]
    return [SecretBytes(SECRET_NAME + each) for each in wrong if each != secret]


def _place_secret(message: bytes, secret: bytes) -> list[tuple[bytes, ...]]:
    """List the parts of what is hashed where the secret enters in other ways."""
    before, after = _split_at_secret(message)
    return [
        *((message, name, secret) for name in _OTHER_NAMES),
        *((message, secret), (message, b"&", secret), (secret, message)),
        *((secret, message, secret), (message,)),
        (before, b"appSecret=", secret, b"&", after),
    ]


def _split_at_secret(message: bytes) -> tuple[bytes, bytes]:
    """Split a string where a parameter `appSecret` would stand if it were sorted with the rest."""
    pairs = message.split(b"&")
    place = next((n for n, pair in enumerate(pairs) if pair > b"appSecret="), len(pairs))
    before = b"".join(SecretBytes(pair + b"&") for pair in pairs[:place])
    return SecretBytes(before), SecretBytes(b"&".join(pairs[place:]))


def _take_likely(variants: Variants) -> Iterator[Variant]:
    """Take those with one mistake at most: beside two everything else is right."""
    return takewhile(lambda variant: variant.mistakes <= 1, variants())


class RsaProbe:
    """Tries signatures of the RSA scheme.

    Args:
        keys: public keys; the first is the right one, the other side may have used the others.
    """

    def __init__(self, keys: Sequence[RSA.RsaKey]) -> None:
        self._keys = keys

    def hide_secret(self, text: str, mask: str) -> str:
        """Return the text: a private key does not enter what is signed."""
        del mask
        return text

    def find_text(self, text: bytes, variants: Variants) -> None:
        """Return None: no secret enters what is hashed."""

    def find(self, raw: bytes, variants: Variants) -> Finding | None:
        """Return how a signature was made, None if nothing makes it."""
        for number, key in enumerate(self._keys):
            wrong_key = (Cause.WRONG_KEY,) if number else ()
            opened = _open(raw, key)
            found = (
                _find_pss(raw, key, variants) if opened is None else _find_digest(*opened, variants)
            )
            if found is not None:
                return Finding((*found.causes, *wrong_key), found.variant)
        return None


def _open(raw: bytes, key: RSA.RsaKey) -> tuple[str, bytes] | None:
    """Return the hash and the digest that a key's signature holds; the hash is empty if none is."""
    size, number = key.size_in_bytes(), int.from_bytes(raw)
    if len(raw) != size or number >= key.n:
        return None
    block = pow(number, key.e, key.n).to_bytes(size)
    if not block.startswith(_PADDING):
        return None
    payload = block[2:].lstrip(b"\xff")[1:]
    for name, info in _DIGEST_INFOS.items():
        digest = payload.removeprefix(bytes.fromhex(info))
        if digest != payload:
            return name, digest
    return "", payload


def _find_digest(name: str, digest: bytes, variants: Variants) -> Finding:
    wrong_hash = () if name in {"sha256", ""} else (Cause.WRONG_HASH,)
    unknown = wrong_hash if name else (Cause.WRONG_PADDING,)
    for variant in variants():
        for causes, made in _list_rsa_readings(variant.message, name):
            if made == digest:
                return Finding((*variant.causes, *causes, *wrong_hash), variant)
    return Finding((Cause.OTHER_TEXT, *unknown))


def _list_rsa_readings(message: bytes, name: str) -> Iterator[_Reading]:
    """List the digests that other code may sign for one string, and what is wrong with each."""
    if not name:
        yield (Cause.WRONG_PADDING,), message
        for each in _DIGEST_INFOS:
            yield (Cause.WRONG_PADDING,), _digest(each, message)
            yield (Cause.WRONG_PADDING,), _digest(each, message).hex().encode()
        return
    yield (), _digest(name, message)
    for each in dict.fromkeys((name, "sha256")):
        once = _digest(each, message)
        for hashed in (once, once.hex().encode(), once.hex().upper().encode()):
            yield (Cause.HASHED_TWICE,), _digest(name, hashed)


def _find_pss(raw: bytes, key: RSA.RsaKey, variants: Variants) -> Finding | None:
    from Crypto.Hash import SHA1, SHA256  # noqa: PLC0415 - not needed by the MD5 scheme
    from Crypto.Signature import pss  # noqa: PLC0415

    scheme = pss.new(key)
    for variant in _take_likely(variants):
        for kind, wrong_hash in ((SHA256, ()), (SHA1, (Cause.WRONG_HASH,))):
            try:
                scheme.verify(kind.new(variant.message), raw)
            except ValueError:
                continue
            return Finding((*variant.causes, Cause.WRONG_PADDING, *wrong_hash), variant)
    return None
