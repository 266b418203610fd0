"""What is told of a key: its form, its size, and its public half."""

from __future__ import annotations

import hashlib
import subprocess
import warnings
from pathlib import Path

import pytest

from tests.support.vectors import KEYS, PRIVATE_KEY, PUBLIC_KEY
from wxpay_async import InvalidKeyError
from wxpay_async.cli.key_facts import describe_key, read_key_facts
from wxpay_async.protocol.keys import InsecureKeyFileWarning

PRIVATE_FORMS = {
    "pkcs8.pem": "PKCS#8, PEM",
    "pkcs8.der": "PKCS#8, DER",
    "pkcs8.b64": "PKCS#8, Base64",
    "pkcs1.pem": "PKCS#1, PEM",
    "pkcs1.der": "PKCS#1, DER",
    "pkcs1.b64": "PKCS#1, Base64",
    "encrypted-pbes2.pem": "encrypted PKCS#8, PEM",
    "encrypted-pbes2.der": "encrypted PKCS#8, DER",
    "encrypted-pbes2.b64": "encrypted PKCS#8, Base64",
    "encrypted-traditional.pem": "encrypted PKCS#1, PEM",
}
PUBLIC_FORMS = {
    "public.pem": "SubjectPublicKeyInfo, PEM",
    "public.der": "SubjectPublicKeyInfo, DER",
    "public.b64": "SubjectPublicKeyInfo, Base64",
    "public-pkcs1.pem": "PKCS#1, PEM",
    "certificate.pem": "certificate, PEM",
    "certificate.der": "certificate, DER",
}
PASSPHRASE = "test 密码 pässword"
"""Of the encrypted vectors."""


def run_openssl(*words: str) -> bytes:
    """Return what the openssl program prints."""
    return subprocess.run(["openssl", *words], capture_output=True, check=True).stdout


@pytest.mark.parametrize(("name", "form"), PRIVATE_FORMS.items())
def test_private_key_of_every_form_is_told_by_it(name: str, form: str) -> None:
    """All of these files hold the same key, so all fingerprints are the same."""
    facts = describe_key((KEYS / name).read_bytes(), PASSPHRASE)
    assert (form, 2048, "private") == (facts.form, facts.bits, facts.kind)
    assert describe_key(PUBLIC_KEY.read_bytes()).fingerprint == facts.fingerprint


@pytest.mark.parametrize(("name", "form"), PUBLIC_FORMS.items())
def test_public_key_of_every_form_is_told_by_it(name: str, form: str) -> None:
    """A certificate counts as its key."""
    facts = describe_key((KEYS / name).read_bytes())
    assert (form, 2048, "public") == (facts.form, facts.bits, facts.kind)


def test_public_half_and_fingerprint_equal_openssl_s() -> None:
    """What is uploaded and compared is what every other tool makes of the key."""
    facts = describe_key(PRIVATE_KEY.read_bytes())
    der = run_openssl("pkey", "-in", str(PRIVATE_KEY), "-pubout", "-outform", "DER")
    pem = run_openssl("pkey", "-in", str(PRIVATE_KEY), "-pubout").decode().strip()
    assert (pem, hashlib.sha256(der).hexdigest()) == (facts.public_pem, facts.fingerprint)
    assert "".join(pem.splitlines()[1:-1]) == facts.public_base64


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ec.pem", "elliptic-curve"),
        ("encrypted-pbes2.pem", "its passphrase is needed"),
        ("rsa1024.pem", "1024 bits"),
    ],
)
def test_key_that_cannot_be_used_is_refused_by_its_reason(name: str, words: str) -> None:
    """The reason is that of a private key, which says more than that of a public one."""
    with pytest.raises(InvalidKeyError, match=words):
        describe_key((KEYS / name).read_bytes())


@pytest.mark.parametrize(("source", "warns"), [(PRIVATE_KEY, 1), (PUBLIC_KEY, 0)])
def test_file_that_others_can_read_warns_of_a_private_key_only(
    tmp_path: Path, source: Path, warns: int
) -> None:
    """A public key is for others."""
    path = tmp_path / "key.pem"
    path.write_bytes(source.read_bytes())
    path.chmod(0o644)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_key_facts(path)
    assert [InsecureKeyFileWarning] * warns == [each.category for each in caught]


def test_repr_shows_no_key() -> None:
    """Nor does it show the public half, which is long."""
    assert "public_der" not in repr(describe_key(PRIVATE_KEY.read_bytes()))
