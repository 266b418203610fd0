"""Bring the lines of a batch to an end, in this process or by workers.

The store knows every requestId and how it ended. So there is no table of runs: a repeated run reads
back the lines that have ended, 500 at a time, and calls only the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import Any, Final, TypeAlias

from attrs import define, field

from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.batch.chunks import unseal
from wxpay_async.batch.coordinating import Coordinator, Send
from wxpay_async.batch.line import Line
from wxpay_async.batch.lines import Lines
from wxpay_async.batch.settling import Settling, read_windows, recall_lines
from wxpay_async.batch.tally import Tally
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome, iterate
from wxpay_async.errors import InvalidRequestError

AnyLines: TypeAlias = Lines | Iterable[Line] | AsyncIterable[Line]

PATIENCE: Final = 3_600.0
"""Seconds without the end of any line, after which a run gives up those that are left."""

WORKER_PATIENCE: Final = 600.0
"""The same for a worker: less than the 30 minutes that RabbitMQ waits for an acknowledgement."""


@define(eq=False)
class Batch:
    """Brings each line to its end exactly once, also when a run is repeated.

    Args:
        gateway: makes the calls. Its store must survive the loss of a process; for `send=` and
            `work` all machines share it, and the quota.
        concurrency: calls at once.
        clock: the machine's, unless a test moves it.
    """

    gateway: PayGateway
    concurrency: int = field(default=64, kw_only=True)
    clock: Clock = field(factory=Clock, kw_only=True)
    _running: set[Settling | Coordinator] = field(factory=set[Settling | Coordinator], init=False)

    async def run(
        self, lines: AnyLines, *, send: Send | None = None
    ) -> AsyncGenerator[Outcome[Line, Any]]:
        """Yield the outcome of every line, in the order in which they end.

        A line that has ended in the store is not called again. A line without an end is called
        again, until no line has ended for an hour; then it is yielded with the outcome of its last
        call (with `send`: as `open`).

        Args:
            lines: a file (`read_lines`), or lines of one operation; any number of them.
            send: hands a message, a sealed text, to a worker, which calls `work` with it. Without
                `send` this process makes the calls.

        Raises:
            InvalidRequestError: the store is not durable; or a line cannot be read, which is raised
                when that line is reached. `Lines.check` finds all faults beforehand.
            NotSentError: the gateway was closed before every line was begun; or the store could not
                be asked whether it is durable.
        """
        await check_durable(self.gateway)
        first, rest = await self._peek(lines)
        if first is None:
            return
        work: Settling | Coordinator
        if send is None:
            work = self._make_settling(first, PATIENCE)
            outcomes = work.settle(rest)
        else:
            if first.request_id is None:
                raise InvalidRequestError(
                    "the store keeps no queries, so it cannot show how workers ended them",
                    field="send",
                    allowed="pay, trade, refund",
                )
            work = Coordinator(
                gateway=self.gateway, send=send, keys=self._seal_keys(), clock=self.clock
            )
            outcomes = work.run(rest)
        self._running.add(work)
        try:
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    yield outcome
        finally:
            self._running.discard(work)

    def stop(self) -> None:
        """Begin no more calls; every `run` ends when the calls under way have ended.

        Where `batch.watched_calls.note_attempts` is a hook of the gateway, only attempts under way
        are waited for. A call that waits for the quota, which may be full for minutes, is given up
        then, and its line is `open`.
        """
        for work in self._running:
            work.stop()

    async def work(self, message: str) -> Tally:
        """Bring the lines of a message to an end; a worker calls it for each message.

        It does not raise for the outcome of a line: the coordinator reads outcomes from the store.

        Returns:
            How they ended.

        Raises:
            InvalidRequestError: the store is not durable; or the message does not open with the
                keys of this gateway.
            NotSentError: the store could not be asked whether it is durable.
        """
        await check_durable(self.gateway)
        lines = unseal(message, self._seal_keys(), app_key=self.gateway.app_key)
        tally = Tally()
        if lines:
            settling = self._make_settling(lines[0], WORKER_PATIENCE)
            self._running.add(settling)
            try:
                async for outcome in settling.settle(iterate(lines)):
                    tally.add(outcome)
            finally:
                self._running.discard(settling)
        return tally

    async def recall(self, lines: AnyLines) -> AsyncGenerator[Outcome[Line, Any]]:
        """Yield the outcome that the store has of each line, in their order, without any call.

        A line that has no end yet is `open`; so is every query.

        Raises:
            InvalidRequestError: a line cannot be read.
            NotSentError, InDoubtError: the store cannot be reached.
        """
        async for window in read_windows(self._iterate(lines)):
            for line, outcome in zip(window, await recall_lines(self.gateway, window), strict=True):
                yield outcome or Outcome(kind="open", request=line)

    def _make_settling(self, first: Line, patience: float) -> Settling:
        return Settling(
            gateway=self.gateway,
            operation=first.operation,
            concurrency=self.concurrency,
            patience=patience,
            clock=self.clock,
        )

    def _iterate(self, lines: AnyLines) -> AsyncIterator[Line]:
        return iterate(lines.read(self.gateway.app_key) if isinstance(lines, Lines) else lines)

    async def _peek(self, lines: AnyLines) -> tuple[Line | None, AsyncIterator[Line]]:
        iterator = self._iterate(lines)
        first = await anext(iterator, None)
        return first, iterator if first is None else _chain(first, iterator)

    def _seal_keys(self) -> list[bytes]:
        store = self.gateway.store
        if isinstance(store, SealedStore):
            return list(store.keys)
        raise InvalidRequestError(
            "it has no keys to seal messages with", field="store", allowed="a sealed store"
        )


async def check_durable(gateway: PayGateway) -> None:
    """Check that a gateway's store keeps what is sent.

    Raises:
        InvalidRequestError: it does not.
        NotSentError: it cannot be asked.
    """
    store = gateway.store
    if not store.durable:
        await store.open()  # a Redis says so once it is asked for its settings
    if not store.durable:
        raise InvalidRequestError(
            "it forgets with the process what was sent, or may drop it: the lines would go twice",
            field="store",
            allowed="a durable one: a database (an SQLite file, PostgreSQL, MySQL, MariaDB), or a "
            "Redis that writes to disk and evicts nothing",
        )


async def _chain(first: Line, rest: AsyncIterator[Line]) -> AsyncIterator[Line]:
    yield first
    async for line in rest:
        yield line
