# ruff: noqa: T201 - the figures are wanted, too
"""A till that gives money back without end, whatever becomes of its store, and what it was told.

Refunds are what a wrong word costs most in, and a query by a refund's own number says whether it
was made. The platform is a sandbox that never fails, so all doubt comes from the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from attrs import define, field, frozen

from tests.support import asking
from tests.support.tasks import wait_until
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import DuplicateRequestError, Fate, WxPayError
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.states import State
from wxpay_async.protocol.requests import Refund
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.sandbox import Sandbox

ORDER: Final = "O-1"
"""What is given back, by one cent after another."""

AT_ONCE: Final = 8
"""Refunds under way at the same time."""

RECOVERED_WITHIN: Final = 10.0
"""Seconds after a fault; 2 are wanted, and a busy machine may need longer."""

PATIENCE: Final = 50.0
"""Seconds until a test that is stuck fails."""

_PAUSE: Final = 0.02  # seconds; what is refused at once must not keep the machine from working
_GLANCE: Final = 0.01  # seconds between two looks at what was told


@define(eq=False)
class PassingClock(Clock):
    """The machine's clock, on which a test lets time pass."""

    passed: float = 0.0

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.passed

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic() + self.passed


@frozen(kw_only=True)
class Told:
    """One refund, and what was told of it.

    Attributes:
        request: what was asked for.
        begun: when, by a monotonic clock.
        ended: when the word came.
        error: None if it was made.
    """

    request: Refund
    begun: float
    ended: float
    error: WxPayError | None


@define(eq=False, kw_only=True)
class Till:
    """Gives money back.

    Attributes:
        told: every refund so far.
    """

    sandbox: Sandbox
    store: Store
    gateway: PayGateway
    clock: PassingClock
    told: list[Told] = field(factory=list[Told])
    _numbers: Iterator[int] = field(factory=itertools.count)
    _open: bool = field(default=False, init=False)

    async def give_back(self) -> Told:
        """Give one cent back."""
        number = next(self._numbers)
        request = asking.refund(
            f"refund-{number}", out_trade_no=f"R-{number}", refund_amount="0.01"
        )
        begun, error = time.monotonic(), None
        try:
            await self.gateway.refund(request)
        except WxPayError as raised:
            error = raised
        self.told.append(
            told := Told(request=request, begun=begun, ended=time.monotonic(), error=error)
        )
        return told

    @contextlib.asynccontextmanager
    async def busy(self, *, healthy: bool = True) -> AsyncGenerator[None]:
        """Give money back all the time, until the end of the block.

        Args:
            healthy: whether to wait until some is given back, before the block begins.
        """
        async with asyncio.timeout(PATIENCE):
            self._open = True
            tasks = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]
            try:
                if healthy:
                    await wait_until(lambda: self._succeeded(0.0) >= 2 * AT_ONCE, pause=_GLANCE)
                yield
            finally:
                self._open = False
                await asyncio.gather(*tasks)

    async def _work(self) -> None:
        while self._open:
            told = await self.give_back()
            await asyncio.sleep(_PAUSE if told.error is None else 3 * _PAUSE)

    async def recover(self) -> float:
        """Take note that the fault has ended; wait until every refund is made again.

        Returns:
            Seconds from now until the last failure, or the first success if there was no failure.
        """
        end = time.monotonic()
        await wait_until(lambda: self._succeeded(end) >= 5 * AT_ONCE, pause=_GLANCE)
        failures = [told.ended for told in self.told if told.error and told.ended > end]
        first = min(told.ended for told in self.told if told.begun > end and not told.error)
        return max([first, *failures]) - end

    def _succeeded(self, since: float) -> int:
        """Count the refunds that began since then and were made, after the last that was not."""
        count = 0
        for told in self.told:
            if told.begun > since:
                count = 0 if told.error else count + 1
        return count

    async def wait_for_failures(self, count: int = AT_ONCE) -> None:
        """Wait until so many were not made."""
        await wait_until(lambda: sum(1 for told in self.told if told.error) >= count, pause=_GLANCE)

    def report(self, fault: str, recovery: float) -> None:
        """Print the figures."""
        unsent = sum(1 for told in self.told if told.error and told.error.fate is Fate.NOT_SENT)
        doubts = sum(1 for told in self.told if told.error and told.error.fate is Fate.IN_DOUBT)
        longest = max(told.ended - told.begun for told in self.told)
        print(
            f"\n{fault}: recovered after {recovery:.2f} s; of {len(self.told)} refunds {unsent}"
            f" told unsent, {doubts} in doubt; the longest took {longest:.2f} s"
        )

    def executed(self, told: Told) -> bool:
        """Tell whether the platform has made it."""
        return bool(self.sandbox.platform.find_entries(told.request.request_id or ""))

    async def check_words(self, *, lost: bool = False) -> None:
        """Check that every word was true, and that every refund ends well and is made once.

        Time passes for that: until the leases of what could not be recorded are over.

        Args:
            lost: whether the store may have lost its last writes. What was told to be made is then
                asked for again as well: it must not be made twice, and may wait for a person.
        """
        told_wrong = {
            told.request.request_id: repr(told.error)
            for told in self.told
            if not _is_true(told.error, executed=self.executed(told))
        }
        assert {} == told_wrong

        self.clock.passed += LEASE + 1
        await self.gateway.recover()
        again = [told.request for told in self.told if lost or told.error is not None]
        for first in range(0, len(again), AT_ONCE):
            portion = again[first : first + AT_ONCE]
            await asyncio.gather(*(self._make_again(request, lost=lost) for request in portion))
        made = [
            entry.request_id for entry in self.sandbox.platform.ledger if entry.kind == "refund"
        ]
        assert sorted(told.request.request_id or "" for told in self.told) == sorted(made)
        for told in self.told:
            record = await self.gateway.store.load((self.gateway.app_key, told.request.request_id))
            assert record is not None
            assert lost or record.state is State.SUCCEEDED

    async def _make_again(self, request: Refund, *, lost: bool) -> None:
        forgotten = (DuplicateRequestError,) if lost else ()  # by the store, not by the platform
        with contextlib.suppress(*forgotten):
            await self.gateway.refund(request)


