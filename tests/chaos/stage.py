# ruff: noqa: T201 - what the scripts print
"""The set-up of a run: platform, network, clock and merchants' processes, and the verdict."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs
from attrs import define, field
from Crypto.PublicKey import RSA

from tests.chaos.breaks import BREAKS
from tests.chaos.jobs import jobs
from tests.chaos.merchant import Orders
from tests.chaos.notebook import read_history
from tests.chaos.outage import Outage, outage_of
from tests.chaos.proxy import Proxy, Weather
from tests.chaos.referee import Accounts
from tests.chaos.timepiece import Timepiece
from tests.support.vectors import PRIVATE_KEY
from wxpay_async.sandbox import Sandbox

_MERCHANT: Final = "tests.chaos.merchant"
_PATIENCE: Final = 7200.0  # seconds for one merchant's last run
_NO_DOUBT: Final = 5.0  # seconds without a doubt: the merchants are through
_QUARANTINE: Final = 700.0  # seconds after which an absent order counts as absent, and a bit more
_BETWEEN: Final = 0.3  # seconds between one side's new secret and the other's
_NO_REFUSAL: Final = 10.0  # seconds


@define(eq=False, kw_only=True)
class Stage:
    """What the scripts act on.

    Attributes:
        orders: what every merchant is told; worker, life and tasks change.
        folder: notebooks, the timepiece, what merchants print.
        sandbox: the platform.
        proxy: the network.
        timepiece: everybody's clock.
        dice: for what the script does.
    """

    orders: Orders
    folder: Path
    sandbox: Sandbox
    proxy: Proxy
    outage: Outage
    timepiece: Timepiece
    dice: random.Random
    short: bool
    processes: dict[int, asyncio.subprocess.Process] = field(factory=dict, init=False)
    lives: Counter[int] = field(factory=Counter, init=False)
    spawned: dict[tuple[int, int], float] = field(factory=dict, init=False)
    rotations: int = field(default=0, init=False)
    happened: Counter[str] = field(factory=Counter, init=False)
    crashes: list[str] = field(factory=list, init=False)

    async def spawn(self, worker: int, *tasks: str) -> asyncio.subprocess.Process:
        """Start a merchant; the first time, or again after its death."""
        life = self.lives[worker]
        self.lives[worker] += 1
        told = attrs.asdict(attrs.evolve(self.orders, worker=worker, life=life, tasks=tasks))
        with (self.folder / f"printed-{worker}").open("ab") as printed:
            self.spawned[worker, life] = time.time()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _MERCHANT, json.dumps(told), stdout=printed, stderr=printed
            )
        self.processes[worker] = process
        return process

    async def at_work(self) -> list[int]:
        """Return the merchants that still run; note those that crashed by themselves."""
        await asyncio.sleep(0)
        for worker, process in list(self.processes.items()):
            if process.returncode is not None:
                del self.processes[worker]
                self._note_end(worker, process.returncode)
        return list(self.processes)

    def _note_end(self, worker: int, status: int) -> None:
        if status != 0:
            printed = (self.folder / f"printed-{worker}").read_text()
            self.crashes.append(f"merchant {worker}, status {status}: {printed[-1500:]}")

    async def kill(self, worker: int) -> bool:
        """End a merchant with SIGKILL and start it again; False if it had ended by itself."""
        process = self.processes.pop(worker)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        status = await process.wait()
        if status == 0:  # it had finished by itself
            return False
        if status > 0:
            self._note_end(worker, status)
        await self.spawn(worker, "work")
        return status < 0

    async def pause(self, worker: int, seconds: float) -> bool:
        """Stop a merchant by SIGSTOP for a time; False if it had ended by itself."""
        process = self.processes[worker]
        try:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            process.send_signal(signal.SIGCONT)
        except ProcessLookupError:
            return False
        return True

    async def cut_store(self) -> bool:
        """Cut merchants off from their store just after one fell into doubt.

        False if none did: then nothing was lost that a dead store could make worse.
        """
        lost = asyncio.Event()
        self.proxy.on_doubt = lost.set
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(lost.wait(), _NO_DOUBT)
        self.proxy.on_doubt = lambda: None
        await asyncio.sleep(self.dice.uniform(0.0, 0.03))
        await self.outage.cut(self.dice.uniform(*self.dice.choice(self.outage.lengths)))
        return lost.is_set()

    async def rotate(self) -> bool:
        """Change the secret at the platform and at the merchants, in either order.

        In between one side refuses what the other signs. As `docs/rotation.md` says, each process
        opens what the next secret seals before any process seals with it.
        """
        running = await self.at_work()
        self.rotations += 1
        new = secret_of(self.orders, self.rotations)
        known = [secret_of(self.orders, n) for n in range(self.rotations + 2)]
        former = tuple(secret for secret in known if secret != new)
        self.orders = attrs.evolve(self.orders, secret=new, former=former)
        app, platform_first = self.sandbox.platform.apps[self.orders.app_key], self.rotations % 2
        refused = asyncio.Event()
        self.proxy.on_bad_signature = refused.set
        if platform_first:
            app.change_secret(new)
            await _until_heard(refused)
        restarted = 0
        for worker in running:
            await asyncio.sleep(_BETWEEN)
            restarted += await self.kill(worker)
        if not platform_first:
            await _until_heard(refused)
            app.change_secret(new)
        return restarted > 0

    async def end(self) -> None:
        """Let no process outlive the run."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def act(self, worker: int, *tasks: str) -> None:
        """Let one merchant do tasks to their end."""
        process = await self.spawn(worker, *tasks)
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
        await self.at_work()

    async def verdict(self) -> bool:
        """Compare both sides' books, print the figures; tell whether all is well."""
        await self.proxy.release()
        purchases = jobs(self.orders.app_key, self.orders.seed, self.orders.payments)
        states, replay = (self._report(name) for name in ("states", "replay"))
        accounts = Accounts(
            purchases=purchases,
            history=read_history(self.folder),
            states=states,
            ledger=self.sandbox.platform.ledger,
            second_answers=self.proxy.weather.second_answers,
            executed_at=self.proxy.executed,
            shared=self.orders.workers > 1,
        )
        accounts.compare()
        print(accounts.show())
        print(f"network: { {str(k): n for k, n in sorted(self.proxy.seen.items())} }")
        print(
            f"replayed: {replay.get('finished', 0)} purchases, executed anew {replay.get('anew')}"
        )
        for crash in self.crashes:
            print(f"CRASHED {crash}")
        missing = self._missing(accounts)
        for name in missing:
            print(f"NEVER HAPPENED {name}")
        well = not accounts.problems and not self.crashes and replay.get("anew") == 0 and states
        well = well and not missing
        print("verdict: ok" if well else "verdict: RED")
        return bool(well)

    def _missing(self, accounts: Accounts) -> list[str]:
        """Return what never happened, though the run is there to survive it."""
        if self.short:
            return []
        missing = [name for name in self.proxy.weather.expected if not self.proxy.seen[name]]
        struck = self.happened["store"] and not accounts.figures["store_dead_after_doubt"]
        refused = self.rotations and not accounts.figures["refused_by_secret"]
        missing += ["a call to a dead store after a doubt"] * bool(struck)
        return sorted(missing + ["a request under another secret"] * bool(refused))

    def _report(self, name: str) -> dict[str, object]:
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}


