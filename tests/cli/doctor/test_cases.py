# ruff: noqa: E501 - a case is a row
"""What can be wrong with a set-up, one case a row: the line that tells it, and what it says.

Each row changes a set-up that is right: RSA, a store with its tables, a platform that answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.cli.harness import Run
from tests.contract.transports import Certificates
from tests.support.servers import find_free_port
from tests.support.sql_databases import write_version_1
from tests.support.vectors import PUBLIC_KEY
from wxpay_async import SqlStore
from wxpay_async.sandbox import Sandbox

PASSWORD = "canary-password-8e2"
SIGNERS = "WXPAY_APP_SECRET, WXPAY_APP_SECRET_FILE, WXPAY_PRIVATE_KEY, WXPAY_PRIVATE_KEY_FILE"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@attrs.frozen
class Bench:
    """A set-up that is right, and what breaks it."""

    sandbox: Sandbox
    key_file: Path
    store: Path
    certificates: Certificates
    stack: contextlib.ExitStack
    patch: pytest.MonkeyPatch

    def set(self, **variables: str | None) -> None:
        """Change settings; None takes one away."""
        for name, value in variables.items():
            if value is None:
                self.patch.delenv(f"WXPAY_{name}", raising=False)
            else:
                self.patch.setenv(f"WXPAY_{name}", value)

    def leave_right(self) -> None:
        """Break nothing."""

    def lose(self, name: str) -> None:
        """Take a setting away."""
        self.set(**{name: None})

    def give_public_key(self) -> None:
        """Give the public key in the place of the private one."""
        self.set(PRIVATE_KEY_FILE=str(PUBLIC_KEY))

    def let_others_write_key(self) -> None:
        """Let every user write the private key."""
        self.key_file.chmod(0o666)

    def move_clock(self, minutes: int) -> None:
        """Let the platform's clock differ."""
        self.sandbox.platform.clock = lambda: time.time() + 60 * minutes

    def meet_self_signed_server(self) -> None:
        """Lead to a server that signed its certificate by itself."""
        port = self.stack.enter_context(serve_tls(self.certificates.self_signed))
        self.set(BASE_URL=f"https://127.0.0.1:{port}")

    def meet_closed_port(self) -> None:
        """Lead to where nothing listens."""
        self.set(BASE_URL=f"http://127.0.0.1:{find_free_port()}")

    def lock_store(self) -> None:
        """Open the store for reading alone."""
        self.set(STORE_URL=f"sqlite:///file:{self.store}?mode=ro&uri=true")

    def age_store(self) -> None:
        """Put a store of the first release into the place."""
        self.store.unlink()
        with contextlib.closing(sqlite3.connect(self.store)) as shell:
            for statement in write_version_1("sqlite"):
                shell.execute(statement)
            shell.commit()

    def refuse_address(self) -> None:
        """Let the platform refuse the address that this machine has outside."""
        self.sandbox.platform.fail_next("CO_MSG_0000017")

    def give_address(self, name: str, url: str) -> None:
        """Give an address that cannot be used; in its port nothing listens."""
        self.set(**{name: url.replace("PORT", str(find_free_port()))})


@attrs.frozen
class Case:
    """A row of the table.

    Attributes:
        name: what is wrong.
        break_: does it.
        exit_code: of the command.
        line: the name of the line that tells it, and how it ended; empty where all is right.
        words: in its text.
        advice: in what it says is to be done.
    """

    name: str
    break_: Callable[[Bench], None]
    exit_code: int = 0
    line: str = ""
    words: str = ""
    advice: str = ""


def lose(name: str) -> Callable[[Bench], None]:
    """Take a setting away."""
    return lambda bench: bench.lose(name)


def give(name: str, url: str) -> Callable[[Bench], None]:
    """Give an address that cannot be used."""
    return lambda bench: bench.give_address(name, url)


FTP = f"ftp://u:{PASSWORD}@h/db"
POSTGRES = f"postgresql://u:{PASSWORD}@127.0.0.1:PORT/0"
REDIS = f"redis://u:{PASSWORD}@127.0.0.1:PORT/0"
PROXY = f"http://u:{PASSWORD}@127.0.0.1:PORT"
KEY = "failed WXPAY_PRIVATE_KEY_FILE"

