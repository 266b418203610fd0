"""Serve a sandbox until it is interrupted, with its RSA keys in files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import typer
from attrs import frozen
from Crypto.PublicKey import RSA

from wxpay_async import InvalidKeyError, InvalidRequestError
from wxpay_async.cli.output import print_json, translate, write_stdout
from wxpay_async.engine.environment import SCHEMES
from wxpay_async.language import Sentence
from wxpay_async.protocol.keys import (
    MIN_BITS,
    load_private_key,
    load_public_key,
    read_key_file,
)
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.fault_input import FaultFile, read_fault_file

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_LISTENING = Sentence(
    "Console: {url}/. Ctrl-C ends the sandbox.", "控制台：{url}/ （按 Ctrl-C 结束沙箱）"
)


@frozen
class RsaKeys:
    """The files of the RSA scheme.

    Attributes:
        merchant: the merchant's private key.
        platform: the public key that verifies callbacks.
        any_mode: a mount decides who can read and write them.
    """

    merchant: Path
    platform: Path
    any_mode: bool = False

    def load_merchant_key(self, passphrase: str | None = None) -> str:
        """Return the public half of the merchant's key, which is made when there is no file.

        Raises:
            InvalidKeyError: the file cannot be used, or not be written.
        """
        path = self.merchant
        if path.exists():
            key = load_private_key(
                read_key_file(path, private=True, any_mode=self.any_mode), passphrase, file=path
            )
        else:
            key = RSA.generate(MIN_BITS)
            _create_file(path, key.export_key(pkcs=8))
        return key.public_key().export_key().decode("ascii")

    def write_platform_key(self, pem: str) -> None:
        """Write the platform's key, over an older one at most: a sandbox has a new one each time.

        Raises:
            InvalidKeyError: there is something else in the file, or it cannot be written.
        """
        path = self.platform
        if not path.exists():
            _create_file(path, pem.encode("ascii"))
            return
        load_public_key(read_key_file(path, private=False, any_mode=self.any_mode), file=path)
        try:
            path.write_text(pem, encoding="ascii")
        except OSError as error:
            raise InvalidKeyError(f"{path}: cannot be written ({error.strerror})") from error


def _create_file(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; never over another."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise InvalidKeyError(f"{path}: cannot be written ({error.strerror})") from error


def load_platform_key(path: Path, *, any_mode: bool = False) -> RSA.RsaKey:
    """Return the platform's private key, which is made when there is no file.

    Raises:
        InvalidKeyError: the file cannot be used, or not be written.
    """
    if path.exists():
        return load_private_key(read_key_file(path, private=True, any_mode=any_mode), file=path)
    key = RSA.generate(MIN_BITS)
    _create_file(path, key.export_key(pkcs=8))
    return key


def read_faults(path: Path | None) -> FaultFile:
    """Read a fault file; no faults without one.

    Raises:
        InvalidRequestError: it cannot be read, or something in it is wrong.
    """
    if path is None:
        return FaultFile()
    try:
        return read_fault_file(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(
            f"{path} cannot be read", field="--faults", allowed="a TOML file in UTF-8"
        ) from error
    except InvalidRequestError as error:
        raise error.called(f"{path}: {error.field}" if error.field else str(path)) from error


def run_sandbox(
    sandbox: Sandbox, keys: RsaKeys | None, *, as_json: bool, env_file: Path | None = None
) -> None:
    """Run a sandbox until the process is interrupted; print its settings once it listens.

    Args:
        sandbox: what to run.
        keys: the files of the RSA scheme; None for MD5.
        as_json: print the settings as JSON, not as lines for a shell.
        env_file: where to write them instead; None to print them.

    Raises:
        InvalidRequestError: it cannot listen there, or a file cannot be written.
    """

    def announce() -> None:
        if keys:
            keys.write_platform_key(sandbox.callback_public_key)
        settings = _describe_sandbox(sandbox, keys)
        if env_file is None:
            _print_settings(settings, as_json=as_json)
        else:
            write_env_file(env_file, settings)
        typer.echo(translate(_LISTENING, url=sandbox.url), err=True)

    asyncio.run(serve_until_stopped(sandbox, announce))


async def serve_until_stopped(sandbox: Sandbox, announce: Callable[[], None]) -> None:
    """Serve until the process gets SIGINT or SIGTERM.

    Args:
        sandbox: what to run.
        announce: called once it listens.

    Raises:
        InvalidRequestError: it cannot listen there.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: asyncio's own way of Ctrl-C
            loop.add_signal_handler(number, stop.set)
    try:
        await sandbox.start()
    except OSError as error:
        raise InvalidRequestError(
            f"cannot listen there ({error.strerror})",
            field="--host, --port",
            allowed="a free port of this machine",
        ) from error
    try:
        announce()
        await stop.wait()
    finally:
        await sandbox.aclose()


def _describe_sandbox(sandbox: Sandbox, keys: RsaKeys | None) -> dict[str, str]:
    """Return the environment by which a merchant finds the sandbox and verifies what it says."""
    settings = {**sandbox.settings(), "WXPAY_PAY_PUBLIC_KEY": _strip_pem(sandbox.pay_public_key)}
    if keys:
        del settings["WXPAY_APP_SECRET"]
        settings["WXPAY_PRIVATE_KEY_FILE"] = str(keys.merchant.resolve())
        settings["WXPAY_PLATFORM_KEY_FILE"] = str(keys.platform.resolve())
    return settings


def _strip_pem(pem: str) -> str:
    """Return a key as the Base64 of its PEM, which fits on one line."""
    return "".join(pem.splitlines()[1:-1])


def _print_settings(settings: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(settings)
        return
    left = [name for name in SCHEMES if name not in settings]
    write_stdout(f"unset {' '.join(left)}\n")  # of another scheme, which would stand beside these
    for name, value in settings.items():
        write_stdout(f"export {name}={shlex.quote(value)}\n")


def write_env_file(path: Path, settings: Mapping[str, str]) -> None:
    """Write settings as `NAME=value` lines, for its owner only, over an earlier file of this kind.

    Raises:
        InvalidRequestError: there is something else in the file, or it cannot be written.
    """
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    try:
        if path.exists() and not path.read_bytes().startswith(b"WXPAY_"):
            raise InvalidRequestError(
                "holds something else", field="--env-file", allowed="a new file"
            )
        with os.fdopen(os.open(path, _WRITE, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except OSError as error:
        raise InvalidRequestError(
            f"{path} cannot be written ({error.strerror})", field="--env-file", allowed="a file"
        ) from error
