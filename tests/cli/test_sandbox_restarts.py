"""A sandbox that is stopped and started again, as processes: the same port, keys and orders."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.harness import Start, pay_at, wait_for
from tests.support.tasks import wait_until
from wxpay_async import PayGateway, TradeState


def find_free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def read_settings(started: subprocess.Popen[str], path: Path) -> dict[str, str]:
    """Wait until a sandbox listens, and read the settings that it wrote."""
    assert started.stderr is not None
    for line in started.stderr:
        if line.startswith("Console: "):
            break
    return dict(line.split("=", 1) for line in path.read_text("utf-8").splitlines())


def is_charged(path: Path) -> bool:
    """Return whether the charge of an order is on disk."""
    return path.exists() and '"charge"' in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("scheme", "end"),
    [
        ("md5", signal.SIGTERM),
        pytest.param("md5", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("rsa", signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
async def test_sandbox_that_starts_again_has_the_same_keys_and_orders(
    process: Start, tmp_path: Path, scheme: str, end: signal.Signals
) -> None:
    """A shop goes on with the settings that it has, also after the sandbox was killed."""
    port, state = find_free_port(), tmp_path / "state.json"
    files = ("--keys", str(tmp_path / "keys"), "--state", str(state))
    told = tmp_path / "sandbox.env"
    secret = ("--app-secret", "my-secret") if scheme == "md5" else ()
    options = ("sandbox", "--scheme", scheme, *files, *secret, "--env-file", str(told))

    first = process(*options, PORT=str(port))
    settings = read_settings(first, told)
    assert settings["WXPAY_BASE_URL"] == f"http://127.0.0.1:{port}"
    prepay = await pay_at(settings)
    await wait_until(lambda: is_charged(state), pause=0.02)
    first.send_signal(end)
    assert wait_for(first).code == (0 if end is signal.SIGTERM else -end)

    again = read_settings(process(*options, PORT=str(port)), told)
    assert again == settings
    prepay.verify_pay_sign(again["WXPAY_PAY_PUBLIC_KEY"])
    async with PayGateway.from_env(settings) as gateway:
        assert (await gateway.query(out_trade_no="1")).state is TradeState.PAID


def test_port_of_the_command_goes_before_that_of_the_environment(process: Start) -> None:
    """`--port` is the nearer wish."""
    port = find_free_port()
    started = process("sandbox", "--port", str(port), "--json", PORT="1")
    assert started.stdout is not None
    assert f"http://127.0.0.1:{port}" in started.stdout.readline()
