"""Keys load in every common form, and plain errors describe any other input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerSequence
from hypothesis import HealthCheck, example, given, settings, strategies as st

from tests.support.vectors import KEYS
from wxpay_async.errors import InvalidKeyError
from wxpay_async.protocol.keys import (
    MAX_FILE,
    check_private_key,
    check_public_key,
    load_private_key,
    load_public_key,
)

PASSPHRASE = "test 密码 pässword"
MODULUS = int((KEYS / "modulus.txt").read_text("ascii").removeprefix("Modulus="), 16)

CLEAR = ["pkcs1.pem", "pkcs1.der", "pkcs1.b64", "pkcs8.pem", "pkcs8.der", "pkcs8.b64"]
ENCRYPTED = [
    "encrypted-pbes2.pem",
    "encrypted-pbes2.der",
    "encrypted-pbes2.b64",
    "encrypted-scrypt.pem",
    "encrypted-traditional.pem",
]
PUBLIC = [
    "public.pem",
    "public.der",
    "public.b64",
    "public-pkcs1.pem",
    "certificate.pem",
    "certificate.der",
    "certificate-with-text.pem",
]

DRESSES: dict[str, Callable[[bytes], bytes]] = {
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "blanks": lambda data: b" \n\t" + data + b"\r\n \n",
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "bom and blanks": lambda data: b"\xef\xbb\xbf\n" + data + b"\n\n",
    "literal line breaks": lambda data: data.replace(b"\n", b"\\n"),
    "literal windows line breaks": lambda data: data.replace(b"\n", b"\\r\\n"),
}


def vector(name: str) -> bytes:
    """Return a key that OpenSSL made."""
    return (KEYS / name).read_bytes()


# What loads


@pytest.mark.parametrize("name", CLEAR)
def test_every_private_form_is_the_key_that_openssl_made(name: str) -> None:
    """PKCS#1 and PKCS#8 load as PEM, DER and bare Base64, on one line or wrapped."""
    key = load_private_key(vector(name))

    assert (key.n, key.has_private()) == (MODULUS, True)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_form_is_the_key_that_openssl_made(name: str) -> None:
    """SubjectPublicKeyInfo, PKCS#1 and a certificate load, with or without text around them."""
    key = load_public_key(vector(name))

    assert (key.n, key.has_private()) == (MODULUS, False)


@pytest.mark.parametrize("passphrase", [PASSPHRASE, PASSPHRASE.encode()], ids=["str", "bytes"])
@pytest.mark.parametrize("name", ENCRYPTED)
def test_encrypted_key_opens_with_text_and_with_bytes(name: str, passphrase: str | bytes) -> None:
    """A passphrase beyond Latin-1 stands for its UTF-8 bytes, as in OpenSSL."""
    assert load_private_key(vector(name), passphrase).n == MODULUS


@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES.keys())
@pytest.mark.parametrize("name", ["pkcs1.pem", "pkcs8.b64", "encrypted-traditional.pem"])
def test_additions_of_editors_and_consoles_are_ignored(
    name: str, dress: Callable[[bytes], bytes]
) -> None:
    """Windows line ends, blanks around the key, a byte order mark and escapes do not matter."""
    data = dress(vector(name))

    assert load_private_key(data, PASSPHRASE).n == MODULUS
    assert load_private_key(data.decode(), PASSPHRASE).n == MODULUS


@pytest.mark.parametrize("instead", [b"", b" ", b"\t"])
@pytest.mark.parametrize("name", ["pkcs1.pem", "pkcs8.pem", "pkcs8.b64", "encrypted-pbes2.pem"])
def test_key_without_line_breaks_loads(name: str, instead: bytes) -> None:
    """A field of one line, or a shell, took them away; Base64 does not need them."""
    data = vector(name).replace(b"\n", instead)

    assert load_private_key(data, PASSPHRASE).n == MODULUS


@pytest.mark.parametrize("instead", [b"", b" "])
def test_public_key_without_line_breaks_loads(instead: bytes) -> None:
    """A certificate, too."""
    for name in ("public.pem", "certificate.pem"):
        assert load_public_key(vector(name).replace(b"\n", instead)).n == MODULUS


def test_passphrase_of_a_clear_key_is_ignored() -> None:
    """A setting that is left over from an encrypted key does no harm."""
    assert load_private_key(vector("pkcs8.pem"), "left over").n == MODULUS


