"""Pause a stream of requests in an outage: wait as `policy/outage_gate.py` says, and tell hooks."""

from __future__ import annotations

import asyncio

from attrs import define, field

from wxpay_async.engine.clock import Clock
from wxpay_async.engine.telemetry import Telemetry
from wxpay_async.policy.outage_gate import Evidence, OutageGate


@define(eq=False)
class OutagePauses:
    """Lets the calls of one stream start, or wait while it pauses.

    Attributes:
        operation: what is called: pay, refund or query.
        clock: for the pauses.
        telemetry: hears of them.
    """

    operation: str
    clock: Clock
    telemetry: Telemetry
    _gate: OutageGate = field(factory=OutageGate, init=False)
    _ended: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def wait(self) -> int:
        """Wait until a call may start, and begin it.

        Returns:
            What `end` takes.
        """
        while (delay := self._gate.delay(self.clock.monotonic())) != 0:
            if delay is None:
                self._ended.clear()
                await self._ended.wait()
            else:
                await self.clock.sleep(delay)
        return self._gate.start()

    def end(self, started: int, evidence: Evidence) -> None:
        """Report how a call ended."""
        pause = self._gate.end(started, evidence, self.clock.monotonic())
        self._ended.set()
        if pause is not None:
            self.telemetry.pause_changed(self.operation, pause)
