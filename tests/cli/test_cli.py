"""The command line as a person meets it: what it prints where, and what it exits with."""

import asyncio
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import typer
from aiohttp import web
from Crypto.PublicKey import RSA

from wxpay_async import (
    Fate,
    InvalidKeyError,
    InvalidRequestError,
    Md5Verifier,
    PayGateway,
    PayResult,
    RsaVerifier,
    TradeStatus,
    derive_request_id,
)
from wxpay_async.cli import demo, main, options, output
from wxpay_async.cli.sandbox_server import merchant_key, publish_key, serve
from wxpay_async.protocol.keys import load_private_key, load_public_key
from wxpay_async.protocol.notify import ACK_HANDLED, Notifications
from wxpay_async.sandbox import Sandbox

KEYS = Path(__file__).parents[1] / "vectors" / "keys"
KEY = RSA.import_key((KEYS / "pkcs8.pem").read_bytes())
SECRET = "canary-secret-0123456789"
PAYER = ("--openid", "openid-of-payer", "--app-id", "wx9236b1e84ffbf10a")
TRADE = ("trade", "--subject", "tea", "--payee", "1000", "--payer-ip", "11.22.33.44", *PAYER)
PAY = ("pay", *PAYER)
CLIENT_COMMANDS = {"trade", "pay", "query", "refund", "merchants"}
LOCAL_COMMANDS = {"demo", "sandbox"}


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    def fields(self) -> dict[str, Any]:
        """Read the one line of JSON that stdout must be."""
        assert (0, 1) == (self.code, self.out.count("\n")), self
        found: dict[str, Any] = json.loads(self.out)
        return found

    def error(self) -> str:
        """Return the one line of an error: nothing on stdout, no traceback."""
        assert "" == self.out
        assert 1 == self.err.count("\n"), self.err
        assert self.err.startswith("error: ")
        return self.err


