"""What signs: its file, its kind, and the public key to upload."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.canaries import find_leaks, list_key_secrets
from tests.support.vectors import KEYS, PRIVATE_KEY, PUBLIC_KEY
from wxpay_async.cli.doctor.findings import CONFIGURATION, Finding, Status
from wxpay_async.cli.doctor.key_files import check_key_files
from wxpay_async.cli.doctor.settings import read_setup
from wxpay_async.cli.key_facts import describe_key

SECRET = "canary-secret-0123456789"
CANARIES = {"the secret": SECRET, **list_key_secrets("key", PRIVATE_KEY.read_bytes())}


def check(**variables: str) -> Finding:
    """Return the only line."""
    environ = {"WXPAY_APP_KEY": "k", "WXPAY_BASE_URL": "http://127.0.0.1:9", **variables}
    [line] = check_key_files(read_setup(environ, environ), environ)
    assert [] == find_leaks({"line": str(line.to_json())}, CANARIES)
    return line


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """Return a file with the secret that only its owner can read."""
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def test_private_key_is_described_with_what_to_upload(key_file: Path) -> None:
    """Format, size, permissions, fingerprint."""
    line = check(WXPAY_PRIVATE_KEY_FILE=str(key_file))
    facts = describe_key(PUBLIC_KEY.read_bytes())
    assert (Status.OK, "private key, RSA 2048 bits, PKCS#8, PEM; mode 0600") == (
        line.status,
        line.text,
    )
    assert {
        "kind": "private",
        "format": "PKCS#8, PEM",
        "bits": 2048,
        "mode": "0600",
        "fingerprint": facts.fingerprint,
        "publicKey": facts.public_base64,
    } == line.facts


def test_private_key_in_a_variable_is_described_alike() -> None:
    """It has no permissions."""
    line = check(WXPAY_PRIVATE_KEY=PRIVATE_KEY.read_text())
    assert (Status.OK, "private key, RSA 2048 bits, PKCS#8, PEM") == (line.status, line.text)
    assert "mode" not in line.facts


@pytest.mark.parametrize("name", ["WXPAY_APP_SECRET", "WXPAY_APP_SECRET_FILE"])
def test_secret_is_told_as_there(name: str, secret_file: Path) -> None:
    """From a file or a variable."""
    line = check(**{name: SECRET if name == "WXPAY_APP_SECRET" else str(secret_file)})
    assert Status.OK is line.status
    assert line.text.startswith("signs by MD5; the secret is not shown")


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_file_that_others_can_read_is_a_warning(
    key_file: Path, secret_file: Path, mode: int
) -> None:
    """The advice is the command."""
    for name, path in (("PRIVATE_KEY", key_file), ("APP_SECRET", secret_file)):
        path.chmod(mode)
        line = check(**{f"WXPAY_{name}_FILE": str(path)})
        assert Status.WARNING is line.status
        assert "other users can read it" in line.text
        assert "chmod 600" in line.advice


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_file_that_others_can_write_is_a_failure(
    key_file: Path, secret_file: Path, mode: int
) -> None:
    """They could replace the key."""
    for name, path in (("PRIVATE_KEY", key_file), ("APP_SECRET", secret_file)):
        path.chmod(mode)
        line = check(**{f"WXPAY_{name}_FILE": str(path)})
        assert (Status.FAILED, CONFIGURATION) == (line.status, line.exit_code)
        assert line.text.endswith("other users can write it")
        assert "run chmod 600" in line.advice


def test_file_of_any_mode_is_ok_where_a_mount_decides(key_file: Path) -> None:
    """As for the gateway."""
    key_file.chmod(0o777)
    line = check(WXPAY_PRIVATE_KEY_FILE=str(key_file), WXPAY_KEY_FILE_MODE="any")
    assert (Status.OK, "0777") == (line.status, line.facts["mode"])


@pytest.mark.parametrize(
    ("source", "words", "advice"),
    [
        (PUBLIC_KEY, "this is a public key", "wxpay-async keys show"),
        (KEYS / "ec.pem", "elliptic-curve", "wxpay-async keys show"),
        (KEYS / "rsa1024.pem", "1024 bits", "wxpay-async keys show"),
        (KEYS / "encrypted-pbes2.pem", "passphrase is needed", "WXPAY_PRIVATE_KEY_PASSPHRASE"),
        (Path("/nowhere/merchant.pem"), "No such file", "wxpay-async keys"),
    ],
)
def test_file_that_cannot_sign_is_a_failure_with_its_reason(
    tmp_path: Path, source: Path, words: str, advice: str
) -> None:
    """A public key in the place of the private one, above all."""
    path = source
    if source.exists():
        path = tmp_path / "merchant.pem"
        path.write_bytes(source.read_bytes())
        path.chmod(0o600)
    line = check(WXPAY_PRIVATE_KEY_FILE=str(path))
    assert (Status.FAILED, CONFIGURATION) == (line.status, line.exit_code)
    assert words in line.text
    assert advice in line.advice
    assert str(path) in line.text


def test_secret_that_was_taken_for_a_path_is_not_shown() -> None:
    """Of a private key, and of a secret."""
    for name in ("WXPAY_PRIVATE_KEY_FILE", "WXPAY_APP_SECRET_FILE"):
        line = check(**{name: SECRET})
        assert Status.FAILED is line.status
        assert "cannot be read" in line.text


@pytest.mark.parametrize(
    ("source", "status", "words"),
    [
        (PUBLIC_KEY, Status.OK, "verifies callbacks: public key, RSA 2048 bits"),
        (PRIVATE_KEY, Status.FAILED, "a private key"),
        (KEYS / "ec.pem", Status.FAILED, "elliptic-curve"),
    ],
)
def test_platform_key_has_a_line_of_its_own(
    tmp_path: Path, source: Path, status: Status, words: str
) -> None:
    """It verifies callbacks, so it is the platform's public key."""
    path = tmp_path / "platform.pem"
    path.write_bytes(source.read_bytes())
    path.chmod(0o600)
    line = check(WXPAY_PLATFORM_KEY_FILE=str(path))
    assert ("WXPAY_PLATFORM_KEY_FILE", status) == (line.name, line.status)
    assert words in line.text
