"""A sandbox that serves until it is stopped, and the files of its keys."""

from __future__ import annotations

import asyncio
import stat
import warnings
from pathlib import Path

import pytest

from tests.cli.harness import KEY
from tests.support.vectors import KEYS, PRIVATE_KEY, PUBLIC_KEY
from wxpay_async import InvalidKeyError, InvalidRequestError
from wxpay_async.cli.sandbox_server import (
    RsaKeys,
    load_platform_key,
    read_faults,
    serve_until_stopped,
    write_env_file,
)
from wxpay_async.protocol.keys import load_private_key
from wxpay_async.sandbox import Fault, Sandbox


@pytest.fixture
def keys(tmp_path: Path) -> RsaKeys:
    """Name two files that do not exist."""
    return RsaKeys(merchant=tmp_path / "merchant.pem", platform=tmp_path / "platform.pem")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    path.write_bytes(content)
    path.chmod(0o600)


async def test_serving_ends_when_it_is_cancelled() -> None:
    """The announcement comes when the sandbox listens; afterwards the port is free again."""
    sandbox, listening = Sandbox(pay_key=KEY), asyncio.Event()
    serving = asyncio.ensure_future(serve_until_stopped(sandbox, listening.set))
    await listening.wait()
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(OSError, match=port):
        await asyncio.open_connection(host, int(port))


async def test_serving_on_a_port_in_use_is_bad_input() -> None:
    """Nothing is announced."""
    announced = asyncio.Event()
    async with Sandbox(pay_key=KEY) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(InvalidRequestError, match="cannot listen there"):
            await serve_until_stopped(Sandbox(port=port, pay_key=KEY), announced.set)
    assert not announced.is_set()


def test_merchant_key_without_a_file_is_made_once(keys: RsaKeys) -> None:
    """It is readable for its owner only, and used again afterwards."""
    public = keys.load_merchant_key()
    assert 0o600 == stat.S_IMODE(keys.merchant.stat().st_mode)
    before = keys.merchant.read_bytes()
    assert public == load_private_key(before).public_key().export_key().decode()
    assert public == keys.load_merchant_key()
    assert before == keys.merchant.read_bytes()


def test_merchant_key_in_a_file_of_something_else_is_refused(keys: RsaKeys) -> None:
    """The file is left alone."""
    write_private(keys.merchant, b"not a key")
    with pytest.raises(InvalidKeyError):
        keys.load_merchant_key()
    assert b"not a key" == keys.merchant.read_bytes()


def test_merchant_key_through_a_dangling_link_is_not_written(keys: RsaKeys, tmp_path: Path) -> None:
    """A link to nowhere is not followed when the key is written."""
    keys.merchant.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(InvalidKeyError, match="cannot be written"):
        keys.load_merchant_key()
    assert not (tmp_path / "elsewhere.pem").exists()


def test_merchant_key_with_a_passphrase_is_opened_by_it(keys: RsaKeys) -> None:
    """Without the passphrase it is refused."""
    write_private(keys.merchant, KEY.export_key(passphrase="pass", pkcs=8))
    assert KEY.public_key().export_key().decode() == keys.load_merchant_key("pass")
    with pytest.raises(InvalidKeyError, match="passphrase"):
        keys.load_merchant_key()


def test_key_files_of_any_mode_are_read_where_that_is_asked_for(keys: RsaKeys) -> None:
    """On a mount that shows 0777 for every file."""
    open_to_all = RsaKeys(merchant=keys.merchant, platform=keys.platform, any_mode=True)
    for path, content in ((keys.merchant, PRIVATE_KEY), (keys.platform, PUBLIC_KEY)):
        path.write_bytes(content.read_bytes())
        path.chmod(0o777)

    with pytest.raises(InvalidKeyError, match="other users can write it"):
        keys.load_merchant_key()
    with pytest.raises(InvalidKeyError, match="other users can write it"):
        keys.write_platform_key("new")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert KEY.public_key().export_key().decode() == open_to_all.load_merchant_key()
        open_to_all.write_platform_key("new")
    assert "new" == keys.platform.read_text("ascii")


def test_platform_key_replaces_an_older_one(keys: RsaKeys) -> None:
    """A sandbox has a new key with each start, and its file follows."""
    for path in (PUBLIC_KEY, KEYS / "rsa3072-public.pem"):
        keys.write_platform_key(path.read_text())
        assert path.read_text() == keys.platform.read_text()


@pytest.mark.parametrize("content", [PRIVATE_KEY.read_bytes(), b"notes"])
def test_platform_key_replaces_nothing_else(keys: RsaKeys, content: bytes) -> None:
    """A private key, or anything that is no key, is left alone."""
    write_private(keys.platform, content)
    with pytest.raises(InvalidKeyError):
        keys.write_platform_key(PUBLIC_KEY.read_text())
    assert content == keys.platform.read_bytes()


# The platform's private key, the settings and the faults


@pytest.mark.usefixtures("generated_keys")
def test_platform_private_key_is_made_once(tmp_path: Path) -> None:
    """So a shop's copy of its public half stays right; it is readable for its owner only."""
    path = tmp_path / "platform-private.pem"
    first = load_platform_key(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert first == load_platform_key(path)


def test_platform_private_key_of_something_else_is_refused(tmp_path: Path) -> None:
    """The file is left alone."""
    path = tmp_path / "platform-private.pem"
    write_private(path, b"notes")
    with pytest.raises(InvalidKeyError):
        load_platform_key(path)
    assert b"notes" == path.read_bytes()


def test_env_file_is_written_for_its_owner_and_over_its_like(tmp_path: Path) -> None:
    """Each start writes it anew."""
    path = tmp_path / ".env"
    write_env_file(path, {"WXPAY_APP_KEY": "one", "WXPAY_APP_SECRET": "two"})
    path.chmod(0o644)
    write_env_file(path, {"WXPAY_APP_KEY": "three"})
    assert "WXPAY_APP_KEY=three\n" == path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_env_file_of_a_shop_is_left_alone(tmp_path: Path) -> None:
    """It holds more than the sandbox's settings."""
    path = tmp_path / ".env"
    path.write_text("DATABASE_URL=x\n")
    with pytest.raises(InvalidRequestError, match="--env-file: holds something else"):
        write_env_file(path, {"WXPAY_APP_KEY": "one"})
    with pytest.raises(InvalidRequestError, match="cannot be written"):
        write_env_file(tmp_path / "nowhere" / ".env", {"WXPAY_APP_KEY": "one"})
    assert "DATABASE_URL=x\n" == path.read_text()


def test_fault_file_is_read(tmp_path: Path) -> None:
    """Without one there are no faults."""
    path = tmp_path / "faults.toml"
    path.write_text('seed = 7\n[[fault]]\nkind = "reset"\n')
    found = read_faults(path)
    assert (7, [Fault.reset()]) == (found.seed, found.faults)
    assert () == read_faults(None).faults


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[[fault]]\nkind = "explode"', "fault 1, kind: 'explode'; allowed: delay"),
        (b"seed", "no TOML"),
        (b"\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_fault_file_that_is_wrong_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    """With the file, the field and what it may hold."""
    path = tmp_path / "faults.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match="faults") as refused:
        read_faults(path)
    assert words in str(refused.value)
