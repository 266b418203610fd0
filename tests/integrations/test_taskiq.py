"""Batches whose lines are settled by taskiq's workers."""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import attrs
import pytest
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, InMemoryBroker
from taskiq.receiver import Receiver

from tests.integrations.taskiq_worker import answer_refund, make_gateway
from tests.support.batches import make_refunds
from tests.support.canaries import OPENID, PLANTED_TOKEN, SECRET, find_leaks
from tests.support.platform import APP_KEY
from tests.support.services import RABBITMQ, require
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.chunks import seal
from wxpay_async.batch.coordinating import Send
from wxpay_async.batch.line import Line
from wxpay_async.batch.tally import Tally
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import NotSentError
from wxpay_async.integrations.taskiq import batch_task, rabbitmq
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.signing import Md5Signer

PATIENCE = 60.0  # seconds until a stuck test fails; nothing ever asserts on it
LINES = make_refunds(3)


def seal_for(gateway: PayGateway, lines: list[Line] = LINES) -> str:
    """Seal lines as the coordinator of this gateway does."""
    assert isinstance(gateway.store, SealedStore)
    return seal(lines, gateway.store.keys, app_key=gateway.app_key)


def store_url(folder: Path) -> str:
    """Name the store that all processes of a test share."""
    return f"sqlite:///{folder / 'store.db'}"


@attrs.define(eq=False)
class Deliveries(InMemoryBroker):
    """A broker whose worker gets messages that can be acknowledged, one by one.

    Attributes:
        sent: what was sent, as the wire has it.
        acknowledged: how many messages were.
    """

    sent: list[bytes] = attrs.field(factory=list[bytes])
    acknowledged: int = 0

    def __attrs_pre_init__(self) -> None:
        InMemoryBroker.__init__(self)

    async def kick(self, message: BrokerMessage) -> None:
        """Keep it until `deliver`."""
        self.sent.append(message.message)

    async def deliver(self) -> None:
        """Deliver what was sent, as taskiq's worker does."""
        receiver = Receiver(self, max_async_tasks=1)
        while self.sent:
            await receiver.callback(AckableMessage(data=self.sent.pop(0), ack=self._acknowledge))

    async def _acknowledge(self) -> None:
        self.acknowledged += 1


@asynccontextmanager
async def started(broker: AsyncBroker) -> AsyncGenerator[None]:
    """Start a broker, and end it."""
    await broker.startup()
    try:
        yield
    finally:
        await broker.shutdown()


@attrs.define(eq=False)
class Queue:
    """A queue, and a worker of taskiq that takes from it.

    Attributes:
        gateway: the worker's; the coordinator has the same.
        broker: what is started as the worker starts.
        send: what the coordinator sends chunks with.
    """

    gateway: PayGateway
    broker: Deliveries = attrs.field(factory=Deliveries)
    send: Send = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.send = batch_task(self.broker, lambda: self.gateway)

    async def deliver(self, *chunks: str) -> None:
        """Send chunks, and have the worker take them."""
        for chunk in chunks:
            await self.send(chunk)
        await self.broker.deliver()

    async def work(self, *chunks: str) -> None:
        """Start the worker, have it take chunks, and end it."""
        async with started(self.broker):
            await self.deliver(*chunks)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Make a queue whose worker settles refunds over a store of its own."""
    return Queue(make_gateway(store_url(tmp_path), answer_refund))


async def recall(gateway: PayGateway) -> list[str]:
    """Return how the lines ended, as the store shows it to the coordinator."""
    return [outcome.kind async for outcome in Batch(gateway).recall(LINES)]


# What a worker does with a chunk


async def test_chunk_is_settled_and_then_acknowledged(queue: Queue) -> None:
    """What was sent is executed by the worker; the store shows it to the coordinator."""
    async with started(queue.broker):
        await queue.send(seal_for(queue.gateway))
        assert 0 == queue.broker.acknowledged
        await queue.broker.deliver()
        kinds = await recall(queue.gateway)

    assert 1 == queue.broker.acknowledged
    assert ["ok"] * 3 == kinds


async def test_result_backend_gets_the_counts(queue: Queue) -> None:
    """A merchant who keeps results sees how many lines ended how, and nothing of them."""
    await queue.work(seal_for(queue.gateway))

    (result,) = queue.broker.result_backend.results.values()
    assert {"ok": 3} == result.return_value


async def test_one_gateway_serves_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened as the worker starts, not with each chunk, and closed as the worker ends."""
    broker, made, closed = Deliveries(), list[PayGateway](), list[PayGateway]()

    async def close(gateway: PayGateway) -> None:
        closed.append(gateway)

    def make() -> PayGateway:
        made.append(make_gateway(store_url(tmp_path), answer_refund))
        return made[-1]

    monkeypatch.setattr(PayGateway, "aclose", close)

    send = batch_task(broker, make)
    assert [] == made

    async with started(broker):
        for line in LINES:
            await send(seal_for(made[0], [line]))
        await broker.deliver()
        assert [] == closed

    assert 1 == len(made)
    assert closed == made