def test_other_bytes_like_objects_load() -> None:
    """A bytearray, which a caller can overwrite afterwards, is read like bytes."""
    assert load_private_key(bytearray(vector("pkcs8.der"))).n == MODULUS  # type: ignore[arg-type]


# What is refused, and in which words


@pytest.mark.parametrize("passphrase", [None, "", b""], ids=["none", "empty str", "empty bytes"])
@pytest.mark.parametrize("name", ENCRYPTED)
def test_encrypted_key_without_passphrase_asks_for_one(
    name: str, passphrase: str | bytes | None
) -> None:
    """No passphrase and an empty one give the same error."""
    with pytest.raises(InvalidKeyError, match="encrypted; its passphrase is needed"):
        load_private_key(vector(name), passphrase)


@pytest.mark.parametrize("passphrase", ["tr0ub4dor", b"\xff\xfe", "half \ud800"])
@pytest.mark.parametrize("name", ENCRYPTED)
def test_wrong_passphrase_is_reported_and_not_repeated(name: str, passphrase: str | bytes) -> None:
    """The message says what is wrong; neither it nor its causes hold the passphrase."""
    with pytest.raises(InvalidKeyError, match="passphrase does not open the key") as caught:
        load_private_key(vector(name), passphrase)

    assert not any("tr0ub4dor" in repr(error.args) for error in causes(caught.value))


@pytest.mark.parametrize("name", [*PUBLIC, "rsa3072-public.pem"])
def test_public_key_is_refused_for_signing(name: str) -> None:
    """The error names the mistake, and where the key belongs."""
    with pytest.raises(InvalidKeyError, match="this is a public key; signing needs"):
        load_private_key(vector(name))


@pytest.mark.parametrize("name", CLEAR)
def test_private_key_is_refused_for_verifying(name: str) -> None:
    """The mistake is named before the key is used anywhere else."""
    with pytest.raises(InvalidKeyError, match="this is a private key; verifying needs"):
        load_public_key(vector(name))


@pytest.mark.parametrize("load", [load_private_key, load_public_key])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ec.pem", "elliptic-curve"),
        ("ec-pkcs8.pem", "elliptic-curve"),
        ("ec-pkcs8.der", "elliptic-curve"),
        ("ec-p384.der", "elliptic-curve"),
        ("ed25519.pem", "Ed25519"),
        ("bundle.p12", "PKCS#12"),
    ],
)
def test_other_kinds_of_key_are_named(
    load: Callable[[bytes], RSA.RsaKey], name: str, words: str
) -> None:
    """The error says which kind of key it is."""
    with pytest.raises(InvalidKeyError, match=words):
        load(vector(name))


@pytest.mark.parametrize(
    ("name", "words"),
    [("ec-encrypted.pem", "elliptic-curve"), ("encrypted-outdated.pem", "outdated")],
)
def test_other_kinds_of_encrypted_key_are_named(name: str, words: str) -> None:
    """An encrypted elliptic-curve key and the encryption of PKCS#12 are named too."""
    with pytest.raises(InvalidKeyError, match=words):
        load_private_key(vector(name), PASSPHRASE)


def test_openssh_key_is_named() -> None:
    """The error says how to convert it."""
    body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU="
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"

    with pytest.raises(InvalidKeyError, match="OpenSSH key; convert it"):
        load_private_key(text)


