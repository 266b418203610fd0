"""One worker process of taskiq, whose platform answers in its process, or never.

usage: python -m tests.integrations.taskiq_worker AMQP_URL QUEUE STORE_URL answers|hangs SEAL_KEY
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import parse_qsl

from taskiq import TaskiqMessage, TaskiqMiddleware
from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.run import start_listen

from tests.support import replies
from tests.support.platform import APP_KEY, SECRET, UNKNOWN_ORDER
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.transports.memory import Answer, Handler, MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.integrations.taskiq import batch_task, rabbitmq
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest


def answer_refund(request: HttpRequest) -> Answer:
    """Execute a refund; know no order."""
    if request.url.endswith("/query"):
        return UNKNOWN_ORDER
    content = json.loads(dict(parse_qsl(request.body.decode()))["bizContent"])
    return replies.refunded(requestId=content["requestId"], outTradeNo=content["outTradeNo"])


async def hang(_: HttpRequest) -> NoReturn:
    """Answer nothing."""
    await asyncio.sleep(600)
    raise AssertionError("no test waits so long")


class Announcing(TaskiqMiddleware):
    """Says what arrives."""

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Print a line."""
        sys.stdout.write("chunk\n")
        sys.stdout.flush()
        return message


def make_gateway(
    store_url: str, answer: Handler, *, seal_keys: Sequence[bytes] | None = None
) -> PayGateway:
    """Make a gateway over a store of SQL and a platform in memory."""
    return PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        transport=MemoryTransport(answer),
        store=SqlStore(store_url),
        limiter=Unlimited(),
        seal_keys=seal_keys,
    )


def main(url: str, queue: str, store_url: str, answers: str, seal_key: str) -> None:
    """Work until a signal."""
    answer = answer_refund if answers == "answers" else hang
    keys = [seal_key.encode()] if seal_key else None
    broker = rabbitmq(url, queue=queue).with_middlewares(Announcing())
    batch_task(broker, lambda: make_gateway(store_url, answer, seal_keys=keys))
    start_listen(WorkerArgs(broker=broker, modules=[]))  # type: ignore[arg-type] # it takes a broker, too


if __name__ == "__main__":
    main(*sys.argv[1:])
