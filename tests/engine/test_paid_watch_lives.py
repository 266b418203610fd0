"""Waiting until orders are paid: random lives of callers, and what can happen to them."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from attrs import define, field
from hypothesis import given, strategies as st

from tests.support.clock import loop_time, run_virtual
from tests.support.tasks import list_operations
from tests.support.watched import Platform, SharedStore, make_notification, start
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.protocol.results import TradeState

STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 3.0, 10.0, 60.0])),
    st.tuples(st.just("wait patiently"), st.sampled_from([20.0, 200.0])),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("callback"), st.sampled_from(["TRADE_SUCCESS", "TRADE_CLOSED"])),
    st.tuples(st.just("tell"), st.sampled_from([TradeState.PAID, TradeState.CLOSED])),
    st.tuples(st.just("answer after"), st.sampled_from([0.0, 0.1, 5.0, 20.0])),
    st.tuples(st.just("query"), st.none()),
    st.tuples(st.just("pay"), st.none()),
)


@define(eq=False)
class Life:
    """Callers that come, wait and go, and what can happen to them meanwhile."""

    platform: Platform = field(factory=Platform)
    store: SharedStore = field(factory=SharedStore)
    gateway: PayGateway = field(init=False)
    waits: list[tuple[float, float, asyncio.Task[tuple[float, str]]]] = field(factory=list)
    asked: list[asyncio.Task[object]] = field(factory=list)
    paid_at: float = math.inf

    async def run(self, steps: list[tuple[float, tuple[str, Any]]]) -> None:
        """Take the steps, each after a pause, and wait until all is over."""
        self.gateway = self.platform.open_gateway(store=self.store)
        for pause, (name, value) in steps:
            await asyncio.sleep(pause)
            await self.take(name, value)
        tasks = [task for _, _, task in self.waits] + self.asked
        if tasks:
            await asyncio.wait(tasks)

    async def take(self, name: str, value: Any) -> None:  # noqa: ANN401 - as the step needs it
        """Take one step."""
        if name in {"wait", "wait patiently"}:
            every = 2.0 if name == "wait" else 30.0
            wait = start(self.gateway, timeout=value, every=every)
            self.waits.append((loop_time(), value, wait))
        elif name == "cancel" and self.waits:
            self.waits[value % len(self.waits)][2].cancel()
        elif name == "callback":
            await self.gateway.apply_notification(make_notification(trade_status=value))
        elif name == "tell":
            await self.store.tell("O-1", value)
        elif name == "answer after":
            self.platform.lasting = value
        elif name == "query":
            query = self.gateway.query(out_trade_no="O-1", timeout=60.0)
            self.asked.append(asyncio.ensure_future(query))
        elif name == "pay":
            self.platform.texts["O-1"] = "支付成功"
            self.paid_at = min(self.paid_at, loop_time())

    def check(self) -> None:
        """Check that every caller heard the truth, in its time."""
        for began, timeout, wait in self.waits:
            if wait.cancelled():
                continue
            ended, how = wait.result()
            assert ended <= began + max(timeout, 3.0) + 3.0
            if how == TradeState.PAID:
                assert ended >= self.paid_at
            else:
                assert "InDoubtTimeoutError" == how
                assert ended >= began + timeout - 0.001


@given(steps=st.lists(st.tuples(st.sampled_from([0.0, 0.05, 0.7, 2.0, 9.0]), STEPS), max_size=25))
def test_callers_hear_the_truth_in_time_whatever_happens(
    steps: list[tuple[float, tuple[str, Any]]],
) -> None:
    """They come, wait and go as they like; in the end nothing is left of it."""

    async def run() -> tuple[Life, set[str], int]:
        life = Life()
        await life.run(steps)
        left, queries = list_operations(), life.platform.queries
        await asyncio.sleep(100.0)
        assert queries == life.platform.queries
        return life, left, len(life.gateway._dispatcher.paid_watch._orders)

    life, left, awaited = run_virtual(run())
    life.check()
    assert (set(), 0) == (left, awaited)
    assert life.platform.at_once["O-1"] <= 1 + len(life.asked)
