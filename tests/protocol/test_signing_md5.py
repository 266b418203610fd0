"""The published scheme: compared with OpenSSL, and attacks on it."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable

import pytest

from tests.support.platform import SECRET
from tests.support.vectors import VECTORS, read_signed
from wxpay_async.errors import InvalidRequestError, NotificationError
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier

MESSAGES = ["empty", "ascii", "unicode"]


def test_example_of_the_platform_has_the_published_signature() -> None:
    """The only vector that the platform publishes has the published signature."""
    params = {
        "timestamp": "1490063145767",
        "processNum": "wi123456789",
        "appKey": "gmd930ea5d5a258f4f",
        "nonce": "76e71d31590d44f2aaa55fed6b3e267c",
    }

    signature = Md5Signer(SECRET).sign(canonical_string(params).encode())

    assert signature == "93E1D6AF003B1061DF01CEB93523F142"


@pytest.mark.parametrize("name", MESSAGES)
def test_md5_signature_equals_openssl_s(name: str) -> None:
    """The signature is upper-case hexadecimal over the message followed by the secret."""
    message, expected = read_signed(name, "md5")

    assert Md5Signer(SECRET).sign(message) == expected
    Md5Verifier(SECRET).verify(message, expected)


@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        lambda _: "",
        lambda good: good[:-1],
        lambda good: good + "0",
        lambda good: good + "\n",
        lambda good: " " + good,
        lambda _: "0" * 32,
        lambda good: good[:-1] + "商",
        lambda good: good[:-1] + "\ud800",
        lambda good: good[:-1] + "\0",
    ],
    ids=["lower", "empty", "short", "long", "newline", "blank", "zeros", "chinese", "half", "nul"],
)
def test_md5_refuses_any_other_text(change: Callable[[str], str]) -> None:
    """Another case, length or alphabet is refused, and is no other kind of error."""
    message, good = read_signed("ascii", "md5")

    with pytest.raises(NotificationError, match="MD5 signature does not fit"):
        Md5Verifier(SECRET).verify(message, change(good))


def test_md5_refuses_another_message_and_another_secret() -> None:
    """Both the message and the secret count."""
    message, good = read_signed("ascii", "md5")

    with pytest.raises(NotificationError):
        Md5Verifier(SECRET).verify(message + b"0", good)
    with pytest.raises(NotificationError):
        Md5Verifier(SECRET + "0").verify(message, good)


def test_md5_compares_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hmac.compare_digest` alone decides."""
    monkeypatch.setattr("hmac.compare_digest", lambda *_: True)

    Md5Verifier(SECRET).verify(b"message", "anything")


def _by_equality(self: Md5Verifier, message: bytes, signature: str) -> None:
    if self._signer.sign(message) != signature:
        raise NotificationError("the MD5 signature does not fit")


def _by_its_beginning(self: Md5Verifier, message: bytes, signature: str) -> None:
    if not self._signer.sign(message).startswith(signature):
        raise NotificationError("the MD5 signature does not fit")


def _as_far_as_it_goes(self: Md5Verifier, message: bytes, signature: str) -> None:
    if not all(map(operator.eq, self._signer.sign(message), signature)):
        raise NotificationError("the MD5 signature does not fit")


def test_comparison_in_variable_time_fails_this_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails for `==`, whose time shows how much of a guess is right."""
    monkeypatch.setattr(Md5Verifier, "verify", _by_equality)

    with pytest.raises(NotificationError):
        test_md5_compares_in_constant_time(monkeypatch)


@pytest.mark.parametrize("careless", [_by_its_beginning, _as_far_as_it_goes])
@pytest.mark.parametrize("change", [lambda _: "", lambda good: good[:-1]], ids=["empty", "short"])
def test_comparison_of_prefixes_fails_this_check(
    change: Callable[[str], str],
    careless: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test of the exact text fails if a part of it is enough."""
    monkeypatch.setattr(Md5Verifier, "verify", careless)

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_md5_refuses_any_other_text(change)


@pytest.mark.parametrize("make", [Md5Signer, Md5Verifier])
def test_secret_is_never_shown(make: Callable[[str], object]) -> None:
    """Neither repr nor str nor the attributes show the secret."""
    part = make(SECRET)
    shown = f"{part!r} {part} {vars(part)!r} {[vars(v) for v in vars(part).values()]!r}"

    assert SECRET not in shown
    assert "app_secret='***'" in repr(part)


@pytest.mark.parametrize("secret", ["", " ", "secret\n", " secret", "密码", "half \ud800"])
def test_invalid_secrets_are_refused_and_not_repeated(secret: str) -> None:
    """A line break at the end of a secret's file is found here, not by the platform."""
    with pytest.raises(InvalidRequestError) as caught:
        Md5Signer(secret)

    assert caught.value.field == "appSecret"
    assert "secret\n" not in str(caught.value)
    assert caught.value.__context__ is None


def test_secret_of_bytes_is_refused() -> None:
    """Bytes would be signed as their repr."""
    with pytest.raises(TypeError):
        Md5Signer(b"secret")  # type: ignore[arg-type]


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_md5_verifier_cannot_be_pickled(copied: Callable[[object], object]) -> None:
    """A verifier by MD5 holds the same secret."""
    verifier = Md5Verifier(SECRET)

    with pytest.raises(TypeError, match="holds a secret and cannot be pickled"):
        copied(verifier)


def test_key_derived_from_a_secret_equals_openssl_s() -> None:
    """The secret is the key of an HMAC with SHA-256; MD5 signatures reveal nothing of it."""
    expected = (VECTORS / "signatures" / "derived.md5").read_text("ascii").strip()

    assert Md5Signer(SECRET).derive_key(b"store").hex() == expected
    assert Md5Signer(SECRET).derive_key(b"other").hex() != expected
    assert Md5Signer(SECRET + "0").derive_key(b"store").hex() != expected
