"""Settle batches on many machines with taskiq (extra `taskiq`), over RabbitMQ.

broker = rabbitmq("amqp://guest:guest@rabbit.internal/")
send = batch_task(broker, PayGateway.from_env)

Workers, on as many machines as there are: `taskiq worker myapp:broker`. The one that has the file:

await broker.startup()
async for outcome in Batch(gateway).run(read_lines("refunds.jsonl", "refund"), send=send): ...
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define, field

from wxpay_async.batch.batch import Batch
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InvalidRequestError, WxPayError
from wxpay_async.extras import how_to_install

try:
    from taskiq import AsyncBroker, Context, TaskiqDepends, TaskiqEvents
    from taskiq.acks import AcknowledgeType
    from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
except ImportError as error:
    raise ImportError(f"taskiq is missing: {how_to_install('taskiq')}") from error

HEARTBEAT: Final = 10
"""Seconds. After two missed heartbeats RabbitMQ gives a worker's chunks to another worker."""

PREFETCH: Final = 2
"""Chunks at once in a worker process: while one waits for its last line, the other goes on."""

CALLS: Final = 8
"""Calls at once for a chunk. While a line waits for the quota, another worker may settle it, if the
broker delivers the chunk twice; then its turn comes for nothing. With 64, a stopped worker and ten
seconds without the broker cost a batch 29 s; with 8, 4 s."""

EXPIRY: Final = 3600
"""Seconds until a chunk that no worker took leaves the queue. `run` has sent it again by then."""

_LOG: Final = logging.getLogger("wxpay_async")


def rabbitmq(url: str, *, queue: str = "wxpay-batch", prefetch: int = PREFETCH) -> AioPikaBroker:
    """Make a broker for chunks: one durable queue, replicated where RabbitMQ is a cluster.

    Args:
        url: `amqp://user:password@host/vhost`, or `amqps://` for TLS.
        queue: its name; each merchant (appKey) needs a queue of its own.
        prefetch: chunks at once in a worker process.
    """
    milliseconds = 1000 * EXPIRY
    return AioPikaBroker(
        url,
        qos=prefetch,
        exchange=Exchange(name=queue),
        task_queues=[
            Queue(name=queue, type=QueueType.QUORUM, arguments={"x-message-ttl": milliseconds})
        ],
        dead_letter_queue=Queue(
            name=f"{queue}.expired",
            type=QueueType.QUORUM,
            arguments={"x-message-ttl": milliseconds},
        ),
        heartbeat=HEARTBEAT,
    )


def batch_task(
    broker: AsyncBroker,
    make_gateway: Callable[[], PayGateway],
    *,
    name: str = "wxpay_async.batch",
    concurrency: int = CALLS,
) -> Callable[[str], Awaitable[None]]:
    """Register the task that settles chunks; return what sends a chunk to the workers.

    Each worker process opens one gateway as it starts, and closes it as it ends. All of them share
    the store, the quota and the seal key of the process that sends.

    A chunk is acknowledged when it is settled: if a worker dies, another worker gets its chunk. A
    chunk that does not open here stays unacknowledged: RabbitMQ holds it, and sends no more once
    `prefetch` of them are held, until this worker ends. So a worker with a wrong key does no harm
    to the others.

    Args:
        broker: made by `rabbitmq`, or the merchant's own. It must deliver a message again that was
            not acknowledged; where it does not, lost chunks are sent again after 15 minutes.
        make_gateway: makes the gateway in a worker, such as `PayGateway.from_env`.
        name: the task's name; a second merchant on the same broker needs another one.
        concurrency: calls at once for one chunk.

    Returns:
        A function for `Batch.run(send=...)`. It needs a broker that was started.
    """
    worker = _Worker(make_gateway, concurrency)
    broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, worker.open)
    broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, worker.close)

    @broker.task(name, ack_type=AcknowledgeType.MANUAL.value)
    async def settle_chunk(
        message: str,
        context: Context = TaskiqDepends(),  # noqa: B008 - taskiq's way to ask for it
    ) -> dict[str, int] | None:
        settled = await worker.settle(message)
        if settled is not None and context.is_ackable:
            await context.ack()
        return settled

    async def send(message: str) -> None:
        await settle_chunk.kiq(message)

    return send


@define(eq=False)
class _Worker:
    """The gateway of a worker process, and what it does with a chunk."""

    _make_gateway: Callable[[], PayGateway]
    _concurrency: int
    _batch: Batch | None = field(default=None, init=False)
    _has_refused: bool = field(default=False, init=False)

    async def open(self, _: object) -> None:
        """Open the gateway, as the process starts."""
        gateway = await self._make_gateway().__aenter__()
        self._batch = Batch(gateway, concurrency=self._concurrency)

    async def close(self, _: object) -> None:
        """Close the gateway, as the process ends."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.stop()
            await batch.gateway.aclose()

    async def settle(self, message: str) -> dict[str, int] | None:
        """Settle a chunk; return how its lines ended, None if another worker should have it.

        It does not raise: taskiq would log the error for each chunk, and some brokers lose the
        message of a task that raised.
        """
        batch = self._batch
        if batch is None:
            _LOG.critical("no chunk can be settled: the broker was not started as a worker's")
            return None
        counts: dict[str, int] = {}
        try:
            tally = await batch.work(message)
            counts = {str(label): count for label, count in tally.counts.items()}
        except InvalidRequestError as error:
            if not self._has_refused:
                self._has_refused = True
                _LOG.critical(
                    "this worker refuses a chunk: %s. Nothing of it was sent. Correct the settings "
                    "(WXPAY_APP_KEY, WXPAY_SEAL_KEY or the scheme's secret, WXPAY_STORE_URL, the "
                    "version of wxpay_async) and start it again; it gets no further chunks once it "
                    "holds as many as it may",
                    error,
                )
            return None
        except WxPayError as error:
            _LOG.error("a chunk was not settled, and will be sent again: %s", error)
        except Exception:  # noqa: BLE001 - a fault of the code; unacknowledged it would block us
            _LOG.exception("a chunk was not settled, and will be sent again")
        # A worker that was closed meanwhile may have left lines: another one has the rest at once.
        return None if self._batch is None else counts
