"""RSA keys from files, PEM, DER or bare Base64, with the reason named when one does not load."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import warnings
from pathlib import Path
from typing import Final

from Crypto.PublicKey import RSA

from wxpay_async.errors import InvalidKeyError

MIN_BITS: Final = 2048
MAX_FILE: Final = 64 * 1024
_BARE_BASE64: Final = re.compile(rb"[A-Za-z0-9+/\s]+=*\s*")
_ENCRYPTED: Final = (b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")

KeyData = str | bytes


class InsecureKeyFileWarning(UserWarning):
    """Other users of the machine can read a private key file."""


def read_key_file(path: str | os.PathLike[str], *, private: bool) -> bytes:
    """Read one key file.

    Raises:
        InvalidKeyError: no regular file, over 64 KB, or others can write it.
    """
    path = Path(path)
    try:
        # O_NONBLOCK: a FIFO in the file's place must be refused, not waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise InvalidKeyError(f"{path}: cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_status(path, status, private=private)
        return file.read(MAX_FILE)


def _check_status(path: Path, status: os.stat_result, *, private: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidKeyError(f"{path}: not a regular file")
    if status.st_size > MAX_FILE:
        raise InvalidKeyError(f"{path}: {status.st_size} bytes; a key file has at most {MAX_FILE}")
    if os.name != "posix":
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidKeyError(f"{path}: other users can write it; run chmod 600 on it")
    if private and status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        message = f"{path}: other users can read this private key; run chmod 600 on it"
        warnings.warn(message, InsecureKeyFileWarning, stacklevel=5)


def load_private_key(data: KeyData, passphrase: KeyData | None = None) -> RSA.RsaKey:
    """Load the merchant's private key.

    Args:
        data: PKCS#1 or PKCS#8, as PEM, DER or bare Base64, encrypted or not.
        passphrase: of an encrypted key.

    Raises:
        InvalidKeyError: it is no such key; the text says what it is instead.
    """
    key = _load(data, passphrase)
    if not key.has_private():
        raise InvalidKeyError(
            "this is a public key; signing needs the merchant's own private key "
            "(the platform's public key belongs into RsaVerifier)"
        )
    return key


def load_public_key(data: KeyData) -> RSA.RsaKey:
    """Load a public key: SubjectPublicKeyInfo, PKCS#1 or a certificate; PEM, DER or bare Base64.

    Raises:
        InvalidKeyError: it is no such key; the text says what it is instead.
    """
    key = _load(data, None)
    if key.has_private():
        raise InvalidKeyError(
            "this is a private key; verifying needs the other side's public key, "
            "and a private key must not leave the machine that signs with it"
        )
    return key


def _load(data: KeyData, passphrase: KeyData | None) -> RSA.RsaKey:
    raw = data.encode() if isinstance(data, str) else bytes(data)
    encrypted = any(mark in raw for mark in _ENCRYPTED)
    if encrypted and not passphrase:
        raise InvalidKeyError("the key is encrypted; its passphrase is needed")
    secret = passphrase.decode() if isinstance(passphrase, bytes) else passphrase
    try:
        key = RSA.import_key(_without_base64(raw), passphrase=secret)
    except (ValueError, IndexError, TypeError) as error:
        raise InvalidKeyError(_reason(raw, secret)) from error
    if key.size_in_bits() < MIN_BITS:
        raise InvalidKeyError(f"{key.size_in_bits()} bits; RSA needs at least {MIN_BITS}")
    return key


def _without_base64(raw: bytes) -> bytes:
    """Undo bare Base64, the form in which platforms' consoles hand out keys."""
    if not _BARE_BASE64.fullmatch(raw):
        return raw
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)
    except binascii.Error as error:
        raise InvalidKeyError("the Base64 of the key is cut short or damaged") from error


def _reason(raw: bytes, passphrase: str | None) -> str:
    if not raw.strip():
        return "the key is empty"
    if b"EC PRIVATE KEY" in raw:
        return "this is an elliptic-curve key; the platform's scheme needs RSA"
    if passphrase:
        return "not an RSA key, or the passphrase is wrong"
    return "not an RSA key in PEM, DER or Base64 (or an encrypted one without its passphrase)"