async def test_wrong_key_is_said_once_and_nothing_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Chunks that do not open stay in the queue for workers that have the key."""
    gateway = make_gateway(store_url(tmp_path), answer_refund, seal_keys=[b"1" * 32])
    queue = Queue(make_gateway(store_url(tmp_path), answer_refund, seal_keys=[b"2" * 32]))

    async with gateway:
        await queue.work(seal_for(gateway), seal_for(gateway))
        kinds = await recall(gateway)

    (said,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert logging.CRITICAL == said.levelno
    assert "WXPAY_SEAL_KEY" in said.getMessage()
    assert 0 == queue.broker.acknowledged
    assert ["open"] * 3 == kinds


async def test_chunk_that_opens_is_settled_after_one_that_does_not(queue: Queue) -> None:
    """One stale or foreign message takes no worker out of service."""
    await queue.work("bm9uc2Vuc2U=", seal_for(queue.gateway))

    assert 1 == queue.broker.acknowledged


async def test_store_that_forgets_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A worker without the shared store sends nothing."""
    queue = Queue(PayGateway(APP_KEY, Md5Signer(SECRET), store=MemoryStore()))

    await queue.work("bm9uc2Vuc2U=")

    assert "WXPAY_STORE_URL" in caplog.text
    assert 0 == queue.broker.acknowledged


