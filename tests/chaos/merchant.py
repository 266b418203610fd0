"""A merchant's process: it works through its purchases, whatever the network does, until it dies.

    python -m tests.chaos.merchant '{"worker": 0, ...}'

A merchant that is started again passes over what its notebook calls finished and takes up the rest
from the beginning: what was done before its death comes out of the idempotency store.

The payer confirms at the sandbox itself, not through the network under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import aiohttp
from attrs import define, field, frozen

from tests.chaos.breaks import BREAKS, NEW_REQUEST_ID, ONE_SEAL_KEY, fenced_or_not
from tests.chaos.jobs import Job, jobs
from tests.chaos.notebook import Notebook, read_finished, reason, verdict
from tests.chaos.outage import AwayStore, is_file
from tests.chaos.timepiece import MerchantClock, Timepiece
from wxpay_async import (
    InProgressError,
    Md5Signer,
    PayGateway,
    RefusedError,
    RetryPolicy,
    Timeouts,
    Unlimited,
    WxPayError,
)
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import Fate
from wxpay_async.policy.states import FINAL, State
from wxpay_async.protocol.results import TradeState

PATIENCE: Final = 6
"""How often a merchant asks again within one go."""

_SURE: Final = 2
"""How often a query must say that an order is not paid."""

_PAID: Final = frozenset({TradeState.PAID, TradeState.REFUNDING, TradeState.REFUNDED})
_SETTLED: Final = FINAL | {State.RESERVED}
_ENDED: Final = {None, *FINAL}
_TIMES: Final = (46.0, 700.0, 61.0, 61.0, *(3601.0, 61.0, 61.0) * 20)
"""Seconds to let pass, one after the other, until nothing is open: leases, quarantine, hours."""


@frozen(kw_only=True)
class Orders:
    """What the stage tells a merchant; the command line holds it as JSON.

    Attributes:
        base_url: the platform, through the network.
        sandbox_url: the platform itself, for the payer.
        app_key: whose operations.
        secret: signs the requests.
        first_secret: the one at the beginning.
        former: secrets before it, and the next one; they open what is kept.
        store_url: where operations are kept.
        folder: where notebooks and the timepiece are.
        seed: decides the purchases.
        payments: how many there are.
        worker: which merchant this is.
        life: how often it was started before.
        workers: how many merchants there are.
        shared: every so many-th purchase belongs to all of them; 0 for none.
        concurrency: purchases at once.
        pace: seconds between two purchases of one hand.
        tend: seconds between two recoveries, 0 for none but the gateway's own.
        broken: the mistake to make.
        tasks: what to do: work, settle, replay.
    """

    base_url: str
    sandbox_url: str
    app_key: str
    secret: str
    first_secret: str
    store_url: str
    folder: str
    seed: int
    payments: int
    worker: int
    life: int = 0
    workers: int = 1
    shared: int = 0
    concurrency: int = 32
    pace: float = 0.0
    tend: float = 0.0
    broken: str | None = None
    former: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("work",)

    def mine(self, job: Job) -> bool:
        """Tell whether a purchase is this merchant's, or everybody's."""
        everybodys = self.shared and job.index % self.shared == 0
        return everybodys or job.index % self.workers == self.worker


@define(eq=False, kw_only=True)
class Merchant:
    """Makes purchases through a gateway, and writes down what it hears."""

    orders: Orders
    gateway: PayGateway
    notebook: Notebook
    payer: aiohttp.ClientSession
    anew: int = field(default=0, init=False)

    async def work(self, purchases: Iterable[Job]) -> None:
        """Make the purchases, several at once."""
        queue = iter(list(purchases))

        async def hand() -> None:
            for job in queue:
                await asyncio.sleep(self.orders.pace)
                if await self.purchase(job):
                    self.notebook.finish(job.index)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.orders.concurrency):
                group.create_task(hand())

    async def purchase(self, job: Job) -> bool:
        """Take one purchase to its end; tell whether it got there."""
        trade = await self._known("trade", job.trade, self.gateway.trade)
        if trade.kind != "ok" or trade.result.pay_token is None:
            return verdict(trade) in {"ok", "refused"}
        token = trade.result.pay_token
        pay = await self._known("pay", lambda _: job.pay(token), self.gateway.pay)
        if pay.kind == "ok":
            await self._confirm(job)
        elif verdict(pay) != "refused":
            return False
        paid = await self.ask_if_paid(job)
        if not paid or job.refunded is None:
            return paid is not None
        refund = await self._known("refund", job.refund, self.gateway.refund)
        return verdict(refund) in {"ok", "refused"}

    async def _known(
        self,
        operation: str,
        make: Callable[[int], object],
        call: Callable[[object], Awaitable[object]],
    ) -> Outcome[object, object]:
        """Call until the outcome is known, or patience is at its end."""
        careless = self.orders.broken == NEW_REQUEST_ID
        again = self.orders.life if careless else 0  # a death is a doubt, too
        for turn in range(PATIENCE):
            await asyncio.sleep(0.05 * turn)
            request = make(again)
            self.notebook.note(operation, request.request_id, "invoke")
            outcome = await _outcome(call(request))
            self._note(operation, request.request_id, outcome)
            if careless:
                again += verdict(outcome) == "doubt"
            elif _in_doubt(outcome):
                outcome = await self._resolved(operation, request.request_id)
            if verdict(outcome) in {"ok", "refused"}:
                break
        return outcome

    async def _resolved(self, operation: str, request_id: str) -> Outcome[object, object]:
        try:
            outcome = await self.gateway.resolve(request_id, reissue=operation == "pay")
        except WxPayError as error:
            return Outcome.from_error(request_id, error)
        self._note(operation, request_id, outcome)
        return outcome

    def _note(self, operation: str, request_id: str, outcome: Outcome[object, object]) -> None:
        said = verdict(outcome)
        replayed = outcome.result.replayed if outcome.kind == "ok" else True
        self.anew += operation != "pay" and not replayed
        self.notebook.note(operation, request_id, said, **reason(outcome.error))

    async def _confirm(self, job: Job) -> None:
        self.notebook.note("order", job.number, "confirm")
        form = {"outTradeNo": job.number, "appKey": self.orders.app_key}
        async with self.payer.post("/sandbox/confirm", data=form) as answer:
            await answer.read()

    async def ask_if_paid(self, job: Job) -> bool | None:
        """Query the order; None when nobody answers.

        "Not paid" is believed when it is heard twice: a replica may lag.
        """
        unpaid = 0
        for turn in range(PATIENCE):
            await asyncio.sleep(0.05 * turn)
            outcome = await _outcome(self.gateway.query(out_trade_no=job.number))
            paid = outcome.kind == "ok" and outcome.result.state in _PAID
            unpaid += not paid and (outcome.kind == "ok" or _unheard_of(outcome.error))
            if paid or unpaid == _SURE:
                self.notebook.note("order", job.number, "paid" if paid else "unpaid")
                return paid
        return None

    async def tend(self) -> None:
        """Recover again and again, more often than the gateway does by itself."""
        while True:
            await asyncio.sleep(self.orders.tend)
            with contextlib.suppress(WxPayError):
                await self.gateway.recover()


async def _outcome(call: Awaitable[object]) -> Outcome[object, object]:
    try:
        return Outcome.from_result(None, await call)
    except WxPayError as error:
        return Outcome.from_error(None, error)


def _unheard_of(error: WxPayError) -> bool:
    """Tell whether the platform does not know the order; any other refusal says nothing of it."""
    return isinstance(error, RefusedError) and (error.code or "").startswith("GM_API_BUS_")


def _in_doubt(outcome: Outcome[object, object]) -> bool:
    error = outcome.error
    return error is not None and error.fate is Fate.IN_DOUBT and type(error) is not InProgressError


@define(eq=False, kw_only=True)
class Closing:
    """The end of a run: time passes until nothing is open, and everything is asked once more."""

    merchant: Merchant
    purchases: list[Job]
    timepiece: Timepiece

    async def settle(self) -> None:
        """Let time pass and recover until the store holds nothing open; write the accounts."""
        folder = Path(self.merchant.orders.folder)
        states: dict[str, str | None] = {}
        for seconds in _TIMES:
            self.timepiece.advance(seconds)
            if seconds == _TIMES[0]:
                finished = read_finished(folder)
                await self.merchant.work(j for j in self.purchases if j.index not in finished)
            with contextlib.suppress(WxPayError):
                await self.merchant.gateway.recover()
            states |= await self._states(states)
            if all(state is None or state in _SETTLED for state in states.values()):
                break
        finished = read_finished(folder)
        for job in self.purchases:
            if job.index not in finished:
                await self.merchant.ask_if_paid(job)
        (folder / "states.json").write_text(json.dumps(states))

    async def replay(self) -> None:
        """Make every finished purchase once more; nothing may be executed by that."""
        finished = read_finished(Path(self.merchant.orders.folder))
        self.merchant.anew = 0
        await self.merchant.work(job for job in self.purchases if job.index in finished)
        report = {"finished": len(finished), "anew": self.merchant.anew}
        (Path(self.merchant.orders.folder) / "replay.json").write_text(json.dumps(report))

    async def _states(self, before: Mapping[str, str | None]) -> dict[str, str | None]:
        """Return where each operation stands, by requestId; what was settled stays so."""
        store, key = self.merchant.gateway.store, self.merchant.orders.app_key
        bare = store.store if isinstance(store, SealedStore) else store
        ids = [name for job in self.purchases for name in job.request_ids.values()]
        # What was never sent by now never will be.
        ids = [name for name in ids if name not in before or before[name] not in _ENDED]
        found: dict[str, str | None] = {}
        for start in range(0, len(ids), 100):
            batch = ids[start : start + 100]
            entries = await asyncio.gather(*(bare.load((key, name)) for name in batch))
            states = (None if entry is None else entry.state.value for entry in entries)
            found |= dict(zip(batch, states, strict=True))
        return found


def _gateway(orders: Orders, timepiece: Timepiece, store: Store) -> PayGateway:
    return PayGateway(
        orders.app_key,
        Md5Signer(orders.secret),
        base_url=orders.base_url,
        store=store,
        seal_keys=_seal_keys(orders),
        limiter=Unlimited(),
        retry=RetryPolicy(base=0.01, cap=0.05, min_left=0.05),
        timeouts=Timeouts(connect=1.0, read=1.0, attempt=2.0, call=6.0),
        max_in_flight=orders.concurrency,
        refunds_queryable=True,
        clock=MerchantClock(timepiece, orders.worker),
    )


def _seal_keys(orders: Orders) -> list[Md5Signer]:
    others = () if orders.broken == ONE_SEAL_KEY else orders.former
    return [Md5Signer(secret) for secret in (orders.secret, *others)]


def _store(orders: Orders) -> Store:
    store = store_from_url(orders.store_url)
    if is_file(orders.store_url):
        store = AwayStore(store, Path(orders.folder))
    return fenced_or_not(store, orders.broken)


async def run(orders: Orders) -> None:
    """Do the tasks, one after the other."""
    folder = Path(orders.folder)
    timepiece = Timepiece(folder / "time")
    notebook = Notebook(folder=folder, worker=orders.worker, life=orders.life)
    purchases = jobs(orders.app_key, orders.seed, orders.payments)
    store = _store(orders)
    async with (
        contextlib.aclosing(store),
        _gateway(orders, timepiece, store) as gateway,
        aiohttp.ClientSession(orders.sandbox_url) as payer,
    ):
        merchant = Merchant(orders=orders, gateway=gateway, notebook=notebook, payer=payer)
        closing = Closing(merchant=merchant, purchases=purchases, timepiece=timepiece)
        tending = asyncio.ensure_future(merchant.tend()) if orders.tend else None
        for task in orders.tasks:
            if task == "work":
                finished = read_finished(folder)
                mine = (j for j in purchases if orders.mine(j) and j.index not in finished)
                await merchant.work(mine)
            else:
                await getattr(closing, task)()
        if tending is not None:
            tending.cancel()
            await asyncio.wait([tending])


def main() -> None:
    """Do what the command line says."""
    told = json.loads(sys.argv[1])
    orders = Orders(**(told | {name: tuple(told[name]) for name in ("tasks", "former")}))
    if orders.broken:
        BREAKS[orders.broken]()
    asyncio.run(run(orders))


if __name__ == "__main__":
    main()
