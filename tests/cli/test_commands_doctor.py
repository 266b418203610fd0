"""The command that checks what is set up: its lines, its JSON, its exit codes, and no secret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.cli.harness import KEY, SECRET, Ended, Run
from tests.support.canaries import find_leaks, list_key_secrets
from tests.support.servers import find_free_port
from tests.support.vectors import PRIVATE_KEY, PUBLIC_KEY
from wxpay_async import SqlStore
from wxpay_async.cli.key_facts import describe_key
from wxpay_async.sandbox import Sandbox

PASSWORD = "canary-password-8e2"
PASSPHRASE = "canary-passphrase-4b7"
SEAL_KEY = "ca" * 31 + "7e"
PUBLIC = describe_key(PUBLIC_KEY.read_bytes()).public_base64

Set = Callable[..., None]


@pytest.fixture
def set_up(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Set:
    """Change variables of a set-up that is right; None takes one away."""
    del sandbox

    def change(**variables: str | None) -> None:
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(f"WXPAY_{name}")
            else:
                monkeypatch.setenv(f"WXPAY_{name}", value)

    return change


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return the address of a store with its tables."""
    url = f"sqlite:///{tmp_path}/store.db"

    async def make() -> None:
        made = SqlStore(url)
        await made.open()
        await made.aclose()

    asyncio.run(make())
    return url


def look(run: Run) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the checks that are not ok, by their names."""
    found = run("doctor", "--json")
    report = json.loads(found.out)
    assert report["exitCode"] == found.code
    assert ("error: " in found.err) is (found.code != 0)
    checks = report["checks"]
    assert {"ok", "warning", "failed"} >= {each["status"] for each in checks}
    assert all(each["advice"] for each in checks if each["status"] == "failed")
    return found.code, {each["name"]: each for each in checks if each["status"] != "ok"}


# Everything right


def test_everything_right_by_rsa_is_ok(run: Run, set_up: Set, key_file: Path, store: str) -> None:
    """There is not even a warning, and the public key to upload is there."""
    set_up(APP_SECRET=None, PRIVATE_KEY_FILE=str(key_file), STORE_URL=store)
    assert (0, {}) == look(run)
    found = run("doctor")
    assert (0, "") == (found.code, found.err)
    assert "checks, none failed, 0 warnings" in found.out
    assert PUBLIC in found.out.splitlines()


@pytest.mark.usefixtures("sandbox")
def test_memory_is_the_only_warning_by_default(run: Run) -> None:
    """It is told what to do."""
    code, checks = look(run)
    assert (0, ["store"]) == (code, list(checks))
    assert "WXPAY_STORE_URL" in checks["store"]["advice"]


def test_options_win_over_the_environment(run: Run, set_up: Set) -> None:
    """As with the commands that call a platform."""
    set_up(APP_KEY="other")
    assert 1 == look(run)[0]
    found = run("doctor", "--app-key", "sandbox-app-key", "--json")
    lines = {each["name"]: each for each in found.fields()["checks"]}
    assert "option" == lines["WXPAY_APP_KEY"]["origin"]
    assert "environment" == lines["WXPAY_BASE_URL"]["origin"]


# The screen


def test_screen_fits_into_80_columns(run: Run, set_up: Set, key_file: Path) -> None:
    """All but the public key, which is copied in one piece."""
    set_up(
        APP_SECRET=None,
        PRIVATE_KEY_FILE=str(key_file),
        STORE_URL=f"postgresql://u:p@127.0.0.1:{find_free_port()}/a_database_with_a_long_name",
        FORMER="1",
    )
    found = run("doctor")
    lines = found.out.splitlines()
    assert lines.index(PUBLIC) == len(lines) - 1
    assert max(len(line) for line in lines[:-1]) <= 80
    fingerprint = describe_key(PUBLIC_KEY.read_bytes()).fingerprint
    assert any(line.rstrip().endswith(fingerprint) for line in lines)
    assert found.err.startswith("error: 1 of ")
    assert found.err.endswith("mend first: store\n")


def test_screen_in_chinese_fits_into_80_columns(
    run: Run, set_up: Set, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Chinese character takes two of them; names of settings and tools stay."""
    set_up(STORE_URL=store)
    monkeypatch.setenv("WXPAY_LANG", "zh")
    found = run("doctor")
    lines = found.out.splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    assert "正常 WXPAY_APP_SECRET: 已设置（环境变量）" in [line.rstrip() for line in lines]
    assert lines[-1].endswith("没有失败，0 项需注意")
    assert "" == found.err


