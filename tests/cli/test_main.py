"""The program around the commands: help, errors, exit codes and what is imported."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

import wxpay_async
from tests.cli.harness import (
    ORDER,
    PAY,
    SECRET,
    TRADE,
    Run,
    find_commands,
    run_python,
)
from wxpay_async import Fate
from wxpay_async.cli.main import EXIT_BY_FATE
from wxpay_async.extras import how_to_install
from wxpay_async.sandbox import Sandbox

CLIENT_COMMANDS = {"trade", "pay", "query", "refund", "merchants"}
BATCH_COMMANDS = {"batch", "worker"}
LOCAL_COMMANDS = {"demo", "sandbox"}
STORE_COMMANDS = {"store schema"}
KEY_COMMANDS = {"keys new", "keys show", "keys public"}
SIGN_COMMANDS = {"sign explain", "sign request", "sign verify"}
CHECK_COMMANDS = {"doctor"}
OPEN_COMMANDS = {"doubts list", "doubts show", "doubts resolve", "doubts recover"}
GATEWAY_COMMANDS = CLIENT_COMMANDS | BATCH_COMMANDS | CHECK_COMMANDS | OPEN_COMMANDS
LAZY_MODULES = (
    "aiohttp",  # and so aiohttp.web
    "asyncio",
    "cattrs",
    "Crypto",
    "cryptography",
    "importlib.metadata",
    "jinja2",
    "sqlalchemy",
    "taskiq",
    "wxpay_async.adapters",
    "wxpay_async.batch",
    "wxpay_async.engine",
    "wxpay_async.sandbox",
    "wxpay_async.cli.demo",
    "wxpay_async.cli.doctor",
    "wxpay_async.cli.help_texts",
    "wxpay_async.cli.key_facts",
    "wxpay_async.cli.sign_screen",
    "wxpay_async.protocol.explain",
)


COMMANDS = (
    *(CLIENT_COMMANDS | BATCH_COMMANDS | LOCAL_COMMANDS | STORE_COMMANDS),
    *(KEY_COMMANDS | CHECK_COMMANDS | SIGN_COMMANDS | OPEN_COMMANDS),
)


def test_program_has_these_commands_and_no_others() -> None:
    """Above all there is none that resumes, shows or cancels a batch."""
    assert set(COMMANDS) == set(find_commands())


def test_options_have_a_help_text() -> None:
    """No option is without one, and every command knows --json."""
    for command in find_commands().values():
        options = {name: option for option in command.params for name in option.opts}
        assert "--json" in options
        assert all(option.help for option in options.values())


@pytest.mark.parametrize(
    "name", sorted(CLIENT_COMMANDS | BATCH_COMMANDS | CHECK_COMMANDS | OPEN_COMMANDS)
)
def test_options_of_client_commands_take_no_secret(name: str) -> None:
    """Secrets come from files and the environment, where ps does not show them."""
    options = {option for param in find_commands()[name].params for option in param.opts}
    settings = {"--app-key", "--base-url", "--proxy", "--app-secret-file", "--private-key-file"}
    assert settings <= options
    assert not {"--app-secret", "--private-key", "--passphrase"} & options


@pytest.mark.parametrize("name", ["", "store", "keys", "doubts", *sorted(COMMANDS)])
def test_help_ends_with_the_exit_codes(run: Run, name: str) -> None:
    """Every help text does, and fits into 80 columns."""
    shown = run(*name.split(), "--help")
    assert 0 == shown.code
    assert "Exit codes: 0 done; 1 refused" in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 80


def test_help_imports_no_heavy_module() -> None:
    """A help text does not wait for the gateway, the sandbox or the demo."""
    shown = run_python(f"""
import sys
from wxpay_async.cli import main
try:
    main(["--help"])
finally:
    print([name for name in {LAZY_MODULES} if name in sys.modules], file=sys.stderr)