def test_unsupported_forms_are_refused() -> None:
    """The library could read more, but each further form is another way to attack."""
    line = RSA.import_key(vector("public.pem")).export_key("OpenSSH")
    assert line.startswith(b"ssh-rsa ")
    block = vector("encrypted-traditional.pem").replace(b" RSA PRIVATE", b" OPENSSH PRIVATE")

    with pytest.raises(InvalidKeyError, match="not an RSA key in PEM, DER or Base64"):
        load_public_key(line)
    with pytest.raises(InvalidKeyError, match="not an RSA key in PEM, DER or Base64"):
        load_private_key(block)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        ("", "empty"),
        (" \r\n\t", "empty"),
        (b"\xef\xbb\xbf", "empty|not an RSA key"),
        ("merchant.pem", "if it is a path, from_file"),
        ("/etc/keys/merchant", "if it is a path, from_file"),
        (b"./keys/merchant.der", "if it is a path, from_file"),
        (Path("merchant.pem"), "this is a path, not a key; from_file"),
        ("garbage " * 100, "not an RSA key"),
        (bytes(range(256)) * 4, "not an RSA key"),
        (b"\x30\x82\x01\x00" + bytes(256), "not an RSA key"),
        (b"x" * (MAX_FILE + 1), "a key has at most 65536"),
        ("half a pair \ud800" * 30, "not an RSA key"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_input_that_is_no_key_is_described(data: bytes, words: str) -> None:
    """Empty input, a path and random bytes each have their own error."""
    with pytest.raises(InvalidKeyError, match=words):
        load_private_key(data)


def test_number_is_a_type_error() -> None:
    """A number is a programming mistake; it must not become a key of so many zeros."""
    with pytest.raises(TypeError):
        load_private_key(2048)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda pem: pem[:800], "END line is missing"),
        (lambda pem: pem[:800] + pem[805:], "Base64 of the key is cut short or damaged"),
        (lambda pem: pem[:800] + b"!" + pem[801:], "Base64 of the key is cut short or damaged"),
        (lambda pem: b"\n".join([*pem.split(b"\n")[:9], pem.split(b"\n")[-2]]), "is cut short"),
        (lambda pem: pem.decode().encode("utf-16"), "this is UTF-16 text"),
        (lambda pem: pem.decode().encode("utf-16-le"), "this is UTF-16 text"),
        (lambda pem: pem.decode().encode("utf-16-be"), "this is UTF-16 text"),
        (lambda _: vector("pkcs8.b64").decode().encode("utf-16"), "this is UTF-16 text"),
        (
            lambda _: vector("encrypted-traditional.pem").replace(b"\n", b""),
            r"write each as \\n in a setting of one line",
        ),
        (lambda pem: b"".join(pem.split()), "blanks and line breaks of its PEM are gone"),
        (lambda pem: pem + pem, "several PEM blocks"),
        (lambda pem: pem + vector("certificate.pem"), "several PEM blocks"),
    ],
    ids=[
        *("no end", "lost", "stray", "lost lines", "utf-16", "utf-16-le", "utf-16-be"),
        *("base64 in utf-16", "one line", "no blanks", "twice", "with certificate"),
    ],
)
def test_damaged_pem_is_described(damage: Callable[[bytes], bytes], words: str) -> None:
    """Each kind of damage has its own error."""
    with pytest.raises(InvalidKeyError, match=words):
        load_private_key(damage(vector("pkcs8.pem")))


@pytest.mark.parametrize("length", [397, 400])
def test_truncated_base64_is_described(length: int) -> None:
    """The error is the same, whether or not the cut falls between groups of four."""
    with pytest.raises(InvalidKeyError, match="cut short"):
        load_private_key(vector("pkcs1.b64")[:length])


def test_truncated_der_is_described() -> None:
    """DER that lost its end is recognised by the length in its header."""
    with pytest.raises(InvalidKeyError, match="the key is cut short"):
        load_private_key(vector("pkcs8.der")[:-1])


def test_trailing_bytes_are_refused() -> None:
    """DER with further bytes after it is not a key."""
    with pytest.raises(InvalidKeyError, match="damaged"):
        load_private_key(vector("pkcs8.der") + b"\0")


@pytest.mark.parametrize("prime", [0, 1, 3])
def test_numbers_that_do_not_belong_together_are_refused(prime: int) -> None:
    """A wrong prime would make wrong signatures or leak the key; a zero would divide."""
    numbers = list(DerSequence().decode(vector("pkcs1.der")))
    numbers[5] = prime

    with pytest.raises(InvalidKeyError, match="damaged"):
        load_private_key(DerSequence(numbers).encode())


@pytest.mark.parametrize("load", [load_private_key, load_public_key])
def test_short_keys_are_refused(load: Callable[[bytes], RSA.RsaKey]) -> None:
    """1024 bits are refused, and the message says how many are needed."""
    name = "rsa1024.pem" if load is load_private_key else "rsa1024-public.pem"

    with pytest.raises(InvalidKeyError, match="1024 bits; RSA needs at least 2048"):
        load(vector(name))


def public_der(modulus: int, exponent: int) -> bytes:
    """Return a public key of any numbers, valid or not."""
    key = RSA.construct((modulus, exponent), consistency_check=False)
    return bytes(key.export_key("DER"))


