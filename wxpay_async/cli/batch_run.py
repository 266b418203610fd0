"""Run a batch, or report on one: what `wxpay-async batch` does after its options are read."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import define, evolve, field

from wxpay_async import InDoubtError, InvalidRequestError, NotSentError, PayGateway, WxPayError
from wxpay_async.adapters.stores.store import DAY
from wxpay_async.batch.batch import Batch, check_durable
from wxpay_async.batch.coordinating import Send
from wxpay_async.batch.lines import Lines
from wxpay_async.batch.outcome_file import Credentials, Stamp, begin_outcomes, write_outcomes
from wxpay_async.batch.report import render_report, write_report
from wxpay_async.batch.settling import is_open
from wxpay_async.batch.tally import LineOutcome, Tally
from wxpay_async.cli.batch_inputs import Places
from wxpay_async.cli.output import WARNING, translate, write_stderr
from wxpay_async.cli.progress import Progress
from wxpay_async.cli.progress_screen import show_progress
from wxpay_async.cli.signals import ENDING, watch_signals
from wxpay_async.language import Sentence

_RETENTION: Final = 30 * DAY
"""Seconds for which the shipped stores remember a finished operation, unless told otherwise."""

_FORGOTTEN: Final = Sentence(
    "the store may have forgotten lines that ended long ago",
    "存储可能已经忘记很久以前结束的行",
)

_MOST_OPEN: Final = 10_000
"""Lines without an end whose last error is kept; the store has no outcome of them."""


def find_retention(gateway: PayGateway) -> float:
    """Return for how many seconds a gateway's store remembers a finished operation."""
    inner: object = getattr(gateway.store, "store", gateway.store)
    retention: float = getattr(inner, "retention", _RETENTION)
    return retention


async def check_store(gateway: PayGateway) -> None:
    """Check that a store keeps what is sent.

    Raises:
        InvalidRequestError: it does not.
        NotSentError: it cannot be reached.
    """
    await gateway.store.open()
    try:
        await check_durable(gateway)
    except InvalidRequestError as error:
        raise error.called("--store, WXPAY_STORE_URL") from None