async def _until_heard(refused: asyncio.Event) -> None:
    """Wait until a merchant was refused, and has noted it."""
    with contextlib.suppress(TimeoutError):  # if none has anything to send
        await asyncio.wait_for(refused.wait(), _NO_REFUSAL)
    await asyncio.sleep(_BETWEEN)


@contextlib.asynccontextmanager
async def staged(
    options: argparse.Namespace, weather: Weather, **more: object
) -> AsyncIterator[Stage]:
    """Set up a run, and take it down afterwards."""
    key = RSA.import_key(PRIVATE_KEY.read_bytes())  # to make one takes longer than a short run
    app_key = f"chaos-{uuid.uuid4().hex[:12]}"  # so that runs may share a store
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timepiece = Timepiece(folder / "time")
        sandbox = Sandbox(quota=None, app_key=app_key, pay_key=key, clock=timepiece.time)
        async with (
            outage_of(options.store, folder) as outage,
            sandbox,
            _between(sandbox, weather, options.seed) as proxy,
        ):
            proxy.hiding = lambda: timepiece.ahead() < _QUARANTINE
            more |= {"base_url": proxy.url, "store_url": outage.url}
            stage = Stage(
                orders=_orders(options, sandbox, folder, **more),
                folder=folder,
                sandbox=sandbox,
                proxy=proxy,
                outage=outage,
                short=options.short,
                timepiece=timepiece,
                dice=random.Random(f"script {options.seed}"),
            )
            try:
                yield stage
            finally:
                await stage.end()


@contextlib.asynccontextmanager
async def _between(sandbox: Sandbox, weather: Weather, seed: int) -> AsyncIterator[Proxy]:
    dice = random.Random(f"network {seed}")
    port = urlsplit(sandbox.url).port
    proxy = Proxy(port=port, weather=weather, dice=dice, seed=seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.aclose()


def _orders(options: argparse.Namespace, sandbox: Sandbox, folder: Path, **more: object) -> Orders:
    made = Orders(
        sandbox_url=sandbox.url,
        app_key=sandbox.app_key,
        secret=sandbox.app_secret,
        first_secret=sandbox.app_secret,
        folder=str(folder),
        seed=options.seed,
        payments=options.payments,
        worker=0,
        broken=options.broken,
        **more,
    )
    return attrs.evolve(made, former=(secret_of(made, 1),))


def secret_of(orders: Orders, rotation: int) -> str:
    """Return the secret after so many changes."""
    return f"secret-{rotation}-{orders.app_key}" if rotation else orders.first_secret


def parser(what: str, payments: int) -> argparse.ArgumentParser:
    """Return the options that all checks have."""
    made = argparse.ArgumentParser(description=what)
    made.add_argument("--payments", type=int, default=payments)
    made.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    made.add_argument("--store", help="its address; a SQLite file of its own by default")
    made.add_argument(
        "--short", action="store_true", help="too short for every fault to happen: let it pass"
    )
    made.add_argument("--break", dest="broken", choices=BREAKS, help="a mistake to make")
    return made


def parsed(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and print what is needed to do it again."""
    options = made.parse_args(arguments)
    store = urlsplit(options.store or "sqlite:").scheme
    print(f"seed {options.seed}  store {store}  broken {options.broken or 'nothing'}", flush=True)
    return options