""")
    assert (0, "[]\n") == (shown.code, shown.err)
    assert "Exit codes" in shown.out


def test_program_without_a_command_shows_the_help(run: Run) -> None:
    """All commands are in it."""
    shown = run()
    assert 0 == shown.code
    assert all(name.partition(" ")[0] in shown.out for name in find_commands())


def test_version_is_the_version_of_the_package(run: Run) -> None:
    """It is one line."""
    assert (0, f"wxpay-async {wxpay_async.__version__}\n", "") == run("--version")


@pytest.mark.parametrize("extra", ["typer", "rich"])
def test_import_without_the_extra_says_what_to_install(extra: str) -> None:
    """A missing extra is named, with exit code 2 and no traceback."""
    found = run_python(
        f"import sys; sys.modules['{extra}'] = None; from wxpay_async.cli import main"
    )
    assert 2 == found.code
    assert how_to_install("cli") in found.error()


def test_import_without_another_module_shows_a_traceback(tmp_path: Path) -> None:
    """Only typer and rich are the extra's; anything else is a fault to be seen."""
    (tmp_path / "typer.py").write_text("import something_else_that_is_missing")
    found = run_python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import wxpay_async.cli")
    assert "something_else_that_is_missing" in found.err
    assert "[cli]" not in found.err


def test_fates_have_exit_codes_of_their_own() -> None:
    """Every fate has one, and no two share one."""
    assert set(Fate) == set(EXIT_BY_FATE)
    assert {1, 3, 4} == {code for _, code in EXIT_BY_FATE.values()}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("query", "WXPAY_APP_KEY"),
        ("query --app-key k", "WXPAY_APP_SECRET"),
        ("query --app-key k --private-key-file nowhere.pem", "nowhere.pem"),
        ("query --app-key k --app-secret-file nowhere.txt", "nowhere.txt"),
        ("query --app-key k --app-secret-file empty", "WXPAY_APP_SECRET_FILE: empty"),
        (
            "query --app-key k --app-secret-file empty --private-key-file empty",
            "--app-secret-file, --private-key-file: both given",
        ),
        ("query --app-key k --private-key-file empty", "empty: the key is empty"),
        ("query --app-key k --private-key-file short", "short: this is too short for a key\n"),
        ("sandbox --scheme rsa --key-file short", "short: this is too short for a key\n"),
        ("query --app-key k --base-url http://example.com", "WXPAY_BASE_URL"),
        ("query --app-key k --base-url http://127.0.0.1:9 --out-trade-no 1", "WXPAY_QUOTA_URL: "),
        ("query --app-key k --base-url http://127.0.0.1:9 --out-trade-no 1", "WXPAY_STORE_URL: "),
        ("query --bogus", "--bogus"),
        ("bogus", "bogus"),
        ("--bogus", "--bogus"),
        ("trade", "--out-trade-no"),
        ("refund --out-trade-no 1 --orig-out-trade-no 2 --amount", "--amount"),
        ("pay --out-trade-no 1 --openid o --app-id a", "payToken"),
        ("pay --out-trade-no 1 --openid o --app-id a --pay-token-file nowhere", "nowhere"),
        (
            "refund --out-trade-no 1 --orig-out-trade-no 2 --amount 1 --generation -1",
            "--generation",
        ),
        ("merchants --limit 0", "--limit"),
        ("demo --payments 0", "--payments"),
        ("demo --scheme rot13", "--scheme"),
        ("sandbox --port 65536", "--port"),
        ("sandbox --host 0.0.0.0", "--host"),
        ("sandbox --host example.com", "--host"),
        ("sandbox --host ::", "--host"),
        ("sandbox --notify-url http://192.0.2.1/notify", "notify_url"),
        ("sandbox --callback-key-file platform.pem", "--callback-key-file"),
    ],
)
def test_bad_input_is_named_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, named: str
) -> None:
    """The exit code is 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WXPAY_BASE_URL", "http://127.0.0.1:9")
    for name, content in (("empty", "\n"), ("short", "not a key")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    if "--app-key k --base-url" in command:
        monkeypatch.setenv("WXPAY_APP_SECRET", SECRET)
    if named.endswith("_URL: "):
        monkeypatch.setenv(named.removesuffix(": "), "zzz")
    found = run(*command.split())
    assert 2 == found.code
    assert named in found.error()


@pytest.mark.usefixtures("sandbox")
def test_refusal_exits_with_1_and_shows_the_code(run: Run) -> None:
    """The platform's words are in the line."""
    found = run("query", "--out-trade-no", "unknown")
    assert 1 == found.code
    assert "GM_API_BUS_" in found.error()


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(("language", "said"), [("en", "appSecret, or"), ("zh", "与平台后台核对")])
def test_refusal_has_a_line_with_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, language: str, said: str
) -> None:
    """It is the hint of the errorCode, in the language of the environment."""
    monkeypatch.setenv("WXPAY_APP_SECRET", "another")
    monkeypatch.setenv("WXPAY_LANG", language)
    found = run("query", *ORDER)
    line, hint = found.err.splitlines()
    assert "[CO_MSG_000006" in line
    assert hint.startswith("hint: " if language == "en" else "提示: ")
    assert said in hint


