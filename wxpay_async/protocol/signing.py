"""Sign and verify by the platform's two schemes.

Both sign the canonical string (`canonical.py`).

- MD5 (published): append `&appSecret=<secret>`, MD5 over the UTF-8 bytes, hexadecimal, upper case.
- RSA: the canonical string includes `signType=RSA`; RSASSA-PKCS1-v1_5 with SHA-256, Base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Protocol, Self, runtime_checkable

from wxpay_async.errors import InvalidRequestError, NotificationError
from wxpay_async.protocol import secrets
from wxpay_async.protocol.keys import (
    KeyData,
    check_private_key,
    check_public_key,
    load_private_key,
    load_public_key,
    read_key_file,
)

if TYPE_CHECKING:
    from Crypto.PublicKey import RSA

Backend = Literal["openssl", "pycryptodome"]

# The DigestInfo of SHA-256 up to the digest (RFC 8017, section 9.2, note 1).
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")


class Signer(Protocol):
    """Signs canonical strings.

    The `sign_type` is sent as the parameter `signType`, which is itself signed.
    """

    @property
    def sign_type(self) -> str | None:
        """`RSA`, or None for the published MD5 scheme, which has no such parameter."""
        ...

    def sign(self, message: bytes) -> str | Awaitable[str]:
        """Sign. It may be a coroutine, since a key-management service needs I/O."""
        ...


@runtime_checkable
class KeySource(Protocol):
    """A signer that holds its secret, so that other keys can be derived from it."""

    def derive_key(self, context: bytes, /) -> bytes:
        """Return 32 bytes that only the holder of the secret knows, always the same ones.

        Args:
            context: the purpose of the key; another context gives an unrelated key.
        """
        ...


class Verifier(Protocol):
    """Verifies the other side's signatures."""

    def verify(self, message: bytes, signature: str) -> None:
        """Return if the signature is valid.

        Raises:
            NotificationError: it is not.
        """
        ...


class Md5Signer:
    """Signs by the platform's published MD5 scheme.

    Anyone who learns the secret can sign, and the scheme cannot tell `a=1&b=2` in one value from
    two parameters: prefer RSA if your contract allows it.

    Args:
        app_secret: the secret of the appKey. It is never shown by `repr`.

    Raises:
        InvalidRequestError: empty, blanks around it, or characters beyond ASCII.
    """

    sign_type = None

    def __init__(self, app_secret: str) -> None:
        try:
            # A line break at the end of a secret's file would make every signature wrong.
            if not app_secret or app_secret != app_secret.strip() or not app_secret.isascii():
                raise InvalidRequestError(
                    "empty, or with characters that no secret has",
                    field="appSecret",
                    allowed="ASCII text without blanks around it",
                )
            suffix = secrets.SecretBytes("&appSecret=" + app_secret, "ascii")
        finally:
            del app_secret  # a traceback with locals must not show it
        # The secret is in a closure: vars(), repr() and debuggers' dumps do not show it.
        self._digest: Callable[[bytes], str] = lambda message: (
            hashlib.md5(message + suffix, usedforsecurity=False).hexdigest().upper()
        )
        self.derive_key: Callable[[bytes], bytes] = lambda context: hmac.digest(
            suffix, context, "sha256"
        )
        # `explain` tries how other code may have used it.
        self.private_suffix: Callable[[], bytes] = lambda: suffix

    def sign(self, message: bytes) -> str:
        """Return 32 upper-case hexadecimal digits."""
        return self._digest(message)

    def __repr__(self) -> str:
        return "Md5Signer(app_secret='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer holds a secret and cannot be pickled")


class Md5Verifier:
    """Verifies by the MD5 scheme. A verifier can also forge, since both sides share the secret."""

    def __init__(self, app_secret: str) -> None:
        try:
            self._signer = Md5Signer(app_secret)
        finally:
            del app_secret  # a traceback with locals must not show it

    def verify(self, message: bytes, signature: str) -> None:
        """Return if the signature is valid, in constant time; else raise `NotificationError`."""
        given = signature.encode("utf-8", "surrogatepass")
        # The valid signature has no name here: a traceback with locals must not show it.
        if not hmac.compare_digest(self._signer.sign(message).encode(), given):
            raise NotificationError("the MD5 signature does not fit")

    def __repr__(self) -> str:
        return "Md5Verifier(app_secret='***')"


