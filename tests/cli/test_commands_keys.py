"""The commands that make and show RSA keys."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import NoReturn

import pytest
from Crypto.PublicKey import RSA

from tests.cli.harness import Run
from tests.support.canaries import find_leaks, list_key_secrets
from tests.support.vectors import KEYS, PRIVATE_KEY, PUBLIC_KEY
from wxpay_async import RsaSigner, RsaVerifier
from wxpay_async.cli.commands_keys import BITS

PEM = (KEYS / "rsa3072.pem").read_bytes()
PASSPHRASE = "canary-passphrase-7d1"


@pytest.fixture
def merchant(tmp_path: Path) -> Path:
    """Return a private key that only its owner can read."""
    path = tmp_path / "merchant.pem"
    path.write_bytes(PRIVATE_KEY.read_bytes())
    path.chmod(0o600)
    return path


@pytest.fixture
def made_key(monkeypatch: pytest.MonkeyPatch) -> RSA.RsaKey:
    """Have the same key made each time: a new one takes seconds."""
    key = RSA.import_key(PEM)
    monkeypatch.setattr(RSA, "generate", {BITS: key}.__getitem__)
    return key


# new


def test_new_key_signs_and_its_public_key_verifies(run: Run, tmp_path: Path) -> None:
    """It is a real one, of 3072 bits, which only its owner can read."""
    path = tmp_path / "merchant.pem"
    shown = run("keys", "new", str(path), "--json").fields()
    signer = RsaSigner.from_file(path)
    RsaVerifier.from_pem(shown["publicKey"]).verify(b"message", signer.sign(b"message"))
    assert (3072, 3072) == (signer.bits, shown["bits"])
    assert (0o600, "0600") == (stat.S_IMODE(path.stat().st_mode), shown["mode"])
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert path.read_bytes().endswith(b"-----END PRIVATE KEY-----\n")


@pytest.mark.usefixtures("made_key")
def test_new_key_with_a_passphrase_is_encrypted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is the one by which it is opened again."""
    path = tmp_path / "merchant.pem"
    monkeypatch.setenv("WXPAY_PRIVATE_KEY_PASSPHRASE", PASSPHRASE)
    shown = run("keys", "new", str(path), "--json")
    assert "encrypted PKCS#8, PEM" == shown.fields()["format"]
    assert 3072 == RsaSigner.from_file(path, PASSPHRASE).bits
    assert shown.fields() == run("keys", "show", str(path), "--json").fields()
    monkeypatch.delenv("WXPAY_PRIVATE_KEY_PASSPHRASE")
    assert "its passphrase is needed" in run("keys", "show", str(path)).error()


