"""Settle a file of refunds on many machines, with procrastinate: PostgreSQL is the queue, too.

    export PYTHONPATH=examples
    procrastinate -a batch_procrastinate.app schema --apply  # once
    procrastinate -a batch_procrastinate.app worker -c 2 --delete-jobs always   # on each machine
    python examples/batch_procrastinate.py refunds.jsonl     # where the file is

The environment configures the gateways (see `PayGateway.from_env`). All machines share the store
(`WXPAY_STORE_URL`), the quota (`WXPAY_QUOTA_URL`) and the key. The same command again continues.
"""

import asyncio
import os
import sys

from procrastinate import App, JobContext, PsycopgConnector

from wxpay_async import PayGateway
from wxpay_async.batch import Batch, read_lines

url = os.environ.get("BATCH_DATABASE", "postgresql://postgres@127.0.0.1/postgres")
app = App(connector=PsycopgConnector(conninfo=url))


@app.task(name="settle a chunk")
async def work(message: str) -> None:
    """Settle a chunk. One that raises is sent again after 15 minutes."""
    async with PayGateway.from_env() as gateway:
        await Batch(gateway).work(message)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="retry stalled", pass_context=True)
async def retry_stalled(context: JobContext, timestamp: int) -> None:
    """Give the chunks of workers that died to others; procrastinate does not do it by itself."""
    del timestamp
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=30):
        await manager.retry_job(job)


async def send(message: str) -> None:
    """Send a chunk to the workers."""
    await work.defer_async(message=message)


async def main(path: str) -> None:
    """Send the file's lines to workers, and show how each ended."""
    async with app.open_async(), PayGateway.from_env() as gateway:
        async for outcome in Batch(gateway).run(read_lines(path, "refund"), send=send):
            print(outcome.request.number, outcome.kind)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