class RsaSigner:
    """Signs with RSASSA-PKCS1-v1_5 and SHA-256.

    pycryptodome is always installed. OpenSSL (extra `speedups`) makes the same bytes in less time,
    and is used if it is installed. The choice is made once; the `repr` shows it.

    Args:
        key: the merchant's private key.
        backend: use this one.

    Raises:
        InvalidKeyError: a public key, or one with unfit numbers.
        ImportError: `backend` is OpenSSL, and the extra is not installed.
    """

    sign_type = "RSA"

    def __init__(self, key: RSA.RsaKey, *, backend: Backend | None = None) -> None:
        try:
            self.bits = check_private_key(key).size_in_bits()
            self.backend: Backend = _choose(backend)
            make = _openssl_signer if self.backend == "openssl" else _pycryptodome_signer
            self._sign = make(key)
            # In a closure, as in `Md5Signer`; a `ProcessSigner` needs the key.
            der = secrets.SecretBytes(key.export_key("DER"))
            self.private_der: Callable[[], bytes] = lambda: der
        finally:
            del key  # its repr holds its numbers, and a traceback with locals shows it

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        passphrase: KeyData | None = None,
        *,
        any_mode: bool = False,
        backend: Backend | None = None,
    ) -> Self:
        """Load the key from a file: at most 64 KB, not writable by others.

        Args:
            path: the file, or a link to it.
            passphrase: of an encrypted key.
            any_mode: others may write and read it: a secret manager or a mount decides about that.
            backend: use this one.

        Raises:
            InvalidKeyError: the file or the key cannot be used, and why.

        Warns:
            InsecureKeyFileWarning: other users can read the file.
        """
        try:
            data = secrets.SecretBytes(
                read_key_file(path, private=True, any_mode=any_mode, stacklevel=3)
            )
            return cls(load_private_key(data, passphrase, file=path), backend=backend)
        finally:
            del path, passphrase  # a caller may pass the key itself as the path

    @classmethod
    def from_pem(
        cls, data: KeyData, passphrase: KeyData | None = None, *, backend: Backend | None = None
    ) -> Self:
        """Load the key from PKCS#1 or PKCS#8, as PEM, DER or bare Base64, encrypted or not.

        Raises:
            InvalidKeyError: the key cannot be used, and why.
        """
        try:
            return cls(load_private_key(data, passphrase), backend=backend)
        finally:
            del data, passphrase

    def sign(self, message: bytes) -> str:
        """Return the signature in Base64."""
        return base64.b64encode(self._sign(message)).decode("ascii")

    def derive_key(self, context: bytes) -> bytes:
        """Return 32 bytes that only the holder of the private key knows, always the same ones."""
        # The scheme is deterministic. No canonical string begins with a zero byte, so this
        # signature is never sent.
        return hashlib.sha256(self._sign(b"\x00" + context)).digest()

    def __repr__(self) -> str:
        return f"RsaSigner(bits={self.bits}, backend={self.backend!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer holds a secret and cannot be pickled")


class RsaVerifier:
    """Verifies RSASSA-PKCS1-v1_5 with SHA-256 by the other side's public key.

    Args:
        key: the other side's public key.
        backend: use this one.

    Raises:
        InvalidKeyError: a private key, or one with unfit numbers.
        ImportError: `backend` is OpenSSL, and the extra is not installed.
    """

    def __init__(self, key: RSA.RsaKey, *, backend: Backend | None = None) -> None:
        try:
            self.bits = check_public_key(key).size_in_bits()
            self.backend: Backend = _choose(backend)
            make = _openssl_verifier if self.backend == "openssl" else _pycryptodome_verifier
            self._fits = make(key)
            der = key.export_key("DER")
            self.public_der: Callable[[], bytes] = lambda: der
        finally:
            del key  # a caller may pass a private one

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        any_mode: bool = False,
        backend: Backend | None = None,
    ) -> Self:
        """Load the public key from a file: at most 64 KB, not writable by others.

        Args:
            path: the file, or a link to it.
            any_mode: others may write it: a secret manager or a mount decides about that.
            backend: use this one.

        Raises:
            InvalidKeyError: the file or the key cannot be used, and why.
        """
        try:
            data = secrets.SecretBytes(read_key_file(path, private=False, any_mode=any_mode))
            return cls(load_public_key(data, file=path), backend=backend)
        finally:
            del path

    @classmethod
    def from_pem(cls, data: KeyData, *, backend: Backend | None = None) -> Self:
        """Load a public key or a certificate, as PEM, DER or bare Base64.

        Raises:
            InvalidKeyError: the key cannot be used, and why.
        """
        try:
            return cls(load_public_key(data), backend=backend)
        finally:
            del data

    def verify(self, message: bytes, signature: str) -> None:
        """Return if the signature is valid; else raise `NotificationError`."""
        raw = _decode_base64(signature)
        if not self._fits(message, raw):
            raise NotificationError("the RSA signature does not fit")

    def __repr__(self) -> str:
        return f"RsaVerifier(bits={self.bits}, backend={self.backend!r})"