def test_new_key_is_written_over_nothing(
    run: Run, merchant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not over a key, and not through a link to nowhere; it is told before a key is made."""
    monkeypatch.setattr(RSA, "generate", None)
    before = merchant.read_bytes()
    link = merchant.with_name("link.pem")
    link.symlink_to(merchant.with_name("nowhere.pem"))
    for path in (merchant, link):
        found = run("keys", "new", str(path))
        assert 2 == found.code
        assert f"{path}: exists already" in found.error()
        assert "name another file" in found.err
    assert before == merchant.read_bytes()
    assert not merchant.with_name("nowhere.pem").exists()


def test_new_key_is_not_written_over_one_that_came_meanwhile(
    run: Run, merchant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making a key takes seconds, in which another process may have made the file."""
    path, key = merchant.with_name("other.pem"), RSA.import_key(PEM)

    def make_both(_: int) -> RSA.RsaKey:
        path.write_text("someone else's")
        return key

    monkeypatch.setattr(RSA, "generate", make_both)
    assert "exists already" in run("keys", "new", str(path)).error()
    assert "someone else's" == path.read_text()


@pytest.mark.usefixtures("made_key")
def test_new_key_that_cannot_be_written_leaves_no_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a key would be in the way of the next try."""

    def fill_disk(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill_disk)
    assert "No space left" in run("keys", "new", str(tmp_path / "merchant.pem")).error()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.usefixtures("made_key")
def test_new_key_in_a_folder_that_is_not_there_is_bad_input(run: Run, tmp_path: Path) -> None:
    """No folder is made."""
    found = run("keys", "new", str(tmp_path / "nowhere" / "merchant.pem"))
    assert 2 == found.code
    assert "cannot be written (No such file or directory)" in found.error()


def test_new_key_shows_the_public_key_and_nothing_private(
    run: Run, made_key: RSA.RsaKey, tmp_path: Path
) -> None:
    """The public key stands on a line of its own, to be copied."""
    found = run("keys", "new", str(tmp_path / "merchant.pem"))
    assert (0, "") == (found.code, found.err)
    public = "".join(made_key.public_key().export_key().decode().splitlines()[1:-1])
    assert public == found.out.splitlines()[-1]
    assert [] == find_leaks({"stdout": found.out}, list_key_secrets("key", PEM))


# show and public


def test_show_says_what_is_in_a_private_key_file(run: Run, merchant: Path) -> None:
    """Every line is within 80 columns, the fingerprint included."""
    found = run("keys", "show", str(merchant))
    assert (0, "") == (found.code, found.err)
    for words in ("private", "PKCS#8, PEM", "2048", "0600"):
        assert words in found.out
    shown = run("keys", "show", str(merchant), "--json").fields()
    assert {"kind": "private", "format": "PKCS#8, PEM", "bits": 2048, "mode": "0600"}.items() <= (
        shown.items()
    )
    assert shown["fingerprint"] in found.out
    assert max(map(len, found.out.splitlines())) <= 80


def test_show_speaks_chinese_and_json_does_not(
    run: Run, merchant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What programs read has one form."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    lines = run("keys", "show", str(merchant)).out.splitlines()
    assert ["类型", "私钥"] in [line.split() for line in lines]
    assert "private" == run("keys", "show", str(merchant), "--json").fields()["kind"]


def test_show_of_both_halves_has_the_same_fingerprint(run: Run, merchant: Path) -> None:
    """A merchant compares his key with what the console shows."""
    private = run("keys", "show", str(merchant), "--json").fields()
    public = run("keys", "show", str(PUBLIC_KEY), "--json").fields()
    assert private["fingerprint"] == public["fingerprint"]
    assert ("private", "public") == (private["kind"], public["kind"])


def test_show_without_a_file_takes_that_of_the_environment(
    run: Run, merchant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without either it says what is missing."""
    assert "WXPAY_PRIVATE_KEY_FILE" in run("keys", "show").error()
    monkeypatch.setenv("WXPAY_PRIVATE_KEY_FILE", str(merchant))
    assert str(merchant) == run("keys", "show", "--json").fields()["file"]


def test_show_of_an_open_file_warns_and_of_a_writable_one_refuses(run: Run, merchant: Path) -> None:
    """Who can write the file can replace the key."""
    merchant.chmod(0o644)
    found = run("keys", "show", str(merchant))
    assert (0, True) == (found.code, "warning:" in found.err)
    assert "chmod 600" in found.err
    merchant.chmod(0o666)
    found = run("keys", "show", str(merchant))
    assert 2 == found.code
    assert "other users can write it" in found.error()


def test_show_takes_any_mode_where_a_mount_decides(
    run: Run, merchant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that the gateway reads, too."""
    merchant.chmod(0o666)
    monkeypatch.setenv("WXPAY_KEY_FILE_MODE", "any")
    found = run("keys", "show", str(merchant))
    assert (0, "") == (found.code, found.err)
    assert (0, "") == run("keys", "public", str(merchant))[::2]


def test_public_is_one_line_of_base64_or_pem(run: Run, merchant: Path) -> None:
    """Both come from a private key, and from its public one."""
    pem = PUBLIC_KEY.read_text()
    line = "".join(pem.splitlines()[1:-1])
    for path in (merchant, PUBLIC_KEY):
        assert (0, f"{line}\n", "") == run("keys", "public", str(path))
        assert (0, pem, "") == run("keys", "public", str(path), "--pem")
        shown = run("keys", "public", str(path), "--json").fields()
        assert (line, pem.strip()) == (shown["publicKey"], shown["pem"])


def test_output_of_no_command_has_a_secret(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the key nor its passphrase, whether it works or not."""
    path = tmp_path / "key.pem"
    path.write_bytes(RSA.import_key(PEM).export_key(pkcs=8, passphrase=PASSPHRASE))
    path.chmod(0o600)
    canaries = {**list_key_secrets("key", PEM), "the passphrase": PASSPHRASE}
    places: dict[str, str] = {}
    for passphrase in (PASSPHRASE, f"{PASSPHRASE}-wrong", ""):
        monkeypatch.setenv("WXPAY_PRIVATE_KEY_PASSPHRASE", passphrase)
        for command in ("show", "public", "new"):
            for more in ([], ["--json"]):
                found = run("keys", command, str(path), *more)
                places[f"{command} {more} {passphrase}"] = found.out + found.err
    assert [] == find_leaks(places, canaries)


def test_group_without_a_command_shows_its_help(run: Run) -> None:
    """As the program does."""
    found = run("keys")
    assert 0 == found.code
    assert all(name in found.out for name in ("new", "show", "public"))


def test_json_of_every_command_is_one_line(run: Run, merchant: Path) -> None:
    """A program reads it."""
    for command in ("show", "public"):
        assert isinstance(json.loads(run("keys", command, str(merchant), "--json").out), dict)
