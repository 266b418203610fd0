"""A sandbox for the commands, and an environment without settings of this machine."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from tests.cli.batches import call, hear, pay_order
from tests.cli.harness import KEY, PROGRAM, SECRET, Ended, Run, Start
from tests.support.clock import MovedClock
from tests.support.signers import keep_signers
from wxpay_async.adapters.limiters.limiter import Quota
from wxpay_async.cli import main
from wxpay_async.cli.progress import Progress
from wxpay_async.engine import environment
from wxpay_async.engine.telemetry import EventKind
from wxpay_async.sandbox import Sandbox


@pytest.fixture(scope="session", autouse=True)
def kept_signers() -> Iterator[None]:
    """Start sandboxes with keys that are loaded once."""
    with keep_signers():
        yield


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read English texts on every machine; a test may choose Chinese."""
    monkeypatch.setenv("WXPAY_LANG", "en")


@pytest.fixture
def run(english: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, without settings of the machine's environment."""
    del english
    for name in {name for name in os.environ if name.startswith("WXPAY_")} - {"WXPAY_LANG"}:
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


@pytest.fixture(scope="session")
def two_keys() -> list[RSA.RsaKey]:
    """Make two keys; that takes a second."""
    return [RSA.generate(2048), RSA.generate(2048)]


@pytest.fixture
def generated_keys(two_keys: list[RSA.RsaKey], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the demos of this process the same two keys by turns, instead of new ones."""
    turns = itertools.cycle(two_keys)
    monkeypatch.setattr(RSA, "generate", lambda _bits: next(turns))


@pytest.fixture
def process() -> Iterator[Start]:
    """Start commands as processes of their own; each is ended with its test."""
    started: list[subprocess.Popen[str]] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WXPAY_")}

    def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*PROGRAM, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**clean, "WXPAY_LANG": "en", **environ},
                # A shell's background job ignores Ctrl-C, and its children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
            )
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a quota that stops no test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "make_quota", lambda *_, **__: Quota(limit=60_000, lease=75.0))
    return tmp_path


@pytest.fixture
def paid(run: Run, sandbox: Sandbox) -> Sandbox:
    """Have an order paid that can be refunded."""
    pay_order(run, sandbox)
    return sandbox


@pytest.fixture
def clock() -> MovedClock:
    """Stand at noon in China."""
    return MovedClock()


@pytest.fixture
def china(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show times as in China."""
    monkeypatch.setenv("TZ", "CST-8")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def progress(clock: MovedClock) -> Progress:
    """Begin a batch of 10,000 lines."""
    return Progress(operation="refund", total=10_000, clock=clock)


@pytest.fixture
def waiting(china: None, progress: Progress, clock: MovedClock) -> Progress:
    """Have a batch wait for the quota, 200 of its lines having ended in 20 seconds."""
    del china
    call(progress, clock, 200, every=0.1)
    hear(progress, EventKind.CALL_STARTED)
    clock.move(3)
    return progress
