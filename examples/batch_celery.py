"""Settle a file of refunds on many machines, with Celery over RabbitMQ.

    celery --workdir examples -A batch_celery worker -c 2    # on each machine
    python examples/batch_celery.py refunds.jsonl            # where the file is

The environment configures the gateways (see `PayGateway.from_env`). All machines share the store
(`WXPAY_STORE_URL`), the quota (`WXPAY_QUOTA_URL`) and the key. The same command again continues.
"""

# pyright: basic
import asyncio
import os
import sys

from celery import Celery  # type: ignore[import-untyped]  # it has no types

from wxpay_async import PayGateway
from wxpay_async.batch import Batch, read_lines

app = Celery("batch", broker=os.environ.get("BATCH_BROKER", "amqp://guest:guest@127.0.0.1/"))
app.conf.task_default_queue = os.environ.get("BATCH_QUEUE", "wxpay-batch")
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_heartbeat = 10  # seconds: a machine that fell silent loses its chunks after two


# Acknowledged after the work: the chunk of a worker that dies goes to another one.
@app.task(name="batch.work", acks_late=True, reject_on_worker_lost=True)  # type: ignore[untyped-decorator]
def work(message: str) -> None:
    """Settle a chunk. One that raises is sent again after 15 minutes."""
    asyncio.run(settle(message))


async def settle(message: str) -> None:
    """Settle a chunk with a gateway of its own: each task has its own event loop."""
    async with PayGateway.from_env() as gateway:
        await Batch(gateway).work(message)


async def send(message: str) -> None:
    """Send a chunk to the workers."""
    await asyncio.to_thread(work.delay, message)


async def main(path: str) -> None:
    """Send the file's lines to workers, and show how each ended."""
    async with PayGateway.from_env() as gateway:
        async for outcome in Batch(gateway).run(read_lines(path, "refund"), send=send):
            print(outcome.request.number, outcome.kind)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
