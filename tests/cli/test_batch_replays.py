"""Which rows of the outcomes say that an earlier run had them already, whatever the clocks say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.batches import read_rows, write_refunds
from tests.support.batches import LastingStore, Platform
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.store import DAY
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.batch.lines import read_lines
from wxpay_async.batch.stamp import Stamp
from wxpay_async.cli.batch_inputs import Places
from wxpay_async.cli.batch_run import BatchRun
from wxpay_async.cli.progress import Progress
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.protocol.signing import Md5Signer


async def run_batch(path: Path, store: LastingStore) -> tuple[list[bool], int]:
    """Run a batch as a process would; return what its rows say, and its progress."""
    progress = Progress(operation="refund", total=3)
    gateway = PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        transport=MemoryTransport(Platform()),
        store=SealedStore(store, [b"s" * 32]),
        limiter=Unlimited(),
        hooks=[progress],
    )
    async with gateway:
        run = BatchRun(
            gateway=gateway,
            lines=read_lines(path, "refund"),
            stamp=Stamp(
                store="memory",
                app_key=APP_KEY,
                operation="refund",
                input=path.name,
                begun_at=datetime.now(UTC),
            ),
            places=Places.choose(path, None, as_csv=False),
            progress=progress,
        )
        await run.run()
    _, *rows = read_rows(run.places.outcomes)
    return [row["replayed"] for row in rows], progress.known_before


@pytest.mark.parametrize("ahead", [-3_600.0, 0.0, 3_600.0])
async def test_rows_are_replayed_by_the_clock_of_the_store(tmp_path: Path, ahead: float) -> None:
    """The server may be an hour ahead of this machine, or behind it: ends are told by its clock."""
    path, store = tmp_path / "refunds.jsonl", LastingStore(retention=30 * DAY)
    store.ahead = ahead
    write_refunds(path, 2)
    assert ([False, False], 0) == await run_batch(path, store)
    with path.open("a") as file:
        line = {"outTradeNo": "X", "origOutTradeNo": "1", "refundAmount": "0.01"}
        file.write(f"{json.dumps(line)}\n")
    assert ([True, True, False], 2) == await run_batch(path, store)
