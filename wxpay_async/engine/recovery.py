"""Look after operations that a crash or a lost answer left open, at start and every 30 s."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Final

from attrs import define, field

from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.resolver import Resolver
from wxpay_async.errors import WxPayError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.states import FINISHED

RECOVER_EVERY: Final = 30.0
"""Seconds between two looks."""

_BATCH: Final = 100
"""Operations that are checked at the same time."""

_PORTION: Final = 1000
"""Operations that are forgotten at a time."""

_PAUSE: Final = 0.05
"""Seconds between two portions."""

_LOG: Final = logging.getLogger("wxpay_async")


@define(eq=False, kw_only=True)
class Recovery:
    """Settles what is open and due, once or in the background.

    Attributes:
        app_key: whose operations.
        store: where they are.
        clock: for the schedule.
        resolver: checks one operation.
        timeout: seconds for each check.
    """

    app_key: str
    store: IdempotencyStore
    clock: Clock
    resolver: Resolver
    timeout: float
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    async def run_once(self) -> int:
        """Check every operation that is open and due; return how many were settled.

        What is given up, and waits for a person, is not settled.

        A check that fails does not keep the others from ending: none may go on behind a gateway
        that is closed, and a thousand others are due. The first error is raised in the end.
        """
        if self.store.ahead is None:
            await self.store.open()
        settled, failures = 0, list[BaseException]()
        while True:
            due = await self.store.due(self.app_key, self.clock.time(), limit=_BATCH)
            deadline = Deadline.after(self.timeout, self.clock.monotonic)
            checks = (self.resolver.check(record, deadline) for record in due)
            for found in await asyncio.gather(*checks, return_exceptions=True):
                if isinstance(found, BaseException):
                    failures.append(found)
                else:
                    settled += found[0].state in FINISHED
            if len(due) < _BATCH:
                break
        if failures:
            raise failures[0]
        return settled

    async def forget_old(self) -> None:
        """Drop what is older than the store remembers, with pauses in which payments go on."""
        until = self.clock.monotonic() + RECOVER_EVERY / 2
        while self.clock.monotonic() < until:
            dropped = await self.store.forget(self.app_key, self.clock.time(), limit=_PORTION)
            if dropped < _PORTION:
                return
            await asyncio.sleep(_PAUSE)

    def start(self) -> None:
        """Run in the background until `stop`, unless it does already."""
        if self._task is None or self._task.done():
            # In an empty context: it must not go on in the span of the code that opened a gateway.
            self._task = asyncio.create_task(self._run_forever(), context=contextvars.Context())

    async def stop(self) -> None:
        """End the background task."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def forget(self) -> None:
        """Drop the background task of an event loop that is gone."""
        self._task = None

    async def _run_forever(self) -> None:
        while True:
            try:
                await self.run_once()
                await self.forget_old()
            except WxPayError as error:  # the store is down; the next look may find it up
                _LOG.warning("recovery could not look: %s", error.reason)
            except Exception:  # noqa: BLE001 - a store or transport of others must not end it
                _LOG.exception("recovery could not look")
            await asyncio.sleep(RECOVER_EVERY)