# fmt: off
CASES = [
    Case("everything right", Bench.leave_right),

    Case("no appKey", lose("APP_KEY"), 2, "failed WXPAY_APP_KEY", "not set", "developer id"),
    Case("no secret and no key", lose("PRIVATE_KEY_FILE"), 2, f"failed {SIGNERS}", "not set", "one of"),
    Case("no address", lose("BASE_URL"), 2, "failed sandbox", "would talk to production", "WXPAY_BASE_URL"),
    Case("no store", lose("STORE_URL"), 0, "warning store", "in memory", "WXPAY_STORE_URL"),

    Case("public key as private", Bench.give_public_key, 2, KEY, "this is a public key", "keys show FILE"),
    Case("world-writable key", Bench.let_others_write_key, 2, KEY, "other users can write it", "chmod 600"),

    Case("clock 10 minutes behind", lambda b: b.move_clock(10), 2, "failed clock", "10 min 0 s behind", "NTP"),
    Case("clock 10 minutes ahead", lambda b: b.move_clock(-10), 2, "failed clock", "10 min 0 s ahead", "NTP"),

    Case("self-signed server", Bench.meet_self_signed_server, 3, "failed TLS", "self-signed certificate", "address"),
    Case("closed port", Bench.meet_closed_port, 3, "failed connection", "127.0.0.1:", "WXPAY_BASE_URL"),
    Case("closed proxy", give("PROXY", PROXY), 3, "failed proxy", "127.0.0.1:", "WXPAY_PROXY"),

    Case("read-only store", Bench.lock_store, 2, "failed store", "is read-only", "write the file"),
    Case("old schema", Bench.age_store, 0, "warning store", "of version 1", "store schema URL --from-version 1"),
    Case("store that is none", give("STORE_URL", FTP), 2, "failed WXPAY_STORE_URL", "", "allowed: "),
    Case("store that is away", give("STORE_URL", POSTGRES), 3, "failed store", "cannot be reached", "WXPAY_STORE_URL"),
    Case("quota that is none", give("QUOTA_URL", FTP), 2, "failed WXPAY_QUOTA_URL", "", "allowed: "),
    Case("quota that is away", give("QUOTA_URL", REDIS), 3, "failed quota", "cannot be reached", "WXPAY_QUOTA_URL"),

    Case("refused address", Bench.refuse_address, 1, "failed merchants", "CO_MSG_0000017", "allow-list"),
]
# fmt: on


@pytest.fixture
def bench(
    sandbox: Sandbox,
    key_file: Path,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> Generator[Bench]:
    """Set up what is right."""
    store = tmp_path / "store.db"
    asyncio.run(make_store(store))
    with contextlib.ExitStack() as stack:
        made = Bench(sandbox, key_file, store, certificates, stack, monkeypatch)
        made.set(APP_SECRET=None, PRIVATE_KEY_FILE=str(key_file), STORE_URL=f"sqlite:///{store}")
        yield made


async def make_store(path: Path) -> None:
    """Make a store with its tables."""
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    await store.aclose()


@contextlib.contextmanager
def serve_tls(context: ssl.SSLContext) -> Generator[int]:
    """Shake hands at a port, and say nothing."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            client, _ = door.accept()
            # A refused handshake, or none at all, is what is wanted.
            with client, contextlib.suppress(OSError):
                context.wrap_socket(client, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        stop.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


def look(run: Run) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code, and the lines that are not ok by their status and name."""
    found = run("doctor", "--json")
    report = json.loads(found.out)
    checks = report["checks"]
    assert found.code == report["exitCode"]
    assert bool(found.code) is bool(found.err)
    assert PASSWORD not in found.out + found.err
    return found.code, {
        f"{each['status']} {each['name']}": each for each in checks if each["status"] != "ok"
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_has_its_line_with_what_to_do(run: Run, bench: Bench, case: Case) -> None:
    """It alone failed; the exit code says what kind of thing it is."""
    case.break_(bench)
    code, lines = look(run)

    assert case.exit_code == code
    assert [case.line] * (code != 0) == [name for name in lines if name.startswith("failed")]
    if not case.line:
        assert {} == lines
        return
    assert case.words in lines[case.line]["text"]
    assert case.advice in lines[case.line]["advice"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_is_told_in_chinese(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    """What is to be done is; the lines and the exit code stay as they are."""
    case.break_(bench)
    monkeypatch.setenv("WXPAY_LANG", "zh")
    code, lines = look(run)

    assert case.exit_code == code
    assert not case.line or case.line in lines
    advices = [each["advice"] for each in lines.values()]
    # What an administrator runs and what a setting may hold stand behind Chinese words.
    assert [] == [advice for advice in advices if not CHINESE.search(advice)]


def test_nothing_is_sent_where_a_sandbox_s_settings_would_meet_the_platform(
    run: Run, bench: Bench
) -> None:
    """Neither to the sandbox nor anywhere else."""
    bench.lose("BASE_URL")
    code, lines = look(run)

    assert 2 == code
    assert "not checked" == lines["warning network"]["text"]
    assert {} == dict(bench.sandbox.platform.calls)


@pytest.mark.parametrize("minutes", [10, -10])
def test_offset_of_the_clock_is_told_to_programs(run: Run, bench: Bench, minutes: int) -> None:
    """In seconds, though the SDK signed again by the platform's time."""
    bench.move_clock(minutes)
    lines = look(run)[1]

    assert 60 * minutes == pytest.approx(lines["failed clock"]["offset"], abs=5)
