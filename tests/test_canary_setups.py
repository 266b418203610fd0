"""Set-ups that fail show neither a secret nor a key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from tests.support import vectors
from tests.support.canaries import (
    SECRET,
    WRONG_SECRET,
    find_leaks,
    list_key_secrets,
    list_pem_secrets,
    render_error,
)
from tests.support.vectors import KEYS
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.engine.environment import Settings, read_parts
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import (
    InvalidKeyError,
    WxPayError,
)
from wxpay_async.protocol.keys import InsecureKeyFileWarning
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier, RsaSigner, RsaVerifier

PRIVATE_KEY = vectors.PRIVATE_KEY.read_bytes()
OTHER_NUMBERS = PRIVATE_KEY.replace(b"/", b"+")
WEAK_KEY = (KEYS / "rsa1024.pem").read_bytes()
LOCKED_KEY = (KEYS / "encrypted-pbes2.pem").read_bytes()


def catch_setup_failure(call: Callable[[], object]) -> Exception:
    """Return what making something raises, without the frame of this function."""
    try:
        call()
    except (WxPayError, ImportError, TypeError, ValueError, Warning) as error:
        own = error.__traceback__
        return error.with_traceback(own and own.tb_next)
    raise AssertionError("it did not fail")


def make_unfit_key() -> RSA.RsaKey:
    """Make a key that pycryptodome takes and OpenSSL refuses."""
    key = RSA.import_key(PRIVATE_KEY)
    return RSA.construct((key.n, key.e, key.d, key.p, key.q + 2), consistency_check=False)


def read_environment(**env: str) -> Callable[[], object]:
    """Make the function that reads a gateway from these variables."""
    return partial(PayGateway.from_env, {"WXPAY_APP_KEY": "k", **env})


def read_settings(**env: str) -> Callable[[], object]:
    """Make the function that reads them, whose frames `from_env` does not show."""
    return partial(read_parts, Settings({"WXPAY_APP_KEY": "k", **env}), {})


SETUPS: dict[str, Callable[[], object]] = {
    "a secret with a line break": partial(Md5Signer, f"{SECRET}\n"),
    "a secret of bytes": partial(Md5Signer, SECRET.encode()),
    "a verifier's secret": partial(Md5Verifier, f" {SECRET}"),
    "a text to sign": lambda: Md5Signer(SECRET).sign("text"),  # type: ignore[arg-type] # on purpose
    "a secret in the environment": read_environment(WXPAY_APP_SECRET=f"{SECRET}\u00e9"),
    "a secret of two lines": read_environment(WXPAY_APP_SECRET=f"{SECRET}\nx"),
    "several problems": read_environment(
        WXPAY_APP_SECRET=f"{SECRET}\u00e9",
        WXPAY_SEAL_KEY=SECRET,
        WXPAY_FORMER_SECRETS=f"{SECRET}\0",
    ),
    "a secret in quotes": read_environment(WXPAY_APP_SECRET=f'"{SECRET}"'),
    "a secret in quotes, by its reader": read_settings(WXPAY_APP_SECRET=f'"{SECRET}"'),
    "two schemes": read_environment(WXPAY_APP_SECRET=SECRET, WXPAY_PRIVATE_KEY_FILE="merchant.pem"),
    "two schemes, by their reader": read_settings(
        WXPAY_APP_SECRET=SECRET, WXPAY_PRIVATE_KEY_FILE="merchant.pem"
    ),
    "a secret for a path": read_environment(WXPAY_APP_SECRET_FILE=SECRET),
    "a secret for a path, by its reader": read_settings(WXPAY_APP_SECRET_FILE=SECRET),
    "a secret for a key": read_environment(WXPAY_PRIVATE_KEY=SECRET),
    "a damaged key in the environment": read_environment(
        WXPAY_PRIVATE_KEY=PRIVATE_KEY.decode("ascii").replace("\n-----END", "a\n-----END")
    ),
    "a weak key in the environment": read_environment(WXPAY_PRIVATE_KEY=WEAK_KEY.decode("ascii")),
    "a wrong passphrase in the environment": read_environment(
        WXPAY_PRIVATE_KEY=LOCKED_KEY.decode("ascii"), WXPAY_PRIVATE_KEY_PASSPHRASE=WRONG_SECRET
    ),
    "another setting": read_environment(
        WXPAY_APP_SECRET=SECRET, WXPAY_BASE_URL="http://shop.example"
    ),
    "a missing library": read_environment(
        WXPAY_APP_SECRET=SECRET, WXPAY_STORE_URL="postgresql+no://shop"
    ),
    "a key for a path": read_environment(WXPAY_PRIVATE_KEY_FILE=PRIVATE_KEY.decode("ascii")),
    "a damaged key": partial(
        RsaSigner.from_pem, PRIVATE_KEY.replace(b"\n-----END", b"a\n-----END")
    ),
    "a key with other numbers": partial(RsaSigner.from_pem, OTHER_NUMBERS),
    "a key cut short": partial(RsaSigner.from_pem, PRIVATE_KEY[:-100]),
    "a weak key": partial(RsaSigner.from_pem, WEAK_KEY),
    "a weak key, loaded": partial(RsaSigner, RSA.import_key(WEAK_KEY)),
    "a private key for a public one": partial(RsaVerifier.from_pem, PRIVATE_KEY),
    "one that is loaded": partial(RsaVerifier, RSA.import_key(PRIVATE_KEY)),
    "one for a path": partial(RsaVerifier.from_file, PRIVATE_KEY.decode("ascii")),
    "a wrong passphrase": partial(RsaSigner.from_pem, LOCKED_KEY, WRONG_SECRET),
    "a passphrase that is none": partial(RsaSigner.from_pem, PRIVATE_KEY, 5),
    "no such backend": partial(RsaSigner.from_pem, PRIVATE_KEY, backend="none"),
    "a key that OpenSSL refuses": partial(RsaSigner, make_unfit_key(), backend="openssl"),
    "a seal key": partial(
        PayGateway,
        "k",
        Md5Signer("another"),
        store=SqlStore("sqlite:///never-opened.db"),
        seal_keys=[SECRET.encode()],
    ),
    "a seal key alone": partial(
        PayGateway,
        "k",
        Md5Signer("another"),
        store=SqlStore("sqlite:///never-opened.db"),
        seal_keys=SECRET.encode(),
    ),
    "a seal key in the environment": read_environment(
        WXPAY_APP_SECRET="another", WXPAY_SEAL_KEY=SECRET
    ),
    "a seal key in the environment, by its reader": read_settings(
        WXPAY_APP_SECRET=WRONG_SECRET, WXPAY_SEAL_KEY=SECRET
    ),
    "a former secret": read_environment(
        WXPAY_APP_SECRET="another", WXPAY_FORMER_SECRETS=f"{SECRET}\u00e9"
    ),
    "a former secret, by its reader": read_settings(
        WXPAY_APP_SECRET=WRONG_SECRET, WXPAY_FORMER_SECRETS=f"{SECRET}\u00e9"
    ),
}


@pytest.mark.parametrize("why", SETUPS)
def test_setup_that_fails_shows_no_secret(why: str) -> None:
    """No frame of the traceback holds the secret, the key, its passphrase or the environment."""
    error = catch_setup_failure(SETUPS[why])
    canaries = {
        "the secret": SECRET,
        "the passphrase": WRONG_SECRET,
        **list_key_secrets("key", PRIVATE_KEY),
        **list_key_secrets("weak key", WEAK_KEY),
        **list_pem_secrets("locked key", LOCKED_KEY),
    }

    assert [] == find_leaks(render_error(error), canaries)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
def test_secret_file_that_fails_shows_no_secret(mode: int, tmp_path: Path) -> None:
    """What it holds cannot be a secret, or others can read or write it."""
    file = tmp_path / "secret"
    file.write_bytes(f"{SECRET}\u00e9".encode())
    file.chmod(mode)
    error = catch_setup_failure(read_environment(WXPAY_APP_SECRET_FILE=str(file)))

    assert [] == find_leaks(render_error(error), {"the secret": SECRET})


@pytest.mark.parametrize(
    ("mode", "kind"), [(0o600, InvalidKeyError), (0o644, InsecureKeyFileWarning)]
)
def test_key_file_that_fails_shows_no_secret(
    mode: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong passphrase, and a warning where warnings are errors; from the own environment."""
    file = tmp_path / "merchant.pem"
    file.write_bytes(LOCKED_KEY)
    file.chmod(mode)
    monkeypatch.setenv("WXPAY_APP_KEY", "k")
    monkeypatch.setenv("WXPAY_PRIVATE_KEY_FILE", str(file))
    monkeypatch.setenv("WXPAY_PRIVATE_KEY_PASSPHRASE", WRONG_SECRET)
    places: dict[str, str] = {}
    for n, call in enumerate(
        (PayGateway.from_env, lambda: RsaSigner.from_file(file, WRONG_SECRET))
    ):
        error = catch_setup_failure(call)
        assert isinstance(error, kind)
        places |= {f"{n} {name}": text for name, text in render_error(error).items()}

    canaries = {"the passphrase": WRONG_SECRET, **list_pem_secrets("key", LOCKED_KEY)}
    assert [] == find_leaks(places, canaries)