def _is_true(error: WxPayError | None, *, executed: bool) -> bool:
    if error is None:
        return executed
    return error.fate is Fate.IN_DOUBT or (error.fate is Fate.NOT_SENT and not executed)


@contextlib.asynccontextmanager
async def open_till(store: Store) -> AsyncGenerator[Till]:
    """Open a till over the store, at a platform of its own where an order is paid."""
    clock = PassingClock()
    app_key = f"till-{uuid.uuid4().hex}"  # no store has ever heard of it
    async with Sandbox(app_key=app_key, quota=None, clock=clock.time) as sandbox:
        await _pay_order(sandbox)
        gateway = PayGateway(
            sandbox.app_key,
            Md5Signer(sandbox.app_secret),
            base_url=sandbox.url,
            store=store,
            limiter=Unlimited(),
            refunds_queryable=True,
            clock=clock,
        )
        try:
            yield Till(sandbox=sandbox, store=store, gateway=gateway, clock=clock)
        finally:
            await gateway.aclose()


async def _pay_order(sandbox: Sandbox) -> None:
    price = "100000.00"
    order = asking.trade(trade_info=[asking.item(ORDER, price)], pay_method=asking.method(price))
    async with PayGateway(
        sandbox.app_key, Md5Signer(sandbox.app_secret), base_url=sandbox.url
    ) as gateway:
        made = await gateway.trade(order)
        await gateway.pay(asking.pay(pay_token=made.pay_token, out_trade_no=ORDER))
    sandbox.platform.confirm(ORDER)
