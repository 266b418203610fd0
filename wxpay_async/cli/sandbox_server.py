"""A sandbox to keep: serve it until it is interrupted, with keys in files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from Crypto.PublicKey import RSA

from wxpay_async import InvalidKeyError, InvalidRequestError
from wxpay_async.cli.demo import KEY_BITS
from wxpay_async.protocol.keys import load_private_key, load_public_key, read_key_file
from wxpay_async.sandbox import Sandbox


async def serve(sandbox: Sandbox, announce: Callable[[], None]) -> None:
    """Run a sandbox until the process is interrupted or told to end.

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


def merchant_key(path: Path, passphrase: str | None = None) -> str:
    """Return the public half of the key in a file, which is made when there is none.

    Raises:
        InvalidKeyError: the file cannot be used, or not be written.
    """
    if path.exists():
        key = load_private_key(read_key_file(path, private=True), passphrase, file=path)
    else:
        key = RSA.generate(KEY_BITS)
        _write_new(path, key.export_key(pkcs=8))
    return key.public_key().export_key().decode("ascii")


def publish_key(path: Path, pem: str) -> None:
    """Write a public key, over an older one at most: a sandbox has a new one with each start.

    Raises:
        InvalidKeyError: there is something else in the file, or it cannot be written.
    """
    if not path.exists():
        _write_new(path, pem.encode("ascii"))
        return
    load_public_key(read_key_file(path, private=False), file=path)
    try:
        path.write_text(pem, encoding="ascii")
    except OSError as error:
        raise InvalidKeyError(f"{path}: cannot be written ({error.strerror})") from error


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; never over another."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise InvalidKeyError(f"{path}: cannot be written ({error.strerror})") from error
