"""Settle a file of refunds on many machines, with FastStream over RabbitMQ.

    faststream run --app-dir examples batch_faststream:app   # on each machine
    python examples/batch_faststream.py refunds.jsonl        # where the file is

The environment configures the gateways (see `PayGateway.from_env`). All machines share the store
(`WXPAY_STORE_URL`), the quota (`WXPAY_QUOTA_URL`) and the key. The same command again continues.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from wxpay_async import PayGateway
from wxpay_async.batch import Batch, read_lines

url = os.environ.get("BATCH_BROKER", "amqp://guest:guest@127.0.0.1/")
broker = RabbitBroker(f"{url}?heartbeat=10", default_channel=Channel(prefetch_count=2))
queue = RabbitQueue(os.environ.get("BATCH_QUEUE", "wxpay-batch"), durable=True)
batches: list[Batch] = []  # of this worker: one


@asynccontextmanager
async def lifespan() -> AsyncGenerator[None]:
    """Open one gateway for the worker."""
    async with PayGateway.from_env() as gateway:
        batches.append(Batch(gateway))
        yield


app = FastStream(broker, lifespan=lifespan)


@broker.subscriber(queue)
async def work(message: str) -> None:
    """Settle a chunk, and then acknowledge it. One that raises is sent again after 15 minutes."""
    await batches[0].work(message)


async def send(message: str) -> None:
    """Send a chunk to the workers."""
    await broker.publish(message, queue, persist=True)


async def main(path: str) -> None:
    """Send the file's lines to workers, and show how each ended."""
    async with broker, PayGateway.from_env() as gateway:
        async for outcome in Batch(gateway).run(read_lines(path, "refund"), send=send):
            print(outcome.request.number, outcome.kind)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