def _decode_base64(signature: str) -> bytes:
    try:
        raw = base64.b64decode(signature)
    except ValueError as error:
        raise NotificationError("the RSA signature is not Base64") from error
    # Accept one spelling only: no line breaks, no other alphabet, and no bits beyond the last byte,
    # which would give every signature sixteen spellings.
    if base64.b64encode(raw).decode("ascii") != signature:
        raise NotificationError("the RSA signature is not canonical Base64")
    return raw


def _choose(backend: Backend | None) -> Backend:
    if backend not in (None, "openssl", "pycryptodome"):
        raise ValueError(f"no backend {backend!r}; there are openssl and pycryptodome")
    if backend == "pycryptodome":
        return backend
    if _has_openssl():
        return "openssl"
    if backend == "openssl":
        raise ImportError("signing with OpenSSL needs the extra: wxpay-async[speedups]")
    return "pycryptodome"


def _has_openssl() -> bool:
    try:
        # Import the module that is needed: a broken installation has the package, but not this.
        importlib.import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    except ImportError:
        return False
    return True


def _pycryptodome_signer(key: RSA.RsaKey) -> Callable[[bytes], bytes]:
    from Crypto.Hash import SHA256  # noqa: PLC0415 - not needed by the MD5 scheme
    from Crypto.Signature import pkcs1_15  # noqa: PLC0415

    scheme = pkcs1_15.new(key)
    return lambda message: scheme.sign(SHA256.new(message))


def _pycryptodome_verifier(key: RSA.RsaKey) -> Callable[[bytes, bytes], bool]:
    from Crypto.Hash import SHA256  # noqa: PLC0415 - not needed by the MD5 scheme
    from Crypto.Signature import pkcs1_15  # noqa: PLC0415

    scheme, size = pkcs1_15.new(key), key.size_in_bytes()

    def fits(message: bytes, signature: bytes) -> bool:
        digest = SHA256.new(message)
        try:
            scheme.verify(digest, signature)
        except ValueError:
            return False
        # pycryptodome also accepts a DigestInfo without its NULL, which RFC 8017 forbids to write
        # and OpenSSL refuses. The verdict must not depend on the backend.
        opened = pow(int.from_bytes(signature), key.e, key.n).to_bytes(size)
        return opened.endswith(_SHA256_INFO + digest.digest())

    return fits


def _openssl_signer(key: RSA.RsaKey) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

    der = secrets.SecretBytes(key.export_key("DER"))
    del key  # it may have numbers that OpenSSL refuses
    loaded = serialization.load_der_private_key(der, password=None)
    if not isinstance(loaded, rsa.RSAPrivateKey):  # pragma: no cover - pycryptodome made it
        raise TypeError("not an RSA key")
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()
    return lambda message: loaded.sign(message, scheme, digest)


def _openssl_verifier(key: RSA.RsaKey) -> Callable[[bytes, bytes], bool]:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

    loaded = serialization.load_der_public_key(key.export_key("DER"))
    if not isinstance(loaded, rsa.RSAPublicKey):  # pragma: no cover - pycryptodome made it
        raise TypeError("not an RSA key")
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()

    def fits(message: bytes, signature: bytes) -> bool:
        try:
            loaded.verify(signature, message, scheme, digest)
        except InvalidSignature:
            return False
        return True

    return fits
