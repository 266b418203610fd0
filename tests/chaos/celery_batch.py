# ruff: noqa: T201 - a script that prints its figures
"""The Celery example with two workers, one of which is killed amid its chunks.

    python -m tests.chaos.celery_batch --lines 1000

The lines are refunds of one paid order. The worker that is killed dies with all of its processes,
as a machine does, once a part of the lines has been executed and while it has a chunk. Exit status
1 means that a refund was executed twice or never, or that an outcome differs from the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aio_pika

from tests.support import asking
from tests.support.batches import make_refunds
from tests.support.services import RABBITMQ
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.coordinating import Send
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.sandbox import Sandbox

_EXAMPLES: Final = Path(__file__).parents[2] / "examples"
_PER_PROCESS: Final = 2
_KILL_AT: Final = 0.3  # of the lines, executed
_GLANCE: Final = 0.02  # seconds between two looks at what was executed
_PATIENCE: Final = 900.0


async def _pay_order(gateway: PayGateway, sandbox: Sandbox, lines: int) -> None:
    """Create and pay the order that the refunds give back."""
    yuan = f"{lines}.00"
    trade = asking.trade(
        "order", trade_info=[asking.item("O-1", yuan)], pay_method=asking.method(yuan)
    )
    created = await gateway.trade(trade)
    assert created.pay_token is not None
    await gateway.pay(
        MiniProgramPay(
            request_id="pay", pay_token=created.pay_token, terminal_payer_id="openid-0123456789"
        )
    )
    sandbox.confirm("O-1")


def _load_sender() -> Send:
    """Return what the example sends chunks with."""
    # By another name than in the workers, as a script has: tasks must not be named by the module.
    spec = importlib.util.spec_from_file_location("script", _EXAMPLES / "batch_celery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    send: Send = module.send
    return send


@asynccontextmanager
async def _workers(folder: Path, count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Start workers, each with processes of its own; end what is left of them."""
    workers: list[asyncio.subprocess.Process] = []
    for number in range(count):
        with (folder / f"printed-{number}").open("wb") as printed:
            workers.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "celery", "--workdir", str(_EXAMPLES)),
                    *("-A", "batch_celery", "worker", "-c", str(_PER_PROCESS), "-l", "INFO"),
                    *("-n", f"worker-{number}@localhost", "--without-gossip", "--without-mingle"),
                    stdout=printed,
                    stderr=printed,
                    start_new_session=True,
                )
            )
    try:
        yield workers
    finally:
        for worker in workers:
            await _kill(worker)


async def _kill(worker: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    await worker.wait()


async def _kill_amid_work(
    sandbox: Sandbox, worker: asyncio.subprocess.Process, printed: Path, lines: int
) -> int:
    """Kill a worker that has a chunk; return how many lines were executed by then."""
    while True:
        executed = _count_refunds(sandbox).total()
        if executed >= lines * _KILL_AT and _has_chunk(printed):
            await _kill(worker)
            return executed
        await asyncio.sleep(_GLANCE)


def _has_chunk(printed: Path) -> bool:
    """Tell whether a worker has received more tasks than it has done."""
    text = printed.read_text()
    return text.count(" received") > text.count(" succeeded in")


def _count_refunds(sandbox: Sandbox) -> Counter[str]:
    return Counter(
        entry.request_id
        for entry in sandbox.platform.ledger
        if entry.request_id and entry.request_id.startswith("refund-")
    )


async def _delete_queue(name: str) -> None:
    connection = await aio_pika.connect(RABBITMQ.url)
    async with connection:
        channel = await connection.channel()
        await channel.queue_delete(name)
        await channel.exchange_delete(name)


async def run(options: argparse.Namespace) -> bool:
    """Run the batch, kill, and compare with the ledger."""
    queue = f"wxpay-celery-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Sandbox(quota=None) as sandbox:
            os.environ |= sandbox.settings() | {
                "WXPAY_STORE_URL": options.store or f"sqlite:///{folder / 'store.db'}",
                "BATCH_BROKER": RABBITMQ.url,
                "BATCH_QUEUE": queue,
            }
            try:
                return await _run(options, sandbox, folder)
            finally:
                await _delete_queue(queue)


async def _run(options: argparse.Namespace, sandbox: Sandbox, folder: Path) -> bool:
    lines, ended = make_refunds(options.lines), Counter[str]()
    began = time.monotonic()
    async with (
        PayGateway.from_env() as gateway,
        _workers(folder, 2) as (first, _),
        asyncio.timeout(_PATIENCE),
    ):
        await _pay_order(gateway, sandbox, options.lines)
        killing = asyncio.create_task(
            _kill_amid_work(sandbox, first, folder / "printed-0", options.lines)
        )
        ok: list[str] = []
        async for outcome in Batch(gateway).run(lines, send=_load_sender()):
            ended[outcome.kind] += 1
            if outcome.kind == "ok":
                ok.append(str(outcome.request.request_id))
        at_kill = await killing
    executed = _count_refunds(sandbox)
    doubles = sum(count - 1 for count in executed.values())
    lost = options.lines - len(executed)
    well = (
        Counter(ok) == executed
        and not doubles
        and not lost
        and ended == {"ok": options.lines}
        and at_kill < options.lines
    )
    print(
        f"{time.monotonic() - began:.1f} s  lines {options.lines}  killed after {at_kill}  "
        f"outcomes {dict(ended)}  executed {executed.total()}  double {doubles}  lost {lost}"
    )
    print(f"verdict: {'green' if well else 'RED'}")
    return well


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = argparse.ArgumentParser(description="Kill one of two Celery workers amid a batch.")
    made.add_argument("--lines", type=int, default=1_000)
    made.add_argument("--store", help="its address; a SQLite file of the run's own when absent")
    return int(not asyncio.run(run(made.parse_args(arguments))))


if __name__ == "__main__":
    sys.exit(main())