@pytest.mark.parametrize("exponent", [2, 4, 65536, (1 << 64) + 1, (1 << 1024) + 1])
def test_invalid_exponents_are_refused(exponent: int) -> None:
    """An even exponent has no private key, and a very long one makes verifying slow."""
    with pytest.raises(InvalidKeyError, match="the public exponent is even, below 3 or above"):
        load_public_key(public_der(MODULUS, exponent))


def test_exponent_one_is_refused() -> None:
    """With an exponent of 1 anyone could forge."""
    key = RSA.construct((MODULUS, 1), consistency_check=False)

    with pytest.raises(InvalidKeyError):
        load_public_key(public_der(MODULUS, 1))
    with pytest.raises(InvalidKeyError, match="public exponent"):
        check_public_key(key)


@pytest.mark.parametrize("exponent", [3, 17, 65537, (1 << 64) - 1])
def test_valid_exponents_are_accepted(exponent: int) -> None:
    """3 is unusual but secure with this padding; the limit is 64 bits."""
    assert load_public_key(public_der(MODULUS, exponent)).e == exponent


def test_huge_keys_are_refused() -> None:
    """A key of 8200 bits would only hold the event loop."""
    with pytest.raises(InvalidKeyError, match="8200 bits; RSA needs at least 2048, at most 8192"):
        load_public_key(public_der((1 << 8199) + 1, 65537))


def test_key_objects_are_checked_too() -> None:
    """The checks are separate from loading, for key objects of the caller."""
    private, public = load_private_key(vector("pkcs8.pem")), load_public_key(vector("public.pem"))

    assert check_private_key(private) is private
    assert check_public_key(public) is public
    with pytest.raises(InvalidKeyError, match="this is a public key"):
        check_private_key(public)
    with pytest.raises(InvalidKeyError, match="this is a private key"):
        check_public_key(private)


def test_absurd_work_of_decryption_is_refused() -> None:
    """8,388,607 rounds are refused, although the passphrase is right."""
    rounds, absurd = bytes.fromhex("0203 0186a0"), bytes.fromhex("0203 7fffff")
    data = vector("encrypted-pbes2.der")
    assert data.count(rounds) == 1

    with pytest.raises(InvalidKeyError, match="absurd amount of work"):
        load_private_key(data.replace(rounds, absurd), PASSPHRASE)


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes."""
    behind = error.__cause__ or error.__context__
    return [error, *(causes(behind) if behind else [])]


@pytest.mark.parametrize("damage", ["\ud800", "!", "M"])
def test_errors_never_hold_the_key(damage: str) -> None:
    """Neither the message nor an argument of any error in the chain repeats the key."""
    text = vector("pkcs8.pem").decode()
    secret = text.splitlines()[5]

    with pytest.raises(InvalidKeyError) as caught:
        load_private_key(text.replace(secret, secret + damage))

    for error in causes(caught.value):
        assert secret not in repr(error.args)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(st.sampled_from(["pkcs1.der", "pkcs8.der", "public.der", "certificate.der"]), st.data())
def test_damaged_der_raises_only_invalid_key_errors(name: str, data: st.DataObject) -> None:
    """DER with any bytes overwritten either loads or is an InvalidKeyError."""
    raw = bytearray(vector(name))
    start = data.draw(st.integers(0, len(raw) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=8))
    raw[start : start + len(patch)] = patch

    for load in (load_private_key, load_public_key):
        try:
            load(bytes(raw))
        except InvalidKeyError as error:
            assert str(error)  # noqa: PT017 - either end is right


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(), st.text(), st.binary().map(lambda tail: b"\x30\x82" + tail)))
@example("-----BEGIN ")
@example("-----BEGIN A-----\n-----END A-----")
@example("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: X\nMAAA\n-----END A-----")
@example("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\nAA\n-----END A-----")
@example("M")
@example("MAAA")
def test_random_input_raises_only_invalid_key_errors(data: bytes | str) -> None:
    """No random input loads, or raises another kind of error."""
    with pytest.raises(InvalidKeyError):
        load_private_key(data, "passphrase")


def test_long_blanks_are_read_in_linear_time() -> None:
    """64 KB of blanks and a stray character take no time; a careless pattern takes minutes."""
    begin = b"-----BEGIN A-----"
    for blank in (b" ", b"\n", b"-", b"\\", b"\\n"):
        for start in (b"M", begin, begin + b"Proc-Type:"):
            blanks = blank * ((MAX_FILE - len(start) - 1) // len(blank))
            with pytest.raises(InvalidKeyError):
                load_private_key(start + blanks + b"!")