@pytest.mark.parametrize("failure", [NotSentError("no store"), KeyError("a fault")], ids=repr)
async def test_failure_is_logged_and_blocks_no_worker(
    failure: Exception,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A chunk that was not settled is acknowledged: the coordinator sends its lines again."""

    async def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Batch, "work", fail)

    await queue.work(seal_for(queue.gateway))

    (said,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "was not settled" in said.getMessage()
    assert isinstance(failure, KeyError) == bool(said.exc_info)  # a traceback of a fault only
    assert 1 == queue.broker.acknowledged


@pytest.mark.parametrize("raises", [False, True], ids=["some lines are open", "raises"])
async def test_chunk_that_the_end_of_the_worker_broke_off_is_not_acknowledged(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, *, raises: bool
) -> None:
    """It goes to another worker at once, rather than after 15 minutes."""

    async def end(*_: object) -> Tally:
        await queue.broker.shutdown()
        if raises:
            raise NotSentError("the gateway was closed")
        return Tally()

    monkeypatch.setattr(Batch, "work", end)
    await queue.broker.startup()
    await queue.deliver(seal_for(queue.gateway))

    assert 0 == queue.broker.acknowledged


async def test_broker_that_was_not_started_settles_nothing(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver beside a broker that no worker started says so."""
    async with queue.gateway:
        await queue.deliver(seal_for(queue.gateway))

    assert "not started" in caplog.text
    assert 0 == queue.broker.acknowledged


async def test_broker_without_acknowledgements_will_do(tmp_path: Path) -> None:
    """What such a broker loses, the coordinator sends again."""
    broker = InMemoryBroker(await_inplace=True)
    gateway = make_gateway(store_url(tmp_path), answer_refund)
    send = batch_task(broker, lambda: gateway)

    async with started(broker):
        await send(seal_for(gateway))
        kinds = await recall(gateway)

    assert [False] == [result.is_err for result in broker.result_backend.results.values()]
    assert ["ok"] * 3 == kinds


async def test_queue_shows_no_credential_and_no_payer(queue: Queue) -> None:
    """Neither the message nor what taskiq puts around it."""
    pay = MiniProgramPay(request_id="p1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)

    async with started(queue.broker):
        await queue.send(seal_for(queue.gateway, [Line(number=1, request=pay)]))

    (wire,) = queue.broker.sent
    canaries = {"the openid": OPENID, "the payToken": PLANTED_TOKEN}
    assert [] == find_leaks({"queue": wire, "content": base64.b64encode(wire)}, canaries)


# Over RabbitMQ


@attrs.define(eq=False)
class Worker:
    """A worker process."""

    process: asyncio.subprocess.Process

    async def wait_for_chunk(self) -> None:
        """Wait until it has got a chunk."""
        assert self.process.stdout is not None
        assert b"chunk\n" == await self.process.stdout.readline()


@attrs.define(eq=False)
class Fleet:
    """A queue, a store, a sender and worker processes."""

    queue: str
    store_url: str
    gateway: PayGateway
    workers: list[Worker] = attrs.field(factory=list[Worker])

    async def start(self, answers: str, *, seal_key: str = "") -> Worker:
        """Start a worker whose platform answers, or hangs; with the store's key, or another."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.integrations.taskiq_worker"),
            *(RABBITMQ.url, self.queue, self.store_url, answers, seal_key),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.workers.append(Worker(process))
        return self.workers[-1]

    @asynccontextmanager
    async def open_sender(self) -> AsyncGenerator[Send]:
        """Yield what sends a chunk to the workers; fail the test if it is stuck."""
        broker = rabbitmq(RABBITMQ.url, queue=self.queue)
        send = batch_task(broker, lambda: self.gateway)
        async with started(broker), asyncio.timeout(PATIENCE):
            yield send


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Make a queue of the test's own, and take it away again."""
    url = require(RABBITMQ)
    name = f"wxpay-test-{uuid4().hex}"
    async with make_gateway(store_url(tmp_path), answer_refund) as gateway:
        made = Fleet(name, store_url(tmp_path), gateway)
        yield made
        for worker in made.workers:
            with suppress(ProcessLookupError):
                worker.process.kill()
            await worker.process.communicate()
    broker = rabbitmq(url, queue=name)
    async with started(broker):
        assert broker.write_channel is not None
        for queue in (name, f"{name}.expired"):
            await broker.write_channel.queue_delete(queue)
        await broker.write_channel.exchange_delete(name)


async def test_batch_runs_over_rabbitmq(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator sends sealed chunks, a worker process settles them, and the store says it."""
    monkeypatch.setattr("wxpay_async.batch.coordinating.LOOK_EVERY", 0.2)
    await fleet.start("answers")

    async with fleet.open_sender() as send:
        outcomes = [o async for o in Batch(fleet.gateway).run(LINES, send=send)]

    assert {1: "ok", 2: "ok", 3: "ok"} == {o.request.number: o.kind for o in outcomes}


async def test_chunk_of_a_killed_worker_goes_to_another(fleet: Fleet) -> None:
    """It was not acknowledged, so RabbitMQ has it again as soon as the connection is gone."""
    async with fleet.open_sender() as send:
        killed = await fleet.start("hangs")
        await send(seal_for(fleet.gateway))
        await killed.wait_for_chunk()
        other = await fleet.start("hangs")
        killed.process.kill()
        await other.wait_for_chunk()


async def test_worker_with_a_wrong_key_leaves_the_chunks_to_others(fleet: Fleet) -> None:
    """It holds as many as it may and gets no more; as it ends, the others have them."""
    async with fleet.open_sender() as send:
        wrong = await fleet.start("answers", seal_key="2" * 32)
        for line in LINES:
            await send(seal_for(fleet.gateway, [line]))
        await wrong.wait_for_chunk()
        await wrong.wait_for_chunk()
        right = await fleet.start("answers")
        await right.wait_for_chunk()
        wrong.process.terminate()
        await right.wait_for_chunk()
        await right.wait_for_chunk()
        await wrong.process.wait()
