"""Define the commands about RSA keys: `keys new`, `keys show` and `keys public`."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from typer import Argument, Option

from wxpay_async import InvalidKeyError, InvalidRequestError
from wxpay_async.cli.main import EXIT_CODES, AsJson, app
from wxpay_async.cli.options import PASSPHRASE
from wxpay_async.cli.output import (
    print_json,
    print_result,
    print_rich,
    print_short_warnings,
    translate,
    write_stdout,
)
from wxpay_async.language import Sentence

BITS: Final = 3072
_MODE: Final = 0o600
_DERIVATION: Final = "PBKDF2WithHMAC-SHA512AndAES256-CBC"
_ROUNDS: Final = 210_000
"""Of the derivation, as OWASP advises; about 0.2 s."""

_FILE: Final = "WXPAY_PRIVATE_KEY_FILE"
_UPLOAD: Final = Sentence(
    "The public key, as the platform's console asks for it", "公钥（平台后台要求的格式）"
)
_LABELS: Final = {
    "file": Sentence("file", "文件"),
    "kind": Sentence("kind", "类型"),
    "format": Sentence("format", "格式"),
    "bits": Sentence("bits", "位数"),
    "mode": Sentence("mode", "权限"),
    "fingerprint": Sentence("fingerprint", "指纹"),
}
_KINDS: Final = {
    "private": Sentence("private", "私钥"),
    "public": Sentence("public", "公钥"),
}

keys = typer.Typer(
    epilog=EXIT_CODES, help="Make an RSA key; show what is in a file; print the public key."
)
app.add_typer(keys, name="keys")

NewPath = Annotated[
    Path, Argument(help="The file to make. It must not exist.", metavar="FILE", show_default=False)
]
KeyPath = Annotated[
    Path | None,
    Argument(
        help=f"File with a private key, a public key or a certificate. Else {_FILE}; a passphrase "
        f"is read from {PASSPHRASE}.",
        metavar="FILE",
        show_default=False,
    ),
]


@keys.callback(invoke_without_command=True)
def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@keys.command(epilog=EXIT_CODES)
def new(path: NewPath, *, as_json: AsJson = False) -> None:
    """Make a private key of 3072 bits, PKCS#8 in PEM, that only you can read.

    It is encrypted if WXPAY_PRIVATE_KEY_PASSPHRASE is set. A file that exists is
    never written over. The public key that is printed goes into the platform's
    console.
    """
    from Crypto.PublicKey import RSA  # noqa: PLC0415 - the help texts do without it

    from wxpay_async.cli.key_facts import describe_key  # noqa: PLC0415 - help does without
    from wxpay_async.protocol.secrets import SecretBytes  # noqa: PLC0415 - help does without

    if os.path.lexists(path):  # known before seconds are spent on a key; `_create_file` proves it
        raise _make_exists_error(path)
    key = RSA.generate(BITS)
    passphrase = os.environ.get(PASSPHRASE)
    pem = (
        key.export_key(
            pkcs=8,
            passphrase=passphrase,
            protection=_DERIVATION,
            prot_params={"iteration_count": _ROUNDS},
        )
        if passphrase
        else key.export_key(pkcs=8)
    )
    data = SecretBytes(pem + b"\n")
    _create_file(path, data)
    facts = describe_key(data, passphrase, file=path)
    fields = {
        "file": str(path),
        "kind": facts.kind,
        "format": facts.form,
        "bits": facts.bits,
        "mode": _read_mode(path),
        "fingerprint": facts.fingerprint,
    }
    if as_json:
        print_json({**fields, "publicKey": facts.public_base64})
        return
    _print_facts(fields)
    _print_public_key(facts.public_base64)


@keys.command(epilog=EXIT_CODES)
def show(path: KeyPath = None, *, as_json: AsJson = False) -> None:
    """Say what is in a key file: private or public, format, bits, fingerprint.

    The fingerprint is the SHA-256 of the public key in DER, the same for both
    halves of a pair: compare it with that of the key in the platform's console.
    """
    from wxpay_async.cli.key_facts import read_key_facts  # noqa: PLC0415 - as in `new`

    file = _choose_path(path)
    with print_short_warnings():
        facts = read_key_facts(file, os.environ.get(PASSPHRASE), any_mode=_allows_any_mode())
    fields = {
        "file": str(file),
        "kind": facts.kind,
        "format": facts.form,
        "bits": facts.bits,
        "mode": _read_mode(file),
        "fingerprint": facts.fingerprint,
    }
    if as_json:
        print_json({**fields, "publicKey": facts.public_base64})
    else:
        _print_facts(fields)


@keys.command(epilog=EXIT_CODES)
def public(
    path: KeyPath = None,
    *,
    pem: Annotated[bool, Option("--pem", help="As PEM, with its BEGIN and END lines.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the public key as the platform's console asks for it: Base64 on one line."""
    from wxpay_async.cli.key_facts import read_key_facts  # noqa: PLC0415 - as in `new`

    with print_short_warnings():
        facts = read_key_facts(
            _choose_path(path), os.environ.get(PASSPHRASE), any_mode=_allows_any_mode()
        )
    if as_json:
        print_json(
            {
                "publicKey": facts.public_base64,
                "pem": facts.public_pem,
                "fingerprint": facts.fingerprint,
            }
        )
    else:
        write_stdout(f"{facts.public_pem if pem else facts.public_base64}\n")


def _print_facts(fields: Mapping[str, object]) -> None:
    """Print what is known of a key, with labels in the language of the environment."""
    shown = {**fields, "kind": translate(_KINDS[str(fields["kind"])])}
    labelled = {translate(_LABELS[name]): value for name, value in shown.items()}
    print_result(labelled, as_json=False)


def _print_public_key(text: str) -> None:
    """Print it so that it can be copied in one piece."""
    from rich.rule import Rule  # noqa: PLC0415 - the help texts do without it

    print_rich("")
    print_rich(Rule(translate(_UPLOAD), style="dim", align="left"))
    write_stdout(f"{text}\n")  # wrapped by the terminal only


def _choose_path(given: Path | None) -> Path:
    name = str(given) if given is not None else os.environ.get(_FILE, "").strip()
    if not name:
        raise InvalidRequestError("not given", field="FILE", allowed=f"a path, or {_FILE}")
    return Path(name)


def _allows_any_mode() -> bool:
    return os.environ.get("WXPAY_KEY_FILE_MODE") == "any"


def _read_mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def _create_file(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; never over another, and never half of one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        raise _make_exists_error(path) from None
    except OSError as error:
        raise InvalidKeyError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise InvalidKeyError(f"{path}: cannot be written ({error.strerror})") from error


def _make_exists_error(path: Path) -> InvalidKeyError:
    return InvalidKeyError(
        f"{path}: exists already, and a key is never written over; name another file"
    )