Run = Callable[..., Ended]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, without settings of the machine's environment."""
    for name in [name for name in os.environ if name.startswith("WXPAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")

    def run_command(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    return run_command


@pytest.fixture
def sandbox(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Run a sandbox in another thread, and point the environment at it."""
    del run  # it clears the environment first
    running = Sandbox(
        app_secret=SECRET, merchant_public_key=KEY.public_key().export_key(), pay_key=KEY
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(running.start(), loop).result()
    for name, value in running.settings().items():
        monkeypatch.setenv(name, value)
    yield running
    asyncio.run_coroutine_threadsafe(running.aclose(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Return a private key that only its owner can read."""
    path = tmp_path / "merchant.pem"
    path.write_bytes((KEYS / "pkcs8.pem").read_bytes())
    path.chmod(0o600)
    return path


@pytest.fixture
def process() -> Iterator[Start]:
    """Start commands as processes of their own; none outlives its test."""
    started: list[subprocess.Popen[str]] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WXPAY_")}

    def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "wxpay_async.cli", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**clean, **environ},
                # A shell's background job ignores Ctrl-C, and its children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def ended(started: subprocess.Popen[str]) -> Ended:
    """Wait for a process."""
    out, err = started.communicate(timeout=60)
    return Ended(started.returncode, out, err)


def commands() -> dict[str, Any]:
    """Return every command with its parameters."""
    group: Any = typer.main.get_command(main.app)
    found: dict[str, Any] = group.commands
    return found


# The surface


def test_the_commands() -> None:
    """There are seven commands and no others."""
    assert CLIENT_COMMANDS | LOCAL_COMMANDS == set(commands())


def test_every_option_says_what_it_is() -> None:
    """No option is without a help text, and every command knows --json."""
    for command in commands().values():
        options = {name: option for option in command.params for name in option.opts}
        assert "--json" in options
        assert all(option.help for option in options.values())


@pytest.mark.parametrize("name", sorted(CLIENT_COMMANDS))
def test_no_secret_is_an_option(name: str) -> None:
    """Secrets come from files and the environment, where ps does not show them."""
    options = {option for param in commands()[name].params for option in param.opts}
    settings = {"--app-key", "--base-url", "--proxy", "--app-secret-file", "--private-key-file"}
    assert settings <= options
    assert not {"--app-secret", "--private-key", "--passphrase"} & options


@pytest.mark.parametrize("name", ["", *sorted(CLIENT_COMMANDS | LOCAL_COMMANDS)])
def test_help_tells_the_exit_codes(run: Run, name: str) -> None:
    """Every help ends with the exit codes and fits into 80 columns."""
    shown = run(*name.split(), "--help")
    assert 0 == shown.code
    assert "Exit codes: 0 done; 1 refused" in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 80


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    """Who types nothing sees the commands."""
    shown = run()
    assert 0 == shown.code
    assert all(name in shown.out for name in commands())


def test_version(run: Run) -> None:
    """The version is the package's."""
    assert (0, "wxpay-async 0.1.0\n", "") == run("--version")


@pytest.mark.parametrize("extra", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(extra: str) -> None:
    """A missing extra is named, with exit code 2 and no traceback."""
    code = f"import sys; sys.modules['{extra}'] = None; from wxpay_async.cli import main"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = Ended(done.returncode, done.stdout, done.stderr)
    assert 2 == found.code
    assert 'pip install "wxpay-async[cli]"' in found.error()


def test_another_missing_module_is_not_blamed_on_the_extra(tmp_path: Path) -> None:
    """Only typer and rich are the extra's; anything else is a fault to be seen."""
    (tmp_path / "typer.py").write_text("import something_else_that_is_missing")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import wxpay_async.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "something_else_that_is_missing" in done.stderr
    assert "wxpay-async[cli]" not in done.stderr


# Client commands that succeed


def test_from_the_order_to_the_refund(run: Run, sandbox: Sandbox) -> None:
    """The five client commands lead through one payment."""
    order = ("--out-trade-no", "201910170001")
    trade = run(*TRADE, *order, "--amount", "9.99", "--json").fields()
    prepay = run(*PAY, *order, "--pay-token", trade["payToken"], "--json").fields()
    assert {"timeStamp", "nonceStr", "package", "signType", "paySign"} == set(
        prepay["requestPayment"]
    )
    assert "awaiting" == run("query", *order, "--json").fields()["state"]
    sandbox.confirm("201910170001")
    status = run("query", "--trade-no", trade["tradeResList"][0]["tradeNo"], "--json").fields()
    assert ("paid", "9.99") == (status["state"], status["totalAmount"])
    refund = ("refund", "--out-trade-no", "R1", "--orig-out-trade-no", "201910170001")
    assert "S" == run(*refund, "--amount", "1.00", "--json").fields()["status"]
    kinds = [entry.kind for entry in sandbox.platform.ledger]
    assert ["trade", "pay", "charge", "refund"] == kinds


def test_the_amount_is_what_the_payer_pays(run: Run, sandbox: Sandbox) -> None:
    """With several pieces the amount is the sum, and the price its exact share."""
    run(*TRADE, "--out-trade-no", "1", "--amount", "9.99", "--quantity", "3", "--json").fields()
    item = sandbox.platform.trades["1"].item
    assert ("3.33", "3", "9.99") == (str(item.price), item.quantity, str(item.total_amount))


def test_request_ids_are_derived(run: Run, sandbox: Sandbox) -> None:
    """Without --request-id the same purchase has the same requestId in every process."""
    order = ("--out-trade-no", "1")
    token = run(*TRADE, *order, "--amount", "1", "--json").fields()["payToken"]
    run(*PAY, *order, "--pay-token", token)
    sandbox.confirm("1")
    run("refund", "--out-trade-no", "R", "--orig-out-trade-no", "1", "--amount", "1")
    purchases = (("trade", "1"), ("pay", "1"), ("refund", "R"))
    sent = [entry.request_id for entry in sandbox.platform.ledger if entry.request_id]
    assert [derive_request_id(sandbox.app_key, *purchase) for purchase in purchases] == sent


def test_the_appid_is_optional(run: Run, sandbox: Sandbox) -> None:
    """Without --app-id nothing is sent for it; the platform's own is used."""
    order = ("--out-trade-no", "1", "--openid", "openid-of-payer")
    trade = [each for each in TRADE if each not in {"--app-id", "wx9236b1e84ffbf10a"}]
    token = run(*trade, *order[:2], "--amount", "1", "--json").fields()["payToken"]
    assert "requestPayment" in run("pay", *order, "--pay-token", token, "--json").fields()
    assert not [call for call in sandbox.platform.recent if b"appId" in call.body]


def test_repeating_a_trade_makes_no_second_order(run: Run, sandbox: Sandbox) -> None:
    """The platform knows the purchase again, even from another process."""
    command = (*TRADE, "--out-trade-no", "1", "--amount", "1.00", "--json")
    run(*command).fields()
    assert run(*command).code in {0, 4}
    assert 1 == len(sandbox.platform.ledger)


def test_repeating_a_trade_with_another_payee_is_no_success(run: Run, sandbox: Sandbox) -> None:
    """In a process that remembers nothing, too: the first order stands, for the first payee."""
    command = (*TRADE, "--out-trade-no", "1", "--amount", "1.00", "--json")
    run(*command).fields()
    found = run(*command, "--payee", "999")
    assert 0 != found.code
    assert "other content" in found.error()
    assert 1 == len(sandbox.platform.ledger)


def test_a_request_id_of_ones_own(run: Run, sandbox: Sandbox) -> None:
    """--request-id is sent as it is."""
    run(*TRADE, "--out-trade-no", "1", "--amount", "1.00", "--request-id", "mine-1")
    assert ["mine-1"] == [entry.request_id for entry in sandbox.platform.ledger]


def test_the_next_generation_of_a_payment(run: Run, sandbox: Sandbox) -> None:
    """A payment that is repeated ends in doubt; under the next generation it is a new one."""
    order = ("--out-trade-no", "1")
    token = run(*TRADE, *order, "--amount", "1", "--json").fields()["payToken"]
    again = (*PAY, *order, "--pay-token", token, "--json")
    assert [0, 4] == [run(*again).code for _ in range(2)]
    prepay = run(*again, "--generation", "1").fields()
    assert derive_request_id(sandbox.app_key, "pay", "1", 1) == prepay["requestId"]


def test_the_next_generation_of_an_order_and_a_refund(run: Run, sandbox: Sandbox) -> None:
    """The requestIds of trade and refund have generations too."""
    order = ("--out-trade-no", "1")
    run(*TRADE, *order, "--amount", "1", "--generation", "2")
    token = sandbox.platform.trades["1"].purchase.pay_token
    run(*PAY, *order, "--pay-token", token)
    sandbox.confirm("1")
    refund = ("refund", "--out-trade-no", "R", "--orig-out-trade-no", "1", "--amount", "1")
    assert 0 == run(*refund, "--generation", "3").code
    sent = {entry.kind: entry.request_id for entry in sandbox.platform.ledger}
    assert derive_request_id(sandbox.app_key, "trade", "1", 2) == sent["trade"]
    assert derive_request_id(sandbox.app_key, "refund", "R", 3) == sent["refund"]


def test_a_generation_of_ones_own_request_id(run: Run, sandbox: Sandbox) -> None:
    """Which of the two would count is not guessed, and nothing is sent."""
    own = ("--request-id", "mine-1", "--generation", "1")
    found = run(*TRADE, "--out-trade-no", "1", "--amount", "1", *own)
    assert 2 == found.code
    assert "error: --generation: " in found.error()
    assert not sandbox.platform.calls


def test_the_pay_token_from_a_file(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """A payToken in a file is read without its line break."""
    del sandbox
    order = ("--out-trade-no", "1")
    token = run(*TRADE, *order, "--amount", "1.00", "--json").fields()["payToken"]
    path = tmp_path / "token"
    path.write_text(f"{token}\n")
    assert (
        "1.00" == run(*PAY, *order, "--pay-token-file", str(path), "--json").fields()["instAmount"]
    )


def test_the_pay_token_from_stdin(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dash stands for stdin."""
    del sandbox
    order = ("--out-trade-no", "1")
    token = run(*TRADE, *order, "--amount", "1.00", "--json").fields()["payToken"]
    stdin = io.TextIOWrapper(io.BytesIO(f"{token}\n".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert "1.00" == run(*PAY, *order, "--pay-token-file", "-", "--json").fields()["instAmount"]


def test_merchants_as_json_lines(run: Run, sandbox: Sandbox) -> None:
    """One object a line, from as many pages as it takes, and no more than asked for."""
    found = run("merchants", "--page-size", "10", "--limit", "25", "--json")
    ids = [json.loads(line)["merchantId"] for line in found.out.splitlines()]
    assert [merchant for merchant, _ in sandbox.platform.merchants[:25]] == ids
    assert 3 == sandbox.platform.calls["/api/company/merchants"]


def test_all_merchants_as_a_table(run: Run, sandbox: Sandbox) -> None:
    """Without a limit all come, with their names."""
    shown = run("merchants")
    assert (0, "") == (shown.code, shown.err)
    assert all(name in shown.out for _, name in sandbox.platform.merchants)


def test_human_output_shows_what_the_command_is_for(run: Run, sandbox: Sandbox) -> None:
    """The payToken, and an object for wx.requestPayment that can be copied in one piece."""
    del sandbox
    order = ("--out-trade-no", "1")
    lines = run(*TRADE, *order, "--amount", "1.00").out.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines)
    shown = run(*PAY, *order, "--pay-token", rows["payToken"].strip())
    params = json.loads(shown.out[shown.out.index("{") :])
    assert params["package"].startswith("prepay_id=")
    assert "paySign" not in shown.out[: shown.out.index("{")]


def test_texts_of_the_platform_are_shown_as_they_are(run: Run, sandbox: Sandbox) -> None:
    """What looks like markup or an emoji code is text."""
    del sandbox
    trade = [argument.replace("tea", "[bold]:tea:[/bold]") for argument in TRADE]
    run(*trade, "--out-trade-no", "1", "--amount", "1.00")
    assert "[bold]:tea:[/bold]" in run("query", "--out-trade-no", "1").out


def test_texts_of_the_platform_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Control characters are replaced for people and escaped in JSON."""
    status = TradeStatus(out_trade_no="1", status="\x1b[31mpaid\x9b2J")
    output.show(status, as_json=False)
    output.show(status, as_json=True)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert r"\u001b[31mpaid\u009b2J" in out


def test_unknown_fields_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """What the platform adds to an answer is printed beside what is known."""
    raw = {"outTradeNo": "1", "status": "paid", "novelty": {"list": ["x"]}}
    output.show(TradeStatus(out_trade_no="1", status="paid", raw=raw), as_json=True)
    assert {"list": ["x"]} == json.loads(capsys.readouterr().out)["novelty"]


# Settings


def test_the_secret_from_a_file(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--app-secret-file is enough, its line break is none of the secret."""
    del sandbox
    monkeypatch.delenv("WXPAY_APP_SECRET")
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    assert 0 == run("merchants", "--app-secret-file", str(path), "--json").code


def test_the_option_chooses_the_scheme(run: Run, sandbox: Sandbox, key_file: Path) -> None:
    """A key file wins over a secret in the environment: the call is signed by RSA."""
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


def test_a_key_that_others_can_read_is_warned_about(
    run: Run, sandbox: Sandbox, key_file: Path
) -> None:
    """One line of warning, without the line of code that Python adds."""
    del sandbox
    key_file.chmod(0o644)
    found = run("merchants", "--limit", "1", "--private-key-file", str(key_file), "--json")
    assert (0, 1) == (found.code, found.err.count("\n"))
    assert found.err.startswith("warning: ")
    assert "chmod 600" in found.err


# Errors


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("query", "WXPAY_APP_KEY"),
        ("query --app-key k", "WXPAY_APP_SECRET"),
        ("query --app-key k --private-key-file nowhere.pem", "nowhere.pem"),
        ("query --app-key k --app-secret-file nowhere.txt", "nowhere.txt"),
        ("query --app-key k --app-secret-file empty", "--app-secret-file: empty is empty"),
        (
            "query --app-key k --app-secret-file empty --private-key-file empty",
            "--app-secret-file, --private-key-file: both given",
        ),
        ("query --app-key k --private-key-file empty", "empty: the key is empty"),
        ("query --app-key k --private-key-file short", "short: this is too short for a key\n"),
        ("sandbox --scheme rsa --key-file short", "short: this is too short for a key\n"),
        ("query --app-key k --base-url http://example.com", "base_url"),
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
def test_bad_input_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, named: str
) -> None:
    """What cannot be used is named in one line, with exit code 2."""
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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--amount", "1.005"], "amount"),
        (["--amount", "10", "--quantity", "3"], "price"),
        (["--amount", "1", "--payer-ip", "here"], "payerIp"),
        (["--amount", "1", "--timeout-express", "5m"], "timeoutExpress"),
        (["--amount", "1", "--request-id", "x" * 33], "requestId"),
        (["--amount", "1", "--timeout", "1"], "timeout"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_sent(
    run: Run, sandbox: Sandbox, arguments: Sequence[str], named: str
) -> None:
    """The platform's name of the field stands in the error."""
    found = run(*TRADE, "--out-trade-no", "1", *arguments)
    assert 2 == found.code
    assert f"error: {named}: " in found.error()
    assert not sandbox.platform.calls


def test_no_openid_in_a_mini_program(run: Run, sandbox: Sandbox) -> None:
    """A scanned product needs no openid, a mini main does."""
    del sandbox
    trade = "trade --subject tea --payee 1000 --payer-ip 1.2.3.4 --amount 1 --out-trade-no 1"
    assert "error: openId: " in run(*trade.split()).error()
    assert 0 == run(*trade.split(), "--pay-product-code", "65").code


def test_a_refusal_shows_the_code(run: Run, sandbox: Sandbox) -> None:
    """A business refusal exits with 1 and the platform's words."""
    del sandbox
    found = run("query", "--out-trade-no", "unknown")
    assert 1 == found.code
    assert "GM_API_BUS_" in found.error()


def test_the_wrong_key(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """A key that is not the registered one is refused by the platform: exit 1 with its code."""
    del sandbox
    path = tmp_path / "foreign.pem"
    path.write_bytes((KEYS / "rsa3072.pem").read_bytes())
    path.chmod(0o600)
    found = run("query", "--out-trade-no", "1", "--private-key-file", str(path))
    assert 1 == found.code
    assert "CO_MSG_000006" in found.error()


def test_a_server_that_cannot_be_reached(run: Run, sandbox: Sandbox) -> None:
    """Nothing was sent: exit 3."""
    del sandbox
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = run("query", "--out-trade-no", "1", "--base-url", f"http://127.0.0.1:{port}")
    assert 3 == found.code
    assert found.error().startswith("error: not sent: ")


def test_an_answer_that_leaves_doubt(run: Run, sandbox: Sandbox) -> None:
    """Who may have moved money is told so: exit 4 with the requestId to look for."""
    for _ in range(50):
        sandbox.platform.fail_next("CO_MSG_000003")
    found = run(*TRADE, "--out-trade-no", "1", "--amount", "1", "--request-id", "mine-1")
    assert 4 == found.code
    assert found.error().startswith("error: in doubt: ")
    assert "mine-1" in found.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_answer_that_cannot_be_written(sandbox: Sandbox, options: Sequence[str]) -> None:
    """The order was made, so the exit code must not say that it was refused."""
    command = (sys.executable, "-m", "wxpay_async.cli", *TRADE, "--out-trade-no", "1")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--amount", "1", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert 1 == len(sandbox.platform.ledger)
    assert 4 == done.returncode
    assert "could not be written" in Ended(4, "", done.stderr).error()


def test_other_content_at_the_platform(run: Run, sandbox: Sandbox) -> None:
    """It was found out by sending, so neither text nor exit code may say that nothing was sent."""
    assert 0 == run(*TRADE, "--out-trade-no", "1", "--amount", "1").code
    found = run(*TRADE, "--out-trade-no", "1", "--amount", "2")
    assert (4, 2) == (found.code, sandbox.platform.calls["/api/instant/trade"])
    assert found.error().startswith("error: in doubt: the platform holds this requestId with other")
    assert "not_sent" not in found.err


def test_other_content_in_the_own_store(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That is bad input: nothing is sent."""
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("WXPAY_STORE_URL", f"sqlite:///{tmp_path}/wxpay.db")
    assert 0 == run(*TRADE, "--out-trade-no", "1", "--amount", "1").code
    found = run(*TRADE, "--out-trade-no", "1", "--amount", "2")
    assert (2, 1) == (found.code, sandbox.platform.calls["/api/instant/trade"])
    assert "other payMethod, tradeInfo" in found.error()


def test_every_fate_has_an_exit_code() -> None:
    """No error can fall through, and no two fates share a code."""
    assert set(Fate) == set(main.FATES)
    assert {1, 3, 4} == {code for _, code in main.FATES.values()}


@pytest.mark.parametrize(
    "command",
    [
        ["query", "--out-trade-no", "unknown"],
        ["query", "--out-trade-no", "1", "--app-key", "nobody"],
        [*TRADE, "--out-trade-no", "1", "--amount", "x"],
        [*PAY, "--out-trade-no", "1", "--pay-token", "canary-token"],
        ["query", "--out-trade-no", "1", "--private-key-file", "nowhere"],
    ],
)
def test_errors_never_show_secrets(run: Run, sandbox: Sandbox, command: Sequence[str]) -> None:
    """Neither the secret nor a payToken nor the openid stands in an error."""
    del sandbox
    found = run(*command)
    assert found.code
    assert "canary" not in found.error()
    assert "openid-of-payer" not in found.err


def test_an_extra_that_a_setting_needs(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting whose extra is missing is one line too."""

    def missing(*_: object, **__: object) -> None:
        raise ImportError("the quota in Redis needs the extra: wxpay-async[redis]")

    del sandbox
    monkeypatch.setattr(options.PayGateway, "from_env", missing)
    found = run("query", "--out-trade-no", "1")
    assert 2 == found.code
    assert "wxpay-async[redis]" in found.error()


# As processes


def hang(server: socket.socket) -> socket.socket:
    """Take one connection and one request, and never answer."""
    connection, _ = server.accept()
    connection.settimeout(30)
    assert connection.recv(65536)
    return connection


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ([*TRADE, "--out-trade-no", "1", "--amount", "1"], 4, "error: in doubt: interrupted"),
        (["query", "--out-trade-no", "1"], 130, "error: interrupted"),
    ],
)
def test_ctrl_c_while_the_answer_is_awaited(
    process: Start, command: Sequence[str], code: int, said: str
) -> None:
    """An interrupted trade may have been executed, an interrupted query cannot hurt."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        started = process(*command, WXPAY_BASE_URL=url, WXPAY_APP_KEY="k", WXPAY_APP_SECRET=SECRET)
        with hang(server):
            started.send_signal(signal.SIGINT)
            found = ended(started)
    assert code == found.code
    assert found.error().startswith(said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sandbox_ends_cleanly(process: Start, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the sandbox with exit code 0, after one line of JSON."""
    started = process("sandbox", "--port", "0", "--json")
    assert started.stdout is not None
    settings = json.loads(started.stdout.readline())
    started.send_signal(number)
    found = ended(started)
    assert (0, "") == (found.code, found.out)
    assert "Traceback" not in found.err
    keys = {"WXPAY_APP_SECRET", "WXPAY_PAY_PUBLIC_KEY"}
    assert {"WXPAY_BASE_URL", "WXPAY_APP_KEY"} | keys == set(settings)


def test_a_sandbox_with_a_key(
    run: Run, process: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed lines can be pasted: a client with them is let in by its new key."""
    key = tmp_path / "a key.pem"
    started = process("sandbox", "--port", "0", "--scheme", "rsa", "--key-file", str(key))
    assert started.stdout is not None
    lines = [started.stdout.readline()]
    while lines[-1] and "WXPAY_PLATFORM_KEY_FILE" not in lines[-1]:  # the last one
        lines.append(started.stdout.readline())
    shell = subprocess.run(
        ["sh", "-c", f"{''.join(lines)} env"], capture_output=True, text=True, check=True, env={}
    )
    pairs = [line.split("=", 1) for line in shell.stdout.splitlines()]
    settings = {name: value for name, value in pairs if name.startswith("WXPAY_")}
    assert str(key) == settings["WXPAY_PRIVATE_KEY_FILE"]
    assert str(tmp_path / "sandbox-platform.pem") == settings["WXPAY_PLATFORM_KEY_FILE"]
    assert load_public_key(settings["WXPAY_PAY_PUBLIC_KEY"])
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert 0 == run("merchants", "--limit", "1").code
    started.send_signal(signal.SIGINT)
    assert 0 == ended(started).code


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
async def test_a_sandbox_that_calls_back(process: Start, tmp_path: Path, scheme: str) -> None:
    """What is paid is told to --notify-url, signed so that the printed settings verify it."""
    taken: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def take(request: web.BaseRequest) -> web.Response:
        await taken.put((dict(request.headers), await request.read()))
        return web.Response(body=ACK_HANDLED)

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
    keys = ("--key-file", str(tmp_path / "a.pem"), "--callback-key-file", str(tmp_path / "b.pem"))
    options = ("--scheme", scheme, *(keys if scheme == "rsa" else ()))
    started = process("sandbox", "--port", "0", "--json", "--notify-url", address, *options)
    assert started.stdout is not None
    settings = json.loads(await asyncio.to_thread(started.stdout.readline))
    prepay = await pay_one(settings)
    prepay.verify_pay_sign(settings["WXPAY_PAY_PUBLIC_KEY"])
    headers, body = await asyncio.wait_for(taken.get(), 60)
    verifier = (
        RsaVerifier.from_file(settings["WXPAY_PLATFORM_KEY_FILE"])
        if scheme == "rsa"
        else Md5Verifier(settings["WXPAY_APP_SECRET"])
    )
    read = Notifications(verifier, app_key=settings["WXPAY_APP_KEY"], allow_unsigned=False)
    told = read.parse(headers, body)
    assert ("1", scheme == "rsa") == (told.out_trade_no, told.authentic)
    await runner.cleanup()


async def pay_one(settings: dict[str, str]) -> PayResult:
    """Pay order 1 at the sandbox that the settings lead to."""
    order = demo.Order(number="1", amount=Decimal(1), refunded=False)
    async with PayGateway.from_env(settings) as gateway, aiohttp.ClientSession() as payer:
        prepay = await demo._prepay(gateway, order)
        address = f"{settings['WXPAY_BASE_URL']}/sandbox/confirm"
        async with payer.post(address, data={"outTradeNo": "1"}) as answer:
            assert 200 == answer.status
    return prepay


def test_a_sandbox_for_other_machines_is_warned_about(process: Start) -> None:
    """--allow-remote lets the host pass, with a warning on stderr."""
    started = process("sandbox", "--port", "0", "--host", "0.0.0.0", "--allow-remote", "--json")
    assert started.stdout is not None
    assert started.stdout.readline().startswith('{"WXPAY_BASE_URL": "http://127.0.0.1:')
    started.send_signal(signal.SIGTERM)
    assert ended(started).err.startswith("warning: other machines can reach this sandbox")


def test_a_port_that_is_taken(run: Run) -> None:
    """The address in use is one line and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = run("sandbox", "--port", str(taken.getsockname()[1]))
    assert 2 == found.code
    assert "cannot listen there" in found.error()


# A sandbox to keep


async def test_serve_runs_until_it_is_cancelled() -> None:
    """The announcement comes when the sandbox listens; afterwards the port is free again."""
    sandbox, listening = Sandbox(pay_key=KEY), asyncio.Event()
    serving = asyncio.ensure_future(serve(sandbox, listening.set))
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


async def test_serve_on_a_port_that_is_taken() -> None:
    """A port in use is bad input, and nothing is announced."""
    announced: list[None] = []
    announce: Callable[[], None] = lambda: announced.append(None)  # noqa: E731 - its type
    async with Sandbox(pay_key=KEY) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(InvalidRequestError, match="cannot listen there"):
            await serve(Sandbox(port=port, pay_key=KEY), announce)
    assert [] == announced


def test_merchant_key_is_made_once(tmp_path: Path) -> None:
    """A key that is not there is made for its owner only, and used again afterwards."""
    path = tmp_path / "merchant.pem"
    public = merchant_key(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert public == load_private_key(path.read_bytes()).public_key().export_key().decode()
    before = path.read_bytes()
    assert public == merchant_key(path)
    assert before == path.read_bytes()


def test_merchant_key_never_overwrites(tmp_path: Path) -> None:
    """A file that holds something else is refused and left alone."""
    path = tmp_path / "notes.txt"
    path.write_text("not a key")
    path.chmod(0o600)
    with pytest.raises(InvalidKeyError):
        merchant_key(path)
    assert "not a key" == path.read_text()


def test_the_public_key_replaces_an_older_one(tmp_path: Path) -> None:
    """A sandbox has a new key with each start, and its file follows."""
    path = tmp_path / "platform.pem"
    for name in ("public.pem", "rsa3072-public.pem"):
        pem = (KEYS / name).read_text()
        publish_key(path, pem)
        assert pem == path.read_text()


@pytest.mark.parametrize("content", [(KEYS / "pkcs8.pem").read_text(), "notes"])
def test_the_public_key_replaces_nothing_else(tmp_path: Path, content: str) -> None:
    """A private key, or anything that is no key, is left alone."""
    path = tmp_path / "merchant.pem"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKeyError):
        publish_key(path, (KEYS / "public.pem").read_text())
    assert content == path.read_text()


def test_merchant_key_through_a_dangling_link(tmp_path: Path) -> None:
    """A link to nowhere is not followed when the key is written."""
    link = tmp_path / "merchant.pem"
    link.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(InvalidKeyError, match="cannot be written"):
        merchant_key(link)
    assert not (tmp_path / "elsewhere.pem").exists()


def test_merchant_key_with_a_passphrase(tmp_path: Path) -> None:
    """An encrypted key is opened by its passphrase."""
    path = tmp_path / "merchant.pem"
    path.write_bytes(KEY.export_key(passphrase="pass", pkcs=8))
    path.chmod(0o600)
    assert KEY.public_key().export_key().decode() == merchant_key(path, "pass")
    with pytest.raises(InvalidKeyError, match="passphrase"):
        merchant_key(path)


# The demo


def test_the_demo_as_a_process(process: Start) -> None:
    """Twenty payments by both schemes: exit 0, one object on stdout, nothing on stderr."""
    found = ended(process("demo", "--payments", "20", "--json"))
    report = found.fields()
    assert "" == found.err
    assert report["ok"] is True
    assert [("rsa", 10, 10, 1), ("md5", 10, 10, 1)] == [
        (run["scheme"], run["payments"], run["paid"], run["refunded"]) for run in report["schemes"]
    ]
    assert [(11, 11, 0), (11, 11, 11)] == [
        (run["callbacks"], run["verified"], run["confirmed"]) for run in report["schemes"]
    ]


@pytest.mark.parametrize(
    ("scheme", "payments", "counts"),
    [
        ("rsa", "3", {"rsa": 3}),
        ("md5", "3", {"md5": 3}),
        ("both", "3", {"rsa": 2, "md5": 1}),
        ("both", "1", {"rsa": 1}),
    ],
)
def test_the_demo_shares_its_payments(
    run: Run, scheme: str, payments: str, counts: dict[str, int]
) -> None:
    """Two schemes share the payments; a scheme with none is left out."""
    report = run("demo", "--scheme", scheme, "--payments", payments, "--json").fields()
    assert counts == {each["scheme"]: each["paid"] for each in report["schemes"]}


def test_the_demo_for_people(run: Run) -> None:
    """A table within 80 columns, a verdict, and an object that can be copied; no bar in a pipe."""
    shown = run("demo", "--payments", "2")
    above, brace, below = shown.out.partition("{")
    assert (0, "") == (shown.code, shown.err)
    assert max(len(line) for line in above.splitlines()) <= 80
    assert "Every order was charged once" in above
    header, *_ = [line.split() for line in above.splitlines() if "scheme" in line]
    rows = [dict(zip(header, line.split(), strict=True)) for line in above.splitlines()[3:5]]
    assert [("RSA", "2", "2", "0"), ("MD5", "2", "2", "2")] == [
        (row["scheme"], row["callbacks"], row["verified"], row["confirmed"]) for row in rows
    ]
    assert "━" not in above
    assert "paySign" in json.loads(brace + below)


class ChargesTwice(Sandbox):
    """Takes all money twice."""

    def confirm(self, out_trade_no: str) -> None:
        """Confirm, and charge again."""
        super().confirm(out_trade_no)
        self.platform.ledger.append(self.platform.ledger[-1])


class TellsOfNothing(Sandbox):
    """Has no callbacks."""

    async def start(self) -> None:
        """Start, and forget how to tell."""
        await super().start()
        self.platform.notify = lambda _: None


def test_a_demo_without_callbacks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks that are missing end the demo with exit code 1 as well."""
    monkeypatch.setattr(demo, "Sandbox", TellsOfNothing)
    found = run("demo", "--payments", "3")
    assert 1 == found.code
    assert 5 == found.out.count("the callbacks tell of 0 × ")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_demo_that_goes_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: Sequence[str]
) -> None:
    """Every order that is off is listed, and the exit code is 1."""
    monkeypatch.setattr(demo, "Sandbox", ChargesTwice)
    found = run("demo", "--payments", "3", "--scheme", "md5", *options)
    assert 1 == found.code
    assert "error: the demo went wrong in 3 places\n" == found.err
    assert 3 == found.out.count("the ledger holds 2 × charge") + found.out.count(r"2 \u00d7 charge")
    assert "Every order was charged once" not in found.out


def test_a_long_list_of_problems_is_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """People see the first twenty and how many there are beside them."""
    monkeypatch.setattr(demo, "Sandbox", ChargesTwice)
    found = run("demo", "--payments", "23", "--scheme", "md5")
    assert 20 == found.out.count("the ledger holds 2 × charge")
    assert "and 3 more" in found.out
