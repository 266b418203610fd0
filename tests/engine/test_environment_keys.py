"""How the environment says by which secret or key the merchant signs."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from tests.support.vectors import KEYS, PRIVATE_KEY
from wxpay_async.adapters.stores.sealed import STORE_CONTEXT, SealedStore
from wxpay_async.engine.environment import SCHEMES
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InvalidKeyError, InvalidRequestError
from wxpay_async.protocol.keys import InsecureKeyFileWarning
from wxpay_async.protocol.signing import Md5Signer, RsaSigner

PASSPHRASE = "test 密码 pässword"
PROTECTION = "PBKDF2WithHMAC-SHA256AndAES256-CBC"


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    """Return a private key that only its owner can read."""
    path = tmp_path / "merchant.pem"
    path.write_bytes(PRIVATE_KEY.read_bytes())
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    "names",
    [names for n in (2, 3, 4) for names in itertools.combinations(SCHEMES, n)],
)
def test_environment_with_several_schemes_names_them_together(names: tuple[str, ...]) -> None:
    """Also where they say the same; one is not told after the other."""
    with pytest.raises(InvalidRequestError, match="set together; allowed: one of") as caught:
        PayGateway.from_env({"WXPAY_APP_KEY": "k", **dict.fromkeys(names, "s3cret")})

    assert ", ".join(names) == caught.value.field
    assert "s3cret" not in str(caught.value)


def make_secret_file(folder: Path, content: bytes, mode: int = 0o600) -> dict[str, str]:
    """Write a file with an appSecret; return the environment that names it."""
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return {"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET_FILE": str(path)}


def sign(gateway: PayGateway) -> object:
    """Sign a text as the gateway does."""
    return gateway._dispatcher.signing.signer.sign(b"text")


@pytest.mark.parametrize(
    "content", [b"s3cret", b"s3cret\n", b"s3cret\r\n", b"\xef\xbb\xbf s3cret \n\n"]
)
def test_secret_file_is_read_without_the_line_break_at_its_end(
    tmp_path: Path, content: bytes
) -> None:
    """Nor the blanks and the byte order mark of an editor."""
    gateway = PayGateway.from_env(make_secret_file(tmp_path, content))

    assert Md5Signer("s3cret").sign(b"text") == sign(gateway)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b" \n", b'"s3cret"\n', b"'s3cret'", b"s3cret\nsecond", b"s3cret\xe9", b"s3cret\0"),
        *("s3cret\u00e9".encode(), "s3cret".encode("utf-16"), "s3cret".encode("utf-16-le")),
    ],
)
def test_secret_file_with_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """Such a secret would make every signature wrong; the error names the variable."""
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway.from_env(make_secret_file(tmp_path, content))

    assert "WXPAY_APP_SECRET_FILE" == caught.value.field
    assert "s3cret" not in str(caught.value)


def test_secret_in_the_place_of_its_file_is_not_repeated() -> None:
    """The error names the variable, and why it is no path."""
    with pytest.raises(InvalidKeyError) as caught:
        PayGateway.from_env({"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET_FILE": "s3cret"})

    assert "WXPAY_APP_SECRET_FILE: cannot be read (No such file or directory)" == str(caught.value)


def test_secret_file_has_the_care_of_a_key_file(tmp_path: Path) -> None:
    """A warning when others can read it, a refusal when others can write it."""
    with pytest.warns(InsecureKeyFileWarning, match="other users can read this secret"):
        PayGateway.from_env(make_secret_file(tmp_path, b"s3cret", 0o644))
    with pytest.raises(InvalidKeyError, match="WXPAY_APP_SECRET_FILE: other users can write it"):
        PayGateway.from_env(make_secret_file(tmp_path, b"s3cret", 0o666))
    with pytest.raises(InvalidKeyError, match="WXPAY_APP_SECRET_FILE: 65537 bytes"):
        PayGateway.from_env(make_secret_file(tmp_path, b"s" * 65537))


@pytest.mark.parametrize("mode", [0o400, 0o444, 0o644, 0o777])
def test_environment_reads_files_of_any_mode_where_it_says_so(
    tmp_path: Path, key_file: str, mode: int
) -> None:
    """Where a secret manager or a mount decides about the mode; without a warning."""
    Path(key_file).chmod(mode)
    by_secret = make_secret_file(tmp_path, b"s3cret", mode)
    by_key = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": key_file}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for env in (by_secret, by_key):
            assert sign(PayGateway.from_env({**env, "WXPAY_KEY_FILE_MODE": "any"}))


@pytest.mark.parametrize(
    "text",
    [
        PRIVATE_KEY.read_text("ascii"),
        PRIVATE_KEY.read_text("ascii").replace("\n", "\\n"),
        PRIVATE_KEY.read_text("ascii").replace("\n", ""),
        (KEYS / "pkcs8.b64").read_text("ascii"),
        (KEYS / "encrypted-pbes2.pem").read_text("ascii"),
    ],
    ids=["pem", "escaped", "one line", "base64", "encrypted"],
)
def test_environment_with_a_key_signs_by_rsa(text: str) -> None:
    """In every form in which a key gets into a variable."""
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY": text}
    gateway = PayGateway.from_env({**env, "WXPAY_PRIVATE_KEY_PASSPHRASE": PASSPHRASE})

    assert RsaSigner.from_pem(PRIVATE_KEY.read_bytes()).sign(b"text") == sign(gateway)
    assert "RSA" == gateway._dispatcher.builder.sign_type


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (
            "WXPAY_PRIVATE_KEY",
            "merchant.pem",
            "this is too short for a key; if it is a path, WXPAY_PRIVATE_KEY_FILE takes paths",
        ),
        (
            "WXPAY_PRIVATE_KEY_FILE",
            PRIVATE_KEY.read_text("ascii"),
            "this is a key, not the path of one; WXPAY_PRIVATE_KEY takes keys",
        ),
    ],
)
def test_key_in_the_wrong_variable_is_refused_with_the_right_one(
    variable: str, value: str, words: str
) -> None:
    """A key is not repeated."""
    with pytest.raises(InvalidKeyError) as caught:
        PayGateway.from_env({"WXPAY_APP_KEY": "k", variable: value})

    assert f"{variable}: {words}" == str(caught.value)


def test_environment_with_a_key_file_signs_by_rsa(key_file: str) -> None:
    """The scheme is announced to the platform."""
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": key_file}
    gateway = PayGateway.from_env(env)

    assert isinstance(gateway._dispatcher.signing.signer, RsaSigner)
    assert "RSA" == gateway._dispatcher.builder.sign_type


def test_environment_with_a_missing_key_file_is_refused() -> None:
    """The error says that the key cannot be used."""
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": "/nowhere/merchant.pem"}
    with pytest.raises(InvalidKeyError):
        PayGateway.from_env(env)


@pytest.mark.parametrize("tail", ["", "\n", "\r\n"])
def test_passphrase_keeps_its_blanks_and_loses_a_line_break(tmp_path: Path, tail: str) -> None:
    """A blank can be meant; no passphrase ends with a line break."""
    path = tmp_path / "merchant.pem"
    key = RSA.import_key(PRIVATE_KEY.read_bytes())
    path.write_bytes(key.export_key(pkcs=8, passphrase=" s3cret ", protection=PROTECTION))
    path.chmod(0o600)
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": str(path)}

    PayGateway.from_env({**env, "WXPAY_PRIVATE_KEY_PASSPHRASE": f" s3cret {tail}"})
    with pytest.raises(InvalidKeyError, match="passphrase does not open"):
        PayGateway.from_env({**env, "WXPAY_PRIVATE_KEY_PASSPHRASE": "s3cret"})


def test_environment_with_a_key_file_opens_what_former_secrets_sealed(key_file: str) -> None:
    """The way from MD5 to RSA loses nothing."""
    env = {
        "WXPAY_APP_KEY": "k",
        "WXPAY_PRIVATE_KEY_FILE": key_file,
        "WXPAY_FORMER_SECRETS": "s3cret",
        "WXPAY_STORE_URL": "sqlite:///never-opened.db",
    }
    store = PayGateway.from_env(env).store

    assert isinstance(store, SealedStore)
    expected = [
        RsaSigner.from_file(key_file).derive_key(STORE_CONTEXT),
        Md5Signer("s3cret").derive_key(STORE_CONTEXT),
    ]
    assert expected == store.keys
