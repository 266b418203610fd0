"""Key files: which are read, and which are refused before they are."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pytest

from tests.support.vectors import KEYS, PRIVATE_KEY
from wxpay_async.errors import InvalidKeyError
from wxpay_async.protocol.keys import MAX_FILE, InsecureKeyFileWarning, read_key_file
from wxpay_async.protocol.signing import RsaSigner, RsaVerifier


def test_private_file_is_read(key_file: Path) -> None:
    """A file that only its owner can read gives no warning."""
    assert PRIVATE_KEY.read_bytes() == read_key_file(key_file, private=True)
    assert PRIVATE_KEY.read_bytes() == read_key_file(str(key_file), private=True)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
@pytest.mark.parametrize("private", [True, False])
def test_file_that_others_can_write_is_refused(key_file: Path, mode: int, *, private: bool) -> None:
    """A user who can write a key file can replace the key, public ones included."""
    key_file.chmod(mode)

    with pytest.raises(InvalidKeyError, match="other users can write it; run chmod 600"):
        read_key_file(key_file, private=private)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o444])
def test_private_file_that_others_can_read_warns_the_caller(key_file: Path, mode: int) -> None:
    """The warning names the file and points at the caller's line."""
    key_file.chmod(mode)

    with pytest.warns(
        InsecureKeyFileWarning, match="users can read this secret; run chmod"
    ) as record:
        read_key_file(key_file, private=True)

    assert [__file__] == [warning.filename for warning in record]
    assert str(key_file) in str(record[0].message)


@pytest.mark.parametrize("private", [True, False])
def test_refusal_of_a_mode_says_what_to_do(key_file: Path, *, private: bool) -> None:
    """Also where chmod cannot work: Windows drives and network shares show 0777 for every file."""
    key_file.chmod(0o777)

    with pytest.raises(InvalidKeyError) as caught:
        read_key_file(key_file, private=private)

    assert str(key_file) in str(caught.value)
    for words in ("chmod 600", "any_mode=True", "WXPAY_KEY_FILE_MODE=any", "from_pem()"):
        assert words in str(caught.value)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o444, 0o644, 0o666, 0o777])
@pytest.mark.parametrize("private", [True, False])
def test_file_of_any_mode_is_read_where_that_is_asked_for(
    key_file: Path, mode: int, *, private: bool
) -> None:
    """A secret manager or a mount decides about the mode, and who reads the file."""
    key_file.chmod(mode)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = read_key_file(key_file, private=private, any_mode=True)

    assert PRIVATE_KEY.read_bytes() == data


def test_file_of_any_mode_is_still_a_small_regular_file(key_file: Path) -> None:
    """Nothing else is allowed with it."""
    with pytest.raises(InvalidKeyError, match="not a regular file"):
        read_key_file(os.devnull, private=True, any_mode=True)

    key_file.write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(InvalidKeyError, match="65537 bytes"):
        read_key_file(key_file, private=True, any_mode=True)


@pytest.fixture
def kubernetes_file(key_file: Path, tmp_path: Path) -> Path:
    """Return a key as Kubernetes mounts it: links of mode 0777 that are moved all at once."""
    (tmp_path / "..2026_11_27").mkdir()
    key_file.rename(tmp_path / "..2026_11_27" / "merchant.pem")
    (tmp_path / "..data").symlink_to("..2026_11_27")
    key_file.symlink_to(Path("..data", "merchant.pem"))
    return key_file


