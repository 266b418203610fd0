"""Settle a file of refunds on many machines, with taskiq over RabbitMQ.

    taskiq worker --app-dir examples batch_taskiq:broker     # on each machine
    python examples/batch_taskiq.py refunds.jsonl            # where the file is

The environment configures the gateways (see `PayGateway.from_env`). All machines share the store
(`WXPAY_STORE_URL`), the quota (`WXPAY_QUOTA_URL`) and the key. The same command again continues.
"""

import asyncio
import os
import sys

from wxpay_async import PayGateway
from wxpay_async.batch import Batch, read_lines
from wxpay_async.integrations.taskiq import batch_task, rabbitmq

broker = rabbitmq(os.environ.get("BATCH_BROKER", "amqp://guest:guest@127.0.0.1/"))
send = batch_task(broker, PayGateway.from_env)


async def main(path: str) -> None:
    """Send the file's lines to workers, and show how each ended."""
    await broker.startup()
    async with PayGateway.from_env() as gateway:
        async for outcome in Batch(gateway).run(read_lines(path, "refund"), send=send):
            print(outcome.request.number, outcome.kind)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