@define(eq=False, kw_only=True)
class BatchRun:
    """One run of a batch.

    Attributes:
        gateway: an open one; `progress` is one of its hooks.
        lines: what to bring to an end.
        stamp: of this run.
        places: where outcomes are written.
        progress: what is shown during the run.
        send: hands messages to workers; None where the calls are made here.
        credentials: where JSAPI parameters are written; None without `--credentials`.
        concurrency: calls at once.
        as_json: show the progress as JSON.
        signalled: the signal that asked the run to stop.
    """

    gateway: PayGateway
    lines: Lines
    stamp: Stamp
    places: Places
    progress: Progress
    send: Send | None = None
    credentials: Credentials | None = None
    concurrency: int = 64
    as_json: bool = False
    signalled: signal.Signals | None = field(default=None, init=False)
    _open: dict[int, LineOutcome] = field(factory=dict[int, LineOutcome], init=False)

    async def run(self) -> Tally | None:
        """Bring the lines to an end, and write how they ended.

        Returns:
            How all lines ended; None if a second signal cancelled it.

        Raises:
            InvalidRequestError: nothing was sent: the store is not durable, or the file of outcomes
                belongs to another batch.
            InDoubtError: something cannot be written; or the run broke off.
        """
        stamp = await asyncio.to_thread(
            begin_outcomes,
            self.places.outcomes,
            self.stamp,
            retention=find_retention(self.gateway),
        )
        # Ends of lines are recorded by the clock of the store.
        ahead = timedelta(seconds=self.gateway.store.ahead or 0.0)
        self.progress.begun_at = self.stamp.begun_at + ahead
        batch = Batch(self.gateway, concurrency=self.concurrency)
        task = asyncio.current_task()

        def stop(number: signal.Signals) -> None:
            if self.signalled is None:
                self.signalled, self.progress.is_stopping = number, True
                batch.stop()
                write_stderr(
                    "stopping:",
                    "requests under way come to their end; a second signal cancels them",
                    colour="yellow",
                )
            elif task is not None:
                task.cancel()

        with watch_signals(stop, *ENDING):
            try:
                async with show_progress(self.progress, as_json=self.as_json):
                    return await self._settle_and_write(batch, stamp)
            except asyncio.CancelledError:
                if self.signalled is None:
                    raise
                return None

    async def _settle_and_write(self, batch: Batch, stamp: Stamp) -> Tally:
        outcomes: AsyncIterator[LineOutcome]
        if self.lines.operation == "query":  # the store keeps no queries
            outcomes = self._settle(batch)
        else:
            async for outcome in self._settle(batch):
                if outcome.error is not None and len(self._open) < _MOST_OPEN:
                    self._note_open(outcome, outcome.error)
            self.progress.is_writing = True
            outcomes = self._recall(batch)
        return await write_outcomes(
            self.places.outcomes,
            outcomes,
            stamp=stamp,
            begun_at=self.progress.begun_at,
            csv_path=self.places.table,
        )

    async def _settle(self, batch: Batch) -> AsyncGenerator[LineOutcome]:
        try:
            send = None if self.send is None else self._hand_over
            async with contextlib.aclosing(batch.run(self.lines, send=send)) as outcomes:
                async for outcome in outcomes:
                    self.progress.add(outcome)
                    if self.credentials is not None:
                        self.credentials.add(outcome)
                    yield outcome
        except (InvalidRequestError, NotSentError) as error:
            if not self.progress.has_called:
                raise
            raise InDoubtError(
                f"the run broke off ({error.reason}); what was sent stands in the store, and the "
                "same command goes on"
            ) from error

    def _note_open(self, outcome: LineOutcome, error: WxPayError) -> None:
        """Note how the last call of a line ended, if the store will have no outcome of it."""
        if not outcome.is_refused or is_open(error):
            self._open[outcome.request.number] = outcome

    async def _hand_over(self, message: str) -> None:
        assert self.send is not None  # noqa: S101 - for the type
        try:
            await self.send(message)
        except Exception as error:  # of any library; its text may hold the address
            raise NotSentError(f"the broker takes no message ({type(error).__name__})") from error
        self.progress.has_called = True

    async def _recall(self, batch: Batch) -> AsyncGenerator[LineOutcome]:
        """Yield the outcomes of the store; for a line without one, how its last call ended."""
        async for outcome in batch.recall(self.lines):
            known = not outcome.is_open
            yield outcome if known else self._open.get(outcome.request.number, outcome)


async def read_report(
    gateway: PayGateway, lines: Lines, places: Places, stamp: Stamp, html: Path | None
) -> Tally:
    """Read from the store how a batch stands, without any call; write it as a page.

    Raises:
        InvalidRequestError: a line cannot be read; or the batch began in another store.
        NotSentError, InDoubtError: the store cannot be reached, or the page not be written.
    """
    first = _read_stamp(places.outcomes, stamp, find_retention(gateway))
    tally, begun_at = Tally(), stamp.begun_at
    try:
        async for outcome in Batch(gateway).recall(lines):
            tally.add(outcome)
            begun_at = min(begun_at, outcome.reserved_at or begun_at)
    finally:
        await gateway.aclose()
    if html is not None:
        # Without a file of outcomes, the batch began with the first record of a line in the store.
        shown = first or evolve(stamp, begun_at=begun_at)
        write_report(html, render_report(tally, stamp=shown, at=datetime.now(UTC)))
    return tally


def _read_stamp(path: Path, stamp: Stamp, retention: float) -> Stamp | None:
    """Return the stamp of the first run, None where its file is not here."""
    if not path.exists():
        return None
    first = Stamp.read(path)
    first.check(path, stamp, retention=math.inf)  # nothing is sent, however old it is
    if stamp.begun_at - first.begun_at > timedelta(seconds=retention):
        write_stderr(translate(WARNING), translate(_FORGOTTEN), colour="yellow")
    return first
