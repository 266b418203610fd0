"""One gateway and several threads: a second running event loop is refused; the recipes work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.support import asking, replies
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import Fate, InvalidRequestError
from wxpay_async.protocol.signing import Md5Signer


def make_gateway(answer: Callable[[object], object], store: Store | None = None) -> PayGateway:
    """Make a gateway over memory."""
    return PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        store=store,
        transport=MemoryTransport(answer),
        limiter=Unlimited(),
    )


@contextmanager
def run_in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Run work in a thread for as long as the block lasts; its error is raised at the end."""
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(work)
        yield
        running.result()


def test_second_running_loop_is_refused_before_anything_is_sent() -> None:
    """The error says what to do, and the first loop's call goes on as if nothing had been."""
    asked, go = threading.Event(), threading.Event()

    async def answer(_: object) -> object:
        if not asked.is_set():  # the others are answered at once: one that goes out is a failure
            asked.set()
            await asyncio.to_thread(go.wait)
        return replies.prepay()

    gateway, results = make_gateway(answer), list[object]()
    with run_in_thread(lambda: results.append(asyncio.run(gateway.pay(asking.pay("first"))))):
        asked.wait()
        try:
            for call in (
                lambda: gateway.pay(asking.pay("second")),
                lambda: gateway.query(out_trade_no="O-1"),
            ):
                with pytest.raises(InvalidRequestError, match=r"portal.*threads\.md") as caught:
                    asyncio.run(call())
                assert Fate.NOT_SENT is caught.value.fate
            with pytest.raises(InvalidRequestError):
                asyncio.run(gateway.aclose())
        finally:
            go.set()

    assert 1 == len(results)
    assert asyncio.run(gateway.pay(asking.pay("second")))


def test_gateway_that_is_open_in_a_running_loop_is_refused_to_another() -> None:
    """Its recovery works there; once it is closed, another loop may have it."""
    opened, leave, closed, end = (threading.Event() for _ in range(4))
    gateway = make_gateway(lambda _: replies.prepay())

    async def serve() -> None:
        async with gateway:
            opened.set()
            await asyncio.to_thread(leave.wait)
        closed.set()
        await asyncio.to_thread(end.wait)

    with run_in_thread(lambda: asyncio.run(serve())):
        try:
            opened.wait()
            with pytest.raises(InvalidRequestError, match="gateway"):
                asyncio.run(gateway.pay(asking.pay()))
            leave.set()
            closed.wait()
            assert asyncio.run(gateway.pay(asking.pay()))
        finally:
            leave.set()
            end.set()


def test_portal_lets_many_threads_share_one_gateway() -> None:
    """The recipe of `docs/threads.md`: one loop in a thread of its own, for all threads."""
    gateway = make_gateway(lambda _: replies.prepay())
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(gateway),
        ThreadPoolExecutor(8) as threads,
    ):
        requests = [asking.pay(f"pay-{n}") for n in range(48)]
        results = list(threads.map(lambda request: portal.call(gateway.pay, request), requests))

    assert 48 == len([result for result in results if result.prepay_id and not result.replayed])


def test_gateway_for_each_thread_over_one_store_works(tmp_path: Path) -> None:
    """The other recipe: loops of several threads run at once, and know each other's answers."""
    url, meeting = f"sqlite:///{tmp_path}/wxpay.db", threading.Barrier(4)

    async def pay(number: int) -> tuple[bool, bool]:
        async def answer(_: object) -> object:
            await asyncio.to_thread(meeting.wait)  # all four loops run at this moment
            return replies.prepay()

        store = SqlStore(url)
        try:
            gateway = make_gateway(answer, store=store)
            fresh = await gateway.pay(asking.pay(f"pay-{number}"))
            await asyncio.to_thread(meeting.wait)
            other = await gateway.pay(asking.pay(f"pay-{(number + 1) % 4}"))
            await gateway.aclose()
        finally:
            await store.aclose()
        return fresh.replayed, other.replayed

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda number: asyncio.run(pay(number)), range(4)))

    assert [(False, True)] * 4 == results
