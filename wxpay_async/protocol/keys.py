"""Load RSA keys from files, PEM, DER or bare Base64, and say why a key does not load.

A key may come from an untrusted source: its size, its exponent and the work of its decryption are
bounded. No message repeats the input, since that may be a secret, and no frame of a traceback holds
it: some loggers record the local variables of each frame.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from Crypto import IncorrectPassphraseError, KdfLimitError, PassphraseRequiredError

from wxpay_async.errors import InvalidKeyError

if TYPE_CHECKING:
    from Crypto.PublicKey import RSA

MIN_BITS: Final = 2048
MAX_BITS: Final = 8192  # a signature of this size holds the event loop for 36 ms
MAX_EXPONENT: Final = 1 << 64  # as in OpenSSL; a longer one only makes verifying slow
MAX_FILE: Final = 64 * 1024
MAX_KDF_ROUNDS: Final = 5_000_000  # about a second; tools write 2,048 to 1,400,000
_LONGEST_PATH: Final = 1024
_SHORTEST_KEY: Final = 256

_BOM: Final = b"\xef\xbb\xbf"
_DER: Final = b"\x30"  # a SEQUENCE; its Base64 begins with M
_BASE64: Final = re.compile(rb"M[A-Za-z0-9+/\s]*=*")
_BEGIN: Final = b"-----BEGIN "
_ENCRYPTED_PEM: Final = b"-----BEGIN RSA PRIVATE KEY-----"
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)

_PUBLIC: Final = (
    "this is a public key; signing needs the merchant's own private key "
    "(the platform's public key belongs into RsaVerifier)"
)
_PRIVATE: Final = (
    "this is a private key; verifying needs the other side's public key, "
    "and a private key must not leave the machine that signs with it"
)
_ELLIPTIC: Final = "this is an elliptic-curve key; the platform's scheme needs RSA"
_UTF_16: Final = "this is UTF-16 text, as PowerShell's > writes it; save it as UTF-8"
_MARKS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"-\0-\0-", _UTF_16),
    (b"M\0I\0I", _UTF_16),
    (b"-----BEGIN EC ", _ELLIPTIC),
    (bytes.fromhex("2a8648ce3d"), _ELLIPTIC),  # keys and curves of ANSI X9.62
    (bytes.fromhex("2b810400"), _ELLIPTIC),  # curves of SECG
    (bytes.fromhex("06032b6570"), "this is an Ed25519 key; the platform's scheme needs RSA"),
    (b"openssh-key-v1\0", "this is an OpenSSH key; convert it with `ssh-keygen -p -m PEM`"),
    (
        bytes.fromhex("2a864886f70d010701"),
        "this is a PKCS#12 file; take the key out with `openssl pkcs12 -nocerts -noenc`",
    ),
    (
        bytes.fromhex("2a864886f70d010c01"),
        "the key's encryption is outdated; renew it with `openssl pkcs8 -topk8 -v2 aes256`",
    ),
)
"""Marks of the usual mistakes (words of PEM, object identifiers of DER), and the explanations."""

_MEND_MODE: Final = (
    "run chmod 600 on it; or, where a secret manager or a mount decides about its mode, allow any "
    "(any_mode=True, WXPAY_KEY_FILE_MODE=any), or give the key itself to from_pem()"
)
_NO_PATH: Final = "; if it is a path, from_file() takes paths"

KeyData = str | bytes
KeyFile = str | os.PathLike[str]


class InsecureKeyFileWarning(UserWarning):
    """Warns that other users of the machine can read a file with a private key or a secret."""


def read_key_file(
    path: KeyFile, *, private: bool, any_mode: bool = False, stacklevel: int = 2
) -> bytes:
    """Read one key file.

    Args:
        path: of a regular file, or of a link to one, whose own mode counts then.
        private: warn if other users can read it.
        any_mode: leave to a secret manager or a mount who can read and write it. A file system
            without modes says 0777 of every file, and chmod changes nothing there.
        stacklevel: the frame that the warning names; 2 is the caller.

    Raises:
        InvalidKeyError: it is no regular file, is over 64 KB, or other users can write it.
    """
    name = os.fsdecode(path)
    if "-----BEGIN" in name or "\0" in name or len(name) > _LONGEST_PATH:
        del path, name
        raise InvalidKeyError("this is a key, not the path of one; from_pem() takes keys")
    try:
        with open(name, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_status(name, status)
            # Elsewhere every file looks open to all.
            if os.name == "posix" and not any_mode:
                _check_mode(name, status.st_mode, private=private, stacklevel=stacklevel + 1)
            return file.read(MAX_FILE)
    except UnicodeEncodeError:
        raise InvalidKeyError("this is not the path of a file") from None
    except OSError as error:
        raise InvalidKeyError(f"{name}: cannot be read ({error.strerror})") from error


def _open_without_waiting(path: str, flags: int) -> int:
    # A FIFO instead of a file must be refused, not waited for.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_status(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidKeyError(f"{name}: not a regular file")
    if status.st_size > MAX_FILE:
        raise InvalidKeyError(f"{name}: {status.st_size} bytes; a key file has at most {MAX_FILE}")


def _check_mode(name: str, mode: int, *, private: bool, stacklevel: int) -> None:
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidKeyError(f"{name}: other users can write it; {_MEND_MODE}")
    if private and mode & (stat.S_IRGRP | stat.S_IROTH):
        message = f"{name}: other users can read this secret; {_MEND_MODE}"
        warnings.warn(message, InsecureKeyFileWarning, stacklevel=stacklevel)


def load_private_key(
    data: KeyData, passphrase: KeyData | None = None, *, file: KeyFile | None = None
) -> RSA.RsaKey:
    """Load the merchant's private key.

    Args:
        data: PKCS#1 or PKCS#8, as PEM, DER or bare Base64, encrypted or not.
        passphrase: of an encrypted key, text as UTF-8; ignored for a key that is not encrypted.
        file: where it was read from; an error then names it.

    Raises:
        InvalidKeyError: it is no such key; the text says what it is instead.
    """
    try:
        return _load_checked(data, passphrase, check=check_private_key, file=file)
    finally:
        del data, passphrase


def load_public_key(data: KeyData, *, file: KeyFile | None = None) -> RSA.RsaKey:
    """Load a public key: SubjectPublicKeyInfo, PKCS#1 or a certificate; PEM, DER or bare Base64.

    Of a certificate only the key is used: dates, issuer and signature are not checked.

    Args:
        data: the key.
        file: where it was read from; an error then names it.

    Raises:
        InvalidKeyError: it is no such key; the text says what it is instead.
    """
    try:
        return _load_checked(data, None, check=check_public_key, file=file)
    finally:
        del data


def check_private_key(key: RSA.RsaKey) -> RSA.RsaKey:
    """Return the key if it may sign.

    Raises:
        InvalidKeyError: a public key, or one with unfit numbers.
    """
    problem = _find_flaw(key) if key.has_private() else _PUBLIC
    if problem:
        del key
        raise InvalidKeyError(problem)
    return key


def check_public_key(key: RSA.RsaKey) -> RSA.RsaKey:
    """Return the key if it may verify.

    Raises:
        InvalidKeyError: a private key, or one with unfit numbers.
    """
    problem = _PRIVATE if key.has_private() else _find_flaw(key)
    if problem:
        del key
        raise InvalidKeyError(problem)
    return key


def _find_flaw(key: RSA.RsaKey) -> str | None:
    bits = key.size_in_bits()
    if not MIN_BITS <= bits <= MAX_BITS:
        return f"{bits} bits; RSA needs at least {MIN_BITS}, at most {MAX_BITS}"
    # pycryptodome accepts an even public exponent, to which no private key can belong.
    if key.e % 2 == 0 or not 1 < key.e < MAX_EXPONENT:
        return "the public exponent is even, below 3 or above 64 bits"
    return None


def _load_checked(
    data: KeyData,
    passphrase: KeyData | None,
    *,
    check: Callable[[RSA.RsaKey], RSA.RsaKey],
    file: KeyFile | None,
) -> RSA.RsaKey:
    try:
        return check(_load(data, passphrase))
    except (InvalidKeyError, TypeError) as error:
        failure = type(error)(*error.args)
        if isinstance(failure, InvalidKeyError) and file is not None:
            reason = failure.reason.removesuffix(_NO_PATH)
            failure = InvalidKeyError(f"{os.fsdecode(file)}: {reason}")
    finally:
        del data, passphrase
    # A new error: the frames below hold the key, and so do those of the library's error.
    raise failure


def _load(data: KeyData, passphrase: KeyData | None) -> RSA.RsaKey:
    raw = _to_bytes(data)
    if len(raw) > MAX_FILE:
        raise InvalidKeyError(f"{len(raw)} bytes; a key has at most {MAX_FILE}")
    raw = _unwrap(raw)
    # An empty environment variable means that there is no passphrase.
    secret = _to_bytes(passphrase) if passphrase else None
    if not raw.startswith((_DER, _ENCRYPTED_PEM)):  # expose no other parser to the input
        raise InvalidKeyError(_explain(raw))
    from Crypto.PublicKey import RSA  # noqa: PLC0415 - not needed by the MD5 scheme

    try:
        return RSA.import_key(raw, secret, max_iteration_count=MAX_KDF_ROUNDS)
    except PassphraseRequiredError:
        raise InvalidKeyError("the key is encrypted; its passphrase is needed") from None
    except IncorrectPassphraseError:
        raise InvalidKeyError("the passphrase does not open the key") from None
    except KdfLimitError:
        raise InvalidKeyError("the key's encryption asks for an absurd amount of work") from None
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        # The first three are documented; a prime of 0 causes the last one.
        raise InvalidKeyError(_explain(raw)) from None


def _to_bytes(data: KeyData) -> bytes:
    if isinstance(data, os.PathLike):
        raise InvalidKeyError("this is a path, not a key; from_file() takes paths")
    if isinstance(data, str):
        # An encoding error would carry the key into a log, and a damaged key is refused anyway.
        return data.encode("utf-8", "surrogatepass")
    return bytes(memoryview(data))  # bytes(5) alone would be five zeros


def _unwrap(raw: bytes) -> bytes:
    """Decode PEM, and bare Base64, which is what the platform's console gives out."""
    # A backslash and an n, in settings of one line, can only stand for a line break.
    text = raw.removeprefix(_BOM).replace(b"\\r", b"").replace(b"\\n", b"\n").strip()
    if _BEGIN in text:
        return _read_block(text)
    return _decode_base64(text) if _BASE64.fullmatch(text) else raw


