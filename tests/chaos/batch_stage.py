"""The set-up of a batch check: platform, network, a file of refunds, processes, and the referee."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import uuid
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define, field
from Crypto.PublicKey import RSA
from sqlalchemy import Connection

from tests.chaos.proxy import Proxy, Weather
from tests.chaos.quota_real import clean_up
from tests.support import asking
from tests.support.redis_places import private_redis
from tests.support.sql_databases import use_connection
from tests.support.vectors import PRIVATE_KEY, ROOT
from wxpay_async import MiniProgramPay, PayGateway, Unlimited
from wxpay_async.adapters.stores.sql_schema import make_tables
from wxpay_async.batch import Batch, read_lines
from wxpay_async.batch.tally import LineOutcome
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.state import LedgerEntry

CALM: Final = Weather(before=0, after=0, twice=0, late=0, refuse=0, decline=0)

_DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")
_DRIVERS: Final = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
}
_ORDER: Final = "O-1"
_CENTS: Final = 9
_SHOWN: Final = 5


def amount_of(number: int) -> Decimal:
    """Return what the refund of a line gives back, so that neighbours differ."""
    return Decimal(number % _CENTS + 1) / 100


def write_file(path: Path, lines: int) -> None:
    """Write a file of refunds, as a merchant does; its requestIds are derived."""
    with path.open("w") as file:
        for number in range(1, lines + 1):
            row = {
                "outTradeNo": f"R-{number}",
                "origOutTradeNo": _ORDER,
                "refundAmount": str(amount_of(number)),
            }
            file.write(f"{json.dumps(row)}\n")


@define(eq=False, kw_only=True)
class BatchStage:
    """What the batch checks act on.

    Attributes:
        sandbox: the platform, in this process; the runs are others.
        proxy: the network between.
        folder: the file, the outcomes, what processes print.
        file: the refunds.
        lines: how many there are.
        environ: what every process is told.
        dice: for what the check does.
    """

    sandbox: Sandbox
    proxy: Proxy
    folder: Path
    file: Path
    lines: int
    environ: Mapping[str, str]
    dice: random.Random
    _processes: list[Process] = field(factory=list[Process], init=False)

    def outcomes(self, name: str) -> Path:
        """Return where a run writes its outcomes."""
        return self.folder / f"{name}.outcomes.jsonl"

    async def run_file(self, name: str, *more: str) -> Process:
        """Start a process that brings the file to an end."""
        module = (sys.executable, "-m", "tests.chaos.batch_worker")
        return await self.spawn(name, *module, str(self.file), str(self.outcomes(name)), *more)

    async def run_worker(self, name: str) -> Process:
        """Start a worker of taskiq: a group of processes, as a machine is."""
        broker = "tests.chaos.batch_worker:make_broker"
        return await self.spawn(
            name, sys.executable, "-m", "taskiq", "worker", broker, "--workers", "1"
        )

    async def spawn(self, name: str, *command: str) -> Process:
        """Start a process with a group of its own."""
        with (self.folder / f"printed-{name}").open("ab") as printed:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=os.environ | self.environ,
                cwd=ROOT,
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def printed(self, name: str) -> str:
        """Return the last that a process said."""
        path = self.folder / f"printed-{name}"
        return path.read_text()[-3000:] if path.exists() else ""

    @property
    def refunds(self) -> list[LedgerEntry]:
        """What the platform gave back."""
        return [entry for entry in self.sandbox.platform.ledger if entry.kind == "refund"]

    @property
    def executed(self) -> int:
        """How many refunds the platform executed; cheap enough to be asked all the time."""
        return max(0, len(self.sandbox.platform.ledger) - 3)  # a trade, a payment and its charge

    async def wait_for(self, executed: float, process: Process) -> bool:
        """Wait until so many refunds were executed; False if the process ended before."""
        while self.executed < executed:
            await asyncio.sleep(0.005)
            if process.returncode is not None:
                return False
        return process.returncode is None

    async def recall(self) -> list[LineOutcome]:
        """Read from the store how the lines ended, without any call."""
        async with PayGateway.from_env(self.environ) as gateway:
            lines = read_lines(self.file, "refund")
            return [outcome async for outcome in Batch(gateway).recall(lines)]

    async def end(self) -> None:
        """Let no process outlive the run."""
        for process in self._processes:
            if process.returncode is None:
                await kill(process)


async def kill(process: Process) -> bool:
    """End a group of processes with SIGKILL; False if it had ended by itself."""
    _send_signal(process, signal.SIGKILL)
    return await process.wait() < 0


async def pause(process: Process, seconds: float) -> None:
    """Stop a group of processes by SIGSTOP for a time."""
    _send_signal(process, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    _send_signal(process, signal.SIGCONT)


def _send_signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.asynccontextmanager
async def staged(
    options: argparse.Namespace,
    weather: Weather = CALM,
    *,
    quota: int | None = None,
    told: Mapping[str, str] | None = None,
) -> AsyncIterator[BatchStage]:
    """Set up a run, and take it down afterwards.

    Args:
        options: its lines, seed and store.
        weather: of the network.
        quota: of the platform.
        told: variables of the processes.
    """
    app_key = f"chaos-{uuid.uuid4().hex[:12]}"  # so that runs may share a store
    key = RSA.import_key(PRIVATE_KEY.read_bytes())
    with tempfile.TemporaryDirectory() as name, open_store(options.store, name) as store_url:
        folder = Path(name)
        write_file(folder / "refunds.jsonl", options.lines)
        async with Sandbox(quota=quota, app_key=app_key, pay_key=key) as sandbox:
            await _pay_order(sandbox, options.lines)
            dice = random.Random(f"network {options.seed}")
            port = urlsplit(sandbox.url).port
            proxy = Proxy(port=port or 0, weather=weather, dice=dice, seed=options.seed)
            await proxy.start()
            more = dict(told or {})
            places = {"WXPAY_BASE_URL": proxy.url, "WXPAY_STORE_URL": store_url}
            stage = BatchStage(
                sandbox=sandbox,
                proxy=proxy,
                folder=folder,
                file=folder / "refunds.jsonl",
                lines=options.lines,
                environ=sandbox.settings() | places | more,
                dice=random.Random(f"script {options.seed}"),
            )
            try:
                yield stage
            finally:
                await stage.end()
                await proxy.aclose()
                await erase(store_url, app_key)
                if "WXPAY_QUOTA_URL" in more:
                    await clean_up(more["WXPAY_QUOTA_URL"], app_key)


@contextlib.contextmanager
def open_store(named: str | None, folder: str) -> Iterator[str]:
    """Yield the store's address; a SQLite file or a durable Redis of the run's own if it may."""
    if named == "redis":
        with private_redis(*_DURABLE) as url:
            yield url
    else:
        yield named or f"sqlite:///{folder}/store.db"


async def erase(url: str, app_key: str) -> None:
    """Remove what was written into a store that others use, too."""
    if url.startswith("redis"):
        await clean_up(url, app_key)
    elif not url.startswith("sqlite"):
        table = make_tables().operations

        def work(connection: Connection) -> None:
            connection.execute(table.delete().where(table.c.app_key == app_key))
            connection.commit()

        await use_connection(name_driver(url), work)


def name_driver(url: str) -> str:
    """Name the driver of an address, for SQLAlchemy alone."""
    scheme, _, rest = url.partition("://")
    driver = _DRIVERS.get(scheme)
    return f"{driver}://{rest}" if driver else url


async def _pay_order(sandbox: Sandbox, lines: int) -> None:
    """Create and pay the order that the refunds give back."""
    total = str(sum(amount_of(number) for number in range(1, lines + 1)))
    trade = asking.trade(
        "order", trade_info=[asking.item(_ORDER, total)], pay_method=asking.method(total)
    )
    async with PayGateway.from_env(sandbox.settings(), limiter=Unlimited()) as gateway:
        created = await gateway.trade(trade)
        await gateway.pay(
            MiniProgramPay(
                request_id="pay",
                pay_token=created.pay_token or "",
                terminal_payer_id="openid-0123456789",
            )
        )
    sandbox.confirm(_ORDER)


@define(eq=False)
class Referee:
    """Compares the ledger with files of outcomes, line by line.

    Attributes:
        stage: whose platform and file.
        problems: what is wrong, by its name.
    """

    stage: BatchStage
    problems: dict[str, list[str]] = field(factory=dict[str, list[str]], init=False)

    def compare(self, *names: str) -> dict[str, int]:
        """Compare, and return the figures: each but the first must be 0."""
        refunds = self.stage.refunds
        orders = Counter(number for entry in refunds for number in entry.out_trade_nos)
        wanted = {f"R-{n}": amount_of(n) for n in range(1, self.stage.lines + 1)}
        self._note("double", [f"{n} × {times}" for n, times in orders.items() if times > 1])
        self._note("lost", [number for number in wanted if number not in orders])
        wrong = [e.out_trade_nos[0] for e in refunds if wanted.get(e.out_trade_nos[0]) != e.amount]
        self._note("wrong_amount", wrong)
        by_id = {entry.request_id: entry.out_trade_nos[0] for entry in refunds}
        for name in names:
            self._compare_outcomes(name, by_id)
        return {"executed": len(refunds)} | {k: len(cases) for k, cases in self.problems.items()}

    def _compare_outcomes(self, name: str, by_id: Mapping[str, str]) -> None:
        path = self.stage.outcomes(name)
        rows = [json.loads(text) for text in path.read_text().splitlines()[1:]]
        expected = list(range(1, self.stage.lines + 1))
        self._note("missing", [name] * ([row["line"] for row in rows] != expected))
        self._note("not_ok", [f"{name} {_show(row)}" for row in rows if row["outcome"] != "ok"])
        others = [
            f"{name} {_show(row)}"
            for row in rows
            if row["outcome"] == "ok"
            and not row["outTradeNo"] == f"R-{row['line']}" == by_id.get(row["requestId"])
        ]
        self._note("not_in_ledger", others)

    def _note(self, name: str, cases: Sequence[str]) -> None:
        self.problems.setdefault(name, []).extend(cases)

    def show(self) -> list[str]:
        """Return the first cases of each problem."""
        return [
            f"  {name}: {case}" for name, all_ in self.problems.items() for case in all_[:_SHOWN]
        ]


def _show(row: Mapping[str, Any]) -> str:
    return f"line {row['line']} {row['outcome']} {row['code']} {row['message']}"