def test_kubernetes_secret_is_read_with_a_warning_about_its_own_mode(kubernetes_file: Path) -> None:
    """Links say 0777, which means nothing; the file itself has 0644 unless `defaultMode` is set."""
    kubernetes_file.chmod(0o400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PRIVATE_KEY.read_bytes() == read_key_file(kubernetes_file, private=True)

    kubernetes_file.chmod(0o644)
    with pytest.warns(InsecureKeyFileWarning, match="WXPAY_KEY_FILE_MODE=any"):
        assert PRIVATE_KEY.read_bytes() == read_key_file(kubernetes_file, private=True)


@pytest.mark.parametrize(("load", "name"), [(RsaSigner, "pkcs8.pem"), (RsaVerifier, "public.pem")])
def test_signer_and_verifier_take_a_file_of_any_mode(
    load: type[RsaSigner | RsaVerifier], name: str, tmp_path: Path
) -> None:
    """By the same keyword."""
    path = tmp_path / name
    path.write_bytes((KEYS / name).read_bytes())
    path.chmod(0o777)

    with pytest.raises(InvalidKeyError, match="any_mode=True"):
        load.from_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 2048 == load.from_file(path, any_mode=True).bits


def test_public_file_may_be_read_by_all(key_file: Path) -> None:
    """A public key is public: no warning."""
    key_file.chmod(0o644)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_key_file(key_file, private=False)


def test_file_modes_are_ignored_outside_posix(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system without such modes every file looks open to all, and is accepted."""
    key_file.chmod(0o666)

    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        data = read_key_file(str(key_file), private=True)

    assert PRIVATE_KEY.read_bytes() == data


def test_link_to_a_file_is_followed(key_file: Path, tmp_path: Path) -> None:
    """Container platforms mount secrets as links; the mode of the target counts."""
    link = tmp_path / "link.pem"
    link.symlink_to(key_file)

    assert PRIVATE_KEY.read_bytes() == read_key_file(link, private=True)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The message holds the path and the system's reason."""
    path = tmp_path / "nowhere.pem"

    with pytest.raises(InvalidKeyError, match=re.escape(f"{path}: cannot be read (No such file")):
        read_key_file(path, private=True)


def test_text_that_can_be_no_path_is_refused() -> None:
    """The system cannot even be asked for it; the text is not repeated."""
    with pytest.raises(InvalidKeyError, match=r"^this is not the path of a file$"):
        read_key_file("half a pair \ud800", private=True)


def test_directory_is_refused(tmp_path: Path) -> None:
    """A directory gives the same error as any file that cannot be read."""
    with pytest.raises(InvalidKeyError, match="cannot be read \\(Is a directory\\)"):
        read_key_file(tmp_path, private=True)


def test_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """A FIFO without a writer would block the process for ever."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)

    with pytest.raises(InvalidKeyError, match="not a regular file"):
        read_key_file(fifo, private=True)


def test_device_is_refused() -> None:
    """A device is not read."""
    with pytest.raises(InvalidKeyError, match="not a regular file"):
        read_key_file(os.devnull, private=False)


def test_size_of_a_file_is_bounded(key_file: Path) -> None:
    """64 KB are read, one byte more is refused with the size."""
    key_file.write_bytes(b"x" * MAX_FILE)
    assert len(read_key_file(key_file, private=True)) == MAX_FILE

    key_file.write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(InvalidKeyError, match="65537 bytes; a key file has at most 65536"):
        read_key_file(key_file, private=True)


@pytest.mark.parametrize(
    "name", ["pkcs8.pem", "pkcs8.der", "pkcs1.b64", "public.pem", "public.der", "ed25519.pem"]
)
def test_key_passed_as_a_path_is_not_repeated(name: str) -> None:
    """The error must not repeat a key that was passed to `from_file`."""
    key = os.fsdecode((KEYS / name).read_bytes())

    with pytest.raises(InvalidKeyError) as caught:
        read_key_file(key, private=True)

    assert str(caught.value) == "this is a key, not the path of one; from_pem() takes keys"


def test_refused_files_are_closed(tmp_path: Path) -> None:
    """A refusal leaves no descriptor open."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    before = len(list(Path("/dev/fd").iterdir()))

    for path in (tmp_path, fifo):
        with pytest.raises(InvalidKeyError):
            read_key_file(path, private=True)

    assert before == len(list(Path("/dev/fd").iterdir()))