def _read_block(text: bytes) -> bytes:
    if text.count(_BEGIN) > 1:
        raise InvalidKeyError(_find_hint(text) or "several PEM blocks; keep the one with the key")
    block = _PEM.search(text)
    if block is None:
        raise InvalidKeyError(
            _find_hint(text) or "the PEM block is cut short: its END line is missing"
        )
    if b"Proc-Type:" not in block[2]:
        return _decode_base64(block[2])
    # The old encryption is part of PEM itself; pycryptodome decodes both at once.
    if b"\n" not in block[2]:
        raise InvalidKeyError(
            "its line breaks are missing, and this kind of PEM needs them: write each as \\n in a "
            "setting of one line, or name the key's file"
        )
    return block[0]


def _decode_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise InvalidKeyError("the Base64 of the key is cut short or damaged") from None


def _find_hint(raw: bytes) -> str | None:
    return next((text for mark, text in _MARKS if mark in raw), None)


def _explain(raw: bytes) -> str:
    if not raw.strip():
        return "the key is empty"
    hint = _find_hint(raw)
    if hint:
        return hint
    if b"-----BEGIN" in raw and _BEGIN not in raw:
        return "the blanks and line breaks of its PEM are gone: copy the key's text as it is"
    if len(raw) < _SHORTEST_KEY and raw.isascii():
        return f"this is too short for a key{_NO_PATH}"
    if raw.startswith(b"\x30\x82") and int.from_bytes(raw[2:4]) > len(raw) - 4:
        return "the key is cut short"
    return "not an RSA key in PEM, DER or Base64, or a damaged one"
