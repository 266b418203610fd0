"""The processes of the batch checks: one that has the file, and taskiq's workers.

    python -m tests.chaos.batch_worker refunds.jsonl outcomes.jsonl          # calls by itself
    python -m tests.chaos.batch_worker refunds.jsonl outcomes.jsonl --send   # has workers call
    taskiq worker tests.chaos.batch_worker:make_broker

The environment says the rest: what `PayGateway.from_env` reads, and the variables below. A process
ends with status 0 when every line has an outcome and the file of outcomes is written. Workers note
which lines they take, so that a check knows what one had when it was killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq_aio_pika import AioPikaBroker

from wxpay_async import PayGateway, Timeouts, Unlimited
from wxpay_async.adapters.limiters.limiter import Limiter
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.batch import Batch, read_lines
from wxpay_async.batch.chunks import unseal
from wxpay_async.batch.coordinating import Send
from wxpay_async.batch.outcome_file import Stamp, begin_outcomes, identify_store, write_outcomes
from wxpay_async.engine.environment import make_quota
from wxpay_async.integrations.taskiq import batch_task, rabbitmq

BROKER: Final = "BATCH_BROKER"
QUEUE: Final = "BATCH_QUEUE"
FREE: Final = "BATCH_QUOTA_FREE"
NOTES: Final = "BATCH_NOTES"
"""A folder for what workers note; they note nothing without it."""

_QUOTA: Final = "WXPAY_QUOTA_URL"
_OPERATION: Final = "refund"
_RETENTION: Final = 30 * 86_400.0


def make_gateway() -> PayGateway:
    """Make the gateway of any of these processes."""
    return PayGateway.from_env(limiter=_make_limiter())


def _make_limiter() -> Limiter | None:
    if os.environ.get(FREE):
        return Unlimited()
    if not os.environ.get(_QUOTA):
        return None
    # The appKey is the run's own, so nobody used it a minute ago; from_env assumes that somebody
    # did, and lets half of the first minute pass.
    quota = make_quota(Timeouts())
    return RedisLimiter(os.environ[_QUOTA], os.environ["WXPAY_APP_KEY"], quota=quota, idle=True)


async def run(path: Path, outcomes: Path, send: Send | None) -> Counter[str]:
    """Bring a file to an end, as the command does; return how the run saw its lines end."""
    lines, seen = read_lines(path, _OPERATION), Counter[str]()
    async with make_gateway() as gateway:
        stamp = Stamp(
            store=identify_store(os.environ["WXPAY_STORE_URL"]),
            app_key=gateway.app_key,
            operation=_OPERATION,
            input=path.name,
            begun_at=datetime.now(UTC),
        )
        stamp = begin_outcomes(outcomes, stamp, retention=_RETENTION)
        batch = Batch(gateway)
        async for outcome in batch.run(lines, send=send):
            seen[outcome.kind] += 1
        await write_outcomes(outcomes, batch.recall(lines), stamp=stamp)
    return seen


@contextlib.asynccontextmanager
async def _open_sender() -> AsyncIterator[Send]:
    broker = _make_rabbitmq()
    send = batch_task(broker, make_gateway)
    await broker.startup()
    try:
        yield send
    finally:
        await broker.shutdown()


def _make_rabbitmq() -> AioPikaBroker:
    return rabbitmq(os.environ[BROKER], queue=os.environ[QUEUE])


def make_broker() -> AioPikaBroker:
    """Make the broker of a worker process."""
    broker = _make_rabbitmq()
    if folder := os.environ.get(NOTES):
        broker.add_middlewares(NotingMiddleware(Notes(Path(folder))))
    batch_task(broker, make_gateway)
    return broker


@define(eq=False)
class Notes:
    """Writes down which lines this process takes, and of which it is rid.

    Args:
        folder: where; each process has a file of its own, named by its group of processes.
    """

    folder: Path
    _keys: list[bytes] = field(init=False)
    _app_key: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        gateway = make_gateway()  # for its keys only: it is never opened
        store = gateway.store
        assert isinstance(store, SealedStore)
        self._keys, self._app_key = list(store.keys), gateway.app_key

    def note(self, what: str, message: str) -> None:
        """Write one line, at once."""
        lines = unseal(message, self._keys, app_key=self._app_key)
        numbers = [line.number for line in lines]
        with (self.folder / f"taken-{os.getpgrp()}").open("a") as file:
            file.write(json.dumps({"at": time.time(), "what": what, "lines": numbers}) + "\n")


def read_taken(folder: Path, group: int) -> set[int]:
    """Return the lines that a group of processes has taken and is not rid of."""
    path, taken = folder / f"taken-{group}", Counter[int]()
    for text in path.read_text().splitlines() if path.exists() else ():
        note = json.loads(text)
        for number in note["lines"]:
            taken[number] += 1 if note["what"] == "taken" else -1
    return {number for number, times in taken.items() if times > 0}


@define(eq=False)
class NotingMiddleware(TaskiqMiddleware):
    """Notes the lines of every message before its task, and after it."""

    notes: Notes

    def __attrs_pre_init__(self) -> None:
        TaskiqMiddleware.__init__(self)

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Note what is taken."""
        self.notes.note("taken", message.args[0])
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Note what is done."""
        del result
        self.notes.note("done", message.args[0])


async def _main(options: argparse.Namespace) -> None:
    if not options.send:
        seen = await run(options.file, options.outcomes, None)
    else:
        async with _open_sender() as send:
            seen = await run(options.file, options.outcomes, send)
    sys.stdout.write(f"{json.dumps(seen)}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the stage says."""
    made = argparse.ArgumentParser(description="Bring a file of refunds to an end.")
    made.add_argument("file", type=Path)
    made.add_argument("outcomes", type=Path)
    made.add_argument("--send", action="store_true", help="have workers make the calls")
    asyncio.run(_main(made.parse_args(arguments)))


if __name__ == "__main__":
    main()