def test_bad_input_has_no_second_line(run: Run) -> None:
    """Its text names what is allowed."""
    assert 1 == run(*TRADE, *ORDER, "--amount", "x").err.count("\n")


@pytest.mark.usefixtures("sandbox")
def test_unreachable_server_exits_with_3(run: Run) -> None:
    """Nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = run("query", *ORDER, "--base-url", f"http://127.0.0.1:{port}")
    assert 3 == found.code
    assert found.error().startswith("error: not sent: ")


def test_failed_answers_exit_with_4_and_show_the_request_id(run: Run, sandbox: Sandbox) -> None:
    """Money may have moved: the line says so, and what to look for."""
    for _ in range(50):
        sandbox.platform.fail_next("CO_MSG_000003")
    found = run(*TRADE, *ORDER, "--amount", "1", "--request-id", "mine-1")
    assert 4 == found.code
    assert found.error().startswith("error: in doubt: ")
    assert "mine-1" in found.err


def test_other_content_at_the_platform_exits_with_4(run: Run, sandbox: Sandbox) -> None:
    """It was found out by sending, so neither text nor exit code may say that nothing was sent.

    Seen once, other content is a doubt: only the same content a minute later makes it a conflict.
    """
    assert 0 == run(*TRADE, *ORDER, "--amount", "1").code
    found = run(*TRADE, *ORDER, "--amount", "2")
    assert (4, 2) == (found.code, sandbox.platform.calls["/api/instant/trade"])
    assert found.error().startswith("error: in doubt: the requestId was used before")
    assert "not_sent" not in found.err


def test_other_content_in_the_store_exits_with_2(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That is bad input: nothing is sent."""
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("WXPAY_STORE_URL", f"sqlite:///{tmp_path}/wxpay.db")
    assert 0 == run(*TRADE, *ORDER, "--amount", "1").code
    found = run(*TRADE, *ORDER, "--amount", "2")
    assert (2, 1) == (found.code, sandbox.platform.calls["/api/instant/trade"])
    assert "other payMethod, tradeInfo" in found.error()


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    "command",
    [
        ["query", "--out-trade-no", "unknown"],
        ["query", *ORDER, "--app-key", "unknown"],
        [*TRADE, *ORDER, "--amount", "x"],
        [*PAY, *ORDER, "--pay-token", "canary-token"],
        ["query", *ORDER, "--private-key-file", "nowhere"],
    ],
)
def test_errors_show_no_secret(run: Run, command: Sequence[str]) -> None:
    """Neither the secret nor a payToken nor the openid is in an error."""
    found = run(*command)
    assert found.code
    assert "canary" not in found.error()
    assert "openid-of-payer" not in found.err


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [("wxpay-async do", "doctor\ndoubts\n"), ("wxpay-async keys pu", "public\n")],
)
def test_shell_completes_commands(typed: str, suggested: str) -> None:
    """As bash asks for it; `--install-completion` puts the asking into its start files."""
    words = str(len(typed.split()) - 1)
    found = run_python(f"""
import os, sys
sys.argv = ["wxpay-async"]
os.environ |= {{
    "_WXPAY_ASYNC_COMPLETE": "complete_bash", "COMP_WORDS": {typed!r}, "COMP_CWORD": {words!r},
}}
from wxpay_async.cli import main
main([])
""")
    assert (0, suggested) == (found.code, found.out)
