"""The tutorial runs as it is printed: its files, its commands, its tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from attrs import define, field

from tests.support.pages import DOCS, ROOT, find_blocks, find_files
from tests.support.vectors import PRIVATE_KEY

PAGE = DOCS / "tutorial.md"
COMMANDS = [block.text for block in find_blocks(PAGE) if block.language == "console"]
PATIENCE = 120.0  # seconds until a stuck test fails; nothing ever asserts on it


def find_free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@define(eq=False)
class Desk:
    """A folder with the files of the page, and terminals in it.

    Attributes:
        folder: where all of it is.
        ports: the page's ports, and those that are free here.
    """

    folder: Path
    ports: dict[str, str] = field(init=False)
    _settings: dict[str, str] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.ports = {port: str(find_free_port()) for port in ("8080", "8000")}
        for name, text in find_files(PAGE).items():
            (self.folder / name).write_text(text, encoding="utf-8")
        programs = self.folder / "bin"
        programs.mkdir()
        plugin = "-p wxpay_async.integrations.pytest"
        modules = {"wxpay-async": "wxpay_async", "uvicorn": "uvicorn", "pytest": f"pytest {plugin}"}
        for name, module in modules.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            program.chmod(0o755)
        self._settings = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "LC_ALL": "C.UTF-8",
        }

    def run(self, commands: str) -> list[str]:
        """Run the lines of a block; return what they print."""
        done = subprocess.run(
            ["bash", "-ec", self._here(commands)],
            cwd=self.folder,
            env=self._settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    @contextmanager
    def serve(self, commands: str, url: str) -> Iterator[None]:
        """Run the lines of a block until the end; wait until the address answers."""
        log = (self.folder / "log").open("a")
        process = subprocess.Popen(
            ["bash", "-ec", self._here(commands)],
            cwd=self.folder,
            env=self._settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            self._wait(process, self._here(url))
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)
            log.close()

    def _wait(self, process: subprocess.Popen[bytes], url: str) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                with urlopen(url):
                    return
            except URLError:
                told = (self.folder / "log").read_text()
                assert process.poll() is None, told
                assert time.monotonic() < until, told
            time.sleep(0.1)

    def _here(self, text: str) -> str:
        for printed, port in self.ports.items():
            text = text.replace(printed, port)
        return text.replace("curl ", "curl -sS ")

    def wait_for_order(self, show: str, printed: str) -> None:
        """Ask for the status of an order until it is this one: callbacks take a moment."""
        until = time.monotonic() + PATIENCE
        while (last := self.run(show)) != [printed]:
            assert time.monotonic() < until, last
            time.sleep(0.1)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Make the reader's folder."""
    return Desk(tmp_path)


@pytest.mark.slow  # starts nine processes
def test_commands_of_the_tutorial_do_what_it_says(desk: Desk) -> None:
    """Order, tap twice, pay, refund twice, hear of both, lose an answer; nothing stays open."""
    _, sandbox, shop, tap, confirm, show, refund, lose, doubts, _ = COMMANDS
    settings = "".join(shop.splitlines(keepends=True)[:2])
    with ExitStack() as stack:
        stack.enter_context(desk.serve(sandbox, "http://127.0.0.1:8080/sandbox"))
        stack.enter_context(desk.serve(shop, "http://127.0.0.1:8000/orders/N1"))
        taps = [desk.run(tap), desk.run(tap)]
        desk.run(confirm)
        desk.wait_for_order(show, '"paid"')
        refunds = desk.run(refund) + desk.run(refund)
        desk.wait_for_order(show.replace("N1", "N1-R"), '"refunded"')
        lost = desk.run(lose)[-1]
        still_open = desk.run(settings + doubts)
        ledger = "".join(desk.run("curl http://127.0.0.1:8080/sandbox/ledger"))

    assert taps[0] == taps[1]
    assert '"paySign"' in taps[0][0]
    assert refunds == ['"S"', '"S"']
    assert lost.endswith('"S"')
    assert 2 == ledger.count('"kind":"refund"')
    assert "unknown" not in "".join(still_open)


def test_suite_of_the_tutorial_passes(desk: Desk) -> None:
    """Its four tests, with the plugin and nothing else."""
    key = desk.folder / ".pytest_cache" / "d" / "wxpay" / "platform.pem"
    key.parent.mkdir(parents=True)
    key.write_bytes(PRIVATE_KEY.read_bytes())  # making one takes seconds

    printed = desk.run(COMMANDS[-1])

    assert "4 passed" in printed[-1]
