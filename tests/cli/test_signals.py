"""Ctrl-C and SIGTERM, before a request is sent, while its answer is awaited, and after it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.harness import ORDER, SECRET, TRADE, Ended, Run, Start, wait_for
from wxpay_async.cli import commands_client
from wxpay_async.sandbox import Sandbox


def accept_and_read(server: socket.socket) -> socket.socket:
    """Take one connection and one request, and never answer."""
    connection, _ = server.accept()
    connection.settimeout(30)
    assert connection.recv(65536)
    return connection


@pytest.mark.parametrize(
    ("command", "number", "code", "line"),
    [
        ([*TRADE, *ORDER, "--amount", "1"], signal.SIGINT, 4, "error: in doubt: interrupted"),
        (["query", *ORDER], signal.SIGINT, 130, "error: interrupted"),
        ([*TRADE, *ORDER, "--amount", "1"], signal.SIGTERM, 4, "error: in doubt: interrupted"),
        (["query", *ORDER], signal.SIGTERM, 143, "error: terminated"),
    ],
)
def test_signal_before_the_answer_depends_on_the_command(
    process: Start, command: Sequence[str], number: signal.Signals, code: int, line: str
) -> None:
    """An interrupted trade may have been executed, an interrupted query does no harm."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        started = process(*command, WXPAY_BASE_URL=url, WXPAY_APP_KEY="k", WXPAY_APP_SECRET=SECRET)
        with accept_and_read(server):
            started.send_signal(number)
            found: Ended = wait_for(started)
    assert code == found.code
    assert found.error().startswith(line)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGTERM, 143, "error: terminated\n"),
    ],
)
def test_signal_before_anything_is_sent_leaves_no_doubt(
    process: Start, number: signal.Signals, code: int, line: str
) -> None:
    """A trade that waits for its store was not executed."""
    pytest.importorskip("redis")
    settings = {"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": SECRET}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        store = f"redis://127.0.0.1:{server.getsockname()[1]}"
        started = process(*TRADE, *ORDER, "--amount", "1", WXPAY_STORE_URL=store, **settings)
        with accept_and_read(server):
            started.send_signal(number)
            found: Ended = wait_for(started)
    assert (code, line) == (found.code, found.error())


def test_signal_outside_of_the_event_loop_ends_a_command_by_its_own_exit_code(
    tmp_path: Path,
) -> None:
    """The first process of a container has no default for SIGTERM: it would go on."""
    program = (
        "import importlib, os, signal\n"
        "main = importlib.import_module('wxpay_async.cli.main')\n"
        "main.app = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
        "main.main(['demo'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (143, "error: terminated\n") == (ended.returncode, ended.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_the_answer_is_shown_says_that_it_was_executed(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Exit code 4, as where the answer cannot be written."""
    before = signal.getsignal(number)
    monkeypatch.setattr(
        commands_client, "print_result", lambda *_, **__: signal.raise_signal(number)
    )
    found = run(*TRADE, *ORDER, "--amount", "1")
    assert (4, 1) == (found.code, sandbox.platform.calls["/api/instant/trade"])
    assert found.error().startswith("error: in doubt: interrupted before the answer was shown")
    assert before == signal.getsignal(number)
