"""The commands that start a platform on this machine, as a person meets them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from tests.cli.harness import Run, Start, pay_at, wait_for
from wxpay_async import ACK_HANDLED, Md5Verifier, Notifications, RsaVerifier
from wxpay_async.protocol.keys import load_public_key

pytestmark = pytest.mark.usefixtures("generated_keys")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_ends_cleanly_by_a_signal(process: Start, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the sandbox with exit code 0, after one line of JSON."""
    started = process("sandbox", "--port", "0", "--json")
    settings = json.loads(read_line(started))
    started.send_signal(number)
    found = wait_for(started)
    assert (0, "") == (found.code, found.out)
    assert "Traceback" not in found.err
    keys = {"WXPAY_APP_SECRET", "WXPAY_PAY_PUBLIC_KEY"}
    assert {"WXPAY_BASE_URL", "WXPAY_APP_KEY"} | keys == set(settings)


def test_sandbox_says_in_chinese_where_it_listens(process: Start) -> None:
    """JSON on stdout is that of the English one."""
    started = process("sandbox", "--port", "0", "--json", WXPAY_LANG="zh")
    settings = json.loads(read_line(started))
    assert started.stderr is not None
    line = started.stderr.readline()
    assert f"控制台：{settings['WXPAY_BASE_URL']}/ （按 Ctrl-C 结束沙箱）\n" == line


def read_line(started: subprocess.Popen[str]) -> str:
    """Read a line of a process's stdout."""
    assert started.stdout is not None
    return started.stdout.readline()


def test_sandbox_with_a_key_prints_lines_for_a_shell(
    run: Run, process: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed lines can be pasted: a client with them is let in by its new key."""
    key = tmp_path / "a key.pem"
    started = process("sandbox", "--port", "0", "--scheme", "rsa", "--key-file", str(key))
    lines = [read_line(started)]
    while lines[-1] and "WXPAY_PLATFORM_KEY_FILE" not in lines[-1]:  # the last one
        lines.append(read_line(started))
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
    assert 0 == wait_for(started).code


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
async def test_sandbox_with_a_notify_url_sends_callbacks(
    process: Start, tmp_path: Path, scheme: str
) -> None:
    """They are signed so that the printed settings verify them."""
    taken: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def answer(request: web.BaseRequest) -> web.Response:
        await taken.put((dict(request.headers), await request.read()))
        return web.Response(body=ACK_HANDLED)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
    keys = ("--key-file", str(tmp_path / "a.pem"), "--callback-key-file", str(tmp_path / "b.pem"))
    options = ("--scheme", scheme, *(keys if scheme == "rsa" else ()))
    started = process("sandbox", "--port", "0", "--json", "--notify-url", address, *options)
    settings = json.loads(await asyncio.to_thread(read_line, started))
    prepay = await pay_at(settings)
    prepay.verify_pay_sign(settings["WXPAY_PAY_PUBLIC_KEY"])
    headers, body = await asyncio.wait_for(taken.get(), 60)
    verifier = (
        RsaVerifier.from_file(settings["WXPAY_PLATFORM_KEY_FILE"])
        if scheme == "rsa"
        else Md5Verifier(settings["WXPAY_APP_SECRET"])
    )
    read = Notifications(verifier, app_key=settings["WXPAY_APP_KEY"], allow_unsigned=False)
    notification = read.parse(headers, body)
    assert ("1", scheme == "rsa") == (notification.out_trade_no, notification.authentic)
    await runner.cleanup()


def test_sandbox_for_other_machines_prints_a_warning(process: Start) -> None:
    """--allow-remote lets the host pass, with a warning on stderr."""
    started = process("sandbox", "--port", "0", "--host", "0.0.0.0", "--allow-remote", "--json")
    assert read_line(started).startswith('{"WXPAY_BASE_URL": "http://127.0.0.1:')
    started.send_signal(signal.SIGTERM)
    assert wait_for(started).err.startswith("warning: other machines can reach this sandbox")


def test_sandbox_on_a_port_in_use_is_bad_input(run: Run) -> None:
    """The address in use is one line and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = run("sandbox", "--port", str(taken.getsockname()[1]))
    assert 2 == found.code
    assert "cannot listen there" in found.error()