def test_text_cannot_control_the_terminal(run: Run, set_up: Set, sandbox: Sandbox) -> None:
    """Neither a setting nor what the platform says can turn the rest of the line around."""
    set_up(APP_KEY="key\u202e")
    assert "WXPAY_APP_KEY: key\N{REPLACEMENT CHARACTER} (environment)" in run("doctor").out
    set_up(APP_KEY=sandbox.app_key)
    sandbox.platform.fail_next("CO_MSG_\u202e")
    assert "CO_MSG_\N{REPLACEMENT CHARACTER}" in run("doctor").out


# No secret


def test_no_output_has_a_secret(run: Run, set_up: Set, key_file: Path, tmp_path: Path) -> None:
    """Whatever is set, right or wrong, as text and as JSON."""
    locked = tmp_path / "locked.pem"
    locked.write_bytes(KEY.export_key(pkcs=8, passphrase=PASSPHRASE))
    locked.chmod(0o600)
    secret_file = tmp_path / "secret.txt"
    secret_file.write_text(SECRET)
    secret_file.chmod(0o600)
    port = find_free_port()
    sound = {
        "SEAL_KEY": SEAL_KEY,
        "FORMER_SECRETS": SECRET,
        "STORE_URL": f"postgresql://{PASSWORD}:{PASSWORD}@127.0.0.1:{port}/db?password={PASSWORD}",
        "QUOTA_URL": f"redis://{PASSWORD}:{PASSWORD}@127.0.0.1:{port}/0",
        "PROXY": f"http://{PASSWORD}:{PASSWORD}@127.0.0.1:{port}",
        "PRIVATE_KEY_PASSPHRASE": PASSPHRASE,
    }
    rsa: dict[str, str | None] = {"APP_SECRET": None, "PRIVATE_KEY_FILE": str(locked)}
    setups: dict[str, dict[str, str | None]] = {
        "md5": {},
        "a wrong secret": {"APP_SECRET": f"{SECRET}x"},
        "everything": {**sound},
        "a secret file": {"APP_SECRET": None, "APP_SECRET_FILE": str(secret_file)},
        "a secret as a path": {"APP_SECRET_FILE": SECRET},
        "a secret as the appKey": {
            "APP_SECRET_FILE": None,
            "APP_SECRET": SECRET,
            "APP_KEY": SECRET,
        },
        "a key as a path": {**rsa, "PRIVATE_KEY_FILE": PRIVATE_KEY.read_text()},
        "a secret as the path of a key": {"PRIVATE_KEY_FILE": SECRET, "APP_KEY": "sandbox-app-key"},
        "rsa": {"PRIVATE_KEY_FILE": str(key_file)},
        "an encrypted key": {"PRIVATE_KEY_FILE": str(locked)},
        "a wrong passphrase": {"PRIVATE_KEY_PASSPHRASE": f"{PASSPHRASE}x"},
        "quotes": {"SEAL_KEY": f'"{SEAL_KEY}"'},
        "a wrong key": {"SEAL_KEY": f"{SEAL_KEY}!"},
        "wrong addresses": {
            "SEAL_KEY": SEAL_KEY,
            "STORE_URL": f"{PASSWORD}://{PASSWORD}",
            "QUOTA_URL": f"rediss://{PASSWORD}@h:x",
            "PROXY": f"ftp://{PASSWORD}@h",
            "BASE_URL": f"https://{PASSWORD}@127.0.0.1",
        },
    }
    canaries = {
        "the secret": SECRET,
        "the password": PASSWORD,
        "the passphrase": PASSPHRASE,
        "the sealing key": SEAL_KEY,
        **list_key_secrets("key", PRIVATE_KEY.read_bytes()),
    }
    places: dict[str, str] = {}
    for name, variables in setups.items():
        set_up(**variables)
        for more in ([], ["--json"]):
            found: Ended = run("doctor", *more)
            assert found.out
            places[f"{name} {more}"] = found.out + found.err
    assert [] == find_leaks(places, canaries)
