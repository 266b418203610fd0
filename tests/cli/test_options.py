"""The options that every client command takes, beside the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

import wxpay_async
from tests.cli.harness import ORDER, SECRET, Run
from tests.support.vectors import KEYS
from wxpay_async.sandbox import Sandbox


@pytest.mark.usefixtures("sandbox")
def test_app_secret_file_is_enough(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The line break at its end is not part of the secret."""
    monkeypatch.delenv("WXPAY_APP_SECRET")
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    assert 0 == run("merchants", "--app-secret-file", str(path), "--json").code


@pytest.mark.parametrize("name", ["WXPAY_APP_SECRET_FILE", "WXPAY_PRIVATE_KEY"])
def test_option_for_a_file_wins_over_every_scheme_of_the_environment(
    run: Run, sandbox: Sandbox, key_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever it was set up for."""
    monkeypatch.setenv(name, "left over")
    assert 0 == run("merchants", "--private-key-file", str(key_file), "--json").code
    assert b"signType=RSA" in sandbox.platform.recent[-1].body


@pytest.mark.usefixtures("sandbox")
def test_app_secret_file_that_is_empty_is_bad_input(run: Run, tmp_path: Path) -> None:
    """One line that names the setting."""
    path = tmp_path / "secret"
    path.write_text("\n")
    path.chmod(0o600)
    found = run("query", *ORDER, "--app-secret-file", str(path))
    assert 2 == found.code
    assert "WXPAY_APP_SECRET_FILE: empty" in found.error()


@pytest.mark.usefixtures("sandbox")
def test_app_secret_file_of_any_mode_is_read_where_the_environment_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a container's is."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o777)
    arguments = ("merchants", "--app-secret-file", str(path), "--json")
    assert 2 == run(*arguments).code
    monkeypatch.setenv("WXPAY_KEY_FILE_MODE", "any")
    assert (0, "") == (run(*arguments).code, run(*arguments).err)


def test_private_key_file_beside_a_secret_chooses_rsa(
    run: Run, sandbox: Sandbox, key_file: Path
) -> None:
    """The option wins over the secret in the environment."""
    assert 0 == run("merchants", "--private-key-file", str(key_file), "--json").code
    assert b"signType=RSA" in sandbox.platform.recent[-1].body


def test_options_win_over_the_environment(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--app-key and --base-url replace what the environment says."""
    monkeypatch.setenv("WXPAY_APP_KEY", "other")
    monkeypatch.setenv("WXPAY_BASE_URL", "http://127.0.0.1:9")
    found = run("merchants", "--app-key", sandbox.app_key, "--base-url", sandbox.url, "--json")
    assert 0 == found.code


@pytest.mark.usefixtures("sandbox")
def test_key_file_readable_by_others_prints_a_warning(run: Run, key_file: Path) -> None:
    """It is one line, without the line of code that Python adds."""
    key_file.chmod(0o644)
    found = run("merchants", "--limit", "1", "--private-key-file", str(key_file), "--json")
    assert (0, 1) == (found.code, found.err.count("\n"))
    assert found.err.startswith("warning: ")
    assert "chmod 600" in found.err


@pytest.mark.usefixtures("sandbox")
def test_key_that_is_not_registered_is_refused(run: Run, tmp_path: Path) -> None:
    """The platform refuses it: exit 1 with its code."""
    path = tmp_path / "foreign.pem"
    path.write_bytes((KEYS / "rsa3072.pem").read_bytes())
    path.chmod(0o600)
    found = run("query", *ORDER, "--private-key-file", str(path))
    assert 1 == found.code
    assert "CO_MSG_000006" in found.error()


@pytest.mark.usefixtures("sandbox")
def test_setting_without_its_extra_is_bad_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting whose extra is missing is one line too."""

    def raise_import_error(*_: object, **__: object) -> None:
        raise ImportError("the quota in Redis needs the extra: wxpay-async[redis]")

    monkeypatch.setattr(wxpay_async.PayGateway, "from_env", raise_import_error)
    found = run("query", *ORDER)
    assert 2 == found.code
    assert "wxpay-async[redis]" in found.error()
