"""Describe an RSA key: its form, its size, and its public half as consoles ask for it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from wxpay_async import InvalidKeyError
from wxpay_async.protocol.keys import load_private_key, load_public_key, read_key_file
from wxpay_async.protocol.secrets import SecretBytes

if TYPE_CHECKING:
    from Crypto.PublicKey import RSA

_LABEL: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_LABELS: Final = {
    b"PRIVATE KEY": "PKCS#8",
    b"ENCRYPTED PRIVATE KEY": "encrypted PKCS#8",
    b"RSA PRIVATE KEY": "PKCS#1",
    b"PUBLIC KEY": "SubjectPublicKeyInfo",
    b"RSA PUBLIC KEY": "PKCS#1",
    b"CERTIFICATE": "certificate",
}
_OLD_ENCRYPTION: Final = b"Proc-Type:"
_BOM: Final = b"\xef\xbb\xbf"
_RSA_OID: Final = bytes.fromhex("2a864886f70d010101")
_SEQUENCE: Final = 0x30
_FIRST: Final = 4
"""Where the first part of a key begins in DER: its header has four bytes, as a key is long."""

_AFTER_VERSION: Final = 7
"""Where a private key goes on behind its version number."""

_HEAD: Final = 40
"""The bytes of a public key in which the name of its algorithm stands."""


@attrs.frozen(kw_only=True)
class KeyFacts:
    """What can be said of a key without showing it.

    Attributes:
        form: how it is written, e.g. `PKCS#8, PEM`.
        bits: its size.
        is_private: whether it can sign.
        public_der: its public half as SubjectPublicKeyInfo.
    """

    form: str
    bits: int
    is_private: bool
    public_der: bytes = attrs.field(repr=False)

    @property
    def kind(self) -> str:
        """`private` or `public`."""
        return "private" if self.is_private else "public"

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the DER of the public half: 64 hexadecimal digits.

        `openssl pkey -in FILE -pubout -outform DER | openssl sha256` tells the same.
        """
        return hashlib.sha256(self.public_der).hexdigest()

    @property
    def public_base64(self) -> str:
        """The public half as consoles ask for it: Base64 of the DER, on one line."""
        return base64.b64encode(self.public_der).decode("ascii")

    @property
    def public_pem(self) -> str:
        """The public half as PEM, without a line break at its end."""
        lines = re.findall(".{1,64}", self.public_base64)
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----"])


def read_key_facts(
    path: Path, passphrase: str | None = None, *, any_mode: bool = False
) -> KeyFacts:
    """Describe the key in a file.

    Args:
        path: a private key, a public key or a certificate.
        passphrase: of an encrypted key.
        any_mode: a mount decides who can read and write the file.

    Raises:
        InvalidKeyError: the file or the key cannot be used, and why.

    Warns:
        InsecureKeyFileWarning: other users can read a private key.
    """
    data = SecretBytes(read_key_file(path, private=False, any_mode=any_mode))
    facts = describe_key(data, passphrase, file=path)
    if facts.is_private:
        read_key_file(path, private=True, any_mode=any_mode)  # now that it is known; it warns
    return facts


def describe_key(
    data: bytes, passphrase: str | None = None, *, file: Path | None = None
) -> KeyFacts:
    """Describe a private or a public key.

    Args:
        data: PEM, DER or bare Base64.
        passphrase: of an encrypted key.
        file: where it was read from; an error then names it.

    Raises:
        InvalidKeyError: it is neither; the text says what it is instead.
    """
    key = _load(data, passphrase, file)
    private = bool(key.has_private())
    return KeyFacts(
        form=_find_form(data, private=private),
        bits=key.size_in_bits(),
        is_private=private,
        public_der=key.public_key().export_key("DER"),
    )


def _load(data: bytes, passphrase: str | None, file: Path | None) -> RSA.RsaKey:
    try:
        return load_private_key(data, passphrase, file=file)
    except InvalidKeyError as error:
        try:
            return load_public_key(data, file=file)
        except InvalidKeyError:
            # What keeps it from being a private key says more: a passphrase, for example.
            raise error from None


def _find_form(data: bytes, *, private: bool) -> str:
    label = _LABEL.search(data)
    if label is not None:
        form = _LABELS.get(label[1], "unknown")
        return f"{'encrypted ' if _OLD_ENCRYPTION in data else ''}{form}, PEM"
    der, encoding = data, "DER"
    if data[:1] != bytes([_SEQUENCE]):
        der, encoding = _decode(data), "Base64"
    return f"{_find_private_form(der) if private else _find_public_form(der)}, {encoding}"


def _decode(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data.removeprefix(_BOM))
    except binascii.Error:  # pragma: no cover - it was loaded
        return b""


def _find_private_form(der: bytes) -> str:
    if der[_FIRST : _FIRST + 1] == bytes([_SEQUENCE]):
        return "encrypted PKCS#8"
    is_wrapped = der[_AFTER_VERSION : _AFTER_VERSION + 1] == bytes([_SEQUENCE])
    return "PKCS#8" if is_wrapped else "PKCS#1"


def _find_public_form(der: bytes) -> str:
    if _RSA_OID in der[:_HEAD]:
        return "SubjectPublicKeyInfo"
    is_sequence = der[_FIRST : _FIRST + 1] == bytes([_SEQUENCE])
    return "certificate" if is_sequence else "PKCS#1"
